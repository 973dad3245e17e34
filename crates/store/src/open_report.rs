//! What opening found and did, and how far it has come.
//!
//! Invariant: what is told of the progress rises within a step and never passes what the step has to do.

use std::time::{Duration, Instant};

use pagestone_page_format::{Lsn, PageResult};

use crate::TornWrites;

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenReport {
    /// The store was made by this opening.
    pub created: bool,
    /// Groups of the log that were replayed from the last checkpoint on.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of the log from the checkpoint to its end, padding of blocks included.
    pub log_bytes: u64,
    /// Pages that redo read from the data file. One that had to make room for others in a small pool counts each time.
    pub pages_read: u64,
    /// Pages to which a group was applied, counted once per group.
    pub applied: u64,
    /// Pages that already had it.
    pub skipped: u64,
    /// Pages that were nothing usable in the data file and that the log describes from nothing: new ones, as a rule.
    pub reformatted: u64,
    /// Pages that a power cut had torn and that were restored from their copies.
    pub restored: u64,
    /// Whether there were remains of a batch behind the last whole group, which no acknowledged write can be in.
    pub torn_tail: bool,
    /// Removals of ranges that were interrupted and that this opening has finished.
    pub finished_removals: u64,
    /// A copy of the superblock that could not be used; the other one was, and this opening has written it anew.
    pub superblock_damage: Option<String>,
    /// Whether data goes past the system's page cache.
    pub direct_io: bool,
    /// What keeps pages whole that are being written when the power fails: what [`crate::Options::torn_writes`] came to.
    pub torn_writes: TornWrites,
    /// How long each step took, those that there were.
    pub took_by_step: Vec<(RecoveryStep, Duration)>,
    /// How long opening took.
    pub took: Duration,
}

impl OpenReport {
    /// The figures by name, with what they mean; times in microseconds.
    pub fn figures(&self) -> Vec<(&'static str, &'static str, u64)> {
        vec![
            ("recovered_groups", "groups of the log that opening replayed", self.groups),
            ("recovered_records", "records in them", self.records),
            ("recovered_log_bytes", "bytes of log that opening replayed", self.log_bytes),
            ("recovery_pages_read", "pages that redo read", self.pages_read),
            ("recovery_applied", "pages to which redo applied a group, once per group", self.applied),
            ("recovery_skipped", "pages that had it already", self.skipped),
            ("recovery_reformatted", "pages that redo made from nothing", self.reformatted),
            ("recovery_restored", "torn pages that opening restored from their copies", self.restored),
            ("open_us", "microseconds that opening took", self.took.as_micros() as u64),
        ]
    }
}

/// What recovery is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveryStep {
    /// Reading the log to its end, before anything is changed.
    Log,
    /// Restoring torn pages.
    TornPages,
    /// Applying the log to the pages.
    Redo,
    /// Writing the oldest pages out, so that the log has room: only where it is more than three quarters full. Else what was replayed
    /// is written in the background, like any other change.
    Checkpoint,
}

/// How far recovery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryProgress {
    /// What is being done.
    pub step: RecoveryStep,
    /// Bytes of the log done in this step; in [`RecoveryStep::TornPages`] and [`RecoveryStep::Checkpoint`] nobody counts, and it is 0.
    pub done: u64,
    /// Bytes of the log that the step has to do, at most: while the log's end is not known, all that its files may hold.
    pub of: u64,
}

/// Bytes of log between two calls.
const TELL_EVERY: u64 = 1 << 20;

/// The steps so far, and who is told.
pub(crate) struct Steps<'a> {
    tell: &'a mut dyn FnMut(RecoveryProgress),
    now: Option<(RecoveryProgress, Instant)>,
    done: Vec<(RecoveryStep, Duration)>,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(tell: &'a mut dyn FnMut(RecoveryProgress)) -> Self {
        Self { tell, now: None, done: Vec::new() }
    }

    pub(crate) fn begin(&mut self, step: RecoveryStep, of: u64) {
        self.end();
        let progress = RecoveryProgress { step, done: 0, of };
        self.now = Some((progress, Instant::now()));
        (self.tell)(progress);
    }

    /// The step has come to this end of a group. It never fails, and fits where a group is taken.
    pub(crate) fn at(&mut self, from: Lsn, end: Lsn) -> PageResult<()> {
        if let Some((progress, _)) = &mut self.now {
            let done = end.get().saturating_sub(from.get()).min(progress.of);
            if done >= progress.done + TELL_EVERY {
                progress.done = done;
                (self.tell)(*progress);
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        if let Some((progress, began)) = self.now.take() {
            self.done.push((progress.step, began.elapsed()));
        }
    }

    /// How long each step took; the last one ends now.
    pub(crate) fn took(mut self) -> Vec<(RecoveryStep, Duration)> {
        self.end();
        self.done
    }
}
