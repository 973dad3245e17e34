//! A crash enumeration finds a lost acknowledgement only where a crash is looked at; the audit finds it in every run, with the
//! file and the bytes.

use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{DirectIo, Disk, File, MapAccess, OpenHow, write_all_at};
use pagestone_testkit::{AfterFailedSync, CrashOptions, FaultPlan, NotDurable, SimDisk, Violation};

fn create(disk: &SimDisk, path: &str) -> Arc<dyn File> {
    disk.open(Path::new(path), &OpenHow::create_new(DirectIo::Off)).expect("create")
}

/// What is told of an acknowledgement of the first 1000 bytes.
fn told(disk: &SimDisk, path: &str) -> Vec<NotDurable> {
    let before = disk.audit().len();
    disk.acknowledge(1, path, 0..1000).expect("there");
    let what = |violation: &Violation| match violation {
        Violation::AcknowledgedUnsynced { path: told, what } => {
            assert_eq!(told, Path::new(path));
            what.clone()
        }
        other => panic!("{other}"),
    };
    disk.audit()[before..].iter().map(what).collect()
}

#[test]
fn bytes_length_and_name_have_to_be_durable() {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("/d")).expect("create");
    let file = create(&disk, "/d/a");
    write_all_at(&*file, &[1; 100], 0).expect("write");
    let pending = NotDurable::Pending(0..100);
    assert_eq!(told(&disk, "/d/a"), [pending, NotDurable::Length(0), NotDurable::Name]);
    file.sync().expect("sync");
    assert_eq!(told(&disk, "/d/a"), [NotDurable::Name]);
    disk.sync_dir(Path::new("/d")).expect("sync");
    assert_eq!(told(&disk, "/d/a"), [NotDurable::Name], "nobody finds the directory");
    disk.sync_dir(Path::new("/")).expect("sync");
    assert_eq!(told(&disk, "/d/a"), []);
    write_all_at(&*file, &[1; 100], 1000).expect("behind what is asked for");
    file.reserve(0, 1 << 20).expect("longer");
    assert_eq!(told(&disk, "/d/a"), [NotDurable::Length(100)]);
    disk.rename(Path::new("/d/a"), Path::new("/d/b")).expect("rename");
    file.sync().expect("sync");
    assert_eq!(told(&disk, "/d/b"), [NotDurable::Name]);
    assert!(disk.acknowledge(1, "/d/a", 0..1).is_err(), "it is not there");
}

#[test]
fn what_a_failed_sync_lost_is_not_acknowledged() {
    for after in AfterFailedSync::ALL {
        let disk = SimDisk::new(1);
        let file = create(&disk, "/a");
        write_all_at(&*file, &[1; 4096], 0).expect("write");
        disk.settle();
        write_all_at(&*file, &[2; 600], 0).expect("write");
        disk.fail(FaultPlan::failed_sync(libc::EIO, after));
        if file.sync().is_ok() {
            assert_eq!(told(&disk, "/a"), [], "{after:?}: it was durable then");
            continue;
        }
        assert_eq!(told(&disk, "/a"), [NotDurable::Lost(0..600)], "{after:?}");
        // The way out is to write it again, through a new handle.
        let file = disk.open(Path::new("/a"), &OpenHow::write(DirectIo::Off)).expect("open");
        write_all_at(&*file, &[2; 500], 0).expect("write");
        assert_eq!(told(&disk, "/a"), [NotDurable::Pending(0..500), NotDurable::Lost(500..600)]);
        write_all_at(&*file, &[2; 600], 0).expect("write");
        file.sync().expect("sync");
        assert_eq!(told(&disk, "/a"), []);
    }
}

#[test]
fn what_was_changed_through_a_map_is_acknowledged_after_its_flush() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/a");
    file.reserve(0, 8192).expect("reserve");
    disk.settle();
    assert!(file.try_lock().expect("lock"));
    let mut map = file.map(0..8192, MapAccess::Write).expect("map");
    map.bytes_mut()[600] = 1;
    assert_eq!(told(&disk, "/a"), [NotDurable::Pending(512..1000)]);
    map.bytes_mut()[5000] = 1;
    map.flush(0..1).expect("flush");
    assert_eq!(told(&disk, "/a"), []);
}

/// The audit and the enumeration agree: what the audit lets pass is in every image.
#[test]
fn an_acknowledgement_that_passes_is_in_every_image() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/a");
    disk.sync_dir(Path::new("/")).expect("sync");
    for number in 1..=5u8 {
        let offset = u64::from(number - 1) * 700;
        write_all_at(&*file, &[number; 700], offset).expect("write");
        file.sync().expect("sync");
        disk.acknowledge(number.into(), "/a", offset..offset + 700).expect("there");
    }
    assert_eq!(disk.audit(), []);
    let mut images = 0;
    for image in disk.crash_states(&CrashOptions::default()) {
        for number in image.acknowledged() {
            let at = (*number as usize - 1) * 700;
            assert_eq!(image.disk().contents("/a").expect("there")[at..at + 700], [*number as u8; 700]);
        }
        images += 1;
    }
    assert!(images > 20, "{images}");
}

#[test]
fn a_write_to_a_free_page_is_told() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/a");
    write_all_at(&*file, &[1; 16384], 0).expect("write");
    disk.forbid_writes("/a", 4096..8192).expect("there");
    write_all_at(&*file, &[2; 4096], 0).expect("beside it");
    write_all_at(&*file, &[2; 4096], 8192).expect("beside it");
    assert_eq!(disk.audit(), []);
    write_all_at(&*file, &[2; 4096], 5000).expect("into it");
    let told = |bytes| Violation::ForbiddenWrite { path: "/a".into(), bytes };
    assert_eq!(disk.audit(), [told(5000..8192)]);
    assert!(file.try_lock().expect("lock"));
    let mut map = file.map(0..16384, MapAccess::Write).expect("map");
    map.bytes_mut()[4100] = 7;
    assert_eq!(disk.audit(), [told(5000..8192), told(4096..4608)]);
    disk.permit_writes("/a", 0..16384).expect("there");
    map.bytes_mut()[4100] = 3;
    assert_eq!(disk.audit().len(), 2);
}
