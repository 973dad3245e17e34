//! Other stores, behind one face; without the feature there are none, and the tables say nothing of them.

#[cfg(feature = "peers")]
#[path = "all.rs"]
mod chosen;
#[cfg(not(feature = "peers"))]
#[path = "none.rs"]
mod chosen;
#[cfg(feature = "peers")]
mod lmdb;
pub(crate) mod visible;

use std::path::Path;

use crate::BenchResult;
use crate::scans::{Direction, Seen};

/// A store that is asked to return from a put once it is durable.
pub(crate) trait Peer: Sync {
    fn name(&self) -> &'static str;

    /// Whether it does so on this system.
    fn is_durable(&self) -> bool {
        true
    }

    fn put(&self, key: &[u8], value: &[u8]) -> BenchResult<()>;

    /// Puts many, durable when it returns.
    fn fill(&self, rows: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> BenchResult<()>;

    fn get(&self, key: &[u8]) -> BenchResult<Option<Vec<u8>>>;

    /// Looks many up, by one transaction where that is cheaper; `each` is given what was found, lent where the store lends it.
    fn get_many(&self, keys: Keys<'_>, each: Each<'_>) -> BenchResult<()> {
        for key in keys {
            each(self.get(key)?.as_deref())?;
        }
        Ok(())
    }

    /// Looks at every row, lent where the store lends it; nothing from a store that no bench scans.
    fn scan(&self, _direction: Direction) -> BenchResult<Option<Seen>> {
        Ok(None)
    }
}

/// Keys one after another.
pub(crate) type Keys<'k> = &'k mut dyn Iterator<Item = &'k [u8]>;
/// Who is given each answer.
pub(crate) type Each<'e> = &'e mut dyn FnMut(Option<&[u8]>) -> BenchResult<()>;

/// All of them, each in a directory of its own in this one.
pub(crate) fn create(dir: &Path) -> BenchResult<Vec<Box<dyn Peer>>> {
    chosen::create(dir)
}
