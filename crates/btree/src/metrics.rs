//! What trees measure for operators, with feature `metrics`; nothing that [`crate::TreeStats`] answers is made of it. All of it is counted
//! where an operation has to begin a step again: one that goes through at once counts nothing.

use pagestone_telemetry::{Counter, Metric, Value};

use crate::BTree;

#[derive(Debug, Default)]
pub(crate) struct TreeMetrics {
    /// A writer was faster.
    pub(crate) conflicts: Counter,
    /// A page was not resident.
    pub(crate) faults: Counter,
    /// Too many conflicts: with latches on the way down.
    pub(crate) latched: Counter,
}

impl BTree {
    /// The measurements of this tree and those beside it ([`BTree::beside`]); zeros without feature `metrics`.
    pub fn metrics(&self) -> Vec<Metric<'static>> {
        let TreeMetrics { conflicts, faults, latched } = &self.counters().metrics;
        let counter =
            |name, help, counter: &Counter| Metric { name, help, value: Value::Counter(counter.value()) };
        vec![
            counter(
                "pagestone_tree_conflicts_total",
                "Steps taken again because a writer was faster.",
                conflicts,
            ),
            counter(
                "pagestone_tree_faults_total",
                "Steps taken again because a page was not resident.",
                faults,
            ),
            counter(
                "pagestone_tree_latched_attempts_total",
                "Attempts that took latches on the way down, after many conflicts.",
                latched,
            ),
        ]
    }
}
