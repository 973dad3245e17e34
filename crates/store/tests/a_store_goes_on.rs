//! Prevents: a store that stops for good, or forgets, where nothing was lost: a log that no checkpoint frees, a full disk that
//! had room again, a creation that was killed, a write beside a close.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagestone_direct_io::{DirectIo, OpenHow};
use pagestone_page_format::PageError;
use pagestone_store::{Background, Durability, Options, Store, StoreError};
use pagestone_testkit::{CrashOptions, DiskOp, FaultPlan, Keep, SimDisk};
use support::{DIR, State, contents, open, small, verified_contents};

fn fill(store: &Store, from: u32, count: u32) {
    for number in from..from + count {
        let key = format!("key-{:05}", number % 500);
        store.default_tree().put(key.as_bytes(), &[number as u8; 900]).expect("put");
    }
}

/// A checkpoint frees the log only up to the one before it: after a long interval it takes two, and somebody must see that.
#[test]
fn log_is_freed_after_an_interval_that_filled_most_of_it() {
    let store = open(&SimDisk::new(1)).expect("opens");
    fill(&store, 0, 900); // most of the budget of 1 MiB, in one interval
    for round in 0..40 {
        store.tick().expect("tick");
        store.tick().expect("tick");
        fill(&store, 1000 + round * 100, 100);
    }
    let stats = store.stats().expect("stats");
    assert!(stats.checkpoints > 10 && stats.log.used < 1 << 20, "{stats:?}");
    // Idle checkpoints free what is left, and then stop writing.
    store.checkpoint().expect("checkpoint");
    store.checkpoint().expect("checkpoint");
    let before = store.stats().expect("stats");
    assert!(before.log.used < 256 << 10, "{before:?}");
    store.checkpoint().expect("checkpoint");
    assert_eq!(store.stats().expect("stats").checkpoints, before.checkpoints);
}

#[test]
fn writers_and_checkpointer_of_a_small_log_never_stop() {
    let options = Options { background: Background::Threads, durability: Durability::RELAXED, ..small() };
    let store = Store::open_on(Arc::new(SimDisk::new(1)), Path::new(DIR), options).expect("opens");
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let store = &store;
            scope.spawn(move || fill(store, thread * 1_000_000, 6000));
        }
    });
    assert!(store.stats().expect("stats").log.bytes_written > 8 << 20, "the log never came round");
    store.close().expect("close");
}

/// I12: a write that reports a full disk ends nothing; the log is kept, and the checkpoint works once there is room.
#[test]
fn full_disk_in_a_background_checkpoint_passes() {
    let disk = SimDisk::new(1);
    let options = Options { background: Background::Threads, durability: Durability::RELAXED, ..small() };
    let store = Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options).expect("opens");
    let full = FaultPlan::errno(28)
        .on(DiskOp::Write)
        .path(|path| path.starts_with("/store") && !path.starts_with("/store/log"))
        .times(3);
    let full = disk.fail(full);
    let until = Instant::now() + Duration::from_secs(20);
    let mut number = 0;
    while disk.injected(full) < 3 && Instant::now() < until {
        // A put may be told of the full disk itself, when it needs a frame; the next one goes through.
        match store.default_tree().put(format!("key-{:05}", number % 3000).as_bytes(), &[1; 900]) {
            Ok(_) => number += 1,
            Err(StoreError::Page(PageError::Io { source, .. })) => {
                assert_eq!(source.kind(), std::io::ErrorKind::StorageFull)
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(disk.injected(full), 3, "the disk was never full: the premise is gone");
    fill(&store, 0, 2000);
    store.close().expect("close");
    drop(store);
    assert!(open(&disk).expect("opens").default_tree().len().expect("len") >= 500);
}

/// C8, C9, C12: a store whose creation was killed is made, or finished, by the next opening; what that acknowledges is durable.
#[test]
fn write_after_a_killed_creation_survives_the_next_power_cut() {
    let disk = SimDisk::new(1);
    drop(open(&disk).expect("opens"));
    let mut images = 0;
    for image in disk.crash_states(&CrashOptions { exhaustive_max: 64, ..CrashOptions::default() }) {
        let crashed = image.disk();
        // A process that is killed leaves what it wrote; only the second cut takes what was never synced.
        let store = open(&crashed).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        store.default_tree().put(b"key", b"value").expect("put");
        let cut = crashed.power_cut(Keep::Synced);
        let found = open(&cut).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        assert_eq!(contents(&found).expect("reads").len(), 1, "{}", image.explain());
        images += 1;
    }
    // Killed, not cut: everything written is in the cache, nothing synced, and the disk is the same one.
    for operation in 0..disk.journal_len() as u64 {
        let killed = SimDisk::new(1);
        let dead = killed.fail(FaultPlan::errno(5).skip(operation).forever());
        if open(&killed).is_ok() {
            break;
        }
        assert!(killed.injected(dead) > 0);
        killed.heal();
        let store = open(&killed).unwrap_or_else(|error| panic!("{error}: died at call {operation}"));
        store.default_tree().put(b"key", b"value").expect("put");
        let cut = killed.power_cut(Keep::Synced);
        let found = open(&cut).unwrap_or_else(|error| panic!("{error}: died at call {operation}"));
        assert_eq!(contents(&found).expect("reads").len(), 1, "died at call {operation}");
        images += 1;
    }
    assert!(images > 100, "only {images} images");
}

/// E4, R4: a root that claims fences would send a scan round in circles.
#[test]
fn hostile_root_is_an_error_and_not_an_endless_scan() {
    use pagestone_direct_io::Disk;
    use pagestone_page_format::{ChecksumKind, PageChecksum, StoreUuid};
    let disk = SimDisk::new(1);
    let store = open(&disk).expect("opens");
    fill(&store, 0, 3);
    store.close().expect("close");
    drop(store);
    let data = disk.contents("/store/data").expect("read");
    let uuid = StoreUuid::new(data[16..32].try_into().expect("sixteen bytes"));
    let checksum = PageChecksum::new(ChecksumKind::Crc32c, uuid);
    let root_at = 8192 + 4096;
    let (mut errors, mut right) = (0, 0);
    for at in 32..64 {
        for bit in 0..8 {
            let mut root = data[root_at..root_at + 4096].to_vec();
            root[at] ^= 1 << bit;
            checksum.stamp(&mut root);
            let hostile = disk.power_cut(Keep::Everything);
            hostile.overwrite("/store/data", root_at as u64, &root).expect("overwritten");
            let store = open(&hostile).expect("no log to replay");
            let found: Result<Vec<_>, _> = store.default_tree().range::<&[u8]>(..).take(1000).collect();
            match found {
                Ok(found) => {
                    assert!(found.len() <= 3, "byte {at} bit {bit}: {} entries", found.len());
                    right += 1;
                }
                Err(_) => errors += 1,
            }
            let _ = store.default_tree().len();
        }
    }
    assert!(errors > 50, "{errors} errors, {right} answers");
    let _ = disk.open(Path::new("/store/data"), &OpenHow::read(DirectIo::Off)).expect("still there");
}

/// I11: what was removed a moment ago is room for a long value, also where the file cannot grow.
#[test]
fn long_value_takes_the_room_of_a_removed_one_on_a_full_disk() {
    let disk = SimDisk::new(1);
    drop(open(&disk).expect("opens"));
    let store = open(&disk).expect("opens");
    let tree = store.default_tree();
    let value = |byte: u8| vec![byte; 300_000];
    tree.put(b"first", &value(1)).expect("there is room");
    disk.fail(FaultPlan::errno(28).on(DiskOp::Reserve).path(|path| path.ends_with("data")).forever());
    let mut more = 0;
    let full = loop {
        match tree.put(&[more], &value(more)) {
            Ok(_) => more += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::Page(PageError::NoSpace { .. })), "{full}");
    for round in 0..3 {
        assert!(tree.remove(b"first").expect("a removal takes no room"));
        tree.put(b"first", &value(round)).expect("the room of the one that was removed");
        assert_eq!(tree.get(b"first").expect("reads"), Some(value(round)));
    }
    assert!(store.verify().expect("reads").is_sound());
}

/// I11: the tree is as it was, all that needs no page goes on, and what removals free is room.
#[test]
fn tree_that_cannot_grow_refuses_puts_and_nothing_else() {
    let disk = SimDisk::new(1);
    drop(open(&disk).expect("opens")); // its file has its name from now on
    let store = open(&disk).expect("opens");
    let tree = store.default_tree();
    let key = |number: u32| format!("/usr/share/doc/package-{number:05}/copyright").into_bytes();
    let mut state = State::new();
    let fill = |state: &mut State, from: u32| {
        for number in from..from + 5000 {
            match tree.put(&key(number), &[number as u8; 300]) {
                Ok(_) => drop(state.insert(key(number), vec![number as u8; 300])),
                Err(StoreError::Page(PageError::NoSpace { .. })) => return number,
                Err(error) => panic!("{error}"),
            }
            if number % 64 == 0 {
                store.tick().expect("a healthy log");
            }
        }
        panic!("a file that cannot grow took 5000 entries")
    };
    for number in 0..300 {
        tree.put(&key(number), &[1; 300]).expect("there is room");
        state.insert(key(number), vec![1; 300]);
    }
    disk.fail(FaultPlan::errno(28).on(DiskOp::Reserve).path(|path| path.ends_with("data")).forever());
    let mut end = fill(&mut state, 300);
    for _ in 0..3 {
        assert!(verified_contents(&store).expect("reads") == state, "of {end}");
        // As long as what it replaces.
        let (first, value) = state.iter_mut().next().expect("some");
        value.fill(0xee);
        tree.put(first, value).expect("it stands where the old one stood");
        // Three of four go, so that leaves merge.
        let gone: Vec<Vec<u8>> =
            state.keys().enumerate().filter(|(at, _)| at % 4 > 0).map(|(_, key)| key.clone()).collect();
        for key in gone {
            assert!(tree.remove(&key).expect("a removal takes no room"));
            state.remove(&key);
        }
        let refilled = fill(&mut state, end);
        assert!(refilled - end > 30, "only {} entries where {} had been", refilled - end, state.len());
        end = refilled;
    }
    disk.heal();
    tree.put(&key(end), b"there is room again").expect("there is");
    store.close().expect("closes");
}
