//! What the tests of the log share: a log on a simulated disk, and groups that carry who they are.
#![allow(dead_code)] // no test uses all of it

pub(crate) mod flips;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pagestone_direct_io::{DirectIo, Disk};
use pagestone_page_format::{Lsn, Poison, StoreUuid};
use pagestone_testkit::SimDisk;
use pagestone_wal::{
    CommitMode, DurableBy, GroupBuilder, Recovery, ReplayReport, Wal, WalOptions, WalResult, WalStart,
};

pub(crate) const DIR: &str = "/log";
pub(crate) const UUID: StoreUuid = StoreUuid::new([0x5a; 16]);

/// Small enough that everything happens soon.
pub(crate) fn options() -> WalOptions {
    WalOptions {
        segment_bytes: 64 << 10,
        log_bytes: 1 << 20,
        buffer_bytes: 64 << 10,
        direct: DirectIo::Prefer,
        durable_by: Some(DurableBy::Fdatasync),
        read_ahead: false,
        commit: CommitMode::Strict,
        full_wait: Duration::from_millis(20),
        delay_max: Duration::from_micros(200),
    }
}

pub(crate) fn start(generation: u64) -> WalStart {
    WalStart {
        uuid: UUID,
        generation,
        checkpoint: Lsn::ZERO,
        keep_from: Lsn::ZERO,
        newest_copy_lost: false,
        poison: Poison::new(),
    }
}

pub(crate) fn create(disk: &SimDisk, options: &WalOptions) {
    Wal::create(Arc::new(disk.clone()), DIR.into(), options, UUID).expect("create");
}

pub(crate) fn open(disk: &SimDisk, options: &WalOptions, start: WalStart) -> WalResult<Recovery> {
    Recovery::open(Arc::new(disk.clone()), DIR.into(), options, start)
}

/// A fresh log on a fresh disk, written by generation 1.
pub(crate) fn fresh(options: &WalOptions) -> (SimDisk, Wal) {
    let disk = SimDisk::new(1);
    create(&disk, options);
    let wal = open(&disk, options, start(0)).expect("open").start(1).expect("start");
    (disk, wal)
}

/// Which group: who wrote it, and which of theirs it is.
pub(crate) type Id = (u32, u32);

/// A group of `len` payload bytes, at least 8, that says who it is in every byte.
pub(crate) fn group(id: Id, len: usize) -> GroupBuilder {
    let mut group = GroupBuilder::new();
    group.push_logical(0x4000, &payload(id, len));
    group
}

fn payload(id: Id, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len.max(8));
    bytes.extend_from_slice(&id.0.to_le_bytes());
    bytes.extend_from_slice(&id.1.to_le_bytes());
    let seed = id.0.wrapping_mul(0x9e37_79b9) ^ id.1.wrapping_mul(0x85eb_ca6b);
    bytes.extend((8..len).map(|at| (seed.wrapping_add(at as u32).wrapping_mul(0x2545_f491) >> 24) as u8));
    bytes
}

/// Appends a group without waiting. Gives its LSNs.
pub(crate) fn append(wal: &Wal, id: Id, len: usize) -> (Lsn, Lsn) {
    let mut group = group(id, len);
    let space = wal.reserve(group.encoded_len()).expect("reserve");
    let appended = wal.append(space, &mut group);
    (appended.start, appended.end)
}

/// Appends a group and waits until it is durable. Gives its end.
pub(crate) fn commit(wal: &Wal, id: Id, len: usize) -> Lsn {
    let (_, end) = append(wal, id, len);
    wal.wait_durable(end).expect("durable");
    end
}

/// Replays; asserts that every group says the same in every byte and that LSNs rise. Gives who they are.
pub(crate) fn replay(recovery: &mut Recovery) -> WalResult<(Vec<Id>, ReplayReport)> {
    let mut found = Vec::new();
    let mut end = Lsn::ZERO;
    let report = recovery.replay(|group| {
        assert!(group.start() >= end && group.end() > group.start(), "groups lie in the order of their LSNs");
        end = group.end();
        for record in group.records() {
            let (head, _) = record.payload.split_first_chunk::<8>().expect("a payload of ours");
            let id = (
                u32::from_le_bytes(head[..4].try_into().unwrap()),
                u32::from_le_bytes(head[4..].try_into().unwrap()),
            );
            assert_eq!(
                record.payload,
                payload(id, record.payload.len()),
                "group {id:?} is not what was appended"
            );
            found.push(id);
        }
        Ok(())
    })?;
    assert!(report.end >= end);
    Ok((found, report))
}

/// Opens and replays.
pub(crate) fn recover(
    disk: &SimDisk,
    options: &WalOptions,
    start: WalStart,
) -> WalResult<(Vec<Id>, ReplayReport)> {
    replay(&mut open(disk, options, start)?)
}

/// The segment files.
pub(crate) fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let names = disk.list(DIR.as_ref()).expect("list");
    names.iter().map(|name| PathBuf::from(DIR).join(name)).collect()
}

/// Nothing of the log before this call is unsynced.
pub(crate) fn assert_synced(disk: &SimDisk) {
    for path in segments(disk) {
        assert_eq!(
            disk.unsynced(&path).expect("a file"),
            [],
            "{} is acknowledged and not synced",
            path.display()
        );
    }
}
