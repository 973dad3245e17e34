//! What the log holds for each byte of a user's, and which records that is.
//!
//! Invariant: nothing is estimated. The groups are read back from the log of the live store, between calls, and their bytes, with those of
//! blocks' headers and of padding, are the bytes by which the log grew.
//!
//! ```text
//!   group      8 bytes, and for each record a frame: kind, operation, page id, length
//!   payload    what an operation encodes: a key and a value, or for a split the entries that moved
//!   blocks     64 of 4096 bytes
//!   padding    blocks that a batch left partly empty; how much that is depends on the disk and on the clients
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pagestone::direct_io::RealDisk;
use pagestone::page_format::{Lsn, OpKind, Poison, StoreUuid};
use pagestone::store::{Durability, Options, Store, Tree};
use pagestone::wal::{Recovery, WalOptions, WalStart, WalStats};

use crate::threads::on_threads;
use crate::writers::{key, value};
use crate::{BenchResult, in_new_dir};

const CLIENTS: u64 = 64;
const VALUE: usize = 100;
/// The key and the value.
const ROW: u64 = 16 + VALUE as u64;
/// G8, without padding.
const GOAL: f64 = 1.4;

/// Options of this bench.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory that does not exist yet; removed at the end.
    #[arg(long)]
    dir: PathBuf,
    /// Keys that are there, are overwritten, and are joined by as many that are deleted again.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
}

/// Runs it and prints Markdown.
pub(crate) fn run(args: &Args) -> BenchResult<()> {
    in_new_dir(&args.dir, || measure(&args.dir.join("store"), args.keys))
}

/// One kind of change: of which keys, and how many of a user's bytes each has.
struct Kind {
    name: &'static str,
    first: u64,
    change: fn(&Tree, u64) -> BenchResult<()>,
    user: u64,
    goal: Option<f64>,
}

/// Fills a new store, changes each row in each way, and prints what that put into the log.
pub(crate) fn measure(store: &Path, keys: u64) -> BenchResult<()> {
    let put = |tree: &Tree, number| Ok(tree.put(&key(number), &value(&key(number), 1, VALUE)).map(drop)?);
    let delete = |tree: &Tree, number| Ok(tree.remove(&key(number)).map(drop)?);
    let kinds = [
        Kind { name: "updates", first: 0, change: put, user: ROW, goal: Some(GOAL) },
        Kind { name: "inserts, splits included", first: keys, change: put, user: ROW, goal: None },
        Kind { name: "deletes, merges included", first: keys, change: delete, user: 16, goal: None },
    ];
    println!(
        "\n## The log for each byte of a user's, {CLIENTS} clients, keys of 16 bytes, values of {VALUE}\n\n\
         A user's bytes of a put are the key and the value, of a delete the key.\n\n\
         | {keys} changes | log a change, bytes | over the user's | of groups | of blocks' headers | padding, apart | written to the disk | goal |\n\
         |---|---|---|---|---|---|---|---|"
    );
    // No checkpoint may give a part of the log back before it was read.
    let options = Options {
        log_bytes: 64 << 30,
        segment_bytes: 64 << 20,
        durability: Durability::Strict,
        ..Options::default()
    };
    let opened = Store::open(store, options)?;
    let tree = opened.default_tree();
    by_clients(keys, |number| put(&tree, number))?;
    let mut ends = vec![opened.stats()?.log.end_lsn];
    for kind in &kinds {
        let before = opened.stats()?.log;
        by_clients(keys, |number| (kind.change)(&tree, kind.first + number))?;
        let after = opened.stats()?.log;
        ends.push(after.end_lsn);
        println!("{}", kind.row(&before, &after, keys));
    }
    print_records(&read_back(store, &ends)?, &kinds, keys);
    Ok(opened.close()?)
}

impl Kind {
    fn row(&self, before: &WalStats, after: &WalStats, changes: u64) -> String {
        let grew = |of: fn(&WalStats) -> u64| of(after) - of(before);
        let (groups, padding) = (grew(|log| log.group_bytes), grew(|log| log.padding));
        let written = grew(|log| log.bytes_written);
        let log = grew(|log| log.end_lsn.get()) - padding;
        let over = |bytes: u64| bytes as f64 / (self.user * changes) as f64;
        let goal = self.goal.map_or(String::new(), |goal| {
            format!("{goal} {}", if over(log) <= goal { "met" } else { "MISSED" })
        });
        format!(
            "| {} | {:.1} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {goal} |",
            self.name,
            log as f64 / changes as f64,
            over(log),
            over(groups),
            over(log.saturating_sub(groups)),
            over(padding),
            over(written)
        )
    }
}

fn by_clients(changes: u64, change: impl Fn(u64) -> BenchResult<()> + Sync) -> BenchResult<()> {
    on_threads(CLIENTS, |client| (client..changes).step_by(CLIENTS as usize).try_for_each(&change)).map(drop)
}

/// Records of one operation.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    records: u64,
    payload: u64,
}

/// What a phase put into the log.
#[derive(Debug, Default)]
struct Phase {
    groups: u64,
    /// Bytes of the groups, their headers included.
    bytes: u64,
    records: BTreeMap<OpKind, Tally>,
}

/// The groups between each end and the next, by operation. Nobody writes meanwhile, and reading changes nothing.
fn read_back(store: &Path, ends: &[Lsn]) -> BenchResult<Vec<Phase>> {
    const GROUP_HEADER: usize = 8;
    const UUID_AT: usize = 16;
    let mut superblock = [0; UUID_AT + 16];
    File::open(store.join("data"))?.read_exact(&mut superblock)?;
    let uuid = superblock[UUID_AT..].try_into()?;
    let start = WalStart {
        uuid: StoreUuid::new(uuid),
        generation: 1,
        checkpoint: Lsn::ZERO,
        keep_from: Lsn::ZERO,
        newest_copy_lost: false,
        poison: Poison::new(),
    };
    let mut log = Recovery::open(Arc::new(RealDisk), store.join("log"), &WalOptions::default(), start)?;
    let mut phases: Vec<Phase> = Vec::new();
    phases.resize_with(ends.len() - 1, Phase::default);
    log.replay(|group| {
        let before = ends.partition_point(|end| *end <= group.start());
        let Some(phase) = before.checked_sub(1).and_then(|index| phases.get_mut(index)) else {
            return Ok(());
        };
        phase.groups += 1;
        phase.bytes += (GROUP_HEADER + group.encoded_len()) as u64;
        for record in group.records() {
            let tally = phase.records.entry(record.op).or_default();
            tally.records += 1;
            tally.payload += record.payload.len() as u64;
        }
        Ok(())
    })?;
    Ok(phases)
}

fn print_records(phases: &[Phase], kinds: &[Kind], changes: u64) {
    println!(
        "\n| changes | records | number | bytes each | bytes a change | share |\n|---|---|---|---|---|---|"
    );
    for (phase, kind) in phases.iter().zip(kinds) {
        let row = |what: &str, number: u64, bytes: u64| {
            println!(
                "| {} | {what} | {number} | {:.1} | {:.1} | {:.0} % |",
                kind.name,
                bytes as f64 / number.max(1) as f64,
                bytes as f64 / changes as f64,
                bytes as f64 * 100.0 / phase.bytes.max(1) as f64
            );
        };
        let (mut records, mut payload) = (0, 0);
        for (op, tally) in &phase.records {
            row(&name(*op), tally.records, tally.payload);
            (records, payload) = (records + tally.records, payload + tally.payload);
        }
        row("headers of groups, frames of records", records, phase.bytes - payload);
        row("groups", phase.groups, phase.bytes);
    }
}

/// Operations as `docs/on-disk-format.md` numbers them.
fn name(op: OpKind) -> String {
    let name = match op {
        0x0100 => "FormatMap",
        0x0101 => "SetRegions",
        0x0102 => "SetBits",
        0x0103 => "ClearBits",
        0x0200 => "FormatNode",
        0x0201 => "CutNode",
        0x0202 => "InsertCell",
        0x0203 => "UpdateCell",
        0x0204 => "RemoveCell",
        0x0205 => "InsertSeparator",
        0x0206 => "RemoveSeparator",
        0x0207 => "AbsorbRight",
        0x0208 => "MarkObsolete",
        0x0209 => "SetChild",
        0x020a => "SetRightSibling",
        0x0212 => "TrimLeft",
        _ => return format!("{op:#06x}"),
    };
    name.into()
}
