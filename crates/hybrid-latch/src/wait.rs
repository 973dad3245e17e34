//! Waiting: a short spin, then sleep.
//!
//! Invariant: no wake-up is lost. Who sleeps set PARKED in the very word that blocks him, or found it set there; who frees
//! the latch clears PARKED before he wakes everybody, and nobody falls asleep on a word without PARKED (the check runs
//! under the parking lot's lock, which the waker takes too). So either the sleeper is in the queue when the waker comes, or
//! he sees the cleared bit.

use pagestone_sync::atomic::Ordering;
use pagestone_sync::faults::planted;
use pagestone_sync::{hint, parking};

use crate::variant::SPINS;
use crate::word::{NOT_PARKED, Refused, Transition, Word};
use crate::{HybridLatch, Poisoned};

impl HybridLatch {
    /// Tries for about as long as a writer holds a page.
    pub(crate) fn spin_for(&self, attempt: impl Fn() -> Transition) -> Transition {
        let mut left = SPINS;
        loop {
            let outcome = attempt();
            if outcome != Err(Refused::Blocked) || left == 0 {
                return outcome;
            }
            left -= 1;
            hint::spin_loop();
        }
    }

    /// Repeats `attempt` until it is not blocked, asleep for most of the time. `rule` is what the attempt goes by.
    #[cold]
    pub(crate) fn wait_for(
        &self,
        attempt: impl Fn() -> Transition,
        rule: impl Fn(Word) -> Transition,
    ) -> Result<Word, Poisoned> {
        loop {
            match self.spin_for(&attempt) {
                Ok(word) => return Ok(word),
                Err(Refused::Poisoned) => return Err(Poisoned),
                Err(Refused::Blocked | Refused::Changed) => {
                    self.sleep_while(|word| rule(word) == Err(Refused::Blocked))
                }
            }
        }
    }

    /// Sleeps until woken, if the word still blocks. May return for no reason.
    fn sleep_while(&self, blocks: impl Fn(Word) -> bool) {
        let word = self.load(Ordering::Relaxed);
        if !blocks(word) {
            return;
        }
        // Only into the very word that blocks: whoever frees it later sees the bit.
        if !word.is_parked() {
            let parked = word.park();
            if self.word.compare_exchange(word.0, parked.0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                return;
            }
        }
        parking::park(&self.word, || {
            let now = self.load(Ordering::Relaxed);
            (now.is_parked() || planted("who sleeps does not look at the mark")) && blocks(now)
        });
    }

    /// Wakes everybody who sleeps: each looks at the word again.
    #[cold]
    pub(crate) fn wake(&self) {
        if planted("an unlock wakes nobody") {
            return;
        }
        if planted("an unlock wakes before it clears the mark") {
            parking::unpark_all(&self.word);
            self.word.fetch_and(NOT_PARKED, Ordering::Relaxed);
            return;
        }
        self.word.fetch_and(NOT_PARKED, Ordering::Relaxed);
        parking::unpark_all(&self.word);
    }
}
