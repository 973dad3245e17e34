//! What the pool measures for operators, with feature `metrics`; nothing that [`crate::PoolStats`] answers is made of it.

use std::time::Instant;

use pagestone_telemetry::{Histogram, Metric, Value};

use crate::BufferPool;

/// Upper bounds of the buckets, in microseconds: from a page in a cache to a disk that is in trouble.
const READ_US: [u64; 12] = [5, 10, 20, 50, 100, 200, 500, 1000, 5000, 20_000, 100_000, 1_000_000];

#[derive(Debug)]
pub(crate) struct PoolMetrics {
    read_us: Histogram,
    batch_us: Histogram,
}

impl PoolMetrics {
    pub(crate) fn new() -> Self {
        Self { read_us: Histogram::new(&READ_US), batch_us: Histogram::new(&READ_US) }
    }

    pub(crate) fn read_took(&self, since: Instant) {
        self.read_us.record(since.elapsed().as_micros() as u64);
    }

    pub(crate) fn batch_took(&self, since: Instant) {
        self.batch_us.record(since.elapsed().as_micros() as u64);
    }
}

impl BufferPool {
    /// The pool's measurements; empty histograms without feature `metrics`.
    pub fn metrics(&self) -> Vec<Metric<'static>> {
        vec![
            Metric {
                name: "pagestone_pool_read_microseconds",
                help: "Time that reading one missing page took, verification included.",
                value: Value::Histogram(self.metrics.read_us.snapshot()),
            },
            Metric {
                name: "pagestone_pool_read_batch_microseconds",
                help: "Time that one read of several missing pages took, verification included.",
                value: Value::Histogram(self.metrics.batch_us.snapshot()),
            },
        ]
    }
}
