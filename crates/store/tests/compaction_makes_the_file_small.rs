//! Prevents: a file that stays as large as it ever was; a compaction that loses an entry, shows it twice, makes the file larger on the way,
//! or leaves less than there was when a crash or an error ends it (R1, R2, B1, B2, L7, L8, V1).

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pagestone_store::{AutoCompact, Background, Durability, Options, Store, StoreError};
use pagestone_testkit::{CrashOptions, FaultPlan, Keep, Rng, SimDisk};
use support::{DIR, State, beside, contents, open, small, verified_contents};

fn pages(store: &Store) -> u64 {
    store.stats().expect("stats").data_pages
}

/// Keys of 16 bytes and values of 100, in random order, and every second one gone.
fn half_gone(store: &Store, entries: u64, seed: u64) -> State {
    let tree = store.default_tree();
    let mut random = Rng::new(seed);
    let mut state = State::new();
    for _ in 0..entries {
        let key = [random.next_u64().to_be_bytes(), random.next_u64().to_be_bytes()].concat();
        tree.put(&key, &[key[0]; 100]).expect("put");
        state.insert(key.clone(), vec![key[0]; 100]);
        make_room(store, state.len());
    }
    let mut keys: Vec<Vec<u8>> = state.keys().cloned().collect();
    random.shuffle(&mut keys);
    for key in keys.iter().take(keys.len() / 2) {
        tree.remove(key).expect("removed");
        state.remove(key);
        make_room(store, state.len());
    }
    state
}

/// No thread does it where the test has none.
fn make_room(store: &Store, changes: usize) {
    if changes.is_multiple_of(256) {
        store.tick().expect("a healthy disk");
    }
}

#[test]
fn half_of_the_entries_are_removed_and_the_file_is_no_larger_than_the_rest() {
    let disk = SimDisk::new(1);
    let options = Options { pool_bytes: 64 * 4096, ..small() };
    let store = Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options).expect("a new store");
    let state = half_gone(&store, 12_000, 3);
    let (before, mut longest, mut steps) = (pages(&store), 0, Vec::new());
    let report = store
        .compact_with_progress(|progress| {
            longest = longest.max(pages(&store));
            assert!(progress.done <= progress.of, "{progress:?}");
            if steps.last() != Some(&progress.step) {
                steps.push(progress.step);
            }
        })
        .expect("compacted");
    assert!(longest <= before, "{longest} pages on the way, {before} before");
    assert_eq!(steps.len(), 4, "{steps:?}");
    let live: usize = state.iter().map(|(key, value)| key.len() + value.len()).sum();
    let ratio = report.bytes_after as f64 / live as f64;
    // 31 of these fit a page, which is 1.14; this store is so small that its inner nodes and the superblock count.
    assert!(ratio < 1.2, "{ratio:.3} of {live} live bytes: {report:?}");
    assert_eq!(report.bytes_after, 8192 + pages(&store) * 4096);
    assert_eq!(report.bytes_after, disk.contents("/store/data").expect("there").len() as u64);
    assert!(report.freed_pages > 0 && report.moved_pages > 0, "{report:?}");
    assert_eq!(verified_contents(&store).expect("reads"), state);
    // Next to nothing is left to do (leaves that have one parent now), and the tree takes entries as before.
    let again = store.compact().expect("compacted");
    assert!(
        again.freed_pages + again.moved_pages <= 4 && again.bytes_after <= report.bytes_after,
        "{again:?}"
    );
    let tree = store.default_tree();
    for number in 0..3000_u64 {
        tree.put(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(), &[1; 90]).expect("put");
    }
    assert_eq!(verified_contents(&store).expect("reads").len(), state.len() + 3000);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
}

/// Pages that were cut off may have copies in the file of copies; they are not torn, they are gone.
#[test]
fn a_file_that_was_cut_is_as_short_when_it_is_opened_again() {
    let disk = SimDisk::new(4);
    let store = open(&disk).expect("a new store");
    for number in 0..4000_u32 {
        store.default_tree().put(&number.to_be_bytes(), &[7; 100]).expect("put");
        make_room(&store, number as usize);
    }
    for number in 0..3900_u32 {
        store.default_tree().remove(&number.to_be_bytes()).expect("removed");
        make_room(&store, number as usize);
    }
    let report = store.compact().expect("compacted");
    store.close().expect("closed");
    drop(store);
    let store = open(&disk).expect("opens");
    assert_eq!(8192 + pages(&store) * 4096, report.bytes_after, "{report:?}");
    assert_eq!(verified_contents(&store).expect("reads").len(), 100);
}

/// Named trees, long values and keys with long separators, at every page size.
#[test]
fn trees_and_long_values_agree_with_maps_afterwards() {
    for page in [4096, 16_384, 65_536] {
        let disk = SimDisk::new(page as u64);
        let page_size = pagestone_page_format::PageSize::new(page).expect("a size");
        let options = Options { page_size, pool_bytes: 48 * page, log_bytes: 64 << 20, ..small() };
        let store = Store::open_on(Arc::new(disk), Path::new(DIR), options).expect("a new store");
        let mut random = Rng::new(page as u64);
        let mut states: BTreeMap<&str, State> = BTreeMap::new();
        for round in 0..4000_u64 {
            let name = ["a", "b", "c"][random.below(3) as usize];
            let tree = store.tree(name).expect("a tree");
            let state = states.entry(name).or_default();
            let key = [vec![b'k'; random.below(3) as usize * 150], random.below(400).to_be_bytes().to_vec()]
                .concat();
            if random.below(5) == 0 {
                tree.remove(&key).expect("removed");
                state.remove(&key);
            } else {
                let len = [3, 100, 700, 5 * page][random.below(4) as usize] / (1 + random.below(3) as usize);
                let value = vec![round as u8; len];
                tree.put(&key, &value).expect("put");
                state.insert(key, value);
            }
        }
        for (name, state) in &mut states {
            let tree = store.tree(name).expect("a tree");
            for key in state.keys().filter(|_| random.below(3) > 0).cloned().collect::<Vec<_>>() {
                tree.remove(&key).expect("removed");
                state.remove(&key);
            }
        }
        let before = store.stats().expect("stats").data_pages;
        let report = store.compact().expect("compacted");
        assert!(report.moved_value_pages > 0, "{report:?}");
        assert!(report.bytes_after < before * page as u64 / 2, "{report:?}");
        for (name, state) in &states {
            let tree = store.tree(name).expect("a tree");
            let found = tree.range::<&[u8]>(..).collect::<Result<State, _>>().expect("reads");
            assert_eq!(&found, state);
            let back = tree.range::<&[u8]>(..).rev().collect::<Result<State, _>>().expect("reads");
            assert_eq!(&back, state);
        }
        let verified = store.verify().expect("looked");
        assert!(verified.is_sound(), "{:#?}", verified.findings);
    }
}

/// Three levels, of which much is gone, with values in the leaves and one past them.
fn small_store(disk: &SimDisk) -> (Store, State) {
    let store = open(disk).expect("a new store");
    let tree = store.default_tree();
    let mut state = State::new();
    let key =
        |number: u64| [vec![b'a' + number as u8 / 16; 440], format!("{number:04}").into_bytes()].concat();
    for number in 0..64 {
        let value = vec![number as u8; if number == 40 { 9000 } else { 500 }];
        tree.put(&key(number), &value).expect("put");
        state.insert(key(number), value);
    }
    for number in (0..64).filter(|number| number % 3 != 1 && *number != 40) {
        tree.remove(&key(number)).expect("removed");
        state.remove(&key(number));
    }
    (store, state)
}

#[test]
fn power_cut_anywhere_in_a_compaction() {
    let disk = SimDisk::new(1);
    let (store, state) = small_store(&disk);
    store.close().expect("closed");
    let disk = disk.power_cut(Keep::Everything);
    let store = open(&disk).expect("opens");
    disk.note(1);
    let report = store.compact().expect("compacted");
    assert!(report.freed_pages > 0 && report.moved_pages + report.moved_value_pages > 0, "{report:?}");
    disk.note(2);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    let options =
        CrashOptions { exhaustive_max: 8, pairs_max: 2, splits_max: 4, random: 2, ..CrashOptions::default() };
    let mut images = disk.crash_states(&options);
    let (mut looked, mut shortest, mut longest) = (0, u64::MAX, 0);
    for image in &mut images {
        if image.acknowledged().last().is_none() {
            continue; // before the compaction
        }
        let disk = image.disk();
        let store = open(&disk).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        let found = verified_contents(&store).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        assert!(found == state, "{} entries: {}", found.len(), image.explain());
        (looked, shortest, longest) = (looked + 1, shortest.min(pages(&store)), longest.max(pages(&store)));
    }
    assert!(looked > 200 && shortest < longest, "{looked} images, {shortest} to {longest} pages");
}

/// Every call to the disk fails once: what the compaction did by then stays done, and nothing is lost, in this handle or in the next.
#[test]
fn error_anywhere_in_a_compaction_loses_nothing() {
    let (mut failed, mut number) = (0, 0);
    loop {
        let disk = SimDisk::new(7);
        let (store, state) = small_store(&disk);
        let fault = disk.fail(FaultPlan::errno(5).skip(number));
        let outcome = store.compact();
        if disk.injected(fault) == 0 {
            outcome.expect("no fault, no error");
            break;
        }
        disk.heal();
        failed += u64::from(outcome.is_err());
        match contents(&store) {
            Ok(found) => assert_eq!(found, state, "call {number}"),
            Err(error) => assert!(matches!(error, StoreError::Page(_)), "call {number}: {error}"),
        }
        drop(store);
        let store = open(&disk).unwrap_or_else(|error| panic!("call {number}: {error}"));
        assert_eq!(verified_contents(&store).expect("reads"), state, "call {number}");
        store.compact().expect("a healthy disk");
        assert_eq!(verified_contents(&store).expect("reads"), state, "call {number}");
        number += 1;
    }
    assert!(failed > 20, "{failed} of {number} calls told an error");
}

/// Who reads, scans and writes beside it finds what he must: each thread its own keys as it left them, and every scan the keys that
/// nobody touches, once and in order.
#[test]
fn readers_scans_and_writers_beside_compactions() {
    let directory = tempfile::tempdir().expect("a directory");
    let interval = std::time::Duration::from_millis(50);
    let options = Options {
        pool_bytes: 96 * 4096,
        log_bytes: 4 << 20,
        segment_bytes: 1 << 20,
        durability: Durability::Relaxed { interval },
        background: Background::Threads,
        auto_compact: AutoCompact::Off, // what is counted is what the calls do
        ..Options::default()
    };
    let store = Store::open(directory.path().join("store"), options).expect("a new store");
    let stays = half_gone(&store, 6000, 9);
    let done = AtomicBool::new(false);
    let compactions = thread::scope(|scope| {
        let (store, stays, done) = (&store, &stays, &done);
        let writers: Vec<_> =
            (0..3_u8).map(|thread| scope.spawn(move || beside::writes(store, thread, 800, done))).collect();
        let scans = scope.spawn(move || {
            let mut scans = 0;
            while !done.load(Ordering::Relaxed) {
                beside::finds_what_stays(store, stays, scans % 2 == 0);
                scans += 1;
            }
            scans
        });
        let mut compactions = Vec::new();
        for _ in 0..8 {
            compactions.push(store.compact().expect("compacted"));
        }
        done.store(true, Ordering::Relaxed);
        let mut all = stays.clone();
        for writer in writers {
            all.extend(writer.join().expect("a thread"));
        }
        assert!(scans.join().expect("a thread") > 0);
        assert_eq!(verified_contents(store).expect("reads"), all);
        compactions
    });
    assert!(compactions.iter().map(|done| done.moved_pages + done.freed_pages).sum::<u64>() > 0);
}
