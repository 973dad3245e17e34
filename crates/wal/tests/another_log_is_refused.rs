//! Prevents: replaying what belongs to another store, to another time, or to nobody (E2, E3, E4).
#![cfg(not(loom))]

mod common;

use std::sync::Arc;

use common::{DIR, UUID, append, commit, create, fresh, open, options, recover, segments, start};
use pagestone_direct_io::{Disk, OpenHow};
use pagestone_page_format::{Lsn, StoreUuid};
use pagestone_testkit::{DiskOp, FaultPlan, Rng, SimDisk};
use pagestone_wal::{Wal, WalError, WalOptions, WalStart};

#[test]
fn another_stores_log() {
    let options = options();
    let (disk, wal) = fresh(&options);
    commit(&wal, (1, 0), 100);
    drop(wal);
    let other = WalStart { uuid: StoreUuid::new([1; 16]), ..start(1) };
    assert!(matches!(recover(&disk, &options, other), Err(WalError::Mismatch { .. })));
}

#[test]
fn a_log_newer_than_the_superblock_unless_its_newest_copy_is_lost() {
    let options = options();
    let (disk, wal) = fresh(&options);
    commit(&wal, (1, 0), 100);
    drop(wal);
    let wal = open(&disk, &options, start(1)).expect("open").start(2).expect("start");
    commit(&wal, (2, 0), 100);
    drop(wal);
    assert!(matches!(recover(&disk, &options, start(1)), Err(WalError::Mismatch { .. })));
    let lost = WalStart { newest_copy_lost: true, ..start(1) };
    let (found, report) = recover(&disk, &options, lost.clone()).expect("recover");
    assert_eq!((found, report.max_generation), (vec![(1, 0), (2, 0)], 2));
    let refused = open(&disk, &options, lost.clone()).expect("open").start(2);
    assert!(matches!(refused, Err(WalError::Mismatch { .. })), "generation 2 has been used");
    let wal = open(&disk, &options, lost).expect("open").start(3).expect("start");
    commit(&wal, (3, 0), 100);
    drop(wal);
    assert_eq!(recover(&disk, &options, start(3)).expect("recover").0, [(1, 0), (2, 0), (3, 0)]);
}

#[test]
fn a_log_that_is_missing_or_does_not_reach_the_checkpoint() {
    let options = options();
    let disk = SimDisk::new(1);
    assert!(matches!(open(&disk, &options, start(0)), Err(WalError::Missing { .. })));
    disk.create_dir(DIR.as_ref()).expect("directory");
    assert!(matches!(open(&disk, &options, start(0)), Err(WalError::Missing { .. })));
    create(&disk, &options);
    let wal = open(&disk, &options, start(0)).expect("open").start(1).expect("start");
    let end = commit(&wal, (1, 0), 100);
    drop(wal);
    for (checkpoint, missing) in [(end.get() + 1, false), (9000, false), (70_000, true), (u64::MAX, true)] {
        let from = WalStart { checkpoint: Lsn::new(checkpoint), ..start(1) };
        match recover(&disk, &options, from) {
            Err(WalError::Missing { .. }) => assert!(missing, "{checkpoint}"),
            Err(WalError::WalCorrupt { .. }) => assert!(!missing, "{checkpoint}"),
            other => panic!("{other:?} from {checkpoint}"),
        }
    }
}

#[test]
fn things_that_are_no_segments() {
    let options = options();
    let (disk, wal) = fresh(&options);
    commit(&wal, (1, 0), 100);
    drop(wal);
    disk.create_dir(format!("{DIR}/0000000000010000.seg").as_ref()).expect("directory");
    assert!(matches!(recover(&disk, &options, start(1)), Err(WalError::Io { .. })));

    let (disk, wal) = fresh(&options);
    commit(&wal, (1, 0), 100);
    drop(wal);
    for name in ["notes.txt", "1000.seg", "000000000000A000.seg", "0000000000010000.seg.new"] {
        let how = OpenHow::create_new(pagestone_direct_io::DirectIo::Off);
        disk.open(format!("{DIR}/{name}").as_ref(), &how)
            .expect("file")
            .write_at(b"hello", 0)
            .expect("write");
    }
    assert_eq!(recover(&disk, &options, start(1)).expect("recover").0, [(1, 0)]);
    drop(open(&disk, &options, start(1)).expect("open").start(2).expect("start"));
    let names: Vec<_> = segments(&disk).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert!(names.contains(&"notes.txt".into()) && !names.contains(&"0000000000010000.seg.new".into()));
    disk.open(
        format!("{DIR}/0000000000020000.seg").as_ref(),
        &OpenHow::create_new(pagestone_direct_io::DirectIo::Off),
    )
    .expect("an empty file");
    assert!(matches!(recover(&disk, &options, start(2)), Err(WalError::WalCorrupt { .. })));
}

#[test]
fn a_read_error_is_never_the_end_of_the_log() {
    let options = options();
    let (disk, wal) = fresh(&options);
    for number in 0..30 {
        append(&wal, (1, number), 4000);
    }
    wal.flush().expect("flush");
    drop(wal);
    let reads = {
        let before = disk.calls(DiskOp::Read);
        recover(&disk, &options, start(1)).expect("recover");
        disk.calls(DiskOp::Read) - before
    };
    for read in 0..reads {
        let fault = disk.fail(FaultPlan::errno(5).on(DiskOp::Read).skip(read));
        assert!(matches!(recover(&disk, &options, start(1)), Err(WalError::Io { .. })), "read {read}");
        assert_eq!(disk.injected(fault), 1);
        disk.heal();
        disk.fail(FaultPlan::short(0).on(DiskOp::Read).skip(read).forever()); // once is survived
        assert!(
            matches!(recover(&disk, &options, start(1)), Err(WalError::Io { .. })),
            "end of file at read {read}"
        );
        disk.heal();
        disk.fail(FaultPlan::short(4096).on(DiskOp::Read).skip(read));
        assert_eq!(recover(&disk, &options, start(1)).expect("short reads are finished").0.len(), 30);
        disk.heal();
    }
}

#[test]
fn opening_to_read_writes_nothing() {
    let options = options();
    let (disk, wal) = fresh(&options);
    for number in 0..10 {
        commit(&wal, (1, number), 1000);
    }
    drop(wal);
    let writes = |disk: &SimDisk| {
        [DiskOp::Write, DiskOp::Create, DiskOp::Rename, DiskOp::Remove, DiskOp::SetLen, DiskOp::Reserve]
            .map(|op| disk.calls(op))
    };
    let before = writes(&disk);
    let mut recovery = open(&disk, &options, start(1)).expect("open");
    common::replay(&mut recovery).expect("replay");
    drop(recovery);
    assert_eq!(writes(&disk), before);
}

#[test]
fn random_bytes_are_no_log_and_no_panic() {
    let options = options();
    let mut rng = Rng::new(1);
    for _ in 0..200 {
        let (disk, wal) = fresh(&options);
        for number in 0..4 {
            commit(&wal, (1, number), 1500);
        }
        drop(wal);
        let path = &segments(&disk)[0];
        for _ in 0..=rng.below(3) {
            let mut bytes = vec![0; 1 + rng.below(9000) as usize];
            bytes.iter_mut().for_each(|byte| *byte = rng.below(256) as u8);
            let at = rng.below((65_536 - bytes.len()) as u64);
            disk.overwrite(path, at, &bytes).expect("overwrite");
        }
        match recover(&disk, &options, start(1)) {
            Ok((found, _)) => {
                assert_eq!(found, (0..found.len() as u32).map(|number| (1, number)).collect::<Vec<_>>())
            }
            Err(WalError::WalCorrupt { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn options_that_make_no_sense() {
    let good = options();
    for bad in [
        WalOptions { segment_bytes: 4096, ..good.clone() },
        WalOptions { segment_bytes: (64 << 10) + 1, ..good.clone() },
        WalOptions { log_bytes: 100 << 10, ..good.clone() },
        WalOptions { buffer_bytes: 4096, ..good.clone() },
        WalOptions { buffer_bytes: 16 << 20, ..good.clone() },
        WalOptions { buffer_bytes: 10_000, ..good.clone() },
    ] {
        let made = Wal::create(Arc::new(SimDisk::new(1)), DIR.into(), &bad, UUID);
        assert!(matches!(made, Err(WalError::InvalidOptions { .. })), "{made:?} of {bad:?}");
    }
}
