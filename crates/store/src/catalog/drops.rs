//! A tree is dropped: the intent, one group, then its pages, in as many groups as they need.
//!
//! Invariant: with the intent's group the name is free and every handle of the tree says that it was dropped; what follows can be cut
//! anywhere and taken up again. While any entry is dropping, the head says that some may be: so an opening that finds it unset need
//! not look, and one that finds it set looks through the catalog once.
//!
//! ```text
//!   head: drops │ entry: dropping │ drain │ drain │ ... │ drain, with the root and the entry │ head: no drops
//!               └── the intent                                                               └── if there are no others
//! ```
//!
//! The intent changes bytes in place: it needs no page, so that a tree can be dropped when the disk is full.

use std::collections::BTreeMap;

use pagestone_page_format::Lsn;
use pagestone_sync::atomic::Ordering;

use super::entry::{Entry, Head, key_of};
use super::{Catalog, Known, not_found};
use crate::StoreResult;

impl Catalog {
    /// Drops the tree of this name, or finishes a drop of it that failed; gives the LSN at which that is durable, nothing if somebody
    /// else finished it.
    pub(crate) fn drop_tree(&self, name: &[u8]) -> StoreResult<Option<Lsn>> {
        let key = key_of(name)?;
        let mut known = self.known.lock();
        let entry = self.find(&mut known, &key)?.ok_or_else(|| not_found(name))?;
        let gone = Entry { dropping: true, ..entry };
        if !entry.dropping {
            let head = self.head(&mut known)?;
            if !head.drops {
                self.put_head(&mut known, Head { drops: true, ..head })?;
            }
            self.list.put(&key, &gone.encode())?;
            known.open.mark_dropped(entry.tree);
            if let Some(dropping) = &mut known.dropping {
                dropping.insert(name.to_vec(), gone);
            }
        }
        drop(known);
        self.finish_drop(name, gone, &|| false)
    }

    /// Frees what is left of a tree whose entry is dropping. Gives the LSN at which that is durable; nothing if somebody else
    /// finished it, or `stop` said so between two groups.
    pub(super) fn finish_drop(
        &self,
        name: &[u8],
        entry: Entry,
        stop: &dyn Fn() -> bool,
    ) -> StoreResult<Option<Lsn>> {
        let key = key_of(name)?;
        let _one = self.freeing.lock();
        // Only who holds that lock changes an entry that is dropping.
        if self.find(&mut self.known.lock(), &key)? != Some(entry) {
            return Ok(None);
        }
        // A handle of its own: the tree's users are told that it was dropped.
        let tree = self.list.beside(entry.tree, entry.root)?;
        while !stop() {
            let drained = tree.drain(&self.list, &key)?;
            if drained.done {
                self.settle(&mut self.known.lock(), name)?;
                return Ok(Some(drained.lsn));
            }
        }
        Ok(None)
    }

    /// Finishes the drops that were interrupted, by a crash or by an error, until `stop` says so. One that fails keeps the others from
    /// nothing; the first error is given at the end. It costs next to nothing if there are none.
    pub(crate) fn resume_drops(&self, stop: &dyn Fn() -> bool) -> StoreResult<()> {
        let count = |_: &_| {
            self.failed_drops.fetch_add(1, Ordering::Relaxed);
        };
        let dropping = self.dropping(&mut self.known.lock()).inspect_err(count)?;
        let mut outcome = Ok(());
        for (name, entry) in dropping {
            outcome = outcome.and(self.finish_drop(&name, entry, stop).inspect_err(count).map(drop));
        }
        outcome
    }

    /// Entries that are dropping; none before it was looked for them.
    pub(crate) fn unfinished_drops(&self) -> Option<u64> {
        self.known.lock().dropping.as_ref().map(|dropping| dropping.len() as u64)
    }

    /// How often a drop was taken up again and failed, since the store was opened.
    pub(crate) fn failed_drops(&self) -> u64 {
        self.failed_drops.load(Ordering::Relaxed)
    }

    /// The entries that are dropping.
    fn dropping(&self, known: &mut Known) -> StoreResult<BTreeMap<Vec<u8>, Entry>> {
        let head = self.head(known)?;
        if let Some(dropping) = &known.dropping {
            return Ok(dropping.clone());
        }
        let mut dropping = BTreeMap::new();
        self.for_each(head, |name, entry| {
            if entry.dropping {
                dropping.insert(name.to_vec(), entry);
            }
        })?;
        if dropping.is_empty() {
            self.put_head(known, Head { drops: false, ..head })?; // the crash came between the last drop's end and this
        }
        known.dropping = Some(dropping.clone());
        Ok(dropping)
    }

    /// A drop is finished.
    fn settle(&self, known: &mut Known, name: &[u8]) -> StoreResult<()> {
        let head = self.head(known)?;
        let Some(dropping) = &mut known.dropping else { return Ok(()) };
        dropping.remove(name);
        if dropping.is_empty() && head.drops {
            self.put_head(known, Head { drops: false, ..head })?;
        }
        Ok(())
    }
}
