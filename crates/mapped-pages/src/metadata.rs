//! Commits: how metadata changes on disk, and how it is found again.
//!
//! Invariants (numbered in `docs/invariants.md`):
//! * M1: what counts is never written over: a root goes into the other slot, a block into its other slot.
//! * M2: a root is written only once all that it names is durable: blocks, pages and the length of the file.
//!
//! ```text
//!   commit:  changed words and patches + those of the last root fit into a root?
//!              yes   root m + 1 into the other slot ──► durable                                one write, one sync
//!              no    changed blocks into their other slots ──► sync ──► root m + 1, base m + 1   a fold: once in some hundred
//!
//!   open:    two roots ──► the newer that is whole ──► of each block the newest slot up to its base ──► digest ──► its words, its patches
//! ```
//!
//! So a commit costs one write of 4 KiB and one sync, however long the file is, and a fold writes the blocks that changed. The digest,
//! a sum over the blocks that count, stands for a list of them in the root: it tells a block that is missing, older than it should be or
//! from elsewhere, and needs no room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pagestone_direct_io::{DurableBy, File, WriteAt, read_exact_at, write_all_at, write_durable};
use pagestone_page_format::{Poison, StoreUuid};
use pagestone_sync::faults::planted;

use crate::block::Block;
use crate::layout::{Address, BLOCK, BlockId, Layout, ROOTS, regions_for};
use crate::metrics::MappedMetrics;
use crate::patch::{self, Patch, Patched};
use crate::root::{Root, Slot, has_room};
use crate::words::{Change, Words};
use crate::{MappedPageError, MappedResult};

/// Which slot of a block counts, and what the block adds to the digest.
#[derive(Clone, Copy, Debug)]
struct Written {
    slot: usize,
    share: u64,
}

/// All metadata of a file that is open.
#[derive(Debug)]
pub(crate) struct Metadata {
    file: Arc<dyn File>,
    uuid: StoreUuid,
    layout: Layout,
    root: Root,
    words: Words,
    /// The protected pages that say more than their active copies.
    patches: BTreeMap<u64, Patched>,
    /// The blocks that count; others were never written.
    written: BTreeMap<BlockId, Written>,
    /// Blocks whose other slot holds what a fold wrote that was not committed: the next fold writes over it, for else its sequence
    /// would pass as soon as the base has.
    leftovers: BTreeSet<BlockId>,
    /// By which call a root is made durable; found out by the first commit.
    by: DurableBy,
    poison: Poison,
}

impl Metadata {
    /// Writes the metadata of a file without pages. The caller syncs.
    pub(crate) fn create(file: &dyn File, uuid: StoreUuid) -> MappedResult<()> {
        [1, 2].into_iter().try_for_each(|sequence| {
            let (changes, patches) = (Vec::new(), Vec::new());
            let root = Root { sequence, base: 0, digest: 0, pages: 0, changes, patches };
            write_all_at(file, &root.encode(uuid), ROOTS[root.slot()])
                .map_err(|error| MappedPageError::io("write the metadata", error))
        })
    }

    /// Reads what the last commit left. With `accept_older` a damaged last commit is passed over for the one before.
    pub(crate) fn open(
        file: Arc<dyn File>,
        uuid: StoreUuid,
        layout: Layout,
        accept_older: bool,
        poison: Poison,
    ) -> MappedResult<Self> {
        let mut refused = None;
        for root in candidates(&*file, uuid, accept_older)? {
            let mut metadata = Self {
                file: Arc::clone(&file),
                uuid,
                layout,
                root,
                words: Words::default(),
                patches: BTreeMap::new(),
                written: BTreeMap::new(),
                leftovers: BTreeSet::new(),
                by: DurableBy::Pwritev2Dsync,
                poison: poison.clone(),
            };
            match metadata.load() {
                Ok(()) => return Ok(metadata),
                Err(error @ MappedPageError::Io { .. }) => return Err(error),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| MappedPageError::metadata("no root is left")))
    }

    pub(crate) fn words(&self) -> &Words {
        &self.words
    }

    /// Pages of the file, the reserved ones not among them.
    #[inline]
    pub(crate) fn pages(&self) -> u64 {
        self.root.pages
    }

    fn io(operation: &'static str) -> impl Fn(std::io::Error) -> MappedPageError {
        move |error| MappedPageError::io(operation, error)
    }

    fn load(&mut self) -> MappedResult<()> {
        let (pages, len) = (self.root.pages, self.file.len().map_err(Self::io("look at the file's length"))?);
        if pages > self.layout.pages_max() || !pages.is_multiple_of(self.layout.granule()) {
            return Err(MappedPageError::metadata(format!("{pages} pages are no number of pages")));
        }
        let expected = self.layout.file_len(pages);
        if len < expected {
            return Err(MappedPageError::metadata(format!("{expected} bytes expected, the file has {len}")));
        }
        self.words.resize(pages);
        let mut digest = 0_u64;
        for region in 0..regions_for(pages) {
            digest = digest.wrapping_add(self.load_block(BlockId::new(region, 0))?);
            // As many as block 0 knows of: every fold that writes one behind them writes block 0 as well. What stands there was
            // written by a fold that was not committed (M3).
            for block in 1..self.layout.blocks_for(self.words.entries(region) as u64) {
                digest = digest.wrapping_add(self.load_block(BlockId::new(region, block))?);
            }
        }
        if digest != self.root.digest {
            return Err(MappedPageError::metadata(format!(
                "the blocks of commit {} are not those that are there",
                self.root.sequence
            )));
        }
        let changes = std::mem::take(&mut self.root.changes);
        changes.iter().try_for_each(|(address, value)| self.load_word(*address, *value))?;
        self.root.changes = changes;
        let patches = patch::decode(&self.root.patches, self.layout.page_size());
        for (id, patch) in patches.map_err(MappedPageError::metadata)? {
            self.patches.insert(id, Patched { patch, bytes: Box::default() });
        }
        Ok(())
    }

    /// The protected pages that have a patch, ascending.
    pub(crate) fn patched_ids(&self) -> Vec<u64> {
        self.patches.keys().copied().collect()
    }

    /// A protected page that has a patch, as it reads.
    pub(crate) fn patched(&self, id: u64) -> Option<&Patched> {
        self.patches.get(&id)
    }

    /// The same, of an opening that has still to read its active copy.
    pub(crate) fn patched_mut(&mut self, id: u64) -> Option<&mut Patched> {
        self.patches.get_mut(&id)
    }

    /// Reads a block; gives its share of the digest.
    fn load_block(&mut self, id: BlockId) -> MappedResult<u64> {
        let mut slots = vec![0; 2 * BLOCK];
        let got = read_exact_at(&*self.file, &mut slots, self.layout.slot_at(id, 0));
        if got.map_err(Self::io("read metadata"))? < slots.len() {
            return Err(MappedPageError::metadata("a block past the end of the file"));
        }
        let mut counts: Option<(usize, Block, u32)> = None;
        for (slot, bytes) in slots.chunks(BLOCK).enumerate() {
            let Some((block, checksum)) = Block::decode(bytes, self.uuid, id) else { continue };
            if block.sequence > self.root.base {
                if !planted("what a cut fold left behind is forgotten") {
                    self.leftovers.insert(id);
                }
            } else if counts.as_ref().is_none_or(|(_, other, _)| other.sequence < block.sequence) {
                counts = Some((slot, block, checksum));
            }
        }
        let Some((slot, block, checksum)) = counts else { return Ok(0) };
        let share = share_of(&block, checksum);
        self.written.insert(id, Written { slot, share });
        for (word, value) in block.words.into_iter().enumerate() {
            self.load_word(id.address(word), value)?;
        }
        Ok(share)
    }

    fn load_word(&mut self, address: Address, value: u64) -> MappedResult<()> {
        let (region, max) = (address.region(), self.layout.entries_max());
        if region < self.words.regions() && address == Address::entries(region) && value > max {
            return Err(MappedPageError::CorruptDirectoryIndex {
                region: region as u64,
                entries: value,
                max,
            });
        }
        // Zeros need no place: not behind the last entry, not behind the last word.
        if region < self.words.regions()
            && (self.words.get(address) == value || self.words.set(address, value))
        {
            return Ok(());
        }
        Err(MappedPageError::metadata(format!("word {} of region {region} is none", address.0)))
    }

    /// Makes a change durable, and then has it count; nothing of it does after an error. `false`, with nothing done, if the root has no room
    /// and there are patches: a fold writes words alone, so their pages must be in their copies first.
    ///
    /// Errors: `Io` if a block could not be written, which changed nothing; `Unavailable`, for good, if nobody knows what is on disk.
    pub(crate) fn commit(&mut self, change: &mut Change, metrics: &MappedMetrics) -> MappedResult<bool> {
        self.poison.check()?;
        let pages = change.pages.unwrap_or(self.root.pages);
        let kept = regions_for(pages);
        let changes = merged(&self.root.changes, &change.words, kept);
        let gone = self.written.range(BlockId::new(kept, 0)..);
        let digest = gone.fold(self.root.digest, |sum, (_, written)| sum.wrapping_sub(written.share));

        let sequence = self.root.sequence + 1;
        let patches = self.patches_with(change);
        let is_fold = change.is_fold || !has_room(changes.len(), patches.len());
        if is_fold && !patches.is_empty() {
            return Ok(false);
        }
        let mut root = Root { sequence, base: self.root.base, digest, pages, changes: Vec::new(), patches };
        let mut folded = BTreeMap::new();
        if !is_fold {
            root.changes = changes;
        } else {
            folded = self.fold(&changes, change, &mut root)?;
            metrics.folds.inc();
        }
        self.publish(&root)?;
        metrics.commits.inc();

        self.leftovers.retain(|id| id.region() < kept && !folded.contains_key(id));
        self.written.split_off(&BlockId::new(kept, 0));
        self.written.extend(folded);
        self.root = root;
        self.words.resize(pages);
        for (address, value) in change.words.iter().filter(|(address, _)| address.region() < kept) {
            let is_one = self.words.set(*address, *value);
            assert!(is_one, "a change of {address:?}, which is no word");
        }
        for (id, patched) in std::mem::take(&mut change.patches) {
            match patched {
                Some(patched) => drop(self.patches.insert(id, patched)),
                None => drop(self.patches.remove(&id)),
            }
        }
        Ok(true)
    }

    /// The patches as they will be, in bytes.
    fn patches_with(&self, change: &Change) -> Vec<u8> {
        let mut patches: BTreeMap<u64, &Patch> =
            self.patches.iter().map(|(id, patched)| (*id, &patched.patch)).collect();
        for (id, patched) in &change.patches {
            match patched {
                Some(patched) => drop(patches.insert(*id, &patched.patch)),
                None => drop(patches.remove(id)),
            }
        }
        patch::encode(patches.into_iter())
    }

    /// Writes the blocks of all changed words and syncs them; the root is made to name them.
    fn fold(
        &mut self,
        changes: &[(Address, u64)],
        change: &Change,
        root: &mut Root,
    ) -> MappedResult<BTreeMap<BlockId, Written>> {
        let mut ids: BTreeSet<BlockId> = changes.iter().map(|(address, _)| address.block()).collect();
        ids.extend(self.leftovers.iter().filter(|id| id.region() < regions_for(root.pages)));
        let mut folded = BTreeMap::new();
        for id in ids {
            let before = self.written.get(&id).copied();
            let slot = before.map_or(0, |written| 1 - written.slot);
            let block = Block { id, sequence: root.sequence, words: self.words.block(id, change) };
            let (bytes, checksum) = block.encode(self.uuid);
            self.leftovers.insert(id); // until it is committed
            write_all_at(&*self.file, &bytes, self.layout.slot_at(id, slot))
                .map_err(Self::io("write metadata"))?;
            let share = share_of(&block, checksum);
            root.digest =
                root.digest.wrapping_sub(before.map_or(0, |written| written.share)).wrapping_add(share);
            folded.insert(id, Written { slot, share });
        }
        if !planted("a root is written before the blocks that it names are durable") {
            let synced = self.file.sync();
            self.finally("sync metadata", synced)?;
        }
        root.base = root.sequence;
        Ok(folded)
    }

    /// Writes a root into its slot and returns when it is durable.
    fn publish(&mut self, root: &Root) -> MappedResult<()> {
        let bytes = root.encode(self.uuid);
        let slot =
            if planted("a root is written over the one that counts") { 1 - root.slot() } else { root.slot() };
        if planted("a root counts before it is durable") {
            return write_all_at(&*self.file, &bytes, ROOTS[slot]).map_err(Self::io("commit metadata"));
        }
        let write = |by| write_durable(&*self.file, &mut [WriteAt::new(&bytes, ROOTS[slot])], by);
        let mut result = write(self.by);
        let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::Unsupported;
        if self.by != DurableBy::Fdatasync && result.as_ref().is_err_and(refused) {
            self.by = DurableBy::Fdatasync;
            result = write(self.by);
        }
        self.finally("commit metadata", result)
    }

    fn finally(&self, operation: &'static str, result: std::io::Result<()>) -> MappedResult<()> {
        result.map_err(|error| self.poison.poison(format_args!("{operation} failed: {error}")).into())
    }
}

/// The words of both, ascending, as `new` has them where both do; none of regions from `kept` on.
fn merged(old: &[(Address, u64)], new: &BTreeMap<Address, u64>, kept: usize) -> Vec<(Address, u64)> {
    let mut merged = Vec::with_capacity(old.len() + new.len());
    let mut new = new.iter().map(|(address, value)| (*address, *value)).peekable();
    for &(address, value) in old {
        while let Some(before) = new.next_if(|(other, _)| *other < address) {
            merged.push(before);
        }
        merged.push(new.next_if(|(other, _)| *other == address).unwrap_or((address, value)));
    }
    merged.extend(new);
    merged.truncate(merged.partition_point(|(address, _)| address.region() < kept));
    merged
}

/// The roots that may count, the best first.
fn candidates(file: &dyn File, uuid: StoreUuid, accept_older: bool) -> MappedResult<Vec<Root>> {
    let mut slots = vec![0; 2 * BLOCK];
    let got = read_exact_at(file, &mut slots, ROOTS[0]).map_err(Metadata::io("read the metadata"))?;
    if got < slots.len() {
        return Err(MappedPageError::metadata(format!("the file ends {got} bytes behind the superblock")));
    }
    let slot = |slot: usize| Slot::decode(&slots[slot * BLOCK..(slot + 1) * BLOCK], uuid, slot);
    match (slot(0), slot(1)) {
        (Slot::Whole(one), Slot::Whole(other)) => {
            let (newer, older) = if one.sequence > other.sequence { (one, other) } else { (other, one) };
            match (accept_older, newer.sequence == older.sequence + 1) {
                (true, _) => Ok(vec![newer, older]),
                (false, true) => Ok(vec![newer]),
                (false, false) => Err(MappedPageError::metadata(format!(
                    "commit {} beside commit {}: one is missing",
                    newer.sequence, older.sequence
                ))),
            }
        }
        (Slot::Whole(root), other) | (other, Slot::Whole(root)) => {
            if accept_older || other.is_explained_by_a_cut(&root) {
                return Ok(vec![root]);
            }
            let why = match other {
                Slot::Senseless(why) => why,
                _ => "no cut commit leaves this behind",
            };
            let lost = root.sequence + 1;
            Err(MappedPageError::metadata(format!(
                "commit {} is whole, what may be {lost} is not: {why}",
                root.sequence
            )))
        }
        _ => Err(MappedPageError::metadata("neither copy of the root is whole")),
    }
}

/// What a block adds to the digest: which block it is, of which commit, with what in it.
fn share_of(block: &Block, checksum: u32) -> u64 {
    [block.id.0, block.sequence, u64::from(checksum)].into_iter().fold(0, |sum, word| mix(sum ^ word))
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014).
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
