//! A harness of maps that has never failed may be unable to. A page in two copies behind a map, and the ways to break it: the
//! correct one passes every crash, each broken one is caught.

use std::io;
use std::path::Path;

use pagestone_direct_io::{DirectIo, Disk, MapAccess, OpenHow, read_exact_at, write_all_at};
use pagestone_testkit::{CrashOptions, SimDisk};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Bug {
    None,
    SkipsTheFlush,
    GoesOnInTheActiveCopy,
    OverwritesTheActiveCopy,
    AcknowledgesBeforeTheSync,
    KeepsTheHeaderInTheMap,
}

const PAGE: usize = 4096;

/// Block 0 is the header, two bytes: which copy is active, and its version. Blocks 1 and 2 are the copies.
fn work(disk: &SimDisk, bug: Bug) -> io::Result<()> {
    let file = disk.open(Path::new("/pages"), &OpenHow::create_new(DirectIo::Off))?;
    assert!(file.try_lock()?);
    file.reserve(0, 3 * PAGE as u64)?;
    file.sync()?;
    disk.sync_dir(Path::new("/"))?;
    let header = if bug == Bug::KeepsTheHeaderInTheMap { 0 } else { PAGE };
    let mut map = file.map(header as u64..3 * PAGE as u64, MapAccess::Write)?;
    for version in 1..=4u8 {
        let copy = if bug == Bug::OverwritesTheActiveCopy { 0 } else { version as usize % 2 };
        let at = (1 + copy) * PAGE - header;
        if bug == Bug::KeepsTheHeaderInTheMap {
            map.bytes_mut()[..2].copy_from_slice(&[copy as u8, version]); // one flush for both
        }
        map.bytes_mut()[at..at + PAGE].fill(version);
        match bug {
            Bug::SkipsTheFlush => {}
            Bug::KeepsTheHeaderInTheMap => map.flush(0..3 * PAGE)?,
            _ => map.flush(at..at + PAGE)?,
        }
        if bug == Bug::AcknowledgesBeforeTheSync {
            disk.note(version.into());
        }
        if bug != Bug::KeepsTheHeaderInTheMap {
            write_all_at(&*file, &[copy as u8, version], 0)?;
            // A flush of the copy must not be left to the sync of the header, which covers both in no order.
            file.sync()?;
        }
        if bug == Bug::GoesOnInTheActiveCopy {
            map.bytes_mut()[at..at + PAGE].fill(version + 100);
        }
        if bug != Bug::AcknowledgesBeforeTheSync {
            disk.note(version.into());
        }
    }
    Ok(())
}

/// The version that can be read, or what is wrong with it.
fn recover(disk: &SimDisk) -> Result<u8, String> {
    let Ok(file) = disk.open(Path::new("/pages"), &OpenHow::read(DirectIo::Off)) else { return Ok(0) };
    let mut bytes = vec![0; 3 * PAGE];
    read_exact_at(&*file, &mut bytes, 0).map_err(|error| error.to_string())?;
    let (copy, version) = (bytes[0] as usize, bytes[1]);
    let page = &bytes[(1 + copy) * PAGE..][..PAGE];
    if version > 0 && page.iter().any(|byte| *byte != version) {
        return Err(format!("version {version} is not whole"));
    }
    Ok(version)
}

/// The first crash that loses something, or how many were survived.
fn hunt(bug: Bug) -> Result<u64, String> {
    let disk = SimDisk::new(3);
    work(&disk, bug).map_err(|error| error.to_string())?;
    let mut states = disk.crash_states(&CrashOptions::default());
    for image in states.by_ref() {
        let found = recover(&image.disk()).map_err(|wrong| format!("{wrong}\n{image:?}"))?;
        if let Some(last) = image.acknowledged().last()
            && u64::from(found) < *last
        {
            return Err(format!("version {last} is lost, {found} is there\n{}", image.explain()));
        }
    }
    Ok(states.stats().images)
}

#[test]
fn the_correct_pager_survives_every_crash() {
    let images = hunt(Bug::None).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(images > 50, "{images} images");
}

#[test]
fn every_broken_pager_is_caught() {
    let bugs = [
        Bug::SkipsTheFlush,
        Bug::GoesOnInTheActiveCopy,
        Bug::OverwritesTheActiveCopy,
        Bug::AcknowledgesBeforeTheSync,
        Bug::KeepsTheHeaderInTheMap,
    ];
    for bug in bugs {
        let caught = hunt(bug).expect_err(&format!("{bug:?}"));
        assert!(caught.contains("power cut after"), "{bug:?}: {caught}");
    }
}
