//! Reading without a trace.
//!
//! Invariant: what is read between the sample and a validation that succeeds is the state at the sampled version (P1).
//! Until then it may be torn, and nothing but reads may follow from it.

use std::marker::PhantomData;

use pagestone_sync::atomic::{Ordering, fence};
use pagestone_sync::faults::planted;

use crate::word::{Refused, Tag, Transition, Word};
use crate::{Conflict, Exclusive, HybridLatch, Shared};

/// A sample of a latch: permission to read speculatively, and the means to find out whether that was right.
///
/// It holds nothing and can be copied and forgotten. It is not `Send`, as no guard of a latch is.
#[derive(Clone, Copy, Debug)]
pub struct Optimistic<'a> {
    latch: &'a HybridLatch,
    sampled: Word,
    not_send: PhantomData<*const ()>,
}

impl<'a> Optimistic<'a> {
    pub(crate) fn new(latch: &'a HybridLatch, sampled: Word) -> Self {
        Self { latch, sampled, not_send: PhantomData }
    }

    /// Whether everything read since the sample can be believed. [`Conflict`] if a writer has come meanwhile.
    #[inline]
    pub fn validate(&self) -> Result<(), Conflict> {
        // Its partner is the release fence of `Exclusive::new`: if one of the relaxed loads before this fence saw a byte of
        // a writer's, the load behind it sees that the writer took the word.
        if !planted("a reader has no acquire fence") {
            fence(Ordering::Acquire);
        }
        let now = self.latch.load(Ordering::Relaxed);
        if planted("a validation compares the whole word") && now.0 != self.sampled.0 {
            return Err(Conflict);
        }
        if self.sampled.still_valid(now) { Ok(()) } else { Err(Conflict) }
    }

    /// Validates and shares the latch in one step: whatever was read since the sample holds, and goes on holding. [`Conflict`] if a
    /// writer has come meanwhile.
    #[inline]
    pub fn upgrade_to_shared(self) -> Result<Shared<'a>, Conflict> {
        self.try_upgrade_to_shared().or_else(|_| {
            self.spin_for(|now| self.at_sampled_version(now)?.take_shared())?;
            Ok(Shared::new(self.latch))
        })
    }

    /// Validates and takes the latch in one step. [`Conflict`] if a writer has come meanwhile; a tag that has changed is none (P8).
    /// Others who share it are given a moment to leave, and no more: two who upgrade while they share would wait for each other.
    #[inline]
    pub fn upgrade_to_exclusive(self) -> Result<Exclusive<'a>, Conflict> {
        self.try_upgrade_to_exclusive().or_else(|_| {
            self.spin_for(|now| self.at_sampled_version(now)?.take_exclusive())?;
            Ok(Exclusive::new(self.latch))
        })
    }

    /// As [`Optimistic::upgrade_to_shared`], if that can be done at once.
    #[inline]
    pub fn try_upgrade_to_shared(self) -> Result<Shared<'a>, Conflict> {
        self.latch.acquire(|now| self.at_sampled_version(now)?.take_shared())?;
        Ok(Shared::new(self.latch))
    }

    /// As [`Optimistic::upgrade_to_exclusive`], if that can be done at once. [`Conflict`] if others share it, too.
    #[inline]
    pub fn try_upgrade_to_exclusive(self) -> Result<Exclusive<'a>, Conflict> {
        self.latch.acquire(|now| self.at_sampled_version(now)?.take_exclusive())?;
        Ok(Exclusive::new(self.latch))
    }

    /// Whether the tag was set when the latch was sampled.
    #[inline]
    pub fn tag(&self, tag: Tag) -> bool {
        self.sampled.has_tag(tag)
    }

    /// The version that was sampled, modulo 2^48.
    #[inline]
    pub fn version(&self) -> u64 {
        self.sampled.version()
    }

    /// The latch that was sampled.
    #[inline]
    pub fn latch(&self) -> &'a HybridLatch {
        self.latch
    }

    /// Tries for as long as somebody shares it, for a moment at most. Not at all once a writer has come.
    #[cold]
    fn spin_for(&self, rule: impl Fn(Word) -> Transition) -> Transition {
        let now = self.latch.load(Ordering::Relaxed);
        if self.sampled.still_valid(now) {
            self.latch.spin_for(|| self.latch.acquire(&rule))
        } else {
            Err(Refused::Changed)
        }
    }

    /// The check of an upgrade. No fence: the compare-and-swap that follows reads the last word of all. A writer whose
    /// byte was read before can only have taken the latch earlier, and then the version tells, or after this upgrade was
    /// released, and then its byte comes after the read.
    #[inline]
    fn at_sampled_version(&self, now: Word) -> Transition {
        if planted("an upgrade takes any version") || self.sampled.still_valid(now) {
            Ok(now)
        } else {
            Err(Refused::Changed)
        }
    }
}
