//! The instruments, over fast-telemetry: sharded by thread, so that counting on a hot path writes no shared line.
//!
//! Invariant: an instrument loses nothing that was recorded; a reader beside writers may miss what is being recorded.

use crate::HistogramSnapshot;

/// How many cells a counter is spread over: one for each processor, as far as that helps.
fn shards() -> usize {
    const ENOUGH: usize = 32;
    std::thread::available_parallelism().map_or(1, |processors| processors.get().min(ENOUGH))
}

/// How many cells a histogram is spread over. It records waits and transfers, which are thousands of times as long as two threads
/// that meet in a cell; and to ask for the processors takes longer than everything else that making it does.
const HISTOGRAM_SHARDS: usize = 8;

/// fast-telemetry counts in `isize`. A number past its end wraps, as counters do.
const fn signed(value: u64) -> isize {
    value as isize
}

/// How often something happened.
#[derive(Debug)]
pub struct Counter(fast_telemetry::Counter);

impl Counter {
    /// At zero.
    pub fn new() -> Self {
        Self(fast_telemetry::Counter::new(shards()))
    }

    /// At zero, in one cell: for what one thread counts at a time. To make it asks nobody how many processors there are, which takes
    /// longer than the opening of a small file.
    pub fn of_one_writer() -> Self {
        Self(fast_telemetry::Counter::new(1))
    }

    /// Once more.
    #[inline]
    pub fn inc(&self) {
        self.0.inc();
    }

    /// So much more.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.add(signed(more));
    }

    /// How often until now.
    pub fn value(&self) -> u64 {
        self.0.sum() as u64
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

/// How much of something there is.
#[derive(Default)]
pub struct Gauge(fast_telemetry::Gauge);

impl Gauge {
    /// At zero.
    pub fn new() -> Self {
        Self(fast_telemetry::Gauge::new())
    }

    /// So much from now on.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.set(value);
    }

    /// How much now.
    pub fn value(&self) -> i64 {
        self.0.get()
    }
}

impl std::fmt::Debug for Gauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gauge").field(&self.value()).finish()
    }
}

/// How values spread over buckets.
pub struct Histogram(fast_telemetry::Histogram);

impl Histogram {
    /// Empty, with a bucket up to and with each of `bounds`, which rise, and one for all above; panics if they do not rise.
    pub fn new(bounds: &[u64]) -> Self {
        assert!(bounds.is_sorted_by(|low, high| low < high), "the bounds of a histogram rise");
        Self(fast_telemetry::Histogram::new(bounds, HISTOGRAM_SHARDS))
    }

    /// One value more. Looks through the bounds one by one: have a dozen, not a hundred.
    #[inline]
    pub fn record(&self, value: u64) {
        self.0.record(value);
    }

    /// The buckets, sum and count until now.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut buckets: Vec<(u64, u64)> = self.0.buckets_cumulative_iter().collect();
        // The last one has no bound, and its count is the count: that way the two agree beside writers.
        let count = buckets.pop().map_or(0, |(_, count)| count);
        HistogramSnapshot { buckets, sum: self.0.sum(), count }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Histogram").field(&self.snapshot()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_lose_nothing_over_threads() {
        let counter = Counter::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| counter.inc()));
            }
        });
        counter.add(5);
        assert_eq!(counter.value(), 8005);
    }

    #[test]
    fn gauges_keep_the_last_value() {
        let gauge = Gauge::new();
        gauge.set(7);
        gauge.set(-3);
        assert_eq!(gauge.value(), -3);
    }

    #[test]
    fn buckets_hold_their_upper_bound_and_add_up() {
        let histogram = Histogram::new(&[10, 100]);
        for value in [0, 10, 11, 100, 101, 1 << 40] {
            histogram.record(value);
        }
        let expected = HistogramSnapshot { buckets: vec![(10, 2), (100, 4)], sum: 222 + (1 << 40), count: 6 };
        assert_eq!(histogram.snapshot(), expected);
    }

    #[test]
    #[should_panic(expected = "the bounds of a histogram rise")]
    fn bounds_must_rise() {
        let _ = Histogram::new(&[10, 10]);
    }
}
