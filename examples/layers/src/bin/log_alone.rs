//! The log alone: an engine's own records, durable in groups, and back in their order.
//!
//! It prints:
//!
//! ```text
//! a new log: 0 groups
//! three accounts opened, durable with one sync
//! opened again: 2 groups
//!   open alice
//!   open bob
//!   open carol
//!   move 10 from alice to bob
//!   move 10 from bob to carol
//! ```
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;

use pagestone::direct_io::RealDisk;
use pagestone::page_format::{ENGINE_OP_KINDS, OpKind, Poison, StoreUuid};
use pagestone::wal::{GroupBuilder, Recovery, WalStart};
use pagestone::{Lsn, Wal, WalOptions, WalResult};

/// Kinds of logical records are the engine's own; replay hands them back with their payload and knows no more about them.
const OPEN: OpKind = *ENGINE_OP_KINDS.start();
const MOVE: OpKind = OPEN + 1;

/// A log is told which store it belongs to, where to begin, and which generation was the last to write: the engine keeps these, durably,
/// for example in a `MasterRecord`.
fn open(dir: &Path, generation: u64) -> WalResult<Recovery> {
    let start = WalStart {
        uuid: StoreUuid::new([1; 16]),
        generation,
        checkpoint: Lsn::ZERO,
        keep_from: Lsn::ZERO,
        newest_copy_lost: false,
        poison: Poison::new(),
    };
    Recovery::open(Arc::new(RealDisk), dir.into(), &options(), start)
}

fn options() -> WalOptions {
    WalOptions { segment_bytes: 64 << 10, log_bytes: 1 << 20, ..WalOptions::default() }
}

/// A group is replayed whole or not at all.
fn append(log: &Wal, records: &[(OpKind, &str)]) -> WalResult<Lsn> {
    let mut group = GroupBuilder::new();
    records.iter().for_each(|(kind, text)| group.push_logical(*kind, text.as_bytes()));
    let space = log.reserve(group.encoded_len())?; // everything that can be waited for is waited for here
    Ok(log.append(space, &mut group).end)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path().join("log");
    Wal::create(Arc::new(RealDisk), dir.clone(), &options(), StoreUuid::new([1; 16]))?;
    let mut recovery = open(&dir, 0)?;
    println!("a new log: {} groups", recovery.replay(|_| Ok(()))?.groups);
    let log = recovery.start(1)?;

    let opened = append(&log, &[(OPEN, "alice"), (OPEN, "bob"), (OPEN, "carol")])?;
    log.wait_durable(opened)?; // who waits first writes and syncs for all that wait
    println!("three accounts opened, durable with one sync");
    let moved = append(&log, &[(MOVE, "10 from alice to bob"), (MOVE, "10 from bob to carol")])?;
    log.wait_durable(moved)?;
    drop(log);

    let mut found = Vec::new();
    let report = open(&dir, 1)?.replay(|group| {
        found.extend(group.records().map(|record| (record.op, record.payload.to_vec())));
        Ok(())
    })?;
    println!("opened again: {} groups", report.groups);
    for (kind, payload) in found {
        let verb = if kind == OPEN { "open" } else { "move" };
        println!("  {verb} {}", payload.escape_ascii());
    }
    Ok(())
}
