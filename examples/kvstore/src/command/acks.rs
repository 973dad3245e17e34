//! Acknowledgements: each key is printed once it is durable, in the order of the lines.
//!
//! Invariant: a key is on stdout only after a wait for its LSN returned; what is printed is flushed before the next wait.
//!
//! The import pushes keys and goes on; one printer takes all that are pushed, waits once for the last of them, and prints
//! them. So a burst costs one wait, and a key behind which nothing comes does not wait for the next. The syncs are those that
//! the store makes anyway: the import shares the disk with them, and more would slow it down.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kvstore::{KvStore, Lsn, StoreError, StoreResult};

use super::format::Format;

/// Bytes of unprinted keys at which the import waits for the printer.
const MOST_PENDING: usize = 1 << 20;
/// How long the background flush is waited for: some of its intervals.
const PATIENCE: Duration = Duration::from_millis(50);
/// Between two looks at what it did.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Keys between the import and the printer.
#[derive(Debug)]
pub(crate) struct Acks {
    format: Format,
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    /// Lines to print, in order.
    lines: Vec<u8>,
    /// Durable once the log is durable up to here. Never falls.
    lsn: Lsn,
    /// No more will come.
    ended: bool,
    /// The printer has left, so that nothing that comes will be printed.
    unread: bool,
}

/// Why the printer left early.
#[derive(Debug)]
pub(crate) enum NotPrinted {
    Store(StoreError),
    Output(io::Error),
}

/// The printer has left: the import should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unread;

impl Acks {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, pending: Mutex::default(), changed: Condvar::new() }
    }

    /// A key whose line was applied, durable at `lsn` and at those before. Waits while the printer is far behind.
    pub(crate) fn push(&self, key: &[u8], lsn: Lsn) -> Result<(), Unread> {
        let mut pending = self.wait_while(|pending| pending.lines.len() >= MOST_PENDING && !pending.unread);
        if pending.unread {
            return Err(Unread);
        }
        let idle = pending.lines.is_empty();
        self.format.key(key, &mut pending.lines);
        // A removal that found nothing has none of its own: it is as durable as what it follows.
        pending.lsn = pending.lsn.max(lsn);
        drop(pending);
        if idle {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// No more will come: the printer ends when it has printed what there is.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Prints until the end.
    pub(crate) fn print_all(&self, store: &KvStore, out: &mut impl Write) -> Result<(), NotPrinted> {
        let _leaves = PrinterLeaves(self);
        let mut lines = Vec::new();
        loop {
            let mut pending = self.wait_while(|pending| pending.lines.is_empty() && !pending.ended);
            if pending.lines.is_empty() {
                return Ok(());
            }
            std::mem::swap(&mut lines, &mut pending.lines);
            let lsn = pending.lsn;
            drop(pending);
            self.changed.notify_all(); // there is room again
            wait_durable(store, lsn).map_err(NotPrinted::Store)?;
            out.write_all(&lines).and_then(|()| out.flush()).map_err(NotPrinted::Output)?;
            lines.clear();
        }
    }

    fn wait_while(&self, condition: impl Fn(&Pending) -> bool) -> MutexGuard<'_, Pending> {
        self.changed
            .wait_while(self.lock(), |pending| condition(pending))
            // Nothing between a lock and its release can panic halfway.
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the sync that a strict write or the background flush makes; makes one if none comes.
fn wait_durable(store: &KvStore, lsn: Lsn) -> StoreResult<()> {
    let began = Instant::now();
    while !store.tree().is_durable(lsn) && began.elapsed() < PATIENCE {
        thread::sleep(LOOK_AGAIN);
    }
    store.tree().wait_durable(lsn)
}

/// Tells the import, however the printer ends, so that it never waits for one that is gone.
struct PrinterLeaves<'a>(&'a Acks);

impl Drop for PrinterLeaves<'_> {
    fn drop(&mut self) {
        self.0.lock().unread = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::encoding::Encoding;

    #[test]
    fn a_line_that_changed_nothing_does_not_vouch_for_those_before_it() {
        let acks = Acks::new(Format { encoding: Encoding::Text, json: false });
        for lsn in [7, 0, 5] {
            acks.push(b"key", Lsn::new(lsn)).expect("the printer is there");
        }
        assert_eq!(acks.lock().lsn, Lsn::new(7));
    }
}
