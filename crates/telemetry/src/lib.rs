//! Counters, gauges and histograms for pagestone, or nothing at all.
#![forbid(unsafe_code)]
