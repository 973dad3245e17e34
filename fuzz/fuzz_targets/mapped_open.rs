//! Failure searched for: a file of mapped pages, hostile under checksums that are right, whose opening panics, hangs or takes memory without
//! bounds; one that opens and then, in a hundred operations, panics, gives a page out twice, or is not the same when it is opened anew.
#![no_main]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pagestone_direct_io::{DirectIo, Disk, OpenHow, write_all_at};
use pagestone_fuzz::repair_mapped;
use pagestone_mapped_pages::{
    DynPageId, DynPager, DynProtectedPageId, MappedOptions, MappedPageError, PageId, Pager, ProtectedPageId,
    SubPageAllocator,
};
use pagestone_testkit::{Rng, SimDisk, SimOptions};

const PATH: &str = "/pages";

#[derive(Arbitrary, Debug)]
struct Input {
    small: bool,
    accept_older: bool,
    /// How much is put right: 0 nothing, 1 checksums, else digests too.
    repair: u8,
    patches: Vec<Patch>,
    /// Bytes that are cut off the end, in sectors.
    cut: Option<u16>,
    seed: u64,
}

/// Some bytes somewhere: in the superblock, a root, a block, or anywhere.
#[derive(Arbitrary, Debug)]
enum Patch {
    Superblock {
        at: u8,
        byte: u8,
    },
    /// A word of a root: of its fields, its changes or its patches.
    Root {
        slot: bool,
        word: u16,
        value: u64,
    },
    /// A word of a root becomes what it was and some more.
    RootAdd {
        slot: bool,
        word: u16,
        more: i8,
    },
    Block {
        number: u8,
        at: u16,
        value: u64,
    },
    Byte {
        at: u32,
        byte: u8,
    },
}

/// A file with a fold behind it, one with pages of 1024 bytes and one with 4096. Its UUID is random and in no answer.
static WHOLE: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| [whole::<4096>(12), whole::<1024>(10)]);

fn whole<const SIZE: usize>(log2: u32) -> Vec<u8> {
    let disk = disk();
    let pager = MappedOptions::new().create_on(&disk, Path::new(PATH), log2).expect("create");
    let pager: Pager<SIZE> = pager.typed().expect("its size");
    let mut slots = SubPageAllocator::<SIZE, 64>::create_on_disk(pager).expect("the first protected page");
    slots.alloc_bulk(40).expect("slots");
    let mut pager = slots.into_pager();
    let protected = pager.alloc_protected_bulk(if SIZE == 1024 { 30 } else { 125 }).expect("alloc");
    for (number, id) in protected.iter().step_by(7).enumerate() {
        let mut writer = id.get_mut(&mut pager).expect("writer");
        writer.page_mut().as_bytes_mut()[..1 << number.min(9)].fill(7); // some are patches, some are copies
        writer.commit().expect("commit");
    }
    let pages = pager.alloc_bulk(100).expect("alloc");
    pager.free_bulk(&pages[20..60]).expect("free");
    pager.free_protected_bulk(&protected[10..20]).expect("free");
    for id in &protected[21..24] {
        let mut writer = id.get_mut(&mut pager).expect("writer");
        writer.page_mut().as_bytes_mut()[100..140].fill(9);
        writer.commit().expect("a patch");
    }
    drop(pager);
    disk.contents(PATH).expect("there")
}

fn disk() -> SimDisk {
    SimDisk::with(SimOptions { direct: false, ..SimOptions::default() })
}

impl Patch {
    fn apply(&self, file: &mut [u8]) {
        match *self {
            Self::Superblock { at, byte } => {
                file[usize::from(at % 48)] = byte;
                file[4096 + usize::from(at % 48)] = byte;
            }
            Self::Root { slot, word, value } => Self::root(file, slot, word, |_| value),
            Self::RootAdd { slot, word, more } => {
                Self::root(file, slot, word, |value| value.wrapping_add_signed(more.into()));
            }
            Self::Block { number, at, value } => {
                let at = 16_384 + usize::from(number % 24) * 4096 + usize::from(at % 512) * 8;
                if let Some(bytes) = file.get_mut(at..at + 8) {
                    bytes.copy_from_slice(&value.to_le_bytes());
                }
            }
            Self::Byte { at, byte } => {
                let at = at as usize % file.len();
                file[at] = byte;
            }
        }
    }

    fn root(file: &mut [u8], slot: bool, word: u16, change: impl Fn(u64) -> u64) {
        let (slot, at) = (usize::from(slot), usize::from(word % 496) * 8);
        let mut root = repair_mapped::root_of(&file[(2 + slot) * 4096..(3 + slot) * 4096]);
        let value = u64::from_le_bytes(root[at..at + 8].try_into().expect("eight bytes"));
        root[at..at + 8].copy_from_slice(&change(value).to_le_bytes());
        repair_mapped::put_root(file, slot, &root);
    }
}

fuzz_target!(|input: Input| {
    let mut file = WHOLE[usize::from(input.small)].clone();
    input.patches.iter().take(64).for_each(|patch| patch.apply(&mut file));
    if input.repair > 0 {
        repair_mapped::file(&mut file, input.repair > 1);
    }
    if let Some(sectors) = input.cut {
        file.truncate(file.len().saturating_sub(usize::from(sectors) * 512));
    }
    let disk = disk();
    let made = disk.open(Path::new(PATH), &OpenHow::create_new(DirectIo::Off)).expect("an empty disk");
    write_all_at(&*made, &file, 0).expect("a disk that does not fail");
    drop(made);
    disk.settle();
    let options = MappedOptions::new().accept_older(input.accept_older);
    drop(options.read_only_on(&disk, Path::new(PATH)));
    assert!(disk.contents(PATH).expect("there") == file, "reading changed the file");
    let Ok(pager) = options.open_on(&disk, Path::new(PATH)) else { return };
    let pager = operate(pager, input.seed);
    let before = state(&pager);
    drop(pager);
    let pager = MappedOptions::new().open_on(&disk, Path::new(PATH)).expect("it was open, and changed by us");
    assert_eq!(state(&pager), before);
    read_slots(pager);
});

fn state(pager: &DynPager) -> (Vec<DynPageId>, Vec<DynProtectedPageId>, u64, u64) {
    let protected = pager.iter_allocated_protected_pages().collect();
    (pager.iter_allocated_pages().collect(), protected, pager.page_count(), pager.free_page_count())
}

/// A hundred operations beside sets. What a hostile file may bring about is that a protected page is damaged.
fn operate(mut pager: DynPager, seed: u64) -> DynPager {
    let mut rng = Rng::new(seed);
    let mut pages: BTreeSet<DynPageId> = pager.iter_allocated_pages().collect();
    let mut protected: BTreeSet<DynProtectedPageId> = pager.iter_allocated_protected_pages().collect();
    for _ in 0..100 {
        let page = DynPageId(rng.below(pager.page_count() + 2));
        let id = protected.iter().nth(rng.below(protected.len() as u64 + 1) as usize).copied();
        match rng.below(9) {
            0 => assert!(
                pager
                    .alloc_bulk(rng.below(5) as usize)
                    .expect("alloc")
                    .into_iter()
                    .all(|id| pages.insert(id))
            ),
            1 => assert_eq!(pager.free(page).is_ok(), pages.remove(&page)),
            2 => assert_eq!(
                pager.get_mut(page).map(|page| page.as_bytes_mut()[0] ^= 1).is_ok(),
                pages.contains(&page)
            ),
            3 => assert!(protected.insert(pager.alloc_protected().expect("alloc"))),
            4 => {
                let id = id.unwrap_or(DynProtectedPageId(rng.next_u64()));
                assert_eq!(pager.free_protected(id).is_ok(), protected.remove(&id));
            }
            5 | 6 => match id.map(|id| pager.get_protected_mut(id)) {
                Some(Ok(mut writer)) => {
                    writer.page_mut().as_bytes_mut()[1] ^= 1;
                    writer.commit().expect("a disk that does not fail");
                }
                Some(Err(error)) => {
                    assert!(matches!(error, MappedPageError::CorruptProtectedPage { .. }), "{error}")
                }
                None => {}
            },
            7 => drop(pager.shrink().expect("a disk that does not fail")),
            _ => pager.flush().expect("a disk that does not fail"),
        }
    }
    pager
}

/// The chain of sub-pages, which may hold anything.
fn read_slots(pager: DynPager) {
    let Ok(pager) = pager.typed::<4096>() else { return };
    let Ok(mut slots) = SubPageAllocator::<4096, 64>::open_on_disk(pager, ProtectedPageId(0)) else { return };
    let ids: Vec<_> = slots.iter().collect();
    ids.iter().for_each(|id| assert!(id.get(&slots).is_ok() && id.page() > PageId(2)));
    slots.free_bulk(&ids[..ids.len() / 2]).expect("they are in use");
}
