//! Prevents: the losses that systems of this kind are known for, each by its name, as far as a log alone can have them. The others, and
//! these once more in a whole store, are in the store's tests.
#![cfg(not(loom))]

mod common;

use common::{append, commit, create, fresh, group, open, options, recover, start};
use pagestone_page_format::Lsn;
use pagestone_testkit::{CrashOptions, DiskOp, FaultPlan, Keep, SimDisk};
use pagestone_wal::{DurableBy, WalError, WalOptions, WalStart};

/// By each durable write, with the next group already appended behind the one that is waited for.
#[test]
fn a_strict_commit_acknowledged_before_its_record_is_appended() {
    for durable_by in DurableBy::ALL {
        let options = WalOptions { durable_by: Some(durable_by), ..options() };
        let (disk, wal) = fresh(&options);
        for number in (0..60).step_by(2) {
            let (_, end) = append(&wal, (1, number), 200 + number as usize * 70);
            append(&wal, (1, number + 1), 3000);
            wal.wait_durable(end).expect("durable");
            let found = recover(&disk.power_cut(Keep::Synced), &options, start(1)).expect("recover").0;
            assert!(found.len() > number as usize, "{durable_by}: {number} was acknowledged");
            assert!(found.iter().zip(0..).all(|(id, number)| *id == (1, number)), "{durable_by}: {found:?}");
        }
    }
}

/// A checkpoint lets the log go below an LSN; whatever becomes of the segments below, every group from there on is there, in every image of
/// the recycling and of the writing into what was recycled.
#[test]
fn a_checkpoint_that_recycles_records_of_pages_not_yet_written() {
    let options = WalOptions { log_bytes: 4 * (64 << 10), ..options() };
    let (disk, wal) = fresh(&options);
    disk.settle();
    // Ends of groups by number, and for each round the group whose end was the checkpoint.
    let (mut ends, mut kept) = (Vec::new(), Vec::new());
    for round in 0..30_u32 {
        for _ in 0..4 {
            ends.push(commit(&wal, (1, ends.len() as u32), 1500 + round as usize * 120));
        }
        // Pages of the last twenty groups are not yet written: the checkpoint is before them, wherever in a segment that is.
        kept.push(ends.len().saturating_sub(20));
        let keep = kept.last().filter(|kept| **kept > 0).map_or(Lsn::ZERO, |kept| ends[kept - 1]);
        wal.recycle_below(keep).expect("recycle");
        disk.note(u64::from(round) + 1);
    }
    assert!(wal.stats().segments_recycled > 3, "the log went round");
    drop(wal);
    let few =
        CrashOptions { exhaustive_max: 8, random: 2, pairs_max: 0, splits_max: 4, ..CrashOptions::default() };
    let mut images = 0;
    for image in disk.crash_states(&few) {
        // Published were the checkpoints of the rounds noted, and perhaps that of the next one: it is recycled below before its note.
        let rounds = image.acknowledged().last().map_or(0, |last| *last as usize);
        let groups = rounds * 4;
        let first = kept[rounds.min(kept.len() - 1)];
        let checkpoint = if first == 0 { Lsn::ZERO } else { ends[first - 1] };
        let from = WalStart { checkpoint, keep_from: checkpoint, ..start(1) };
        let found = recover(&image.disk(), &options, from);
        let (found, _) = found.unwrap_or_else(|error| panic!("{error}\n{}", image.explain()));
        let expected: Vec<_> = (first..first + found.len()).map(|number| (1, number as u32)).collect();
        assert_eq!(found, expected, "{}", image.explain());
        assert!(first + found.len() >= groups, "{} of {groups}: {}", first + found.len(), image.explain());
        images += 1;
    }
    assert!(images > 1000, "only {images} images");
}

#[test]
fn a_fresh_log_killed_before_its_first_write() {
    let disk = SimDisk::new(25);
    let options = options();
    create(&disk, &options);
    disk.note(0); // made
    drop(open(&disk, &options, start(0)).expect("open").start(1).expect("start"));
    let mut images = 0;
    let many = CrashOptions { random: 100, torn_writes: 8, ..CrashOptions::default() };
    for image in disk.crash_states(&many) {
        let disk = image.disk();
        if image.acknowledged().is_empty() {
            create(&disk, &options); // whoever was cut while making a log makes it again
        }
        let wal = open(&disk, &options, start(1)).and_then(|recovery| recovery.start(2));
        let wal = wal.unwrap_or_else(|error| panic!("{error}\n{}", image.explain()));
        commit(&wal, (2, 0), 700);
        drop(wal);
        let found = recover(&disk.power_cut(Keep::Synced), &options, start(2));
        let found =
            found.unwrap_or_else(|error| panic!("{error} after the first write\n{}", image.explain()));
        assert_eq!(found.0, [(2, 0)], "{}", image.explain());
        images += 1;
    }
    assert!(images > 10, "only {images} images");
}

/// The largest group is taken and found again; one past it is refused, and the log goes on.
#[test]
fn an_oversize_value() {
    let options = options();
    let (disk, wal) = fresh(&options);
    let max = wal.max_group_bytes();
    let beside = group((1, 0), 100_000).encoded_len() - 100_000;
    let mut len = max - beside;
    while group((1, 0), len).encoded_len() > max {
        len -= 1;
    }
    for number in 0..6 {
        let too_large = group((1, number), len + 1 + number as usize * 1000).encoded_len().max(max + 1);
        let refused = wal.reserve(too_large);
        assert!(
            matches!(refused, Err(WalError::GroupTooLarge { bytes, .. }) if bytes == too_large),
            "{refused:?}"
        );
        drop(refused);
        // Small ones between, so that the large one begins anywhere in a block.
        commit(&wal, (1, 2 * number), 40 + number as usize * 800);
        commit(&wal, (1, 2 * number + 1), len);
        wal.recycle_below(Lsn::ZERO).expect("nothing goes");
    }
    let found = recover(&disk.power_cut(Keep::Synced), &options, start(1)).expect("recover").0;
    assert_eq!(found, (0..12).map(|number| (1, number)).collect::<Vec<_>>());
}

/// Every read of a recovery fails once, by every errno that a disk gives: an error, nothing changed, and the next opening finds everything.
#[test]
fn a_read_error_taken_for_the_end_of_the_log() {
    const ERRORS: [i32; 5] = [5, 6, 19, 61, 121]; // EIO, ENXIO, ENODEV, ENODATA, EREMOTEIO
    let options = options();
    let (disk, wal) = fresh(&options);
    for number in 0..20 {
        commit(&wal, (1, number), 4000);
    }
    drop(wal);
    let before = disk.calls(DiskOp::Read);
    recover(&disk, &options, start(1)).expect("recover");
    let reads = disk.calls(DiskOp::Read) - before;
    assert!(reads >= 4, "{reads} reads");
    let files = || common::segments(&disk).into_iter().map(|path| disk.contents(path).expect("a file"));
    let whole: Vec<_> = files().collect();
    for (read, errno) in (0..reads).flat_map(|read| ERRORS.map(|errno| (read, errno))) {
        let fault = disk.fail(FaultPlan::errno(errno).on(DiskOp::Read).skip(read));
        let started = open(&disk, &options, start(1)).and_then(|recovery| recovery.start(2));
        assert!(matches!(started, Err(WalError::Io { .. })), "read {read}, errno {errno}: {started:?}");
        assert_eq!(disk.injected(fault), 1);
        disk.heal();
        assert!(files().eq(whole.iter().cloned()), "read {read} failed and the log was changed");
        assert_eq!(recover(&disk, &options, start(1)).expect("recover").0.len(), 20, "read {read}");
    }
}
