//! Contenders by turns.
//!
//! Invariant: in each round every contender has one turn, and each round begins with the next one, so that none always follows the
//! same other.

use std::ops::Add;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::BenchResult;

/// One side of a contest. `run` works for about a turn and gives how much it did a second, in the contest's unit.
pub(crate) struct Contender<'a> {
    pub(crate) name: String,
    run: Box<dyn FnMut() -> BenchResult<f64> + 'a>,
    /// The goal, and which contender's rate it is a multiple of.
    over: Option<(usize, f64)>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut() -> BenchResult<f64> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run), over: None }
    }

    /// Compared with the contender at that place; a goal of zero is none.
    #[must_use]
    pub(crate) fn over(self, place: usize, goal: f64) -> Self {
        Self { over: Some((place, goal)), ..self }
    }
}

/// Runs `step` until the turn is over; gives the units a second, `units` of them done by a step.
pub(crate) fn rate(
    turn: Duration,
    units: f64,
    mut step: impl FnMut() -> BenchResult<()>,
) -> BenchResult<f64> {
    let begun = Instant::now();
    let mut steps = 0u64;
    loop {
        step()?;
        steps += 1;
        let took = begun.elapsed();
        if took >= turn {
            return Ok(steps as f64 * units / took.as_secs_f64());
        }
    }
}

/// Lets the contenders run by turns and prints the table of what they did.
pub(crate) fn contest(
    title: &str,
    unit: &str,
    rounds: usize,
    contenders: &mut [Contender<'_>],
) -> BenchResult<()> {
    let mut rates = vec![Vec::with_capacity(rounds); contenders.len()];
    // The first round warms up: files are mapped, rings made, caches filled.
    for round in 0..=rounds {
        for turn in 0..contenders.len() {
            let place = (turn + round) % contenders.len();
            let rate = (contenders[place].run)()?;
            if round > 0 {
                rates[place].push(rate);
            }
        }
    }
    println!("\n### {title}\n\n| | {unit} | ratio | over | goal |\n|---|---|---|---|---|");
    for (place, contender) in contenders.iter().enumerate() {
        let rate = spread(&rates[place]);
        let Some((other, goal)) = contender.over else {
            println!("| {} | {rate} | | | |", contender.name);
            continue;
        };
        let ratios: Vec<f64> = rates[place].iter().zip(&rates[other]).map(|(a, b)| a / b).collect();
        let verdict = match goal {
            0.0 => String::new(),
            goal if quartiles(&ratios)[1] >= goal => format!("{goal} met"),
            goal => format!("{goal} MISSED"),
        };
        println!(
            "| {} | {rate} | {} | {} | {verdict} |",
            contender.name,
            spread(&ratios),
            contenders[other].name
        );
    }
    Ok(())
}

/// The lower quartile, the median, the upper quartile.
fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| sorted[((sorted.len() - 1) * quarter + 2) / 4])
}

fn spread(values: &[f64]) -> String {
    let [low, median, high] = quartiles(values).map(digits);
    format!("{median} [{low} to {high}]")
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e4 => format!("{:.1} K", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.3}"),
    }
}

/// Visits between two looks at the clock.
const STEP: u64 = 1024;

/// Each thread visits pages in an order of its own; the rates add up.
pub(crate) fn on_threads<'a>(
    threads: u64,
    turn: Duration,
    pages: u64,
    visit: impl Fn(u64) -> BenchResult<()> + Sync + 'a,
) -> impl FnMut() -> BenchResult<f64> + 'a {
    move || {
        let (begin, visit) = (Barrier::new(threads as usize), &visit);
        let one = |thread| {
            let mut ids = Draws::new(thread + 1);
            begin.wait();
            rate(turn, STEP as f64, || (0..STEP).try_for_each(|_| visit(ids.below(pages))))
        };
        sum_of_threads(threads, one)
    }
}

/// Calls `one` with the numbers of so many threads, of which the caller's is the first, and adds up what they give.
pub(crate) fn sum_of_threads<T: Send + Add<Output = T>>(
    threads: u64,
    one: impl Fn(u64) -> BenchResult<T> + Sync,
) -> BenchResult<T> {
    let one = &one;
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || one(thread))).collect();
        let first = one(0)?;
        others
            .into_iter()
            .try_fold(first, |sum, other| Ok(sum + other.join().map_err(|_| "a thread panicked")??))
    })
}

/// Numbers that look random and are the same in every run (xorshift64*).
#[derive(Clone, Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(drawn) * u128::from(end)) >> 64) as u64
    }
}
