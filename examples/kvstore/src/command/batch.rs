//! Lines as one batch.
//!
//! Invariant: a line that cannot be read or applied leaves the store as it was before the first.

use std::path::Path;

use kvstore::{BatchDone, KvStore};

use super::args::LineForm;
use super::failure::Failure;
use super::format::Format;
use super::json::Change;
use super::lines::Lines;

/// Keys and values that a batch holds in memory, at most. Of what stands in leaves the store takes less, by its pool and its log.
const MAX_BATCH_BYTES: usize = 64 << 20;

/// Opens the file at `path`, or stdin for `-`.
pub(crate) fn open(path: &Path, format: Format) -> Result<Lines, Failure> {
    Lines::open(path, LineForm::Jsonl, format.encoding, "nothing was changed")
}

/// Applies every line, or none.
pub(crate) fn commit(store: &KvStore, mut lines: Lines) -> Result<BatchDone, Failure> {
    let (mut batch, mut change) = (store.batch(), Change::default());
    while lines.next(&mut change)? {
        if change.del {
            batch.del(&change.key)?;
        } else {
            batch.put(&change.key, &change.value)?;
        }
        if batch.bytes() > MAX_BATCH_BYTES {
            return Err(Failure::BatchTooLarge { line: lines.number(), limit: MAX_BATCH_BYTES });
        }
    }
    Ok(batch.commit()?)
}
