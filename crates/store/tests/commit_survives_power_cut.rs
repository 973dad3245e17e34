//! Prevents: an acknowledged write that a power cut takes away; a recovered state that never was; a page that a power cut leaks
//! or gives to two owners (R1, R2, C1 to C9, C12). Every file is torn anywhere between two sectors, the data file too.

mod support;

use pagestone_testkit::{CrashImage, CrashOptions, SimDisk};
use support::{State, Step, contents, open, run, script, states, verified_contents};

/// The state after every acknowledged step, or after the one under way too.
fn check(image: &CrashImage, states: &[State]) {
    let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
    let store = open(&image.disk()).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
    let found = verified_contents(&store).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
    let legal = &states[acknowledged..states.len().min(acknowledged + 2)];
    assert!(
        legal.contains(&found),
        "after {acknowledged} acknowledged steps {} entries were found, {} expected: {}",
        found.len(),
        legal[0].len(),
        image.explain()
    );
}

fn enumerate(script: &[Step], options: CrashOptions) -> u64 {
    let disk = SimDisk::new(1);
    run(&disk, script);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    let states = states(script);
    let mut images = disk.crash_states(&options);
    for image in &mut images {
        check(&image, &states);
    }
    images.stats().images
}

#[test]
fn creation_and_first_writes_survive_every_cut() {
    // No checkpoint, no eviction: no data page is under way but in the creation, so superblock and log have all the images.
    let script: Vec<Step> = (0..6).map(|n| Step::Put(vec![n], vec![n; 150 * usize::from(n)])).collect();
    let images = enumerate(&script, CrashOptions { exhaustive_max: 1024, ..CrashOptions::default() });
    assert!(images > 100, "only {images} images");
}

#[test]
fn splits_evictions_and_checkpoints_survive_every_cut() {
    let options = CrashOptions { exhaustive_max: 64, pairs_max: 8, splits_max: 8, ..CrashOptions::default() };
    let images = enumerate(&script(8, 160, 40), options);
    assert!(images > 1000, "only {images} images");
}

#[test]
fn garbage_in_a_sector_under_way_is_no_worse_than_a_tear() {
    let options = CrashOptions {
        garbage: true,
        exhaustive_max: 16,
        pairs_max: 4,
        splits_max: 4,
        ..CrashOptions::default()
    };
    enumerate(&script(9, 40, 12), options);
}

/// C11, R6: a recovery that is cut, and recovered again, gives what recovering gives.
#[test]
fn recovery_survives_every_cut_of_itself() {
    let script = script(11, 60, 15);
    let disk = SimDisk::new(1);
    run(&disk, &script);
    let states = states(&script);
    let few =
        CrashOptions { exhaustive_max: 2, pairs_max: 0, splits_max: 2, random: 1, ..CrashOptions::default() };
    let mut second = 0;
    for first in disk.crash_states(&few).step_by(41) {
        let acknowledged = first.acknowledged().last().map_or(0, |last| *last as usize);
        let crashed = first.disk();
        let expected = contents(&open(&crashed).expect("recovers")).expect("reads");
        assert!(states[acknowledged..].iter().take(2).any(|state| *state == expected), "{}", first.explain());
        for again in crashed.crash_states(&few) {
            let found =
                verified_contents(&open(&again.disk()).unwrap_or_else(|error| {
                    panic!("{error}: {} after {}", again.explain(), first.explain())
                }))
                .expect("reads");
            assert!(found == expected, "{} after {}", again.explain(), first.explain());
            second += 1;
        }
    }
    assert!(second > 500, "only {second} images of recoveries");
}
