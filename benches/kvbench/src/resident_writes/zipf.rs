//! Numbers of which few are drawn most of the time, as YCSB draws them.
//!
//! Invariant: number `n` of `rows` comes up as often as `1 / n^0.99` says; which key that is, chance decides, so that hot keys do not
//! stand side by side. After Gray et al., *Quickly Generating Billion-Record Synthetic Databases*, SIGMOD 1994.

use crate::writers::mix;

const THETA: f64 = 0.99;

/// Of so many rows.
pub(super) struct Zipf {
    rows: u64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    pub(super) fn new(rows: u64) -> Self {
        let zeta = |rows: u64| (1..=rows).map(|n| (n as f64).powf(-THETA)).sum::<f64>();
        let all = zeta(rows);
        let eta = (1.0 - (2.0 / rows as f64).powf(1.0 - THETA)) / (1.0 - zeta(2) / all);
        Self { rows, zeta: all, eta }
    }

    /// The number that a random one stands for, the most frequent first.
    fn rank(&self, random: u64) -> u64 {
        let uniform = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1;
        }
        let spread = (self.eta * uniform - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
        ((self.rows as f64 * spread) as u64).min(self.rows - 1)
    }

    /// A row.
    pub(super) fn row(&self, random: u64) -> u64 {
        mix(self.rank(random)) % self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ranks_come_up_as_often_as_the_law_says() {
        let zipf = Zipf::new(10_000);
        let mut counts = [0_u32; 100];
        let (mut random, draws) = (7, 1_000_000);
        for _ in 0..draws {
            random = mix(random);
            if let Some(count) = counts.get_mut(zipf.rank(random) as usize) {
                *count += 1;
            }
        }
        // The first two are exact, the others an approximation of the law.
        for (rank, tolerance) in [(0, 0.02), (1, 0.02), (9, 0.2), (99, 0.2)] {
            let expected = f64::from(draws) * ((rank + 1) as f64).powf(-THETA) / zipf.zeta;
            let off = (f64::from(counts[rank]) - expected).abs() / expected;
            assert!(off < tolerance, "rank {rank}: {} draws, {expected:.0} expected", counts[rank]);
        }
    }
}
