//! All metadata as it counts now: one array of words, by region.
//!
//! Invariant: what stands here is durable: words change after the commit that says so.
//!
//! ```text
//!   region r:   map, 256 words  │  entries in use, 1 word  │  directory, 2 words an entry
//!               └────── a region that nobody ever used takes no memory ──────┘
//! ```

use std::collections::BTreeMap;

use crate::layout::{Address, BLOCK_WORDS, BlockId, ENTRIES_WORD, MAP_WORDS, regions_for};
use crate::patch::Patched;

/// The words of one region.
#[derive(Clone, Default, Debug)]
struct Region {
    /// None: all zero.
    map: Option<Box<[u64; MAP_WORDS]>>,
    /// As many as are or were in use.
    directory: Vec<[u64; 2]>,
}

/// The words of all regions.
#[derive(Clone, Default, Debug)]
pub(crate) struct Words {
    regions: Vec<Region>,
}

/// What a commit is to change.
#[derive(Clone, Default, Debug)]
pub(crate) struct Change {
    /// Words and their new values.
    pub(crate) words: BTreeMap<Address, u64>,
    /// How many pages the file has from now on.
    pub(crate) pages: Option<u64>,
    /// Protected pages that have a patch from now on, and those that have none.
    pub(crate) patches: BTreeMap<u64, Option<Patched>>,
    /// Whether blocks are to be written although a root may have room.
    pub(crate) is_fold: bool,
}

impl Change {
    /// Whether there is nothing to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty() && self.pages.is_none() && self.patches.is_empty()
    }

    /// What a word will be.
    pub(crate) fn get(&self, words: &Words, address: Address) -> u64 {
        self.words.get(&address).copied().unwrap_or_else(|| words.get(address))
    }

    pub(crate) fn set(&mut self, address: Address, value: u64) {
        self.words.insert(address, value);
    }
}

/// Which word of a region an address means.
enum Place {
    Map(usize),
    Entries,
    Entry(usize, usize),
    /// A word of a block that nothing uses.
    Nothing,
}

fn place(address: Address) -> Place {
    let (block, word) = (address.block().index(), address.word());
    match block {
        0 if word < MAP_WORDS => Place::Map(word),
        0 if word == ENTRIES_WORD => Place::Entries,
        0 => Place::Nothing,
        _ if word < BLOCK_WORDS => Place::Entry((block - 1) * (BLOCK_WORDS / 2) + word / 2, word % 2),
        _ => Place::Nothing,
    }
}

impl Words {
    /// Makes room for the regions of a file with so many pages, and forgets those behind.
    pub(crate) fn resize(&mut self, pages: u64) {
        self.regions.resize_with(regions_for(pages), Region::default);
    }

    pub(crate) fn regions(&self) -> usize {
        self.regions.len()
    }

    /// A word; zero where nothing was ever written.
    #[inline]
    pub(crate) fn map(&self, region: usize, word: usize) -> u64 {
        self.regions.get(region).and_then(|region| region.map.as_ref()).map_or(0, |map| map[word])
    }

    /// Whether a region's map was ever used.
    pub(crate) fn has_map(&self, region: usize) -> bool {
        self.regions[region].map.is_some()
    }

    /// Entries of a region's directory that are or were in use.
    pub(crate) fn entries(&self, region: usize) -> usize {
        self.regions[region].directory.len()
    }

    /// The words of an entry; zeros for one that never was.
    pub(crate) fn entry(&self, region: usize, entry: usize) -> [u64; 2] {
        let directory = self.regions.get(region).map_or(&[][..], |region| &region.directory);
        directory.get(entry).copied().unwrap_or_default()
    }

    pub(crate) fn get(&self, address: Address) -> u64 {
        match place(address) {
            Place::Map(word) => self.map(address.region(), word),
            Place::Entries => {
                self.regions.get(address.region()).map_or(0, |region| region.directory.len() as u64)
            }
            Place::Entry(entry, word) => self.entry(address.region(), entry)[word],
            Place::Nothing => 0,
        }
    }

    /// Changes words of regions that are there; where entries are counted, that comes before them, as by ascending addresses. `false`,
    /// with nothing changed, for a word that is none.
    pub(crate) fn set(&mut self, address: Address, value: u64) -> bool {
        let Some(region) = self.regions.get_mut(address.region()) else { return false };
        match place(address) {
            Place::Map(word) => region.map.get_or_insert_with(|| Box::new([0; MAP_WORDS]))[word] = value,
            Place::Entries => region.directory.resize(value as usize, [0; 2]),
            Place::Entry(entry, word) => match region.directory.get_mut(entry) {
                Some(entry) => entry[word] = value,
                None => return false,
            },
            Place::Nothing => return false,
        }
        true
    }

    /// All words of a block as they will be.
    pub(crate) fn block(&self, id: BlockId, change: &Change) -> Vec<u64> {
        (0..BLOCK_WORDS).map(|word| change.get(self, id.address(word))).collect()
    }
}
