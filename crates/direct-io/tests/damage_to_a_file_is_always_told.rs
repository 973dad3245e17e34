//! Prevents: a page of a real file that was flipped, exchanged, cut off or taken from another file, and is believed, or told as
//! something else than it is (M1, M6, M8, M9, R3).

use std::path::PathBuf;
use std::sync::Arc;

use pagestone_direct_io::{
    DirectIo, Disk, File, OpenHow, PageFile, PageFileOptions, RealDisk, read_exact_at, write_all_at,
};
use pagestone_page_format::{
    ChecksumKind, Lsn, MAX_PAGE_SIZE, Page, PageError, PageId, PageResult, PageSize, PageStore,
};
use pagestone_testkit::Rng;

const KINDS: [ChecksumKind; 2] = [ChecksumKind::Crc32c, ChecksumKind::Crc64Nvme];
const SIZES: [usize; 4] = [4096, 16384, 65536, MAX_PAGE_SIZE];
const PAGES: u64 = 4;
/// Where page 0 stands: behind two copies of the superblock.
const BASE: u64 = 8192;

/// A page file, and the same file past every check.
struct Victim {
    pages: PageFile,
    raw: Arc<dyn File>,
    size: usize,
    what: String,
    _dir: tempfile::TempDir,
}

impl Victim {
    fn new(kind: ChecksumKind, size: usize, direct: DirectIo, rng: &mut Rng) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path: PathBuf = dir.path().join("pages");
        let options = PageFileOptions::new().page_size(PageSize::new(size).expect("a size"));
        let pages = options.checksum(kind).direct_io(direct).open(&path).expect("made");
        for id in 0..PAGES {
            let mut page = pages.allocate_page(PageId::new(id));
            rng.fill(page.payload_mut());
            page.set_lsn(Lsn::new(rng.next_u64() >> 1));
            pages.write_page(&mut page).expect("written");
        }
        pages.sync().expect("synced");
        let raw = RealDisk.open(&path, &OpenHow::write(DirectIo::Off)).expect("opened");
        Self { pages, raw, size, what: format!("{kind:?}, pages of {size}, {direct:?}"), _dir: dir }
    }

    fn place(&self, id: u64) -> u64 {
        BASE + id * self.size as u64
    }

    fn bytes(&self, id: u64) -> Vec<u8> {
        let mut bytes = vec![0; self.size];
        let got = read_exact_at(&*self.raw, &mut bytes, self.place(id)).expect("read");
        assert_eq!(got, bytes.len());
        bytes
    }

    fn put(&self, id: u64, at: usize, bytes: &[u8]) {
        write_all_at(&*self.raw, bytes, self.place(id) + at as u64).expect("written");
    }

    fn read(&self, id: u64) -> PageResult<()> {
        self.pages.read_page(PageId::new(id)).map(drop)
    }

    /// All pages in one batch.
    fn read_all(&self) -> Vec<PageResult<()>> {
        let ids: Vec<PageId> = (0..PAGES).map(PageId::new).collect();
        let mut pages: Vec<Page> = ids.iter().map(|id| self.pages.allocate_page(*id)).collect();
        self.pages.read_many(&ids, &mut pages)
    }

    /// Flips the bits `from..from + len` of a page, the first and the last for sure, and each between by lot.
    fn burst(&self, id: u64, from: usize, len: u32, rng: &mut Rng) {
        let bits = (rng.next_u64() | 1 | 1 << (len - 1)) & (u64::MAX >> (64 - len));
        let (first, end) = (from / 8, (from + len as usize).div_ceil(8));
        let masks = (bits << (from % 8)).to_le_bytes();
        let mut before = vec![0; end - first];
        let got = read_exact_at(&*self.raw, &mut before, self.place(id) + first as u64).expect("read");
        assert_eq!(got, before.len());
        let after: Vec<u8> = before.iter().zip(masks).map(|(byte, mask)| byte ^ mask).collect();
        self.put(id, first, &after);
        let told = self.read(id);
        let right = match first {
            0 | 1 => matches!(told, Err(PageError::BadMagic { page_id, .. }) if page_id.get() == id),
            2 => matches!(told, Err(PageError::UnsupportedVersion { .. })),
            _ => is_mismatch(&told, id),
        };
        assert!(right, "{}, page {id}, {len} bits from {from}: {told:?}", self.what);
        self.put(id, first, &before);
    }

    fn is_whole_again(&self) {
        assert!(self.read_all().iter().all(Result::is_ok), "{}", self.what);
    }
}

fn is_mismatch(told: &PageResult<()>, id: u64) -> bool {
    matches!(told, Err(PageError::ChecksumMismatch { page_id, .. }) if page_id.get() == id)
}

/// What befalls files of every kind, at several sizes, through the cache and past it where that can be.
fn each(mut test: impl FnMut(&Victim, &mut Rng)) {
    for kind in KINDS {
        for size in SIZES {
            for direct in [DirectIo::Off, DirectIo::Prefer] {
                let mut rng = Rng::new(size as u64);
                let victim = Victim::new(kind, size, direct, &mut rng);
                test(&victim, &mut rng);
                victim.is_whole_again();
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_page_is_told() {
    for kind in KINDS {
        let mut rng = Rng::new(1);
        let victim = Victim::new(kind, 4096, DirectIo::Off, &mut rng);
        (0..4096 * 8).for_each(|bit| victim.burst(2, bit, 1, &mut rng));
        victim.is_whole_again();
    }
}

#[test]
fn bursts_of_every_length_are_told() {
    each(|victim, rng| {
        let rounds = if victim.size == MAX_PAGE_SIZE { 2 } else { 8 };
        for len in (1..=32).flat_map(|len| std::iter::repeat_n(len, rounds)) {
            let from = rng.below((victim.size * 8 - len as usize + 1) as u64) as usize;
            victim.burst(rng.below(PAGES), from, len, rng);
        }
        // Over the end of the header, and each of its fields.
        (0..40 * 8)
            .step_by(if victim.size == MAX_PAGE_SIZE { 31 } else { 3 })
            .for_each(|from| victim.burst(1, from, 32, rng));
    });
}

#[test]
fn any_two_pages_exchanged_are_both_told() {
    each(|victim, _| {
        for (one, other) in (0..PAGES).flat_map(|one| (one + 1..PAGES).map(move |other| (one, other))) {
            let (first, second) = (victim.bytes(one), victim.bytes(other));
            victim.put(one, 0, &second);
            victim.put(other, 0, &first);
            let (alone, batch) = ([victim.read(one), victim.read(other)], victim.read_all());
            for (told, (id, stands)) in alone
                .iter()
                .chain([&batch[one as usize], &batch[other as usize]])
                .zip([(one, other), (other, one)].into_iter().cycle())
            {
                let right = matches!(told, Err(PageError::MisdirectedPage { requested, found })
                    if (requested.get(), found.get()) == (id, stands));
                assert!(right, "{}, page {stands} in the place of {id}: {told:?}", victim.what);
            }
            assert_eq!(
                batch.iter().filter(|told| told.is_ok()).count() as u64,
                PAGES - 2,
                "the others are whole"
            );
            victim.put(one, 0, &first);
            victim.put(other, 0, &second);
        }
    });
}

#[test]
fn any_page_of_another_file_is_told() {
    each(|victim, rng| {
        for kind in KINDS {
            let stranger = Victim::new(kind, victim.size, DirectIo::Off, rng);
            for (id, other) in (0..PAGES).flat_map(|id| (0..PAGES).map(move |other| (id, other))) {
                let ours = victim.bytes(id);
                victim.put(id, 0, &stranger.bytes(other));
                let (told, batch) = (victim.read(id), victim.read_all());
                assert!(
                    is_mismatch(&told, id) && is_mismatch(&batch[id as usize], id),
                    "{}, page {other} of another file under {kind:?} in the place of {id}: {told:?}",
                    victim.what
                );
                victim.put(id, 0, &ours);
            }
        }
    });
}

/// The file ends at every byte of its last page; of larger pages, at some sixty.
#[test]
fn truncation_at_every_length_is_told() {
    each(|victim, _| {
        let last = PAGES - 1;
        let (bytes, begin) = (victim.bytes(last), victim.place(last));
        let step = if victim.size == 4096 { 1 } else { victim.size / 64 - 1 };
        let lengths = (0..victim.size).rev().step_by(step).chain([1, 511, 512, 4095, victim.size - 1]);
        for got in lengths {
            victim.raw.set_len(begin + got as u64).expect("cut");
            for told in [victim.read(last), victim.read_all().pop().expect("of the last page")] {
                let right = matches!(told, Err(PageError::ShortRead { page_id, got: found, page_size })
                    if (page_id.get(), found, page_size) == (last, got, victim.size));
                assert!(right, "{}, cut after {got} bytes: {told:?}", victim.what);
            }
            victim.read(last - 1).expect("the page before is whole");
            if got % 512 == 1 {
                victim.put(last, 0, &bytes);
            }
        }
        victim.put(last, 0, &bytes);
    });
}

/// Nor is a file cut off inside its superblock opened, or overwritten (R7).
#[test]
fn truncation_at_every_length_of_the_superblock_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pages");
    drop(PageFileOptions::new().direct_io(false).open(&path).expect("made"));
    let whole = std::fs::read(&path).expect("read");
    for len in (0..4096).rev() {
        std::fs::write(&path, &whole[..len]).expect("cut");
        let told = PageFileOptions::new().direct_io(false).open(&path).map(drop);
        assert!(matches!(told, Err(PageError::InvalidSuperblock { .. })), "{len} bytes: {told:?}");
        assert_eq!(std::fs::read(&path).expect("read"), whole[..len], "a refused open changes nothing");
    }
}
