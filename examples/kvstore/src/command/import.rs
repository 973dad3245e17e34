//! Lines into the store.
//!
//! Invariant: memory does not grow with the input: one line at a time, in buffers that are kept, none longer than an entry can
//! be. Whatever ends an import early, the lines before it are in the store.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use kvstore::{KvStore, Lsn, StoreError};

use super::acks::{Acks, NotPrinted};
use super::encoding::{Encoding, Malformed};
use super::failure::Failure;
use super::format::Format;
use super::progress::Progress;
use super::tsv;

/// An import whose input is open.
pub(crate) struct Import {
    name: PathBuf,
    input: Box<dyn BufRead>,
    bytes: Option<u64>,
    ack: bool,
}

/// How the lines ended, and how many were put.
struct Ended {
    lines: u64,
    result: Result<(), Failure>,
}

impl Import {
    /// Opens the file at `path`, or stdin for `-`.
    pub(crate) fn open(path: &Path, ack: bool) -> Result<Self, Failure> {
        let (input, bytes): (Box<dyn Read>, _) = if path.as_os_str() == "-" {
            (Box::new(io::stdin()), None)
        } else {
            let failed = |source| Failure::File { path: path.to_path_buf(), source };
            let file = File::open(path).map_err(failed)?;
            let about = file.metadata().map_err(failed)?;
            if about.is_dir() {
                return Err(failed(io::ErrorKind::IsADirectory.into()));
            }
            (Box::new(file), about.is_file().then_some(about.len()))
        };
        let input = Box::new(BufReader::with_capacity(256 << 10, input));
        Ok(Self { name: path.to_path_buf(), input, bytes, ack })
    }

    /// Puts every line; tells on stderr what was done.
    pub(crate) fn run(self, store: &KvStore, format: Format) -> Result<(), Failure> {
        let began = Instant::now();
        let ended = if self.ack {
            self.acknowledged(store, format)?
        } else {
            self.put_lines(store, format.encoding, |_, _| Ok(()))
        };
        let synced = store.sync();
        // A bad line says that what came before it was kept: only if it was.
        synced?;
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

    /// Puts every line, beside a printer of those that are durable.
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
            let mut ended =
                self.put_lines(store, format.encoding, |key, lsn| acks.push(key, lsn).map_err(|_| unread()));
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

    /// Puts every line and hands its key to `put`, until the end or the first failure.
    fn put_lines(
        mut self,
        store: &KvStore,
        encoding: Encoding,
        mut put: impl FnMut(&[u8], Lsn) -> Result<(), Failure>,
    ) -> Ended {
        let progress = Progress::of(self.bytes);
        // Escapes and hexadecimal take two bytes for one.
        let limit = 2 * (store.tree().max_key_len() + store.tree().max_value_len(0)) + 1;
        let (mut line, mut key, mut value) = (Vec::new(), Vec::new(), Vec::new());
        let (mut lines, mut bytes) = (0, 0);
        let mut put_next = || -> Result<bool, Failure> {
            let number = lines + 1;
            let wrong = |reason| Failure::Line { line: number, reason };
            let read = self.read_line(&mut line, limit)?;
            if read == 0 {
                return Ok(false);
            }
            if line.len() > limit {
                return Err(wrong(Malformed::TooLong { limit }));
            }
            let (key_column, value_column) = tsv::columns(&line).map_err(wrong)?;
            encoding.read_column(key_column, &mut key).map_err(wrong)?;
            encoding.read_column(value_column, &mut value).map_err(wrong)?;
            let put_at = |source: StoreError| Failure::Put { line: number, source };
            let lsn = store.put(&key, &value).map_err(put_at)?.lsn;
            lines = number;
            bytes += read;
            progress.at(lines, bytes);
            put(&key, lsn)?;
            Ok(true)
        };
        let result = loop {
            match put_next() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(failure) => break Err(failure),
            }
        };
        Ended { lines, result }
    }

    /// Replaces the contents of `line` by the next one, without its end but, if it is longer than `limit`, cut short one byte
    /// past it. Gives the bytes read, zero at the end of the input.
    fn read_line(&mut self, line: &mut Vec<u8>, limit: usize) -> Result<u64, Failure> {
        line.clear();
        let read = (&mut self.input)
            .take(limit as u64 + 1)
            .read_until(b'\n', line)
            .map_err(|source| Failure::File { path: self.name.clone(), source })?;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(read as u64)
    }
}

/// Lets the printer end even if the import panics, for the scope to be left.
struct EndOnDrop<'a>(&'a Acks);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
