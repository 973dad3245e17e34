//! What a group takes and frees when it changes a cell that refers to extents, or will.
//!
//! Invariant: a group frees exactly the extents that the cell refers to which it changes. Their map pages must be pinned before
//! anything is latched, so the cell is looked at first; and under the latch it must still be the same. A change that is made on
//! condition is refused under that latch too.
//!
//! ```text
//!   begin, with what is expected to stand in the cell ─► latch the leaf ─► as expected: free, take, change, commit
//!     ▲                                                       │
//!     └──────────── drop, expect what was found ◄─────────────┤ another reference
//!                                                             └─► not what is required: refused, nothing changed
//! ```

use pagestone_allocator::ExtentReservation;
use pagestone_mini_txn::MiniTxn;
use pagestone_page_format::{OutOfBounds, PageError, PageId, PageResult, PageSize};

use super::{OVERFLOW, Reference};
use crate::node::NodeView;

/// The reference in a cell, as its bytes, if it has one.
type Expected = Option<Vec<u8>>;

/// All that stands in a cell beside its key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) flags: u8,
    pub(crate) bytes: Vec<u8>,
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No bytes of the user's.
        f.debug_struct("Cell").field("flags", &self.flags).field("len", &self.bytes.len()).finish()
    }
}

/// What stands in a cell and should not.
#[derive(Debug)]
pub(crate) enum Surprise {
    /// Another reference than was expected, or one, or none.
    Reference(Expected),
    /// Not what the change is made on condition of.
    Refused,
}

/// Runs of a reference, or what is wrong with it.
pub(crate) type Runs = Result<Vec<(PageId, u32)>, &'static str>;

/// The runs that a slot of a leaf refers to; none if its value stands in the leaf.
pub(crate) fn references(leaf: NodeView<'_>, slot: usize) -> Result<Runs, OutOfBounds> {
    let mut bytes = Vec::new();
    Ok(match leaf.copy_flagged(slot, &mut bytes)? {
        0 => Ok(Vec::new()),
        OVERFLOW => Reference::decode(&bytes, leaf.page_size()?).map(|found| found.runs),
        _ => Err("a cell with unknown flags"),
    })
}

/// The extents of one change of one cell.
#[derive(Debug, Default)]
pub(crate) struct Swap<'e> {
    /// What must stand there, if that matters: this cell, or none.
    condition: Option<Option<Cell>>,
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

    /// For a change that is refused unless this cell stands in the leaf with the number `page_id`, or none. Errors: as
    /// [`Swap::expect`].
    pub(crate) fn on_condition(
        mut self,
        cell: Option<Cell>,
        page_id: PageId,
        size: PageSize,
    ) -> PageResult<Self> {
        let reference = cell.as_ref().filter(|cell| cell.flags & OVERFLOW != 0);
        self.expect(reference.map(|cell| cell.bytes.clone()), page_id, size)?;
        self.condition = Some(cell);
        Ok(self)
    }

    /// For a change that is refused if there is a cell.
    pub(crate) fn if_absent(self) -> Self {
        Self { condition: Some(None), ..self }
    }

    /// Expects what was found in the cell. Errors: `Malformed` for what is no reference; `page_id` is the leaf.
    fn expect(&mut self, found: Expected, page_id: PageId, size: PageSize) -> PageResult<()> {
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

    /// Takes note of what was found in the leaf `page_id`: whether to begin again. If not, the change is refused. Errors: as
    /// [`Swap::expect`].
    pub(crate) fn heed(&mut self, found: Surprise, page_id: PageId, size: PageSize) -> PageResult<bool> {
        match found {
            Surprise::Reference(found) => self.expect(found, page_id, size).map(|()| true),
            Surprise::Refused => Ok(false),
        }
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
    ) -> Result<Option<Surprise>, OutOfBounds> {
        if let Some(condition) = &self.condition {
            return Ok((!holds(condition.as_ref(), leaf, slot)?).then_some(Surprise::Refused));
        }
        let mut found = None;
        if let Some(slot) = slot
            && leaf.flags(slot)? & OVERFLOW != 0
        {
            leaf.append_value(slot, found.insert(Vec::new()))?;
        }
        Ok((found != self.expected).then_some(Surprise::Reference(found)))
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

/// Whether this cell stands in a slot of a leaf, or there is none.
fn holds(cell: Option<&Cell>, leaf: NodeView<'_>, slot: Option<usize>) -> Result<bool, OutOfBounds> {
    let (Some(cell), Some(slot)) = (cell, slot) else { return Ok(cell.is_none() && slot.is_none()) };
    let mut bytes = Vec::with_capacity(cell.bytes.len());
    Ok(leaf.copy_flagged(slot, &mut bytes)? == cell.flags && bytes == cell.bytes)
}
