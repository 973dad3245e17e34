//! A fault that was found by lot and cannot be found again is a rumour.

use std::io;
use std::path::Path;

use pagestone_direct_io::{DirectIo, Disk, OpenHow, write_all_at};
use pagestone_testkit::{DiskOp, FaultTally, Schedule, SimDisk};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Bug {
    None,
    RetriesASync,
    ForgetsAnError,
}

/// Appends twenty records, and acknowledges each when it is durable with all before it. Gives how many it acknowledged.
fn work(disk: &SimDisk, bug: Bug, acknowledged: &mut usize) -> io::Result<()> {
    let (path, root) = (Path::new("/log"), Path::new("/"));
    let file = disk.open(path, &OpenHow::create_new(DirectIo::Off))?;
    disk.sync_dir(root)?;
    for number in 0..20u64 {
        let written = write_all_at(&*file, &[number as u8; 100], number * 100);
        if !(bug == Bug::ForgetsAnError && number % 5 == 3) {
            written?;
        }
        match file.sync() {
            Err(_) if bug == Bug::RetriesASync => file.sync()?,
            other => other?,
        }
        if number * 100 < file.len()? {
            disk.acknowledge(number, path, number * 100..number * 100 + 100)?;
            *acknowledged = number as usize + 1;
        }
    }
    Ok(())
}

/// What is wrong after the workload under this schedule: lies only, errors are allowed.
fn wrong(schedule: &Schedule, bug: Bug, tally: &mut FaultTally) -> Option<String> {
    let disk = SimDisk::new(schedule.seed);
    let plans = schedule.plan(&disk);
    let mut acknowledged = 0;
    let _ = work(&disk, bug, &mut acknowledged); // an error is no lie
    schedule.count(tally, &disk, &plans);
    let audit = disk.audit();
    let bytes = disk.contents("/log").unwrap_or_default();
    let missing = (0..acknowledged).any(|number| bytes.get(number * 100) != Some(&(number as u8)));
    match (audit.first(), missing) {
        (Some(violation), _) => Some(violation.to_string()),
        (None, true) => Some("a record is missing and nobody was told".to_owned()),
        (None, false) => None,
    }
}

fn clean() -> SimDisk {
    let disk = SimDisk::new(0);
    work(&disk, Bug::None, &mut 0).expect("nothing planned");
    assert_eq!(disk.audit(), []);
    disk
}

#[test]
fn the_correct_log_tells_no_lies_under_any_schedule() {
    let (clean, mut tally) = (clean(), FaultTally::default());
    for seed in 0..2000 {
        let schedule = Schedule::by_lot(seed, &clean, 3);
        assert_eq!(wrong(&schedule, Bug::None, &mut tally), None, "{schedule}");
    }
    assert!(tally.total() > 2000, "{tally}");
}

#[test]
fn a_lie_is_found_replayed_and_shrunk() {
    let clean = clean();
    for (bug, op) in [(Bug::RetriesASync, DiskOp::Sync), (Bug::ForgetsAnError, DiskOp::Write)] {
        let mut tally = FaultTally::default();
        let found = (0..3000)
            .map(|seed| Schedule::by_lot(seed, &clean, 4))
            .find(|schedule| schedule.faults.len() > 1 && wrong(schedule, bug, &mut tally).is_some())
            .unwrap_or_else(|| panic!("{bug:?} is never found"));

        let again: Schedule = found.to_string().parse().expect("its own text");
        assert_eq!(again, found);
        assert_eq!(Schedule::by_lot(found.seed, &clean, 4), found, "it follows from its seed");
        let (first, second) = (wrong(&found, bug, &mut tally), wrong(&again, bug, &mut tally));
        assert!(first.is_some() && first == second, "{first:?} {second:?}");

        let small = found.clone().shrink(|schedule| wrong(schedule, bug, &mut tally).is_some());
        assert!(wrong(&small, bug, &mut tally).is_some());
        assert_eq!(small.faults.len(), 1, "{found} shrinks to {small}");
        assert_eq!(small.faults[0].op, op);
        assert!(small.faults[0].skip == if bug == Bug::ForgetsAnError { 3 } else { 0 }, "{small}");
    }
}

#[test]
fn a_schedule_that_does_not_fail_stays_as_it_is() {
    let schedule: Schedule = "1: EIO/Write+3x2 short/Read+0x*".parse().expect("a schedule");
    assert_eq!(schedule.clone().shrink(|_| false), schedule);
}

#[test]
fn what_is_no_schedule_is_told() {
    for text in [
        "",
        "EIO/Write+1x1",
        "x: EIO/Write+1x1",
        "1: EIO",
        "1: EIO/Write",
        "1: EIO/Write+1",
        "1: EIO/Wr+1x1",
        "1: EI/Write+1x1",
        "1: EIO/Write+x1",
        "1: EIO/Write+1xx",
        "1: short/Sync+1x1",
    ] {
        assert!(text.parse::<Schedule>().is_err(), "{text}");
    }
    assert_eq!("1:".parse::<Schedule>().expect("no faults").faults, []);
}
