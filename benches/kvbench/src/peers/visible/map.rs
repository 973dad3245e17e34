//! A map of the standard library behind a lock.

use std::collections::BTreeMap;
use std::sync::RwLock;

use super::{EachRow, Rows, Visible};
use crate::BenchResult;
use crate::peers::Each;

/// `RwLock<BTreeMap>`.
#[derive(Default)]
pub(crate) struct Map(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>);

const PANICKED: &str = "a thread panicked";

impl Visible for Map {
    fn name(&self) -> &'static str {
        "`RwLock<BTreeMap>`"
    }

    fn put(&self, key: &[u8], value: &[u8]) -> BenchResult<()> {
        let (key, value) = (key.to_vec(), value.to_vec()); // outside the lock
        let replaced = self.0.write().map_err(|_| PANICKED)?.insert(key, value);
        drop(replaced);
        Ok(())
    }

    fn get(&self, key: &[u8], _: &mut Vec<u8>, each: Each<'_>) -> BenchResult<()> {
        each(self.0.read().map_err(|_| PANICKED)?.get(key).map(Vec::as_slice))
    }

    fn scan(&self, from: &[u8], each: EachRow<'_>) -> BenchResult<()> {
        let map = self.0.read().map_err(|_| PANICKED)?;
        for (key, value) in
            map.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded))
        {
            if !each(key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn fill(&self, rows: Rows<'_>) -> BenchResult<()> {
        self.0.write().map_err(|_| PANICKED)?.extend(rows.map(|(key, value)| (key.to_vec(), value)));
        Ok(())
    }
}
