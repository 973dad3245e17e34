//! Imports that are killed at a random instant, again and again, and what must be there afterwards (C13).
//!
//! The lines of a store's life follow from a seed ([`life`]). What is found must be exactly what a prefix of the lines leaves: no
//! line missing in it, none behind it, and every acknowledged line in it. The log is measured meanwhile ([`log_files`]).

mod life;
mod log_files;

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kvstore::{KvStore, KvStoreOptions};
use pagestone_testkit::Rng;

use life::{LARGE, Life};
use log_files::LogFiles;

/// Between two measurements of the log.
const BETWEEN_LOOKS: Duration = Duration::from_micros(500);

/// What to kill, and how often.
#[derive(Debug)]
pub(crate) struct KillLoop {
    /// The command.
    pub(crate) binary: PathBuf,
    /// Where the stores are made.
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
    /// Lines that were found to have removed their key.
    pub(crate) removals: u64,
    /// Large values, at all openings.
    pub(crate) large_values: u64,
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
    /// Bytes that were appended to the logs.
    pub(crate) log_bytes: u64,
    /// What their files took.
    pub(crate) log_files: LogFiles,
}

impl KillFigures {
    /// In one line.
    pub(crate) fn to_line(&self) -> String {
        let mut openings = self.openings.clone();
        openings.sort_unstable();
        let ms = |at: usize| openings.get(at).map_or(0.0, |took| took.as_secs_f64() * 1e3);
        format!(
            "{} rounds on {} stores, {} acknowledged keys, lost {}, {} found beyond, {} removals, {} large values, {} killed \
             before the first ack, {} finished first, {} groups replayed, {} torn tails, reopened in {:.1} ms (median), \
             {:.1} ms (most), {} bytes of log in {}",
            self.rounds,
            self.stores,
            self.acknowledged,
            self.lost,
            self.beyond,
            self.removals,
            self.large_values,
            self.killed_before_first_ack,
            self.finished,
            self.replayed_groups,
            self.torn_tails,
            ms(openings.len() / 2),
            ms(openings.len().saturating_sub(1)),
            self.log_bytes,
            self.log_files.to_line(),
        )
    }
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
            let strict = rng.chance(128);
            let offered = if strict { self.lines } else { self.lines * 10 };
            let acknowledged =
                self.import_and_kill(&current, strict, offered, &mut rng, &mut figures, &context);
            Look { life: &mut current, figures: &mut figures, context: &context }.at(
                acknowledged,
                offered,
                &mut rng,
            );
            life = Some(current);
        }
        figures
    }

    fn begin_life(&self, old: Option<Life>, rng: &mut Rng, figures: &mut KillFigures) -> Life {
        if let Some(old) = old {
            fs::remove_dir_all(&old.dir).expect("the old store is removed");
        }
        figures.stores += 1;
        Life::new(self.dir.join(format!("store-{}", figures.stores)), rng.next_u64())
    }

    /// Offers the store more lines than it can take in the time it has; gives how many were acknowledged.
    fn import_and_kill(
        &self,
        life: &Life,
        strict: bool,
        offered: u64,
        rng: &mut Rng,
        figures: &mut KillFigures,
        context: &str,
    ) -> u64 {
        let pool = *rng.pick(&["128KiB", "1MiB", "16MiB"]);
        let mut command = Command::new(&self.binary);
        command.arg("--data-dir").arg(&life.dir).args(["--log", "4MiB", "--pool", pool]);
        command.args(["--json", "import", "--ack"]).args(strict.then_some("--sync"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the import starts");
        let stdin = child.stdin.take().expect("stdin is piped");
        let mut stdout = child.stdout.take().expect("stdout is piped");
        // A third dies young: while the store is made or opened.
        let longest_us = self.longest.as_micros() as u64 / if rng.chance(85) { 16 } else { 1 };
        let dies = Instant::now() + Duration::from_micros(rng.below(longest_us.max(1)));
        let (status, printed) = thread::scope(|scope| {
            // A pipe that breaks when the import dies is what is wanted here.
            scope.spawn(|| drop(life.write_lines(stdin, life.lines, offered)));
            let reader = scope.spawn(move || {
                let mut printed = Vec::new();
                stdout.read_to_end(&mut printed).map(|_| printed)
            });
            while Instant::now() < dies {
                figures.log_files.measure(&life.dir, context);
                thread::sleep(BETWEEN_LOOKS.min(dies.saturating_duration_since(Instant::now())));
            }
            child.kill().expect("the import is killed");
            let status = child.wait().expect("the import has ended");
            (status, reader.join().expect("the reader ends").expect("stdout is read to its end"))
        });
        figures.log_files.measure(&life.dir, context);

        // What is behind the last line end was not printed whole.
        let whole = printed.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut acknowledged = 0;
        for key in printed[..whole].split_inclusive(|byte| *byte == b'\n') {
            let expected = life.acknowledgement(life.lines + acknowledged);
            assert!(
                key == expected.as_bytes(),
                "{context}: acknowledgement {acknowledged} is of another key"
            );
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

/// A look at what a killed import left.
struct Look<'a> {
    life: &'a mut Life,
    figures: &'a mut KillFigures,
    context: &'a str,
}

impl Look<'_> {
    /// Opens the store as whoever comes next would, and holds it against its lines.
    fn at(mut self, acknowledged: u64, offered: u64, rng: &mut Rng) {
        let context = self.context;
        let store = self.open();
        let report = store.verify().unwrap_or_else(|error| panic!("{context}: not verified: {error}"));
        assert!(report.is_sound(), "{context}: {:?}", report.findings.first());
        let found: Result<Vec<_>, _> = store.scan_all().collect();
        let found = found.unwrap_or_else(|error| panic!("{context}: the store cannot be read: {error}"));
        let promised = self.life.lines + acknowledged;
        let lines = self
            .life
            .prefix_of(&found, promised, self.life.lines + offered)
            .unwrap_or_else(|why| panic!("{context}: {why}"));
        self.figures.lost += promised.saturating_sub(lines);
        self.figures.beyond += lines.saturating_sub(promised);
        assert!(lines >= promised, "{context}: {lines} lines are there, {promised} were acknowledged");

        assert_eq!(store.count().expect("counted"), found.len() as u64, "{context}: count");
        assert!(
            store.scan_all().rev().map(|entry| entry.expect("read")).eq(found.iter().rev().cloned()),
            "{context}: the reverse scan differs"
        );
        self.figures.large_values += found.iter().filter(|(_, value)| value.len() >= LARGE).count() as u64;
        self.figures.removals +=
            (self.life.lines..lines).filter(|line| self.life.removes(*line)).count() as u64;
        let log_end = store.stats().expect("figures").store.log.end_lsn.get();
        self.figures.log_bytes += log_end - self.life.log_end;
        (self.life.lines, self.life.log_end) = (lines, log_end);
        // The next one finds a store that was closed, or one that was dropped.
        if rng.chance(128) {
            store.close().unwrap_or_else(|error| panic!("{context}: the store does not close: {error}"));
        }
        drop(store);
        self.figures.log_files.measure(&self.life.dir, context);
    }

    fn open(&mut self) -> KvStore {
        let options = KvStoreOptions {
            pool_bytes: 1 << 20,
            log_bytes: LogFiles::BUDGET,
            segment_bytes: LogFiles::SEGMENT,
            ..KvStoreOptions::default()
        };
        let began = Instant::now();
        let store = KvStore::open_with(&self.life.dir, &options)
            .unwrap_or_else(|error| panic!("{}: the store does not open again: {error}", self.context));
        self.figures.openings.push(began.elapsed());
        self.figures.replayed_groups += store.open_report().groups;
        self.figures.torn_tails += u64::from(store.open_report().torn_tail);
        self.figures.log_files.measure(&self.life.dir, self.context);
        store
    }
}
