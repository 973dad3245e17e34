//! Waiting for a page that another thread is loading.
//!
//! Invariant (P3): who waits is woken when the load ends, and is told how. A failed load is one read for all who waited for it:
//! each gets the loader's error, and none of them reads again.
//!
//! ```text
//!   waiter   lock · still loading? · leave a note · sleep ............ wake · error in the note, or look again
//!   loader                                             publish · wake all
//!      or                                              lock · entry out of the table, error into the notes · wake all
//! ```
//!
//! The entry leaves the table under the lock, so every note that a loader finds is of its own load: who comes after finds
//! the page absent and loads it itself. The lock comes before the table's latches, and nobody takes it while holding one.

use std::time::Duration;

use pagestone_page_format::{PageError, PageId, PageResult};
use pagestone_sync::faults::planted;
use pagestone_sync::{Condvar, Mutex};

/// Where those wait who want a page that is being loaded; pages share places.
#[derive(Debug, Default)]
pub(crate) struct LoadPlace {
    notes: Mutex<Notes>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Notes {
    next: u64,
    waiting: Vec<Note>,
}

#[derive(Debug)]
struct Note {
    number: u64,
    id: PageId,
    error: Option<PageError>,
}

impl LoadPlace {
    /// Sleeps until the load of the page has ended, for at most `limit`, and gives whether it had to. An error is the loader's.
    /// Callers look again.
    pub(crate) fn wait(&self, id: PageId, limit: Duration, loading: impl Fn() -> bool) -> PageResult<bool> {
        let mut notes = self.notes.lock();
        if !loading() && !planted("who waits does not look before it sleeps") {
            return Ok(false);
        }
        let number = notes.next;
        notes.next += 1;
        notes.waiting.push(Note { number, id, error: None });
        loop {
            let (woken, out_of_time) = self.changed.wait_for(notes, limit);
            notes = woken;
            let at = notes.waiting.iter().position(|note| note.number == number);
            let at = at.expect("a note stands until its writer takes it");
            // A wake-up may be for another page.
            if out_of_time || notes.waiting[at].error.is_some() || !loading() {
                return notes.waiting.swap_remove(at).error.map_or(Ok(true), Err);
            }
        }
    }

    /// How many wait here now.
    pub(crate) fn waiting(&self) -> usize {
        self.notes.lock().waiting.len()
    }

    /// A load ended well.
    pub(crate) fn ended(&self) {
        drop(self.notes.lock());
        self.changed.notify_all();
    }

    /// The load of the page failed, with this error unless its thread panicked; `withdraw` takes its entry out of the table.
    pub(crate) fn failed(&self, id: PageId, error: Option<&PageError>, withdraw: impl FnOnce()) {
        let mut notes = self.notes.lock();
        withdraw();
        if !planted("who failed to load a page tells nobody why") {
            for note in notes.waiting.iter_mut().filter(|note| note.id == id) {
                note.error = error.map(PageError::again);
            }
        }
        drop(notes);
        self.changed.notify_all();
    }
}
