//! Prevents: a log that was emptied giving an LSN a second time, so that pages of before are newer than the log and are skipped by
//! redo or refused; losing what was appended behind the reset; or a reset cut anywhere from which the log does not open (C12, R1).
#![cfg(not(loom))]

use std::path::Path;
use std::sync::Arc;

use pagestone_page_format::{Lsn, PageError};
use pagestone_testkit::{CrashOptions, SimDisk};
use pagestone_wal::{DurableBy, Recovery, Wal, WalError, WalOptions, WalResult};

fn options() -> WalOptions {
    WalOptions {
        segment_bytes: 64 << 10,
        log_bytes: 256 << 10,
        buffer_bytes: 32 << 10,
        durable_by: Some(DurableBy::Fdatasync),
        ..WalOptions::default()
    }
}

fn open(disk: &SimDisk) -> WalResult<Recovery> {
    Wal::open_on(Arc::new(disk.clone()), Path::new("/log"), &options())
}

/// The numbers that are in the log, and its end.
fn numbers(recovery: &mut Recovery) -> WalResult<(Vec<u64>, Lsn)> {
    let mut found = Vec::new();
    let report = recovery.replay(|group| {
        for record in group.records() {
            found.push(u64::from_le_bytes(record.payload[..8].try_into().expect("eight bytes")));
        }
        Ok(())
    })?;
    Ok((found, report.end))
}

fn append(log: &Wal, number: u64) -> Lsn {
    let mut payload = vec![number as u8; 8 + number as usize * 977 % 9000];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    let end = log.append_logical(0x4000, &payload).expect("room");
    assert_eq!(log.commit().expect("durable"), end);
    end
}

#[test]
fn a_cut_at_every_operation_of_resets_and_what_follows() {
    let disk = SimDisk::new(3);
    // What is acknowledged: so many numbers, the first that is needed, and the end.
    let mut known = vec![(0u64, 0u64, Lsn::ZERO)];
    let (mut count, mut first, mut end) = (0, 0, Lsn::ZERO);
    for generation in 0..3 {
        let log = open(&disk).expect("opens").start_alone().expect("opens");
        assert!(log.end_lsn() >= end);
        for round in 0..3 {
            for _ in 0..4 + generation {
                end = append(&log, count);
                count += 1;
                disk.note(known.len() as u64);
                known.push((count, first, end));
            }
            if round < 2 {
                // Two at once are as good as one.
                (0..=round).for_each(|_| assert_eq!(log.reset().expect("a healthy disk"), end));
                assert_eq!(log.used(), 0, "empty");
                first = count;
                disk.note(known.len() as u64);
                known.push((count, first, end));
            }
        }
    }

    let few =
        CrashOptions { exhaustive_max: 8, random: 3, pairs_max: 6, splits_max: 3, ..Default::default() };
    let mut images = 0;
    for image in disk.crash_states(&few) {
        let at = image.acknowledged().last().map_or(0, |noted| *noted as usize);
        let (at_least, needed_from, least_end) = known[at];
        let disk = image.disk();
        let opened = open(&disk).and_then(|mut recovery| {
            let (found, end) = numbers(&mut recovery)?;
            Ok((found, end, recovery.start_alone()?))
        });
        let (found, end, log) = opened.unwrap_or_else(|error| panic!("{error}\n{}", image.explain()));
        assert!(end >= least_end, "{end} after {least_end}\n{}", image.explain());
        // A run without gaps, from the last reset or before, to all that was acknowledged and perhaps the next.
        if let (Some(from), Some(to)) = (found.first(), found.last()) {
            assert!(found.iter().copied().eq(*from..=*to), "{found:?}\n{}", image.explain());
            assert!(*to + 1 >= at_least, "{found:?}\n{}", image.explain());
            assert!(at_least == needed_from || *from <= needed_from, "{found:?}\n{}", image.explain());
        } else {
            assert!(at_least == needed_from || known[at + 1].1 == at_least, "{}", image.explain());
        }
        assert!(append(&log, 7) > end.max(least_end));
        images += 1;
    }
    println!("{images} images");
    assert!(images > 300, "{images}");
}

#[test]
fn a_log_whose_start_is_kept_elsewhere_is_not_reset() {
    let disk: Arc<SimDisk> = Arc::new(SimDisk::new(1));
    let uuid = pagestone_page_format::StoreUuid::new([1; 16]);
    Wal::create(disk.clone(), "/log".into(), &options(), uuid).expect("made");
    let start = pagestone_wal::WalStart {
        uuid,
        generation: 0,
        checkpoint: Lsn::ZERO,
        keep_from: Lsn::ZERO,
        newest_copy_lost: false,
        poison: pagestone_page_format::Poison::new(),
    };
    let log = Recovery::open(disk.clone(), "/log".into(), &options(), start.clone()).expect("opens");
    let log = log.start(1).expect("opens");
    assert!(matches!(log.reset(), Err(WalError::InvalidOptions { .. })));
    let recovery = Recovery::open(disk, "/log".into(), &options(), start).expect("opens");
    assert!(matches!(recovery.start_alone(), Err(WalError::InvalidOptions { .. })));
}

#[test]
fn a_log_is_open_once_and_segments_without_a_record_are_not_made_new() {
    let disk = SimDisk::new(1);
    let first = open(&disk).expect("opens");
    assert!(matches!(open(&disk), Err(WalError::Page(PageError::Locked { .. }))));
    let log = first.start_alone().expect("opens");
    assert!(matches!(open(&disk), Err(WalError::Page(PageError::Locked { .. }))));
    append(&log, 1);
    drop(log);
    pagestone_direct_io::Disk::remove_file(&disk, Path::new("/log/master")).expect("there");
    assert!(matches!(open(&disk), Err(WalError::AlreadyExists)));
}
