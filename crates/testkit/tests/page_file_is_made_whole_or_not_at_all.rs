//! Prevents: a page file that a crash in its creation leaves half made under its name (C8, C9, C12).

use std::path::Path;

use pagestone_direct_io::{Disk, PageFileOptions};
use pagestone_page_format::PageId;
use pagestone_testkit::{CrashOptions, Keep, SimDisk};

const PATH: &str = "/pages";

#[test]
fn every_crash_of_the_creation_leaves_nothing_or_a_file() {
    let disk = SimDisk::new(1);
    let file = PageFileOptions::new().open_on(&disk, Path::new(PATH)).expect("made");
    disk.note(1);
    let mut page = file.allocate_page(PageId::new(0));
    page.payload_mut().fill(9);
    file.write_page(&mut page).expect("written");
    file.sync().expect("durable");
    disk.note(2);
    assert_eq!(disk.audit(), []);
    let (mut absent, mut there) = (0, 0);
    for image in disk.crash_states(&CrashOptions::default()) {
        let crashed = image.disk();
        let named = crashed.kind(Path::new(PATH)).expect("a healthy disk").is_some();
        let acknowledged = image.acknowledged().len();
        assert!(named || acknowledged == 0, "{}", image.explain());
        if named {
            there += 1
        } else {
            absent += 1
        }
        let open = |disk: &SimDisk| {
            let file = PageFileOptions::new().open_on(disk, Path::new(PATH));
            file.unwrap_or_else(|error| panic!("{error}: {}", image.explain()))
        };
        let file = open(&crashed);
        if acknowledged == 2 {
            let page = file.read_page(PageId::new(0)).expect("it was durable");
            assert!(page.payload().iter().all(|byte| *byte == 9));
        }
        // What is written now survives, whatever the first creation left.
        let mut page = file.allocate_page(PageId::new(1));
        page.payload_mut().fill(4);
        file.write_page(&mut page).expect("written");
        file.sync().expect("durable");
        drop(file);
        let page = open(&crashed.power_cut(Keep::Synced)).read_page(PageId::new(1)).expect("durable");
        assert!(page.payload().iter().all(|byte| *byte == 4));
    }
    assert!(absent > 10 && there > 10, "{absent} without the file, {there} with it");
}
