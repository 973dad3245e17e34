//! The processes that are killed, and those that open what they left.
//!
//! Invariant: what a writer put follows from its seed, so that the opener knows every value that must be there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use pagestone::store::{Durability, Options, Store};

use crate::BenchResult;
use crate::writers::mix;

/// A store, and what is done to it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Shape {
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[arg(long)]
    pub(crate) store_mib: u64,
    #[arg(long)]
    pub(crate) log_mib: u64,
    #[arg(long)]
    pub(crate) hot: u64,
    #[arg(long)]
    pub(crate) value_bytes: usize,
    #[arg(long)]
    pub(crate) pool_mib: usize,
}

/// What a writer is told.
#[derive(Debug, clap::Args)]
pub(crate) struct WriterArgs {
    #[command(flatten)]
    shape: Shape,
    #[arg(long)]
    seed: u64,
}

/// What an opener is told.
#[derive(Debug, clap::Args)]
pub(crate) struct OpenerArgs {
    #[command(flatten)]
    shape: Shape,
    #[arg(long)]
    seed: u64,
    /// Puts that the writer made.
    #[arg(long)]
    puts: u64,
}

/// What an opener told.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) open_s: f64,
    /// Processor time of all its threads until then, where the system counts it: on a busy machine opening takes longer than that.
    pub(crate) processor_s: Option<f64>,
    /// In the order of the steps.
    pub(crate) steps_s: Vec<f64>,
    /// The most memory that the process ever had, where the system counts it.
    pub(crate) peak_mib: Option<u64>,
    figures: BTreeMap<String, u64>,
}

impl Opened {
    pub(crate) fn figure(&self, name: &str) -> BenchResult<u64> {
        self.figures.get(name).copied().ok_or_else(|| format!("the opener told no {name}").into())
    }
}

/// Entries that a leaf's space is reckoned by, beside the value.
const ENTRY_BYTES: u64 = 40;

impl Shape {
    fn keys(&self) -> u64 {
        (self.store_mib << 20) / (self.value_bytes as u64 + ENTRY_BYTES)
    }

    fn key(&self, hot: u64) -> u64 {
        hot * (self.keys() / self.hot).max(1)
    }

    fn options(&self) -> Options {
        let log_bytes = (3 * self.log_mib) << 20;
        Options {
            pool_bytes: self.pool_mib << 20,
            log_bytes,
            segment_bytes: (log_bytes >> 5).clamp(1 << 20, 64 << 20),
            durability: Durability::RELAXED,
            ..Options::default()
        }
    }

    fn arguments(&self) -> Vec<String> {
        [
            ("--store-mib", self.store_mib.to_string()),
            ("--log-mib", self.log_mib.to_string()),
            ("--hot", self.hot.to_string()),
            ("--value-bytes", self.value_bytes.to_string()),
            ("--pool-mib", self.pool_mib.to_string()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }

    fn child(&self, command: &str, seed: u64) -> BenchResult<Command> {
        let mut child = Command::new(std::env::current_exe()?);
        child.arg(command).arg("--dir").arg(&self.dir).args(self.arguments());
        child.args(["--seed", &seed.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(child)
    }

    /// The hot keys that a writer puts, one after the other.
    fn puts(&self, seed: u64) -> impl Iterator<Item = u64> {
        let mut random = mix(seed);
        let hot = self.hot;
        std::iter::from_fn(move || {
            random = mix(random);
            Some(random % hot)
        })
    }
}

fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&mix(number).to_be_bytes());
    key
}

/// Carries its key, the writer's seed, and which of its puts this was.
fn value(number: u64, seed: u64, put: u64, len: usize) -> Vec<u8> {
    let mut value = vec![put as u8; len.max(40)];
    value[..16].copy_from_slice(&key(number));
    value[16..24].copy_from_slice(&seed.to_be_bytes());
    value[24..32].copy_from_slice(&put.to_be_bytes());
    value
}

/// Runs a writer and kills it when its log has its length. The number of its puts goes into a file beside the store.
pub(crate) fn write_and_kill(shape: &Shape, seed: u64) -> BenchResult<()> {
    let mut child = shape.child("recovery-writer", seed)?.spawn()?;
    let mut line = String::new();
    let told = BufReader::new(child.stdout.take().ok_or("no pipe")?).read_line(&mut line);
    child.kill()?;
    child.wait()?;
    told?;
    let puts: u64 = line.trim().parse().map_err(|_| format!("the writer said {line:?}"))?;
    Ok(std::fs::write(puts_file(&shape.dir), puts.to_string())?)
}

fn puts_file(dir: &Path) -> PathBuf {
    dir.with_extension("puts")
}

/// The writer: never returns while its standard input is open.
pub(crate) fn write(args: &WriterArgs) -> BenchResult<()> {
    let shape = &args.shape;
    if !shape.dir.exists() {
        fill(shape)?;
    }
    let store = Store::open(&shape.dir, shape.options())?;
    let (tree, from) = (store.default_tree(), store.stats()?.checkpoint_lsn);
    let mut puts = 0;
    for hot in shape.puts(args.seed) {
        let number = shape.key(hot);
        tree.put(&key(number), &value(number, args.seed, puts, shape.value_bytes))?;
        puts += 1;
        if puts % 1024 == 0 && store.stats()?.log.end_lsn.get() - from.get() >= shape.log_mib << 20 {
            break;
        }
    }
    store.sync()?;
    println!("{puts}");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Puts every key once, in their order, and closes the store.
fn fill(shape: &Shape) -> BenchResult<()> {
    let options = Options { log_bytes: 512 << 20, segment_bytes: 16 << 20, ..shape.options() };
    let store = Store::open(&shape.dir, options)?;
    let tree = store.default_tree();
    let mut batch = store.batch();
    for number in 0..shape.keys() {
        batch.put(&tree, &key(number), &value(number, 0, 0, shape.value_bytes))?;
        if batch.len() == 500 {
            batch.commit()?;
        }
    }
    batch.commit()?;
    // Both superblock copies behind the fill: the writer's budget is smaller, and its log begins empty.
    store.checkpoint()?;
    Ok(store.close()?)
}

/// Runs an opener.
pub(crate) fn open_in_child(shape: &Shape, seed: u64) -> BenchResult<Opened> {
    let puts = std::fs::read_to_string(puts_file(&shape.dir))?;
    let mut child = shape.child("recovery-opener", seed)?;
    let mut child: Child = child.args(["--puts", &puts]).spawn()?;
    let mut opened = Opened {
        open_s: 0.0,
        processor_s: None,
        steps_s: Vec::new(),
        peak_mib: None,
        figures: BTreeMap::new(),
    };
    for line in BufReader::new(child.stdout.take().ok_or("no pipe")?).lines() {
        let line = line?;
        let (name, value) = line.split_once(' ').ok_or("a line without a value")?;
        match name {
            "open_s" => opened.open_s = value.parse()?,
            "step_s" => opened.steps_s.push(value.parse()?),
            "processor_s" => opened.processor_s = Some(value.parse()?),
            "peak_mib" => opened.peak_mib = Some(value.parse()?),
            figure => drop(opened.figures.insert(figure.to_owned(), value.parse()?)),
        }
    }
    if child.wait()?.success() { Ok(opened) } else { Err("the opener failed".into()) }
}

/// The opener.
pub(crate) fn open(args: &OpenerArgs) -> BenchResult<()> {
    let shape = &args.shape;
    let began = Instant::now();
    let store = Store::open(&shape.dir, shape.options())?;
    println!("open_s {}", began.elapsed().as_secs_f64());
    if let Some(seconds) = processor_s() {
        println!("processor_s {seconds}");
    }
    if let Some(mib) = peak_mib() {
        println!("peak_mib {mib}");
    }
    let report = store.open_report();
    for (_, took) in &report.took_by_step {
        println!("step_s {}", took.as_secs_f64());
    }
    for (name, _, value) in report.figures() {
        println!("{name} {value}");
    }
    check(shape, &store, args)?;
    Ok(store.close()?)
}

/// Everything that the writer put is there, the newest of each key.
fn check(shape: &Shape, store: &Store, args: &OpenerArgs) -> BenchResult<()> {
    let mut last: Vec<Option<u64>> = vec![None; shape.hot as usize];
    for (put, hot) in (0..args.puts).zip(shape.puts(args.seed)) {
        last[hot as usize] = Some(put);
    }
    let (tree, mut found) = (store.default_tree(), Vec::new());
    for (hot, put) in last.into_iter().enumerate() {
        let number = shape.key(hot as u64);
        let Some(put) = put else { continue };
        if !tree.get_into(&key(number), &mut found)?
            || found != value(number, args.seed, put, shape.value_bytes)
        {
            return Err(format!("key {number} is not what put {put} of {} made it", args.puts).into());
        }
    }
    Ok(())
}

/// The most memory that this process has had, as Linux counts it.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? >> 10)
}

/// Processor time of this process in seconds, as Linux counts it: hundredths of a second in the 12th and 13th word behind its name.
fn processor_s() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let words: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = words.get(11)?.parse::<u64>().ok()? + words.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}
