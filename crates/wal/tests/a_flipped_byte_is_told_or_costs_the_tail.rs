//! Prevents: damage in the durable part of the log taken for a torn tail, so that recovery drops what was acknowledged and
//! goes on as if nothing had happened (M2, M3).
//!
//! That the decoder refuses each block in which a byte was changed is a test beside it, `src/block.rs`. `cargo xtask soak` runs
//! examples/soak_flips.rs, which does here what the last test does to a log of 4 MiB.
#![cfg(not(loom))]

mod common;

use common::flips::{Log, Outcome, POSITIONS, crashed_again_and_again};
use common::{append, commit, create, fresh, open, options, recover, segments, start};
use pagestone_direct_io::Disk;
use pagestone_page_format::Lsn;
use pagestone_testkit::{Keep, SimDisk};
use pagestone_wal::{WalError, WalOptions, WalStart};

#[test]
fn one_client_and_a_few_blocks() {
    let options = options();
    let (disk, wal) = fresh(&options);
    for number in 0..7 {
        commit(&wal, (1, number), 900);
    }
    drop(wal);
    let outcome = Log::new(disk, options, start(1)).flip(1);
    println!("{outcome:?}");
    assert!(outcome.corrupt > 0 && outcome.tail > 0 && outcome.harmless > 0, "{outcome:?}");
}

#[test]
fn batches_over_several_blocks() {
    let options = options();
    let (disk, wal) = fresh(&options);
    for number in 0..12 {
        append(&wal, (1, number), 2000);
        if number % 3 == 2 {
            wal.flush().expect("flush");
        }
    }
    drop(wal);
    let outcome = Log::new(disk, options, start(1)).flip(13);
    println!("{outcome:?}");
    assert!(outcome.corrupt > outcome.tail, "{outcome:?}");
}

#[test]
fn several_generations_some_of_which_wrote_nothing() {
    let options = options();
    let disk = SimDisk::new(4);
    create(&disk, &options);
    for generation in 1..6u32 {
        let wal = open(&disk, &options, start(u64::from(generation) - 1))
            .expect("open")
            .start(generation.into())
            .expect("start");
        for number in 0..[2, 0, 1, 3, 1][generation as usize - 1] {
            commit(&wal, (generation, number), 700);
        }
    }
    let outcome = Log::new(disk, options, start(5)).flip(31);
    println!("{outcome:?}");
    assert!(outcome.corrupt > outcome.tail, "{outcome:?}");
}

#[test]
fn after_a_crash_whose_remains_were_wiped() {
    let options = options();
    let (disk, wal) = fresh(&options);
    for number in 0..4 {
        commit(&wal, (1, number), 1500);
    }
    disk.settle();
    append(&wal, (1, 4), 9000);
    wal.flush().expect("flush");
    drop(wal);
    // Whatever of the last batch survived is gone after the next start.
    let disk = disk.power_cut(Keep::Random(3));
    let wal = open(&disk, &options, start(1)).expect("open").start(2).expect("start");
    commit(&wal, (2, 0), 500);
    commit(&wal, (2, 1), 500);
    drop(wal);
    let outcome = Log::new(disk, options, start(2)).flip(31);
    println!("{outcome:?}");
    assert!(outcome.corrupt > 0, "{outcome:?}");
}

#[test]
fn what_belongs_to_no_group_is_missed_all_the_same() {
    let options = options();
    let (disk, wal) = fresh(&options);
    commit(&wal, (1, 0), 3000);
    append(&wal, (1, 1), 11_000);
    wal.flush().expect("flush");
    drop(wal);
    // The second batch loses its last block: what is left of it is read, synced, and given up.
    let path = &segments(&disk)[0];
    disk.overwrite(path, 4096 * 5, &[0; 4096]).expect("overwrite");
    let mut recovery = open(&disk, &options, start(1)).expect("open");
    let (found, report) = common::replay(&mut recovery).expect("replay");
    assert_eq!((&found[..], report.torn_tail), (&[(1, 0)][..], true));
    let wal = recovery.start(2).expect("start");
    commit(&wal, (2, 0), 100);
    drop(wal);
    assert_eq!(recover(&disk, &options, start(2)).expect("recover").0, [(1, 0), (2, 0)]);
    // Damage there must not cost the one commit that stands behind it.
    for block in [2, 3] {
        let cut = disk.power_cut(Keep::Everything);
        cut.overwrite(path, 4096 * (block + 1) + 2000, &[0xff; 9]).expect("overwrite");
        assert!(
            matches!(recover(&cut, &options, start(2)), Err(WalError::WalCorrupt { .. })),
            "block {block}"
        );
    }
}

#[test]
fn recycled_segments_and_a_checkpoint_inside() {
    let options = WalOptions { log_bytes: 192 << 10, ..options() };
    let (disk, wal) = fresh(&options);
    for number in 0..150 {
        let end = commit(&wal, (1, number), 2500);
        wal.recycle_below(Lsn::new(end.get().saturating_sub(80_000))).expect("recycle");
    }
    let checkpoint = commit(&wal, (1, 150), 100);
    for number in 151..156 {
        commit(&wal, (1, number), 1000);
    }
    drop(wal);
    let from = WalStart { checkpoint, keep_from: checkpoint, ..start(1) };
    let outcome = Log::new(disk, options, from).flip(211);
    println!("{outcome:?}");
    assert!(outcome.corrupt > 0 && outcome.harmless > outcome.corrupt, "{outcome:?}");
}

#[test]
fn a_hole_of_any_size_in_the_middle_is_corruption() {
    let options = options();
    let (disk, wal) = fresh(&options);
    let mut ends = Vec::new();
    for number in 0..60 {
        ends.push(commit(&wal, (1, number), 3000));
    }
    drop(wal);
    let paths = segments(&disk);
    assert!(paths.len() >= 4);
    let last = ends[57]; // what the last block but one claims, at least
    for path in &paths[..3] {
        let bytes = disk.contents(path).expect("a file");
        for (from, to) in
            [(0, bytes.len()), (8192, bytes.len()), (8192 + 4096, 8192 + 8192), (40_960, 65_536)]
        {
            disk.overwrite(path, from as u64, &vec![0; to - from]).expect("zero");
            match recover(&disk, &options, start(1)) {
                Err(WalError::WalCorrupt { lsn, .. }) => assert!(lsn < last),
                other => panic!("{other:?} with {from}..{to} of {} gone", path.display()),
            }
            disk.overwrite(path, 0, &bytes).expect("restore");
        }
    }
    // A segment that is gone, in the middle and at the start.
    for (index, path) in paths[..3].iter().enumerate() {
        let without = disk.power_cut(Keep::Everything);
        without.remove_file(path).expect("remove");
        match recover(&without, &options, start(1)) {
            Err(WalError::Missing { .. }) => assert_eq!(index, 0),
            Err(WalError::WalCorrupt { .. }) => assert!(index > 0),
            other => panic!("{other:?}"),
        }
    }
    // A segment that was cut, or that grew (M9, M10).
    for path in &paths[..3] {
        for len in [65_536 - 4096, 16_384, 65_536 + 4096, 65_537] {
            let cut = disk.power_cut(Keep::Everything);
            let how = pagestone_direct_io::OpenHow::write(pagestone_direct_io::DirectIo::Off);
            cut.open(path, &how).expect("open").set_len(len).expect("cut");
            let found = recover(&cut, &options, start(1));
            assert!(matches!(found, Err(WalError::WalCorrupt { .. })), "{found:?} at {len}");
        }
    }
}

/// Every block of a log that six crashes in a row have left, 64 positions in each.
#[test]
fn every_block_after_crash_upon_crash() {
    let log = crashed_again_and_again(256 << 10, 6);
    let (blocks, mut outcome) = (log.blocks(), Outcome::default());
    blocks.iter().for_each(|block| log.flip_some(block, &mut outcome));
    println!("{} blocks, {outcome:?}", blocks.len());
    assert_eq!(outcome.flips as usize, blocks.len() * POSITIONS);
    assert!(blocks.len() >= 64 && outcome.proved > outcome.flips / 2, "{outcome:?}");
    assert!(outcome.corrupt >= outcome.proved && outcome.tail > 0 && outcome.harmless > 0, "{outcome:?}");
}
