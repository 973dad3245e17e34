//! Imports that are killed at a random instant, again and again, and what must be there afterwards (C13).
//!
//! The lines of a store's life follow from a seed: line n inserts a key of its own, or overwrites that of an earlier line,
//! and its value carries n. So the highest number in a store tells which prefix of the lines it should be, and the store must
//! be that prefix exactly: no line missing in it, none behind it, and every acknowledged line in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kvstore::{KvStore, KvStoreOptions};
use pagestone_testkit::Rng;

/// What to kill, and how often.
#[derive(Debug)]
pub(crate) struct KillLoop {
    /// The command.
    pub(crate) binary: PathBuf,
    /// Where the stores and the lines are made.
    pub(crate) dir: PathBuf,
    /// Everything but the instants follows from it.
    pub(crate) seed: u64,
    /// Rounds at most.
    pub(crate) rounds: u64,
    /// No round begins after it.
    pub(crate) until: Option<Instant>,
    /// The longest life of an import.
    pub(crate) longest: Duration,
    /// Lines offered to an import that is strict about each; ten times as many to one that is not.
    pub(crate) lines: u64,
}

/// What was done and found. `lost` is the promise: it stays zero.
#[derive(Debug, Default)]
pub(crate) struct KillFigures {
    /// Imports that were started.
    pub(crate) rounds: u64,
    /// Stores that were made anew.
    pub(crate) stores: u64,
    /// Lines whose keys were printed.
    pub(crate) acknowledged: u64,
    /// Lines that were found though nobody had been told of them.
    pub(crate) beyond: u64,
    /// Acknowledged lines that were not found.
    pub(crate) lost: u64,
    /// Imports killed before they printed a key.
    pub(crate) killed_before_first_ack: u64,
    /// Imports that came to their end first.
    pub(crate) finished: u64,
    /// Groups that were replayed by the openings.
    pub(crate) replayed_groups: u64,
    /// Openings that found a torn tail.
    pub(crate) torn_tails: u64,
    /// Times that the openings took.
    pub(crate) openings: Vec<Duration>,
}

impl KillFigures {
    /// In one line.
    pub(crate) fn to_line(&self) -> String {
        let mut openings = self.openings.clone();
        openings.sort_unstable();
        let ms = |at: usize| openings.get(at).map_or(0.0, |took| took.as_secs_f64() * 1e3);
        format!(
            "{} rounds on {} stores, {} acknowledged keys, lost {}, {} found beyond, {} killed before the first ack, \
             {} finished first, {} groups replayed, {} torn tails, reopened in {:.1} ms (median), {:.1} ms (most)",
            self.rounds,
            self.stores,
            self.acknowledged,
            self.lost,
            self.beyond,
            self.killed_before_first_ack,
            self.finished,
            self.replayed_groups,
            self.torn_tails,
            ms(openings.len() / 2),
            ms(openings.len().saturating_sub(1)),
        )
    }
}

/// One store, and what is known to be in it.
struct Life {
    dir: PathBuf,
    seed: u64,
    /// Lines that were found in it.
    lines: u64,
}

impl KillLoop {
    /// Kills and looks until the rounds or the time are over.
    ///
    /// Panics, with the seed and the round, when a promise is broken; the store is left for a look if `dir` is.
    pub(crate) fn run(&self) -> KillFigures {
        let mut rng = Rng::new(self.seed);
        let mut figures = KillFigures::default();
        let mut life: Option<Life> = None;
        while figures.rounds < self.rounds && self.until.is_none_or(|until| Instant::now() < until) {
            let mut current = match life.take() {
                Some(life) if !rng.chance(64) => life,
                old => self.begin_life(old, &mut rng, &mut figures),
            };
            let context =
                format!("seed {}, round {}, store {}", self.seed, figures.rounds, current.dir.display());
            figures.rounds += 1;
            let acknowledged = self.import_and_kill(&current, &mut rng, &mut figures, &context);
            look(&mut current, acknowledged, &mut rng, &mut figures, &context);
            life = Some(current);
        }
        figures
    }

    fn begin_life(&self, old: Option<Life>, rng: &mut Rng, figures: &mut KillFigures) -> Life {
        if let Some(old) = old {
            fs::remove_dir_all(&old.dir).expect("the old store is removed");
        }
        figures.stores += 1;
        Life { dir: self.dir.join(format!("store-{}", figures.stores)), seed: rng.next_u64(), lines: 0 }
    }

    /// Offers the store more lines than it can take in the time it has; gives how many were acknowledged.
    fn import_and_kill(&self, life: &Life, rng: &mut Rng, figures: &mut KillFigures, context: &str) -> u64 {
        let strict = rng.chance(128);
        let offered = if strict { self.lines } else { self.lines * 10 };
        let file = self.dir.join("lines.tsv");
        life.write_lines(&file, life.lines, offered).expect("the lines are written");

        let pool = *rng.pick(&["128KiB", "1MiB", "16MiB"]);
        let mut command = Command::new(&self.binary);
        command.arg("--data-dir").arg(&life.dir).args(["--log", "4MiB", "--pool", pool]);
        command.args(["import", "--ack"]).arg(&file).args(strict.then_some("--sync"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the import starts");
        let mut stdout = child.stdout.take().expect("stdout is piped");
        let reader = thread::spawn(move || {
            let mut printed = Vec::new();
            stdout.read_to_end(&mut printed).map(|_| printed)
        });
        // A third dies young: while the store is made or opened.
        let longest_us = self.longest.as_micros() as u64 / if rng.chance(85) { 16 } else { 1 };
        thread::sleep(Duration::from_micros(rng.below(longest_us.max(1))));
        child.kill().expect("the import is killed");
        let status = child.wait().expect("the import has ended");
        let printed = reader.join().expect("the reader ends").expect("stdout is read to its end");

        // What is behind the last line end was not printed whole.
        let whole = printed.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut acknowledged = 0;
        for key in printed[..whole].split_inclusive(|byte| *byte == b'\n') {
            let mut expected = escaped(&life.key(life.key_number(life.lines + acknowledged)));
            expected.push(b'\n');
            assert!(key == expected, "{context}: acknowledgement {acknowledged} is of another key");
            acknowledged += 1;
        }
        if status.code().is_some() {
            assert!(status.success(), "{context}: the import failed by itself, {status}");
            assert_eq!(acknowledged, offered, "{context}: a finished import acknowledges every line");
            figures.finished += 1;
        } else if acknowledged == 0 {
            figures.killed_before_first_ack += 1;
        }
        figures.acknowledged += acknowledged;
        acknowledged
    }
}

impl Life {
    fn number(&self, line: u64, what: u64) -> u64 {
        Rng::new(self.seed ^ line.wrapping_mul(0x9e6c_63d0_876a_3f6b) ^ what).next_u64()
    }

    /// Which key the line puts: one of its own, or in a quarter of the lines that of an earlier line.
    fn key_number(&self, line: u64) -> u64 {
        let number = self.number(line, 1);
        if line > 0 && number.is_multiple_of(4) { (number >> 8) % line } else { line }
    }

    /// Keys with long shared prefixes, in no order, some with bytes that are escaped.
    fn key(&self, key_number: u64) -> Vec<u8> {
        let number = self.number(key_number, 2);
        let (package, odd) = (number % 31, if number.is_multiple_of(16) { "\\\t\n" } else { "" });
        format!("/usr/share/package-{package:02}/{number:016x}/{odd}file-{key_number}").into_bytes()
    }

    /// The number of the line, and a filling that follows from it.
    fn value(&self, line: u64) -> Vec<u8> {
        let filling = self.number(line, 3) % 200;
        format!("{line}:{}", "v".repeat(filling as usize)).into_bytes()
    }

    fn write_lines(&self, file: &Path, from: u64, count: u64) -> std::io::Result<()> {
        let mut out = BufWriter::new(fs::File::create(file)?);
        for line in from..from + count {
            out.write_all(&escaped(&self.key(self.key_number(line))))?;
            out.write_all(b"\t")?;
            out.write_all(&self.value(line))?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// The store as it must be after so many lines: the last line of each key.
    fn after(&self, lines: u64) -> BTreeMap<Vec<u8>, u64> {
        (0..lines).map(|line| (self.key(self.key_number(line)), line)).collect()
    }
}

/// Opens the store as whoever comes next would, and holds it against its lines.
fn look(life: &mut Life, acknowledged: u64, rng: &mut Rng, figures: &mut KillFigures, context: &str) {
    let options = KvStoreOptions {
        pool_bytes: 1 << 20,
        log_bytes: 4 << 20,
        segment_bytes: 256 << 10,
        ..KvStoreOptions::default()
    };
    let began = Instant::now();
    let store = KvStore::open_with(&life.dir, &options)
        .unwrap_or_else(|error| panic!("{context}: the store does not open again: {error}"));
    figures.openings.push(began.elapsed());
    figures.replayed_groups += store.open_report().groups;
    figures.torn_tails += u64::from(store.open_report().torn_tail);

    let found: Result<Vec<_>, _> = store.scan_all().collect();
    let found = found.unwrap_or_else(|error| panic!("{context}: the store cannot be read: {error}"));
    let line_of = |value: &[u8]| -> u64 {
        let digits = value.split(|byte| *byte == b':').next().unwrap_or_default();
        let line = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        line.unwrap_or_else(|| panic!("{context}: a value without a number"))
    };
    let lines = found.iter().map(|(_, value)| line_of(value) + 1).max().unwrap_or(0);
    let promised = life.lines + acknowledged;
    figures.lost += promised.saturating_sub(lines);
    figures.beyond += lines.saturating_sub(promised);
    assert!(lines >= promised, "{context}: {lines} lines are there, {promised} were acknowledged");

    let expected = life.after(lines);
    assert_eq!(found.len(), expected.len(), "{context}: entries after {lines} lines");
    for ((key, value), (expected_key, line)) in found.iter().zip(&expected) {
        assert!(
            key == expected_key,
            "{context}: a key of the first {lines} lines is missing, or another one is there"
        );
        assert!(*value == life.value(*line), "{context}: the value of line {line} is another one");
    }
    assert_eq!(store.count().expect("counted"), found.len() as u64, "{context}: count");
    assert!(
        store.scan_all().rev().map(|entry| entry.expect("read")).eq(found.into_iter().rev()),
        "{context}: the reverse scan differs"
    );
    // The next one finds a store that was closed, or one that was dropped.
    if rng.chance(128) {
        store.close().unwrap_or_else(|error| panic!("{context}: the store does not close: {error}"));
    }
    life.lines = lines;
}

fn escaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in bytes {
        match byte {
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            byte => out.push(*byte),
        }
    }
    out
}
