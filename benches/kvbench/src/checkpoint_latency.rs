//! Latency of writes with continuous checkpoints and without any.
//!
//! Two stores with the same contents and options, but for the log: the small one makes checkpoints all the time, the large one never
//! needs one. They are written by syncs, round after round; between its rounds the large one's log is given back, so that it never
//! has to make a segment while it is measured. A probe writes and syncs one block now and then all the while: a put that took
//! long while the probe did too was stopped by the disk; and each writer knows how long it had no processor.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use pagestone::store::{Durability, Options, Store};

use crate::probe::{Probe, Sync, longest, longest_during};
use crate::writers::{Load, Seen, Stop};
use crate::{BenchResult, in_new_dir};

/// Options of this bench.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory that does not exist yet, on the disk to measure; removed at the end.
    #[arg(long)]
    dir: PathBuf,
    /// Threads that write.
    #[arg(long, default_value_t = 4)]
    threads: u64,
    /// Keys that are overwritten at random.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// Memory for pages, in MiB.
    #[arg(long, default_value_t = 64)]
    pool_mib: usize,
    /// Budget of the small log, in MiB.
    #[arg(long, default_value_t = 4)]
    log_mib: u64,
    /// Budget of the large log, in MiB.
    #[arg(long, default_value_t = 4096)]
    large_log_mib: u64,
    /// Puts a second of all threads together; 0: as fast as they can.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Measurements of each kind.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// When a put resyncs.
    #[arg(long, value_enum, default_values_t = [Mode::Strict, Mode::Relaxed])]
    mode: Vec<Mode>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// Once it is durable.
    Strict,
    /// At once.
    Relaxed,
}

/// One measurement.
#[derive(Debug)]
struct Measured {
    seen: Seen,
    syncs: Vec<Sync>,
    checkpoints: u64,
    delays: u64,
    /// Most that was ever used of the log's budget, in bytes.
    used_max: u64,
}

impl Measured {
    fn micros(&self, quantile: f64) -> f64 {
        self.seen.latency.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// The longest call, if any took more than a few milliseconds.
    fn longest_stop(&self) -> Option<&Stop> {
        self.seen.stops.iter().max_by_key(|stop| stop.took)
    }

    /// The longest sync of the probe while that call lasted.
    fn sync_during(&self, stop: &Stop) -> Duration {
        longest_during(&self.syncs, stop.began, stop.took)
    }

    /// Calls of more than 100 ms in whose time neither a sync of the probe nor the wait for a processor took half as long.
    fn unexplained(&self) -> usize {
        let is_ours = |stop: &&Stop| {
            stop.took > Duration::from_millis(100) && self.sync_during(stop).max(stop.starved) * 2 < stop.took
        };
        self.seen.stops.iter().filter(is_ours).count()
    }
}

/// Runs it and prints Markdown.
pub(crate) fn run(args: &Args) -> BenchResult<()> {
    in_new_dir(&args.dir, || args.mode.iter().try_for_each(|mode| compare(args, *mode)))
}

fn compare(args: &Args, mode: Mode) -> BenchResult<()> {
    let load =
        Load { threads: args.threads, keys: args.keys, value_bytes: args.value_bytes, rate: args.rate };
    let name = format!("{mode:?}").to_lowercase();
    let probe = Probe::create(&args.dir.join(format!("{name}-probe")))?;
    let filled = |name: String, log_mib| {
        let dir = args.dir.join(name);
        let store = open(args, Mode::Relaxed, &dir, log_mib)?;
        load.fill(&store)?;
        store.close()?;
        drop(store);
        open(args, mode, &dir, log_mib)
    };
    let small = filled(format!("{name}-with"), args.log_mib)?;
    let large = filled(format!("{name}-without"), args.large_log_mib)?;
    let long = Duration::from_secs(args.seconds);
    // As long as a measurement, so that both logs have their segments from here on.
    measure(&load, &small, &probe, 0, long)?;
    measure(&load, &large, &probe, 0, long)?;
    give_log_back(&large)?;
    println!(
        "\n{mode:?}, {} writers, {}, log of {} MiB, {} keys, {} byte values\n",
        args.threads,
        if args.rate == 0 { "as fast as they can".into() } else { format!("{} puts/s", args.rate) },
        args.log_mib,
        args.keys,
        args.value_bytes
    );
    println!(
        "| round | checkpoints | puts/s | p50 µs | p99 µs | p99.9 µs | longest call, ms | bare sync then | no processor then | bare sync max | delays | log used |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        let seed = round as u64;
        let measured = measure(&load, &small, &probe, seed, long)?;
        println!("{}", row(round, &measured, args.log_mib));
        with.push(measured);
        let measured = measure(&load, &large, &probe, seed, long)?;
        println!("{}", row(round, &measured, args.large_log_mib));
        without.push(measured);
        give_log_back(&large)?;
    }
    println!("\n{}", summary(&with, &without));
    for store in [small, large] {
        load.check(&store)?;
        store.close()?;
    }
    Ok(())
}

fn open(args: &Args, mode: Mode, dir: &Path, log_mib: u64) -> BenchResult<Store> {
    let options = Options {
        pool_bytes: args.pool_mib << 20,
        log_bytes: log_mib << 20,
        segment_bytes: (log_mib << 20 >> 4).clamp(64 << 10, 64 << 20),
        durability: match mode {
            Mode::Strict => Durability::Strict,
            Mode::Relaxed => Durability::RELAXED,
        },
        ..Options::default()
    };
    Ok(Store::open(dir, options)?)
}

/// Two checkpoints: the log reaches back to the one before the last.
fn give_log_back(store: &Store) -> BenchResult<()> {
    store.checkpoint()?;
    store.checkpoint()?;
    Ok(())
}

fn measure(load: &Load, store: &Store, probe: &Probe, seed: u64, long: Duration) -> BenchResult<Measured> {
    let before = store.stats()?;
    let stop = AtomicBool::new(false);
    let (seen, syncs) = std::thread::scope(|scope| {
        let probe = scope.spawn(|| probe.run(&stop));
        let seen = load.run(store, seed, long);
        stop.store(true, Ordering::Relaxed);
        let syncs = probe.join().map_err(|_| "the probe panicked")??;
        BenchResult::Ok((seen?, syncs))
    })?;
    let after = store.stats()?;
    Ok(Measured {
        seen,
        syncs,
        checkpoints: after.checkpoints - before.checkpoints,
        delays: after.log.delays - before.log.delays,
        used_max: after.log.used_max,
    })
}

fn row(round: usize, measured: &Measured, log_mib: u64) -> String {
    let stop = measured.longest_stop();
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    format!(
        "| {round} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {:.0} % |",
        measured.checkpoints,
        measured.seen.latency.len() as f64 / measured.seen.took.as_secs_f64(),
        measured.micros(0.5),
        measured.micros(0.99),
        measured.micros(0.999),
        millis(stop.map_or(Duration::ZERO, |stop| stop.took)),
        millis(stop.map_or(Duration::ZERO, |stop| measured.sync_during(stop))),
        millis(stop.map_or(Duration::ZERO, |stop| stop.starved)),
        millis(longest(&measured.syncs)),
        measured.delays,
        measured.used_max as f64 * 100.0 / (log_mib << 20) as f64,
    )
}

fn summary(with: &[Measured], without: &[Measured]) -> String {
    let mut text = String::new();
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
        let with = crate::median(with.iter().map(|measured| measured.micros(quantile)));
        let without = crate::median(without.iter().map(|measured| measured.micros(quantile)));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "median {name}: {with:.0} µs with, {without:.0} µs without, ratio {:.2}",
            with / without
        );
    }
    let unexplained: usize = with.iter().map(Measured::unexplained).sum();
    let _ = write!(text, "stops above 100 ms that neither disk nor processors explain: {unexplained}");
    text
}
