//! The lines of a store's life.
//!
//! All of it follows from a seed: line n inserts a key of its own, or overwrites or removes that of an earlier line, and the value
//! that it puts carries n.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use data_encoding::BASE64;
use pagestone_testkit::Rng;
use serde_json::json;

/// A value of so many bytes is a large one.
pub(crate) const LARGE: usize = 10_000;
/// One value in so many is.
const LARGE_EVERY: u64 = 200;
/// The largest, in bytes.
const LARGEST: u64 = 200_000;

/// One store, and what is known to be in it.
pub(crate) struct Life {
    /// The store.
    pub(crate) dir: PathBuf,
    seed: u64,
    /// Lines that were found in it.
    pub(crate) lines: u64,
    /// Where its log ended.
    pub(crate) log_end: u64,
}

impl Life {
    pub(crate) fn new(dir: PathBuf, seed: u64) -> Self {
        Self { dir, seed, lines: 0, log_end: 0 }
    }

    /// Writes so many lines, from line `from` on.
    pub(crate) fn write_lines(&self, out: impl Write, from: u64, count: u64) -> io::Result<()> {
        let mut out = BufWriter::new(out);
        for line in from..from + count {
            let key = self.key(line);
            let json = if self.removes(line) {
                json!({ "op": "del", "key": key })
            } else {
                json!({ "key": key, "value_base64": BASE64.encode(&self.value(line)) })
            };
            writeln!(out, "{json}")?;
        }
        out.flush()
    }

    /// What an import prints once the line is durable.
    pub(crate) fn acknowledgement(&self, line: u64) -> String {
        format!("{}\n", json!({ "key": self.key(line) }))
    }

    /// Whether the line removes its key, which may be gone already.
    pub(crate) fn removes(&self, line: u64) -> bool {
        line > 0 && self.number(line, 1).is_multiple_of(8)
    }

    /// How many of the lines, at least `promised` and at most `most` of them, leave exactly what was found; fewer than
    /// `promised`, if only that does.
    pub(crate) fn prefix_of(
        &self,
        found: &[(Vec<u8>, Vec<u8>)],
        promised: u64,
        most: u64,
    ) -> Result<u64, String> {
        let mut lines_found = BTreeMap::new();
        for (key, value) in found {
            let line = self.line_of(value).ok_or("a value that no line puts")?;
            lines_found.insert(key.as_slice(), line);
        }
        let mut expected: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        // Keys under which another line is found than is expected: all that are found, before the first line.
        let mut differing = found.len();
        let mut prefix = None;
        for lines in 0..=most {
            if differing == 0 {
                prefix = Some(lines);
                if lines >= promised {
                    break;
                }
            }
            let key = self.key(lines).into_bytes();
            let found = lines_found.get(key.as_slice()).copied();
            differing -= usize::from(expected.get(&key).copied() != found);
            let now = (!self.removes(lines)).then_some(lines);
            differing += usize::from(now != found);
            match now {
                Some(line) => expected.insert(key, line),
                None => expected.remove(&key),
            };
        }
        prefix.ok_or_else(|| format!("no prefix of the lines leaves the {} entries found", found.len()))
    }

    /// The line that put this value, which must be the value of that line.
    fn line_of(&self, value: &[u8]) -> Option<u64> {
        let digits = value.split(|byte| *byte == b':').next()?;
        let line = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (self.value(line) == value).then_some(line)
    }

    fn number(&self, line: u64, what: u64) -> u64 {
        Rng::new(self.seed ^ line.wrapping_mul(0x9e6c_63d0_876a_3f6b) ^ what).next_u64()
    }

    /// The key of the line: one of its own, or in three lines of eight that of an earlier line. Keys have long shared prefixes,
    /// stand in no order, and some hold what is escaped.
    fn key(&self, line: u64) -> String {
        let number = self.number(line, 1);
        let owner = if line > 0 && number % 8 < 3 { (number >> 8) % line } else { line };
        let number = self.number(owner, 2);
        let (package, odd) = (number % 31, if number.is_multiple_of(16) { "\\\t\n" } else { "" });
        format!("/usr/share/package-{package:02}/{number:016x}/{odd}file-{owner}")
    }

    /// The number of the line, and a filling that follows from it.
    fn value(&self, line: u64) -> Vec<u8> {
        let number = self.number(line, 3);
        let filling = if number.is_multiple_of(LARGE_EVERY) {
            LARGE as u64 + (number >> 8) % (LARGEST - LARGE as u64)
        } else {
            (number >> 8) % 200
        };
        let mut value = format!("{line}:").into_bytes();
        let begin = value.len();
        value.resize(begin + filling as usize, 0);
        Rng::new(number).fill(&mut value[begin..]);
        value
    }
}
