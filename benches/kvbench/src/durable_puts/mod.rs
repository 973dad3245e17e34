//! Puts that return once they are durable.
//!
//! ```text
//!   clients.rs   contenders by turns: rates, latencies, time of processors
//!   raw.rs       what the disk gives: loops that write and sync, and a bare log of leaders and followers
//!   log.rs       the log by itself
//!   segments.rs  what a writer feels of a change of segments
//! ```

mod clients;
mod log;
mod raw;
mod segments;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pagestone::store::{Durability, Options, Store};

use self::clients::{Contender, contest};
use crate::log_bytes;
use crate::peers::{self, Peer};
use crate::threads::on_threads;
use crate::writers::{Load, key, mix, value};
use crate::{BenchResult, in_new_dir, quartiles};

const VALUE: usize = 100;
const CLIENTS: [u64; 4] = [1, 2, 8, 64];

/// Options of this bench.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory that does not exist yet, on the disk to measure; removed at the end.
    #[arg(long)]
    dir: PathBuf,
    /// Keys that are there, and are overwritten at random.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Turns of each contender.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long a turn takes, in milliseconds.
    #[arg(long, default_value_t = 400)]
    turn_ms: u64,
    /// How long one client writes without a pause, in seconds.
    #[arg(long, default_value_t = 60)]
    long_seconds: u64,
    /// A look, in a tenth of the time: the figures mean less.
    #[arg(long)]
    quick: bool,
    /// Only these parts.
    #[arg(long, value_enum)]
    only: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// 1 to 64 clients beside the disk, a bare log and other stores.
    Puts,
    /// The log by itself, by each call that makes it durable.
    Backends,
    /// Appends that nobody waits for.
    Appends,
    /// Changes of segments.
    Segments,
    /// Bytes of the log for each byte of a user's.
    Bytes,
    /// One client that never pauses.
    Long,
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn rounds(&self) -> usize {
        if self.quick { 3 } else { self.rounds }
    }

    fn turn(&self) -> Duration {
        Duration::from_millis(if self.quick { 100 } else { self.turn_ms })
    }
}

/// Runs it and prints Markdown.
pub(crate) fn run(args: &Args) -> BenchResult<()> {
    in_new_dir(&args.dir, || all(args))
}

fn all(args: &Args) -> BenchResult<()> {
    println!(
        "{} keys of 16 bytes, values of {VALUE}; {} rounds by turns of {} ms. Rates are medians of the rounds, in brackets the quartiles; \
         a ratio is the median of the rounds'. CPU is the whole process's.",
        args.keys,
        args.rounds(),
        args.turn().as_millis()
    );
    if args.wants(Part::Puts) {
        puts(args)?;
    }
    if args.wants(Part::Backends) {
        log::backends(&args.dir, args.rounds(), args.turn() / 2)?;
    }
    if args.wants(Part::Appends) {
        log::appends(&args.dir, args.rounds(), args.turn() / 2)?;
    }
    if args.wants(Part::Segments) {
        segments::changes(&args.dir, if args.quick { 4 } else { 12 })?;
    }
    if args.wants(Part::Bytes) {
        let keys = if args.quick { args.keys / 10 } else { args.keys };
        log_bytes::measure(&args.dir.join("log-bytes"), keys)?;
    }
    if args.wants(Part::Long) {
        one_client_for_long(args)?;
    }
    Ok(())
}

fn puts(args: &Args) -> BenchResult<()> {
    let store = open(&args.dir.join("store"), 1 << 30)?;
    let load = Load { threads: 1, keys: args.keys, value_bytes: VALUE, rate: 0 };
    let rows = || (0..args.keys).map(|number| (key(number).to_vec(), value(&key(number), 0, VALUE)));
    fill(&store, args.keys)?;
    let peers = peers::create(&args.dir)?;
    peers.iter().try_for_each(|peer| peer.fill(&mut rows()))?;
    clients_by_turns(args, &store, &peers)?;
    load.check(&store)?;
    for peer in &peers {
        check(&**peer, args.keys)?;
    }
    Ok(store.close()?)
}

fn open(dir: &Path, log_bytes: u64) -> BenchResult<Store> {
    let segment_bytes = (log_bytes / 16).clamp(64 << 10, 64 << 20);
    let options = Options { log_bytes, segment_bytes, durability: Durability::Strict, ..Options::default() };
    Ok(Store::open(dir, options)?)
}

/// Puts every key, by threads that share the syncs.
fn fill(store: &Store, keys: u64) -> BenchResult<()> {
    const THREADS: u64 = 64;
    let tree = store.default_tree();
    let put = |number| tree.put(&key(number), &value(&key(number), 0, VALUE)).map(drop);
    on_threads(THREADS, |thread| Ok((thread..keys).step_by(THREADS as usize).try_for_each(put)?)).map(drop)
}

fn check(peer: &dyn Peer, keys: u64) -> BenchResult<()> {
    for number in 0..keys {
        let key = key(number);
        match peer.get(&key)? {
            Some(found) if found.len() == VALUE && found[..16] == key => {}
            other => return Err(format!("{}: key {number} has {other:?}", peer.name()).into()),
        }
    }
    Ok(())
}

fn clients_by_turns(args: &Args, store: &Store, peers: &[Box<dyn Peer>]) -> BenchResult<()> {
    let tree = store.default_tree();
    let keys = args.keys;
    let row = move |number: u64| {
        let key = key(mix(number) % keys);
        (key, value(&key, number, VALUE))
    };
    let raw = args.dir.join("raw-files");
    std::fs::create_dir(&raw)?;
    println!("\n## Durable puts\n");
    println!("| clients | | puts/s | p50 µs | p99 µs | p99.9 µs | CPU µs |\n|---|---|---|---|---|---|---|");
    let mut ratios = Vec::new();
    for clients in CLIENTS {
        let dir = raw.join(clients.to_string());
        std::fs::create_dir(&dir)?;
        let mut contenders = vec![Contender::new("**pagestone**", |_, number| {
            let (key, value) = row(number);
            Ok(tree.put(&key, &value).map(drop)?)
        })?];
        let of_peer = |peer: &'_ dyn Peer, number| {
            let (key, value) = row(number);
            peer.put(&key, &value)
        };
        let first_peer = contenders.len();
        for peer in peers.iter().filter(|peer| peer.is_durable()) {
            contenders.push(Contender::new(peer.name(), move |_, number| of_peer(&**peer, number))?);
        }
        let first_raw = contenders.len();
        contenders.extend(raw::leaders(&dir)?);
        let first_loop = contenders.len();
        if clients == 1 {
            contenders.extend(raw::loops(&dir)?);
        }
        let first_other = contenders.len();
        for peer in peers.iter().filter(|peer| !peer.is_durable()) {
            contenders.push(Contender::new(peer.name(), move |_, number| of_peer(&**peer, number))?);
        }
        contest(clients, args.rounds(), args.turn(), &mut contenders)?;
        for contender in &contenders {
            println!("| {clients} | {} | {} |", contender.name, contender.row());
        }
        let mut over = |places: std::ops::Range<usize>, what: &str, goal: f64| {
            let best = places.max_by(|a, b| f64::total_cmp(&contenders[*a].rate(), &contenders[*b].rate()));
            let Some(best) = best.map(|place| &contenders[place]) else { return };
            let each = contenders[0].rates.iter().zip(&best.rates).map(|(ours, theirs)| ours / theirs);
            let [low, ratio, high] = quartiles(each);
            let verdict = match goal {
                0.0 => String::new(),
                goal if ratio >= goal => format!("{goal} met"),
                goal => format!("{goal} MISSED"),
            };
            ratios.push(format!(
                "| {clients} | {what}: {} | {ratio:.2} [{low:.2} to {high:.2}] | {verdict} |",
                best.name
            ));
        };
        let goals = match clients {
            1 => [0.0, 0.0, 0.9],
            8 => [2.5, 0.75, 0.0],
            64 => [3.5, 0.75, 0.0],
            _ => [0.0; 3],
        };
        over(first_peer..first_raw, "the best peer", goals[0]);
        over(first_raw..first_loop, "a log without a tree", goals[1]);
        over(first_loop..first_other, "the fastest raw loop", goals[2]);
    }
    println!("\n| clients | pagestone over | ratio | goal |\n|---|---|---|---|");
    ratios.iter().for_each(|line| println!("{line}"));
    let durable_by = store.stats()?.log.durable_by;
    println!(
        "\nThe store's log is made durable by {durable_by}. A peer whose put may be lost to a power cut is no best peer."
    );
    Ok(())
}

impl Contender<'_> {
    fn rate(&self) -> f64 {
        quartiles(self.rates.iter().copied())[1]
    }

    /// Rate, latencies and time of processors, as cells of a table.
    fn row(&self) -> String {
        let [low, rate, high] = quartiles(self.rates.iter().copied());
        let latency = [0.5, 0.99, 0.999].map(|quantile| format!("{:.0}", self.micros(quantile))).join(" | ");
        let cpu = self.cpu_micros().map_or_else(|| "unknown".into(), |micros| format!("{micros:.1}"));
        format!("{rate:.0} [{low:.0} to {high:.0}] | {latency} | {cpu}")
    }
}

/// One client that never pauses: checkpoints must keep the log within its budget.
fn one_client_for_long(args: &Args) -> BenchResult<()> {
    let seconds = if args.quick { args.long_seconds / 10 } else { args.long_seconds };
    let budget = 8 << 20;
    println!("\n## One client for {seconds} s, log of {} MiB\n", budget >> 20);
    println!(
        "| seconds | puts/s | checkpoints | most of the log used | delays | longest put, ms |\n|---|---|---|---|---|---|"
    );
    let store = open(&args.dir.join("long"), budget)?;
    fill(&store, args.keys)?;
    let tree = store.default_tree();
    let (began, mut number) = (Instant::now(), 0);
    let parts = 6;
    for part in 1..=parts {
        let until = Duration::from_secs(seconds) * part / parts;
        let (before, from, first) = (store.stats()?, began.elapsed(), number);
        let mut longest = Duration::ZERO;
        while began.elapsed() < until {
            let called = Instant::now();
            let key = key(mix(number) % args.keys);
            tree.put(&key, &value(&key, number, VALUE))?;
            longest = longest.max(called.elapsed());
            number += 1;
        }
        let after = store.stats()?;
        println!(
            "| {:.0} | {:.0} | {} | {:.0} % | {} | {:.1} |",
            until.as_secs_f64(),
            (number - first) as f64 / (began.elapsed() - from).as_secs_f64(),
            after.checkpoints - before.checkpoints,
            after.log.used_max as f64 * 100.0 / budget as f64,
            after.log.delays - before.log.delays,
            longest.as_secs_f64() * 1e3
        );
        if after.log.used_max > budget {
            return Err(format!("the log took {} bytes of {budget}", after.log.used_max).into());
        }
    }
    Load { threads: 1, keys: args.keys, value_bytes: VALUE, rate: 0 }.check(&store)?;
    Ok(store.close()?)
}
