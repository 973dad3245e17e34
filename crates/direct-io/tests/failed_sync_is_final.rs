//! Prevents: a page file that says durable after a sync of it has failed, or shows what the failure rolled back (I9, R3, R5).

use std::path::Path;

use pagestone_direct_io::{PageFile, PageFileOptions};
use pagestone_page_format::{PageError, PageId, PageStore};
use pagestone_testkit::{AfterFailedSync, FaultPlan, Keep, SimDisk, errno};

const EIO: i32 = 5;
const EINTR: i32 = 4;

fn put(file: &PageFile, id: u64, byte: u8) -> Result<(), PageError> {
    let mut page = file.allocate_page(PageId::new(id));
    page.payload_mut().fill(byte);
    file.write_page(&mut page)
}

fn byte(file: &PageFile, id: u64) -> Result<u8, PageError> {
    file.read_page(PageId::new(id)).map(|page| page.payload()[0])
}

#[test]
fn page_file_alone_is_dead_after_a_failed_sync_and_lives_again_when_reopened() {
    let path = Path::new("/pages");
    for (after, number) in AfterFailedSync::ALL.into_iter().flat_map(|after| [(after, EIO), (after, EINTR)]) {
        let disk = SimDisk::new(4);
        let file = PageFileOptions::new().open_on(&disk, path).expect("made");
        put(&file, 0, 1).expect("written");
        put(&file, 1, 1).expect("written");
        file.sync().expect("durable");
        let plan = disk.fail(FaultPlan::failed_sync(number, after));
        put(&file, 0, 2).expect("written");
        let first = match file.sync() {
            Ok(()) => file.sync(), // reported late
            failed => failed,
        };
        let error = first.expect_err("planned");
        assert!(
            matches!(&error, PageError::Io { source, .. } if source.raw_os_error() == errno(number).raw_os_error()),
            "{after:?}: the first failure is told as what it is, not as {error}"
        );
        assert_eq!(disk.injected(plan), 1);
        disk.heal();
        let syncs = disk.calls(pagestone_testkit::DiskOp::Sync);
        let journal = disk.journal_len();
        for _ in 0..3 {
            for refused in [
                file.sync(),
                put(&file, 0, 3),
                file.grow(100),
                file.write_many(&mut [
                    file.allocate_page(PageId::new(1)),
                    file.allocate_page(PageId::new(2)),
                ]),
            ] {
                let error = refused.expect_err("dead for writes");
                assert!(matches!(error, PageError::Poisoned { .. }), "{after:?}: {error}");
            }
            byte(&file, 0).expect_err("may be what the failure left");
            let mut pages = [file.allocate_page(PageId::new(0)), file.allocate_page(PageId::new(1))];
            let read = file.read_many(&[PageId::new(0), PageId::new(1)], &mut pages);
            assert!(read.iter().all(Result::is_err));
        }
        assert_eq!((disk.calls(pagestone_testkit::DiskOp::Sync), disk.journal_len()), (syncs, journal));
        assert_eq!(disk.audit(), []);
        drop(file);
        let file = PageFileOptions::new().open_on(&disk, path).expect("opens");
        assert_eq!(byte(&file, 1).expect("was durable"), 1);
        let cut = PageFileOptions::new().open_on(&disk.power_cut(Keep::Synced), path).expect("opens");
        assert_eq!(byte(&file, 0).ok(), byte(&cut, 0).ok(), "{after:?}: what is shown is on the disk");
        put(&file, 0, 4).expect("written");
        file.sync().expect("a new handle");
        assert_eq!(byte(&file, 0).expect("written"), 4);
    }
}
