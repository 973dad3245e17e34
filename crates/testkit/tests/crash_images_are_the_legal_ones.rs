//! An enumeration that misses a legal state misses the bug in it; one that gives an illegal state blames a correct store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{DirectIo, Disk, File, OpenHow, write_all_at};
use pagestone_testkit::{CrashImage, CrashOptions, CrashStats, ImageKind, Rng, SimDisk};

const S: usize = 512;

/// A disk with the file `/a`, durable and this long.
fn disk_with_file(len: u64) -> (SimDisk, Arc<dyn File>) {
    let disk = SimDisk::new(1);
    let file = disk.open(Path::new("/a"), &OpenHow::create_new(DirectIo::Off)).expect("create");
    file.set_len(len).expect("extend");
    disk.settle();
    (disk, file)
}

fn sectors(numbers: &[u8]) -> Vec<u8> {
    numbers.iter().flat_map(|number| [*number; S]).collect()
}

fn run(disk: &SimDisk, options: &CrashOptions) -> (Vec<CrashImage>, CrashStats) {
    let mut states = disk.crash_states(options);
    let images = states.by_ref().collect();
    (images, states.stats())
}

/// What stands in `/a`: the first byte of every sector, after a look that each sector is of one byte.
fn contents(image: &CrashImage) -> Option<Vec<u8>> {
    let bytes = image.disk().contents("/a").ok()?;
    Some(
        bytes
            .chunks(S)
            .map(|sector| {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "a torn sector");
                sector[0]
            })
            .collect(),
    )
}

fn distinct(images: &[CrashImage]) -> BTreeSet<(Option<Vec<u8>>, usize)> {
    images.iter().map(|image| (contents(image), image.acknowledged().len())).collect()
}

fn no_lengths() -> CrashOptions {
    CrashOptions { lengths_max: 0, ..CrashOptions::default() }
}

/// One write of two sectors in place, a sync, a note:
///
/// ```text
/// after 0 operations     00                 1
/// after the write        10, 01, 11         3 new of 4
/// after the sync         not taken: a note follows
/// after the note         11                 1, again because more is acknowledged
/// ```
#[test]
fn the_count_of_a_known_journal_is_the_one_by_hand() {
    let (disk, file) = disk_with_file(2 * S as u64);
    write_all_at(&*file, &sectors(&[1, 1]), 0).expect("write");
    file.sync().expect("sync");
    disk.note(77);
    let (images, stats) = run(&disk, &no_lengths());
    assert_eq!(stats, CrashStats { cuts: 3, exhaustive: 3, images: 5, duplicates: 0 });
    let found: Vec<_> = images.iter().map(|image| (contents(image).expect("there"), image.cut())).collect();
    let expected = [(vec![0, 0], 0), (vec![1, 0], 1), (vec![0, 1], 1), (vec![1, 1], 1), (vec![1, 1], 3)];
    assert_eq!(found, expected);
    assert_eq!(images[3].acknowledged(), [0u64; 0]);
    assert_eq!(images[4].acknowledged(), [77]);
}

/// A write that extends: three atoms, two sectors and the length. Without the length nothing shows, with it any sector
/// may be missing; the states without it are those of the cut before.
#[test]
fn the_count_of_an_extending_write_is_the_one_by_hand() {
    let (disk, file) = disk_with_file(0);
    write_all_at(&*file, &sectors(&[1, 1]), 0).expect("write");
    let (images, stats) = run(&disk, &no_lengths());
    assert_eq!(stats, CrashStats { cuts: 2, exhaustive: 2, images: 5, duplicates: 3 });
    let found: BTreeSet<_> = images.iter().map(|image| contents(image).expect("there")).collect();
    assert_eq!(found, [vec![], vec![0, 0], vec![0, 1], vec![1, 0], vec![1, 1]].into());

    let (images, _) = run(&disk, &CrashOptions::default());
    let lengths: BTreeSet<usize> =
        images.iter().map(|image| image.disk().contents("/a").expect("there").len()).collect();
    assert!(lengths.contains(&S), "between two sectors");
    assert!(lengths.iter().any(|len| len % S != 0), "inside a sector");
    assert!(lengths.iter().all(|len| *len <= 2 * S));
}

/// The names of a rename and of a creation: old or new, there or not.
#[test]
fn the_count_of_names_is_the_one_by_hand() {
    let (disk, _file) = disk_with_file(0);
    let list = |image: &CrashImage| {
        let names = image.disk().list(Path::new("/")).expect("list");
        names.iter().map(|name| name.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    disk.rename(Path::new("/a"), Path::new("/b")).expect("rename");
    let (images, stats) = run(&disk, &no_lengths());
    assert_eq!(images.iter().map(list).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((stats.images, stats.duplicates), (2, 0));

    disk.open(Path::new("/c"), &OpenHow::create_new(DirectIo::Off)).expect("create");
    disk.sync_dir(Path::new("/")).expect("sync");
    disk.remove_file(Path::new("/b")).expect("remove");
    let (images, _) = run(&disk, &no_lengths());
    let found: Vec<_> = images.iter().map(|image| (image.cut(), list(image))).collect();
    let expected = [(0, "a"), (1, "b"), (2, "a c"), (2, "b c"), (4, "c")];
    assert_eq!(found, expected.map(|(cut, names)| (cut, names.to_owned())));
}

/// All states of small random journals, computed again in another way: every sector any of its versions since the last
/// sync.
#[test]
fn small_journals_give_every_legal_state_and_no_other() {
    const SECTORS: usize = 5;
    let mut total = 0;
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let (disk, file) = disk_with_file((SECTORS * S) as u64);
        let mut versions: Vec<BTreeSet<u8>> = vec![BTreeSet::from([0]); SECTORS];
        let mut live = [0; SECTORS];
        let (mut notes, mut pending) = (0, 0);
        let mut expected: BTreeSet<(Option<Vec<u8>>, usize)> = BTreeSet::new();
        collect(&versions, notes, &mut expected);
        for operation in 1..=9u8 {
            match rng.below(6) {
                0 => {
                    file.sync().expect("sync");
                    versions = live.iter().map(|number| BTreeSet::from([*number])).collect();
                    pending = 0;
                }
                1 => {
                    disk.note(operation.into());
                    notes += 1;
                }
                _ => {
                    let first = rng.below(SECTORS as u64) as usize;
                    let len = (1 + rng.below(3) as usize).min(SECTORS - first);
                    if pending + len > 10 {
                        continue;
                    }
                    pending += len;
                    write_all_at(&*file, &sectors(&vec![operation; len]), (first * S) as u64).expect("write");
                    for sector in first..first + len {
                        versions[sector].insert(operation);
                        live[sector] = operation;
                    }
                }
            }
            collect(&versions, notes, &mut expected);
        }
        let (images, stats) = run(&disk, &CrashOptions::default());
        let found = distinct(&images);
        assert_eq!(found.len(), images.len(), "every image comes once");
        assert_eq!(stats.exhaustive, stats.cuts);
        assert!(found.is_subset(&expected), "seed {seed}: an illegal state");
        // A cut directly before a note is not taken, so a state may be there with more acknowledged only.
        for (state, notes) in &expected {
            assert!(
                found.iter().any(|(other, more)| other == state && more >= notes),
                "seed {seed}: {state:?} is missing"
            );
        }
        total += images.len();
    }
    assert!(total > 5000, "{total} images");
}

fn collect(versions: &[BTreeSet<u8>], notes: usize, into: &mut BTreeSet<(Option<Vec<u8>>, usize)>) {
    let mut states = vec![Vec::new()];
    for sector in versions {
        states = states
            .iter()
            .flat_map(|state: &Vec<u8>| {
                sector.iter().map(move |number| [state.as_slice(), &[*number]].concat())
            })
            .collect();
    }
    into.extend(states.into_iter().map(|state| (Some(state), notes)));
}

/// With many pending writes the covering set still has every single loss, survival, prefix, pair and tear.
#[test]
fn a_covering_set_covers() {
    const WRITES: usize = 20;
    const EACH: usize = 8;
    let (disk, file) = disk_with_file((WRITES * EACH * S) as u64);
    for write in 0..WRITES {
        let bytes = sectors(&[write as u8 + 1; EACH]);
        write_all_at(&*file, &bytes, (write * EACH * S) as u64).expect("write");
    }
    let options = CrashOptions { pairs_max: 1000, ..CrashOptions::default() };
    let (images, stats) = run(&disk, &options);
    assert!(stats.exhaustive < stats.cuts);
    let found: BTreeSet<Vec<u8>> = images.iter().map(|image| contents(image).expect("there")).collect();
    let state = |kept: &dyn Fn(usize, usize) -> bool| -> Vec<u8> {
        let at = |write, sector| if kept(write, sector) { write as u8 + 1 } else { 0 };
        (0..WRITES).flat_map(|write| (0..EACH).map(move |sector| at(write, sector))).collect()
    };
    let has = |name: &str, kept: &dyn Fn(usize, usize) -> bool| {
        assert!(found.contains(&state(kept)), "{name} is missing");
    };
    has("nothing", &|_, _| false);
    has("everything", &|_, _| true);
    for one in 0..WRITES {
        has("alone", &|write, _| write == one);
        has("all but", &|write, _| write != one);
        has("prefix", &|write, _| write <= one);
        for other in 0..one {
            has("pair", &|write, _| write == one || write == other);
        }
        for split in 1..EACH {
            has("torn, the first part", &|write, sector| write < one || write == one && sector < split);
            has("torn, the last part", &|write, sector| write < one || write == one && sector >= split);
            has("torn alone", &|write, sector| write == one && sector < split);
        }
    }
    let kinds: BTreeMap<String, usize> = images.iter().fold(BTreeMap::new(), |mut kinds, image| {
        *kinds.entry(image.kind().to_string()).or_default() += 1;
        kinds
    });
    for kind in [ImageKind::Alone, ImageKind::AllBut, ImageKind::Pair, ImageKind::Torn, ImageKind::Random] {
        assert!(kinds.contains_key(&kind.to_string()), "{kind} in {kinds:?}");
    }
}

#[test]
fn pages_are_whole_where_the_caller_says_so() {
    let (disk, file) = disk_with_file(16 * S as u64);
    write_all_at(&*file, &sectors(&[1; 16]), 0).expect("write");
    let (torn, _) = run(&disk, &CrashOptions { garbage: true, ..CrashOptions::default() });
    let is_torn = |image: &CrashImage| {
        image
            .disk()
            .contents("/a")
            .expect("there")
            .chunks(8 * S)
            .any(|page| page.iter().any(|byte| *byte != page[0]))
    };
    assert!(torn.iter().any(is_torn));
    let options = CrashOptions { garbage: true, ..CrashOptions::default() };
    let (whole, _) = run(&disk, &options.page_atomic(|path| path == Path::new("/a")));
    assert!(!whole.iter().any(is_torn));
    assert_eq!(whole.len(), 4, "nothing, each page, both");
}

#[test]
fn garbage_stands_only_in_a_sector_that_was_being_written() {
    let (disk, file) = disk_with_file(4 * S as u64);
    write_all_at(&*file, &sectors(&[1, 1]), S as u64).expect("write");
    let (images, _) = run(&disk, &CrashOptions { garbage: true, ..CrashOptions::default() });
    let mut spoiled = BTreeSet::new();
    for image in images.iter().filter(|image| image.kind() == ImageKind::Garbage) {
        let bytes = image.disk().contents("/a").expect("there");
        let garbage = |sector: &[u8]| sector.iter().any(|byte| *byte > 1);
        spoiled.extend((0..4).filter(|sector| garbage(&bytes[sector * S..(sector + 1) * S])));
        assert!(image.explain().contains("garbage"));
    }
    assert_eq!(spoiled, [1, 2].into());
}

#[test]
fn shards_and_ranges_of_cuts_give_the_whole_between_them() {
    let (disk, file) = disk_with_file(8 * S as u64);
    for round in 0..12u8 {
        let at = u64::from(round % 7) * S as u64;
        write_all_at(&*file, &sectors(&[round + 1, round + 1]), at).expect("write");
        if round % 4 == 3 {
            file.sync().expect("sync");
            disk.note(round.into());
        }
    }
    let whole = distinct(&run(&disk, &CrashOptions::default()).0);
    for of in [2, 3] {
        let mut parts = BTreeSet::new();
        for index in 0..of {
            parts.extend(distinct(
                &run(&disk, &CrashOptions { shard: (index, of), ..CrashOptions::default() }).0,
            ));
        }
        assert_eq!(parts, whole, "{of} shards");
    }
    let mut parts = BTreeSet::new();
    for cuts in [0..5, 5..9, 9..disk.journal_len() + 1] {
        parts.extend(distinct(&run(&disk, &CrashOptions { cuts, ..CrashOptions::default() }).0));
    }
    assert_eq!(parts, whole, "ranges");
}

#[test]
fn an_enumeration_is_repeatable_and_an_image_can_be_crashed_again() {
    let (disk, file) = disk_with_file(30 * S as u64);
    for round in 0..20u8 {
        let at = u64::from(round) * S as u64;
        write_all_at(&*file, &sectors(&[round, round]), at).expect("write");
    }
    let explain =
        || run(&disk, &CrashOptions::default()).0.iter().map(CrashImage::explain).collect::<Vec<_>>();
    assert_eq!(explain(), explain());

    let image = disk.crash_states(&CrashOptions::default()).last().expect("an image");
    let crashed = image.disk();
    let before = crashed.contents("/a").expect("there");
    let file = crashed.open(Path::new("/a"), &OpenHow::write(DirectIo::Off)).expect("open");
    write_all_at(&*file, &sectors(&[99]), 0).expect("write");
    let again: Vec<_> = crashed.crash_states(&no_lengths()).collect();
    assert_eq!(again.len(), 2);
    assert_eq!(again[0].disk().contents("/a").expect("there"), before);
    assert_eq!(again[1].disk().contents("/a").expect("there")[..S], [99; S]);
    assert_eq!(image.disk().contents("/a").expect("there"), before, "every call gives a fresh disk");
}

/// Bytes belong to a file and not to its name: a write through an unsynced new name shows under the old one.
#[test]
fn synced_bytes_are_there_under_whichever_name_survived() {
    let (disk, file) = disk_with_file(S as u64);
    write_all_at(&*file, &sectors(&[1]), 0).expect("write");
    file.sync().expect("sync");
    disk.rename(Path::new("/a"), Path::new("/b")).expect("rename");
    write_all_at(&*file, &sectors(&[2]), 0).expect("write");
    file.sync().expect("sync");
    disk.note(1);
    let (images, _) = run(&disk, &no_lengths());
    let last: BTreeSet<_> = images
        .iter()
        .filter(|image| !image.acknowledged().is_empty())
        .map(|image| (contents(image), image.disk().contents("/b").ok().map(|bytes| bytes[0])))
        .collect();
    assert_eq!(last, [(Some(vec![2]), None), (None, Some(2))].into());
}
