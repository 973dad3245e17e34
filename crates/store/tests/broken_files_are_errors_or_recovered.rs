//! Prevents: a panic, a hang, a wrong answer or silence where a file of the store is foreign, short, flipped or locked (M1 to M5, M9,
//! E1, E2, E3, R7).

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagestone_allocator::ClearBits;
use pagestone_page_format::{PageError, PageId, PageOp};
use pagestone_store::{Options, Store, StoreError, StoreResult};
use pagestone_testkit::{Keep, Rng, SimDisk};
use support::damaged::Damaged;
use support::{DIR, contents, open, run, script, small, states};

fn real() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store");
    (dir, path)
}

fn filled(path: &Path) -> Options {
    let store = Store::open(path, small()).expect("a store");
    for number in 0..200u32 {
        store.default_tree().put(format!("key-{number:05}").as_bytes(), &[7; 100]).expect("put");
    }
    store.close().expect("closed");
    small()
}

#[test]
fn second_handle_is_locked_out_quickly_and_the_lock_goes_with_the_first() {
    let (_keep, path) = real();
    let options = filled(&path);
    let store = Store::open(&path, options.clone()).expect("a store");
    let began = Instant::now();
    let error = Store::open(&path, options.clone()).expect_err("locked");
    assert!(matches!(error, StoreError::Page(PageError::Locked { .. })), "{error}");
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
    drop(store);
    Store::open(&path, options).expect("free again");
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_was() {
    let (keep, path) = real();
    // A file where the directory should be.
    std::fs::write(&path, b"hello").expect("written");
    assert!(matches!(Store::open(&path, small()), Err(StoreError::NotAStore { .. })));
    assert_eq!(std::fs::read(&path).expect("read"), b"hello");
    std::fs::remove_file(&path).expect("removed");
    // A directory with somebody's files.
    std::fs::create_dir(&path).expect("made");
    std::fs::write(path.join("thesis.txt"), b"hello").expect("written");
    assert!(matches!(Store::open(&path, small()), Err(StoreError::NotAStore { .. })));
    assert_eq!(std::fs::read_dir(&path).expect("listed").count(), 1, "nothing was added");
    // Data files of other makes: empty, short, foreign, long and foreign, a directory.
    for contents in [&b""[..], b"short", &[0; 8192], &[0xa5; 100_000]] {
        std::fs::write(path.join("data"), contents).expect("written");
        let error = Store::open(&path, small()).expect_err("not ours");
        assert!(matches!(error, StoreError::Page(PageError::InvalidSuperblock { .. })), "{error}");
        assert_eq!(std::fs::read(path.join("data")).expect("read"), contents);
    }
    std::fs::remove_file(path.join("data")).expect("removed");
    std::fs::create_dir(path.join("data")).expect("made");
    assert!(matches!(Store::open(&path, small()), Err(StoreError::NotAStore { .. })));
    // Absent, and not to be made.
    let absent = keep.path().join("absent");
    let error = Store::open(&absent, Options { create: false, ..small() }).expect_err("absent");
    assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    assert!(!absent.exists());
}

#[test]
fn truncated_data_file_is_an_error_at_every_page() {
    let disk = SimDisk::new(5);
    run(&disk, &script(5, 80, 1000));
    open(&disk).expect("opens").close().expect("closed");
    let whole = disk.contents("/store/data").expect("read").len() as u64;
    for len in (0..whole).step_by(4096) {
        let cut = disk.power_cut(Keep::Everything);
        truncate(&cut, len);
        let error = open(&cut).and_then(|store| contents(&store)).expect_err("too short");
        assert!(matches!(error, StoreError::Page(_)), "{error}");
        assert_eq!(cut.contents("/store/data").expect("read").len() as u64, len, "R7: left as it was");
    }
}

fn truncate(disk: &SimDisk, len: u64) {
    use pagestone_direct_io::{DirectIo, Disk, OpenHow};
    let file = disk.open(Path::new("/store/data"), &OpenHow::write(DirectIo::Off)).expect("opens");
    file.set_len(len).expect("truncated");
}

fn flip(disk: &SimDisk, path: &str, at: u64) {
    let old = disk.contents(path).expect("read")[at as usize];
    disk.overwrite(path, at, &[old ^ 0x10]).expect("overwritten");
}

/// Opens and reads everything both ways.
fn read_all(disk: &SimDisk) -> StoreResult<support::State> {
    let store = open(disk)?;
    let forward = contents(&store)?;
    let backward = store.default_tree().range::<&[u8]>(..).rev().collect::<Result<support::State, _>>()?;
    assert_eq!(forward, backward);
    Ok(forward)
}

#[test]
fn flipped_byte_in_any_page_is_found_or_in_a_page_that_nobody_reads() {
    let steps = script(6, 80, 1000);
    let disk = SimDisk::new(5);
    run(&disk, &steps);
    open(&disk).expect("opens").close().expect("closed");
    let expected = states(&steps).pop().expect("a state");
    let len = disk.contents("/store/data").expect("read").len() as u64;
    let (mut found, mut harmless) = (0, 0);
    for at in (8192..len).step_by(251) {
        let flipped = disk.power_cut(Keep::Everything);
        flip(&flipped, "/store/data", at);
        match read_all(&flipped) {
            Ok(state) => {
                assert_eq!(state, expected, "byte {at}");
                harmless += 1;
            }
            Err(StoreError::Page(
                PageError::ChecksumMismatch { .. }
                | PageError::BadMagic { .. }
                | PageError::UnsupportedVersion { .. },
            )) => found += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(found > 100, "{found} found, {harmless} harmless");
}

#[test]
fn flipped_byte_in_one_superblock_is_recovered_and_told_in_both_refused() {
    let steps = script(7, 30, 6);
    let disk = SimDisk::new(5);
    run(&disk, &steps);
    let expected = states(&steps).pop().expect("a state");
    for at in (0..8192).step_by(61) {
        let flipped = disk.power_cut(Keep::Everything);
        flip(&flipped, "/store/data", at);
        let store = open(&flipped).unwrap_or_else(|error| panic!("byte {at}: {error}"));
        assert!(store.open_report().superblock_damage.is_some(), "byte {at}: never in silence");
        assert_eq!(contents(&store).expect("reads"), expected, "byte {at}");
        // Writes of the next generation are not mistaken for the lost one's, nor the other way round.
        store.default_tree().put(b"after", b"damage").expect("put");
        drop(store);
        let store = open(&flipped).unwrap_or_else(|error| panic!("byte {at}, again: {error}"));
        assert!(store.open_report().superblock_damage.is_none(), "byte {at}: mended");
        assert_eq!(contents(&store).expect("reads").len(), expected.len() + 1);
    }
    let both = disk.power_cut(Keep::Everything);
    flip(&both, "/store/data", 100);
    flip(&both, "/store/data", 4096 + 100);
    let before = both.contents("/store/data").expect("read");
    let error = open(&both).expect_err("no copy is left");
    assert!(matches!(error, StoreError::Page(PageError::InvalidSuperblock { .. })), "{error}");
    assert_eq!(both.contents("/store/data").expect("read"), before, "R7: left as it was");
}

#[test]
fn flipped_byte_in_the_log_is_corruption_before_the_tail_and_never_a_wrong_answer() {
    let steps = script(8, 60, 1000);
    let disk = SimDisk::new(5);
    run(&disk, &steps);
    let states = states(&steps);
    let segment = only_segment(&disk);
    let len = disk.contents(&segment).expect("read").len() as u64;
    let (mut refused, mut whole, mut shortened) = (0, 0, 0);
    for at in (0..len).step_by(127) {
        let flipped = disk.power_cut(Keep::Everything);
        flip(&flipped, &segment, at);
        match read_all(&flipped) {
            Ok(state) if state == *states.last().expect("a state") => whole += 1,
            Ok(state) => {
                // Only what no later block vouches for may be missing: the last batch.
                let steps = states.iter().rposition(|known| *known == state);
                assert!(steps.is_some_and(|steps| steps + 2 >= states.len()), "byte {at}: {steps:?}");
                shortened += 1;
            }
            Err(StoreError::Wal(pagestone_wal::WalError::WalCorrupt { .. })) => refused += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(refused > 50 && whole > 50, "{refused} refused, {whole} whole, {shortened} shortened");
}

fn only_segment(disk: &SimDisk) -> String {
    use pagestone_direct_io::Disk;
    let names = disk.list(Path::new("/store/log")).expect("listed");
    let first = names.first().expect("a segment");
    format!("/store/log/{}", first.display())
}

#[test]
fn another_stores_log_or_an_older_data_file_is_a_mismatch() {
    let (_keep, path) = real();
    let (_other_keep, other) = real();
    let options = filled(&path);
    filled(&other);
    // Another store's log.
    std::fs::rename(path.join("log"), path.join("own-log")).expect("moved");
    std::fs::rename(other.join("log"), path.join("log")).expect("moved");
    let error = Store::open(&path, options.clone()).expect_err("another store's log");
    assert!(matches!(error, StoreError::Wal(_) | StoreError::Page(PageError::Mismatch { .. })), "{error}");
    // No log at all.
    std::fs::rename(path.join("log"), other.join("log")).expect("moved");
    Store::open(&path, options.clone()).expect_err("no log");
    assert!(!path.join("log").exists(), "R7: none was made");
    std::fs::rename(path.join("own-log"), path.join("log")).expect("moved");
    Store::open(&path, options).expect("whole again");
}

#[test]
fn options_that_cannot_work_are_refused_before_anything_is_made() {
    let disk = SimDisk::new(1);
    let bad = [
        Options { pool_bytes: 4096, ..small() },
        Options { log_bytes: 1, ..small() },
        Options { segment_bytes: 1000, ..small() },
    ];
    for options in bad {
        let error = Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options).expect_err("refused");
        assert!(matches!(error, StoreError::InvalidOption { .. }), "{error}");
    }
}

#[test]
fn map_that_calls_a_page_in_use_free_is_an_error_once_that_shows_and_no_writer_waits_for_himself() {
    let disk = SimDisk::new(6);
    let key = |number: u32, last: u8| [&number.to_be_bytes()[..], &[last]].concat();
    {
        let store = open(&disk).expect("a store");
        for number in 0..200 {
            store.default_tree().put(&key(number, 0), &[7; 300]).expect("put");
        }
        store.close().expect("closed");
    }
    let whole = Damaged::copy_of(&disk);
    let mut before_any_change = 0;
    for page in (1..whole.pages()).filter(|page| whole.in_use(*page)) {
        let damaged = Damaged::copy_of(&disk);
        damaged.rewrite(0, |writer| {
            ClearBits { first: PageId::new(page), count: 1 }.apply(writer).expect("in use");
        });
        let store = open(&damaged.disk).expect("opens");
        // Puts that split every leaf, each for a page that is free; one is not.
        let put = |number| store.default_tree().put(&key(number, 1), &[8; 300]);
        match (0..200).map(put).find(Result::is_err) {
            Some(Err(StoreError::Page(PageError::AllocationState { page_id, state: "free" }))) => {
                assert_eq!(page_id, PageId::new(page));
                store.default_tree().put(&key(0, 0), b"short").expect("nothing was changed: not poisoned");
                before_any_change += 1;
            }
            // Else it is somebody's node that was written over.
            Some(Err(StoreError::Tree(_))) => {}
            Some(Err(error)) => panic!("page {page}: {error}"),
            Some(Ok(_)) | None => assert_eq!(page, 2, "nobody looks at the catalog"),
        }
    }
    assert!(before_any_change > 0);
}

#[test]
fn batch_that_does_not_fit_a_leaf_that_lies_about_its_room_ends() {
    let disk = SimDisk::new(7);
    let key = |number: usize, last: &str| format!("prefix/{number:04}{last}").into_bytes();
    {
        let store = open(&disk).expect("a store");
        for number in 0..120 {
            let value = vec![7; number * 37 % 700];
            store.default_tree().put(&key(number * 7 % 120, ""), &value).expect("put");
        }
        store.close().expect("closed");
    }
    let leaves = Damaged::copy_of(&disk).children(1);
    let mut random = Rng::new(8);
    let (mut errors, mut answers) = (0, 0);
    for _ in 0..500 {
        let damaged = Damaged::copy_of(&disk);
        let leaf = leaves[random.below(leaves.len() as u64) as usize];
        // What the slotted area says about itself, and a slot.
        let (says, slot) = (48 + random.below(24) as usize, 72 + random.below(90) as usize);
        damaged.rewrite(leaf, |writer| {
            for at in [says, slot] {
                let byte = [0, 4, 0xff, random.below(256) as u8][random.below(4) as usize];
                writer.put_bytes(at, &[byte]).expect("inside the page");
            }
        });
        let store = open(&damaged.disk).expect("opens");
        let mut batch = store.batch();
        let from = random.below(100) as usize;
        for number in from..from + 20 {
            batch.put(&store.default_tree(), &key(number, "+"), &[8; 350]).expect("kept");
        }
        match batch.commit() {
            Ok(_) => answers += 1,
            Err(_) => errors += 1,
        }
    }
    assert!(errors > 50 && answers > 50, "{errors} errors, {answers} answers");
}
