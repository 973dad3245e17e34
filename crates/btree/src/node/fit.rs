//! What fits a node, and with which prefix.
//!
//! Invariant (N4): the operations ask the same functions before they change anything, so a yes given under a latch holds as
//! long as the latch does. A tight node keeps room for an upper fence as long as its prefix: for the separator of the split
//! that a key without the prefix causes.

use pagestone_page_format::slotted::SlottedPage;
use pagestone_page_format::{OutOfBounds, PageSize, SpeculativePage};

use super::header::{BASE, NodeHeader, form};
use super::limits::max_key_len;
use super::view::NodeView;

/// Tenths of its page under which a node should be merged away.
const SPARSE_TENTHS: usize = 4;
/// Twentieths of its page that a merged node fills at most.
const MERGED_TWENTIETHS: usize = 17;

/// The sizes of a node that is, or might be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) page_len: usize,
    pub(super) leaf: bool,
    pub(super) slots: usize,
    /// Keys, whole, and values.
    pub(super) whole_bytes: usize,
    pub(super) lower_len: usize,
    pub(super) upper_len: usize,
}

impl Sizes {
    /// Whether it fits its page when `prefix_len` bytes are cut from each key, which is tight or not.
    pub(super) fn fit(&self, prefix_len: usize, tight: bool) -> bool {
        self.bytes_if_fit(prefix_len, tight).is_some()
    }

    /// Bytes of the page that it takes then, if it fits.
    fn bytes_if_fit(&self, prefix_len: usize, tight: bool) -> Option<usize> {
        let bytes = self.whole_bytes.checked_sub(self.slots * prefix_len)?;
        let upper = if tight { self.upper_len.max(prefix_len) } else { self.upper_len };
        let area = SlottedPage::bytes_taken(self.slots, bytes, form(self.leaf, self.page_len));
        let all = BASE + area + self.lower_len + upper;
        (all <= self.page_len).then_some(all)
    }

    /// With one more entry.
    fn and(self, key_len: usize, value_len: usize) -> Self {
        Self { slots: self.slots + 1, whole_bytes: self.whole_bytes + key_len + value_len, ..self }
    }
}

/// How many bytes two byte strings share at their beginning.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn common_prefix_in(
    page: SpeculativePage<'_>,
    (a, a_len): (usize, usize),
    (b, b_len): (usize, usize),
) -> Result<usize, OutOfBounds> {
    let len = a_len.min(b_len);
    let mut done = 0;
    while done < len {
        let step = (len - done).min(8);
        let differ = page.window(a + done, step)? ^ page.window(b + done, step)?;
        if differ != 0 {
            return Ok(done + differ.trailing_zeros() as usize / 8);
        }
        done += step;
    }
    Ok(len)
}

impl NodeView<'_> {
    pub(super) fn sizes(&self) -> Result<Sizes, OutOfBounds> {
        let header = self.header()?;
        let (area, slots) = (self.area(), self.count()?);
        Ok(Sizes {
            page_len: self.page().len(),
            leaf: header.level == 0,
            slots,
            whole_bytes: area.live_bytes()? + slots * header.prefix_len,
            lower_len: header.lower_len,
            upper_len: header.upper_len,
        })
    }

    /// What the fences share: the prefix of a node that is not tight.
    pub(super) fn fences_share(&self, header: &NodeHeader) -> Result<usize, OutOfBounds> {
        if !header.tight {
            return Ok(header.prefix_len);
        }
        let len = self.page().len();
        let lower = (header.lower_at(len), header.lower_len);
        common_prefix_in(self.page(), lower, (header.upper_at(len), header.upper_len))
    }

    /// What the lower fence, the cells and this key share.
    fn all_share(&self, header: &NodeHeader, key: Option<&[u8]>) -> Result<usize, OutOfBounds> {
        let mut lower = Vec::new();
        self.lower_fence(&mut lower)?;
        let with_key = key.map_or(lower.len(), |key| common_prefix(&lower, key));
        let with_cells = match self.count()?.checked_sub(1) {
            None => lower.len(),
            // Keys are sorted: what the first bound and the last key share, all share.
            Some(last) => {
                let cell = self.cell(last)?;
                let at = header.lower_at(self.page().len()) + header.prefix_len;
                let rest = (at, header.lower_len - header.prefix_len);
                header.prefix_len + common_prefix_in(self.page(), rest, (cell.offset, cell.key_len))?
            }
        };
        Ok(with_key.min(with_cells))
    }

    /// The prefix with which the node has room for one more entry. Its own if that will do; then what the fences share;
    /// then all that the keys share.
    pub(super) fn prefix_to_hold(&self, key: &[u8], value_len: usize) -> Result<Option<usize>, OutOfBounds> {
        let header = self.header()?;
        let sizes = self.sizes()?.and(key.len(), value_len);
        let shares = self.shares_prefix(key)?;
        if shares && sizes.fit(header.prefix_len, header.tight) {
            return Ok(Some(header.prefix_len));
        }
        self.other_prefix(&header, &sizes, Some(key))
    }

    /// The prefix with which the node has room for another value in a slot.
    pub(super) fn prefix_to_update(
        &self,
        slot: usize,
        value_len: usize,
    ) -> Result<Option<usize>, OutOfBounds> {
        let header = self.header()?;
        let cell = self.cell(slot)?;
        if value_len <= cell.value_len {
            return Ok(Some(header.prefix_len));
        }
        let mut sizes = self.sizes()?;
        sizes.whole_bytes += value_len - cell.value_len;
        if sizes.fit(header.prefix_len, header.tight) {
            return Ok(Some(header.prefix_len));
        }
        self.other_prefix(&header, &sizes, None)
    }

    #[cold]
    fn other_prefix(
        &self,
        header: &NodeHeader,
        sizes: &Sizes,
        key: Option<&[u8]>,
    ) -> Result<Option<usize>, OutOfBounds> {
        let fences = self.fences_share(header)?;
        if sizes.fit(fences, false) {
            return Ok(Some(fences));
        }
        let all = self.all_share(header, key)?;
        Ok((all > fences && sizes.fit(all, true)).then_some(all))
    }

    /// Whether an insert of this key, which is not here, with a value of this length succeeds.
    pub(crate) fn can_hold(&self, key: &[u8], value_len: usize) -> Result<bool, OutOfBounds> {
        Ok(self.prefix_to_hold(key, value_len)?.is_some())
    }

    /// Whether this leaf is sure to take these entries, keys and lengths of values, one after the other, whichever of them are here:
    /// all begin with its prefix, and it would hold them beside what it has. If not, it may take them all the same.
    pub(crate) fn is_sure_to_take<'k>(
        &self,
        puts: impl Iterator<Item = (&'k [u8], usize)>,
    ) -> Result<bool, OutOfBounds> {
        let header = self.header()?;
        let mut sizes = self.sizes()?;
        for (key, value_len) in puts {
            if !self.shares_prefix(key)? {
                return Ok(false);
            }
            sizes = sizes.and(key.len(), value_len);
        }
        Ok(sizes.fit(header.prefix_len, header.tight))
    }

    /// Whether an update of a slot to a value of this length succeeds.
    pub(crate) fn can_update(&self, slot: usize, value_len: usize) -> Result<bool, OutOfBounds> {
        self.area().live_bytes()?; // a header that contradicts itself is told here, before anything is changed
        Ok(self.prefix_to_update(slot, value_len)?.is_some())
    }

    /// Whether a put of this key and a value of this length succeeds in a leaf; whether an inner node has room for the
    /// separator of a split below the child that covers this key, whatever that separator is.
    pub(crate) fn has_room_for(&self, key: &[u8], value_len: usize) -> Result<bool, OutOfBounds> {
        if self.level()? == 0 {
            return match self.find(key)? {
                Some(slot) => self.can_update(slot, value_len),
                None => self.can_hold(key, value_len),
            };
        }
        let (index, _) = self.child_for(key)?;
        self.safe_for_separator(index)
    }

    /// Whether an inner node has room for any separator of a split of child `index`.
    pub(crate) fn safe_for_separator(&self, index: usize) -> Result<bool, OutOfBounds> {
        let header = self.header()?;
        let Ok(page_size) = PageSize::new(self.page().len()) else { return Err(OutOfBounds) };
        let sizes = self.sizes()?.and(max_key_len(page_size), 0);
        let fences = self.fences_share(&header)?;
        if sizes.fit(fences, false) {
            return Ok(true);
        }
        // Between two separators, or the lower fence and the first, a new one begins as they do; the node becomes tight for it.
        let all = if header.tight { header.prefix_len } else { self.all_share(&header, None)? };
        Ok(index < self.count()? && all > fences && sizes.fit(all, true))
    }

    /// Bytes of the page that this node takes once it has all that its right sibling has, an inner node with the fence between
    /// them as a separator; nothing if it cannot absorb that. The prefix is chosen as [`super::content`] chooses it.
    pub(crate) fn bytes_with(&self, right: &NodeView<'_>) -> Result<Option<usize>, OutOfBounds> {
        let (mine, theirs) = (self.sizes()?, right.sizes()?);
        let separator = if mine.leaf { 0 } else { mine.upper_len };
        let sizes = Sizes {
            slots: mine.slots + theirs.slots + usize::from(!mine.leaf),
            whole_bytes: mine.whole_bytes + theirs.whole_bytes + separator,
            upper_len: theirs.upper_len,
            ..mine
        };
        if mine.leaf != theirs.leaf {
            return Ok(None);
        }
        let (mut lower, mut upper, mut last) = (Vec::new(), Vec::new(), Vec::new());
        self.lower_fence(&mut lower)?;
        right.upper_fence(&mut upper)?;
        let fences = common_prefix(&lower, &upper);
        if let Some(bytes) = sizes.bytes_if_fit(fences, false) {
            return Ok(Some(bytes));
        }
        match (theirs.slots.checked_sub(1), mine.slots.checked_sub(1)) {
            (Some(slot), _) => right.append_key(slot, &mut last)?,
            (None, _) if !mine.leaf => drop(self.upper_fence(&mut last)?),
            (None, Some(slot)) => self.append_key(slot, &mut last)?,
            (None, None) => last.clone_from(&lower),
        }
        let all = common_prefix(&lower, &last);
        Ok(if all > fences { sizes.bytes_if_fit(all, true) } else { None })
    }

    /// Bytes of the page that are in use, headers and fences among them: what a merge is decided by.
    pub(crate) fn used_bytes(&self) -> Result<usize, OutOfBounds> {
        Ok(self.page().len() - self.area().free_space_after_compaction()?)
    }

    /// How many bytes of keys and values so many bytes of the page hold, if all of its cells are alike.
    pub(crate) fn whole_bytes_in(&self, bytes: usize) -> Result<usize, OutOfBounds> {
        let sizes = self.sizes()?;
        let stored = self.used_bytes()?.max(1);
        Ok(bytes.saturating_mul(sizes.whole_bytes) / stored)
    }

    /// Bytes of keys that are not stored, for the prefix that they share.
    pub(crate) fn prefix_bytes_saved(&self) -> Result<usize, OutOfBounds> {
        Ok(self.header()?.prefix_len * self.count()?)
    }

    /// Whether it is so empty that it should be merged away: less than 40 % of its page in use, or no cells.
    pub(crate) fn is_sparse(&self) -> Result<bool, OutOfBounds> {
        Ok(self.count()? == 0 || self.used_tenths(0)? < SPARSE_TENTHS)
    }

    /// Whether taking this entry out of a leaf makes it worth a look whether it can be merged: it falls under 40 % or, later,
    /// under another tenth, as its siblings may have become emptier too; or it becomes empty. A root has no sibling.
    pub(crate) fn removal_asks_for_merge(&self, slot: usize) -> Result<bool, OutOfBounds> {
        let header = self.header()?;
        if header.upper_infinite && header.lower_len == 0 {
            return Ok(false);
        }
        let cell = self.cell(slot)?;
        let after = self.used_tenths(cell.key_len + cell.value_len)?;
        let falls = after < SPARSE_TENTHS && after < self.used_tenths(0)?;
        Ok(falls || self.count()? == 1)
    }

    /// Tenths of the page that are in use, rounded down, with some bytes fewer than there are.
    fn used_tenths(&self, less: usize) -> Result<usize, OutOfBounds> {
        Ok(self.used_bytes()?.saturating_sub(less) * 10 / self.page().len())
    }

    /// Whether this node should absorb its right sibling: one of them is sparse, and the two leave room for inserts to come, lest
    /// a split undo it at once. A node without cells goes whatever the other one holds.
    pub(crate) fn should_absorb(&self, right: &NodeView<'_>) -> Result<bool, OutOfBounds> {
        if !(self.is_sparse()? || right.is_sparse()?) {
            return Ok(false);
        }
        let empty = self.count()? == 0 || right.count()? == 0;
        let most = if empty { self.page().len() } else { self.page().len() / 20 * MERGED_TWENTIETHS };
        Ok(self.bytes_with(right)?.is_some_and(|bytes| bytes <= most))
    }
}
