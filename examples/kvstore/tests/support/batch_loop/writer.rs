//! The process that is killed: it says behind which batch the store stands, commits batches for ever, and prints the number of each
//! once it is durable, with how many checkpoints were made and segments of the log recycled by then.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

use pagestone::page_format::PageError;
use pagestone::store::{Background, Durability, Options, Store, StoreError, StoreResult, Tree};
use pagestone_testkit::Rng;

/// The trees of every batch.
pub(crate) const TREES: [&str; 2] = ["left", "right"];
/// Under this key each batch puts its number, 8 bytes in little endian, in both trees.
pub(crate) const NUMBER: &[u8] = b"number";
/// What tells the program to be a writer.
const FLAG: &str = "--write-batches";
/// Keys that batches put and remove: a store that is read and verified in a moment.
const KEYS: u64 = 400;
/// The log's budget, in bytes: four segments, so that checkpoints are made and segments recycled all the time.
const LOG_BYTES: u64 = 4 * SEGMENT_BYTES;
const SEGMENT_BYTES: u64 = 64 << 10;
/// Relaxed batches that are acknowledged together.
const RELAXED_TOGETHER: u64 = 16;
/// How often a lock is waited for, 300 ms each time.
const LOCKED_TRIES: u32 = 20;
/// Acknowledgements between two looks at the figures.
const FIGURES_EVERY: u64 = 8;

/// What to write and where.
#[derive(Debug)]
pub(crate) struct Writer {
    /// The store.
    pub(crate) dir: PathBuf,
    /// The batches follow from it.
    pub(crate) seed: u64,
    /// Whether every commit is durable when it returns.
    pub(crate) strict: bool,
    /// Memory for pages, in bytes.
    pub(crate) pool_bytes: usize,
}

impl Writer {
    /// The writer that the arguments of this program ask for, if they ask for one.
    pub(crate) fn from_arguments() -> Option<Self> {
        let mut arguments = std::env::args().skip(1);
        if arguments.next()? != FLAG {
            return None;
        }
        let mut next = || arguments.next().expect("an argument of to_arguments");
        Some(Self {
            dir: next().into(),
            seed: next().parse().expect("a seed"),
            strict: next().parse().expect("true or false"),
            pool_bytes: next().parse().expect("bytes"),
        })
    }

    /// The arguments that ask for this writer.
    pub(crate) fn to_arguments(&self) -> [String; 5] {
        [
            FLAG.into(),
            self.dir.to_str().expect("a path of text").into(),
            self.seed.to_string(),
            self.strict.to_string(),
            self.pool_bytes.to_string(),
        ]
    }

    /// Opens the store, with threads that make its checkpoints or without.
    ///
    /// A lock can outlive a killed holder, and on a busy machine a process that another lane is just starting holds copies of all
    /// descriptors of this one until it has become the writer (I18): so `Locked` is believed after a while only.
    pub(crate) fn open(&self, background: Background) -> StoreResult<Store> {
        for _ in 0..LOCKED_TRIES {
            match self.try_open(background) {
                Err(StoreError::Page(PageError::Locked { .. })) => {}
                other => return other,
            }
        }
        self.try_open(background)
    }

    fn try_open(&self, background: Background) -> StoreResult<Store> {
        let options = Options {
            pool_bytes: self.pool_bytes,
            log_bytes: LOG_BYTES,
            segment_bytes: SEGMENT_BYTES,
            durability: if self.strict { Durability::Strict } else { Durability::RELAXED },
            background,
            ..Options::default()
        };
        Store::open(&self.dir, options)
    }

    /// What the batch puts and removes, in both trees.
    pub(crate) fn batch(&self, number: u64) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut rng = Rng::new(self.seed ^ number.wrapping_mul(0x9e6c_63d0_876a_3f6b));
        let mut changes = vec![(NUMBER.to_vec(), Some(number.to_le_bytes().to_vec()))];
        for _ in 0..1 + rng.below(12) {
            let key = format!("key/{:05}", rng.below(KEYS)).into_bytes();
            let value = if rng.chance(80) {
                None
            } else {
                // Some are long and stand in extents.
                let most = if rng.chance(8) { 9000 } else { 400 };
                let mut value = vec![0; rng.below(most) as usize];
                rng.fill(&mut value);
                Some(value)
            };
            changes.push((key, value));
        }
        changes
    }

    /// Commits batches until it is killed.
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        let store = self.open(Background::Threads)?;
        let [left, right] = [store.tree(TREES[0])?, store.tree(TREES[1])?];
        let from = batches_in(&left)?;
        let mut out = io::stdout();
        writeln!(out, "{from}")?;
        let mut batch = store.batch();
        for (at, number) in (from..).enumerate() {
            for (key, value) in self.batch(number) {
                for tree in [&left, &right] {
                    match &value {
                        Some(value) => batch.put(tree, &key, value)?,
                        None => batch.remove(tree, &key)?,
                    }
                }
            }
            batch.commit()?;
            if self.strict || number % RELAXED_TOGETHER == 0 {
                if !self.strict {
                    store.sync()?;
                }
                // In one piece: a line that was printed whole was acknowledged.
                let mut line = number.to_string();
                if (at as u64).is_multiple_of(FIGURES_EVERY) {
                    let stats = store.stats()?;
                    line += &format!(" {} {}", stats.checkpoints, stats.log.segments_recycled);
                }
                out.write_all((line + "\n").as_bytes())?;
            }
        }
        Ok(())
    }
}

/// How many batches the tree has, as it says itself.
pub(crate) fn batches_in(tree: &Tree) -> StoreResult<u64> {
    let found = tree.get(NUMBER)?;
    Ok(found.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")) + 1))
}
