//! Prevents: a long value that is acknowledged and broken after a power cut, a reference to bytes that never reached the disk, pages
//! of a value that nobody has any more, and a record of what a page was before applied over a value (L8, L12, R1, R2).

mod support;

use std::collections::BTreeMap;

use pagestone_testkit::{CrashImage, CrashOptions, Rng, SimDisk};
use support::{State, Step, contents, open, states};

/// The state after every acknowledged step, or after the one under way too; and every page reachable or free.
fn check(image: &CrashImage, states: &[State]) {
    let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
    let store = open(&image.disk()).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
    let found = contents(&store).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
    let legal = &states[acknowledged..states.len().min(acknowledged + 2)];
    assert!(legal.contains(&found), "after {acknowledged} acknowledged steps: {}", image.explain());
    let report = store.verify().unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
    assert!(report.is_sound(), "{:?}: {}", report.findings, image.explain());
}

/// A few keys, values from nothing to some pages, each of bytes of its own; removed and replaced all the time.
fn script(seed: u64, steps: usize, checkpoint_every: u64) -> Vec<Step> {
    let mut random = Rng::new(seed);
    (0..steps)
        .map(|step| {
            let key = format!("key {}", random.below(7)).into_bytes();
            match random.below(10) {
                0 if checkpoint_every > 0 && random.below(checkpoint_every) < 6 => Step::Checkpoint,
                1..3 => Step::Remove(key),
                _ => {
                    let len = [900, 1200, 4064, 4065, 9000, 20_000][random.below(6) as usize];
                    Step::Put(key, (0..len).map(|at| (at as u8).wrapping_mul(31) ^ step as u8).collect())
                }
            }
        })
        .collect()
}

fn run(disk: &SimDisk, script: &[Step]) {
    support::run(disk, script);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
}

#[test]
fn torn_anywhere_while_no_other_page_is_written() {
    // No checkpoint and no eviction: the data file sees pages of values alone, so sectors of them are torn and lost at will.
    let script = script(3, 30, 0);
    let disk = SimDisk::new(1);
    run(&disk, &script);
    let options =
        CrashOptions { exhaustive_max: 16, pairs_max: 8, splits_max: 16, ..CrashOptions::default() };
    let states = states(&script);
    let mut images = disk.crash_states(&options);
    for image in &mut images {
        check(&image, &states);
    }
    let images = images.stats().images;
    assert!(images > 1000, "only {images} images");
}

#[test]
fn beside_checkpoints_that_let_the_space_be_used_again() {
    let script = script(4, 60, 6);
    assert!(script.iter().filter(|step| matches!(step, Step::Checkpoint)).count() >= 4);
    let disk = SimDisk::new(1);
    run(&disk, &script);
    let options =
        CrashOptions { exhaustive_max: 8, pairs_max: 4, splits_max: 4, random: 2, ..CrashOptions::default() };
    let states = states(&script);
    let mut images = disk.crash_states(&options);
    for image in &mut images {
        check(&image, &states);
    }
    let images = images.stats().images;
    assert!(images > 1000, "only {images} images");
}

/// Nodes that the checkpoint has written are changed, freed, and left to redo, which needs them as they were: values must not come
/// to lie there before another checkpoint has passed.
#[test]
fn redo_of_a_freed_node_finds_no_value_in_its_place() {
    let disk = SimDisk::new(1);
    let value = |n: u8| vec![n; 12_000];
    let store = open(&disk).expect("a healthy disk");
    let mut acknowledged = 0;
    for round in 0..3u8 {
        let nodes = store.tree("nodes").expect("a healthy disk");
        for n in 0..40 {
            nodes.put(&[n; 30], &[n; 600]).expect("a healthy disk");
        }
        store.checkpoint().expect("a healthy disk");
        store.checkpoint().expect("a healthy disk");
        drop(nodes);
        store.drop_tree("nodes").expect("a healthy disk");
        for n in 0..3 {
            store.default_tree().put(&[round, n], &value(10 * round + n)).expect("a healthy disk");
            acknowledged += 1;
            disk.note(acknowledged);
        }
    }
    drop(store);
    let options =
        CrashOptions { exhaustive_max: 4, pairs_max: 2, splits_max: 6, random: 1, ..CrashOptions::default() };
    let mut checked = 0;
    for image in disk.crash_states(&options).step_by(9) {
        let acknowledged = image.acknowledged().last().copied().unwrap_or(0);
        let store = open(&image.disk()).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        let found: BTreeMap<_, _> =
            contents(&store).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        for number in 0..acknowledged as u8 {
            let key = [number / 3, number % 3];
            assert_eq!(found.get(&key[..]), Some(&value(10 * key[0] + key[1])), "{}", image.explain());
        }
        assert!(found.len() as u64 <= acknowledged + 1);
        assert!(store.verify().expect("reads").is_sound(), "{}", image.explain());
        checked += 1;
    }
    assert!(checked > 200, "only {checked} images");
}

/// C11, R6: cut in its recovery, and recovered again.
#[test]
fn recovery_survives_every_cut_of_itself() {
    let script = script(5, 25, 6);
    let disk = SimDisk::new(1);
    run(&disk, &script);
    let states = states(&script);
    let few =
        CrashOptions { exhaustive_max: 2, pairs_max: 0, splits_max: 1, random: 1, ..CrashOptions::default() };
    let mut second = 0;
    for first in disk.crash_states(&few).step_by(31) {
        let acknowledged = first.acknowledged().last().map_or(0, |last| *last as usize);
        let crashed = first.disk();
        let store = open(&crashed).expect("recovers");
        let expected = contents(&store).expect("reads");
        assert!(states[acknowledged..].iter().take(2).any(|state| *state == expected), "{}", first.explain());
        // And goes on: where the value under way was, others come to lie.
        store.default_tree().put(b"key 8", &vec![8; 30_000]).expect("a healthy disk");
        let after: State = contents(&store).expect("reads");
        drop(store);
        for again in crashed.crash_states(&few).step_by(3) {
            let store = open(&again.disk())
                .unwrap_or_else(|error| panic!("{error}: {} after {}", again.explain(), first.explain()));
            let found = contents(&store).expect("reads");
            assert!(found == expected || found == after, "{} after {}", again.explain(), first.explain());
            assert!(
                store.verify().expect("reads").is_sound(),
                "{} after {}",
                again.explain(),
                first.explain()
            );
            second += 1;
        }
    }
    assert!(second > 200, "only {second} images of recoveries");
}
