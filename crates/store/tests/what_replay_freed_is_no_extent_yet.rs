//! Prevents: a long value that is written, past the log, over pages that the replayed log changed and then freed. A power cut in that write
//! tears them, the log is replayed once more, and redo needs a page that nobody can read: the store does not open (L8).

mod support;

use pagestone_testkit::{CrashOptions, SimDisk};
use support::{Step, open, states, verified_contents};

const KEYS: u64 = 48;

fn key(number: u64) -> Vec<u8> {
    [vec![b'a' + number as u8 / 16; 440], format!("{number:04}").into_bytes()].concat()
}

/// Pages of a long value: fewer than the removals free.
const PAGES: usize = 4;

fn long(number: u64) -> Step {
    Step::Put(format!("long {number}").into_bytes(), vec![number as u8; PAGES * 4000])
}

/// Behind the last checkpoint every leaf is changed, and then most of them are freed.
fn before() -> Vec<Step> {
    let put = |salt: u8| move |number: u64| Step::Put(key(number), vec![salt ^ number as u8; 500]);
    let mut script: Vec<Step> = (0..KEYS).map(put(1)).collect();
    script.extend([Step::Checkpoint, Step::Checkpoint]);
    script.extend((0..KEYS).map(put(2)));
    script.extend((0..KEYS - 1).map(|number| Step::Remove(key(number))));
    script
}

/// Runs some steps in a store that is then dropped and not closed. Gives how many pages are free and no extents yet.
fn run(disk: &SimDisk, script: &[Step], noted: usize) -> u64 {
    let store = open(disk).expect("a healthy disk");
    for (number, step) in (noted as u64 + 1..).zip(script) {
        step.run(&store).expect("a healthy disk");
        disk.note(number);
    }
    let measured = store.measurements();
    let young = measured.iter().find(|(name, _)| name == "allocator_quarantined_pages");
    young.expect("it is measured").1
}

#[test]
fn a_long_value_after_a_kill_survives_every_cut() {
    let (disk, mut script) = (SimDisk::new(1), before());
    run(&disk, &script, 0);
    let killed = disk.journal_len();
    let after = vec![long(1), long(2)];
    run(&disk, &after, script.len());
    script.extend(after);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    let states = states(&script);
    let options = CrashOptions {
        cuts: killed..disk.journal_len() + 1,
        exhaustive_max: 8,
        pairs_max: 4,
        splits_max: 4,
        random: 2,
        ..CrashOptions::default()
    };
    let mut looked_at = 0;
    for image in disk.crash_states(&options) {
        let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
        let store = open(&image.disk()).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        let found = verified_contents(&store).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        let legal = &states[acknowledged..states.len().min(acknowledged + 2)];
        assert!(legal.contains(&found), "after {acknowledged} steps: {}", image.explain());
        looked_at += 1;
    }
    assert!(looked_at > 50, "only {looked_at} images");
}

/// The premise, and how it ends: two checkpoints pass what was replayed, in both copies.
#[test]
fn two_checkpoints_later_the_freed_pages_may_be_extents() {
    let disk = SimDisk::new(1);
    run(&disk, &before(), 0);
    let young = run(&disk, &[long(1), Step::Checkpoint], 0);
    assert!(young >= PAGES as u64, "{young} pages after one");
    assert_eq!(run(&disk, &[Step::Checkpoint, long(2), Step::Checkpoint, Step::Checkpoint], 0), 0);
}
