//! Lines in: of an import, of a batch.
//!
//! Invariant: memory does not grow with the input: one line at a time, in buffers that are kept, none longer than
//! [`MAX_LINE_BYTES`]. A longer one is an error like any other bad line, and no more of it is read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::args::LineForm;
use super::encoding::{Encoding, Malformed};
use super::failure::Failure;
use super::json::{self, Change};
use super::progress::Progress;
use super::tsv;

/// The longest value that stands in a line, in bytes. Longer ones go in and out by `put --value-file` and `get --output`.
pub(crate) const MAX_VALUE_BYTES: usize = 64 << 20;
/// The longest line, without its end: two bytes for each of the value, as escapes and hexadecimal take, and the key with what
/// stands around it.
pub(crate) const MAX_LINE_BYTES: usize = 2 * MAX_VALUE_BYTES + (64 << 10);

/// Lines of an input that is open.
pub(crate) struct Lines {
    name: PathBuf,
    input: Box<dyn BufRead>,
    progress: Progress,
    form: LineForm,
    encoding: Encoding,
    /// What a bad line leaves behind, for its message.
    if_bad: &'static str,
    line: Vec<u8>,
    /// Of the last line, counted from one.
    number: u64,
    bytes: u64,
}

impl Lines {
    /// Opens the file at `path`, or stdin for `-`. `encoding` is that of TSV.
    pub(crate) fn open(
        path: &Path,
        form: LineForm,
        encoding: Encoding,
        if_bad: &'static str,
    ) -> Result<Self, Failure> {
        let (input, bytes) = open_input(path)?;
        let input = Box::new(BufReader::with_capacity(256 << 10, input));
        let (name, progress) = (path.to_path_buf(), Progress::of(bytes));
        Ok(Self { name, input, progress, form, encoding, if_bad, line: Vec::new(), number: 0, bytes: 0 })
    }

    /// The number of the line that was read last.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line into `change`; tells whether there was one.
    pub(crate) fn next(&mut self, change: &mut Change) -> Result<bool, Failure> {
        self.progress.at(self.number, self.bytes);
        let read = (&mut self.input)
            .take(MAX_LINE_BYTES as u64 + 1)
            .read_until(b'\n', {
                self.line.clear();
                &mut self.line
            })
            .map_err(|source| Failure::File { path: self.name.clone(), source })?;
        if read == 0 {
            return Ok(false);
        }
        self.number += 1;
        self.bytes += read as u64;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        }
        self.read_line(change).map_err(|reason| Failure::Line {
            line: self.number,
            reason,
            kept: self.if_bad,
        })?;
        Ok(true)
    }

    fn read_line(&self, change: &mut Change) -> Result<(), Malformed> {
        if self.line.len() > MAX_LINE_BYTES {
            return Err(Malformed::TooLong { limit: MAX_LINE_BYTES });
        }
        match self.form {
            LineForm::Jsonl => json::read(&self.line, change)?,
            LineForm::Tsv => {
                let (key, value) = tsv::columns(&self.line)?;
                change.del = false;
                self.encoding.read_column(key, &mut change.key)?;
                self.encoding.read_column(value, &mut change.value)?;
            }
        }
        let found = change.value.len();
        if !change.del && found > MAX_VALUE_BYTES {
            return Err(Malformed::TooLarge { found, limit: MAX_VALUE_BYTES });
        }
        Ok(())
    }
}

/// The file at `path` with its length where it has one, or stdin for `-`.
pub(crate) fn open_input(path: &Path) -> Result<(Box<dyn Read>, Option<u64>), Failure> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(io::stdin()), None));
    }
    let failed = |source| Failure::File { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    Ok((Box::new(file), about.is_file().then_some(about.len())))
}
