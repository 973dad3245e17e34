//! Changes on condition of what stands there: insert, compare-and-swap, update.
//!
//! Invariant: what is changed is what was looked at. The condition is held against the very cell under its leaf's latch, in the group
//! that changes it; if something else stands there by then, nothing is changed and it is looked at again.
//!
//! ```text
//!   look at the cell ─► copy its value ─► the user's code, on the copy ─► put or remove, on condition of that cell ─► done
//!        ▲                                 no latch is held                              │
//!        └──────────────────────── refused: another one stands there ◄───────────────────┘
//! ```
//!
//! A cell that refers to extents is the same cell if it has the same bytes: the guard that came with it keeps their pages from being
//! used for another value meanwhile (L8).

use pagestone_page_format::{Lsn, PageId};

use crate::overflow::{Cell, OVERFLOW, Swap};
use crate::read::{Found, ReferenceAt};
use crate::write::{Outcome, Put};
use crate::{BTree, TreeError, TreeResult};

/// What [`BTree::compare_and_swap`] did.
#[derive(Clone, PartialEq, Eq)]
pub enum CompareAndSwap {
    /// What was expected stood there, and the new value does now, or nothing.
    Done {
        /// Durable once the log is durable up to here; none if there was nothing and is nothing.
        lsn: Option<Lsn>,
    },
    /// Something else stood there; nothing was changed.
    Differs {
        /// The value that stood there, or that there was none.
        current: Option<Vec<u8>>,
    },
}

impl std::fmt::Debug for CompareAndSwap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Lengths and no bytes of the user's.
        match self {
            Self::Done { lsn } => f.debug_struct("Done").field("lsn", lsn).finish(),
            Self::Differs { current } => {
                f.debug_struct("Differs").field("current_len", &current.as_ref().map(Vec::len)).finish()
            }
        }
    }
}

/// What [`BTree::update_with`] left.
#[derive(Clone, PartialEq, Eq)]
pub struct Updated {
    /// The value that stands there now; none if there is no entry.
    pub value: Option<Vec<u8>>,
    /// Whether there was an entry before.
    pub existed: bool,
    /// Durable once the log is durable up to here; none if there was nothing and is nothing.
    pub lsn: Option<Lsn>,
}

impl std::fmt::Debug for Updated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Updated")
            .field("value_len", &self.value.as_ref().map(Vec::len))
            .field("existed", &self.existed)
            .field("lsn", &self.lsn)
            .finish()
    }
}

/// What was found at a key, and keeps its extents while it lives.
struct Looked {
    cell: Option<Cell>,
    value: Option<Vec<u8>>,
    at: Option<ReferenceAt>,
}

impl BTree {
    /// Puts an entry whose key is not there. Errors, with the tree unchanged: [`TreeError::KeyExists`]; those of [`BTree::put`].
    pub fn insert(&self, key: &[u8], value: &[u8]) -> TreeResult<Put> {
        if value.len() > self.check_key(key)? && self.contains_key(key)? {
            return Err(TreeError::KeyExists); // before a long value is written for nothing
        }
        let mut placed = self.place(key, value)?;
        let swap = Swap::new(placed.extents.take()).if_absent();
        match self.put_cell(key, placed.cell(), swap)? {
            Outcome::Done(put) => Ok(put),
            Outcome::Refused => Err(TreeError::KeyExists),
        }
    }

    /// Gives the key the value `new` if its value is `expected`, at one instant; `None` stands for no entry.
    ///
    /// Values are compared as bytes, long ones whole: those are read. Errors, with the tree unchanged: those of [`BTree::put`].
    pub fn compare_and_swap(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> TreeResult<CompareAndSwap> {
        self.check_key(key)?;
        loop {
            let looked = self.look_to_change(key)?;
            if looked.value.as_deref() != expected {
                return Ok(CompareAndSwap::Differs { current: looked.value });
            }
            if let Outcome::Done(lsn) = self.replace(key, looked, new)? {
                return Ok(CompareAndSwap::Done { lsn });
            }
        }
    }

    /// Gives the key the value that `update` makes of its value, at one instant; `None` stands for no entry.
    ///
    /// `update` runs on a copy, with no latch held; it runs again if another writer was faster, so what it does beside that must bear
    /// repeating. It may use this tree and any other. Long values are read whole. Errors, with the tree unchanged: those of
    /// [`BTree::put`].
    pub fn update_with(
        &self,
        key: &[u8],
        mut update: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> TreeResult<Updated> {
        self.check_key(key)?;
        loop {
            let looked = self.look_to_change(key)?;
            let existed = looked.value.is_some();
            let value = update(looked.value.as_deref());
            if let Outcome::Done(lsn) = self.replace(key, looked, value.as_deref())? {
                return Ok(Updated { value, existed, lsn });
            }
        }
    }

    fn look_to_change(&self, key: &[u8]) -> TreeResult<Looked> {
        let mut bytes = Vec::new();
        Ok(match self.look_up(key, &mut bytes)? {
            Found::Nothing => Looked { cell: None, value: None, at: None },
            Found::Value => {
                Looked { cell: Some(Cell { flags: 0, bytes: bytes.clone() }), value: Some(bytes), at: None }
            }
            Found::Reference(at) => {
                let mut value = Vec::new();
                self.chunks(&bytes, at.clone())?.append_to(&mut value)?;
                Looked { cell: Some(Cell { flags: OVERFLOW, bytes }), value: Some(value), at: Some(at) }
            }
        })
    }

    /// Puts `new`, or nothing, in the place of what was looked at; refused if that stands there no more.
    fn replace(&self, key: &[u8], looked: Looked, new: Option<&[u8]>) -> TreeResult<Outcome<Option<Lsn>>> {
        // The guard in `at` lives until the change is made.
        let Looked { cell, at, .. } = looked;
        let leaf = at.as_ref().map_or(PageId::new(0), |at| at.leaf);
        let size = self.env().pool().page_size();
        let Some(new) = new else {
            if cell.is_none() {
                return Ok(Outcome::Done(None));
            }
            return self.remove_cell(key, Swap::new(None).on_condition(cell, leaf, size)?);
        };
        let mut placed = self.place(key, new)?;
        let swap = Swap::new(placed.extents.take()).on_condition(cell, leaf, size)?;
        Ok(match self.put_cell(key, placed.cell(), swap)? {
            Outcome::Done(put) => Outcome::Done(Some(put.lsn)),
            Outcome::Refused => Outcome::Refused,
        })
    }
}
