//! The log by itself: each way in which its batches are made durable, and appends that wait for nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pagestone::direct_io::{DurableBy, RealDisk};
use pagestone::page_format::{ENGINE_OP_KINDS, Lsn, Poison, StoreUuid};
use pagestone::wal::{Recovery, Wal, WalError, WalOptions, WalStart};

use super::clients::{Contender, contest};
use crate::{BenchResult, quartiles};

const UUID: StoreUuid = StoreUuid::new([7; 16]);
/// Bytes of a record: with what is around it about those of one put.
const RECORD: usize = 140;

/// A log; `None`, which is told, where the system has no such call.
pub(super) fn open(dir: &Path, durable_by: Option<DurableBy>) -> BenchResult<Option<Wal>> {
    let options = WalOptions { durable_by, log_bytes: 16 << 30, ..WalOptions::default() };
    Wal::create(Arc::new(RealDisk), dir.to_path_buf(), &options, UUID)?;
    let start = WalStart {
        uuid: UUID,
        generation: 0,
        checkpoint: Lsn::ZERO,
        keep_from: Lsn::ZERO,
        newest_copy_lost: false,
        poison: Poison::new(),
    };
    let mut recovery = Recovery::open(Arc::new(RealDisk), dir.to_path_buf(), &options, start)?;
    recovery.replay(|_| Ok(()))?;
    match recovery.start(1) {
        Err(WalError::InvalidOptions { reason }) => {
            println!("NOT MEASURED: {durable_by:?}: {reason}");
            Ok(None)
        }
        other => Ok(Some(other?)),
    }
}

fn append(wal: &Wal, number: u64) -> BenchResult<Lsn> {
    let mut record = [0; RECORD];
    record[..8].copy_from_slice(&number.to_le_bytes());
    Ok(wal.append_logical(*ENGINE_OP_KINDS.start(), &record)?)
}

/// Commits by each of the system's calls.
pub(super) fn backends(dir: &Path, rounds: usize, turn: Duration) -> BenchResult<()> {
    println!("\n## The log by itself, by each way to make it durable\n");
    println!(
        "| clients | way | commits/s | p50 µs | p99 µs | p99.9 µs | CPU µs |\n|---|---|---|---|---|---|---|"
    );
    let mut logs = Vec::new();
    for by in DurableBy::ALL {
        logs.extend(open(&dir.join(format!("log-{by}")), Some(by))?.map(|wal| (by.name(), wal)));
    }
    for clients in [1, 8, 64] {
        let step = |wal: &Wal, number| Ok(wal.wait_durable(append(wal, number)?)?);
        let mut contenders = logs
            .iter()
            .map(|(name, wal)| Contender::new(*name, move |_, number| step(wal, number)))
            .collect::<BenchResult<Vec<_>>>()?;
        contest(clients, rounds, turn, &mut contenders)?;
        for contender in &contenders {
            println!("| {clients} | {} | {} |", contender.name, contender.row());
        }
    }
    Ok(())
}

/// Appends that nobody waits for; the log writes when a buffer is full.
pub(super) fn appends(dir: &Path, rounds: usize, turn: Duration) -> BenchResult<()> {
    println!("\n## Appends without a sync, {RECORD} bytes\n");
    println!("| threads | appends/s | MB/s |\n|---|---|---|");
    let Some(wal) = open(&dir.join("appends"), None)? else { return Ok(()) };
    for threads in [1, 2] {
        let mut contenders = [Contender::new("append", |_, number| append(&wal, number).map(drop))?];
        contest(threads, rounds, turn, &mut contenders)?;
        let [low, rate, high] = quartiles(contenders[0].rates.iter().copied());
        println!("| {threads} | {rate:.0} [{low:.0} to {high:.0}] | {:.0} |", rate * RECORD as f64 / 1e6);
    }
    Ok(())
}
