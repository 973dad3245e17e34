//! The latch: one word, and the rules by which it is taken.
//!
//! Invariant: the word changes by read-modify-writes alone. So no change of one field loses a change of another, and the
//! release sequence that a writer's unlock heads runs on through every change of tags, sleepers and shared holders: who
//! samples any of those words with Acquire sees what that writer wrote (C++20 [atomics.order], release sequences).

use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::faults::planted;
use pagestone_sync::hint::prefetch;
use pagestone_sync::thread;

use crate::variant::TURNS;
use crate::word::{Refused, Tag, Transition, Word};
use crate::{Conflict, Exclusive, Optimistic, Poisoned, Shared};

/// Eight bytes that protect what stands beside them, and say nothing about what that is.
///
/// It is held optimistically (writing nothing, checked afterwards), shared or exclusively. It is short and on a frame; a
/// lock is long and on data. A thread that holds it and asks for it again waits for itself. At most 2047 share it; who
/// comes after them waits.
pub struct HybridLatch {
    pub(crate) word: AtomicU64,
}

impl HybridLatch {
    /// Samples the latch without writing to it. [`Conflict`] if somebody holds it exclusively, or it is poisoned.
    #[inline]
    pub fn optimistic_or_restart(&self) -> Result<Optimistic<'_>, Conflict> {
        Ok(Optimistic::new(self, self.sample()?))
    }

    /// As [`HybridLatch::optimistic_or_restart`], but waits while somebody holds it exclusively. [`Poisoned`] if that
    /// somebody panicked.
    #[inline]
    pub fn optimistic_spin(&self) -> Result<Optimistic<'_>, Poisoned> {
        match self.sample() {
            Ok(word) => Ok(Optimistic::new(self, word)),
            Err(_) => Ok(Optimistic::new(self, self.wait_for(|| self.sample(), Word::read)?)),
        }
    }

    /// Waits until nobody holds it exclusively, then shares it.
    ///
    /// Who comes after a sleeping waiter lets it go first for a while, so that sharing does not starve a writer; but for a
    /// while only, so that two threads that each hold one shared latch and want the other's never wait for each other.
    #[inline]
    pub fn lock_shared(&self) -> Result<Shared<'_>, Poisoned> {
        self.shared_in_turn().or_else(|_| self.lock_shared_waiting())
    }

    /// Waits until nobody holds it shared or exclusively, then takes it.
    #[inline]
    pub fn lock_exclusive(&self) -> Result<Exclusive<'_>, Poisoned> {
        match self.acquire(Word::take_exclusive) {
            Ok(_) => Ok(Exclusive::new(self)),
            Err(_) => self.lock_exclusive_waiting(),
        }
    }

    /// Shares it if that can be done at once. [`Conflict`] if somebody holds it exclusively, or it is poisoned.
    #[inline]
    pub fn try_lock_shared(&self) -> Result<Shared<'_>, Conflict> {
        self.acquire(Word::take_shared)?;
        Ok(Shared::new(self))
    }

    /// Takes it if that can be done at once. [`Conflict`] if somebody holds it in any way, or it is poisoned.
    #[inline]
    pub fn try_lock_exclusive(&self) -> Result<Exclusive<'_>, Conflict> {
        self.acquire(Word::take_exclusive)?;
        Ok(Exclusive::new(self))
    }

    /// How often what it protects has changed, modulo 2^48. For counting and diagnosis: it orders nothing; use
    /// [`HybridLatch::optimistic_or_restart`] to read under it.
    pub fn version(&self) -> u64 {
        self.load(Ordering::Relaxed).version()
    }

    /// Whether somebody holds it exclusively at this instant.
    pub fn is_exclusive(&self) -> bool {
        self.load(Ordering::Relaxed).is_exclusive()
    }

    /// Whether a thread has panicked while it held it exclusively.
    pub fn is_poisoned(&self) -> bool {
        self.load(Ordering::Relaxed).is_poisoned()
    }

    /// Whether a tag is set at this instant. The owner's tags order nothing: they are marks, and not messages.
    #[inline]
    pub fn tag(&self, tag: Tag) -> bool {
        self.load(Ordering::Relaxed).has_tag(tag)
    }

    /// Sets a tag, whoever holds the latch. No change of version (P8). Writes nothing if it is set.
    #[inline]
    pub fn set_tag(&self, tag: Tag) {
        if self.tag(tag) {
            return;
        }
        if planted("a tag is set by a plain store") {
            return self.word.store(self.load(Ordering::Relaxed).0 | tag.mask(), Ordering::Relaxed);
        }
        self.word.fetch_or(tag.mask(), Ordering::Relaxed);
    }

    /// Clears a tag, whoever holds the latch. No change of version (P8). Writes nothing if it is clear.
    #[inline]
    pub fn clear_tag(&self, tag: Tag) {
        if self.tag(tag) {
            self.word.fetch_and(!tag.mask(), Ordering::Relaxed);
        }
    }

    /// Asks the processor for the latch's cache line, for who will sample it soon. Reads nothing.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(&self.word);
    }

    /// The word now.
    #[inline]
    pub(crate) fn load(&self, ordering: Ordering) -> Word {
        Word(self.word.load(ordering))
    }

    /// The word to read under. Acquire: its partner is the Release of the unlock that made this version.
    #[inline]
    fn sample(&self) -> Transition {
        self.load(Ordering::Acquire).read()
    }

    /// Installs what `rule` makes of the word, as long as it makes something; gives the word before.
    ///
    /// Acquire: its partners are the Releases of all unlocks before, exclusive and shared.
    #[inline]
    pub(crate) fn acquire(&self, rule: impl Fn(Word) -> Transition) -> Transition {
        let mut word = self.load(Ordering::Relaxed);
        loop {
            let next = rule(word)?;
            match self.word.compare_exchange_weak(word.0, next.0, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(word),
                Err(live) => word = Word(live),
            }
        }
    }

    /// Adds one of the releases of `word.rs`, and wakes whom it unblocks.
    ///
    /// Release: its partners are the Acquires of `sample` and `acquire`.
    #[inline]
    pub(crate) fn release(&self, release: u64) {
        let ordering =
            if planted("an unlock publishes nothing") { Ordering::Relaxed } else { Ordering::Release };
        let before = Word(self.word.fetch_add(release, ordering));
        if before.wakes() {
            self.wake();
        }
    }

    /// Shares it if that can be done at once and nobody sleeps whose turn it is.
    #[inline]
    pub(crate) fn shared_in_turn(&self) -> Result<Shared<'_>, Conflict> {
        self.acquire(Word::take_shared_in_turn)?;
        Ok(Shared::new(self))
    }

    #[cold]
    pub(crate) fn lock_shared_waiting(&self) -> Result<Shared<'_>, Poisoned> {
        // While somebody sleeps the processor is left to him, and to those he waits for (measured with four sharers on two
        // processors: a writer gets in after 60 us; after 20 ms without the yields; not at all without the turns).
        for _ in 0..TURNS {
            match self.spin_for(|| self.acquire(Word::take_shared_in_turn)) {
                Ok(_) => return Ok(Shared::new(self)),
                Err(Refused::Poisoned) => return Err(Poisoned),
                Err(Refused::Blocked | Refused::Changed) => thread::yield_now(),
            }
        }
        self.wait_for(|| self.acquire(Word::take_shared), Word::take_shared)?;
        Ok(Shared::new(self))
    }

    #[cold]
    pub(crate) fn lock_exclusive_waiting(&self) -> Result<Exclusive<'_>, Poisoned> {
        self.wait_for(|| self.acquire(Word::take_exclusive), Word::take_exclusive)?;
        Ok(Exclusive::new(self))
    }
}

impl Default for HybridLatch {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for HybridLatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HybridLatch").field(&self.load(Ordering::Relaxed)).finish()
    }
}

impl From<Refused> for Conflict {
    fn from(_: Refused) -> Self {
        Conflict
    }
}
