//! Point lookups: copied out of the leaf, then validated; "not found" is validated like any answer.

use crate::descend::Seek;
use crate::retry::optimistically;
use crate::{BTree, TreeResult};

impl BTree {
    /// The value of `key`, if there is one. A key longer than any that fits is simply not there.
    pub fn get(&self, key: &[u8]) -> TreeResult<Option<Vec<u8>>> {
        let mut value = Vec::new();
        Ok(self.get_into(key, &mut value)?.then_some(value))
    }

    /// Replaces the contents of `value` by the value of `key`, and gives whether there is one; if not, `value` is empty.
    pub fn get_into(&self, key: &[u8], value: &mut Vec<u8>) -> TreeResult<bool> {
        optimistically(self.env(), |attempt| {
            value.clear();
            let leaf = self.descend(attempt.reading(), Seek::Key(key), |_, _| Ok(()))?;
            let view = leaf.view();
            let found = leaf.believe(view.find(key))?;
            if let Some(slot) = found {
                leaf.believe(view.append_value(slot, value))?;
            }
            if let Err(restart) = leaf.validate() {
                value.clear();
                return Err(restart.into());
            }
            Ok(found.is_some())
        })
    }

    /// Whether the key is there.
    pub fn contains_key(&self, key: &[u8]) -> TreeResult<bool> {
        optimistically(self.env(), |attempt| {
            let leaf = self.descend(attempt.reading(), Seek::Key(key), |_, _| Ok(()))?;
            let found = leaf.believe(leaf.view().find(key))?;
            leaf.validate()?;
            Ok(found.is_some())
        })
    }
}
