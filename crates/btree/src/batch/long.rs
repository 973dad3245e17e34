//! The long values of a batch: each in extents of its own, referred to by its cell.
//!
//! Invariant: they have their places before a leaf is looked at, so that their cells are as long as they will be; they are written
//! once, when the whole batch is known to be no larger than it may be; and nothing refers to them before the group that takes them
//! is appended (L12). Whatever fails, their places are given back.
//!
//! ```text
//!   reserve ─► the cells, with references ─► plan ─► write ─► begin, latch, take ─► commit: one barrier for all of them
//!                                              ▲                   │
//!                                              └─ leaves changed ──┘  written they are
//! ```

use pagestone_allocator::ExtentReservation;
use pagestone_mini_txn::{LoggedPool, MiniTxn};
use pagestone_page_format::{PageId, PageResult};

use super::BatchOp;
use crate::TreeResult;
use crate::overflow::{Reserved, reserve_value};

/// Long values, in the order of the operations that put them.
pub(super) struct LongValues<'e, 'v> {
    reserved: Vec<(Reserved<'e>, &'v [u8])>,
    written: Vec<ExtentReservation<'e>>,
}

impl<'e, 'v> LongValues<'e, 'v> {
    /// Their places. Error: `NoSpace`, with nothing kept.
    pub(super) fn reserve(env: &'e LoggedPool, ops: &[BatchOp<'v>]) -> TreeResult<Self> {
        let values = ops.iter().filter_map(BatchOp::long_value);
        let reserved = values
            .map(|value| Ok((reserve_value(env, value.len() as u64)?, value)))
            .collect::<TreeResult<Vec<_>>>()?;
        Ok(Self { written: Vec::with_capacity(reserved.len()), reserved })
    }

    /// What stands in their cells.
    pub(super) fn references(&self) -> Vec<Vec<u8>> {
        self.reserved.iter().map(|(place, _)| place.reference.encode()).collect()
    }

    /// The runs of all of them.
    pub(super) fn runs(&self) -> Vec<(PageId, u32)> {
        self.reserved.iter().flat_map(|(place, _)| place.extents.runs().iter().copied()).collect()
    }

    /// Writes those that are not written yet.
    pub(super) fn write(&mut self, env: &'e LoggedPool) -> TreeResult<()> {
        for (place, value) in self.reserved.drain(..) {
            self.written.push(place.write(env, value)?);
        }
        Ok(())
    }

    /// Puts their extents to use in this group, before its first change.
    pub(super) fn take<'t>(&mut self, txn: &mut MiniTxn<'t>) -> PageResult<()>
    where
        'e: 't,
    {
        debug_assert!(self.reserved.is_empty(), "what is referred to was written");
        self.written.drain(..).try_for_each(|extents| txn.take_extents(extents))
    }
}
