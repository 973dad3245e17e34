//! The log by itself: each way in which its batches are made durable, and appends that wait for nothing; and what it holds for each byte of
//! a user's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pagestone::direct_io::{DurableBy, RealDisk};
use pagestone::page_format::{ENGINE_OP_KINDS, Lsn, Poison, StoreUuid};
use pagestone::store::{Store, Tree};
use pagestone::wal::{Recovery, Wal, WalError, WalOptions, WalStart, WalStats};

use super::clients::{Contender, contest, quartiles};
use crate::BenchResult;
use crate::writers::{key, value};

const UUID: StoreUuid = StoreUuid::new([7; 16]);
/// Bytes of a record: with what is around it about those of one put.
const RECORD: usize = 140;

/// A log; `None`, which is told, where the system has no such call.
fn open(dir: &Path, durable_by: Option<DurableBy>) -> BenchResult<Option<Wal>> {
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

/// What 64 clients put into the log, by kind of change.
pub(super) fn bytes(store: &Store, keys: u64, changes: u64) -> BenchResult<()> {
    const CLIENTS: u64 = 64;
    println!("\n## Bytes of the log for each byte of a user's, 64 clients, 16 + 100 bytes\n");
    println!(
        "| changes | of groups | with headers of blocks | with padding | goal for updates |\n|---|---|---|---|---|"
    );
    let tree = store.default_tree();
    type Change = fn(&Tree, u64) -> BenchResult<()>;
    let put: Change = |tree, number| Ok(tree.put(&key(number), &value(&key(number), 1, 100)).map(drop)?);
    let delete: Change = |tree, number| Ok(tree.remove(&key(number)).map(drop)?);
    let kinds = [
        ("updates", 0, put, 116),
        ("inserts, splits included", keys, put, 116),
        ("deletes", keys, delete, 16),
    ];
    for (name, first, change, user) in kinds {
        let before = store.stats()?.log;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let tree = &tree;
                    let numbers = (client..changes).step_by(CLIENTS as usize);
                    scope.spawn(move || {
                        numbers.map(|number| first + number).try_for_each(|number| change(tree, number))
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a client panicked")?)
        })?;
        let after = store.stats()?.log;
        let over = |of: fn(&WalStats) -> u64| (of(&after) - of(&before)) as f64 / (user * changes) as f64;
        let groups = over(|log| log.group_bytes);
        let written = over(|log| log.end_lsn.get());
        let padded = over(|log| log.bytes_written);
        let goal = match first {
            0 if written <= 1.4 => "1.4 met",
            0 => "1.4 MISSED",
            _ => "",
        };
        println!("| {name} | {groups:.2} | {written:.2} | {padded:.2} | {goal} |");
    }
    Ok(())
}
