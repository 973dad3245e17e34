//! Batches over two trees whose writer is killed at a random instant, again and again, and what must be there afterwards.
//!
//! The batches of a store's life follow from a seed: batch n puts and removes the same keys in both trees, and its number under
//! one key in each of them ([`writer`]). So each tree names the batch after which it stands, both must name the same one, and both must
//! be exactly what that many batches leave.
//!
//! ```text
//!   lane 1   writer ─ kill ─ look ─ writer ─ kill ─ writer ─ kill ─ look ...      a store, and a thread that does this
//!   lane 2   writer ─ kill ...                                                    lanes share nothing but the tally of rounds
//! ```
//!
//! Most writers are killed at a random instant after they said that they are open: inside a commit, a checkpoint, a recycling, whichever
//! it is. The others die while they open, which is while they recover if the writer before was killed. A quarter of the kills is followed by another
//! writer at once, so that crashes of recoveries and of what comes after them add up before somebody looks.

mod writer;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pagestone::store::Background;
use pagestone_testkit::Rng;

pub(crate) use writer::Writer;
use writer::{TREES, batches_in};

/// Within this time after its start a writer that dies young is killed.
const YOUNG: Duration = Duration::from_millis(25);
/// A writer that has not opened its store by then never will.
const OPENS_WITHIN: Duration = Duration::from_secs(60);

/// Whom to kill, and how often.
#[derive(Debug)]
pub(crate) struct BatchLoop {
    /// Where the stores are made.
    pub(crate) dir: PathBuf,
    /// Everything but the instants follows from it.
    pub(crate) seed: u64,
    /// Rounds at most, of all lanes.
    pub(crate) rounds: u64,
    /// No round begins after it.
    pub(crate) until: Option<Instant>,
    /// The longest life of a writer after it has opened its store.
    pub(crate) longest: Duration,
    /// Stores that are worked on at the same time.
    pub(crate) lanes: u64,
}

/// What was done and found. `lost` is the promise: it stays zero.
#[derive(Debug, Default)]
pub(crate) struct BatchFigures {
    /// Writers that were started, and killed.
    pub(crate) rounds: u64,
    /// Stores that were made anew.
    pub(crate) stores: u64,
    /// Batches whose numbers were printed.
    pub(crate) acknowledged: u64,
    /// Keys that were put or removed by them, in each tree.
    pub(crate) acknowledged_keys: u64,
    /// Batches that were found though nobody had been told of them.
    pub(crate) beyond: u64,
    /// Acknowledged batches that were not found.
    pub(crate) lost: u64,
    /// Writers killed before they had opened their store.
    pub(crate) killed_while_opening: u64,
    /// Writers that were started over what a kill had left.
    pub(crate) after_a_kill: u64,
    /// Checkpoints that the writers told of.
    pub(crate) checkpoints: u64,
    /// Segments of the log that they recycled.
    pub(crate) recycled: u64,
    /// Looks at what a kill had left.
    pub(crate) looks: u64,
    /// Groups that they replayed.
    pub(crate) replayed_groups: u64,
    /// Entries of both trees, at all looks.
    pub(crate) entries: u64,
}

impl BatchFigures {
    /// In one line.
    pub(crate) fn to_line(&self) -> String {
        format!(
            "{} rounds of batches over two trees on {} stores, {} acknowledged batches of {} keys in each, lost {}, {} found beyond; \
             {} killed while opening, {} started after a kill, {} checkpoints, {} segments recycled, {} looks: {} groups replayed, \
             {} entries compared",
            self.rounds,
            self.stores,
            self.acknowledged,
            self.acknowledged_keys,
            self.lost,
            self.beyond,
            self.killed_while_opening,
            self.after_a_kill,
            self.checkpoints,
            self.recycled,
            self.looks,
            self.replayed_groups,
            self.entries,
        )
    }

    fn add(&mut self, other: &Self) {
        self.rounds += other.rounds;
        self.stores += other.stores;
        self.acknowledged += other.acknowledged;
        self.acknowledged_keys += other.acknowledged_keys;
        self.beyond += other.beyond;
        self.lost += other.lost;
        self.killed_while_opening += other.killed_while_opening;
        self.after_a_kill += other.after_a_kill;
        self.checkpoints += other.checkpoints;
        self.recycled += other.recycled;
        self.looks += other.looks;
        self.replayed_groups += other.replayed_groups;
        self.entries += other.entries;
    }
}

impl BatchLoop {
    /// Kills and looks until the rounds or the time are over.
    ///
    /// Panics, with the seed, the lane and the round, when a promise is broken; the store is left for a look if `dir` is.
    pub(crate) fn run(&self) -> BatchFigures {
        let begun = AtomicU64::new(0);
        let mut figures = BatchFigures::default();
        thread::scope(|scope| {
            let lane = |number| Lane {
                all: self,
                number,
                rng: Rng::new(self.seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                figures: BatchFigures::default(),
            };
            let lanes: Vec<_> = (0..self.lanes)
                .map(|number| {
                    let begun = &begun;
                    scope.spawn(move || lane(number).run(begun))
                })
                .collect();
            lanes.into_iter().for_each(|lane| figures.add(&lane.join().expect("a promise was broken")));
        });
        figures
    }
}

/// One store, and what is known to be in it.
struct Life {
    writer: Writer,
    /// What its batches leave, as of the last look.
    model: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Batches in the model.
    seen: u64,
    /// Batches that were acknowledged, or found by somebody.
    promised: u64,
    /// The last writer was killed, and nobody has opened the store since.
    is_crashed: bool,
}

/// One thread, and one store at a time.
struct Lane<'a> {
    all: &'a BatchLoop,
    number: u64,
    rng: Rng,
    figures: BatchFigures,
}

impl Lane<'_> {
    fn run(mut self, begun: &AtomicU64) -> BatchFigures {
        let mut life: Option<Life> = None;
        while self.all.until.is_none_or(|until| Instant::now() < until)
            && begun.fetch_add(1, Ordering::Relaxed) < self.all.rounds
        {
            let mut current = match life.take() {
                Some(life) if !self.rng.chance(16) => life,
                old => self.begin_life(old),
            };
            let context = format!(
                "seed {}, lane {}, round {}, store {}",
                self.all.seed,
                self.number,
                self.figures.rounds,
                current.writer.dir.display()
            );
            self.figures.rounds += 1;
            self.figures.after_a_kill += u64::from(current.is_crashed);
            current.writer.strict = self.rng.chance(128);
            current.writer.pool_bytes = *self.rng.pick(&[512 << 10, 4 << 20]);
            self.write_and_kill(&mut current, &context);
            if !self.rng.chance(64) {
                self.look(&mut current, &context);
            }
            life = Some(current);
        }
        if let Some(mut last) = life.filter(|life| life.is_crashed) {
            self.look(&mut last, "the last round");
        }
        self.figures
    }

    fn begin_life(&mut self, old: Option<Life>) -> Life {
        if let Some(mut old) = old {
            if old.is_crashed {
                self.look(&mut old, "a store's last round");
            }
            fs::remove_dir_all(&old.writer.dir).expect("the old store is removed");
        }
        self.figures.stores += 1;
        let dir = self.all.dir.join(format!("batches-{}-{}", self.number, self.figures.stores));
        let writer = Writer { dir, seed: self.rng.next_u64(), strict: true, pool_bytes: 1 << 20 };
        Life { writer, model: BTreeMap::new(), seen: 0, promised: 0, is_crashed: false }
    }

    /// Runs the writer for a while, and takes in what it acknowledged.
    fn write_and_kill(&mut self, life: &mut Life, context: &str) {
        let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
        command.args(life.writer.to_arguments());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("the writer starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (opened, is_open) = mpsc::channel();
        let reader = thread::spawn(move || read(stdout, &opened));
        self.wait(&mut child, &is_open, context);
        child.kill().expect("the writer is killed");
        let status = child.wait().expect("the writer has ended");
        assert!(status.code().is_none(), "{context}: the writer ended by itself, {status}");
        let printed = reader.join().expect("the reader ends").expect("stdout is read to its end");
        self.acknowledge(life, &printed, context);
        life.is_crashed = true;
    }

    /// Waits for the instant of the kill: a while after the start, or after the store is open.
    fn wait(&mut self, child: &mut Child, is_open: &mpsc::Receiver<()>, context: &str) {
        let mut within =
            |longest: Duration| Duration::from_micros(self.rng.below((longest.as_micros() as u64).max(1)));
        let (young, old) = (within(YOUNG), within(self.all.longest));
        if self.rng.chance(48) {
            return thread::sleep(young);
        }
        if is_open.recv_timeout(OPENS_WITHIN).is_err() {
            let status = child.try_wait().expect("the writer is looked at");
            panic!("{context}: the writer did not open the store, {status:?}");
        }
        thread::sleep(old);
    }

    /// What the writer found when it opened, and what it acknowledged then.
    fn acknowledge(&mut self, life: &mut Life, printed: &str, context: &str) {
        let mut lines = printed.lines();
        let Some(from) = lines.next() else {
            self.figures.killed_while_opening += 1;
            return;
        };
        let from: u64 = from.parse().expect("a number");
        self.found(life, from, context);
        let (mut checkpoints, mut recycled) = (0, 0);
        for line in lines {
            let mut numbers = line.split(' ').map(|number| number.parse::<u64>().expect("a number"));
            let number = numbers.next().expect("a number in each line");
            assert!(number >= life.promised, "{context}: {number} is acknowledged after {}", life.promised);
            let batches = life.promised..number + 1;
            self.figures.acknowledged += batches.end - batches.start;
            let keys = |batch| life.writer.batch(batch).len() as u64;
            self.figures.acknowledged_keys += batches.clone().map(keys).sum::<u64>();
            life.promised = batches.end;
            if let (Some(of_checkpoints), Some(of_recycled)) = (numbers.next(), numbers.next()) {
                (checkpoints, recycled) = (of_checkpoints, of_recycled);
            }
        }
        self.figures.checkpoints += checkpoints;
        self.figures.recycled += recycled;
    }

    /// Somebody found so many batches: never fewer than were promised.
    fn found(&mut self, life: &mut Life, batches: u64, context: &str) {
        let promised = life.promised;
        self.figures.lost += promised.saturating_sub(batches);
        assert!(batches >= promised, "{context}: {batches} batches are there, {promised} were acknowledged");
        self.figures.beyond += batches - promised;
        life.promised = batches;
        life.is_crashed = false;
    }

    /// Opens the store as whoever comes next would, and holds both trees against the batches.
    fn look(&mut self, life: &mut Life, context: &str) {
        // Without threads no call is tried out and nothing goes on behind the look.
        let store = life.writer.open(Background::Manual);
        let store = store.unwrap_or_else(|error| panic!("{context}: not opened again: {error}"));
        self.figures.looks += 1;
        self.figures.replayed_groups += store.open_report().groups;
        let report = store.verify().unwrap_or_else(|error| panic!("{context}: not verified: {error}"));
        assert!(report.is_sound(), "{context}: {:?}", report.findings.first());
        let trees =
            TREES.map(|name| store.tree(name).unwrap_or_else(|error| panic!("{context}: {name}: {error}")));
        let [left, right] = trees
            .each_ref()
            .map(|tree| batches_in(tree).unwrap_or_else(|error| panic!("{context}: {error}")));
        assert_eq!(left, right, "{context}: one tree stands behind another batch than the other");
        self.found(life, left, context);

        for (key, value) in (life.seen..left).flat_map(|batch| life.writer.batch(batch)) {
            match value {
                Some(value) => life.model.insert(key, value),
                None => life.model.remove(&key),
            };
        }
        life.seen = left;
        for (name, tree) in TREES.iter().zip(&trees) {
            let found: Result<BTreeMap<_, _>, _> = tree.range::<&[u8]>(..).collect();
            let found = found.unwrap_or_else(|error| panic!("{context}: {name} cannot be read: {error}"));
            self.figures.entries += found.len() as u64;
            assert!(found == life.model, "{context}: {name} is not what {left} batches leave");
        }
        if self.rng.chance(64) {
            store.close().unwrap_or_else(|error| panic!("{context}: the store does not close: {error}"));
        }
    }
}

/// Everything that the writer printed, as far as its lines are whole; says so when the first one has come.
fn read(stdout: ChildStdout, opened: &mpsc::Sender<()>) -> std::io::Result<String> {
    let mut reader = BufReader::new(stdout);
    let (mut printed, mut whole) = (String::new(), 0);
    while reader.read_line(&mut printed)? > 0 {
        if printed.ends_with('\n') {
            if whole == 0 {
                // Nobody waits for a writer that dies young.
                let _ = opened.send(());
            }
            whole = printed.len();
        }
    }
    printed.truncate(whole);
    Ok(printed)
}
