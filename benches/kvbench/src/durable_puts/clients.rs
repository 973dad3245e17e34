//! Clients that each do one thing after another, and what they saw.
//!
//! Invariant: in each round every contender has one turn, and each round begins with the next one; a ratio is the median of the rounds'
//! ratios, so that a noisy minute spoils some rounds of both sides and not one side.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::threads::on_threads;
use crate::writers::histogram;
use crate::{BenchResult, cpu_of_process};

/// What one client does once: its number, and a number that never comes again.
pub(super) type Step<'a> = Box<dyn Fn(u64, u64) -> BenchResult<()> + Sync + 'a>;

/// One side of a contest, and what it did so far.
pub(super) struct Contender<'a> {
    pub(super) name: String,
    step: Step<'a>,
    pub(super) rates: Vec<f64>,
    latency: Histogram<u64>,
    ops: u64,
    cpu: Option<Duration>,
}

impl<'a> Contender<'a> {
    pub(super) fn new(
        name: impl Into<String>,
        step: impl Fn(u64, u64) -> BenchResult<()> + Sync + 'a,
    ) -> BenchResult<Self> {
        let (name, step) = (name.into(), Box::new(step));
        Ok(Self { name, step, rates: Vec::new(), latency: histogram()?, ops: 0, cpu: Some(Duration::ZERO) })
    }

    fn turn(&mut self, clients: u64, round: u64, turn: Duration) -> BenchResult<()> {
        let (began, cpu) = (Instant::now(), cpu_of_process());
        let mut ops = 0;
        for latency in on_threads(clients, |client| repeat(&self.step, client, round, began, turn))? {
            ops += latency.len();
            self.latency.add(latency)?;
        }
        self.rates.push(ops as f64 / began.elapsed().as_secs_f64());
        self.ops += ops;
        self.cpu = self.cpu.zip(cpu).zip(cpu_of_process()).map(|((sum, before), now)| sum + (now - before));
        Ok(())
    }

    pub(super) fn micros(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Time of processors for one, in microseconds; what runs beside the clients counts.
    pub(super) fn cpu_micros(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / self.ops.max(1) as f64)
    }
}

/// Lets each have its turn, so many times.
pub(super) fn contest(
    clients: u64,
    rounds: usize,
    turn: Duration,
    contenders: &mut [Contender<'_>],
) -> BenchResult<()> {
    for round in 0..rounds {
        for place in 0..contenders.len() {
            let place = (place + round) % contenders.len();
            contenders[place].turn(clients, round as u64, turn)?;
        }
    }
    Ok(())
}

fn repeat(
    step: &Step<'_>,
    client: u64,
    round: u64,
    from: Instant,
    turn: Duration,
) -> BenchResult<Histogram<u64>> {
    let mut latency = histogram()?;
    let mut began = Instant::now();
    for number in 0.. {
        step(client, round << 40 | client << 32 | number)?;
        let now = Instant::now();
        latency.record((now - began).as_nanos() as u64)?;
        began = now;
        if now - from >= turn {
            break;
        }
    }
    Ok(latency)
}
