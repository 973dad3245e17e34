//! What a pager measures for operators, with feature `metrics`; nothing that it answers is made of it.

use pagestone_telemetry::{Counter, Metric, Value};

use crate::DynPager;

#[derive(Debug)]
pub(crate) struct MappedMetrics {
    /// Roots written.
    pub(crate) commits: Counter,
    /// Commits that wrote blocks as well.
    pub(crate) folds: Counter,
    /// Growths of the file.
    pub(crate) growths: Counter,
    /// Writes of protected pages that were committed.
    pub(crate) promotions: Counter,
    /// Protected pages whose checksum did not match.
    pub(crate) damaged: Counter,
}

impl Default for MappedMetrics {
    fn default() -> Self {
        let counter = Counter::of_one_writer; // a pager has one; many readers meet at damage alone
        Self {
            commits: counter(),
            folds: counter(),
            growths: counter(),
            promotions: counter(),
            damaged: counter(),
        }
    }
}

impl DynPager {
    /// The pager's measurements: gauges of what it knows, and counters that are zero without feature `metrics`.
    pub fn metrics(&self) -> Vec<Metric<'static>> {
        let MappedMetrics { commits, folds, growths, promotions, damaged } = self.counters();
        let counter =
            |name, help, counter: &Counter| Metric { name, help, value: Value::Counter(counter.value()) };
        let gauge = |name, help, value: u64| Metric {
            name,
            help,
            value: Value::Gauge(i64::try_from(value).unwrap_or(i64::MAX)),
        };
        vec![
            counter("pagestone_mapped_commits_total", "Commits of metadata.", commits),
            counter("pagestone_mapped_folds_total", "Commits that wrote blocks of metadata.", folds),
            counter("pagestone_mapped_growths_total", "Growths of the file.", growths),
            counter("pagestone_mapped_promotions_total", "Committed writes of protected pages.", promotions),
            counter("pagestone_mapped_damaged_total", "Reads of protected pages that found damage.", damaged),
            gauge(
                "pagestone_mapped_pages",
                "Pages of the file, reserved ones among them.",
                self.page_count(),
            ),
            gauge(
                "pagestone_mapped_free_pages",
                "Pages that can be allocated without growth.",
                self.free_page_count(),
            ),
        ]
    }
}
