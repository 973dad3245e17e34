//! A fault that is planned and never happens makes a test pass for nothing.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{DirectIo, Disk, File, MapAccess, OpenHow, read_exact_at, write_all_at};
use pagestone_testkit::{AfterFailedSync, DiskOp, FaultPlan, Keep, SimDisk, Violation, errno};

const EIO: i32 = 5;
const EINTR: i32 = 4;
const ENOSPC: i32 = 28;

fn disk_with_file() -> (SimDisk, Arc<dyn File>) {
    let disk = SimDisk::new(9);
    let file = disk.open(Path::new("/a"), &OpenHow::create_new(DirectIo::Off)).expect("create");
    write_all_at(&*file, &[1; 4096], 0).expect("write");
    disk.settle();
    (disk, file)
}

/// Makes one call of this kind.
fn call(disk: &SimDisk, file: &dyn File, op: DiskOp) -> io::Result<()> {
    let path = Path::new;
    match op {
        DiskOp::Open => disk.open(path("/a"), &OpenHow::read(DirectIo::Off)).map(|_| ()),
        DiskOp::Create => disk.open(path("/new"), &OpenHow::create_new(DirectIo::Off)).map(|_| ()),
        DiskOp::CreateDir => disk.create_dir(path("/dir")),
        DiskOp::Rename => disk.rename(path("/a"), path("/b")),
        DiskOp::Remove => disk.remove_file(path("/a")),
        DiskOp::List => disk.list(path("/")).map(|_| ()),
        DiskOp::Kind => disk.kind(path("/a")).map(|_| ()),
        DiskOp::SyncDir => disk.sync_dir(path("/")),
        DiskOp::Read => file.read_at(&mut [0; 16], 0).map(|_| ()),
        DiskOp::Write => file.write_at(&[2; 16], 0).map(|_| ()),
        DiskOp::Sync => file.sync(),
        DiskOp::Len => file.len().map(|_| ()),
        DiskOp::SetLen => file.set_len(1),
        DiskOp::Reserve => file.reserve(0, 8192),
        DiskOp::PunchHole => file.punch_hole(0, 100),
        DiskOp::DropCache => file.drop_cache(),
        DiskOp::Lock => file.try_lock().map(|_| ()),
        DiskOp::Map => {
            file.try_lock()?;
            file.map(0..1, MapAccess::Read).map(|_| ())
        }
        DiskOp::Flush => {
            file.try_lock()?;
            let mut map = file.map(0..10, MapAccess::Write)?;
            map.bytes_mut()[0] = 1; // what is there
            map.flush(0..1)
        }
    }
}

#[test]
fn every_kind_of_call_can_fail_and_changes_nothing_then() {
    for op in DiskOp::ALL {
        let (disk, file) = disk_with_file();
        let plan = disk.fail(FaultPlan::errno(EIO).on(op));
        let before = (disk.journal_len(), disk.contents("/a").expect("there"));
        assert_eq!(
            call(&disk, &*file, op).expect_err("planned").raw_os_error(),
            errno(EIO).raw_os_error(),
            "{op:?}"
        );
        assert_eq!(
            (disk.injected(plan), disk.calls(op)),
            (1, 1 + u64::from(matches!(op, DiskOp::Write | DiskOp::Create)))
        );
        let journal = before.0 + usize::from(matches!(op, DiskOp::Sync | DiskOp::Flush)); // a failed sync loses what was pending
        assert_eq!((disk.journal_len(), disk.contents("/a").expect("there")), (journal, before.1));
        call(&disk, &*file, op).expect("once");
        assert_eq!(disk.injected(plan), 1);
    }
}

#[test]
fn the_call_with_any_number_can_fail() {
    let work = |disk: &SimDisk| -> io::Result<()> {
        let file = disk.open(Path::new("/b"), &OpenHow::create_new(DirectIo::Off))?;
        write_all_at(&*file, &[3; 100], 0)?;
        file.sync()?;
        disk.sync_dir(Path::new("/"))?;
        read_exact_at(&*file, &mut [0; 100], 0).map(|_| ())
    };
    let clean = SimDisk::new(1);
    work(&clean).expect("nothing planned");
    let calls = clean.calls_total();
    assert_eq!(calls, 5);
    for number in 0..=calls {
        let disk = SimDisk::new(1);
        let plan = disk.fail(FaultPlan::errno(ENOSPC).skip(number));
        let result = work(&disk);
        assert_eq!(
            (result.is_err(), disk.injected(plan)),
            (number < calls, u64::from(number < calls)),
            "{number}"
        );
    }
}

#[test]
fn plans_count_by_kind_and_path_and_end_when_healed() {
    let (disk, file) = disk_with_file();
    let other = disk.open(Path::new("/other"), &OpenHow::create_new(DirectIo::Off)).expect("create");
    let plan =
        disk.fail(FaultPlan::errno(EIO).on(DiskOp::Write).path(|path| path.ends_with("a")).skip(1).times(2));
    other.write_at(&[0; 8], 0).expect("another path");
    file.write_at(&[0; 8], 0).expect("skipped");
    other.write_at(&[0; 8], 0).expect("another path");
    file.read_at(&mut [0; 8], 0).expect("another kind");
    assert!(file.write_at(&[0; 8], 0).is_err() && file.write_at(&[0; 8], 0).is_err());
    file.write_at(&[0; 8], 0).expect("twice only");
    assert_eq!(disk.injected(plan), 2);
    let forever = disk.fail(FaultPlan::errno(EIO).on(DiskOp::Len).forever());
    assert!((0..5).all(|_| file.len().is_err()));
    disk.heal();
    file.len().expect("healed");
    assert_eq!(disk.injected(forever), 5);
}

#[test]
fn short_and_interrupted_transfers_are_finished_by_the_loops() {
    let (disk, file) = disk_with_file();
    let short = disk.fail(FaultPlan::short(100).times(7));
    let interrupted = disk.fail(FaultPlan::errno(EINTR).on(DiskOp::Write).skip(2).times(3));
    write_all_at(&*file, &[5; 4096], 0).expect("finished");
    let mut back = [0; 4096];
    read_exact_at(&*file, &mut back, 0).expect("finished");
    assert_eq!(back, [5; 4096]);
    assert_eq!((disk.injected(short), disk.injected(interrupted)), (7, 3));
    disk.fail(FaultPlan::short(0).on(DiskOp::Write));
    assert_eq!(write_all_at(&*file, &[5; 10], 0).expect_err("nothing taken").kind(), ErrorKind::WriteZero);
    disk.fail(FaultPlan::short(0).on(DiskOp::Read));
    assert_eq!(read_exact_at(&*file, &mut back, 0).expect("a false end, not believed"), 4096);
    disk.fail(FaultPlan::short(0).on(DiskOp::Read).forever());
    assert_eq!(read_exact_at(&*file, &mut back, 0).expect_err("no end there").kind(), ErrorKind::WouldBlock);
    assert_eq!(read_exact_at(&*file, &mut back, 4096).expect("the end"), 0);
}

#[test]
fn a_failed_write_may_have_taken_some_bytes_or_all() {
    let (disk, file) = disk_with_file();
    disk.fail(FaultPlan::torn(EIO, 1000));
    assert!(file.write_at(&[2; 4096], 0).is_err());
    assert_eq!(disk.contents("/a").expect("there"), [vec![2; 1000], vec![1; 3096]].concat());
    disk.fail(FaultPlan::done_but_reported(EIO).on(DiskOp::Write));
    assert!(file.write_at(&[3; 4096], 0).is_err());
    assert_eq!(disk.contents("/a").expect("there"), vec![3; 4096]);
    disk.fail(FaultPlan::done_but_reported(EIO).on(DiskOp::Rename));
    assert!(disk.rename(Path::new("/a"), Path::new("/b")).is_err());
    assert_eq!(disk.contents("/b").expect("there"), vec![3; 4096]);
}

/// Sector values that the disk shows now and after a power cut.
fn sectors(disk: &SimDisk) -> (Vec<u8>, Vec<u8>) {
    let of =
        |disk: &SimDisk| disk.contents("/a").expect("there").chunks(512).map(|sector| sector[0]).collect();
    (of(disk), of(&disk.power_cut(Keep::Synced)))
}

#[test]
fn a_failed_sync_leaves_what_was_chosen() {
    for after in AfterFailedSync::ALL {
        let (disk, file) = disk_with_file();
        let plan = disk.fail(FaultPlan::failed_sync(EIO, after));
        write_all_at(&*file, &[2; 4096], 0).expect("write");
        let first = file.sync();
        assert_eq!(disk.injected(plan), 1);
        let (old, new) = (vec![1; 8], vec![2; 8]);
        match after {
            AfterFailedSync::CleanWithNew => assert_eq!(sectors(&disk), (new.clone(), old.clone())),
            AfterFailedSync::CleanWithOld => assert_eq!(sectors(&disk), (old.clone(), old.clone())),
            AfterFailedSync::PartlyPersisted => {
                let (live, durable) = sectors(&disk);
                assert_eq!(live, new);
                assert!(durable.contains(&1) && durable.contains(&2), "{durable:?}");
            }
            AfterFailedSync::ReportedLate => {
                first.as_ref().expect("reported late");
                assert_eq!(sectors(&disk), (new.clone(), new.clone()));
                write_all_at(&*file, &[3; 4096], 0).expect("write");
                assert!(file.sync().is_err());
                assert_eq!(sectors(&disk), (vec![3; 8], new.clone()));
            }
        }
        assert_eq!(first.is_err(), after != AfterFailedSync::ReportedLate);
        assert_eq!(disk.audit(), []);

        // A sync that comes after it succeeds and brings nothing back: that is why it must not be believed.
        let durable = sectors(&disk).1;
        file.sync().expect("clean");
        assert_eq!(sectors(&disk).1, durable);
        assert_eq!(disk.audit(), [Violation::SyncRetried { path: "/a".into() }]);

        let reopened = disk.open(Path::new("/a"), &OpenHow::write(DirectIo::Off)).expect("open");
        reopened.sync().expect("a new handle");
        assert_eq!(disk.audit().len(), 1, "reopening is the way out");
    }
}

#[test]
fn a_dropped_cache_shows_what_is_durable_and_what_may_still_be() {
    for after in AfterFailedSync::ALL {
        let (disk, file) = disk_with_file();
        file.write_at(&[2; 4096], 0).expect("write");
        file.write_at(&[3; 4096], 6000).expect("write");
        disk.fail(FaultPlan::failed_sync(EIO, after));
        let failed = file.sync().is_err();
        assert_eq!(failed, after != AfterFailedSync::ReportedLate);
        file.write_at(&[4; 512], 1024).expect("write");
        let contents = disk.contents("/a").expect("there");
        let durable = disk.power_cut(Keep::Synced).contents("/a").expect("there");
        file.drop_cache().expect("dropped");

        let mut expected = durable.clone();
        expected.resize(contents.len(), 0); // lengths are not lost: what was lost behind the durable one is zero
        if after == AfterFailedSync::PartlyPersisted {
            let kept = disk.power_cut(Keep::Everything).contents("/a").expect("there");
            expected[4096..].copy_from_slice(&kept[4096..]); // sectors past the durable length: none of the synced image
            assert!((6144..10_096).all(|at| [0, 3].contains(&expected[at])));
        }
        expected[1024..1536].fill(4);
        let now = disk.contents("/a").expect("there");
        assert_eq!(now, expected, "{after:?}");
        let told_otherwise =
            matches!(after, AfterFailedSync::CleanWithNew | AfterFailedSync::PartlyPersisted);
        assert_eq!(contents != now, told_otherwise, "{after:?}: the cache had told what is on no device");
        assert_eq!(disk.power_cut(Keep::Everything).contents("/a").expect("there"), now, "{after:?}");
    }
}

#[test]
fn what_a_failed_sync_lost_is_in_no_image() {
    let (disk, file) = disk_with_file();
    disk.fail(FaultPlan::errno(EIO).on(DiskOp::Sync));
    write_all_at(&*file, &[2; 512], 0).expect("write");
    assert!(file.sync().is_err());
    disk.note(1);
    write_all_at(&*file, &[3; 512], 512).expect("write");
    let options = pagestone_testkit::CrashOptions::default();
    let after: Vec<_> =
        disk.crash_states(&options).filter(|image| !image.acknowledged().is_empty()).collect();
    assert_eq!(after.len(), 2);
    for image in after {
        assert_eq!(image.disk().contents("/a").expect("there")[0], 1, "{image:?}");
    }
}

#[test]
fn the_medium_can_be_changed_behind_everybodys_back() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &[2; 512], 0).expect("write");
    disk.overwrite("/a", 100, &[9]).expect("inside");
    assert!(disk.overwrite("/a", 4096, &[9]).is_err());
    let (live, cut) =
        (disk.contents("/a").expect("there"), disk.power_cut(Keep::Synced).contents("/a").expect("there"));
    assert_eq!((live[99], live[100], cut[99], cut[100]), (2, 9, 1, 9));
}

#[test]
fn what_no_sync_has_covered_is_told() {
    let (disk, file) = disk_with_file();
    write_all_at(&*file, &[2; 512], 0).expect("write");
    write_all_at(&*file, &[2; 10], 1000).expect("write");
    assert_eq!(disk.unsynced("/a").expect("there"), [0..512, 1000..1010]);
    file.sync().expect("sync");
    assert_eq!(disk.unsynced("/a").expect("there"), []);
}
