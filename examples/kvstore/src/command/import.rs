//! Lines into the store.
//!
//! Invariant: each line is applied for itself, in order; whatever ends an import early, the lines before it are in the store.

use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::Instant;

use kvstore::{KvStore, Lsn, StoreResult};

use super::acks::{Acks, NotPrinted};
use super::args::LineForm;
use super::failure::Failure;
use super::format::Format;
use super::json::Change;
use super::lines::Lines;

/// What a bad line leaves behind.
const KEPT: &str = "what came before it was kept";

/// An import whose input is open.
pub(crate) struct Import {
    lines: Lines,
    ack: bool,
}

/// How the lines ended, and how many were applied.
struct Ended {
    lines: u64,
    result: Result<(), Failure>,
}

impl Import {
    /// Opens the file at `path`, or stdin for `-`.
    pub(crate) fn open(path: &Path, form: LineForm, format: Format, ack: bool) -> Result<Self, Failure> {
        Ok(Self { lines: Lines::open(path, form, format.encoding, KEPT)?, ack })
    }

    /// Applies every line; tells on stderr what was done.
    pub(crate) fn run(self, store: &KvStore, format: Format) -> Result<(), Failure> {
        let began = Instant::now();
        let ended =
            if self.ack { self.acknowledged(store, format)? } else { self.apply(store, |_, _| Ok(())) };
        // A bad line says that what came before it was kept: only if it was.
        store.sync()?;
        ended.result?;
        let (lines, seconds) = (ended.lines, began.elapsed().as_secs_f64());
        let stats = store.stats()?.store;
        let _ = writeln!(
            io::stderr(),
            "imported {lines} lines in {seconds:.3} s, {:.0} lines/s, evictions {}, splits {}",
            lines as f64 / seconds.max(1e-6),
            stats.pool.evictions,
            stats.tree.splits,
        );
        Ok(())
    }

    /// Applies every line, beside a printer of those that are durable.
    fn acknowledged(self, store: &KvStore, format: Format) -> Result<Ended, Failure> {
        let acks = Acks::new(format);
        thread::scope(|scope| {
            let printer = thread::Builder::new()
                .name("kvstore-acks".into())
                .spawn_scoped(scope, || acks.print_all(store, &mut io::stdout().lock()))
                .map_err(Failure::Thread)?;
            let _end = EndOnDrop(&acks);
            // A refused push is explained by the printer, below.
            let unread = || Failure::Output(io::ErrorKind::BrokenPipe.into());
            let mut ended = self.apply(store, |key, lsn| acks.push(key, lsn).map_err(|_| unread()));
            acks.end();
            match printer.join() {
                Ok(Ok(())) => {}
                Ok(Err(NotPrinted::Store(error))) => ended.result = Err(error.into()),
                Ok(Err(NotPrinted::Output(source))) => {
                    ended.result = Err(Failure::Acks { lines: ended.lines, source });
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
            Ok(ended)
        })
    }

    /// Applies every line and hands its key to `applied`, until the end or the first failure.
    fn apply(mut self, store: &KvStore, mut applied: impl FnMut(&[u8], Lsn) -> Result<(), Failure>) -> Ended {
        let (mut change, mut lines) = (Change::default(), 0);
        let mut apply_next = || -> Result<bool, Failure> {
            if !self.lines.next(&mut change)? {
                return Ok(false);
            }
            let line = self.lines.number();
            let lsn = apply(store, &change).map_err(|source| Failure::Put { line, source, kept: KEPT })?;
            lines = line;
            applied(&change.key, lsn)?;
            Ok(true)
        };
        let result = loop {
            match apply_next() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(failure) => break Err(failure),
            }
        };
        Ended { lines, result }
    }
}

/// Lets the printer end even if the import panics, for the scope to be left.
struct EndOnDrop<'a>(&'a Acks);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Applies one line; gives the LSN up to which the log must be durable for it to be.
fn apply(store: &KvStore, change: &Change) -> StoreResult<Lsn> {
    if !change.del {
        return Ok(store.put(&change.key, &change.value)?.lsn);
    }
    let mut removal = store.batch();
    removal.del(&change.key)?;
    // A key that was not there changes nothing that would have to become durable.
    Ok(removal.commit()?.lsn.unwrap_or_default())
}
