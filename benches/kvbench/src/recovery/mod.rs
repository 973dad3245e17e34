//! Time to open after a kill.
//!
//! Invariant: every process that writes is killed, and every opening that is timed is a new process that afterwards reads all that was
//! acknowledged; what the disk can do is measured on the same log and the same data file just before.
//!
//! ```text
//!   writer    fills the store once; overwrites spread keys until the log has its length; syncs; is killed      child.rs
//!   raw       the log in order, pages of the data file at random                                               raw.rs
//!   opener    opens, tells what that took; checks every key                                                    child.rs
//! ```
//!
//! The keys that are overwritten are as many, and as far apart, whatever the store's size: so the dirty set is the same, and
//! what differs is the store. The log's budget is three times what is written, so that no checkpoint cuts it short.

mod child;
mod raw;

pub(crate) use child::{OpenerArgs, WriterArgs, open, write};

use std::path::PathBuf;

use crate::{BenchResult, in_new_dir};
use child::{Opened, Shape};

/// Options of this bench.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory that does not exist yet, on the disk to measure; removed at the end.
    #[arg(long)]
    dir: PathBuf,
    /// Lengths of the log, in MiB.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 256, 1024])]
    log_mib: Vec<u64>,
    /// Size of the store under them, in MiB.
    #[arg(long, default_value_t = 512)]
    store_mib: u64,
    /// Sizes of stores to compare, in MiB; 0 leaves this out.
    #[arg(long, value_delimiter = ',', default_values_t = [1024, 8192])]
    stores_mib: Vec<u64>,
    /// The same in bytes; it counts instead of them.
    #[arg(long, value_delimiter = ',')]
    store_bytes: Vec<u64>,
    /// Length of the log of those, in MiB.
    #[arg(long, default_value_t = 64)]
    stores_log_mib: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// Bytes of a value in the stores that are compared: few enough to stand in a leaf, or the log has no values in it.
    #[arg(long, default_value_t = 800)]
    stores_value_bytes: usize,
    /// Keys that are overwritten, evenly spread over the store.
    #[arg(long, default_value_t = 40_000)]
    hot: u64,
    /// Memory for pages, in MiB.
    #[arg(long, default_value_t = 512)]
    pool_mib: usize,
    /// Kills of each kind.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Small sizes: does it work?
    #[arg(long)]
    quick: bool,
}

/// One kill and the opening after it.
#[derive(Debug)]
struct Measured {
    opened: Opened,
    /// What reading the log and the pages takes at least, in seconds.
    log_s: f64,
    pages_s: f64,
}

impl Measured {
    fn ratio(&self) -> f64 {
        self.opened.open_s / self.log_s.max(self.pages_s)
    }
}

/// Runs it and prints Markdown.
pub(crate) fn run(args: &Args) -> BenchResult<()> {
    in_new_dir(&args.dir, || logs(args).and_then(|()| stores(args)))
}

fn logs(args: &Args) -> BenchResult<()> {
    let (sizes, store_mib, hot) = match args.quick {
        true => (vec![8, 16], 64, 4_000),
        false => (args.log_mib.clone(), args.store_mib, args.hot),
    };
    println!(
        "\nStore of {store_mib} MiB, {hot} keys with {} bytes overwritten again and again\n",
        args.value_bytes
    );
    println!("{}", Measured::HEAD);
    let dir = args.dir.join("logs");
    let mut ratios = Vec::new();
    for log_mib in sizes {
        let shape = Shape {
            dir: dir.clone(),
            store_mib,
            log_mib,
            hot,
            value_bytes: args.value_bytes,
            pool_mib: args.pool_mib,
        };
        let measured = rounds(args, &shape)?;
        ratios.push((log_mib, crate::median(measured.iter().map(Measured::ratio))));
    }
    println!();
    for (log_mib, ratio) in ratios {
        println!(
            "G15, log of {log_mib} MiB: median of opening over the longer one of raw log and raw pages: {ratio:.2}"
        );
    }
    Ok(std::fs::remove_dir_all(dir)?)
}

fn stores(args: &Args) -> BenchResult<()> {
    let (sizes, log_mib, hot) = match args.quick {
        true => (vec![64, 256], 8, 4_000),
        false => (args.stores_mib.clone(), args.stores_log_mib, args.hot),
    };
    let sizes = match args.store_bytes.is_empty() {
        true => sizes,
        false => args.store_bytes.iter().map(|bytes| bytes >> 20).collect(),
    };
    let sizes: Vec<u64> = sizes.into_iter().filter(|size| *size > 0).collect();
    let Some(first) = sizes.first().copied() else { return Ok(()) };
    println!(
        "\nLog of {log_mib} MiB, {hot} keys with {} bytes overwritten, stores of other sizes\n",
        args.stores_value_bytes
    );
    println!("{}", Measured::HEAD);
    let mut medians = Vec::new();
    for store_mib in sizes {
        let dir = args.dir.join("stores");
        let shape = Shape {
            dir: dir.clone(),
            store_mib,
            log_mib,
            hot,
            value_bytes: args.stores_value_bytes,
            pool_mib: args.pool_mib,
        };
        let measured = rounds(args, &shape)?;
        medians.push((store_mib, crate::median(measured.iter().map(|measured| measured.opened.open_s))));
        // One after the other: the disk holds one of them.
        std::fs::remove_dir_all(dir)?;
    }
    println!();
    for (store_mib, median) in &medians {
        println!(
            "G16, store of {store_mib} MiB: median {median:.3} s, over that of {first} MiB: {:.2}",
            median / medians[0].1
        );
    }
    Ok(())
}

fn rounds(args: &Args, shape: &Shape) -> BenchResult<Vec<Measured>> {
    let rounds = if args.quick { 1 } else { args.rounds };
    (1..=rounds as u64)
        .map(|round| {
            let seed = shape.log_mib << 8 | round;
            child::write_and_kill(shape, seed)?;
            let raw = raw::measure(&shape.dir, shape.log_mib << 20)?;
            let opened = child::open_in_child(shape, seed)?;
            let measured = Measured {
                log_s: opened.figure("recovered_log_bytes")? as f64 / raw.log_bytes_per_s,
                pages_s: opened.figure("recovery_pages_read")? as f64 / raw.pages_per_s,
                opened,
            };
            println!("{}", measured.row(shape, round)?);
            Ok(measured)
        })
        .collect()
}

impl Measured {
    const HEAD: &str = "| store MiB | log MiB | round | records | pages read | open, s | processors, s | log, torn, redo, and a checkpoint if there was one, s | raw log, s | raw pages, s | ratio | pool MiB | peak memory MiB |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|";

    fn row(&self, shape: &Shape, round: u64) -> BenchResult<String> {
        let steps: Vec<String> = self.opened.steps_s.iter().map(|seconds| format!("{seconds:.3}")).collect();
        Ok(format!(
            "| {} | {:.0} | {round} | {} | {} | {:.3} | {} | {} | {:.3} | {:.3} | {:.2} | {} | {} |",
            shape.store_mib,
            self.opened.figure("recovered_log_bytes")? as f64 / (1 << 20) as f64,
            self.opened.figure("recovered_records")?,
            self.opened.figure("recovery_pages_read")?,
            self.opened.open_s,
            self.opened.processor_s.map_or("unknown".into(), |seconds| format!("{seconds:.2}")),
            steps.join(", "),
            self.log_s,
            self.pages_s,
            self.ratio(),
            shape.pool_mib,
            self.opened.peak_mib.map_or("unknown".into(), |mib| mib.to_string()),
        ))
    }
}
