//! Prevents: what one recovery leaves behind (numbers of regions, LSNs that are given again, ids that are free once more) and the next
//! one, or the life between the two, trips over.

mod support;

use std::collections::BTreeMap;
use std::io::Read;

use pagestone_btree::ValueReader;
use pagestone_store::{Store, StoreResult, Tree};
use pagestone_testkit::{CrashOptions, Rng, SimDisk};
use support::open;

/// Entries of the default tree, and of the named one.
type Model = [BTreeMap<Vec<u8>, Vec<u8>>; 2];

const NAMED: &str = "named";

#[derive(Debug, Clone)]
enum Step {
    Put(usize, Vec<u8>, Vec<u8>),
    Remove(usize, Vec<u8>),
    Batch(Vec<(usize, Vec<u8>, Option<Vec<u8>>)>),
    /// A value whose source fails after so many bytes.
    Broken(Vec<u8>, usize),
    Drop,
    Checkpoint,
    Tick,
    Meta(u64),
}

struct Broken(usize);

impl Read for Broken {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let len = out.len().min(self.0);
        if len == 0 {
            return Err(std::io::Error::other("the source is broken"));
        }
        out[..len].fill(0xee);
        self.0 -= len;
        Ok(len)
    }
}

fn trees(store: &Store) -> StoreResult<[Tree; 2]> {
    Ok([store.default_tree(), store.tree(NAMED)?])
}

impl Step {
    fn random(random: &mut Rng, stamp: u64) -> Self {
        let value = |random: &mut Rng| {
            let len = match random.below(8) {
                0..3 => random.below(800),
                3..5 => 1100 + random.below(3000),
                5..7 => 4000 + random.below(20_000),
                _ => random.below(90_000),
            };
            let mut value = stamp.to_le_bytes().to_vec();
            value.resize(8 + len as usize, stamp as u8);
            value
        };
        let key = |random: &mut Rng| format!("{:060}", random.below(40)).into_bytes();
        let tree = |random: &mut Rng| random.below(3) as usize / 2;
        match random.below(40) {
            0..18 => Self::Put(tree(random), key(random), value(random)),
            18..29 => Self::Remove(tree(random), key(random)),
            29..32 => {
                let ops = (0..1 + random.below(6)).map(|_| {
                    let (tree, key) = (tree(random), key(random));
                    let put = random.below(2) == 0;
                    (tree, key, put.then(|| vec![stamp as u8; random.below(900) as usize]))
                });
                Self::Batch(ops.collect())
            }
            32..34 => Self::Broken(key(random), 1500 + random.below(60_000) as usize),
            34 => Self::Drop,
            35 => Self::Checkpoint,
            36..39 => Self::Tick,
            _ => Self::Meta(stamp),
        }
    }

    fn run(&self, store: &Store) -> StoreResult<()> {
        match self {
            Self::Put(tree, key, value) => trees(store)?[*tree].put(key, value).map(drop),
            Self::Remove(tree, key) => trees(store)?[*tree].remove(key).map(drop),
            Self::Batch(ops) => {
                let (trees, mut batch) = (trees(store)?, store.batch());
                for (tree, key, value) in ops {
                    match value {
                        Some(value) => batch.put(&trees[*tree], key, value)?,
                        None => batch.remove(&trees[*tree], key)?,
                    }
                }
                batch.commit().map(drop)
            }
            Self::Broken(key, bytes) => {
                let put = store.default_tree().put_reader(key, None, Broken(*bytes));
                assert!(put.is_err(), "the source failed");
                Ok(())
            }
            Self::Drop => {
                trees(store)?;
                store.drop_tree(NAMED)
            }
            Self::Checkpoint => store.checkpoint(),
            Self::Tick => store.tick(),
            Self::Meta(value) => store.set_user_meta(0, *value),
        }
    }

    fn apply(&self, model: &mut Model) {
        match self {
            Self::Put(tree, key, value) => drop(model[*tree].insert(key.clone(), value.clone())),
            Self::Remove(tree, key) => drop(model[*tree].remove(key)),
            Self::Batch(ops) => {
                for (tree, key, value) in ops {
                    match value {
                        Some(value) => drop(model[*tree].insert(key.clone(), value.clone())),
                        None => drop(model[*tree].remove(key)),
                    }
                }
            }
            Self::Drop => model[1].clear(),
            Self::Broken(..) | Self::Checkpoint | Self::Tick | Self::Meta(_) => {}
        }
    }
}

/// Everything in the store, which is sound.
fn contents(store: &Store) -> StoreResult<Model> {
    let report = store.verify()?;
    assert!(report.is_sound(), "{:#?}", report.findings);
    let all = |tree: &Tree| tree.range::<&[u8]>(..).collect::<Result<_, _>>();
    let named = store.trees()?.iter().any(|tree| tree.name == NAMED.as_bytes());
    let second = if named { all(&store.tree(NAMED)?)? } else { BTreeMap::new() };
    Ok([all(&store.default_tree())?, second])
}

/// Values that are being read while others are written.
#[derive(Default)]
struct Readers(Vec<(ValueReader, Vec<u8>)>);

impl Readers {
    fn one_more(&mut self, random: &mut Rng, store: &Store, model: &Model) {
        let long: Vec<_> = model[0].iter().filter(|(_, value)| value.len() > 2000).collect();
        if long.is_empty() || self.0.len() > 2 {
            return;
        }
        let (key, value) = random.pick(&long);
        let mut reader = store.default_tree().get_reader(key).expect("reads").expect("it is there");
        let mut begin = vec![0; random.below(1000) as usize];
        reader.read_exact(&mut begin).expect("reads");
        assert_eq!(begin, value[..begin.len()]);
        self.0.push((reader, value[begin.len()..].to_vec()));
    }

    fn end(&mut self) {
        for (mut reader, rest) in self.0.drain(..) {
            let mut found = Vec::new();
            reader.read_to_end(&mut found).expect("as it was when it was asked for");
            assert!(found == rest, "a value changed under its reader");
        }
    }
}

/// Gives how many images were looked at.
fn lives(seed: u64, lives: u64, steps: u64, checks: usize) -> usize {
    let mut random = Rng::new(seed);
    let mut disk = SimDisk::new(seed);
    let mut model = Model::default();
    let (mut stamp, mut looked_at) = (0, 0);
    for life in 0..lives {
        let store = open(&disk).unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
        let mut states = vec![model.clone()];
        let mut readers = Readers::default();
        for step in 0..steps {
            stamp += 1;
            let what = Step::random(&mut random, stamp);
            what.run(&store).unwrap_or_else(|error| panic!("seed {seed}, life {life}, step {step}: {error}"));
            what.apply(&mut model);
            states.push(model.clone());
            disk.note(step + 1);
            match random.below(12) {
                0 => readers.one_more(&mut random, &store, &model),
                1 => readers.end(),
                _ => {}
            }
        }
        readers.end();
        drop(readers);
        drop(store);
        assert_eq!(disk.audit(), [], "the disk saw a broken rule");
        let mut images = Vec::new();
        while images.is_empty() {
            let cut = random.below(disk.journal_len() as u64) as usize;
            let options = CrashOptions {
                seed: seed ^ life,
                cuts: cut..cut + 4,
                exhaustive_max: 8,
                random: 8,
                pairs_max: 4,
                splits_max: 4,
                ..CrashOptions::default()
            };
            images = disk.crash_states(&options).collect();
        }
        let next = random.below(images.len() as u64) as usize;
        let chosen = random.below(images.len() as u64) as usize;
        let some = (0..images.len()).cycle().skip(chosen).take(checks);
        for index in some.chain([next]) {
            let image = &images[index];
            let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
            let explain = || format!("seed {seed}, life {life}, {}", image.explain());
            let crashed = image.disk();
            let store = open(&crashed).unwrap_or_else(|error| panic!("{error}: {}", explain()));
            let found = contents(&store).unwrap_or_else(|error| panic!("{error}: {}", explain()));
            let legal = &states[acknowledged..states.len().min(acknowledged + 2)];
            assert!(legal.contains(&found), "after {acknowledged} steps: {}", explain());
            looked_at += 1;
            if index == next {
                model = found;
            }
        }
        disk = images[next].disk();
    }
    looked_at
}

#[test]
fn every_life_finds_what_the_one_before_acknowledged() {
    let images: usize = (0..12).map(|seed| lives(seed, 12, 20 + 10 * (seed % 4), 3)).sum();
    assert!(images > 400, "only {images} images");
}
