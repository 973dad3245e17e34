//! Point lookups with everything in memory.
//!
//! ```text
//!   turns.rs   contenders by turns: keys looked up a second
//!   tax.rs     one tree by swips, by the pool's table, and in plain memory
//!   plain.rs   the pages in plain memory
//! ```
//!
//! Every side has the same rows, put in the order of the keys; what it finds is looked at. A lookup of pagestone copies the value out, as
//! it must; the map and LMDB lend it. LMDB is asked within one transaction for each 1024 keys. Lookups of 16 keys in one call are compared with
//! those one by one.

mod plain;
pub(crate) mod tax;
mod turns;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::time::Duration;

use pagestone::store::{Durability, Options, Store};
use pagestone::{DEFAULT_PAGE_SIZE, PageSize};

use self::turns::{Contender, Contest, Key};
use crate::peers::{self, Peer};
use crate::writers::{key, value};
use crate::{BenchResult, in_new_dir};

const VALUE: usize = 100;
/// Bytes of a row, with what nodes that are full but for a little take for it, and rows of a write batch.
const ROW_BYTES: u64 = 150;
const BATCH: usize = 64;
/// Keys that are looked up together.
const TOGETHER: usize = 16;

/// Options of this bench.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory that does not exist yet; removed at the end. It takes 130 bytes a row and store, the memory 150.
    #[arg(long)]
    dir: PathBuf,
    /// Rows of 16 and 100 bytes.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// Turns of each contender.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How long a turn takes, in milliseconds.
    #[arg(long, default_value_t = 300)]
    turn_ms: u64,
    /// Bytes of a page, a power of two from 4 KiB to 64 KiB.
    #[arg(long, default_value_t = DEFAULT_PAGE_SIZE.get())]
    page_size: usize,
    /// Without the map and other stores.
    #[arg(long)]
    alone: bool,
    /// Rates by the threads' processor time, as Linux counts it, for a machine that others use too.
    #[arg(long)]
    by_cpu: bool,
}

/// Runs it and prints Markdown.
pub(crate) fn run(args: &Args) -> BenchResult<()> {
    in_new_dir(&args.dir, || all(args))
}

fn all(args: &Args) -> BenchResult<()> {
    let contest = Contest {
        rows: args.rows,
        rounds: args.rounds,
        turn: Duration::from_millis(args.turn_ms),
        by_cpu: args.by_cpu,
    };
    contest.announce(", put in the order of the keys");
    let mut keys: Vec<Key> = (0..args.rows).map(key).collect();
    keys.sort_unstable();
    let store = open(&args.dir.join("store"), args.rows, PageSize::new(args.page_size)?)?;
    fill(&store, &keys)?;
    let peers = if args.alone { Vec::new() } else { lmdb(&args.dir, &keys)? };
    let map: Map = RwLock::new(
        keys.iter().filter(|_| !args.alone).map(|key| (key.to_vec(), value(key, 0, VALUE))).collect(),
    );
    drop(keys);
    gets(args, contest, &store, &map, &peers)?;
    Ok(store.close()?)
}

type Map = RwLock<BTreeMap<Vec<u8>, Vec<u8>>>;

fn open(dir: &Path, rows: u64, page_size: PageSize) -> BenchResult<Store> {
    let pool_bytes = (rows * ROW_BYTES + (64 << 20)) as usize;
    let options = Options { pool_bytes, page_size, durability: Durability::RELAXED, ..Options::default() };
    Ok(Store::open(dir, options)?)
}

pub(crate) fn fill(store: &Store, keys: &[Key]) -> BenchResult<()> {
    for some in keys.chunks(BATCH) {
        let mut batch = store.batch();
        for key in some {
            batch.put(&store.default_tree(), key, &value(key, 0, VALUE))?;
        }
        batch.commit()?;
    }
    Ok(store.checkpoint()?)
}

/// LMDB alone of the peers: the fastest of them, and the one that maps its pages and copies nothing.
fn lmdb(dir: &Path, keys: &[Key]) -> BenchResult<Vec<Box<dyn Peer>>> {
    let mut peers = peers::create(dir)?;
    peers.retain(|peer| peer.name().starts_with("LMDB"));
    for peer in &peers {
        peer.fill(&mut keys.iter().map(|key| (key.to_vec(), value(key, 0, VALUE))))?;
    }
    Ok(peers)
}

fn gets(args: &Args, contest: Contest, store: &Store, map: &Map, peers: &[Box<dyn Peer>]) -> BenchResult<()> {
    let tree = store.default_tree();
    let goal = if args.rows < 20_000_000 { 1.7 } else { 2.0 };
    const SINGLE: &str = "**pagestone**, `get_into`";
    let mut contenders = vec![
        Contender::new(SINGLE, |keys, value| {
            keys.iter().try_for_each(|key| {
                if tree.get_into(key, value)? { check(key, value) } else { Err(missing(key)) }
            })
        })
        .over("`RwLock<BTreeMap>`", goal)
        .over("LMDB (heed)", goal),
        Contender::new("pagestone, `multi_get_with`, 16 keys a call", |keys, _| {
            keys.chunks(TOGETHER).try_for_each(|some| {
                let mut answers = Ok(());
                tree.multi_get_with(some, |key, value| {
                    let key = &some[key];
                    let answer = value.ok_or_else(|| missing(key)).and_then(|value| check(key, value));
                    answers = std::mem::replace(&mut answers, Ok(())).and(answer);
                })?;
                answers
            })
        })
        .over(SINGLE, 3.0),
    ];
    if !args.alone {
        contenders.push(Contender::new("`RwLock<BTreeMap>`", |keys, _| {
            keys.iter().try_for_each(|key| {
                let map = map.read().map_err(|_| "a thread panicked")?;
                check(key, map.get(key.as_slice()).ok_or_else(|| missing(key))?)
            })
        }));
    }
    for peer in peers {
        contenders.push(Contender::new(peer.name(), |keys, _| {
            let mut keys_left = keys.iter();
            peer.get_many(&mut keys.iter().map(|key| &key[..]), &mut |found| {
                let key = keys_left.next().ok_or("more answers than keys")?;
                check(key, found.ok_or_else(|| missing(key))?)
            })
        }));
    }
    let before = store.stats()?.pool;
    let one = contest.run(1, &mut contenders)?;
    let two = contest.run(2, &mut contenders)?;
    println!("\nTwo threads over one: {:.2} (goal 1.9).", two[0] / one[0]);
    let after = store.stats()?.pool;
    if after.misses > before.misses {
        return Err(format!("{} pages were not resident", after.misses - before.misses).into());
    }
    println!("Pages found by the table and not by a hint: {}.", after.table_hits - before.table_hits);
    Ok(())
}

/// Values carry their key.
pub(crate) fn check(key: &Key, value: &[u8]) -> BenchResult<()> {
    if value.len() == VALUE && value.starts_with(key) {
        Ok(())
    } else {
        Err(format!("{key:?} has another one's value").into())
    }
}

pub(crate) fn missing(key: &Key) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{key:?} is gone").into()
}
