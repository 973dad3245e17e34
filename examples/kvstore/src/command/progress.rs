//! The progress of an import, and of a recovery that takes long, on stderr, where that is a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use kvstore::{RecoveryProgress, RecoveryStep};

/// Lines between two looks at the bar.
const LINES_PER_UPDATE: u64 = 1024;

/// A bar over the bytes of a file, or a spinner where nobody knows how many there are.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// `bytes` of input, if that is known.
    pub(crate) fn of(bytes: Option<u64>) -> Self {
        // Draws to stderr, and not at all where that is no terminal.
        let (bar, template) = match bytes {
            Some(bytes) => (
                ProgressBar::new(bytes),
                "{wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {msg} {eta}",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {binary_bytes} {binary_bytes_per_sec} {msg}"),
        };
        // A template that cannot be read leaves the default one: a bar, all the same.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self { bar }
    }

    /// So many lines and bytes were put.
    pub(crate) fn at(&self, lines: u64, bytes: u64) {
        if lines.is_multiple_of(LINES_PER_UPDATE) && !self.bar.is_hidden() {
            self.bar.set_position(bytes);
            let seconds = self.bar.elapsed().as_secs_f64();
            let rate = if seconds > 0.0 { lines as f64 / seconds } else { 0.0 };
            self.bar.set_message(format!("{lines} lines, {rate:.0}/s"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Recoveries that take less show nothing.
const LONG: Duration = Duration::from_millis(500);

/// A bar over the bytes of log that a recovery has read, then replayed.
#[derive(Debug)]
pub(crate) struct RecoveryBar {
    began: Instant,
    bar: Option<ProgressBar>,
}

impl RecoveryBar {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), bar: None }
    }

    /// It has come so far.
    pub(crate) fn at(&mut self, now: RecoveryProgress) {
        if self.bar.is_none() && self.began.elapsed() < LONG {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(now.of);
            // A template that cannot be read leaves the default one.
            if let Ok(style) =
                ProgressStyle::with_template("{msg} {wide_bar} {binary_bytes}/{binary_total_bytes}")
            {
                bar.set_style(style);
            }
            bar
        });
        bar.set_length(now.of);
        bar.set_position(now.done);
        bar.set_message(match now.step {
            RecoveryStep::Log => "recovery: reading the log",
            RecoveryStep::TornPages => "recovery: restoring torn pages",
            RecoveryStep::Redo => "recovery: replaying the log",
            _ => "recovery: writing pages",
        });
    }
}

impl Drop for RecoveryBar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
