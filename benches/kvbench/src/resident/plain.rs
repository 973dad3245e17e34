//! The same nodes in plain memory, and the tree walked over them: what a tree costs that has no pool.
//!
//! Invariant: page `id` stands at `id * page size`, and every swip says so in its hint. So a swip is an address but for one
//! multiplication and one comparison with the end of the memory; there are no frame headers, and nothing is validated.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use pagestone::btree::{HeldPage, PageSource};
use pagestone::page_format::{FrameIndex, PageId, PageKind, SpeculativePage};
use pagestone::pool::Restart;
use pagestone::swip::SwipWord;
use zerocopy::FromBytes;

use crate::BenchResult;

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
/// Where page 0 stands in the data file (docs/on-disk-format.md).
pub(super) const PAGES_AT: u64 = 8192;
/// The word of a node that says its tree and its level.
const NODE_WORD: usize = 4;

/// All pages of a data file, in memory that the system backs with huge pages, as a pool's.
pub(super) struct PlainPages {
    memory: memmap2::MmapMut,
    pages: usize,
}

impl PlainPages {
    /// Reads the pages of a store that is closed.
    pub(super) fn read(data: &Path) -> BenchResult<Self> {
        let mut file = File::open(data)?;
        let pages = ((file.metadata()?.len() - PAGES_AT) / PAGE as u64) as usize;
        let mut memory = memmap2::MmapOptions::new().len(pages * PAGE).map_anon()?;
        #[cfg(target_os = "linux")]
        memory.advise(memmap2::Advice::HugePage)?;
        std::io::copy(&mut Read::take(&mut file, PAGES_AT), &mut std::io::sink())?;
        file.read_exact(&mut memory)?;
        for page in memory.as_chunks_mut::<PAGE>().0 {
            let word = |page: &[u8; PAGE], index: usize| {
                u64::from_le_bytes(*page.as_chunks::<8>().0.get(index).unwrap_or(&[0; 8]))
            };
            let first = word(page, 0);
            let (at, count) = ((first >> 32) as u16 as usize, (first >> 48) as u16 as usize);
            for index in at..at + count {
                let swip = SwipWord::from_raw(word(page, index));
                if !swip.is_null() {
                    let direct = swip.with_hint(FrameIndex::new(swip.page_id().get() as u32));
                    page[index * 8..index * 8 + 8].copy_from_slice(&direct.raw().to_le_bytes());
                }
            }
        }
        Ok(Self { memory, pages })
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.pages as u64
    }

    /// The bytes of a page.
    pub(super) fn bytes(&self, id: u64) -> &[u8] {
        &self.memory[id as usize * PAGE..][..PAGE]
    }

    /// The root of a tree: its node at the highest level.
    pub(super) fn root(&self, tree_id: u32) -> BenchResult<u64> {
        let word = |id: u64| {
            u64::from_le_bytes(*self.bytes(id).as_chunks::<8>().0.get(NODE_WORD).unwrap_or(&[0; 8]))
        };
        let is_node = |id: &u64| [PageKind::INNER.0, PageKind::LEAF.0].contains(&self.bytes(*id)[3]);
        let of_tree = (0..self.len()).filter(|id| is_node(id) && word(*id) as u32 == tree_id);
        Ok(of_tree.max_by_key(|id| (word(*id) >> 32) as u8).ok_or("the tree has no node")?)
    }

    /// The pages as words.
    pub(super) fn words(&mut self) -> BenchResult<Plain<'_>> {
        let words = <[AtomicU64]>::mut_from_bytes(&mut self.memory).map_err(|error| error.to_string())?;
        Ok(Plain { words })
    }
}

/// A source of pages in plain memory.
#[derive(Clone, Copy)]
pub(super) struct Plain<'p> {
    words: &'p [AtomicU64],
}

/// A page of it.
pub(super) struct PlainPage<'p> {
    words: &'p [AtomicU64],
    id: PageId,
}

impl<'p> PageSource<'p> for Plain<'p> {
    type Held = PlainPage<'p>;

    #[inline]
    fn take(self, swip: SwipWord, ask: impl FnOnce(SpeculativePage<'p>)) -> Result<PlainPage<'p>, Restart> {
        let at = swip.hint().map_or(usize::MAX, |index| index.index() * (PAGE / 8));
        let words = self.words.get(at..at.wrapping_add(PAGE / 8)).ok_or(Restart::Conflict)?;
        ask(SpeculativePage::new(words));
        Ok(PlainPage { words, id: swip.page_id() })
    }

    #[inline]
    fn expect(self, swip: SwipWord, ask: impl FnOnce(SpeculativePage<'p>)) {
        // The page is given up, which costs nothing.
        let _ = self.take(swip, ask);
    }
}

impl<'p> HeldPage<'p> for PlainPage<'p> {
    #[inline]
    fn id(&self) -> PageId {
        self.id
    }

    #[inline]
    fn frame(&self) -> FrameIndex {
        FrameIndex::new(self.id.get() as u32)
    }

    #[inline]
    fn page(&self) -> SpeculativePage<'p> {
        SpeculativePage::new(self.words)
    }

    #[inline]
    fn validate(&self) -> Result<(), Restart> {
        Ok(())
    }

    #[inline]
    fn repair_hint(&self, _: usize, _: SwipWord, _: FrameIndex) {}
}
