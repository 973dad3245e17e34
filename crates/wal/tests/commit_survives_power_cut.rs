//! Prevents: an acknowledged commit lost, or an abandoned one found again, after a power cut at any instant, and after the
//! next one, and the one after that.
#![cfg(not(loom))]

mod common;

use common::{Id, append, create, fresh, open, options, recover, replay, segments, start};
use pagestone_page_format::Lsn;
use pagestone_testkit::{CrashImage, CrashOptions, Rng, SimDisk};
use pagestone_wal::{Wal, WalOptions, WalStart};

/// What was written to a log, and how much of it was acknowledged.
struct Written {
    groups: Vec<Id>,
    /// Noted at each acknowledgement: groups acknowledged in all.
    disk: SimDisk,
}

impl Written {
    fn append(&mut self, wal: &Wal, len: usize) -> Lsn {
        let id = (wal.generation() as u32, self.groups.len() as u32);
        self.groups.push(id);
        append(wal, id, len).1
    }

    fn acknowledge(&mut self, wal: &Wal) {
        wal.flush().expect("flush");
        common::assert_synced(&self.disk);
        self.disk.note(self.groups.len() as u64);
    }
}

/// The generations that a superblock would know: the log takes any up to it.
const SUPERBLOCK: u64 = 1000;

/// Recovers an image, twice, goes on writing, and recovers again. What is found is a prefix of `groups` with everything
/// acknowledged in it, and stays.
fn check(
    image: &CrashImage,
    groups: &[Id],
    before: usize,
    options: &WalOptions,
    from: &WalStart,
    depth: u32,
) -> u64 {
    let acknowledged = image.acknowledged().last().map_or(before, |noted| *noted as usize);
    let disk = image.disk();
    let explain = || format!("{}\ndepth {depth}", image.explain());
    let from = WalStart { generation: from.generation + 1, ..from.clone() };
    let (found, report) =
        recover(&disk, options, from.clone()).unwrap_or_else(|error| panic!("{error}\n{}", explain()));
    assert!(
        found.len() >= acknowledged,
        "{} of {acknowledged} acknowledged found\n{}",
        found.len(),
        explain()
    );
    assert_eq!(found, groups[..found.len()], "{}", explain());

    let mut recovery = open(&disk, options, from.clone()).expect("open");
    let (again, report_again) = replay(&mut recovery).expect("replay again");
    assert_eq!((&again, report_again), (&found, report), "{}", explain());
    let generation = from.generation + 1;
    let wal = recovery.start(generation).unwrap_or_else(|error| panic!("{error}\n{}", explain()));
    assert_eq!(wal.durable_lsn(), report.end);
    let mut written = Written { groups: found, disk: disk.clone() };
    let kept = written.groups.len();
    for len in [30, 9000, 500] {
        written.append(&wal, len);
        written.acknowledge(&wal);
    }
    drop(wal);
    assert_eq!(disk.audit(), [], "{}", explain());
    let after = WalStart { generation, ..from.clone() };
    let (all, _) =
        recover(&disk, options, after.clone()).unwrap_or_else(|error| panic!("{error}\n{}", explain()));
    assert_eq!(all, written.groups, "{}", explain());
    if depth == 0 {
        return 1;
    }
    let mut images = 1;
    let few = CrashOptions {
        exhaustive_max: 16,
        random: 2,
        pairs_max: 4,
        splits_max: 3,
        ..CrashOptions::default()
    };
    for (number, crash) in disk.crash_states(&few).enumerate() {
        let deeper = if number % 11 == 3 { depth - 1 } else { 0 };
        images += check(&crash, &written.groups, kept, options, &after, deeper);
    }
    images
}

/// Looks at every image of a disk; crashes one in `again` of them again during and after its recovery.
fn enumerate(written: &Written, options: &WalOptions, from: &WalStart, crashes: &CrashOptions, again: usize) {
    let states = |shard| written.disk.crash_states(&CrashOptions { shard, ..crashes.clone() });
    let images: u64 = std::thread::scope(|scope| {
        let halves: Vec<_> = (0..2)
            .map(|half| {
                scope.spawn(move || {
                    let mut images = 0;
                    for (number, image) in states((half, 2)).enumerate() {
                        let depth = if number % again == again / 2 { 2 } else { 0 };
                        images += check(&image, &written.groups, 0, options, from, depth);
                    }
                    images
                })
            })
            .collect();
        halves.into_iter().map(|half| half.join().expect("no panic")).sum()
    });
    println!("{images} images");
    assert!(images > 500, "{images}");
}

fn superblock() -> WalStart {
    start(SUPERBLOCK)
}

#[test]
fn small_commits_in_one_block_and_over_its_end() {
    let options = options();
    let (disk, wal) = fresh(&options);
    disk.settle();
    let mut written = Written { groups: Vec::new(), disk };
    for len in [100, 1500, 1500, 900, 200, 60] {
        written.append(&wal, len);
        written.acknowledge(&wal);
    }
    drop(wal);
    let crashes = CrashOptions { exhaustive_max: 256, garbage: true, ..CrashOptions::default() };
    enumerate(&written, &options, &superblock(), &crashes, 60);
}

#[test]
fn batches_of_many_groups_over_several_blocks() {
    let options = options();
    let (disk, wal) = fresh(&options);
    disk.settle();
    let mut written = Written { groups: Vec::new(), disk };
    let mut rng = Rng::new(11);
    for batch in 0..8 {
        for _ in 0..=rng.below(6) {
            written.append(&wal, 8 + rng.below(2500) as usize);
        }
        if batch % 3 != 2 {
            written.acknowledge(&wal);
        }
    }
    wal.flush().expect("flush");
    drop(wal);
    let crashes = CrashOptions { exhaustive_max: 64, random: 24, pairs_max: 64, ..CrashOptions::default() };
    enumerate(&written, &options, &superblock(), &crashes, 150);
}

#[test]
fn groups_and_batches_over_the_end_of_a_segment() {
    let options = options();
    let (disk, wal) = fresh(&options);
    let mut written = Written { groups: Vec::new(), disk };
    for _ in 0..12 {
        written.append(&wal, 4000);
    }
    written.acknowledge(&wal);
    written.disk.settle();
    let settled = written.groups.len();
    for len in [3500, 700, 30_000, 100, 5000] {
        written.append(&wal, len);
        written.acknowledge(&wal);
    }
    assert!(wal.stats().segments >= 2);
    drop(wal);
    let crashes = CrashOptions { exhaustive_max: 256, random: 32, pairs_max: 64, ..CrashOptions::default() };
    // Everything from before is durable in every image.
    let states = written.disk.crash_states(&crashes);
    let mut images = 0;
    for (number, image) in states.enumerate() {
        images +=
            check(&image, &written.groups, settled, &options, &superblock(), u32::from(number % 90 == 50));
    }
    println!("{images} images");
    assert!(images > 500, "{images}");
}

#[test]
fn a_cut_in_a_recovery_changes_nothing_that_it_found() {
    let options = options();
    let (disk, wal) = fresh(&options);
    let mut written = Written { groups: Vec::new(), disk };
    for _ in 0..5 {
        written.append(&wal, 700);
        written.acknowledge(&wal);
    }
    written.disk.settle();
    // One more in the block, and one over its end: its home and a tail slot are on their way together.
    written.append(&wal, 200);
    written.append(&wal, 900);
    wal.flush().expect("flush");
    drop(wal);
    // Every subset of the sectors of its home, and then every subset of those that recovery writes there.
    let outer = CrashOptions {
        exhaustive_max: 256,
        random: 8,
        pairs_max: 8,
        splits_max: 4,
        ..CrashOptions::default()
    };
    let mut images = 0;
    for image in written.disk.crash_states(&outer).step_by(9) {
        let disk = image.disk();
        let mut recovery = open(&disk, &options, superblock()).expect("open");
        let (found, report) = replay(&mut recovery).expect("replay");
        drop(recovery.start(SUPERBLOCK + 1).expect("start"));
        let inner = CrashOptions { exhaustive_max: 256, random: 8, pairs_max: 8, ..CrashOptions::default() };
        for cut in disk.crash_states(&inner) {
            let (again, report_again) =
                recover(&cut.disk(), &options, start(SUPERBLOCK + 1)).expect("recover");
            assert_eq!(
                (again, report_again.end),
                (found.clone(), report.end),
                "{}{}",
                image.explain(),
                cut.explain()
            );
            images += 1;
        }
    }
    println!("{images} images");
    assert!(images > 500, "{images}");
}

#[test]
fn several_generations_over_each_others_remains() {
    for seed in 0..3 {
        let options = options();
        let disk = SimDisk::new(seed);
        create(&disk, &options);
        disk.settle();
        let mut written = Written { groups: Vec::new(), disk: disk.clone() };
        let mut rng = Rng::new(seed);
        for generation in 1..5 {
            let wal =
                open(&disk, &options, start(generation - 1)).expect("open").start(generation).expect("start");
            for _ in 0..rng.below(4) {
                written.append(&wal, 8 + rng.below(5000) as usize);
                if rng.below(3) > 0 {
                    written.acknowledge(&wal);
                }
            }
            wal.flush().expect("flush"); // a process killed now has written it, and the next one finds it
        }
        let crashes = CrashOptions {
            seed,
            exhaustive_max: 32,
            random: 8,
            pairs_max: 16,
            splits_max: 8,
            ..CrashOptions::default()
        };
        enumerate(&written, &options, &superblock(), &crashes, 40);
    }
}

#[test]
fn recycled_segments_with_their_old_blocks() {
    let options = WalOptions { log_bytes: 192 << 10, ..options() };
    let (disk, wal) = fresh(&options);
    let mut written = Written { groups: Vec::new(), disk };
    let mut rng = Rng::new(5);
    // Four times around, so that every file has been used under several names.
    while wal.end_lsn().get() < 800_000 {
        written.append(&wal, 8 + rng.below(3000) as usize);
        if rng.below(3) == 0 {
            written.acknowledge(&wal);
            wal.recycle_below(Lsn::new(wal.end_lsn().get().saturating_sub(70_000))).expect("recycle");
        }
    }
    let checkpoint = written.append(&wal, 100);
    written.acknowledge(&wal);
    assert!(wal.stats().segments_recycled > 5);
    written.disk.settle();
    written.groups.clear();
    // From here on a superblock with that checkpoint is durable.
    wal.recycle_below(checkpoint).expect("recycle");
    for round in 0..14 {
        for _ in 0..=rng.below(3) {
            written.append(&wal, 8 + rng.below(if round == 9 { 30_000 } else { 6000 }) as usize);
        }
        written.acknowledge(&wal);
    }
    drop(wal);
    assert!(segments(&written.disk).len() <= 5);
    let from = WalStart { checkpoint, keep_from: checkpoint, ..superblock() };
    let crashes = CrashOptions {
        exhaustive_max: 16,
        random: 8,
        pairs_max: 16,
        splits_max: 6,
        ..CrashOptions::default()
    };
    enumerate(&written, &options, &from, &crashes, 120);
}

#[test]
fn recycling_while_the_log_is_written() {
    let options = WalOptions { log_bytes: 256 << 10, ..options() };
    let (disk, wal) = fresh(&options);
    let mut written = Written { groups: Vec::new(), disk };
    for _ in 0..45 {
        written.append(&wal, 4000);
    }
    let checkpoint = written.append(&wal, 3000);
    written.acknowledge(&wal);
    written.disk.settle();
    written.groups.clear();
    wal.recycle_below(checkpoint).expect("recycle");
    assert!(wal.stats().segments_recycled >= 2, "several renames, made durable together");
    for _ in 0..20 {
        written.append(&wal, 3000);
        written.append(&wal, 3000);
        written.acknowledge(&wal);
    }
    drop(wal);
    let from = WalStart { checkpoint, keep_from: checkpoint, ..superblock() };
    let crashes = CrashOptions {
        exhaustive_max: 16,
        random: 4,
        pairs_max: 16,
        splits_max: 4,
        ..CrashOptions::default()
    };
    enumerate(&written, &options, &from, &crashes, 120);
}

#[test]
fn a_cut_in_creation_leaves_what_creation_finishes() {
    let options = options();
    let disk = SimDisk::new(9);
    create(&disk, &options);
    disk.note(1);
    let mut made = 0;
    for image in disk.crash_states(&CrashOptions { exhaustive_max: 64, ..CrashOptions::default() }) {
        let disk = image.disk();
        if image.acknowledged().is_empty() {
            create(&disk, &options);
            made += 1;
        }
        let wal = open(&disk, &options, start(0)).expect("open").start(1).expect("start");
        common::commit(&wal, (1, 1), 100);
        drop(wal);
        assert_eq!(recover(&disk, &options, start(1)).expect("recover").0, [(1, 1)], "{}", image.explain());
        let again = Wal::create(std::sync::Arc::new(disk), common::DIR.into(), &options, common::UUID);
        assert!(matches!(again, Err(pagestone_wal::WalError::AlreadyExists)), "{again:?}");
    }
    assert!(made > 10, "{made}");
}
