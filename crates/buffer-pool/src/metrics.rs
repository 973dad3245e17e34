//! What the pool measures for operators, with feature `metrics`; nothing that [`crate::PoolStats`] answers is made of it.

use std::time::Instant;

use pagestone_hybrid_latch::WaitSite;
use pagestone_telemetry::{Histogram, Metric, Value};

use crate::BufferPool;

/// Upper bounds of the buckets, in microseconds: from a page in a cache to a disk that is in trouble.
const READ_US: [u64; 12] = [5, 10, 20, 50, 100, 200, 500, 1000, 5000, 20_000, 100_000, 1_000_000];

/// Lines at which latches are waited for that are shown.
const TOP_SITES: usize = 10;

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
    /// The pool's measurements, those of its frames' latches among them; zeros and empty histograms without feature `metrics`.
    pub fn metrics(&self) -> Vec<Metric<'static>> {
        let mut all = self.latch_metrics();
        all.push(Metric {
            name: "pagestone_pool_read_microseconds",
            help: "Time that reading one missing page took, verification included.",
            value: Value::Histogram(self.metrics.read_us.snapshot()),
        });
        all.push(Metric {
            name: "pagestone_pool_read_batch_microseconds",
            help: "Time that one read of several missing pages took, verification included.",
            value: Value::Histogram(self.metrics.batch_us.snapshot()),
        });
        all
    }

    fn latch_metrics(&self) -> Vec<Metric<'static>> {
        let waits = self.contention.waits();
        let counter = |name, help, value| Metric { name, help, value: Value::Counter(value) };
        let sites = self.contention.top_sites(TOP_SITES);
        let by_site = |name, help, of: fn(&WaitSite) -> u64| Metric {
            name,
            help,
            value: Value::Counters {
                label: "site",
                values: sites.iter().map(|site| (site.to_string(), of(site))).collect(),
            },
        };
        vec![
            counter(
                "pagestone_latch_optimistic_waits_total",
                "Optimistic reads that waited for a writer of the page.",
                waits.optimistic,
            ),
            counter("pagestone_latch_shared_waits_total", "Waits for a shared latch.", waits.shared),
            counter(
                "pagestone_latch_exclusive_waits_total",
                "Waits for an exclusive latch.",
                waits.exclusive,
            ),
            counter(
                "pagestone_latch_wait_nanoseconds_total",
                "How long latches were waited for, in all.",
                waits.nanoseconds,
            ),
            by_site(
                "pagestone_latch_site_waits_total",
                "Waits for latches by the line that waited: the lines where it took longest.",
                |site| site.waits,
            ),
            by_site("pagestone_latch_site_wait_nanoseconds_total", "How long these lines waited.", |site| {
                site.nanoseconds
            }),
        ]
    }
}
