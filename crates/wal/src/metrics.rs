//! What the log measures for operators, with feature `metrics`; nothing that [`crate::WalStats`] answers is made of it.

use std::time::Instant;

use pagestone_telemetry::{Histogram, Metric, Value};

use crate::wal::Wal;

/// Upper bounds of the buckets, in microseconds.
const BATCH_US: [u64; 12] = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 20_000, 100_000, 1_000_000];
/// Upper bounds of the buckets, in bytes.
const BATCH_BYTES: [u64; 8] = [4096, 8192, 16_384, 32_768, 65_536, 262_144, 1_048_576, 8_388_608];

#[derive(Debug)]
pub(crate) struct WalMetrics {
    batch_us: Histogram,
    batch_bytes: Histogram,
}

impl WalMetrics {
    pub(crate) fn new() -> Self {
        Self { batch_us: Histogram::new(&BATCH_US), batch_bytes: Histogram::new(&BATCH_BYTES) }
    }

    pub(crate) fn batch_took(&self, since: Instant, bytes: u64) {
        self.batch_us.record(since.elapsed().as_micros() as u64);
        self.batch_bytes.record(bytes);
    }
}

impl Wal {
    /// The log's measurements; empty histograms without feature `metrics`.
    pub fn metrics(&self) -> Vec<Metric<'static>> {
        vec![
            Metric {
                name: "pagestone_log_batch_microseconds",
                help: "Time that writing and syncing one batch took.",
                value: Value::Histogram(self.metrics.batch_us.snapshot()),
            },
            Metric {
                name: "pagestone_log_batch_bytes",
                help: "Bytes of one batch, as written.",
                value: Value::Histogram(self.metrics.batch_bytes.snapshot()),
            },
        ]
    }
}
