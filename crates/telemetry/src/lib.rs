//! Counters, gauges and histograms: fast-telemetry's with feature `metrics`, nothing at all without.
//!
//! Invariant: without the feature every instrument has size zero, every method does nothing, and fast-telemetry is not in
//! the dependency graph. So no answer of the public API may be made of these: what it reports, it counts itself.
//!
//! ```text
//!   on.rs          the instruments, over fast-telemetry     (feature `metrics`)
//!   off.rs         the same names and methods, empty        (without)
//!   prometheus.rs  numbers to text, either way: whatever counted them
//! ```
//!
//! ```
//! use pagestone_telemetry::{Counter, Metric, Value, prometheus_text};
//!
//! let waits = Counter::new();
//! waits.add(3);
//! let text = prometheus_text([
//!     Metric { name: "pagestone_pool_waits_total", help: "Faults that waited.", value: Value::Counter(waits.value()) },
//!     Metric { name: "pagestone_pool_frames", help: "Frames of the pool.", value: Value::Gauge(64) },
//! ]);
//! assert!(text.ends_with("# TYPE pagestone_pool_frames gauge\npagestone_pool_frames 64\n"));
//! ```
#![forbid(unsafe_code)]

#[cfg(not(feature = "metrics"))]
mod off;
#[cfg(feature = "metrics")]
mod on;
mod prometheus;

#[cfg(not(feature = "metrics"))]
pub use off::{Counter, Gauge, Histogram};
#[cfg(feature = "metrics")]
pub use on::{Counter, Gauge, Histogram};
pub use prometheus::{HistogramSnapshot, Metric, Value, prometheus_text};
