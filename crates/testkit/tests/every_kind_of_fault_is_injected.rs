//! An error loop that leaves a kind of fault out, or plans it where it cannot happen, shows nothing about it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{
    DirectIo, Disk, File, MapAccess, OpenHow, ReadAt, WriteAt, read_exact_at, read_exact_batch, write_all_at,
    write_all_batch,
};
use pagestone_testkit::{AfterFailedSync, DiskOp, FaultKind, FaultPlan, FaultTally, SimDisk, Violation};

const SECTOR: usize = 512;

/// Every call of the seam at least twice; what comes of each is for others to judge.
fn use_everything(disk: &SimDisk) -> io::Result<()> {
    let (root, dir) = (Path::new("/"), Path::new("/d"));
    let mut first = Ok(());
    let mut take = |result: io::Result<()>| {
        if first.is_ok() {
            first = result;
        }
    };
    for round in 0..2u8 {
        let path = dir.join(format!("{round}"));
        take(disk.create_dir(&dir.join(format!("{round}d"))));
        take(disk.list(root).map(drop));
        take(disk.kind(root).map(drop));
        let made = disk.open(&path, &OpenHow::create_new(DirectIo::Off));
        take(made.as_ref().map(drop).map_err(|error| error.kind().into()));
        take(disk.sync_dir(root));
        let file = disk.open(&dir.join("there"), &OpenHow::write(DirectIo::Off));
        take(file.as_ref().map(drop).map_err(|error| error.kind().into()));
        if let Ok(file) = file {
            take(on_file(&*file, round));
        }
        take(disk.rename(&dir.join("there"), &dir.join("moved")));
        take(disk.rename(&dir.join("moved"), &dir.join("there")));
        if disk.kind(&path).is_ok_and(|kind| kind.is_some()) {
            take(disk.remove_file(&path));
        }
    }
    first
}

fn on_file(file: &dyn File, round: u8) -> io::Result<()> {
    let mut bytes = [[0; SECTOR]; 4];
    let results = [
        file.try_lock().map(drop),
        file.reserve(0, 8192),
        write_all_at(file, &[round; SECTOR * 4], 0),
        file.sync(),
        file.len().map(drop),
        read_exact_at(file, &mut bytes[0], 0).and_then(|got| match got {
            SECTOR => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }),
        file.set_len(4096),
        file.punch_hole(2048, 1024),
        file.sync(),
        file.drop_cache(),
        on_map(file, round),
    ];
    let mut batch: Vec<WriteAt<'_>> =
        (0..4).map(|at| WriteAt::new(&[9; SECTOR], at * SECTOR as u64)).collect();
    write_all_batch(file, &mut batch);
    let mut reads: Vec<ReadAt<'_>> =
        bytes.iter_mut().zip(0..).map(|(bytes, at)| ReadAt::new(bytes, at * SECTOR as u64)).collect();
    read_exact_batch(file, &mut reads);
    results.into_iter().collect()
}

fn on_map(file: &dyn File, round: u8) -> io::Result<()> {
    let mut map = file.map(0..4096, MapAccess::Write)?;
    map.bytes_mut()[100] = round + 1;
    map.flush(0..200)?;
    map.flush(200..4096)
}

fn fresh() -> SimDisk {
    let disk = SimDisk::new(4);
    disk.create_dir(Path::new("/d")).expect("create");
    disk.open(Path::new("/d/there"), &OpenHow::create_new(DirectIo::Off)).expect("create");
    disk.settle();
    disk
}

#[test]
fn every_kind_is_injected_into_every_call_that_it_befalls() {
    use_everything(&fresh()).expect("nothing planned");
    let mut tally = FaultTally::default();
    for (kind, op) in FaultKind::every() {
        let disk = fresh();
        let plan = disk.fail(kind.on(op));
        let result = use_everything(&disk);
        tally.count(kind, op, &disk, plan);
        // What the loops of direct-io finish by themselves, and what a batch may do, no caller sees.
        let hidden =
            matches!(kind, FaultKind::Interrupted | FaultKind::Again | FaultKind::Busy | FaultKind::Short)
                && matches!(op, DiskOp::Read | DiskOp::Write)
                || (kind, op) == (FaultKind::Zero, DiskOp::Read)
                || kind == FaultKind::Reordered;
        assert_eq!(result.is_ok(), hidden, "{kind} on {op:?}: {result:?}");
        assert_eq!(tally.injected(kind, op), 1, "{kind} on {op:?}");
    }
    tally.check().expect("none was left out");
    assert_eq!(tally.total(), FaultKind::every().count() as u64);
}

#[test]
fn a_kind_that_never_happened_is_told() {
    let mut tally = FaultTally::default();
    let disk = fresh();
    let late = disk.fail(FaultKind::Io.on(DiskOp::List).skip(1000));
    use_everything(&disk).expect("too late to happen");
    tally.count(FaultKind::Io, DiskOp::List, &disk, late);
    assert_eq!(tally.check().expect_err("never injected"), "EIO on List: 1 plans, never injected\n");
}

fn disk_with_file() -> (SimDisk, Arc<dyn File>) {
    let disk = SimDisk::new(7);
    let file = disk.open(Path::new("/a"), &OpenHow::create_new(DirectIo::Off)).expect("create");
    disk.settle();
    (disk, file)
}

/// Four writes of one sector each.
fn write_four(file: &dyn File, finish: bool) -> Vec<io::Result<usize>> {
    let bytes: Vec<[u8; SECTOR]> = (1..=4).map(|number| [number; SECTOR]).collect();
    let mut batch: Vec<_> =
        bytes.iter().zip(0..).map(|(bytes, at)| WriteAt::new(bytes, at * SECTOR as u64)).collect();
    if finish {
        write_all_batch(file, &mut batch);
    } else {
        file.write_batch(&mut batch);
    }
    batch.into_iter().map(|write| write.result).collect()
}

#[test]
fn a_batch_is_reordered_and_each_transfer_keeps_its_own_result() {
    let (disk, file) = disk_with_file();
    let order = |disk: &SimDisk| -> Vec<u64> {
        disk.unsynced("/a").expect("there").iter().map(|range| range.start / SECTOR as u64).collect()
    };
    write_four(&*file, false);
    assert_eq!(order(&disk), [0, 1, 2, 3]);
    file.sync().expect("sync");
    let reordered = disk.fail(FaultPlan::reordered().on(DiskOp::Write).forever());
    // The second write that is done fails, whichever it is.
    disk.fail(FaultPlan::errno(libc::EIO).on(DiskOp::Write).skip(1));
    let results = write_four(&*file, false);
    let done = order(&disk);
    assert!(done.len() == 3 && !done.is_sorted(), "{done:?}");
    for (at, result) in results.iter().enumerate() {
        assert_eq!(result.is_ok(), done.contains(&(at as u64)), "{at} of {done:?}");
    }
    assert_eq!(disk.injected(reordered), 1);
    file.write_batch(&mut [WriteAt::new(&[1], 0)]);
    assert_eq!(disk.injected(reordered), 1, "one transfer has no order");
}

#[test]
fn a_partial_batch_is_finished() {
    let (disk, file) = disk_with_file();
    let (short, again, reordered) = (
        disk.fail(FaultPlan::short(100).on(DiskOp::Write).skip(1).times(2)),
        disk.fail(FaultPlan::errno(libc::EAGAIN).on(DiskOp::Write).times(1)),
        disk.fail(FaultPlan::reordered().on(DiskOp::Write)),
    );
    for result in write_four(&*file, true) {
        assert_eq!(result.expect("finished"), SECTOR);
    }
    assert_eq!((disk.injected(short), disk.injected(again), disk.injected(reordered)), (2, 1, 1));
    let expected: Vec<u8> = (1..=4).flat_map(|number| [number; SECTOR]).collect();
    assert_eq!(disk.contents("/a").expect("there"), expected);
    assert_eq!(disk.audit(), []);
}

#[test]
fn writes_of_one_batch_may_not_meet() {
    let (disk, file) = disk_with_file();
    file.write_batch(&mut [WriteAt::new(&[1; 10], 0), WriteAt::new(&[2; 10], 10)]);
    assert_eq!(disk.audit(), []);
    file.write_batch(&mut [WriteAt::new(&[1; 11], 0), WriteAt::new(&[2; 10], 10)]);
    let expected = Violation::OverlappingWrites { path: "/a".into(), first: 0..11, second: 10..20 };
    assert_eq!(disk.audit(), [expected]);
}

/// A short transfer that was not cut short would be counted and would show nothing.
#[test]
fn a_short_transfer_is_counted_only_where_it_cuts() {
    let (disk, file) = disk_with_file();
    let plan = disk.fail(FaultPlan::short(100).forever());
    assert_eq!(file.write_at(&[1; 100], 0).expect("whole"), 100);
    assert_eq!(file.read_at(&mut [0; 4096], 0).expect("up to the end"), 100);
    assert_eq!(disk.injected(plan), 0);
    assert_eq!(file.write_at(&[1; 101], 0).expect("cut"), 100);
    assert_eq!(disk.injected(plan), 1);
}

#[test]
fn what_makes_no_sense_is_refused() {
    assert!(!FaultKind::Short.befalls(DiskOp::Rename));
    assert!(!FaultKind::FailedSync(AfterFailedSync::CleanWithNew).befalls(DiskOp::Write));
    let refused = std::panic::catch_unwind(|| FaultKind::Short.on(DiskOp::Rename));
    assert!(refused.is_err());
}
