//! Random puts and short scans in stores that are many times their memory, side by side.
//!
//! Invariant: every store has the same rows, the same keys are asked of each by as many threads, in turns of one run; each has as many bytes for its
//! cache. What is read is looked at: values carry their key and the turn that put them.
//!
//! What the system caches beside is no store's budget. pagestone goes past it. Of the others' files it is written out and dropped all the time, as a
//! system would that has no more memory, so that they have what they were given. What is mapped cannot be dropped so: LMDB has all the memory there
//! is, and is no part of the goal. (A memory cgroup around the run, of five caches and 128 MiB, bounds it too.)

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pagestone::direct_io::{DirectIo, Disk, OpenHow, RealDisk};

use crate::peers::visible::{self, Ours, Visible};
use crate::resident::{check, missing};
use crate::threads::on_threads;
use crate::writers::{key, mix, value};
use crate::{BenchResult, cpu_of_process, in_new_dir, quartiles};

const VALUE: usize = 100;
/// Rows of a short scan.
const SCANNED: usize = 100;
/// How often what the system has cached of a store's files is written out and dropped.
const DROP_EVERY: Duration = Duration::from_millis(100);

/// Options of this bench.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory that does not exist yet, on the disk to measure; removed at the end. It takes some 600 bytes a row.
    #[arg(long)]
    dir: PathBuf,
    /// Rows of 16 and 100 bytes.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// How many times its memory the data is.
    #[arg(long, default_value_t = 10)]
    times: u64,
    /// Threads that put, or scan.
    #[arg(long, default_value_t = 32)]
    threads: u64,
    /// Turns of each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a turn takes, in milliseconds.
    #[arg(long, default_value_t = 1500)]
    turn_ms: u64,
    /// Without other stores.
    #[arg(long)]
    alone: bool,
}

/// Runs it and prints Markdown.
pub(crate) fn run(args: &Args) -> BenchResult<()> {
    in_new_dir(&args.dir, || all(args))
}

fn all(args: &Args) -> BenchResult<()> {
    let mut keys: Vec<[u8; 16]> = (0..args.rows).map(key).collect();
    keys.sort_unstable();
    let bytes = args.rows * 130 / args.times;
    let ours = Ours::create(&args.dir.join("store"), bytes as usize)?;
    let peers = if args.alone { Vec::new() } else { visible::create_bounded(&args.dir, bytes)? };
    let sides: Vec<&dyn Visible> =
        std::iter::once(&ours as &dyn Visible).chain(peers.iter().map(|peer| &**peer)).collect();
    for side in &sides {
        side.fill(&mut keys.iter().map(|key| (&key[..], value(key, 0, VALUE))))?;
        side.settle()?;
    }
    drop(keys);
    println!(
        "{} rows of 16 + {VALUE} bytes; {} MiB of cache each; the system's own of their files is written out and dropped every {} ms, but for LMDB, \
         which maps its file and has all the memory there is; {} threads, {} rounds by turns of {} ms. Rates are medians, in brackets the \
         quartiles; a ratio is the median of the rounds'. CPU is the whole process's.",
        args.rows,
        bytes >> 20,
        DROP_EVERY.as_millis(),
        args.threads,
        args.rounds,
        args.turn_ms
    );
    let bench = Bench { args, sides };
    let version = bench.compare("Random puts, each seen when it returns", "puts/s", Some(3.0), 1, puts)?;
    bench.compare(&format!("Scans of {SCANNED} rows from random keys"), "scans/s", None, version, scans)?;
    drop(bench);
    ours.close()
}

/// Keeps the system's cache of these files empty, once they are written, until it is told to stop.
fn keep_cache_empty(files: Option<PathBuf>, stop: &AtomicBool) -> BenchResult<()> {
    while let Some(files) = &files
        && !stop.load(Ordering::Relaxed)
    {
        drop_caches(files)?;
        std::thread::sleep(DROP_EVERY);
    }
    Ok(())
}

/// Of a file, or of all in a directory. A file that goes meanwhile has none.
fn drop_caches(path: &Path) -> BenchResult<()> {
    if path.is_dir() {
        let entries: Vec<_> = std::fs::read_dir(path)?.collect::<Result<_, _>>()?;
        return entries.iter().try_for_each(|entry| drop_caches(&entry.path()));
    }
    match RealDisk.open(path, &OpenHow::read(DirectIo::Off)) {
        Ok(file) => {
            file.sync()?; // what waits to be written is kept else
            Ok(file.drop_cache()?)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What threads do in a turn, each until it is to stop; gives how often.
type Work = fn(&dyn Visible, &Turn<'_>, u64) -> BenchResult<u64>;

/// A turn, as its threads see it.
struct Turn<'t> {
    rows: u64,
    /// What it puts; each turn another one.
    version: u64,
    go_on: &'t (dyn Fn() -> bool + Sync),
}

fn puts(side: &dyn Visible, turn: &Turn<'_>, mut random: u64) -> BenchResult<u64> {
    let mut count = 0;
    let mut last = key(random % turn.rows);
    while (turn.go_on)() || count == 0 {
        random = mix(random);
        last = key(random % turn.rows);
        side.put(&last, &value(&last, turn.version, VALUE))?;
        count += 1;
    }
    // Whoever put this key last has put it in this turn.
    side.get(&last, &mut Vec::new(), &mut |found| {
        let found = found.ok_or_else(|| missing(&last))?;
        check(&last, found)?;
        if found[16..24] == turn.version.to_be_bytes() {
            return Ok(());
        }
        Err(format!("{}: {last:?} has an older value than the last put", side.name()).into())
    })?;
    Ok(count)
}

fn scans(side: &dyn Visible, turn: &Turn<'_>, mut random: u64) -> BenchResult<u64> {
    let mut count = 0;
    while (turn.go_on)() {
        random = mix(random);
        let from = key(random % turn.rows);
        let (mut before, mut rows) = (from.to_vec(), 0);
        side.scan(&from, &mut |key, value| {
            let in_order = if rows == 0 { key == from } else { key > &before[..] };
            if !in_order || !value.starts_with(key) {
                return Err(format!("{}: row {rows} from {from:?} on is {key:?}", side.name()).into());
            }
            before.clear();
            before.extend_from_slice(key);
            rows += 1;
            Ok(rows < SCANNED)
        })?;
        if rows == 0 {
            return Err(missing(&from));
        }
        count += 1;
    }
    Ok(count)
}

/// What one did in a turn.
#[derive(Debug, Clone, Copy)]
struct Done {
    rate: f64,
    count: u64,
    cpu: Duration,
}

struct Bench<'b> {
    args: &'b Args,
    /// Ours first.
    sides: Vec<&'b dyn Visible>,
}

impl Bench<'_> {
    /// Lets each have its turns; gives the next version.
    fn compare(
        &self,
        title: &str,
        unit: &str,
        goal: Option<f64>,
        mut version: u64,
        work: Work,
    ) -> BenchResult<u64> {
        let mut done = vec![Vec::new(); self.sides.len()];
        // The first round warms up.
        for round in 0..=self.args.rounds {
            for place in 0..self.sides.len() {
                let place = (place + round) % self.sides.len();
                let turn = self.turn(self.sides[place], version, work)?;
                version += 1;
                if round > 0 {
                    done[place].push(turn);
                }
            }
        }
        let rates: Vec<[f64; 3]> =
            done.iter().map(|turns| quartiles(turns.iter().map(|turn| turn.rate))).collect();
        let best = (1..self.sides.len())
            // A B-tree with as much memory: fjall sorts runs and merges them, LMDB has no files but a map.
            .filter(|place| self.sides[*place].files().is_some_and(|files| files != "fjall"))
            .max_by(|a, b| f64::total_cmp(&rates[*a][1], &rates[*b][1]));
        println!("\n{title}:\n\n| | {unit} | CPU µs each | pagestone over it |\n|---|---|---|---|");
        for (place, side) in self.sides.iter().enumerate() {
            let [low, rate, high] = rates[place];
            let cpu: f64 = done[place].iter().map(|turn| turn.cpu.as_secs_f64()).sum();
            let cpu = cpu * 1e6 / done[place].iter().map(|turn| turn.count).sum::<u64>() as f64;
            let over = match quartiles(
                done[0].iter().zip(&done[place]).map(|(ours, theirs)| ours.rate / theirs.rate),
            ) {
                _ if place == 0 => String::new(),
                [low, ratio, high] if goal.is_some() && best == Some(place) => {
                    let goal = goal.unwrap_or_default();
                    let verdict = if ratio >= goal { "met" } else { "MISSED" };
                    format!("{ratio:.2} [{low:.2} to {high:.2}], goal {goal} {verdict}")
                }
                [low, ratio, high] => format!("{ratio:.2} [{low:.2} to {high:.2}]"),
            };
            println!("| {} | {rate:.0} [{low:.0} to {high:.0}] | {cpu:.1} | {over} |", side.name());
        }
        Ok(version)
    }

    fn turn(&self, side: &dyn Visible, version: u64, work: Work) -> BenchResult<Done> {
        let (stop, length) = (AtomicBool::new(false), Duration::from_millis(self.args.turn_ms));
        let (cpu, began) = (cpu_of_process(), Instant::now());
        let go_on = || began.elapsed() < length;
        let turn = Turn { rows: self.args.rows, version, go_on: &go_on };
        let counts = std::thread::scope(|scope| {
            let files = side.files().map(|files| self.args.dir.join(files));
            let dropper = scope.spawn(|| keep_cache_empty(files, &stop));
            let counts =
                on_threads(self.args.threads, |thread| work(side, &turn, mix(version << 8 | thread)));
            stop.store(true, Ordering::Relaxed);
            dropper.join().map_err(|_| "a thread panicked")??;
            counts
        })?;
        let count: u64 = counts.iter().sum();
        let took = began.elapsed();
        let cpu = cpu.zip(cpu_of_process()).map_or(Duration::ZERO, |(before, after)| after - before);
        side.settle()?;
        Ok(Done { rate: count as f64 / took.as_secs_f64(), count, cpu })
    }
}
