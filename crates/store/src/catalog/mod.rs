//! Trees by name.
//!
//! Invariant: a tree has an entry from the group that made its root to the group that freed it, so no crash leaks a page of it; and
//! its id is never another's. An entry that is dropping belongs to nobody: its name reads as free, and what is left of its tree is
//! freed, in groups, by whoever comes upon it.
//!
//! ```text
//!   mod.rs         Catalog: find, create, rename, list; one changes it at a time
//!    ├ drops.rs       drop: the intent, then the pages; taken up again after a crash
//!    ├ removals.rs    remove_range: the intent, then the entries; finished by the next opening
//!    ├ open_trees.rs  who uses which tree
//!    └ entry.rs       the bytes
//!
//!               create_listed                  put: dropping              drain ... drain, the last one
//!     no entry ───────────────► live, in use ───────────────► dropping ──────────────────────────────► no entry
//!                                │      ▲       the intent               a crash: goes on where it was
//!                                └──────┘ rename_entry
//! ```
//!
//! The catalog is a tree like any other, with the id 0 and its root at the page behind the default tree's. The next tree id is
//! written down, in a group of its own, before the tree that gets it is made: a crash between the two costs an id. The locks are not
//! latches: they are taken before any, and held across I/O, because all of this is rare.

mod drops;
mod entry;
mod open_trees;
mod removals;

use std::collections::{BTreeMap, BTreeSet};

use pagestone_btree::BTree;
use pagestone_page_format::{Lsn, PageError, PageId, PageResult};
use pagestone_sync::Mutex;
use pagestone_sync::atomic::AtomicU64;

pub use entry::MAX_TREE_NAME;
pub(crate) use removals::{Room, first_removal};

use crate::{StoreError, StoreResult};
use entry::{ENTRY_PREFIX, Entry, HEAD_KEY, Head, REMOVAL_PREFIX, bad, key_of, name_of};
use open_trees::OpenTrees;

/// The catalog's own tree id.
pub(crate) const CATALOG_TREE: u32 = 0;

/// A named tree, as the catalog lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeInfo {
    /// Its name: 1 to [`MAX_TREE_NAME`] bytes, of any kind.
    pub name: Vec<u8>,
    /// Its number, which stands in each of its nodes and is never another tree's.
    pub id: u32,
    /// The page of its root, which it keeps for life (L11).
    pub root: PageId,
}

/// The trees of one open store, by name.
#[derive(Debug)]
pub(crate) struct Catalog {
    list: BTree,
    default: BTree,
    known: Mutex<Known>,
    /// One frees the pages of a dropped tree at a time. Taken before `known`.
    freeing: Mutex<()>,
    /// Drops that were taken up again and failed.
    failed_drops: AtomicU64,
    /// Number of the next removal of a range.
    next_removal: AtomicU64,
}

/// What one who changes the catalog, or hands out a tree, needs beside it.
#[derive(Debug, Default)]
struct Known {
    open: OpenTrees,
    /// Once it was read.
    head: Option<Head>,
    /// The entries that are dropping, once they were looked for.
    dropping: Option<BTreeMap<Vec<u8>, Entry>>,
}

impl Catalog {
    /// Over the tree at `root`, which counts with the default tree. Reads nothing. `generation` is the log's: no removal of an
    /// earlier one has a number of this one.
    pub(crate) fn new(default: &BTree, root: PageId, generation: u64) -> PageResult<Self> {
        Ok(Self {
            list: default.beside(CATALOG_TREE, root)?,
            default: default.clone(),
            known: Mutex::new(Known::default()),
            freeing: Mutex::new(()),
            failed_drops: AtomicU64::new(0),
            next_removal: AtomicU64::new(first_removal(generation)),
        })
    }

    /// The page of the catalog's root.
    pub(crate) fn root_id(&self) -> PageId {
        self.list.root_id()
    }

    /// The tree of this name; with the LSN at which it is durable, if it was made by this call.
    pub(crate) fn tree(&self, name: &[u8]) -> StoreResult<(BTree, Option<Lsn>)> {
        let key = key_of(name)?;
        loop {
            let mut known = self.known.lock();
            match self.find(&mut known, &key)? {
                None => {
                    let (tree, lsn) = self.create(&mut known, &key)?;
                    return Ok((tree, Some(lsn)));
                }
                Some(entry) if !entry.dropping => return Ok((known.open.get(&self.list, entry)?, None)),
                Some(entry) => {
                    drop(known);
                    self.finish_drop(name, entry, &|| false)?;
                }
            }
        }
    }

    /// All trees, by name.
    pub(crate) fn trees(&self) -> StoreResult<Vec<TreeInfo>> {
        let mut known = self.known.lock();
        let head = self.head(&mut known)?;
        let mut trees = Vec::new();
        self.for_each(head, |name, entry| {
            if !entry.dropping {
                trees.push(TreeInfo { name: name.to_vec(), id: entry.tree, root: entry.root });
            }
        })?;
        Ok(trees)
    }

    /// Gives the tree `old` the name `new`; gives the LSN at which that is durable. Handles stay what they are.
    pub(crate) fn rename(&self, old: &[u8], new: &[u8]) -> StoreResult<Lsn> {
        let (from, to) = (key_of(old)?, key_of(new)?);
        loop {
            let mut known = self.known.lock();
            if self.find(&mut known, &from)?.is_none_or(|entry| entry.dropping) {
                return Err(not_found(old));
            }
            match self.find(&mut known, &to)? {
                None => {
                    return self.list.rename_entry(&from, &to)?.ok_or_else(not_in_order);
                }
                Some(entry) if !entry.dropping => return Err(StoreError::TreeExists { name: shown(new) }),
                Some(entry) => {
                    drop(known);
                    self.finish_drop(new, entry, &|| false)?;
                }
            }
        }
    }

    /// The catalog and all trees that it lists, also those that are being dropped, as handles of their own; and what is wrong with it.
    /// Errors are about the handle.
    pub(crate) fn all_trees(&self) -> StoreResult<(Vec<BTree>, Vec<StoreError>)> {
        let mut known = self.known.lock();
        let (mut trees, mut wrong) = (vec![self.list.clone()], Vec::new());
        // An entry is judged by itself if there is no head to judge it by.
        let head = match self.head(&mut known) {
            Ok(head) => head,
            Err(error) => {
                wrong.push(of_the_catalog(error)?);
                Head { next_tree: u32::MAX, ..Head::NEW }
            }
        };
        let mut seen = BTreeSet::new();
        let mut cursor = self.list.cursor();
        let mut listed = cursor.seek(&[ENTRY_PREFIX]);
        while let Ok(()) = listed {
            match cursor.next() {
                Ok(None) => break,
                Ok(Some((key, value))) if key.starts_with(&[REMOVAL_PREFIX]) => {
                    wrong.extend(removals::check(key, value).err());
                }
                Ok(Some((key, value))) => match name_of(key).and_then(|_| Entry::decode(value, head)) {
                    Ok(entry) if seen.insert(entry.tree) => {
                        trees.push(self.list.beside(entry.tree, entry.root)?)
                    }
                    Ok(entry) => wrong.push(bad("names of one tree id", 1, entry.tree.into())),
                    Err(error) => wrong.push(of_the_catalog(error)?),
                },
                Err(error) => listed = Err(error),
            }
        }
        if let Err(error) = listed {
            wrong.push(of_the_catalog(error.into())?);
        }
        Ok((trees, wrong))
    }

    /// The catalog and all trees that it lists but those that are being dropped: clones of what their users have.
    pub(crate) fn kept_trees(&self) -> StoreResult<Vec<BTree>> {
        let mut known = self.known.lock();
        let head = self.head(&mut known)?;
        let mut entries = Vec::new();
        self.for_each(head, |_, entry| entries.push(entry))?;
        let mut trees = vec![self.list.clone()];
        for entry in entries.into_iter().filter(|entry| !entry.dropping) {
            trees.push(known.open.get(&self.list, entry)?);
        }
        Ok(trees)
    }

    fn create(&self, known: &mut Known, key: &[u8]) -> StoreResult<(BTree, Lsn)> {
        let head = self.head(known)?;
        let tree = head.next_tree;
        let next_tree =
            tree.checked_add(1).ok_or_else(|| bad("a next tree id, below", u32::MAX.into(), tree.into()))?;
        self.put_head(known, Head { next_tree, ..head })?;
        let entry = |root| Entry { dropping: false, tree, root }.encode();
        let (tree, lsn) = self.list.create_listed(key, tree, entry)?.ok_or_else(not_in_order)?;
        known.open.add(&tree);
        Ok((tree, lsn))
    }

    fn find(&self, known: &mut Known, key: &[u8]) -> StoreResult<Option<Entry>> {
        let head = self.head(known)?;
        self.list.get(key)?.map(|value| Entry::decode(&value, head)).transpose()
    }

    fn for_each(&self, head: Head, mut visit: impl FnMut(&[u8], Entry)) -> StoreResult<()> {
        let mut cursor = self.list.cursor();
        cursor.seek(&[ENTRY_PREFIX])?;
        while let Some((key, value)) = cursor.next()? {
            if !key.starts_with(&[REMOVAL_PREFIX]) {
                visit(name_of(key)?, Entry::decode(value, head)?);
            }
        }
        Ok(())
    }

    fn head(&self, known: &mut Known) -> StoreResult<Head> {
        if let Some(head) = known.head {
            return Ok(head);
        }
        let head = self.list.get(HEAD_KEY)?.map_or(Ok(Head::NEW), |value| Head::decode(&value))?;
        if !head.drops {
            known.dropping = Some(BTreeMap::new());
        }
        Ok(*known.head.insert(head))
    }

    fn put_head(&self, known: &mut Known, head: Head) -> StoreResult<()> {
        self.list.put(HEAD_KEY, &head.encode())?;
        known.head = Some(head);
        Ok(())
    }
}

/// An error that says something about the catalog's bytes; one about the handle is an error.
fn of_the_catalog(error: StoreError) -> StoreResult<StoreError> {
    match error {
        StoreError::Closed
        | StoreError::Page(PageError::Poisoned { .. } | PageError::BufferPoolExhausted { .. }) => Err(error),
        error => Ok(error),
    }
}

/// Only the holder of the lock gives and takes names. So one that was not there and now is, or the other way round, is found by a
/// search through keys out of order, which other entries have moved.
fn not_in_order() -> StoreError {
    bad("keys in order, entries of one name", 1, 2)
}

fn not_found(name: &[u8]) -> StoreError {
    StoreError::TreeNotFound { name: shown(name) }
}

fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}
