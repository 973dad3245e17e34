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
//! emptied: 0 groups
//! ```
#![forbid(unsafe_code)]

use pagestone::page_format::{ENGINE_OP_KINDS, OpKind};
use pagestone::wal::GroupBuilder;
use pagestone::{Lsn, Wal, WalOptions, WalResult};

/// Kinds of logical records are the engine's own; replay hands them back with their payload and knows no more about them.
const OPEN: OpKind = *ENGINE_OP_KINDS.start();
const MOVE: OpKind = OPEN + 1;

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
    let options = WalOptions { segment_bytes: 64 << 10, log_bytes: 1 << 20, ..WalOptions::default() };
    // The log is made if there is none, is locked while it is open, and keeps by itself where recovery begins.
    let mut recovery = Wal::open(&dir, &options)?;
    println!("a new log: {} groups", recovery.replay(|_| Ok(()))?.groups);
    let log = recovery.start_alone()?;

    let opened = append(&log, &[(OPEN, "alice"), (OPEN, "bob"), (OPEN, "carol")])?;
    log.wait_durable(opened)?; // who waits first writes and syncs for all that wait
    println!("three accounts opened, durable with one sync");
    append(&log, &[(MOVE, "10 from alice to bob"), (MOVE, "10 from bob to carol")])?;
    log.commit()?; // the same for everything that was appended
    drop(log);

    let mut found = Vec::new();
    let mut recovery = Wal::open(&dir, &options)?;
    let report = recovery.replay(|group| {
        found.extend(group.records().map(|record| (record.op, record.payload.to_vec())));
        Ok(())
    })?;
    println!("opened again: {} groups", report.groups);
    for (kind, payload) in found {
        let verb = if kind == OPEN { "open" } else { "move" };
        println!("  {verb} {}", payload.escape_ascii());
    }
    let log = recovery.start_alone()?;
    log.reset()?; // once the accounts stand somewhere else, durably
    drop(log);
    println!("emptied: {} groups", Wal::open(&dir, &options)?.replay(|_| Ok(()))?.groups);
    Ok(())
}
