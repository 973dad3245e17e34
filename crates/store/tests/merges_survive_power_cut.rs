//! Prevents: a crash in the middle of a merge, or of a root that shrinks, that loses an entry, leaks a page, leaves one in the tree
//! that is free, or lets an id be handed out twice (R1, R2, L8, C1 to C9).

mod support;

use pagestone_page_format::DEFAULT_PAGE_SIZE;
use pagestone_testkit::{CrashImage, CrashOptions, Rng, SimDisk};
use support::census::Census;
use support::{State, Step, contents, open, run, states};

/// Enough for three levels.
const KEYS: u64 = 48;

/// Long and alike within sixteen, unlike beyond, so that separators are long and nodes share no prefix: an inner node holds eight.
fn key(number: u64) -> Vec<u8> {
    [vec![b'a' + number as u8 / 16; 440], format!("{number:04}").into_bytes()].concat()
}

/// A leaf holds four.
fn put(number: u64, salt: u8) -> Step {
    Step::Put(key(number), vec![salt ^ number as u8; 500])
}

/// Grows a tree of three levels, empties it in some order, with checkpoints, and grows it again.
fn grow_and_shrink(order: impl Fn(&mut Vec<u64>), keys: u64, again: u64) -> Vec<Step> {
    let mut numbers: Vec<u64> = (0..keys).collect();
    let mut script: Vec<Step> = numbers.iter().map(|number| put(*number, 1)).collect();
    script.push(Step::Checkpoint);
    order(&mut numbers);
    for (index, number) in numbers.iter().enumerate() {
        script.push(Step::Remove(key(*number)));
        if index % 13 == 12 {
            script.push(Step::Checkpoint);
        }
    }
    script.extend((0..again).map(|number| put(number, 2)));
    script
}

/// Data pages are whole or old here: what tears in them is mended once pages are written twice.
fn options() -> CrashOptions {
    CrashOptions { exhaustive_max: 8, pairs_max: 2, splits_max: 4, random: 1, ..CrashOptions::default() }
        .page_atomic(|path| path.to_string_lossy().starts_with("/store/data"))
}

/// The state after every acknowledged step, or after the one under way too, and no page of two owners or of none.
fn check(image: &CrashImage, states: &[State]) {
    let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
    let disk = image.disk();
    let store = open(&disk).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
    let found = contents(&store).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
    let legal = &states[acknowledged..states.len().min(acknowledged + 2)];
    assert!(
        legal.contains(&found),
        "after {acknowledged} steps, {} entries: {}",
        found.len(),
        image.explain()
    );
    Census::of(&store, &disk, DEFAULT_PAGE_SIZE);
}

fn enumerate(script: &[Step], each: impl Fn(&CrashImage, &[State])) {
    let disk = SimDisk::new(1);
    run(&disk, script);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    let states = states(script);
    let mut images = disk.crash_states(&options());
    for image in &mut images {
        each(&image, &states);
    }
    let images = images.stats().images;
    assert!(images > 500, "only {images} images");
}

/// The premise: that these scripts merge leaves and inner nodes, and shrink the root twice.
#[test]
fn the_scripts_do_what_they_are_for() {
    let disk = SimDisk::new(1);
    let store = open(&disk).expect("a healthy disk");
    let script = grow_and_shrink(|_| {}, KEYS, 0);
    for (number, step) in script.iter().enumerate() {
        step.run(&store).expect("a healthy disk");
        if number as u64 == KEYS {
            assert!(store.stats().expect("stats").tree.height >= 3);
        }
    }
    let stats = store.stats().expect("stats").tree;
    assert!(stats.height == 1 && stats.shrinks >= 2 && stats.merges >= 8, "{stats:?}");
    assert_eq!(Census::of(&store, &disk, DEFAULT_PAGE_SIZE).nodes.len(), 1);
}

#[test]
fn removals_in_key_order() {
    enumerate(&grow_and_shrink(|_| {}, KEYS, 6), check);
}

#[test]
fn removals_against_key_order() {
    enumerate(&grow_and_shrink(|numbers| numbers.reverse(), KEYS, 6), check);
}

#[test]
fn removals_in_random_order() {
    enumerate(&grow_and_shrink(|numbers| Rng::new(5).shuffle(numbers), KEYS, 6), check);
}

/// After each cut the tree grows past what it ever was: every id that is handed out then is one that no page of the tree has.
#[test]
fn an_id_handed_out_twice_after_a_crash() {
    let script = grow_and_shrink(|numbers| Rng::new(6).shuffle(numbers), 24, 3);
    enumerate(&script, |image, states| {
        check(image, states);
        let disk = image.disk();
        let store = open(&disk).expect("recovers");
        let mut expected = contents(&store).expect("reads");
        for number in 100..130 {
            store.default_tree().put(&key(number), b"after the crash").expect("put");
            expected.insert(key(number), b"after the crash".to_vec());
        }
        assert!(contents(&store).expect("reads") == expected, "{}", image.explain());
        Census::of(&store, &disk, DEFAULT_PAGE_SIZE);
    });
}

/// Pages are freed while they are dirty, their ids are used again before they were written, and the cuts come while either version
/// is on its way to the disk: neither the map nor the node that has the id now is ever overwritten by what the page was.
#[test]
fn a_freed_page_still_dirty_in_the_pool_overwriting_the_free_list() {
    let mut script: Vec<Step> = (0..16).map(|number| put(number, 1)).collect();
    for round in 0..6_u8 {
        let (from, to) = if round % 2 == 0 { (0, 12) } else { (4, 16) };
        script.extend((from..to).map(|number| Step::Remove(key(number))));
        if round % 3 == 1 {
            script.push(Step::Checkpoint);
        }
        script.extend((from..to).map(|number| put(number, round + 2)));
    }
    script.push(Step::Checkpoint);
    enumerate(&script, check);
}
