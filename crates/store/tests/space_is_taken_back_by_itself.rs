//! Prevents: a file that stays at twice of what is live where entries come and go at random places; and a background that loses an entry, goes
//! on for ever, logs more than its share, or leaves less than there was when a crash or an error ends it (R1, R2, B5, L8, V1).

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pagestone_page_format::PageSize;
use pagestone_store::{AutoCompact, Background, Durability, Options, Store, StoreError};
use pagestone_testkit::{CrashOptions, FaultPlan, Rng, SimDisk};
use support::churn::rest;
use support::{DIR, State, beside, contents, small, verified_contents};

/// With room for a few thousand entries in the log, and little in the pool.
fn options() -> Options {
    Options { pool_bytes: 64 * 4096, log_bytes: 8 << 20, segment_bytes: 1 << 20, ..small() }
}

fn open(disk: &SimDisk, auto_compact: AutoCompact) -> Result<Store, StoreError> {
    Store::open_on(Arc::new(disk.clone()), Path::new(DIR), Options { auto_compact, ..options() })
}

const PACED: AutoCompact = AutoCompact::DEFAULT;

/// Entries of 16 and 100 bytes in random order, every one of them replaced by another once.
fn churned(store: &Store, entries: u64, seed: u64) -> State {
    let (tree, mut random, mut state) = (store.default_tree(), Rng::new(seed), State::new());
    let mut keys = Vec::new();
    for turn in 0..2 * entries {
        let key = [random.next_u64().to_be_bytes(), turn.to_be_bytes()].concat();
        tree.put(&key, &[key[0]; 100]).expect("put");
        state.insert(key.clone(), vec![key[0]; 100]);
        keys.push(key);
        if keys.len() as u64 > entries {
            let gone = keys.swap_remove(random.below(entries) as usize);
            tree.remove(&gone).expect("removed");
            state.remove(&gone);
        }
        if turn % 256 == 0 {
            store.tick().expect("a healthy disk");
        }
    }
    state
}

fn of_live(store: &Store, state: &State) -> f64 {
    let live: usize = state.iter().map(|(key, value)| key.len() + value.len()).sum();
    (8192 + store.stats().expect("stats").data_pages * 4096) as f64 / live as f64
}

#[test]
fn entries_that_came_and_went_anywhere_leave_the_file_within_1_3_of_what_is_live() {
    let (disk, left_alone) = (SimDisk::new(1), SimDisk::new(1));
    let store = open(&disk, PACED).expect("a new store");
    let state = churned(&store, 8000, 3);
    rest(&store);
    let ratio = of_live(&store, &state);
    let done = store.stats().expect("stats").auto_compact;
    assert!(ratio <= 1.3, "{ratio:.3}: {done:?}");
    assert!(
        done.freed_pages > 0 && done.moved_pages > 0 && done.log_bytes > 0 && done.failed == 0,
        "{done:?}"
    );
    assert_eq!(verified_contents(&store).expect("reads"), state);
    // An idle store stays idle.
    let (before, log) =
        (store.stats().expect("stats").auto_compact, store.stats().expect("stats").log.end_lsn);
    for _ in 0..40 {
        store.tick().expect("a healthy disk");
    }
    assert_eq!(
        (store.stats().expect("stats").auto_compact, store.stats().expect("stats").log.end_lsn),
        (before, log)
    );
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    // What it is compared with.
    let store = open(&left_alone, AutoCompact::Off).expect("a new store");
    assert_eq!(churned(&store, 8000, 3), state);
    rest(&store);
    assert!(of_live(&store, &state) > 1.6, "nothing to take back: {:.3}", of_live(&store, &state));
}

/// Beside who writes it logs no more than it may; the rest comes once nobody writes.
#[test]
fn beside_writers_it_logs_no_more_than_its_share() {
    let disk = SimDisk::new(2);
    let store = open(&disk, AutoCompact::Paced { log_percent: 10 }).expect("a new store");
    let (tree, mut random) = (store.default_tree(), Rng::new(4));
    for turn in 0..20_000_u64 {
        tree.put(&random.next_u64().to_be_bytes(), &[turn as u8; 100]).expect("put");
        if turn % 64 == 0 {
            store.tick().expect("a healthy disk");
        }
    }
    let stats = store.stats().expect("stats");
    let (all, ours) = (stats.log.end_lsn.get(), stats.auto_compact.log_bytes);
    assert!(ours > 0 && ours <= (all - ours) / 10 + (64 << 10), "{ours} bytes of {all}");
    rest(&store);
    let rested = store.stats().expect("stats").auto_compact.log_bytes;
    assert!(rested > 2 * ours, "{rested} bytes, {ours} of them beside writers");
    assert!(verified_contents(&store).expect("reads").len() == 20_000);
}

/// Writers that log a little between any two turns are no store at rest.
#[test]
fn beside_slow_writers_it_logs_no_more_than_its_share() {
    let disk = SimDisk::new(2);
    let store = open(&disk, AutoCompact::Paced { log_percent: 10 }).expect("a new store");
    let (tree, mut random) = (store.default_tree(), Rng::new(4));
    for turn in 0..20_000_u64 {
        tree.put(&random.next_u64().to_be_bytes(), &[turn as u8; 100]).expect("put");
        if turn % 10 == 0 {
            // What was logged stays below a block, at most every other turn.
            store.tick().expect("a healthy disk");
            store.tick().expect("a healthy disk");
        }
    }
    let stats = store.stats().expect("stats");
    let (all, ours) = (stats.log.end_lsn.get(), stats.auto_compact.log_bytes);
    assert!(ours > 0 && ours <= (all - ours) / 10 + (64 << 10), "{ours} bytes of {all}");
    rest(&store);
    let rested = store.stats().expect("stats").auto_compact;
    assert!(
        rested.log_bytes > 2 * ours && rested.failed == 0,
        "{rested:?}, {ours} bytes of it beside writers"
    );
    assert!(verified_contents(&store).expect("reads").len() == 20_000);
}

/// Otherwise what is read ahead of nobody stands in front of what is read for somebody, for as long as the whole tree takes.
#[test]
fn beside_readers_of_what_is_not_in_memory_a_turn_is_short() {
    let ticks_of_a_round = |reads: usize| {
        let disk = SimDisk::new(6);
        let store = open(&disk, AutoCompact::Off).expect("a new store");
        let state = churned(&store, 4000, 5);
        store.close().expect("closed");
        drop(store);
        // So small a share that most of it comes at rest.
        let store = open(&disk, AutoCompact::Paced { log_percent: 1 }).expect("opens");
        store.tick().expect("a healthy disk");
        make_due(&store, &state);
        let rounds = || store.stats().expect("stats").auto_compact.rounds;
        let (before, mut ticks, mut keys) = (rounds(), 0, state.keys().cycle().step_by(499));
        while rounds() == before {
            for key in keys.by_ref().take(reads) {
                assert!(store.default_tree().get(key).expect("reads").is_some());
            }
            store.tick().expect("a healthy disk");
            ticks += 1;
            assert!(ticks < 10_000, "it comes to no end beside readers");
        }
        assert_eq!(verified_contents(&store).expect("reads"), state);
        ticks
    };
    let (alone, beside) = (ticks_of_a_round(0), ticks_of_a_round(10));
    assert!(beside > 4 * alone, "{alone} turns alone, {beside} beside readers");
}

/// Where `tick` alone makes room in the log, a turn that waits for it waits for nobody.
#[test]
fn turn_ends_before_a_small_log_is_full() {
    let disk = SimDisk::new(4);
    let page_size = PageSize::new(16 << 10).expect("a page size");
    let options = Options { page_size, pool_bytes: 64 * (16 << 10), log_bytes: 2 << 20, ..small() };
    let store = Store::open_on(Arc::new(disk), Path::new(DIR), options).expect("a new store");
    let state = churned(&store, 24_000, 3);
    rest(&store);
    let stats = store.stats().expect("stats");
    assert!(stats.auto_compact.freed_pages > 0 && stats.auto_compact.failed == 0, "{:?}", stats.auto_compact);
    assert!(stats.log.used_max <= stats.log.budget / 4 * 3, "{:?}", stats.log);
    assert_eq!(verified_contents(&store).expect("reads"), state);
}

/// A round that came beside the last removals makes no checkpoints; nobody else does once nobody writes.
#[test]
fn file_gets_short_once_nobody_writes_whenever_the_round_came() {
    for ticks in [1, 2, 5, 20] {
        let disk = SimDisk::new(5);
        // So much log that no checkpoint is due meanwhile, and so large a share that the round ends before there is rest.
        let auto_compact = AutoCompact::Paced { log_percent: 1000 };
        let options = Options { log_bytes: 64 << 20, segment_bytes: 4 << 20, auto_compact, ..options() };
        let store = Store::open_on(Arc::new(disk), Path::new(DIR), options).expect("a new store");
        let state = churned(&store, 8000, 3);
        rest(&store);
        for (number, key) in state.keys().enumerate() {
            assert!(store.default_tree().remove(key).expect("removed"));
            if number % (state.len() / ticks) == 0 {
                store.tick().expect("a healthy disk");
            }
        }
        rest(&store);
        let stats = store.stats().expect("stats");
        assert!(
            stats.data_pages <= 64,
            "{} pages, {ticks} ticks: {:?}",
            stats.data_pages,
            stats.auto_compact
        );
    }
}

/// A store of some hundred pages that has something to take back, and nothing under way.
fn half_empty(disk: &SimDisk) -> (Store, State) {
    let store = open(disk, AutoCompact::Off).expect("a new store");
    let state = churned(&store, 900, 5);
    store.close().expect("closed");
    drop(store);
    disk.settle();
    let store = open(disk, PACED).expect("opens");
    store.tick().expect("a healthy disk"); // it goes by what is logged from here on
    (store, state)
}

/// Writes as much as makes it begin: the same values again.
fn make_due(store: &Store, state: &State) {
    for _ in 0..4 {
        for (key, value) in state {
            store.default_tree().put(key, value).expect("put");
        }
    }
}

#[test]
fn power_cut_anywhere_meanwhile() {
    let disk = SimDisk::new(3);
    let (store, state) = half_empty(&disk);
    make_due(&store, &state);
    store.sync().expect("a healthy disk");
    disk.settle();
    disk.note(1);
    rest(&store);
    let done = store.stats().expect("stats").auto_compact;
    assert!(done.freed_pages > 5 && done.moved_pages > 5, "{done:?}");
    let options =
        CrashOptions { exhaustive_max: 8, pairs_max: 2, splits_max: 4, random: 2, ..CrashOptions::default() };
    let mut images = disk.crash_states(&options);
    let mut looked = 0;
    for image in &mut images {
        if image.acknowledged().last().is_none() {
            continue; // before it
        }
        looked += 1;
        if looked % 3 != 0 {
            continue;
        }
        let disk = image.disk();
        let store = open(&disk, PACED).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        let found = verified_contents(&store).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        assert!(found == state, "{} entries: {}", found.len(), image.explain());
    }
    assert!(looked > 100, "{looked} images");
}

/// Every call to the disk fails once: what was done by then stays done, and nothing is lost, in this handle or in the next.
#[test]
fn error_anywhere_meanwhile_loses_nothing() {
    let (mut number, mut done) = (0, false);
    while !done {
        let disk = SimDisk::new(7);
        let (store, state) = half_empty(&disk);
        make_due(&store, &state);
        let fault = disk.fail(FaultPlan::errno(5).skip(number));
        // Until it is met, or there is nothing more to do.
        for _ in 0..90 {
            if store.tick().is_err() {
                break;
            }
        }
        done = disk.injected(fault) == 0;
        disk.heal();
        match contents(&store) {
            Ok(found) => assert_eq!(found, state, "call {number}"),
            Err(error) => assert!(matches!(error, StoreError::Page(_)), "call {number}: {error}"),
        }
        drop(store);
        let store = open(&disk, PACED).unwrap_or_else(|error| panic!("call {number}: {error}"));
        assert_eq!(verified_contents(&store).expect("reads"), state, "call {number}");
        number += 7;
    }
    assert!(number > 70, "{number} calls");
}

/// Who reads, scans and writes beside it finds what he must: each thread its own keys as it left them, and every scan the keys that
/// nobody touches, once and in order.
#[test]
fn readers_scans_and_writers_beside_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options {
        pool_bytes: 256 * 4096,
        log_bytes: 16 << 20,
        durability: Durability::Relaxed { interval: Duration::from_millis(50) },
        background: Background::Threads,
        auto_compact: AutoCompact::Paced { log_percent: 200 },
        ..options()
    };
    let store = Store::open(directory.path().join("store"), options).expect("a new store");
    let stays: State = {
        let mut random = Rng::new(9);
        (0..6000_u64)
            .map(|turn| ([random.next_u64().to_be_bytes(), turn.to_be_bytes()].concat(), vec![1; 90]))
            .collect()
    };
    let mut shuffled: Vec<_> = stays.iter().collect();
    Rng::new(10).shuffle(&mut shuffled);
    for (key, value) in shuffled {
        store.default_tree().put(key, value).expect("put");
    }
    let done = AtomicBool::new(false);
    let all = thread::scope(|scope| {
        let (store, stays, done) = (&store, &stays, &done);
        let writers: Vec<_> =
            (0..3_u8).map(|thread| scope.spawn(move || beside::writes(store, thread, 3000, done))).collect();
        for scan in 0.. {
            let now = store.stats().expect("stats").auto_compact;
            if scan >= 20 && now.rounds >= 3 {
                break;
            }
            beside::finds_what_stays(store, stays, scan % 2 == 0);
        }
        done.store(true, Ordering::Relaxed);
        let mut all = stays.clone();
        writers.into_iter().for_each(|writer| all.extend(writer.join().expect("a thread")));
        all
    });
    // Beside it too nothing is wrong; but only at rest do the figures of a report add up.
    while {
        let report = store.verify().expect("looked");
        assert!(report.is_sound(), "{:#?}", report.findings);
        store.stats().expect("stats").auto_compact.under_way
    } {}
    assert_eq!(contents(&store).expect("reads"), all);
    let done = store.stats().expect("stats").auto_compact;
    assert!(done.freed_pages > 0 && done.failed == 0, "{done:?}");
    store.close().expect("closed");
    drop(store);
    let last = Options { background: Background::Manual, ..self::options() };
    let store = Store::open(directory.path().join("store"), last).expect("opens");
    assert_eq!(verified_contents(&store).expect("reads"), all);
}
