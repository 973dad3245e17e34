//! Contenders by turns that look keys up, and the table of what they did.
//!
//! Invariant: in each round every contender has one turn, and each round begins with the next one; a ratio is the median of the rounds'
//! ratios, so that a noisy minute spoils some rounds of both sides and not one side. All are asked for the same keys in the same order.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::VALUE;
use crate::threads::on_threads;
use crate::writers::{key, mix};
use crate::{BenchResult, quartiles};

/// Keys that are drawn at once, before any of them is looked up.
const BATCH: usize = 1024;

pub(super) type Key = [u8; 16];

/// Looks all of these keys up and looks at what it finds.
pub(super) type Step<'a> = Box<dyn Fn(&[Key], &mut Vec<u8>) -> BenchResult<()> + Sync + 'a>;

/// One side of a contest, and what it did so far.
pub(super) struct Contender<'a> {
    name: &'a str,
    step: Step<'a>,
    /// Keys a second in each turn.
    rates: Vec<f64>,
    /// The goals, and whose rate they are multiples of.
    over: Vec<(&'a str, f64)>,
}

impl<'a> Contender<'a> {
    pub(super) fn new(
        name: &'a str,
        step: impl Fn(&[Key], &mut Vec<u8>) -> BenchResult<()> + Sync + 'a,
    ) -> Self {
        Self { name, step: Box::new(step), rates: Vec::new(), over: Vec::new() }
    }

    /// Compared with the contender of that name; a goal of zero is none.
    #[must_use]
    pub(super) fn over(mut self, other: &'a str, goal: f64) -> Self {
        self.over.push((other, goal));
        self
    }
}

/// What a contest is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contest {
    pub(super) rows: u64,
    pub(super) rounds: usize,
    pub(super) turn: Duration,
    /// By the threads' processor time instead of the clock.
    pub(super) by_cpu: bool,
}

impl Contest {
    /// Prints what the tables that follow are of; `how` goes on from the rows.
    pub(super) fn announce(&self, how: &str) {
        println!(
            "{} rows of 16 + {VALUE} bytes{how}; {} rounds by turns of {} ms. Rates are medians of the rounds, in brackets the quartiles; \
             a ratio is the median of the rounds'.{}",
            self.rows,
            self.rounds,
            self.turn.as_millis(),
            if self.by_cpu { " Seconds are of the threads' processor time." } else { "" }
        );
    }

    /// Lets each have its turns with so many threads, prints what they did, and gives the medians in order of the contenders.
    pub(super) fn run(&self, threads: u64, contenders: &mut [Contender<'_>]) -> BenchResult<Vec<f64>> {
        contenders.iter_mut().for_each(|contender| contender.rates.clear());
        // The first round warms up.
        for round in 0..=self.rounds {
            for place in 0..contenders.len() {
                let place = (place + round) % contenders.len();
                let contender = &mut contenders[place];
                let rate = self.turn(threads, round as u64, &contender.step)?;
                if round > 0 {
                    contender.rates.push(rate);
                }
            }
        }
        println!("\n### {threads} threads\n\n| | gets/s | ratio | over | goal |\n|---|---|---|---|---|");
        for contender in contenders.iter() {
            let [low, rate, high] = quartiles(contender.rates.iter().map(|rate| rate / 1e6));
            let rates = format!("{rate:.3} M [{low:.3} to {high:.3}]");
            let named = |name: &str| contenders.iter().find(|other| other.name == name);
            let over: Vec<_> =
                contender.over.iter().filter_map(|(name, goal)| Some((name, goal, named(name)?))).collect();
            // Nobody is there to be compared with: the rate alone.
            if over.is_empty() {
                println!("| {} | {rates} | | | |", contender.name);
            }
            for (name, goal, other) in over {
                let each = contender.rates.iter().zip(&other.rates).map(|(ours, theirs)| ours / theirs);
                let [low, ratio, high] = quartiles(each);
                let verdict = match *goal {
                    0.0 => String::new(),
                    goal if ratio >= goal => format!("{goal} met"),
                    goal => format!("{goal} MISSED"),
                };
                println!(
                    "| {} | {rates} | {ratio:.3} [{low:.3} to {high:.3}] | {name} | {verdict} |",
                    contender.name
                );
            }
        }
        Ok(contenders.iter().map(|contender| quartiles(contender.rates.iter().copied())[1]).collect())
    }

    /// Keys a second of all threads.
    fn turn(&self, threads: u64, round: u64, step: &Step<'_>) -> BenchResult<f64> {
        let begin = Barrier::new(threads as usize);
        let one = |thread: u64| {
            let (mut keys, mut value) = (vec![[0; 16]; BATCH], Vec::new());
            let mut random = mix(round << 8 | thread);
            begin.wait();
            let (began, cpu) = (Instant::now(), CpuClock::of_this_thread(self.by_cpu)?);
            let (mut took, mut batches) = (Duration::ZERO, 0);
            while took < self.turn {
                for place in &mut keys {
                    random = mix(random);
                    *place = key(random % self.rows);
                }
                step(&keys, &mut value)?;
                batches += 1;
                took = began.elapsed();
            }
            let took = cpu.map_or(Ok(took), CpuClock::since)?;
            BenchResult::Ok((batches * BATCH) as f64 / took.as_secs_f64())
        };
        Ok(on_threads(threads, one)?.iter().sum())
    }
}

/// What Linux counts of a thread's time on a processor.
struct CpuClock {
    began: Duration,
}

impl CpuClock {
    fn of_this_thread(wanted: bool) -> BenchResult<Option<Self>> {
        if wanted { Ok(Some(Self { began: Self::now()? })) } else { Ok(None) }
    }

    fn now() -> BenchResult<Duration> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
        Ok(Duration::from_nanos(text.split_whitespace().next().ok_or("no time in schedstat")?.parse()?))
    }

    fn since(self) -> BenchResult<Duration> {
        Ok(Self::now()? - self.began)
    }
}
