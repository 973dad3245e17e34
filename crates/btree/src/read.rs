//! Point lookups: copied out of the leaf, then validated; "not found" is validated like any answer.

use pagestone_allocator::ReadGuard;
use pagestone_page_format::{PageError, PageId};
use pagestone_sync::Arc;
use pagestone_sync::faults::planted;

use crate::descend::{Hold, Seek};
use crate::error::Interrupt;
use crate::overflow::{Chunks, Reference};
use crate::retry::{again, optimistically};
use crate::walk::{HeldPage, Node, find_in};
use crate::{BTree, TreeResult, ValueReader};

/// What a look-up found in the leaf.
pub(crate) enum Found {
    Nothing,
    /// All of the value.
    Value,
    /// A reference to it.
    Reference(ReferenceAt),
}

/// Where a reference was found, and what keeps the pages that it names.
#[derive(Clone)]
pub(crate) struct ReferenceAt {
    pub(crate) leaf: PageId,
    pub(crate) guard: Arc<ReadGuard>,
}

impl BTree {
    /// The value of `key`, if there is one. A key longer than any that fits is simply not there.
    pub fn get(&self, key: &[u8]) -> TreeResult<Option<Vec<u8>>> {
        let mut value = Vec::new();
        Ok(self.get_into(key, &mut value)?.then_some(value))
    }

    /// Replaces the contents of `value` by the value of `key`, and gives whether there is one; if not, `value` is empty.
    pub fn get_into(&self, key: &[u8], value: &mut Vec<u8>) -> TreeResult<bool> {
        match self.look_up(key, value)? {
            Found::Nothing => Ok(false),
            Found::Value => Ok(true),
            Found::Reference(at) => {
                let chunks = self.chunks(value, at).inspect_err(|_| value.clear())?;
                value.clear();
                chunks.append_to(value).inspect_err(|_| value.clear())?;
                Ok(true)
            }
        }
    }

    /// What `read` makes of the value of `key`, if there is one. It runs on a copy, with no latch held, and once.
    pub fn get_with<T>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> TreeResult<Option<T>> {
        let mut value = Vec::new();
        Ok(self.get_into(key, &mut value)?.then(|| read(&value)))
    }

    /// The value of `key`, if there is one, to be read piece by piece: as it is now, whatever becomes of the key meanwhile.
    pub fn get_reader(&self, key: &[u8]) -> TreeResult<Option<ValueReader>> {
        let mut value = Vec::new();
        Ok(match self.look_up(key, &mut value)? {
            Found::Nothing => None,
            Found::Value => Some(ValueReader::inline(value)),
            Found::Reference(at) => Some(ValueReader::of_chunks(self.chunks(&value, at)?)),
        })
    }

    /// What stands in the leaf of `key`.
    #[inline]
    pub(crate) fn look_up(&self, key: &[u8], value: &mut Vec<u8>) -> TreeResult<Found> {
        self.env().check_open()?;
        self.env().check_kept()?;
        // As `optimistically`; but the first attempt is this one, in line by force and nowhere else.
        match self.look_up_sampled(key, value) {
            Ok(found) => Ok(found),
            Err(interrupt) => self.look_up_again(interrupt, key, value),
        }
    }

    #[inline(always)]
    fn look_up_sampled(&self, key: &[u8], value: &mut Vec<u8>) -> Result<Found, Interrupt> {
        self.find_in(&self.descend_sampled(key)?, None, key, value)
    }

    #[cold]
    fn look_up_again(&self, first: Interrupt, key: &[u8], value: &mut Vec<u8>) -> TreeResult<Found> {
        value.clear();
        again(self.env(), first, &mut |attempt| {
            let found = match attempt.reading() {
                Hold::Optimistic => self.look_up_sampled(key, value),
                hold => self.find_in(&self.descend(hold, Seek::Key(key), |_, _| Ok(()))?, None, key, value),
            };
            found.inspect_err(|_| value.clear())
        })
    }

    /// What stands in this leaf, validated. It is the one that covers the key, which is at the expected slot or behind it.
    #[inline(always)]
    pub(crate) fn find_in<'t>(
        &self,
        leaf: &Node<'t, impl HeldPage<'t>>,
        expected: Option<usize>,
        key: &[u8],
        value: &mut Vec<u8>,
    ) -> Result<Found, Interrupt> {
        let answer = match find_in(leaf, expected, key, value)? {
            None => Found::Nothing,
            Some(0) => Found::Value,
            // The guard first, then the proof that the reference still stood when it was there (L8).
            Some(_) => Found::Reference(ReferenceAt { leaf: leaf.id(), guard: self.guard() }),
        };
        if !planted("a look-up believes a leaf that it did not validate") {
            leaf.validate()?;
        }
        Ok(answer)
    }

    /// Keeps the extents that leaves refer to from now on.
    pub(crate) fn guard(&self) -> Arc<ReadGuard> {
        Arc::new(self.env().allocator().read_guard())
    }

    /// The pages that these bytes of a cell refer to.
    pub(crate) fn chunks(&self, reference: &[u8], at: ReferenceAt) -> TreeResult<Chunks> {
        let reference = Reference::decode(reference, self.env().pool().page_size());
        let reference = reference.map_err(|reason| PageError::Malformed { page_id: at.leaf, reason })?;
        Ok(Chunks::new(self.clone(), reference, at.guard))
    }

    /// Whether the key is there.
    pub fn contains_key(&self, key: &[u8]) -> TreeResult<bool> {
        optimistically(self.env(), |attempt| match attempt.reading() {
            Hold::Optimistic => has(&self.descend_sampled(key)?, key),
            hold => has(&self.descend(hold, Seek::Key(key), |_, _| Ok(()))?, key),
        })
    }
}

fn has<'t>(leaf: &Node<'t, impl HeldPage<'t>>, key: &[u8]) -> Result<bool, Interrupt> {
    let found = leaf.believe(leaf.loaded().find_inside(key))?;
    leaf.validate()?;
    Ok(found.is_some())
}
