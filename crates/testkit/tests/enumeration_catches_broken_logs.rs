//! A harness that has never failed may be unable to. A small log, and the ways to break it that lose data in the field:
//! the correct one passes every crash, each broken one is caught.

use std::io;
use std::path::Path;

use pagestone_direct_io::{DirectIo, Disk, OpenHow, read_exact_at, write_all_at};
use pagestone_page_format::crc32c;
use pagestone_testkit::{CrashOptions, SimDisk};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Bug {
    None,
    SkipsASync,
    AcknowledgesBeforeTheSync,
    ForgetsTheDirectory,
    ForgetsTheDirectoryOfTheSecondFile,
    ForgetsTheChecksum,
    OverwritesInPlace,
}

const RECORD: usize = 1024;
const PER_FILE: u64 = 3;

fn path(record: u64) -> String {
    format!("/log/{}", record / PER_FILE)
}

fn record(number: u64, bug: Bug) -> Vec<u8> {
    let mut bytes = vec![number as u8 + 1; RECORD];
    bytes[..8].copy_from_slice(&(number + 1).to_le_bytes());
    let sum = if bug == Bug::ForgetsTheChecksum { 0 } else { crc32c(&bytes[16..]) };
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Writes seven records and notes each that it acknowledges.
fn write_log(disk: &SimDisk, bug: Bug) -> io::Result<()> {
    let (dir, root) = (Path::new("/log"), Path::new("/"));
    disk.create_dir(dir)?;
    disk.sync_dir(root)?;
    for number in 0..7 {
        let how =
            OpenHow { create: pagestone_direct_io::Create::OpenOrNew, write: true, direct: DirectIo::Off };
        let file = disk.open(Path::new(&path(number)), &how)?;
        let forgotten = match bug {
            Bug::ForgetsTheDirectory => true,
            Bug::ForgetsTheDirectoryOfTheSecondFile => number / PER_FILE == 1,
            _ => false,
        };
        if number % PER_FILE == 0 && !forgotten {
            disk.sync_dir(dir)?;
        }
        if bug == Bug::AcknowledgesBeforeTheSync {
            disk.note(number);
        }
        let at = if bug == Bug::OverwritesInPlace { 0 } else { number % PER_FILE * RECORD as u64 };
        write_all_at(&*file, &record(number, bug), at)?;
        if !(bug == Bug::SkipsASync && number == 4) {
            file.sync()?;
        }
        if bug != Bug::AcknowledgesBeforeTheSync {
            disk.note(number);
        }
    }
    Ok(())
}

/// The records that can be read, or what is wrong with one.
fn recover(disk: &SimDisk, bug: Bug) -> Result<Vec<u64>, String> {
    let mut found = Vec::new();
    for file in 0..3u64 {
        let name = format!("/log/{file}");
        let Ok(handle) = disk.open(Path::new(&name), &OpenHow::read(DirectIo::Off)) else { continue };
        for at in 0..PER_FILE {
            let mut bytes = vec![0; RECORD];
            let got =
                read_exact_at(&*handle, &mut bytes, at * RECORD as u64).map_err(|error| error.to_string())?;
            let number = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
            let sum = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
            let valid = bug == Bug::ForgetsTheChecksum || sum == crc32c(&bytes[16..]);
            if got < RECORD || number == 0 || !valid {
                continue;
            }
            if bytes[16..].iter().any(|byte| u64::from(*byte) != number) {
                return Err(format!("record {number} holds what was never written"));
            }
            found.push(number - 1);
        }
    }
    Ok(found)
}

/// The first crash that loses something, or how many were survived.
fn hunt(bug: Bug) -> Result<u64, String> {
    let disk = SimDisk::new(3);
    write_log(&disk, bug).map_err(|error| error.to_string())?;
    let mut states = disk.crash_states(&CrashOptions::default());
    for image in states.by_ref() {
        let found = recover(&image.disk(), bug).map_err(|wrong| format!("{wrong}\n{image:?}"))?;
        for number in image.acknowledged() {
            if !found.contains(number) {
                return Err(format!("record {number} is lost, {found:?} are there\n{}", image.explain()));
            }
        }
    }
    Ok(states.stats().images)
}

#[test]
fn the_correct_log_survives_every_crash() {
    let images = hunt(Bug::None).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(images > 50, "{images} images");
}

#[test]
fn every_broken_log_is_caught() {
    let bugs = [
        Bug::SkipsASync,
        Bug::AcknowledgesBeforeTheSync,
        Bug::ForgetsTheDirectory,
        Bug::ForgetsTheDirectoryOfTheSecondFile,
        Bug::ForgetsTheChecksum,
        Bug::OverwritesInPlace,
    ];
    for bug in bugs {
        let caught = hunt(bug).expect_err("a broken log");
        assert!(caught.contains("power cut after"), "{bug:?}: {caught}");
    }
}
