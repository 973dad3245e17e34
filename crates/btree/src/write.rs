//! Put and remove where one leaf is all that changes.

use pagestone_mini_txn::{MiniTxn, Reserve};
use pagestone_page_format::{Lsn, OpKind, OutOfBounds, PageOp, PageResult, PageWriter};

use crate::descend::Seek;
use crate::error::{Interrupt, TreeError};
use crate::node::{InsertCell, NodeView, RemoveCell, UpdateCell, max_inline_value};
use crate::retry::{Attempt, optimistically};
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

/// How it went with one leaf.
enum InLeaf {
    Done { replaced: bool },
    Full,
}

impl BTree {
    /// Inserts or replaces. Visible at once; durable with the log at [`Put::lsn`].
    ///
    /// Errors, with the tree unchanged: `KeyTooLong`, `ValueTooLong`, `Page` with `NoSpace`, `BufferPoolExhausted`, `Poisoned`
    /// or what reading a page gave.
    pub fn put(&self, key: &[u8], value: &[u8]) -> TreeResult<Put> {
        self.check_lengths(key, value)?;
        let log_bytes = key.len() + value.len() + CELL_FRAMING;
        let mut txn = self.env().begin(Reserve { log_bytes, pins: 1, ..Reserve::default() })?;
        let in_leaf = optimistically(self.env(), |attempt| {
            self.change_leaf(&mut txn, attempt, key, |view| {
                Ok(match PutOp::choose(view, key, value)? {
                    Some(op) => (InLeaf::Done { replaced: op.replaces() }, Some(op)),
                    None => (InLeaf::Full, None),
                })
            })
        })?;
        match in_leaf {
            InLeaf::Done { replaced } => Ok(Put { replaced, lsn: txn.commit()?.lsn }),
            InLeaf::Full => {
                drop(txn); // nothing was changed
                self.put_with_split(key, value)
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
        let log_bytes = key.len() + CELL_FRAMING;
        let mut txn = self.env().begin(Reserve { log_bytes, pins: 1, ..Reserve::default() })?;
        let found = optimistically(self.env(), |attempt| {
            self.change_leaf(&mut txn, attempt, key, |view| match view.find(key)? {
                None => Ok((None, None)),
                Some(slot) => Ok((Some(view.removal_asks_for_merge(slot)?), Some(RemoveCell { key }))),
            })
        })?;
        let Some(merge) = found else { return Ok(None) };
        let lsn = txn.commit()?.lsn;
        if merge {
            self.merge_around(key)?;
        }
        Ok(Some(lsn))
    }

    pub(crate) fn check_lengths(&self, key: &[u8], value: &[u8]) -> TreeResult<()> {
        let max_key = self.max_key_len();
        if key.len() > max_key {
            return Err(TreeError::KeyTooLong { len: key.len(), max: max_key });
        }
        let max_value = max_inline_value(self.env().pool().page_size(), key.len());
        if value.len() > max_value {
            return Err(TreeError::ValueTooLong { len: value.len(), max: max_value });
        }
        Ok(())
    }

    /// Looks at the leaf of `key`; `decide` says what to answer and what to change. With nothing to change the answer is
    /// validated; else the leaf is taken exclusively as it was looked at, and changed.
    fn change_leaf<'t, T, Op: PageOp>(
        &'t self,
        txn: &mut MiniTxn<'t>,
        attempt: Attempt,
        key: &[u8],
        decide: impl FnOnce(NodeView<'_>) -> Result<(T, Option<Op>), OutOfBounds>,
    ) -> Result<T, Interrupt> {
        let leaf = self.descend(attempt.writing(), Seek::Key(key), |_, _| Ok(()))?;
        let (answer, op) = leaf.believe(decide(leaf.view()))?;
        leaf.validate()?;
        if let Some(op) = op {
            let page = txn.latch(leaf.into_exclusive()?);
            txn.change(page, &op)?;
        }
        Ok(answer)
    }
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
        value: &'a [u8],
    ) -> Result<Option<Self>, OutOfBounds> {
        Ok(match view.find(key)? {
            Some(slot) => view.can_update(slot, value.len())?.then_some(Self::Update(UpdateCell {
                key,
                value,
                flags: 0,
            })),
            None => {
                view.can_hold(key, value.len())?.then_some(Self::Insert(InsertCell { key, value, flags: 0 }))
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
