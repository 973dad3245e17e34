//! The process that is killed: it commits batches for ever, and prints the number of each once it is durable.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

use pagestone::store::{Durability, Options, Store, StoreResult};
use pagestone_testkit::Rng;

/// The trees of every batch.
pub(crate) const TREES: [&str; 2] = ["left", "right"];
/// Under this key each batch puts its number, 8 bytes in little endian, in both trees.
pub(crate) const NUMBER: &[u8] = b"number";
/// What tells the program to be a writer.
const FLAG: &str = "--write-batches";
/// Keys that batches put and remove.
const KEYS: u64 = 2000;
/// Relaxed batches that are acknowledged together.
const RELAXED_TOGETHER: u64 = 16;

/// What to write and where.
#[derive(Debug)]
pub(crate) struct Writer {
    /// The store.
    pub(crate) dir: PathBuf,
    /// The batches follow from it.
    pub(crate) seed: u64,
    /// The number of the first batch.
    pub(crate) from: u64,
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
            from: next().parse().expect("a batch"),
            strict: next().parse().expect("true or false"),
            pool_bytes: next().parse().expect("bytes"),
        })
    }

    /// The arguments that ask for this writer.
    pub(crate) fn to_arguments(&self) -> [String; 6] {
        [
            FLAG.into(),
            self.dir.to_str().expect("a path of text").into(),
            self.seed.to_string(),
            self.from.to_string(),
            self.strict.to_string(),
            self.pool_bytes.to_string(),
        ]
    }

    /// Opens the store.
    pub(crate) fn open(&self) -> StoreResult<Store> {
        let options = Options {
            pool_bytes: self.pool_bytes,
            log_bytes: 1 << 20,
            segment_bytes: 64 << 10,
            durability: if self.strict { Durability::Strict } else { Durability::RELAXED },
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
                let mut value = vec![0; rng.below(300) as usize];
                rng.fill(&mut value);
                Some(value)
            };
            changes.push((key, value));
        }
        changes
    }

    /// Commits batches until it is killed.
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        let store = self.open()?;
        let [left, right] = [store.tree(TREES[0])?, store.tree(TREES[1])?];
        let mut batch = store.batch();
        for number in self.from.. {
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
                writeln!(io::stdout(), "{number}")?;
            }
        }
        Ok(())
    }
}
