//! A bounded wait for the lock on a file.
//!
//! Invariant: who waits for a lock learns within the limit whether it has it. A killed holder's lock can outlive it by
//! the moment that the system needs to close its descriptors (I18), so a first refusal is not believed; a living holder's
//! lock does not go away, so a wait without limit would be a hang (E1).

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use pagestone_page_format::{PageError, PageResult};

use crate::File;

const POLL: Duration = Duration::from_millis(5);

/// Takes the whole-file lock, trying again until `limit` has passed.
///
/// Errors: [`PageError::Locked`] with `path` if another handle has it all that time; `Io` if the file system has no
/// locks.
pub fn lock_within(file: &dyn File, path: &Path, limit: Duration) -> PageResult<()> {
    within(path, limit, || file.try_lock())
}

/// As [`lock_within`], for a handle that only reads: beside others of its kind ([`File::try_lock_shared`]).
pub fn lock_shared_within(file: &dyn File, path: &Path, limit: Duration) -> PageResult<()> {
    within(path, limit, || file.try_lock_shared())
}

fn within(path: &Path, limit: Duration, try_lock: impl Fn() -> io::Result<bool>) -> PageResult<()> {
    let begun = Instant::now();
    loop {
        if try_lock().map_err(|source| PageError::io("lock", source))? {
            return Ok(());
        }
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(PageError::Locked { path: path.display().to_string() });
        }
        std::thread::sleep(POLL.min(left));
    }
}
