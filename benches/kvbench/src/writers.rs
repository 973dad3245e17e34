//! Threads that put random keys and note how long each put took.
//!
//! Invariant: with a rate, a put's latency counts from when it was due, so that a stop counts for every put that it held up and not
//! only for the first (coordinated omission); a stop is one call, from when it was made. Values carry their key.

use std::fs::File;
use std::io::{Read, Seek};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pagestone::store::{Store, Tree};

use crate::BenchResult;
use crate::threads::on_threads;

/// Calls that took longer are remembered one by one.
const STOP: Duration = Duration::from_millis(5);

/// Calls between two looks at how long the thread had no processor.
const LOOK_EVERY: u64 = 32;

/// What the writers do.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) threads: u64,
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
    /// Puts a second of all threads; 0: as fast as they can.
    pub(crate) rate: u64,
}

/// A put that took long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    /// How much of it the thread could have run and had no processor.
    pub(crate) starved: Duration,
}

/// What the writers saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Nanoseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) stops: Vec<Stop>,
    pub(crate) took: Duration,
}

/// A number without pattern from a counter (SplitMix64, Steele et al. 2014).
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(number).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn value(key: &[u8; 16], version: u64, len: usize) -> Vec<u8> {
    let mut value = vec![version as u8; len.max(24)];
    value[..16].copy_from_slice(key);
    value[16..24].copy_from_slice(&version.to_be_bytes());
    value
}

impl Load {
    /// Puts every key once.
    pub(crate) fn fill(&self, store: &Store) -> BenchResult<()> {
        let tree = store.default_tree();
        for number in 0..self.keys {
            tree.put(&key(number), &value(&key(number), 0, self.value_bytes))?;
        }
        Ok(())
    }

    /// Every key is there, with a value of its own.
    pub(crate) fn check(&self, store: &Store) -> BenchResult<()> {
        let tree = store.default_tree();
        for number in 0..self.keys {
            let key = key(number);
            let found = tree.get(&key)?.ok_or_else(|| format!("key {number} is gone"))?;
            if found.len() != self.value_bytes.max(24) || found[..16] != key {
                return Err(format!("key {number} has another one's value").into());
            }
        }
        Ok(())
    }

    /// Overwrites random keys for so long.
    pub(crate) fn run(&self, store: &Store, seed: u64, long: Duration) -> BenchResult<Seen> {
        let began = Instant::now();
        let mut seen = Seen { latency: histogram()?, stops: Vec::new(), took: Duration::ZERO };
        let write = |thread| self.write(&store.default_tree(), mix(seed << 8 | thread), began, long);
        for (latency, stops) in on_threads(self.threads, write)? {
            seen.latency.add(latency)?;
            seen.stops.extend(stops);
        }
        seen.took = began.elapsed();
        Ok(seen)
    }

    fn write(
        &self,
        tree: &Tree,
        mut random: u64,
        from: Instant,
        long: Duration,
    ) -> BenchResult<(Histogram<u64>, Vec<Stop>)> {
        let (mut latency, mut stops) = (histogram()?, Vec::new());
        let mut starved = Starved::of_this_thread();
        let every = Duration::from_nanos((1_000_000_000 * self.threads).checked_div(self.rate).unwrap_or(0));
        let mut due = from;
        for version in 1.. {
            let mut began = Instant::now();
            if began.duration_since(from) >= long {
                break;
            }
            if self.rate > 0 {
                due += every;
                std::thread::sleep(due.saturating_duration_since(began));
                began = Instant::now();
            } else {
                due = began;
            }
            random = mix(random);
            let key = key(random % self.keys);
            tree.put(&key, &value(&key, version, self.value_bytes))?;
            let took = began.elapsed();
            latency.record((began + took).saturating_duration_since(due).as_nanos() as u64)?;
            if took > STOP {
                stops.push(Stop { began, took, starved: starved.since_last().min(took) });
            } else if version % LOOK_EVERY == 0 {
                starved.since_last();
            }
        }
        Ok((latency, stops))
    }
}

/// How long this thread waited for a processor, as Linux counts it; where nobody counts, it never did.
#[derive(Debug)]
struct Starved {
    file: Option<File>,
    last: Duration,
}

impl Starved {
    fn of_this_thread() -> Self {
        let mut starved = Self { file: File::open("/proc/thread-self/schedstat").ok(), last: Duration::ZERO };
        starved.since_last();
        starved
    }

    fn since_last(&mut self) -> Duration {
        let now = self.file.as_mut().and_then(waited_in_all).unwrap_or(self.last);
        now - std::mem::replace(&mut self.last, now)
    }
}

/// The second of three numbers: nanoseconds ready to run and not running.
fn waited_in_all(file: &mut File) -> Option<Duration> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    Some(Duration::from_nanos(text.split_whitespace().nth(1)?.parse().ok()?))
}

pub(crate) fn histogram() -> BenchResult<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000_000, 3)?)
}
