//! A counter and its text, with or without the feature.

use pagestone_telemetry::{Counter, Metric, Value, prometheus_text};

fn main() {
    let counter = Counter::new();
    counter.add(3);
    let text = prometheus_text([Metric {
        name: "things_total",
        help: "Things.",
        value: Value::Counter(counter.value()),
    }]);
    assert!(text.contains("# TYPE things_total counter\nthings_total 3\n"), "{text}");
}
