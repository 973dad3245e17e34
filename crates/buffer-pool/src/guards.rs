//! How a page is held: optimistically (nothing written), shared, exclusive, or pinned.
//!
//! A guard is of one page in one frame; while it is held, or validates, the frame holds that page. Guards are not `Send`;
//! none is ever held across I/O, pins aside.

use pagestone_hybrid_latch::{Counting, Exclusive, Optimistic, Shared};
use pagestone_page_format::{FrameIndex, Lsn, PageId, PageKind, PageResult, PageWriter, SpeculativePage};
use pagestone_swip::SwipWord;
use pagestone_sync::faults::planted;

use crate::frame::{COOL, Frame};
use crate::{BufferPool, Restart};

/// A page being read without writing anything: believe nothing of it before [`OptimisticPage::validate`].
#[derive(Debug, Clone, Copy)]
pub struct OptimisticPage<'p> {
    pub(crate) pool: &'p BufferPool,
    pub(crate) index: FrameIndex,
    pub(crate) id: PageId,
    pub(crate) latch: Optimistic<'p>,
    /// The frame's bytes: where they are was found out to ask for them.
    pub(crate) page: SpeculativePage<'p>,
}

impl<'p> OptimisticPage<'p> {
    /// The page's bytes, which a writer may be changing.
    #[inline]
    pub fn page(&self) -> SpeculativePage<'p> {
        self.page
    }

    /// Which page it is.
    pub fn id(&self) -> PageId {
        self.id
    }

    /// The frame that it was found in.
    pub fn frame(&self) -> FrameIndex {
        self.index
    }

    /// Whether everything read so far was of this page, as of the instant it was sampled (P1).
    #[inline]
    pub fn validate(&self) -> Result<(), Restart> {
        self.latch.validate().map_err(|_| Restart::Conflict)
    }

    /// What [`BufferPool::revisit`] finds this look by. Of use once it was validated.
    #[inline]
    pub fn mark(&self) -> PageMark {
        PageMark { index: self.index, id: self.id, version: self.latch.version() }
    }

    /// Takes the page exclusively if nothing changed since it was sampled.
    pub fn upgrade(self) -> Result<ExclusivePage<'p>, Restart> {
        let latch = self.latch.upgrade_to_exclusive().map_err(|_| Restart::Conflict)?;
        Ok(ExclusivePage { pool: self.pool, index: self.index, id: self.id, latch })
    }

    /// Takes the page shared if nothing changed since it was sampled.
    pub fn upgrade_to_shared(self) -> Result<SharedPage<'p>, Restart> {
        let latch = self.latch.upgrade_to_shared().map_err(|_| Restart::Conflict)?;
        Ok(SharedPage { pool: self.pool, index: self.index, id: self.id, latch })
    }

    /// Writes a fresh hint into the swip that stands at `word` of this page, if nothing changed since it was sampled (P5).
    ///
    /// The id in the word stays, the page does not become dirty, and this sample stays valid: the latch is taken at the
    /// sampled version and given back with it. Gives up silently if somebody is in the way.
    #[inline]
    pub fn repair_hint(self, word: usize, old: SwipWord, target: FrameIndex) {
        repair_hint(PageWriter::new(self.pool.arena.words(self.index)), self.latch, word, old, target);
    }
}

#[cold]
fn repair_hint(
    writer: PageWriter<'_>,
    latch: Optimistic<'_>,
    word: usize,
    old: SwipWord,
    target: FrameIndex,
) {
    if planted("a repair writes whatever stands there") {
        writer.put_word(word, old.with_hint(target).raw()).expect("a word of the page");
        return;
    }
    let Ok(latch) = latch.try_upgrade_to_exclusive() else { return };
    if writer.read().word(word) == Ok(old.raw()) {
        writer.put_word(word, old.with_hint(target).raw()).expect("P5: the word was just read");
    }
    latch.unlock_unchanged();
}

/// A look at a page, to come back to: which frame it was in, and at which version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageMark {
    index: FrameIndex,
    id: PageId,
    version: u64,
}

impl BufferPool {
    /// The page as it was when it was marked: nothing if it was changed, or has left its frame, since then, or is being changed now. A
    /// page at the same version is where it was all the time (P6), so what was believed of it still holds.
    #[inline]
    pub fn revisit(&self, mark: PageMark) -> Option<OptimisticPage<'_>> {
        let frame = self.frames.get(mark.index.index())?;
        let latch = frame.latch.optimistic_or_restart().ok()?;
        if latch.version() != mark.version {
            return None;
        }
        if latch.tag(COOL) && !frame.is_pinned() {
            self.touch_cool(frame);
        }
        let page = self.frame_bytes(mark.index);
        Some(OptimisticPage { pool: self, index: mark.index, id: mark.id, latch, page })
    }
}

/// A page that nobody changes while this is held.
#[derive(Debug)]
pub struct SharedPage<'p> {
    pub(crate) pool: &'p BufferPool,
    pub(crate) index: FrameIndex,
    pub(crate) id: PageId,
    #[expect(dead_code, reason = "held for its drop")]
    pub(crate) latch: Shared<'p>,
}

impl<'p> SharedPage<'p> {
    /// The page's bytes; nobody is changing them while this is held.
    pub fn page(&self) -> SpeculativePage<'p> {
        SpeculativePage::new(self.pool.arena.words(self.index))
    }

    /// Which page it is.
    pub fn id(&self) -> PageId {
        self.id
    }

    /// The frame that it is in.
    pub fn frame(&self) -> FrameIndex {
        self.index
    }
}

/// A page that only the holder sees change. Changes must be followed by [`ExclusivePage::publish`] before it is dropped.
#[derive(Debug)]
pub struct ExclusivePage<'p> {
    pub(crate) pool: &'p BufferPool,
    pub(crate) index: FrameIndex,
    pub(crate) id: PageId,
    pub(crate) latch: Exclusive<'p>,
}

impl<'p> ExclusivePage<'p> {
    pub(crate) fn frame_header(&self) -> &'p Frame {
        &self.pool.frames[self.index.index()]
    }

    /// The page's bytes, to read.
    pub fn page(&self) -> SpeculativePage<'p> {
        SpeculativePage::new(self.pool.arena.words(self.index))
    }

    /// The page's bytes, to change.
    pub fn writer(&self) -> PageWriter<'p> {
        PageWriter::new(self.pool.arena.words(self.index))
    }

    /// Which page it is.
    pub fn id(&self) -> PageId {
        self.id
    }

    /// The frame that it is in.
    pub fn frame(&self) -> FrameIndex {
        self.index
    }

    /// End LSN of the last group that changed it (L1).
    pub fn lsn(&self) -> Lsn {
        self.frame_header().lsn()
    }

    /// The group `[start, end)` of the log made the changes of this hold: the page is dirty, redo of it begins at the
    /// start of the first such group (L3), and its LSN is the end (L1).
    pub fn publish(&self, start: Lsn, end: Lsn) {
        self.frame_header().changed(start, end);
    }

    /// Lets go of a page that was not changed after all: its version stays what it was.
    pub fn release_unchanged(self) {
        self.latch.unlock_unchanged();
    }
}

/// Keeps a page resident. It can be held across I/O and waits, but pins are few: see [`BufferPool::admit`].
#[derive(Debug)]
pub struct Pin<'p> {
    pub(crate) pool: &'p BufferPool,
    pub(crate) index: FrameIndex,
    pub(crate) id: PageId,
}

impl<'p> Pin<'p> {
    /// Which page it is.
    pub fn id(&self) -> PageId {
        self.id
    }

    /// The frame that it is in.
    pub fn frame(&self) -> FrameIndex {
        self.index
    }

    pub(crate) fn frame_header(&self) -> &'p Frame {
        &self.pool.frames[self.index.index()]
    }

    /// The latch of the page's frame, its waits counted.
    pub(crate) fn latch(&self) -> Counting<'p> {
        self.frame_header().latch.counting(&self.pool.contention)
    }

    /// Waits for the page and takes it exclusively. An error means that an earlier holder panicked (E7).
    #[track_caller]
    pub fn exclusive(&self) -> PageResult<ExclusivePage<'p>> {
        let latch = self.latch().lock_exclusive().map_err(|_| self.pool.latch_poisoned(self.id))?;
        Ok(ExclusivePage { pool: self.pool, index: self.index, id: self.id, latch })
    }

    /// As [`Pin::exclusive`], but gives nothing where it would have to wait: for callers who hold latches that are not before
    /// this page's in latch order.
    pub fn try_exclusive(&self) -> PageResult<Option<ExclusivePage<'p>>> {
        match self.frame_header().latch.try_lock_exclusive() {
            Ok(latch) => Ok(Some(ExclusivePage { pool: self.pool, index: self.index, id: self.id, latch })),
            Err(_) if self.frame_header().latch.is_poisoned() => Err(self.pool.latch_poisoned(self.id)),
            Err(_) => Ok(None),
        }
    }

    /// Waits for the page and takes it shared. An error means that an earlier holder panicked (E7).
    #[track_caller]
    pub fn shared(&self) -> PageResult<SharedPage<'p>> {
        let latch = self.latch().lock_shared().map_err(|_| self.pool.latch_poisoned(self.id))?;
        Ok(SharedPage { pool: self.pool, index: self.index, id: self.id, latch })
    }

    /// Samples the page, waiting while it is held exclusively. An error means that an earlier holder panicked (E7).
    #[track_caller]
    pub fn optimistic(&self) -> PageResult<OptimisticPage<'p>> {
        let latch = self.latch().optimistic_spin().map_err(|_| self.pool.latch_poisoned(self.id))?;
        let page = self.pool.frame_bytes(self.index);
        Ok(OptimisticPage { pool: self.pool, index: self.index, id: self.id, latch, page })
    }

    /// Zeroes the page, which the caller alone knows, and gives it a header. It is not dirty by that.
    pub fn format(&self, kind: PageKind) -> PageResult<()> {
        self.exclusive()?.writer().format(kind, self.id);
        Ok(())
    }
}

impl Drop for Pin<'_> {
    #[inline]
    fn drop(&mut self) {
        self.frame_header().unpin();
        self.pool.frame_may_be_free();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore};

    use super::*;

    #[test]
    fn a_mark_finds_its_page_until_that_is_changed_or_leaves() {
        let pool = BufferPool::new(MemoryStore::new(DEFAULT_PAGE_SIZE), 4);
        let id = PageId::new(3);
        drop(pool.new_page(id).expect("a frame"));
        let mark = || pool.fault(id).expect("there").optimistic().expect("not poisoned").mark();
        let first = mark();
        let found = pool.revisit(first).expect("as it was");
        assert_eq!((found.id(), found.mark()), (id, first));
        found.validate().expect("still as it was");
        // Held exclusively and given back unchanged it is the same.
        let held = found.upgrade().expect("unchanged");
        assert!(pool.revisit(first).is_none(), "somebody may be changing it");
        held.latch.unlock_unchanged();
        assert!(pool.revisit(first).is_some());
        pool.fetch(id).expect("there").write().expect("a copy").payload_mut()[0] = 1;
        assert!(pool.revisit(first).is_none(), "it was changed");
        let second = mark();
        pool.drop_cache().expect("written");
        assert!(pool.revisit(second).is_none(), "it left");
        drop(pool.fault(id).expect("read again"));
        assert!(pool.revisit(second).is_none(), "it came again");
    }
}
