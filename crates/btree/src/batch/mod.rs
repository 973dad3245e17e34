//! Write batches: many changes, over one tree or several, in one mini-transaction.
//!
//! Invariant: a batch is one group of the log, which changes leaves alone. So a crash leaves all of it or nothing; and all its
//! leaves are latched before the first one changes and until the last one has, so that whoever reads single keys sees it come at
//! one instant: once anybody has read something of it, nobody reads what was there before. A scan reads leaf by leaf and may see
//! a part of it: what it reads later is never older. Nothing is isolated beyond that: between a read and a batch that builds on it
//! others may write.
//!
//! ```text
//!   1  sort by tree (its root's page id) and key; the last change of a key wins; lengths and log bytes are checked;       change.rs
//!      long values get their places, so that their cells are known                                           long.rs
//!   2  plan      go down to each leaf; do its changes fit it? where they do not, cuts                         plan.rs
//!   3  make room each cut is a split in a group of its own, which nobody sees; then 2 for what was cut        split.rs
//!   4  write the long values, past the pool; nothing refers to them yet
//!      begin     log bytes, admission for one pin a leaf, map pages of the extents that are taken and freed: all that can be
//!                waited for
//!   5  latch     left to right, tree by tree, at the versions of step 2; if that does not do, go down and pin them first,
//!                and look again at those that changed; where the changes do not fit any more: plan again
//!   6  change, commit; then merge the leaves that removals left sparse, as after a single removal                merge.rs
//! ```
//!
//! Extents are freed with the cells that refer to them, and taken with those that will. The values of a batch are in memory, whole:
//! one that is to be read piece by piece is put by itself. All of them wait for one pass of the log's write barrier.
//!
//! Structure changes come first, and apart, because together with the rest they would take frames, ids and log for a split of
//! every leaf at once; a crash or an error between them and step 6 leaves leaves with more room than they need, and no more.
//!
//! Step 5 waits for the first latch only. For each other one it tries for a while and then lets go of all: a page that was
//! planned for as a leaf may have been merged away and be anything by now, so its place in the order of latches is not known
//! before it is held.

mod change;
mod long;
mod plan;
mod rehearsal;

use pagestone_buffer_pool::{ExclusivePage, Pin, Restart};
use pagestone_mini_txn::{LoggedPool, MiniTxn, Reserve};
use pagestone_page_format::{PageError, PageId, PageResult};
use pagestone_sync::thread;

pub use self::change::{BatchChange, BatchDone, BatchOp};
use self::change::{Op, cells, in_order, least_cell, log_bytes};
use self::long::LongValues;
use self::plan::{Planned, plan};
use self::rehearsal::{LeafDone, Rehearsal, change_leaf, frees, is_leaf_of};
use crate::descend::Seek;
use crate::error::Interrupt;
use crate::node::NodeView;
use crate::retry::optimistically;
use crate::{TreeError, TreeResult};

/// A batch may change as many leaves as make up half of what the admission gate gives out, which is a quarter of the pool's
/// frames; and as many map pages, which is the other half.
const SHARE_OF_ADMISSION: usize = 2;
/// Looks at a leaf that somebody holds, before all others are let go of.
const LOOKS: usize = 64;
/// Times that all others are let go of, before it is looked again where the leaves are.
const TRIES: usize = 16;

/// Makes all these changes in one mini-transaction; of several of one key in one tree the last one counts. All trees are of `env`.
///
/// Long values are written before anything refers to them, past the pool (L12), and wait for one sync together.
///
/// Errors, with nothing applied and no space taken: `BatchTooLarge` if it takes more log than the largest group may have, changes
/// more leaves than a quarter of the pool's frames, or takes and frees extents in more regions than that, a map page each;
/// `KeyTooLong`, `ForeignTree`; and those of a single put.
pub fn apply_batch(env: &LoggedPool, ops: &[BatchOp<'_>]) -> TreeResult<BatchDone> {
    let ops = in_order(env, ops)?;
    if ops.is_empty() {
        env.check_open()?;
        return Ok(BatchDone::default());
    }
    // Before the file grows for values that would be refused.
    within("log bytes", log_bytes(ops.iter().map(least_cell)), env.log().max_group_bytes())?;
    let mut values = LongValues::reserve(env, &ops)?;
    let references = values.references();
    let batch = Batch::new(env, cells(&ops, &references), values.runs());
    batch.check_size(&[])?;
    loop {
        let leaves = plan(&batch)?;
        values.write(env)?;
        if let Some(done) = batch.write(&leaves, &mut values)? {
            return Ok(done);
        }
        // Others have changed what was planned for: plan again.
    }
}

pub(crate) fn within(what: &'static str, found: usize, max: usize) -> TreeResult<()> {
    if found > max { Err(TreeError::BatchTooLarge { what, found, max }) } else { Ok(()) }
}

/// A batch in order.
struct Batch<'a> {
    env: &'a LoggedPool,
    ops: Vec<Op<'a>>,
    /// Runs of the long values.
    extents: Vec<(PageId, u32)>,
    log_bytes: usize,
    /// The most leaves, and the most map pages.
    max_pages: usize,
}

impl<'a> Batch<'a> {
    fn new(env: &'a LoggedPool, ops: Vec<Op<'a>>, extents: Vec<(PageId, u32)>) -> Self {
        let of = |op: &Op<'_>| (op.key.len(), op.cell.map_or(0, |cell| cell.value.len()));
        let log_bytes = log_bytes(ops.iter().map(of));
        Self { env, ops, extents, log_bytes, max_pages: env.pool().admission_max() / SHARE_OF_ADMISSION }
    }

    /// What its group asks for, if it changes so many leaves and frees these runs.
    fn reserve<'r>(&'r self, pins: usize, frees: &'r [(PageId, u32)]) -> Reserve<'r> {
        Reserve { log_bytes: self.log_bytes, pins, frees, extents: &self.extents, ..Reserve::default() }
    }

    /// Refuses a batch that frees these runs and would be too large a group with them.
    fn check_size(&self, frees: &[(PageId, u32)]) -> TreeResult<()> {
        let reserve = self.reserve(0, frees);
        within("log bytes", reserve.group_bytes(), self.env.log().max_group_bytes())?;
        within("map pages", reserve.map_pages(self.env.pool().page_size()).len(), self.max_pages)
    }

    /// Steps 4 to 6. Nothing if the plan does not hold any more.
    fn write<'e: 'a>(
        &self,
        leaves: &[Planned<'a>],
        values: &mut LongValues<'e, '_>,
    ) -> TreeResult<Option<BatchDone>> {
        let frees: Vec<_> = leaves.iter().flat_map(|leaf| leaf.frees.iter().copied()).collect();
        let mut txn = self.env.begin(self.reserve(leaves.len(), &frees))?;
        // The budget may have been lowered since the batch was made; from here on it waits for us.
        within("leaves", leaves.len(), self.env.pool().admission_max() / SHARE_OF_ADMISSION)?;
        let pages = match as_planned(leaves) {
            Some(pages) => Some(pages),
            None => match self.pin(leaves)? {
                Some(pins) => self.latch(leaves, &pins)?, // a latched page stays where it is
                None => None,
            },
        };
        let Some(pages) = pages else { return Ok(None) };
        txn.free_extents(&frees)?; // before the first change: an error has changed nothing
        values.take(&mut txn)?;
        let mut done = BatchDone::default();
        let mut sparse = Vec::new();
        for (leaf, page) in leaves.iter().zip(pages) {
            let LeafDone { inserted, replaced, removed, sparse: is_sparse } =
                self.change(&mut txn, leaf, page)?;
            done.inserted += inserted;
            done.replaced += replaced;
            done.removed += removed;
            sparse.extend(is_sparse.then_some(leaf.ops.start));
        }
        if txn.is_changed() {
            done.lsn = Some(txn.commit()?.lsn);
        }
        // As after a single removal: groups of their own, and no errors of this batch.
        for op in sparse {
            self.ops[op].tree.merge_around(self.ops[op].key)?;
        }
        Ok(Some(done))
    }

    fn pin(&self, leaves: &[Planned<'a>]) -> TreeResult<Option<Vec<Pin<'a>>>> {
        leaves.iter().map(|leaf| self.pin_leaf(leaf)).collect()
    }

    /// Nothing if another leaf covers the first of these changes by now.
    ///
    /// By the way down, and not by the leaf's id alone: one that was merged away, and thrown out because its id became an extent, stands
    /// in storage as it was long before, until the extent is written. What would be changed then is a leaf of no tree. Pinned while
    /// its look still stood, the page is followed from there on: what becomes of it shows in its frame.
    fn pin_leaf(&self, planned: &Planned<'a>) -> TreeResult<Option<Pin<'a>>> {
        let first = &self.ops[planned.ops.start];
        optimistically(first.tree.env(), |attempt| {
            let leaf = first.tree.descend(attempt.reading(), Seek::Key(first.key), |_, _| Ok(()))?;
            if leaf.id() != planned.id {
                leaf.validate()?;
                return Ok(None);
            }
            // An error may be of what came there since.
            let pin = self.env.pool().fault(planned.id).map_err(|error| leaf.refuse(error.into()))?;
            leaf.validate()?; // behind the pin
            Ok(Some(pin))
        })
    }

    /// Step 5. What is let go of was not changed, so that the looks at it stay good.
    fn latch(&self, leaves: &[Planned<'a>], pins: &[Pin<'a>]) -> TreeResult<Option<Vec<ExclusivePage<'a>>>> {
        let mut rehearsal = Rehearsal::new(self.env);
        let mut tries = 0;
        optimistically(self.ops[0].tree.env(), |_| {
            tries += 1;
            if tries > TRIES {
                return Ok(None);
            }
            let mut pages = Vec::with_capacity(leaves.len());
            for (leaf, pin) in leaves.iter().zip(pins) {
                match self.latch_one(&mut rehearsal, leaf, pin, pages.is_empty()) {
                    Ok(Some(page)) => pages.push(page),
                    Ok(None) => {
                        pages.into_iter().for_each(ExclusivePage::release_unchanged);
                        return Ok(None);
                    }
                    Err(interrupt) => {
                        pages.into_iter().for_each(ExclusivePage::release_unchanged);
                        return Err(interrupt);
                    }
                }
            }
            Ok(Some(pages))
        })
    }

    /// Nothing if it is no longer a leaf that these changes fit.
    fn latch_one(
        &self,
        rehearsal: &mut Rehearsal,
        leaf: &Planned<'a>,
        pin: &Pin<'a>,
        wait: bool,
    ) -> Result<Option<ExclusivePage<'a>>, Interrupt> {
        if let Some(Ok(page)) = leaf.sample.map(|sample| sample.upgrade()) {
            return Ok(Some(page));
        }
        let page = if wait { pin.exclusive()? } else { try_for_a_while(pin)? };
        let ops = &self.ops[leaf.ops.clone()];
        // By now any page may stand here; what is wrong with one that is still the leaf, the way down tells.
        let view = NodeView::new(page.page());
        let looked = is_leaf_of(view, ops).unwrap_or(false)
            && frees(view, ops).is_ok_and(|frees| frees.as_ref() == Ok(&leaf.frees))
            && rehearsal.look(page.page(), ops).is_ok();
        if looked && rehearsal.fits(leaf.id, ops)? {
            return Ok(Some(page));
        }
        page.release_unchanged();
        Ok(None)
    }

    /// Step 6 for one leaf. Nothing fails here but by a bug of ours.
    fn change(
        &self,
        txn: &mut MiniTxn<'a>,
        leaf: &Planned<'a>,
        page: ExclusivePage<'a>,
    ) -> PageResult<LeafDone> {
        let handle = txn.latch(page);
        let view = NodeView::new(txn.page(handle));
        let done = change_leaf(view, leaf.id, &self.ops[leaf.ops.clone()], |op| txn.change(handle, op))?;
        done.ok_or(PageError::Malformed {
            page_id: leaf.id,
            reason: "a leaf has no room for what was found to fit it",
        })
    }
}

/// Step 5, if nobody has changed any of the leaves, or holds one.
fn as_planned<'a>(leaves: &[Planned<'a>]) -> Option<Vec<ExclusivePage<'a>>> {
    let mut pages = Vec::with_capacity(leaves.len());
    for leaf in leaves {
        match leaf.sample.map(|sample| sample.upgrade()) {
            Some(Ok(page)) => pages.push(page),
            _ => {
                pages.into_iter().for_each(ExclusivePage::release_unchanged);
                return None;
            }
        }
    }
    Some(pages)
}

fn try_for_a_while<'a>(pin: &Pin<'a>) -> Result<ExclusivePage<'a>, Interrupt> {
    for _ in 0..LOOKS {
        if let Some(page) = pin.try_exclusive()? {
            return Ok(page);
        }
        thread::yield_now();
    }
    Err(Restart::Conflict.into())
}
