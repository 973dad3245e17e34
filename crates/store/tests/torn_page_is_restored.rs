//! Prevents: a page that a power cut tears while it is written, and with it what was acknowledged long before (C4, R1); an old copy
//! that takes the place of a newer page (R3); a recovery that spoils its own copies (C11, R6).

mod support;

use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{DirectIo, Disk, DoubleWriteFile, OpenHow, PageFile};
use pagestone_page_format::{
    ChecksumKind, DEFAULT_PAGE_SIZE, Lsn, PageChecksum, PageError, PageId, PageStore, Poison, StoreUuid,
};
use pagestone_store::{Options, Store, StoreError, StoreResult, TornWrites};
use pagestone_testkit::{CrashImage, CrashOptions, Keep, SimDisk};
use pagestone_wal::WalError;
use support::{DIR, State, Step, contents, open, run, script, small, states};

const DATA: &str = "/store/data";
const COPIES: &str = "/store/doublewrite";
const PAGE: usize = 4096;

fn once() -> Options {
    Options { torn_writes: TornWrites::Off, ..small() }
}

fn open_with(disk: &SimDisk, options: Options) -> StoreResult<Store> {
    Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options)
}

fn run_with(disk: &SimDisk, script: &[Step], options: Options) {
    let store = open_with(disk, options).expect("a healthy disk");
    for (number, step) in script.iter().enumerate() {
        step.run(&store).expect("a healthy disk");
        disk.note(number as u64 + 1);
    }
}

/// Some of all cuts, with tears of 512 bytes in the last writes to any file, the data file among them.
fn tears() -> CrashOptions {
    CrashOptions {
        exhaustive_max: 16,
        pairs_max: 4,
        splits_max: 8,
        torn_writes: 4,
        ..CrashOptions::default()
    }
}

fn is_legal(image: &CrashImage, states: &[State], found: &State) -> bool {
    let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
    states[acknowledged..].iter().take(2).any(|state| state == found)
}

/// A data page, told as what it is; not the superblock, not the log.
fn is_torn_page(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Page(PageError::ChecksumMismatch { .. })
            | StoreError::Wal(WalError::Page(PageError::ChecksumMismatch { .. }))
    )
}

/// Enumerates the cuts behind the first `quiet` steps; gives images, and those in which pages were torn.
fn every_cut(script: &[Step], quiet: usize, options: CrashOptions) -> (u64, u64) {
    let disk = SimDisk::new(1);
    let store = open(&disk).expect("a healthy disk");
    let mut begin = 0;
    for (number, step) in script.iter().enumerate() {
        if number == quiet {
            begin = disk.journal_len();
        }
        step.run(&store).expect("a healthy disk");
        disk.note(number as u64 + 1);
    }
    drop(store);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    let states = states(script);
    let (mut images, mut restored) = (0, 0);
    for image in disk.crash_states(&CrashOptions { cuts: begin..usize::MAX, ..options }) {
        let store = open(&image.disk()).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        let found = contents(&store).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        assert!(is_legal(&image, &states, &found), "{}", image.explain());
        restored += u64::from(store.open_report().restored > 0);
        images += 1;
    }
    (images, restored)
}

#[test]
fn every_cut_in_a_checkpoint_is_recovered() {
    let (images, restored) = every_cut(&script(10, 120, 20), 0, tears());
    assert!(images > 1000 && restored > 50, "{images} images, {restored} with torn pages");
}

#[test]
fn every_cut_in_an_eviction_is_recovered() {
    let mut script = script(15, 440, u64::MAX);
    // So that there is little to replay, and few copies to read.
    (1..=10).rev().for_each(|at| script.insert(38 * at, Step::Checkpoint));
    let (images, restored) = every_cut(&script, 442, CrashOptions { splits_max: 4, random: 4, ..tears() });
    assert!(images > 500 && restored > 25, "{images} images, {restored} with torn pages");
}

/// Shows that the enumeration above can fail: the same one, written once.
#[test]
fn without_copies_the_same_cuts_lose_pages_and_say_so() {
    let script = script(10, 120, 20);
    let disk = SimDisk::new(1);
    run_with(&disk, &script, once());
    let states = states(&script);
    let (mut whole, mut reported) = (0, 0);
    for image in disk.crash_states(&CrashOptions { shard: (0, 3), ..tears() }) {
        match open_with(&image.disk(), once()).and_then(|store| contents(&store)) {
            Ok(found) => {
                assert!(is_legal(&image, &states, &found), "{}", image.explain());
                whole += 1;
            }
            Err(error) => {
                assert!(is_torn_page(&error), "{error}: {}", image.explain());
                reported += 1;
            }
        }
    }
    assert!(whole > 500 && reported > 0, "{whole} whole, {reported} reported");
}

/// A recovery that restores is cut after each of its own operations, torn as well, and recovered again.
#[test]
fn recovery_of_torn_pages_survives_every_cut_of_itself() {
    let script = script(16, 60, 15);
    let disk = SimDisk::new(1);
    run(&disk, &script);
    let states = states(&script);
    let few = CrashOptions { exhaustive_max: 2, pairs_max: 0, splits_max: 2, random: 1, ..tears() };
    let (mut first, mut second) = (0, 0);
    for image in disk.crash_states(&tears()) {
        let crashed = image.disk();
        let store = open(&crashed).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        if store.open_report().restored == 0 {
            continue;
        }
        first += 1;
        if first % 32 != 1 {
            continue;
        }
        let expected = contents(&store).expect("reads");
        drop(store);
        assert!(is_legal(&image, &states, &expected), "{}", image.explain());
        for again in crashed.crash_states(&few) {
            let explain = || format!("{} after {}", again.explain(), image.explain());
            let store = open(&again.disk()).unwrap_or_else(|error| panic!("{error}: {}", explain()));
            let found = contents(&store).unwrap_or_else(|error| panic!("{error}: {}", explain()));
            assert!(found == expected, "{}", explain());
            second += 1;
        }
    }
    assert!(second > 200, "only {second} images of recoveries of {first} images with torn pages");
}

/// A store whose pages were evicted and whose log reaches back to its beginning, cut with everything kept.
fn evicted() -> (SimDisk, State) {
    let script = script(12, 600, u64::MAX);
    let disk = SimDisk::new(1);
    run(&disk, &script);
    (disk.power_cut(Keep::Everything), states(&script).pop().expect("a state"))
}

/// Page ids that stand whole in the data file and were written since the creation.
fn whole_pages(disk: &SimDisk) -> Vec<u64> {
    let data = disk.contents(DATA).expect("read");
    let checksum = PageChecksum::new(ChecksumKind::Crc32c, uuid(disk));
    let verify = |id: &u64| checksum.verify(PageId::new(*id), page_at(&data, *id));
    let whole = |id: &u64| verify(id).is_ok_and(|header| header.lsn > Lsn::ZERO);
    (0..(data.len() - 8192) as u64 / PAGE as u64).filter(whole).collect()
}

fn uuid(disk: &SimDisk) -> StoreUuid {
    StoreUuid::new(disk.contents(DATA).expect("read")[16..32].try_into().expect("sixteen bytes"))
}

fn page_at(data: &[u8], id: u64) -> &[u8] {
    &data[8192 + id as usize * PAGE..][..PAGE]
}

/// Puts other bytes behind the first sector of a page, which holds its header.
fn tear(disk: &SimDisk, id: u64) {
    disk.overwrite(DATA, 8192 + id * PAGE as u64 + 512, &[0xa5; PAGE - 512]).expect("there");
}

#[test]
fn page_torn_behind_its_first_sector_is_restored() {
    let (disk, expected) = evicted();
    let pages = whole_pages(&disk);
    assert!(pages.len() > 20, "{pages:?}");
    for id in pages {
        let torn = disk.power_cut(Keep::Everything);
        tear(&torn, id);
        let store = open(&torn).unwrap_or_else(|error| panic!("page {id}: {error}"));
        assert_eq!(store.open_report().restored, 1, "page {id}");
        assert_eq!(contents(&store).expect("reads"), expected, "page {id}");
    }
}

/// A copy from before the checkpoint has missed changes that the log no longer holds.
#[test]
fn copy_from_before_the_checkpoint_takes_no_page_s_place() {
    let script = script(13, 200, 50);
    let disk = SimDisk::new(1);
    run(&disk, &script);
    open(&disk).expect("opens").close().expect("closed");
    let expected = states(&script).pop().expect("a state");
    let mut reported = 0;
    for id in whole_pages(&disk) {
        let torn = disk.power_cut(Keep::Everything);
        tear(&torn, id);
        match open(&torn).and_then(|store| contents(&store)) {
            Ok(found) => assert_eq!(found, expected, "page {id}"),
            Err(error) => {
                assert!(is_torn_page(&error), "page {id}: {error}");
                reported += 1;
            }
        }
    }
    assert!(reported > 10, "only {reported} pages");
}

#[test]
fn turned_off_it_restores_once_more_and_forgets_the_copies() {
    let (disk, expected) = evicted();
    let id = whole_pages(&disk).pop().expect("a page");
    tear(&disk, id);
    let before = disk.journal_len();
    let store = open_with(&disk, once()).expect("opens");
    assert_eq!((store.open_report().restored, contents(&store).expect("reads")), (1, expected.clone()));
    drop(store);
    assert!(disk.journal_len() > before);
    // What is durable now holds no copy, and the store goes on both ways.
    let cut = disk.power_cut(Keep::Synced);
    assert_eq!(cut.contents(COPIES).expect("read").len(), 0);
    assert_eq!(contents(&open_with(&cut, once()).expect("opens")).expect("reads"), expected);
    let store = open(&cut).expect("opens");
    store.default_tree().put(b"again", b"twice").expect("put");
    store.checkpoint().expect("checkpoint");
    assert!(!cut.contents(COPIES).expect("read").is_empty());
}

#[test]
fn missing_foreign_or_broken_copies_are_ignored_and_made_anew() {
    let (disk, expected) = evicted();
    let (other, _) = evicted();
    let foreign = other.contents(COPIES).expect("read");
    type Spoil<'a> = (&'a str, &'a dyn Fn(&SimDisk));
    let spoil: [Spoil<'_>; 4] = [
        ("missing", &|disk| disk.remove_file(Path::new(COPIES)).expect("removed")),
        ("foreign", &|disk| replace(disk, &foreign)),
        ("noise", &|disk| replace(disk, &[0x5a; 100_001])),
        ("empty", &|disk| replace(disk, &[])),
    ];
    for (how, spoil) in spoil {
        let spoilt = disk.power_cut(Keep::Everything);
        spoil(&spoilt);
        let store = open(&spoilt).unwrap_or_else(|error| panic!("{how}: {error}"));
        assert_eq!(
            (store.open_report().restored, contents(&store).expect("reads")),
            (0, expected.clone()),
            "{how}"
        );
        store.checkpoint().expect("checkpoint");
        drop(store);
        let cut = spoilt.power_cut(Keep::Synced);
        assert!(!cut.contents(COPIES).expect("there").is_empty(), "{how}");
        assert_eq!(contents(&open(&cut).expect("opens")).expect("reads"), expected, "{how}");
    }
    let blocked = disk.power_cut(Keep::Everything);
    blocked.remove_file(Path::new(COPIES)).expect("removed");
    blocked.create_dir(Path::new(COPIES)).expect("made");
    let error = open(&blocked).expect_err("a directory is no file");
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
}

fn replace(disk: &SimDisk, bytes: &[u8]) {
    let file = disk.open(Path::new(COPIES), &OpenHow::write(DirectIo::Off)).expect("opens");
    file.set_len(0).expect("emptied");
    if !bytes.is_empty() {
        pagestone_direct_io::write_all_at(&*file, bytes, 0).expect("written");
    }
}

/// E2: a page of a later time than the log is refused as a copy too, and nothing is changed.
#[test]
fn copy_from_behind_the_end_of_the_log_is_refused() {
    let (disk, _) = evicted();
    let id = whole_pages(&disk).pop().expect("a page");
    let checksum = PageChecksum::new(ChecksumKind::Crc32c, uuid(&disk));
    let how = OpenHow::write(DirectIo::Off);
    let pages = PageFile::new(
        disk.open(Path::new(DATA), &how).expect("opens"),
        8192,
        DEFAULT_PAGE_SIZE,
        checksum.clone(),
    );
    let copies = disk.open(Path::new(COPIES), &how).expect("opens");
    let copies = DoubleWriteFile::read(copies, DEFAULT_PAGE_SIZE, uuid(&disk), checksum).expect("read");
    let copies = copies.restore(&pages, Lsn::ZERO, Lsn::MAX).expect("restored");
    let pages = copies.write_twice(pages, Poison::new());
    let mut page = pages.allocate_page(PageId::new(id));
    pages.read_into(PageId::new(id), &mut page).expect("whole");
    page.set_lsn(Lsn::new(1 << 40));
    pages.write_page(&mut page).expect("written");
    drop(pages);
    tear(&disk, id);
    let before = (disk.contents(DATA).expect("read"), disk.contents(COPIES).expect("read"));
    let error = open(&disk).expect_err("of a later time");
    assert!(matches!(error, StoreError::Page(PageError::LsnBeyondLog { .. })), "{error}");
    assert_eq!((disk.contents(DATA).expect("read"), disk.contents(COPIES).expect("read")), before, "R7");
}
