//! The instruments when nobody looks.
//!
//! Invariant: all of them have size zero, and what they are told is dropped. Each says what `on.rs` says of the same name.

use crate::HistogramSnapshot;

/// How often something happened: counted nowhere.
#[derive(Clone, Debug, Default)]
pub struct Counter(());

impl Counter {
    /// At zero, for good.
    pub const fn new() -> Self {
        Self(())
    }

    /// At zero, for good.
    pub const fn of_one_writer() -> Self {
        Self(())
    }

    /// Does nothing.
    #[inline(always)]
    pub const fn inc(&self) {}

    /// Does nothing.
    #[inline(always)]
    pub const fn add(&self, _more: u64) {}

    /// Zero.
    pub const fn value(&self) -> u64 {
        0
    }
}

/// How much of something there is: kept nowhere.
#[derive(Clone, Debug, Default)]
pub struct Gauge(());

impl Gauge {
    /// At zero, for good.
    pub const fn new() -> Self {
        Self(())
    }

    /// Does nothing.
    #[inline(always)]
    pub const fn set(&self, _value: i64) {}

    /// Zero.
    pub const fn value(&self) -> i64 {
        0
    }
}

/// How values spread: kept nowhere.
#[derive(Clone, Debug, Default)]
pub struct Histogram(());

impl Histogram {
    /// Empty, for good; the bounds are checked as if they were used.
    pub fn new(bounds: &[u64]) -> Self {
        assert!(bounds.is_sorted_by(|low, high| low < high), "the bounds of a histogram rise");
        Self(())
    }

    /// Does nothing.
    #[inline(always)]
    pub const fn record(&self, _value: u64) {}

    /// A snapshot without buckets.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot::default()
    }
}

const _: () = assert!(size_of::<(Counter, Gauge, Histogram)>() == 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_told_is_dropped() {
        let (counter, gauge, histogram) = (Counter::new(), Gauge::new(), Histogram::new(&[1, 2]));
        counter.inc();
        counter.add(5);
        gauge.set(5);
        histogram.record(5);
        assert_eq!((counter.value(), gauge.value()), (0, 0));
        assert_eq!(histogram.snapshot(), HistogramSnapshot::default());
    }
}
