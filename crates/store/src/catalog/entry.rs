//! The bytes of the catalog.
//!
//! Invariant: what does not decode to exactly what some version of this code wrote is an error (E4), and is told before anything is
//! done with it.
//!
//! ```text
//!   key                      value, little-endian
//!   00                       format 1 (8) │ drops (8) │ next tree id (32)                    the head
//!   01, then the name        format 1 (8) │ state (8) │ tree id (32) │ page id of root (64)  an entry
//!   02, then tree id (32), number (64), part (8)    a removal of a range that is under way: `removals.rs`
//!
//!   drops   0 no entry is dropping    1 some may be
//!   state   0 live                    1 dropping
//! ```

use pagestone_btree::TREE_BASE_ID;
use pagestone_page_format::PageId;
use pagestone_swip::MAX_SWIP_PAGE;

use crate::create::CATALOG_ROOT;
use crate::{StoreError, StoreResult};

/// The longest name of a tree, in bytes; the shortest has one.
pub const MAX_TREE_NAME: usize = 200;

/// The key of the head.
pub(super) const HEAD_KEY: &[u8] = &[0];
/// What the keys of entries begin with.
pub(super) const ENTRY_PREFIX: u8 = 1;
/// What the keys of removals begin with.
pub(super) const REMOVAL_PREFIX: u8 = 2;
const FORMAT: u8 = 1;
/// The first id behind those of the catalog and the default tree.
const FIRST_TREE: u32 = TREE_BASE_ID + 1;

/// The one record about all trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Whether some entry may be dropping: at an opening, whether it is worth looking for such.
    pub(super) drops: bool,
    /// Greater than the id of every tree that ever was.
    pub(super) next_tree: u32,
}

impl Head {
    /// Of a catalog that no tree was ever put into.
    pub(super) const NEW: Self = Self { drops: false, next_tree: FIRST_TREE };

    pub(super) fn encode(self) -> [u8; 6] {
        let mut bytes = [FORMAT, self.drops.into(), 0, 0, 0, 0];
        bytes[2..].copy_from_slice(&self.next_tree.to_le_bytes());
        bytes
    }

    pub(super) fn decode(value: &[u8]) -> StoreResult<Self> {
        let Ok([format, drops, next_tree @ ..]) = <[u8; 6]>::try_from(value) else {
            return Err(bad("bytes of the head", 6, value.len() as u64));
        };
        check_format(format)?;
        let next_tree = u32::from_le_bytes(next_tree);
        if next_tree < FIRST_TREE {
            return Err(bad("next tree id, at least", FIRST_TREE.into(), next_tree.into()));
        }
        Ok(Self { drops: flag("drops, at most", drops)?, next_tree })
    }
}

/// One tree by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The name is nobody's any more; some of the tree's pages may be free already.
    pub(super) dropping: bool,
    pub(super) tree: u32,
    pub(super) root: PageId,
}

impl Entry {
    pub(super) fn encode(self) -> [u8; 14] {
        let mut bytes = [0; 14];
        bytes[0] = FORMAT;
        bytes[1] = self.dropping.into();
        bytes[2..6].copy_from_slice(&self.tree.to_le_bytes());
        bytes[6..].copy_from_slice(&self.root.get().to_le_bytes());
        bytes
    }

    /// Of a catalog whose head is `head`.
    pub(super) fn decode(value: &[u8], head: Head) -> StoreResult<Self> {
        let Ok([format, dropping, t0, t1, t2, t3, root @ ..]) = <[u8; 14]>::try_from(value) else {
            return Err(bad("bytes of an entry", 14, value.len() as u64));
        };
        check_format(format)?;
        let dropping = flag("state, at most", dropping)?;
        let tree = u32::from_le_bytes([t0, t1, t2, t3]);
        let root = PageId::new(u64::from_le_bytes(root));
        if tree < FIRST_TREE || tree >= head.next_tree {
            return Err(bad("tree id of an entry, below", head.next_tree.into(), tree.into()));
        }
        if root <= CATALOG_ROOT || root > MAX_SWIP_PAGE {
            return Err(bad("page id of a root, at most", MAX_SWIP_PAGE.get(), root.get()));
        }
        Ok(Self { dropping, tree, root })
    }
}

/// The key of a name; refuses one that no tree can have.
pub(super) fn key_of(name: &[u8]) -> StoreResult<Vec<u8>> {
    if name.is_empty() || name.len() > MAX_TREE_NAME {
        return Err(StoreError::TreeName { len: name.len(), max: MAX_TREE_NAME });
    }
    Ok([&[ENTRY_PREFIX], name].concat())
}

/// The name of an entry's key.
pub(super) fn name_of(key: &[u8]) -> StoreResult<&[u8]> {
    match key {
        [ENTRY_PREFIX, name @ ..] if !name.is_empty() && name.len() <= MAX_TREE_NAME => Ok(name),
        [ENTRY_PREFIX, name @ ..] => {
            Err(bad("bytes of a name, 1 to", MAX_TREE_NAME as u64, name.len() as u64))
        }
        _ => Err(bad("first byte of a key", ENTRY_PREFIX.into(), key.first().copied().unwrap_or(0).into())),
    }
}

fn check_format(format: u8) -> StoreResult<()> {
    if format == FORMAT { Ok(()) } else { Err(bad("format", FORMAT.into(), format.into())) }
}

fn flag(reason: &'static str, byte: u8) -> StoreResult<bool> {
    if byte > 1 { Err(bad(reason, 1, byte.into())) } else { Ok(byte == 1) }
}

pub(super) fn bad(reason: &'static str, expected: u64, found: u64) -> StoreError {
    StoreError::BadCatalog { reason, expected, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_encoding_and_others_are_refused() {
        let head = Head { drops: true, next_tree: 7 };
        assert_eq!(Head::decode(&head.encode()).expect("a head"), head);
        let entry = Entry { dropping: true, tree: 6, root: PageId::new(77) };
        assert_eq!(Entry::decode(&entry.encode(), head).expect("an entry"), entry);
        for len in (0..20).filter(|len| *len != 6) {
            Head::decode(&vec![1; len]).expect_err("a head of another length");
        }
        for len in (0..20).filter(|len| *len != 14) {
            Entry::decode(&vec![1; len], head).expect_err("an entry of another length");
        }
        let (mut format, mut flag) = (head.encode(), head.encode());
        (format[0], flag[1]) = (2, 2);
        Head::decode(&format).expect_err("another format");
        Head::decode(&flag).expect_err("no flag");
        Head::decode(&Head { next_tree: 1, ..head }.encode()).expect_err("the default tree's id");
        for (tree, root) in [(0, 77), (1, 77), (7, 77), (u32::MAX, 77), (6, 0), (6, 1), (6, 2), (6, u64::MAX)]
        {
            let entry = Entry { tree, root: PageId::new(root), ..entry };
            Entry::decode(&entry.encode(), head).expect_err("an id that no named tree has");
        }
    }

    #[test]
    fn names_have_1_to_200_bytes_of_any_kind() {
        for len in [1, MAX_TREE_NAME] {
            let name = vec![0xff; len];
            assert_eq!(name_of(&key_of(&name).expect("a name")).expect("a key"), name);
        }
        for len in [0, MAX_TREE_NAME + 1] {
            key_of(&vec![0; len]).expect_err("no name");
            name_of(&vec![ENTRY_PREFIX; len + 1]).expect_err("no key");
        }
        name_of(&[]).expect_err("no key");
        name_of(&[2, 2]).expect_err("no key of an entry");
    }
}
