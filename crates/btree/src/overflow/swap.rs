//! What a group takes and frees when it changes a cell that refers to extents, or will.
//!
//! Invariant: a group frees exactly the extents that the cell refers to which it changes. Their map pages must be pinned before
//! anything is latched, so the cell is looked at first; and under the latch it must still be the same.
//!
//! ```text
//!   begin, with what is expected to stand in the cell ─► latch the leaf ─► as expected: free, take, change, commit
//!     ▲                                                       │
//!     └──────────── drop, expect what was found ◄─────────────┘ otherwise
//! ```

use pagestone_allocator::ExtentReservation;
use pagestone_mini_txn::MiniTxn;
use pagestone_page_format::{OutOfBounds, PageError, PageId, PageResult, PageSize};

use super::{OVERFLOW, Reference};
use crate::node::NodeView;

/// The reference in a cell, as its bytes, if it has one.
pub(crate) type Expected = Option<Vec<u8>>;

/// Runs of a reference, or what is wrong with it.
pub(crate) type Runs = Result<Vec<(PageId, u32)>, &'static str>;

/// The runs that a slot of a leaf refers to; none if its value stands in the leaf.
pub(crate) fn references(leaf: NodeView<'_>, slot: usize) -> Result<Runs, OutOfBounds> {
    let mut bytes = Vec::new();
    Ok(match leaf.append_flagged(slot, &mut bytes)? {
        0 => Ok(Vec::new()),
        OVERFLOW => Reference::decode(&bytes, leaf.page_size()?).map(|found| found.runs),
        _ => Err("a cell with unknown flags"),
    })
}

/// The extents of one change of one cell.
#[derive(Debug, Default)]
pub(crate) struct Swap<'e> {
    /// What stands in the cell before.
    expected: Expected,
    /// Its runs.
    frees: Vec<(PageId, u32)>,
    /// What the new reference refers to.
    extents: Option<ExtentReservation<'e>>,
}

impl<'e> Swap<'e> {
    /// For a new cell that refers to these extents, or to none.
    pub(crate) fn new(extents: Option<ExtentReservation<'e>>) -> Self {
        Self { extents, ..Self::default() }
    }

    /// Expects what was found in the cell. Errors: `Malformed` for what is no reference; `page_id` is the leaf.
    pub(crate) fn expect(&mut self, found: Expected, page_id: PageId, size: PageSize) -> PageResult<()> {
        self.frees = match &found {
            Some(bytes) => {
                let reference = Reference::decode(bytes, size);
                reference.map_err(|reason| PageError::Malformed { page_id, reason })?.runs
            }
            None => Vec::new(),
        };
        self.expected = found;
        Ok(())
    }

    /// Runs to be named in [`pagestone_mini_txn::Reserve::frees`].
    pub(crate) fn frees(&self) -> &[(PageId, u32)] {
        &self.frees
    }

    /// Runs to be named in [`pagestone_mini_txn::Reserve::extents`].
    pub(crate) fn extents(&self) -> &[(PageId, u32)] {
        self.extents.as_ref().map_or(&[], ExtentReservation::runs)
    }

    /// What is found in a slot of a leaf, if it is not what is expected.
    pub(crate) fn surprise(
        &self,
        leaf: NodeView<'_>,
        slot: Option<usize>,
    ) -> Result<Option<Expected>, OutOfBounds> {
        let mut found = None;
        if let Some(slot) = slot
            && leaf.flags(slot)? & OVERFLOW != 0
        {
            leaf.append_value(slot, found.insert(Vec::new()))?;
        }
        Ok((found != self.expected).then_some(found))
    }

    /// Frees what the cell referred to and takes what it will refer to, before the group's first change: an error has changed
    /// nothing then.
    pub(crate) fn apply(&mut self, txn: &mut MiniTxn<'e>) -> PageResult<()> {
        txn.free_extents(&self.frees)?;
        match self.extents.take() {
            Some(extents) => txn.take_extents(extents),
            None => Ok(()),
        }
    }
}
