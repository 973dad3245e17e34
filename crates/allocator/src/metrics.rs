//! What the allocator measures for operators, with feature `metrics`; nothing that it answers is made of it.

use pagestone_telemetry::{Counter, Metric, Value};

use crate::LoggedAllocator;

#[derive(Debug, Default)]
pub(crate) struct AllocatorMetrics {
    /// Reservations that gave something.
    pub(crate) reservations: Counter,
    /// Looks at regions that were not known.
    pub(crate) loads: Counter,
    /// Waits for another thread's look.
    pub(crate) waits: Counter,
}

impl LoggedAllocator {
    /// The allocator's measurements: gauges of what it knows, and counters that are zero without feature `metrics`.
    pub fn metrics(&self) -> Vec<Metric<'static>> {
        let AllocatorMetrics { reservations, loads, waits } = &self.metrics;
        let counter =
            |name, help, counter: &Counter| Metric { name, help, value: Value::Counter(counter.value()) };
        let gauge = |name, help, value: u64| Metric {
            name,
            help,
            value: Value::Gauge(i64::try_from(value).unwrap_or(i64::MAX)),
        };
        vec![
            counter("pagestone_allocator_reservations_total", "Reservations of page ids.", reservations),
            counter(
                "pagestone_allocator_region_loads_total",
                "Regions of the space map read or made.",
                loads,
            ),
            counter("pagestone_allocator_waits_total", "Waits for another thread's look at a region.", waits),
            gauge(
                "pagestone_allocator_free_pages",
                "Free ids below the high water, in the regions that are known.",
                self.free_count(),
            ),
            gauge(
                "pagestone_allocator_quarantined_pages",
                "Free ids that cannot be extents yet, in the regions that are known.",
                self.quarantined_count(),
            ),
            gauge(
                "pagestone_allocator_high_water_pages",
                "One past the highest id in use; zero before it is known.",
                self.high_water().unwrap_or(0),
            ),
        ]
    }
}
