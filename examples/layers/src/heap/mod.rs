//! A heap file: records in no order, in pages of an engine's own kind, logged and recovered.
//!
//! Invariant: a change that returned is there after any crash; one that did not is there whole or not at all, over however many pages
//! it went. A [`RecordId`] names one record as long as that lives.
//!
//! ```text
//!   open.rs   page file, master record, log, double-write, pool, allocator: put together, recovered
//!   ops.rs    HeapOp: what is applied and what is logged, one function for both
//!   page.rs   HeapPage: what a page looks like
//!   here      insert, get, update, delete, scan, vacuum, checkpoint
//!
//!   page 0        page 1          page 7          page 3
//!   space map     records ──next──► records ──next──► records        inserts go to the last page
//! ```
//!
//! Everything that `pagestone::store` does for a tree is done here by hand, and fits on a few screens, because the layers own the
//! rules: a mini-transaction is atomic, redo is exact, a checkpoint is published in the right order. What the heap adds is its page kind,
//! five operations and the order in which it opens its files.
//!
//! One call at a time: the lock in `last` is held from the look at the pages to the commit, and not while the log is synced, so that many
//! writers share a sync. A tree does better (`pagestone::btree`).

mod open;
mod ops;
mod page;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pagestone::direct_io::{Disk, RealDisk};
use pagestone::mini_txn::{LoggedPool, MasterRecord, MiniTxn, PageHandle, Reserve};
use pagestone::wal::GroupBuilder;
use pagestone::{Lsn, PageError, PageId, PageResult};

pub use open::{HeapOptions, Opened};
pub use ops::HeapOp;
pub use page::{HEAP_PAGE, HeapPage, max_record};

/// The heap's first page: always there.
const FIRST: PageId = PageId::new(1);
/// Operations of one change at most, and what they encode beside the record.
const OPS: usize = 6;
const OPS_BYTES: usize = 64;

/// Names a record: its page, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The page.
    pub page: PageId,
    /// The number in the page.
    pub number: u32,
}

/// Why a change was refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum HeapError {
    /// A layer failed; `Poisoned` ends the handle, and opening again is the way out.
    #[error(transparent)]
    Page(#[from] PageError),
    /// A record has to fit a page.
    #[error("a record of {len} bytes, {max} fit a page")]
    RecordTooLong {
        /// Bytes of the record.
        len: usize,
        /// Bytes of the longest one.
        max: usize,
    },
}

/// A result of the heap's.
pub type HeapResult<T> = Result<T, HeapError>;

/// An open heap file.
#[derive(Debug)]
pub struct HeapFile {
    env: LoggedPool,
    master: Mutex<MasterRecord>,
    /// The last page of the chain; held by who changes anything.
    last: Mutex<PageId>,
    opened: Opened,
}

impl HeapFile {
    /// Opens the heap in this directory, recovering it if need be; makes it if there is none.
    pub fn open(dir: impl AsRef<Path>, options: &HeapOptions) -> PageResult<Self> {
        Self::open_on(Arc::new(RealDisk), dir.as_ref(), options)
    }

    /// As [`HeapFile::open`], on any disk: tests cut the power of a simulated one.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: &HeapOptions) -> PageResult<Self> {
        open::open(disk, dir, options)
    }

    /// What opening found and did.
    pub fn opened(&self) -> Opened {
        self.opened
    }

    /// Pool, log and allocator, for who wants to look.
    pub fn env(&self) -> &LoggedPool {
        &self.env
    }

    /// Adds a record; durable when this returns.
    pub fn insert(&self, record: &[u8]) -> HeapResult<RecordId> {
        self.check_len(record)?;
        let mut last = self.last();
        let (mut txn, grows) = self.begin_put(*last, record.len())?;
        let tail = self.latch(&mut txn, &[*last])?[0];
        let id = put(&mut txn, tail, grows, record)?;
        let lsn = txn.commit()?.lsn;
        *last = id.page;
        drop(last);
        self.acknowledge(lsn)?;
        Ok(id)
    }

    /// The record, if it is there.
    pub fn get(&self, id: RecordId) -> PageResult<Option<Vec<u8>>> {
        let _still = self.last();
        self.look(id.page, |page| {
            let slot = page.slot_of(id.number)?;
            slot.map(|slot| page.record(slot).map(|(_, record)| record)).transpose()
        })
    }

    /// Gives a record other bytes; durable when this returns. One that outgrows its page moves, and has another id from then on: gone
    /// from one page and there in the other are one group. None if there is no such record.
    pub fn update(&self, id: RecordId, record: &[u8]) -> HeapResult<Option<RecordId>> {
        self.check_len(record)?;
        let mut last = self.last();
        let stays = self.look(id.page, |page| {
            page.slot_of(id.number)?.map(|slot| page.can_become(slot, record.len())).transpose()
        })?;
        let Some(stays) = stays else { return Ok(None) };
        let (lsn, id) = if stays {
            (self.change_one(id.page, &HeapOp::Update(id.number, record), record.len())?, id)
        } else {
            let (mut txn, grows) = self.begin_put(*last, record.len())?;
            let pages = if id.page == *last { vec![*last] } else { vec![id.page, *last] };
            let latched = self.latch(&mut txn, &pages)?;
            let (source, tail) = (latched[0], latched[latched.len() - 1]);
            let moved = put(&mut txn, tail, grows, record)?;
            txn.change(source, &HeapOp::Delete(id.number))?;
            let lsn = txn.commit()?.lsn;
            *last = moved.page;
            (lsn, moved)
        };
        drop(last);
        self.acknowledge(lsn)?;
        Ok(Some(id))
    }

    /// Removes a record, durably when this returns. False if there is none.
    pub fn delete(&self, id: RecordId) -> HeapResult<bool> {
        let last = self.last();
        if self.look(id.page, |page| page.slot_of(id.number))?.is_none() {
            return Ok(false);
        }
        let lsn = self.change_one(id.page, &HeapOp::Delete(id.number), 0)?;
        drop(last);
        self.acknowledge(lsn)?;
        Ok(true)
    }

    /// Every record, in the order of the chain.
    pub fn scan(&self) -> PageResult<Vec<(RecordId, Vec<u8>)>> {
        let _still = self.last();
        let mut found = Vec::new();
        self.walk(|id, page| {
            for slot in 0..page.count()? {
                let (number, record) = page.record(slot)?;
                found.push((RecordId { page: id, number }, record));
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Frees the pages without records, each out of the chain and into the space map in one group; gives how many. The record ids of
    /// such a page are forgotten with it.
    pub fn vacuum(&self) -> HeapResult<usize> {
        let mut last = self.last();
        let (mut kept, mut empty) = (FIRST, Vec::new());
        self.walk(|id, page| {
            if id == FIRST || page.count()? > 0 {
                kept = id;
            } else {
                empty.push((kept, id, page.next()?));
            }
            Ok(())
        })?;
        let mut lsn = Lsn::ZERO;
        for (before, id, next) in &empty {
            let frees = [(*id, 1)];
            let log_bytes = GroupBuilder::bound(OPS, OPS_BYTES);
            let mut txn =
                self.env.begin(Reserve { log_bytes, pins: 1, frees: &frees, ..Reserve::default() })?;
            let before_handle = self.latch(&mut txn, &[*before])?[0];
            txn.free(*id, 1)?; // first: it is refused while nothing is changed yet, or not at all
            txn.change(before_handle, &HeapOp::SetNext(next.unwrap_or(PageId::new(0))))?;
            lsn = txn.commit()?.lsn;
            if *last == *id {
                *last = *before;
            }
        }
        drop(last);
        self.acknowledge(lsn)?;
        Ok(empty.len())
    }

    /// Pages in the chain.
    pub fn pages(&self) -> PageResult<Vec<PageId>> {
        let _still = self.last();
        let mut pages = Vec::new();
        self.walk(|id, _| {
            pages.push(id);
            Ok(())
        })?;
        Ok(pages)
    }

    /// Writes out what is dirty and moves the start of recovery up, so that the log can be used again.
    pub fn checkpoint(&self) -> PageResult<Lsn> {
        let mut master = self.master.lock().unwrap_or_else(PoisonError::into_inner);
        self.env.checkpoint(&mut master)
    }

    /// A panic under this lock was in no group, or has poisoned `env`.
    fn last(&self) -> MutexGuard<'_, PageId> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_len(&self, record: &[u8]) -> HeapResult<()> {
        let (len, max) = (record.len(), max_record(self.env.pool().page_size()));
        if len > max { Err(HeapError::RecordTooLong { len, max }) } else { Ok(()) }
    }

    /// Looks at a page under its latch.
    fn look<T>(&self, id: PageId, look: impl FnOnce(HeapPage<'_>) -> PageResult<T>) -> PageResult<T> {
        let pin = self.env.pool().fault(id)?;
        let page = pin.shared()?;
        look(HeapPage::of(page.page(), id)?)
    }

    /// Visits the chain; gives its last page. A ring ends where a file of so many pages must.
    fn walk(&self, mut visit: impl FnMut(PageId, HeapPage<'_>) -> PageResult<()>) -> PageResult<PageId> {
        let mut id = FIRST;
        for _ in 0..self.env.pool().store().len()? {
            let next = self.look(id, |page| {
                visit(id, page)?;
                page.next()
            })?;
            match next {
                Some(next) => id = next,
                None => return Ok(id),
            }
        }
        Err(PageError::Malformed { page_id: id, reason: "the heap's pages are chained in a ring" })
    }

    /// Begins a change that puts a record into the last page, or into a new one behind it. Everything that can be waited for is
    /// waited for here.
    fn begin_put(&self, last: PageId, len: usize) -> PageResult<(MiniTxn<'_>, bool)> {
        let grows = !self.look(last, |page| page.has_room(len))?;
        let log_bytes = GroupBuilder::bound(OPS, OPS_BYTES + len);
        let reserve = Reserve { log_bytes, new_pages: grows.into(), pins: 2, ..Reserve::default() };
        Ok((self.env.begin(reserve)?, grows))
    }

    /// Brings the pages into memory, then latches them: a latch is not held across I/O.
    fn latch<'e>(&'e self, txn: &mut MiniTxn<'e>, ids: &[PageId]) -> PageResult<Vec<PageHandle>> {
        let pins = ids.iter().map(|id| self.env.pool().fault(*id)).collect::<PageResult<Vec<_>>>()?;
        pins.iter().map(|pin| Ok(txn.latch(pin.exclusive()?))).collect()
    }

    fn change_one(&self, page: PageId, op: &HeapOp<'_>, len: usize) -> PageResult<Lsn> {
        let log_bytes = GroupBuilder::bound(1, OPS_BYTES + len);
        let mut txn = self.env.begin(Reserve { log_bytes, pins: 1, ..Reserve::default() })?;
        let handle = self.latch(&mut txn, &[page])?[0];
        txn.change(handle, op)?;
        Ok(txn.commit()?.lsn)
    }

    /// Waits until a change is durable, one sync for all who wait; then makes room in the log if it is half full.
    fn acknowledge(&self, lsn: Lsn) -> PageResult<()> {
        let log = self.env.log();
        log.wait_durable(lsn)?;
        if log.used() > log.budget() / 2 {
            self.checkpoint()?;
        }
        Ok(())
    }
}

/// Puts a record into the latched last page, or into a new one that it is linked to: one group, with the space map's bit.
fn put(txn: &mut MiniTxn<'_>, tail: PageHandle, grows: bool, record: &[u8]) -> PageResult<RecordId> {
    let target = if grows {
        let new = txn.allocate()?;
        txn.change(new, &HeapOp::Format)?;
        txn.change(tail, &HeapOp::SetNext(txn.id(new)))?;
        new
    } else {
        tail
    };
    let page = txn.id(target);
    let number = HeapPage::of(txn.page(target), page)?.next_number()?;
    txn.change(target, &HeapOp::Insert(number, record))?;
    Ok(RecordId { page, number })
}
