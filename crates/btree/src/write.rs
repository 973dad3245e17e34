//! Put and remove where one leaf is all that changes.

use std::borrow::Cow;
use std::io::Read;

use pagestone_allocator::ExtentReservation;
use pagestone_buffer_pool::{ExclusivePage, OptimisticPage, Restart};
use pagestone_mini_txn::{MiniTxn, Reserve};
use pagestone_page_format::{Lsn, OpKind, OutOfBounds, PageId, PageOp, PageResult, PageWriter};

use crate::descend::{Held, Hold, Seek};
use crate::error::{Interrupt, TreeError};
use crate::node::{InsertCell, NodeView, RemoveCell, UpdateCell};
use crate::overflow::{MAX_VALUE_LEN, OVERFLOW, Source, Surprise, Swap, fill, write_value};
use crate::retry::{Attempt, optimistically};
use crate::walk::{HeldPage, Node};
use crate::{BTree, TreeResult};

/// Log bytes of one cell operation beside the key and the value.
const CELL_FRAMING: usize = 64;

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// Whether the key was there before.
    pub replaced: bool,
    /// The change is durable once the log is durable up to here.
    pub lsn: Lsn,
}

/// The value part of a cell that is to be put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewCell<'a> {
    pub(crate) value: &'a [u8],
    pub(crate) flags: u8,
}

impl<'a> NewCell<'a> {
    /// A value that stands in its leaf.
    pub(crate) fn inline(value: &'a [u8]) -> Self {
        Self { value, flags: 0 }
    }

    /// A reference to a value that does not.
    pub(crate) fn reference(bytes: &'a [u8]) -> Self {
        Self { value: bytes, flags: OVERFLOW }
    }
}

/// What became of a change.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    Done(T),
    /// Nothing was changed: not what the change was made on condition of.
    Refused,
}

impl<T> Outcome<T> {
    /// Of a change that is made on no condition.
    pub(crate) fn unconditional(self) -> T {
        match self {
            Self::Done(done) => done,
            Self::Refused => unreachable!("only a change on condition is refused"),
        }
    }
}

/// A value that has its place: in a leaf to come, or in extents that are written.
pub(crate) struct Placed<'t, 'v> {
    bytes: Cow<'v, [u8]>,
    flags: u8,
    pub(crate) extents: Option<ExtentReservation<'t>>,
}

impl<'v> Placed<'_, 'v> {
    fn inline(bytes: impl Into<Cow<'v, [u8]>>) -> Self {
        Self { bytes: bytes.into(), flags: 0, extents: None }
    }

    /// What its cell will have.
    pub(crate) fn cell(&self) -> NewCell<'_> {
        NewCell { value: &self.bytes, flags: self.flags }
    }
}

/// How it went with one leaf.
enum InLeaf<T> {
    Done(T),
    Full,
    /// Something else stands in the cell than was expected.
    Stands(Stands),
}

/// What stands in a cell of a leaf.
#[derive(Debug)]
pub(crate) struct Stands {
    pub(crate) found: Surprise,
    pub(crate) leaf: PageId,
}

impl BTree {
    /// Inserts or replaces. Visible at once; durable with the log at [`Put::lsn`].
    ///
    /// A value longer than [`BTree::max_inline_value`] is written to extents first, past the pool (L12).
    ///
    /// Errors, with the tree unchanged: `KeyTooLong`, `ValueTooLong`, `Page` with `NoSpace`, `BufferPoolExhausted`, `Poisoned`
    /// or what reading a page gave. A value takes a map page in the pool for each region that it touches, 34 for 4 GiB in pages of
    /// 4 KiB: with fewer frames to spare it is `BufferPoolExhausted`.
    pub fn put(&self, key: &[u8], value: &[u8]) -> TreeResult<Put> {
        let placed = self.place(key, value)?;
        self.put_placed(key, placed)
    }

    /// As [`BTree::put`], with a value that is read piece by piece: at most a mebibyte of it is in memory at once. Of a known
    /// length, exactly so many bytes are taken; else all that come.
    ///
    /// Errors, with the tree unchanged, beside those of [`BTree::put`]: `Source` for what the reader says, and if it ends before
    /// the length that was announced. Some of it may have been read then.
    pub fn put_reader(&self, key: &[u8], len: Option<u64>, value: impl Read) -> TreeResult<Put> {
        let placed = self.place_from(key, len, value)?;
        self.put_placed(key, placed)
    }

    /// Gives a value its place: an inline one is lent, a long one is written.
    pub(crate) fn place<'t, 'v>(&'t self, key: &[u8], value: &'v [u8]) -> TreeResult<Placed<'t, 'v>> {
        if value.len() <= self.check_key(key)? {
            return Ok(Placed::inline(value));
        }
        self.place_from(key, Some(value.len() as u64), value)
    }

    fn place_from(
        &self,
        key: &[u8],
        len: Option<u64>,
        mut value: impl Read,
    ) -> TreeResult<Placed<'_, 'static>> {
        let inline = self.check_key(key)?;
        if let Some(len) = len.filter(|len| *len > MAX_VALUE_LEN) {
            return Err(TreeError::ValueTooLong { len, max: MAX_VALUE_LEN });
        }
        // One byte more than fits tells a value whose length nobody knows.
        let head = len.map_or(inline + 1, |len| len.min(inline as u64) as usize);
        let mut bytes = vec![0; head];
        let filled = fill(&mut value, &mut bytes).map_err(|source| TreeError::Source { source })?;
        bytes.truncate(filled);
        if len == Some(filled as u64) || (len.is_none() && filled <= inline) {
            return Ok(Placed::inline(bytes));
        }
        let source = Source { head: &bytes, rest: &mut value, len };
        let (reference, extents) = write_value(self.env(), source)?;
        Ok(Placed { bytes: reference.encode().into(), flags: OVERFLOW, extents: Some(extents) })
    }

    fn put_placed(&self, key: &[u8], mut placed: Placed<'_, '_>) -> TreeResult<Put> {
        let swap = Swap::new(placed.extents.take());
        Ok(self.put_cell(key, placed.cell(), swap)?.unconditional())
    }

    pub(crate) fn put_cell<'t>(
        &'t self,
        key: &[u8],
        cell: NewCell<'_>,
        mut swap: Swap<'t>,
    ) -> TreeResult<Outcome<Put>> {
        loop {
            let log_bytes = key.len() + cell.value.len() + CELL_FRAMING;
            let mut txn = self.begin_swap(log_bytes, &swap)?;
            let in_leaf = optimistically(self.env(), |attempt| {
                self.change_leaf(&mut txn, &mut swap, attempt, key, |view, slot| {
                    Ok(match PutOp::choose_at(view, slot, key, cell)? {
                        Some(op) => (InLeaf::Done(op.replaces()), Some(op)),
                        None => (InLeaf::Full, None),
                    })
                })
            })?;
            let stands = match in_leaf {
                InLeaf::Done(replaced) => {
                    return Ok(Outcome::Done(Put { replaced, lsn: txn.commit()?.lsn }));
                }
                InLeaf::Full => {
                    drop(txn); // nothing was changed
                    match self.put_with_split(key, cell, &mut swap)? {
                        Ok(put) => return Ok(Outcome::Done(put)),
                        Err(stands) => stands,
                    }
                }
                InLeaf::Stands(stands) => stands,
            };
            if !swap.heed(stands.found, stands.leaf, self.env().pool().page_size())? {
                return Ok(Outcome::Refused);
            }
        }
    }

    /// Removes the key; gives the LSN at which that is durable, or nothing if it was not there.
    ///
    /// A leaf that is under 40 % full then is merged with a sibling, in a group of its own, if they fit one page; what that fails
    /// for is no error of this call, unless it is `Poisoned` ([`crate::TreeStats::merges_given_up`]).
    pub fn remove(&self, key: &[u8]) -> TreeResult<Option<Lsn>> {
        if key.len() > self.max_key_len() {
            return Ok(None);
        }
        Ok(self.remove_cell(key, Swap::new(None))?.unconditional())
    }

    pub(crate) fn remove_cell<'t>(
        &'t self,
        key: &[u8],
        mut swap: Swap<'t>,
    ) -> TreeResult<Outcome<Option<Lsn>>> {
        loop {
            let mut txn = self.begin_swap(key.len() + CELL_FRAMING, &swap)?;
            let in_leaf = optimistically(self.env(), |attempt| {
                self.change_leaf(&mut txn, &mut swap, attempt, key, |view, slot| match slot {
                    None => Ok((InLeaf::Done(None), None)),
                    Some(slot) => {
                        let merge = view.removal_asks_for_merge(slot)?;
                        Ok((InLeaf::Done(Some(merge)), Some(RemoveCell { key })))
                    }
                })
            })?;
            match in_leaf {
                InLeaf::Done(Some(merge)) => {
                    let lsn = txn.commit()?.lsn;
                    if merge {
                        self.merge_around(key)?;
                    }
                    return Ok(Outcome::Done(Some(lsn)));
                }
                InLeaf::Done(None) | InLeaf::Full => return Ok(Outcome::Done(None)),
                InLeaf::Stands(Stands { found, leaf }) => {
                    if !swap.heed(found, leaf, self.env().pool().page_size())? {
                        return Ok(Outcome::Refused);
                    }
                }
            }
        }
    }

    fn begin_swap<'t>(&'t self, log_bytes: usize, swap: &Swap<'t>) -> TreeResult<MiniTxn<'t>> {
        let (frees, extents) = (swap.frees(), swap.extents());
        Ok(self.env().begin(Reserve { log_bytes, pins: 1, frees, extents, ..Reserve::default() })?)
    }

    /// The longest value that stands in the leaf of this key.
    pub(crate) fn check_key(&self, key: &[u8]) -> TreeResult<usize> {
        let max = self.max_key_len();
        if key.len() > max {
            return Err(TreeError::KeyTooLong { len: key.len(), max });
        }
        Ok(self.max_inline_value(key.len()))
    }

    /// Refuses what does not stand in a leaf.
    pub(crate) fn check_inline(&self, key: &[u8], value: &[u8]) -> TreeResult<()> {
        let max = self.check_key(key)? as u64;
        let len = value.len() as u64;
        if len > max { Err(TreeError::ValueTooLong { len, max }) } else { Ok(()) }
    }

    /// Looks at the leaf of `key`; `decide` says what to answer and what to change, given the key's slot. With nothing to change
    /// the answer is validated; else the leaf is taken exclusively as it was looked at, and changed, with the extents of the swap.
    fn change_leaf<'t, T, Op: PageOp>(
        &'t self,
        txn: &mut MiniTxn<'t>,
        swap: &mut Swap<'t>,
        attempt: Attempt,
        key: &[u8],
        decide: impl FnOnce(NodeView<'_>, Option<usize>) -> Result<(InLeaf<T>, Option<Op>), OutOfBounds>,
    ) -> Result<InLeaf<T>, Interrupt> {
        match attempt.writing() {
            // By the way that look-ups take: all but few puts end here.
            Hold::Optimistic => {
                let leaf = self.descend_sampled(key)?;
                change_found(leaf, OptimisticPage::upgrade, txn, swap, key, decide)
            }
            hold => {
                let leaf = self.descend(hold, Seek::Key(key), |_, _| Ok(()))?;
                change_found(leaf, Held::into_exclusive, txn, swap, key, decide)
            }
        }
    }
}

/// [`BTree::change_leaf`] once the leaf is there, which covers the key.
#[inline]
fn change_found<'t, H: HeldPage<'t>, T, Op: PageOp>(
    leaf: Node<'t, H>,
    take: impl FnOnce(H) -> Result<ExclusivePage<'t>, Restart>,
    txn: &mut MiniTxn<'t>,
    swap: &mut Swap<'t>,
    key: &[u8],
    decide: impl FnOnce(NodeView<'_>, Option<usize>) -> Result<(InLeaf<T>, Option<Op>), OutOfBounds>,
) -> Result<InLeaf<T>, Interrupt> {
    let slot = leaf.believe(leaf.loaded().find_inside(key))?;
    if let Some(found) = leaf.believe(swap.surprise(leaf.view(), slot))? {
        leaf.validate()?;
        return Ok(InLeaf::Stands(Stands { found, leaf: leaf.id() }));
    }
    let (answer, op) = leaf.believe(decide(leaf.view(), slot))?;
    leaf.validate()?;
    if let Some(op) = op {
        let page = txn.latch(take(leaf.into_held())?);
        swap.apply(txn)?;
        txn.change(page, &op)?;
    }
    Ok(answer)
}

/// The operation that puts a key into a leaf that has room for it.
pub(crate) enum PutOp<'a> {
    Insert(InsertCell<'a>),
    Update(UpdateCell<'a>),
}

impl<'a> PutOp<'a> {
    /// Whether the key was there.
    pub(crate) fn replaces(&self) -> bool {
        matches!(self, Self::Update(_))
    }

    /// None if the leaf has no room.
    pub(crate) fn choose(
        view: NodeView<'_>,
        key: &'a [u8],
        cell: NewCell<'a>,
    ) -> Result<Option<Self>, OutOfBounds> {
        Self::choose_at(view, view.find(key)?, key, cell)
    }

    /// With the key's slot, if it has one.
    fn choose_at(
        view: NodeView<'_>,
        slot: Option<usize>,
        key: &'a [u8],
        NewCell { value, flags }: NewCell<'a>,
    ) -> Result<Option<Self>, OutOfBounds> {
        Ok(match slot {
            Some(slot) => {
                let update = UpdateCell { at: Some(slot), key, value, flags };
                view.can_update(slot, value.len())?.then_some(Self::Update(update))
            }
            None => {
                view.can_hold(key, value.len())?.then_some(Self::Insert(InsertCell { key, value, flags }))
            }
        })
    }
}

impl PageOp for PutOp<'_> {
    fn kind(&self) -> OpKind {
        match self {
            Self::Insert(op) => op.kind(),
            Self::Update(op) => op.kind(),
        }
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        match self {
            Self::Insert(op) => op.apply(page),
            Self::Update(op) => op.apply(page),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Insert(op) => op.encode(out),
            Self::Update(op) => op.encode(out),
        }
    }
}
