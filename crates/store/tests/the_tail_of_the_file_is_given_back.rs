//! Prevents: a data file that never becomes shorter, and one that became too short: a crash beside a cut after which recovery misses a page
//! that its log changes, or a page that is given out behind the end of the file (R1, R2, L6, L7, L8).

mod support;

use std::path::Path;
use std::sync::Arc;

use pagestone_allocator::region_bits;
use pagestone_page_format::DEFAULT_PAGE_SIZE;
use pagestone_store::{Durability, Options, Store};
use pagestone_testkit::{CrashOptions, DiskOp, FaultPlan, Keep, SimDisk};
use support::{DIR, Step, open, run, small, states, verified_contents};

/// Entries of the grown tree.
const GROWN: u64 = 120;

/// A leaf holds four.
fn put(number: u64, salt: u8) -> Step {
    Step::Put(format!("{number:04}").into_bytes(), vec![salt ^ number as u8; 900])
}

fn remove(number: u64) -> Step {
    Step::Remove(format!("{number:04}").into_bytes())
}

fn grow() -> impl Iterator<Item = Step> {
    (0..GROWN).map(|number| put(number, 1))
}

/// A tree that has grown loses what stands at the end of the file, and grows again; checkpoints in between cut it.
fn shrink_and_grow() -> Vec<Step> {
    let mut script: Vec<Step> = (8..GROWN).rev().map(remove).collect();
    script.extend([Step::Checkpoint, Step::Checkpoint]);
    script.extend((700..720).map(|number| put(number, 2)));
    script.push(Step::Checkpoint);
    script
}

fn pages(store: &Store) -> u64 {
    store.stats().expect("stats").data_pages
}

fn run_on(store: &Store, steps: impl IntoIterator<Item = Step>) {
    steps.into_iter().for_each(|step| step.run(store).expect("a healthy disk"));
}

#[test]
fn file_becomes_shorter_after_checkpoints_and_grows_again() {
    let disk = SimDisk::new(1);
    let store = open(&disk).expect("a new store");
    run_on(&store, grow().chain([Step::Checkpoint]));
    let grown = pages(&store);
    run_on(&store, (8..GROWN).rev().map(remove));
    assert_eq!(pages(&store), grown, "no checkpoint has passed");
    run_on(&store, [Step::Checkpoint]);
    assert_eq!(pages(&store), grown, "a recovery from the older copy needs what was freed");
    run_on(&store, [Step::Checkpoint]);
    let cut = pages(&store);
    assert!(cut < grown / 2, "{cut} pages of {grown}");
    assert_eq!(disk.contents("/store/data").expect("there").len() as u64, 8192 + cut * 4096);
    assert_eq!(store.stats().expect("stats").cut_pages, grown - cut);
    run_on(&store, (700..820).map(|number| put(number, 2)));
    assert_eq!(verified_contents(&store).expect("reads").len(), 8 + 120);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
}

#[test]
fn power_cut_anywhere_beside_a_cut() {
    let grown = SimDisk::new(1);
    run_on(&open(&grown).expect("a new store"), grow().chain([Step::Checkpoint]));
    let disk = grown.power_cut(Keep::Everything);
    let script: Vec<Step> = shrink_and_grow();
    run(&disk, &script);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    let all: Vec<Step> = grow().chain(script.iter().cloned()).collect();
    let states = &states(&all)[GROWN as usize..];
    let options =
        CrashOptions { exhaustive_max: 4, pairs_max: 0, splits_max: 1, random: 1, ..CrashOptions::default() };
    let mut images = disk.crash_states(&options);
    let mut shortest = u64::MAX;
    for image in &mut images {
        let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
        let store = open(&image.disk()).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        shortest = shortest.min(pages(&store));
        let found = verified_contents(&store).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        let legal = &states[acknowledged..states.len().min(acknowledged + 2)];
        assert!(legal.contains(&found), "after {acknowledged} steps: {}", image.explain());
    }
    assert!(
        images.stats().images > 500 && shortest < 50,
        "{} images, {shortest} pages",
        images.stats().images
    );
}

/// Space is lost for a while and nothing else.
#[test]
fn cut_that_fails_is_counted_and_tried_again() {
    let disk = SimDisk::new(1);
    drop(open(&disk).expect("a new store")); // its file had another name first
    let store = open(&disk).expect("opens");
    run_on(&store, grow().chain([Step::Checkpoint]).chain((8..GROWN).rev().map(remove)));
    let grown = pages(&store);
    let fault =
        disk.fail(FaultPlan::errno(5).on(DiskOp::SetLen).path(|path| path.ends_with("data")).forever());
    run_on(&store, [Step::Checkpoint, Step::Checkpoint, Step::Checkpoint]);
    let stats = store.stats().expect("stats");
    assert!(disk.injected(fault) > 0 && stats.failed_cuts > 0 && stats.data_pages == grown, "{stats:?}");
    disk.heal();
    run_on(&store, [put(800, 1), Step::Checkpoint, put(800, 2), Step::Checkpoint]);
    assert!(pages(&store) < grown / 2);
    assert_eq!(verified_contents(&store).expect("reads").len(), 9);
}

/// The space map of a file that was larger once does not keep it large.
#[test]
fn regions_of_a_dropped_tree_go_with_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let interval = std::time::Duration::from_secs(1);
    let options = Options { durability: Durability::Relaxed { interval }, ..small() };
    let store = Store::open(directory.path().join("store"), options).expect("a new store");
    let region = region_bits(DEFAULT_PAGE_SIZE);
    let value = vec![7; 16 << 20];
    let fill = |name: &str| {
        let tree = store.tree(name).expect("a new tree");
        for number in 0..9_u64 {
            tree.put(&number.to_be_bytes(), &value).expect("put");
        }
        assert!(pages(&store) > region, "a second region: {}", pages(&store));
        let report = store.verify().expect("looked");
        assert!(report.is_sound() && report.map_pages == 2, "{report:?}");
    };
    fill("large");
    store.drop_tree("large").expect("dropped");
    for number in 0..4 {
        run_on(&store, [put(number, 1), Step::Checkpoint]);
    }
    assert!(pages(&store) < 64, "{} pages for a few entries", pages(&store));
    let report = store.verify().expect("looked");
    assert!(report.is_sound() && report.map_pages == 1, "{report:?}");
    fill("large again");
}

/// Its map page is not all that a recovery from before needs: the log changes the pages that were freed in it, and redo has no base for them
/// if the file has lost them.
#[test]
fn pages_of_a_dropped_region_stay_while_a_recovery_may_meet_them() {
    let disk = SimDisk::new(1);
    let options = Options { pool_bytes: 4 << 20, ..small() };
    let store = Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options).expect("a new store");
    let values = store.tree("values").expect("made");
    let mut number = 0_u64;
    let mut value = |len: usize| {
        number += 1;
        values.put(&number.to_be_bytes(), &vec![7; len]).expect("put");
        store.checkpoint().expect("a healthy disk");
    };
    (0..7).for_each(|_| value(16 << 20));
    (0..30).for_each(|_| value(512 << 10)); // past the end of the first region
    // A short tail is not cut.
    (0..3).for_each(|_| value(16 << 20));
    let trees = ["one", "two", "three"].map(|name| store.tree(name).expect("made"));
    for tree in &trees {
        for key in 0..400_u32 {
            tree.put(&key.to_be_bytes(), &[1; 900]).expect("put");
        }
        run_on(&store, [Step::Checkpoint, Step::Checkpoint]);
    }
    let write = || (0..90).for_each(|number| run_on(&store, [put(number % 4, 3)]));
    let grown = pages(&store);
    store.drop_tree("values").expect("dropped");
    for name in ["one", "two", "three"] {
        store.drop_tree(name).expect("dropped");
        write();
    }
    for _ in 0..8 {
        // Publishes what begins ever further behind the log's end: before the drops, between them, behind them.
        write();
        store.tick().expect("a healthy disk");
        let after = open(&disk.power_cut(Keep::Everything)).expect("recovers");
        assert_eq!(verified_contents(&after).expect("reads").len(), 4);
    }
    let left = pages(&store);
    assert!(left < grown / 2, "{left} pages of {grown}, once no recovery meets them");
}
