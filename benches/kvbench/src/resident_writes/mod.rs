//! Puts that are atomic and seen at once, half gets and half puts, gets and scans, with everything in memory, beside other stores.
//!
//! ```text
//!   keys.rs       random keys, file listings, URLs
//!   zipf.rs       few keys that are wanted most
//!   workload.rs   what is done, and a batch of it
//!   contest.rs    sides by turns, with one thread and with two
//! ```
//!
//! Every side has the same rows, put in the order of the keys; what it reads is looked at. Each operation stands for itself: stores with
//! transactions take one for each. Goals (G4, G5): puts 1.5 times those of
//! the best peer; two threads over one: 1.7 for YCSB-A, 1.9 for gets.

mod contest;
mod keys;
mod workload;
mod zipf;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::contest::Contest;
use self::keys::{KeySet, Kind};
use self::workload::{VALUE, Workload, value};
use self::zipf::Zipf;
use crate::peers::visible::{self, Map, Ours, Visible};
use crate::{BenchResult, in_new_dir};

/// What a row takes in nodes that are full but for a little, beside its key and its value; and what a pool has beside its rows.
const ROW_OVERHEAD: u64 = 40;
const POOL_REST: u64 = 64 << 20;

/// Options of this bench.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory that does not exist yet; removed at the end.
    #[arg(long)]
    dir: PathBuf,
    /// Rows, with values of 100 bytes.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// Turns of each side with each count of threads.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long a turn takes, in milliseconds.
    #[arg(long, default_value_t = 300)]
    turn_ms: u64,
    /// Only these keys.
    #[arg(long, value_enum)]
    keys: Vec<Kind>,
    /// Only this.
    #[arg(long, value_enum)]
    only: Vec<Workload>,
    /// Without the map and other stores.
    #[arg(long)]
    alone: bool,
}

/// Runs it and prints Markdown.
pub(crate) fn run(args: &Args) -> BenchResult<()> {
    println!(
        "{} rows, values of {VALUE} bytes; {} rounds by turns of {} ms. Rates are medians of the rounds, in brackets the quartiles; a \
         ratio is the median of the rounds'.",
        args.rows, args.rounds, args.turn_ms
    );
    let kinds = if args.keys.is_empty() { &Kind::ALL[..] } else { &args.keys };
    // LMDB wants a path of its own for each environment of a process.
    let of_kind = |kind: &Kind| {
        let dir = args.dir.join(format!("{kind:?}"));
        in_new_dir(&dir, || of_kind(args, *kind, &dir))
    };
    in_new_dir(&args.dir, || kinds.iter().try_for_each(of_kind))
}

fn of_kind(args: &Args, kind: Kind, dir: &Path) -> BenchResult<()> {
    let keys = KeySet::new(kind, args.rows);
    println!(
        "\n## {kind:?} keys: {:.1} bytes on average, of which {:.1} are those of the key before\n",
        keys.bytes() as f64 / args.rows as f64,
        keys.shared()
    );
    let bytes = keys.bytes() + keys.len() * VALUE as u64;
    let pool = bytes + bytes / 4 + keys.len() * ROW_OVERHEAD + POOL_REST;
    let ours = Ours::create(&dir.join("store"), pool as usize)?;
    let map = Map::default();
    let peers = if args.alone { Vec::new() } else { visible::create(dir, bytes)? };
    let mut sides: Vec<&dyn Visible> = vec![&ours];
    if !args.alone {
        sides.push(&map);
    }
    sides.extend(peers.iter().map(|peer| &**peer));
    for side in &sides {
        let began = Instant::now();
        side.fill(&mut (0..keys.len()).map(|number| (keys.get(number), value(number, 0).to_vec())))?;
        println!("{}: filled in {:.2} s", side.name(), began.elapsed().as_secs_f64());
    }
    let shape = ours.tree().shape()?;
    println!(
        "\n**pagestone**: {} levels, leaves {:.1} % full, {:.1} bytes of pages a row; {:.1} bytes a row saved by prefixes.",
        shape.height,
        100.0 * shape.leaf_fill(),
        (shape.pages() * shape.page_bytes) as f64 / keys.len() as f64,
        shape.prefix_bytes_saved as f64 / keys.len() as f64
    );
    let before = ours.misses()?;
    let zipf = Zipf::new(keys.len());
    let turn = Duration::from_millis(args.turn_ms);
    let contest = Contest { keys: &keys, zipf: &zipf, rounds: args.rounds, turn };
    let workloads = if args.only.is_empty() { &Workload::ALL[..] } else { &args.only };
    workloads.iter().try_for_each(|workload| contest.run(*workload, &sides))?;
    match ours.misses()? - before {
        0 => ours.close(),
        misses => Err(format!("{misses} pages were not resident").into()),
    }
}
