//! Numbers to text that Prometheus reads.
//!
//! Invariant: the text is well formed whatever the names and helps are: nothing in them ends a line early.
//!
//! After the Prometheus text exposition format, version 0.0.4.

use std::fmt::Write;

/// A number with its name.
#[derive(Clone, PartialEq, Debug)]
pub struct Metric<'a> {
    /// Letters, digits, `_` and `:`, no digit first; by custom `pagestone_<layer>_<what>_<unit>`, counters ending in
    /// `_total`. Any other character is written as `_`.
    pub name: &'a str,
    /// One sentence for people.
    pub help: &'a str,
    /// The number.
    pub value: Value,
}

impl Metric<'_> {
    /// Its numbers for people, each with a name: `name`, `name{label's value}`, and of a histogram `name_count` and `name_sum`; all
    /// without `pagestone_` in front. A gauge below zero is zero.
    pub fn figures(&self) -> Vec<(String, u64)> {
        let name = self.name.strip_prefix("pagestone_").unwrap_or(self.name);
        match &self.value {
            Value::Counter(value) => vec![(name.to_owned(), *value)],
            Value::Gauge(value) => vec![(name.to_owned(), u64::try_from(*value).unwrap_or(0))],
            Value::Histogram(HistogramSnapshot { sum, count, .. }) => {
                vec![(format!("{name}_count"), *count), (format!("{name}_sum"), *sum)]
            }
            Value::Counters { values, .. } => {
                values.iter().map(|(value, count)| (format!("{name}{{{value}}}"), *count)).collect()
            }
        }
    }
}

/// A number and what it means over time.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Only rises.
    Counter(u64),
    /// Rises and falls.
    Gauge(i64),
    /// Spreads over buckets.
    Histogram(HistogramSnapshot),
    /// Counters of one name, which a label tells apart.
    Counters {
        /// The label's name: letters, digits and `_`, no digit first. Any other character is written as `_`.
        label: &'static str,
        /// The label's value, which may be any text, and the counter.
        values: Vec<(String, u64)>,
    },
}

/// What a histogram held at about one instant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HistogramSnapshot {
    /// Upper bounds, which rise, each with the number of values up to and with it.
    pub buckets: Vec<(u64, u64)>,
    /// Sum of all values.
    pub sum: u64,
    /// Number of all values.
    pub count: u64,
}

/// The text for all of them, in their order, with `# HELP` and `# TYPE` lines.
pub fn prometheus_text<'a>(metrics: impl IntoIterator<Item = Metric<'a>>) -> String {
    let mut text = String::new();
    for metric in metrics {
        write_metric(&mut text, &metric).expect("a string takes whatever is written to it");
    }
    text
}

fn write_metric(text: &mut String, metric: &Metric<'_>) -> std::fmt::Result {
    let name = checked_name(metric.name);
    let kind = match metric.value {
        Value::Counter(_) | Value::Counters { .. } => "counter",
        Value::Gauge(_) => "gauge",
        Value::Histogram(_) => "histogram",
    };
    let help = metric.help.replace('\\', r"\\").replace('\n', r"\n");
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
    match &metric.value {
        Value::Counter(value) => writeln!(text, "{name} {value}"),
        Value::Gauge(value) => writeln!(text, "{name} {value}"),
        Value::Counters { label, values } => {
            let label = checked_name(label).replace(':', "_");
            for (value, count) in values {
                let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
                writeln!(text, "{name}{{{label}=\"{value}\"}} {count}")?;
            }
            Ok(())
        }
        Value::Histogram(HistogramSnapshot { buckets, sum, count }) => {
            for (bound, up_to) in buckets {
                writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {up_to}")?;
            }
            writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}")
        }
    }
}

fn checked_name(name: &str) -> String {
    let allowed = |(at, letter): (usize, char)| match letter {
        'a'..='z' | 'A'..='Z' | '_' | ':' => letter,
        '0'..='9' if at > 0 => letter,
        _ => '_',
    };
    if name.is_empty() { "_".into() } else { name.chars().enumerate().map(allowed).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_written_as_the_format_wants_it() {
        let text = prometheus_text([
            Metric { name: "a_total", help: "How often.", value: Value::Counter(u64::MAX) },
            Metric { name: "b", help: "How much.", value: Value::Gauge(-5) },
            Metric {
                name: "c_us",
                help: "How long.",
                value: Value::Histogram(HistogramSnapshot {
                    buckets: vec![(10, 2), (100, 3)],
                    sum: 1234,
                    count: 4,
                }),
            },
        ]);
        let expected = "\
# HELP a_total How often.
# TYPE a_total counter
a_total 18446744073709551615
# HELP b How much.
# TYPE b gauge
b -5
# HELP c_us How long.
# TYPE c_us histogram
c_us_bucket{le=\"10\"} 2
c_us_bucket{le=\"100\"} 3
c_us_bucket{le=\"+Inf\"} 4
c_us_sum 1234
c_us_count 4
";
        assert_eq!(text, expected);
        assert_eq!(prometheus_text([]), "");
    }

    #[test]
    fn labels_hold_any_text() {
        let values = vec![("a.rs:7 shared".to_owned(), 3), ("\"}\n\\".to_owned(), 4)];
        let value = Value::Counters { label: "si:te", values };
        let text = prometheus_text([Metric { name: "d_total", help: "Where.", value }]);
        let expected = "\
# HELP d_total Where.
# TYPE d_total counter
d_total{si_te=\"a.rs:7 shared\"} 3
d_total{si_te=\"\\\"}\\n\\\\\"} 4
";
        assert_eq!(text, expected);
    }

    #[test]
    fn figures_have_names_for_people() {
        let snapshot = HistogramSnapshot { buckets: vec![(10, 2)], sum: 30, count: 3 };
        let values = vec![("x".to_owned(), 3), ("y".to_owned(), 4)];
        let figures: Vec<(String, u64)> = [
            Metric { name: "pagestone_a_total", help: "", value: Value::Counter(1) },
            Metric { name: "b", help: "", value: Value::Gauge(-1) },
            Metric { name: "c_us", help: "", value: Value::Histogram(snapshot) },
            Metric { name: "d", help: "", value: Value::Counters { label: "site", values } },
        ]
        .iter()
        .flat_map(Metric::figures)
        .collect();
        let expected =
            [("a_total", 1), ("b", 0), ("c_us_count", 3), ("c_us_sum", 30), ("d{x}", 3), ("d{y}", 4)];
        assert_eq!(figures, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn names_and_helps_cannot_break_the_lines() {
        let text = prometheus_text([Metric { name: "9 ä\n{", help: "a\\b\nc 1", value: Value::Counter(1) }]);
        assert_eq!(text, "# HELP _____ a\\\\b\\nc 1\n# TYPE _____ counter\n_____ 1\n");
        assert!(prometheus_text([Metric { name: "", help: "", value: Value::Gauge(0) }]).contains("\n_ 0\n"));
    }
}
