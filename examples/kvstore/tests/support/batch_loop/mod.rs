//! Batches over two trees whose writer is killed at a random instant, again and again, and what must be there afterwards.
//!
//! The batches of a store's life follow from a seed: batch n puts and removes the same keys in both trees, and its number under
//! one key in each of them ([`writer`]). So each tree names the batch after which it stands, both must name the same one, and both must
//! be exactly what that many batches leave.

mod writer;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pagestone::store::Tree;
use pagestone_testkit::Rng;

pub(crate) use writer::Writer;
use writer::{NUMBER, TREES};

/// Whom to kill, and how often.
#[derive(Debug)]
pub(crate) struct BatchLoop {
    /// Where the stores are made.
    pub(crate) dir: PathBuf,
    /// Everything but the instants follows from it.
    pub(crate) seed: u64,
    /// Rounds at most.
    pub(crate) rounds: u64,
    /// No round begins after it.
    pub(crate) until: Option<Instant>,
    /// The longest life of a writer.
    pub(crate) longest: Duration,
}

/// What was done and found. `lost` is the promise: it stays zero.
#[derive(Debug, Default)]
pub(crate) struct BatchFigures {
    /// Writers that were started.
    pub(crate) rounds: u64,
    /// Stores that were made anew.
    pub(crate) stores: u64,
    /// Batches whose numbers were printed.
    pub(crate) acknowledged: u64,
    /// Batches that were found though nobody had been told of them.
    pub(crate) beyond: u64,
    /// Acknowledged batches that were not found.
    pub(crate) lost: u64,
    /// Writers killed before they printed a number.
    pub(crate) killed_before_first_ack: u64,
    /// Entries of both trees, at all openings.
    pub(crate) entries: u64,
}

impl BatchFigures {
    /// In one line.
    pub(crate) fn to_line(&self) -> String {
        format!(
            "{} rounds of batches over two trees on {} stores, {} acknowledged batches, lost {}, {} found beyond, {} killed \
             before the first ack, {} entries compared",
            self.rounds,
            self.stores,
            self.acknowledged,
            self.lost,
            self.beyond,
            self.killed_before_first_ack,
            self.entries,
        )
    }
}

/// One store, and what is known to be in it.
struct Life {
    writer: Writer,
    /// What its batches leave.
    model: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl BatchLoop {
    /// Kills and looks until the rounds or the time are over.
    ///
    /// Panics, with the seed and the round, when a promise is broken; the store is left for a look if `dir` is.
    pub(crate) fn run(&self) -> BatchFigures {
        let mut rng = Rng::new(self.seed);
        let mut figures = BatchFigures::default();
        let mut life: Option<Life> = None;
        while figures.rounds < self.rounds && self.until.is_none_or(|until| Instant::now() < until) {
            let mut current = match life.take() {
                Some(life) if !rng.chance(32) => life,
                old => self.begin_life(old, &mut rng, &mut figures),
            };
            let writer = &mut current.writer;
            let context =
                format!("seed {}, round {}, store {}", self.seed, figures.rounds, writer.dir.display());
            figures.rounds += 1;
            writer.strict = rng.chance(128);
            writer.pool_bytes = *rng.pick(&[512 << 10, 4 << 20]);
            let acknowledged = self.write_and_kill(writer, &mut rng, &context);
            figures.acknowledged += acknowledged;
            figures.killed_before_first_ack += u64::from(acknowledged == 0);
            current.look(acknowledged, &mut figures, &context);
            life = Some(current);
        }
        figures
    }

    fn begin_life(&self, old: Option<Life>, rng: &mut Rng, figures: &mut BatchFigures) -> Life {
        if let Some(old) = old {
            fs::remove_dir_all(&old.writer.dir).expect("the old store is removed");
        }
        figures.stores += 1;
        let dir = self.dir.join(format!("batches-{}", figures.stores));
        let writer = Writer { dir, seed: rng.next_u64(), from: 0, strict: true, pool_bytes: 1 << 20 };
        Life { writer, model: BTreeMap::new() }
    }

    /// Runs the writer for a while; gives how many batches it acknowledged.
    fn write_and_kill(&self, writer: &Writer, rng: &mut Rng, context: &str) -> u64 {
        let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
        command.args(writer.to_arguments());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("the writer starts");
        let mut stdout = child.stdout.take().expect("stdout is piped");
        let reader = thread::spawn(move || {
            let mut printed = String::new();
            stdout.read_to_string(&mut printed).map(|_| printed)
        });
        let longest_us = self.longest.as_micros() as u64 / if rng.chance(64) { 8 } else { 1 };
        thread::sleep(Duration::from_micros(rng.below(longest_us.max(1))));
        child.kill().expect("the writer is killed");
        let status = child.wait().expect("the writer has ended");
        assert!(status.code().is_none(), "{context}: the writer ended by itself, {status}");
        let printed = reader.join().expect("the reader ends").expect("stdout is read to its end");
        // What is behind the last line end was not printed whole.
        let whole = printed.rfind('\n').map_or("", |end| &printed[..end]);
        let last = whole.lines().next_back().map(|line| line.parse::<u64>().expect("a number"));
        last.map_or(0, |last| last + 1 - writer.from)
    }
}

impl Life {
    /// Opens the store as whoever comes next would, and holds both trees against the batches.
    fn look(&mut self, acknowledged: u64, figures: &mut BatchFigures, context: &str) {
        let store = self.writer.open().unwrap_or_else(|error| panic!("{context}: not opened again: {error}"));
        let report = store.verify().unwrap_or_else(|error| panic!("{context}: not verified: {error}"));
        assert!(report.is_sound(), "{context}: {:?}", report.findings.first());
        let trees =
            TREES.map(|name| store.tree(name).unwrap_or_else(|error| panic!("{context}: {name}: {error}")));
        let [left, right] = trees.each_ref().map(|tree| number(tree, context));
        assert_eq!(left, right, "{context}: one tree stands behind another batch than the other");

        let promised = self.writer.from + acknowledged;
        figures.lost += promised.saturating_sub(left);
        figures.beyond += left.saturating_sub(promised);
        assert!(left >= promised, "{context}: {left} batches are there, {promised} were acknowledged");
        for batch in self.writer.from..left {
            for (key, value) in self.writer.batch(batch) {
                match value {
                    Some(value) => self.model.insert(key, value),
                    None => self.model.remove(&key),
                };
            }
        }
        for (name, tree) in TREES.iter().zip(&trees) {
            let found: Result<BTreeMap<_, _>, _> = tree.range::<&[u8]>(..).collect();
            let found = found.unwrap_or_else(|error| panic!("{context}: {name} cannot be read: {error}"));
            figures.entries += found.len() as u64;
            assert!(found == self.model, "{context}: {name} is not what {left} batches leave");
        }
        self.writer.from = left;
        let closes = Rng::new(left).chance(128);
        if closes {
            store.close().unwrap_or_else(|error| panic!("{context}: the store does not close: {error}"));
        }
    }
}

/// How many batches the tree has, as it says itself.
fn number(tree: &Tree, context: &str) -> u64 {
    let found = tree.get(NUMBER).unwrap_or_else(|error| panic!("{context}: {error}"));
    found.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")) + 1)
}
