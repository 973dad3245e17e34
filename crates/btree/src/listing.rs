//! Trees that list trees: an entry comes and changes its key in one group with what it names.
//!
//! Invariant: an entry names the root of a tree that is there, and a root that an entry named at its birth never stands without
//! one; no crash comes between the two, so none leaks a page.
//!
//! ```text
//!   create_listed   [ FormatNode root' ] [ the entry's put, with the splits it causes ] [ map pages ]   one group
//!   rename_entry    [ RemoveCell old   ] [ the entry's put, with the splits it causes ] [ map pages ]   one group
//! ```
//!
//! The two leaves of a rename stand in either order, or are one; so they are only ever tried, each at the version at which it was
//! looked at, and never waited for while the other is held.

use pagestone_buffer_pool::ExclusivePage;
use pagestone_mini_txn::Reserve;
use pagestone_page_format::{Lsn, PageId};

use crate::believe::rehearse;
use crate::descend::{Hold, Node, Seek};
use crate::error::{Interrupt, TreeError};
use crate::node::{FormatNode, RemoveCell};
use crate::retry::optimistically;
use crate::split::{Cause, bug, check_chain, view};
use crate::write::NewCell;
use crate::{BTree, TreeResult};

/// Log bytes of an empty root, and of one cell operation beside its key.
const FRAMING: usize = 128;

/// What a rename has latched.
struct Latched<'t> {
    /// For the put of the new key, top down; the last one is its leaf.
    chain: Vec<ExclusivePage<'t>>,
    /// The leaf of the old key, if it is another one.
    from: Option<ExclusivePage<'t>>,
}

/// What a rename found.
enum Found<'t> {
    Both(Latched<'t>),
    /// There is no old key, or there is the new one.
    Nothing,
    /// Not what was reserved for.
    Changed,
}

impl BTree {
    /// Makes an empty tree with the number `tree_id` and, in the same group, puts `key` into this tree, with what `entry` says of the
    /// new root. Gives the tree and the LSN at which all of that is durable; nothing, with nothing changed, if the key is there.
    ///
    /// Errors, with nothing changed: as [`BTree::put`].
    pub fn create_listed<const N: usize>(
        &self,
        key: &[u8],
        tree_id: u32,
        entry: impl FnOnce(PageId) -> [u8; N],
    ) -> TreeResult<Option<(BTree, Lsn)>> {
        self.check_inline(key, &[0; N])?;
        let more = Reserve { log_bytes: FRAMING, new_pages: 1, ..Reserve::default() };
        let (mut txn, chain) = self.latch_chain(Cause::Put { key, value_len: N }, more)?;
        let leaf = *chain.last().expect("a chain ends with its leaf");
        if view(&txn, leaf).find(key).map_err(bug(&txn, leaf))?.is_some() {
            return Ok(None);
        }
        let root = txn.allocate()?;
        let root_id = txn.id(root);
        txn.change(root, &FormatNode::empty_leaf(tree_id))?;
        self.split_and_put(&mut txn, chain, key, NewCell::inline(&entry(root_id)))?;
        let lsn = txn.commit()?.lsn;
        Ok(Some((self.beside(tree_id, root_id)?, lsn)))
    }

    /// Gives the entry of `old` the key `new`, in one group. Gives the LSN at which that is durable; nothing, with nothing changed,
    /// if there is no `old`, or there is `new`.
    ///
    /// Errors, with nothing changed: as [`BTree::put`], and `WrongNode` for an entry that is more than bytes in its leaf.
    pub fn rename_entry(&self, old: &[u8], new: &[u8]) -> TreeResult<Option<Lsn>> {
        loop {
            let Some(value) = self.get(old)? else { return Ok(None) };
            self.check_inline(new, &value)?;
            let levels = self.chain_len(Cause::Put { key: new, value_len: value.len() })?;
            let more = Reserve { log_bytes: old.len() + FRAMING, pins: 1, ..Reserve::default() };
            let mut txn = self.env().begin(self.reserve_for_split(levels, more))?;
            let found = optimistically(self.env(), |_| self.latch_both(old, new, &value, levels))?;
            let latched = match found {
                Found::Both(latched) => latched,
                Found::Nothing => return Ok(None),
                Found::Changed => continue,
            };
            let mut chain: Vec<_> = latched.chain.into_iter().map(|page| txn.latch(page)).collect();
            let leaf = *chain.last().expect("a chain ends with its leaf");
            let from = latched.from.map_or(leaf, |page| txn.latch(page));
            check_chain(&txn, &chain, Cause::Put { key: new, value_len: value.len() })?;
            rehearse(&txn, from, [RemoveCell { key: old }])?;
            txn.change(from, &RemoveCell { key: old })?;
            if view(&txn, leaf).has_room_for(new, value.len()).map_err(bug(&txn, leaf))? {
                chain = vec![leaf]; // what went may have made the room
            }
            self.split_and_put(&mut txn, chain, new, NewCell::inline(&value))?;
            let lsn = txn.commit()?.lsn;
            self.merge_around(old)?; // as after a removal
            return Ok(Some(lsn));
        }
    }

    fn latch_both<'t>(
        &'t self,
        old: &[u8],
        new: &[u8],
        value: &[u8],
        levels: usize,
    ) -> Result<Found<'t>, Interrupt> {
        let chain = self.find_chain(Hold::Optimistic, Cause::Put { key: new, value_len: value.len() })?;
        let leaf = chain.last().expect("a chain ends with its leaf");
        let from = self.descend(Hold::Optimistic, Seek::Key(old), |_, _| Ok(()))?;
        let is_new = leaf.believe(leaf.view().find(new))?.is_some();
        let found = from.believe(from.view().find(old))?;
        let same = match found {
            Some(slot) => has_value(&from, slot, value)?,
            None => false,
        };
        // Valid after both were sampled: so two samples of one leaf are of one version.
        leaf.validate()?;
        from.validate()?;
        if is_new || found.is_none() {
            return Ok(Found::Nothing);
        }
        if !same || chain.len() > levels {
            return Ok(Found::Changed);
        }
        let from = (from.id() != leaf.id()).then_some(from);
        let chain = chain.into_iter().map(|node| node.into_exclusive()).collect::<Result<_, _>>()?;
        let from = from.map(|node| node.into_exclusive()).transpose()?;
        Ok(Found::Both(Latched { chain, from }))
    }
}

/// Whether an entry's value is this, and nothing but bytes in its leaf.
fn has_value(leaf: &Node<'_>, slot: usize, value: &[u8]) -> Result<bool, Interrupt> {
    let flags = leaf.believe(leaf.view().cell(slot))?.flags;
    if flags != 0 {
        return Err(leaf.refuse(TreeError::WrongNode {
            page_id: leaf.id(),
            reason: "an entry of a list of trees with flags",
            expected: 0,
            found: flags.into(),
        }));
    }
    let mut found = Vec::new();
    leaf.believe(leaf.view().append_value(slot, &mut found))?;
    Ok(found == value)
}
