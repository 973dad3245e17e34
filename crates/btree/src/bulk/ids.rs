//! Page ids in the order in which they are to be filled.
//!
//! Invariant: what was taken is reserved, and what was reserved and not taken is given back at the end; whatever fails before, all of it is.

use pagestone_allocator::ExtentReservation;
use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::{PageId, PageResult};

use crate::overflow::ids_of;

/// Runs that one more reservation may fall into: free space in pieces is worth less than large writes.
const RUNS: usize = 16;

/// Page ids in the order in which they are to be filled.
pub(super) struct Ids<'e> {
    env: &'e LoggedPool,
    extents: ExtentReservation<'e>,
    /// The next ones, the last of them first.
    next: Vec<PageId>,
    used: u64,
    /// The most that is reserved at once.
    step_max: u64,
}

/// The ids, with none of them in the pool: they are about to be written past it (P13).
fn discarded(env: &LoggedPool, ids: Vec<PageId>) -> PageResult<Vec<PageId>> {
    ids.iter().try_for_each(|id| env.pool().discard(*id))?;
    Ok(ids)
}

impl<'e> Ids<'e> {
    pub(super) fn new(env: &'e LoggedPool, step_max: u64) -> PageResult<Self> {
        let extents = env.allocator().reserve_extents(env, 1, 1)?;
        let next = discarded(env, ids_of(&extents, 0, 1))?;
        Ok(Self { env, extents, next, used: 0, step_max })
    }

    /// One more.
    pub(super) fn take(&mut self) -> PageResult<PageId> {
        if self.next.is_empty() {
            let (have, step) = (self.extents.pages(), self.extents.pages().min(self.step_max));
            self.extents.extend(self.env, step, RUNS)?;
            self.next = discarded(self.env, ids_of(&self.extents, have, step as usize))?;
            self.next.reverse();
        }
        self.used += 1;
        Ok(self.next.pop().expect("as many as were reserved"))
    }

    pub(super) fn runs(&self) -> &[(PageId, u32)] {
        self.extents.runs()
    }

    /// Those that were taken; the others are given back.
    pub(super) fn finish(mut self) -> ExtentReservation<'e> {
        self.extents.trim(self.used);
        self.extents
    }
}
