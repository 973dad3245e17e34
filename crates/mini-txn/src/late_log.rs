//! The pool's log, before there is one.
//!
//! Invariant: while redo runs, every page it changes is described by a log that was read from the disk after it was synced
//! (L10), so that P11 holds for whatever the pool evicts; from the moment the log is open, it answers.
//!
//! ```text
//!   Recovery::replay, secure ──► LateLog::reading(end) ──► pool ──► Redo ──► Recovery::start ──► LateLog::open(log)
//! ```
//!
//! Why: redo needs the pool, the pool needs to know its log when it is made, and the log can be written only after redo.

use pagestone_page_format::{Lsn, PageResult, WriteAhead};
use pagestone_sync::Arc;
use pagestone_wal::Wal;
use std::sync::OnceLock;

/// Answers for the log that recovery reads, then for the log that it opened.
#[derive(Debug)]
pub struct LateLog {
    /// Where the log that was read ends.
    end: Lsn,
    log: OnceLock<Arc<Wal>>,
}

impl LateLog {
    /// For a log that was replayed up to `end` and secured: all of it is durable, and no page can carry a greater LSN.
    pub fn reading(end: Lsn) -> Self {
        Self { end, log: OnceLock::new() }
    }

    /// From here on this log answers.
    ///
    /// # Panics
    ///
    /// If one was opened before: a bug of the caller's.
    pub fn open(&self, log: Arc<Wal>) {
        self.log.set(log).expect("a pool's log is opened once");
    }
}

impl WriteAhead for LateLog {
    fn durable_lsn(&self) -> Lsn {
        self.log.get().map_or(self.end, |log| log.durable_lsn())
    }

    fn ensure_durable(&self, lsn: Lsn) -> PageResult<()> {
        match self.log.get() {
            None => Ok(()),
            Some(log) => log.ensure_durable(lsn),
        }
    }
}
