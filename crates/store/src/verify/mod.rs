//! The proof that every byte of the data file is reachable, free or reserved exactly once.
//!
//! Invariant: what is reported is damage. A store that is sound and quiet gives no finding; one that is sound and busy gives none
//! either, and no writer is stopped.
//!
//! ```text
//!   look.rs      one look at the whole file, in this order:
//!                  1  both copies of the superblock, the file's length
//!                  2  the space map: which pages are in use
//!                  3  every tree, node by node (`BTree::check`): which pages are reached, and what is wrong with them
//!                  4  the space map again; both times in use and not reached: leaked. Neither time and reached: dangling
//!                  5  every page that was in use both times, as it stands in the file: length, magic, checksum, id, LSN
//!   settle.rs    suspects: what is believed of a look
//!   page_set.rs  the pages that were reached: one bit for each of them
//! ```
//!
//! Why beside writers nothing false is reported. The trees' own findings are of one instant each (see `BTree::check`). What the
//! file holds is read again while the page is dirty, or in flight, or no longer in use. What is wrong with a tree that was dropped
//! under the walk is forgotten: a tree's entry goes with its root, and its id is never another's. That leaves in use against reached: a
//! page may have been freed and taken again elsewhere between the two looks at the map, behind the walk's back. So if there are
//! findings, the whole look is made a second and a third time, and a finding counts if all of them had it. And what then still
//! seems leaked or dangling is asked of the tree itself, while the map page does not change: a node in use is found by a descent
//! for its own lower fence, and a free page is not, at every instant, because a group holds the latches of all its pages, those
//! of the map among them, until it is whole. There the answer is exact.
//!
//! Pages of long values have no fences to be found by. But nothing that is freed with them, or was one of them, is used again while
//! a read guard is held that was there before (L8), and one is from the first look to the last: so what is in one of them by such a
//! change cannot be in the next. What remains: a map page that changes faster than a descent takes, 256 times in a row, leaves its
//! suspects unreported in this run.

mod look;
mod page_set;
mod report;
mod settle;

pub use report::{Finding, Problem, VerifyProgress, VerifyReport, VerifyStep};

use crate::StoreResult;
use crate::checkpoint::Core;
use look::Look;

/// Looks before a finding is believed.
const LOOKS: u32 = 3;

pub(crate) fn verify(core: &Core, progress: &mut dyn FnMut(VerifyProgress)) -> StoreResult<VerifyReport> {
    // No page of a value that is freed from now on is another's before the end.
    let _values = core.env.allocator().read_guard();
    let mut looked = Look::new(core, 1, progress).run()?;
    while !looked.report.is_sound() && looked.report.looks < LOOKS {
        let again = Look::new(core, looked.report.looks + 1, progress).run()?;
        looked = settle::in_both(looked, again);
    }
    settle::confirm(core, &mut looked)?;
    Ok(looked.report)
}
