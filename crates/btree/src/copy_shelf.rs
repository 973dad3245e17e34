//! Memory for leaf copies, from cursors that are gone to those that come.
//!
//! Invariant: a place keeps the memory of one copy at most, a page and the room of a key, so a shelf stays below [`PLACES`] times that;
//! nobody waits here: where another thread is at the place, the memory comes from the allocator, or goes back to it.
//!
//! ```text
//!   cursor ──► the place of its thread ──► there is some? ──► taken
//!     ▲                                     └─ else ──► allocated, once the first leaf is copied
//!     └── dropped: back to the place of the thread that it ends in
//! ```
//!
//! A page is more than an allocator keeps at hand for each thread: glibc's merges and splits its free memory for every one, with a lock,
//! and gives the end of it back to the system. A short scan takes about as long as a few of these.

use pagestone_sync::{Mutex, thread};

use crate::key_buffer::KeyBuffer;

/// Places of a shelf: about as many threads as scan at once.
const PLACES: usize = 16;

/// The memory of one copy.
#[derive(Debug, Default)]
pub(crate) struct CopyMemory {
    /// A page.
    pub(crate) page: Box<[u8]>,
    /// Room for a key.
    pub(crate) key: KeyBuffer,
}

/// One place, on lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place(Mutex<Option<CopyMemory>>);

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct CopyShelf {
    places: [Place; PLACES],
}

impl CopyShelf {
    fn place(&self) -> &Place {
        &self.places[thread::place() % PLACES]
    }

    /// Memory for a copy of a page of so many bytes: what is kept for this thread, or new.
    pub(crate) fn take(&self, page_len: usize) -> CopyMemory {
        let kept = self.place().0.try_lock().and_then(|mut kept| kept.take());
        kept.filter(|kept| kept.page.len() == page_len)
            .unwrap_or_else(|| CopyMemory { page: vec![0; page_len].into(), key: KeyBuffer::default() })
    }

    /// Keeps the memory of a copy that is not read any more.
    pub(crate) fn keep(&self, memory: CopyMemory) {
        if let Some(mut kept) = self.place().0.try_lock() {
            *kept = Some(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(page: &[u8]) -> CopyMemory {
        CopyMemory { page: page.into(), key: KeyBuffer::default() }
    }

    #[test]
    fn what_a_thread_keeps_is_what_it_takes_next() {
        let shelf = CopyShelf::default();
        shelf.keep(memory(&[7; 8]));
        assert_eq!(&shelf.take(8).page[..], [7; 8]);
        assert_eq!(&shelf.take(8).page[..], [0; 8], "it was taken");
    }

    #[test]
    fn a_place_keeps_one() {
        let shelf = CopyShelf::default();
        (1..4).for_each(|byte| shelf.keep(memory(&[byte; 8])));
        assert_eq!(&shelf.take(8).page[..], [3; 8]);
        assert_eq!(&shelf.take(8).page[..], [0; 8]);
    }

    #[test]
    fn a_page_of_another_size_is_not_lent() {
        let shelf = CopyShelf::default();
        shelf.keep(memory(&[7; 8]));
        assert_eq!(shelf.take(16).page.len(), 16);
    }
}
