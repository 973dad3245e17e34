//! Values in extents are written again further down in the file.
//!
//! Invariant: as for a put of a long value: the bytes are durable before the group that refers to them (L12), which frees the old ones, and
//! is refused unless the cell still refers to those. So whoever changes the value meanwhile wins.

use pagestone_page_format::{PageError, PageId};

use crate::descend::Seek;
use crate::error::malformed;
use crate::overflow::{
    Cell, MAX_RUNS, OVERFLOW, Reference, Source, Swap, ValueReader, references, write_value_to,
};
use crate::read::Found;
use crate::retry::optimistically;
use crate::write::{NewCell, Outcome};
use crate::{BTree, TreeResult};

/// What one step of [`BTree::move_value`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ValueMoved {
    /// Where to go on; nothing at the end of the tree.
    pub next: Option<Vec<u8>>,
    /// Pages of the value that was moved; 0 if none was.
    pub pages: u64,
    /// A value was to move, and the free ids below the end are too few, or in too many pieces.
    pub full: bool,
    /// Leaves that were passed.
    pub looked: u64,
}

/// What a look at a leaf found.
enum Look {
    /// A value that is to move.
    Key(Vec<u8>),
    GoOn(Option<Vec<u8>>),
}

impl BTree {
    /// One step of moving long values that have pages whose ids are not below `end` to free ids that are: the first of them in the leaf of
    /// `from`, at or behind it, or on to the next leaf. Only ids are taken that the allocator knows as free for extents (L8), so that the
    /// file never grows by it. The value comes into as many runs as it had, or fewer; or, `in_pieces`, into as many as a value may have.
    /// To be called again with what it gives, from the
    /// empty key on.
    ///
    /// Errors: those of reading the value, of writing it, and of beginning a mini-transaction. The value is then where it was.
    pub fn move_value(&self, from: &[u8], end: PageId, in_pieces: bool) -> TreeResult<ValueMoved> {
        let key = match self.look_for_value(from, end)? {
            Look::Key(key) => key,
            Look::GoOn(next) => return Ok(ValueMoved { next, looked: 1, ..ValueMoved::default() }),
        };
        // The least key behind it.
        let next = Some([&key[..], &[0]].concat());
        let unmoved = ValueMoved { next, ..ValueMoved::default() };
        let (env, mut bytes) = (self.env(), Vec::new());
        let Found::Reference(at) = self.look_up(&key, &mut bytes)? else { return Ok(unmoved) };
        let size = env.pool().page_size();
        let reference = Reference::decode(&bytes, size);
        let leaf = at.leaf;
        let old = reference.map_err(|reason| PageError::Malformed { page_id: leaf, reason })?;
        let pages = Reference::pages_for(old.len, size);
        let pieces = if in_pieces { pages.min(MAX_RUNS as u64) as usize } else { 0 };
        let runs = old.runs.len().max(pieces);
        let Some(extents) = env.allocator().reserve_extents_below(pages, runs, end) else {
            return Ok(ValueMoved { full: true, ..unmoved });
        };
        let mut value = ValueReader::of_chunks(self.chunks(&bytes, at)?);
        let source = Source { head: &[], rest: &mut value, len: Some(old.len) };
        let (new, extents) = write_value_to(env, source, extents)?;
        let cell = Cell { flags: OVERFLOW, bytes };
        let swap = Swap::new(Some(extents)).on_condition(Some(cell), leaf, size)?;
        Ok(match self.put_cell(&key, NewCell::reference(&new.encode()), swap)? {
            Outcome::Done(_) => ValueMoved { pages, ..unmoved },
            Outcome::Refused => unmoved,
        })
    }

    fn look_for_value(&self, from: &[u8], end: PageId) -> TreeResult<Look> {
        optimistically(self.env(), |attempt| {
            let leaf = self.descend(attempt.reading(), Seek::Key(from), |_, _| Ok(()))?;
            let first = leaf.believe(leaf.view().lower_bound(from))?;
            for slot in first..leaf.believe(leaf.view().count())? {
                if leaf.believe(leaf.view().flags(slot))? == 0 {
                    continue;
                }
                let runs = match leaf.believe(references(leaf.view(), slot))? {
                    Ok(runs) => runs,
                    Err(reason) => {
                        let page_id = leaf.id();
                        return Err(leaf.refuse(PageError::Malformed { page_id, reason }.into()));
                    }
                };
                if runs.iter().any(|(first, count)| first.get() + u64::from(*count) > end.get()) {
                    let mut key = Vec::new();
                    leaf.view().append_key(slot, &mut key).map_err(malformed(leaf.id()))?;
                    leaf.validate()?;
                    return Ok(Look::Key(key));
                }
            }
            let mut upper = Vec::new();
            let finite = leaf.believe(leaf.view().upper_fence(&mut upper))?;
            leaf.validate()?;
            Ok(Look::GoOn(finite.then_some(upper)))
        })
    }
}
