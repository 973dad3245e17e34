//! Those who are called back, one after the other.
//!
//! Invariant: each is called, once, whatever another one does: a client that nobody tells waits for ever (R5).
//!
//! ```text
//!   lead ──► wake followers ──► tell: one, two (panics), three ──► the panic goes on
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::error::WalResult;

/// Told once how the durability of an LSN came out.
pub(crate) type Callback = Box<dyn FnOnce(WalResult<()>) + Send>;

/// Calls all of them. A panic of one is a bug of its owner's: it goes on when the others have been told, the first one if there are
/// several.
pub(crate) fn tell<T>(
    callbacks: impl IntoIterator<Item = (T, Callback)>,
    answer: impl Fn(T) -> WalResult<()>,
) {
    let mut panicked = None;
    for (whom, callback) in callbacks {
        let answer = answer(whom);
        // Nothing of ours is seen by it that a panic could leave half changed.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| callback(answer))) {
            panicked.get_or_insert(panic);
        }
    }
    if let Some(panic) = panicked
        && !std::thread::panicking()
    {
        resume_unwind(panic);
    }
}
