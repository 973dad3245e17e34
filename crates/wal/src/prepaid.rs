//! Room that is reserved ahead, so that most reservations need not take the log's mutex.
//!
//! Invariant: what stands here is counted in [`State::outstanding`], so buffer, segments and budget have room for it as for any
//! reservation. It is added under the mutex, and only while nobody waits for room and nobody is slowed down; who lacks room takes
//! back what is left of it first, so it never keeps anybody waiting.
//!
//! ```text
//!   reserve:   prepaid ≥ bytes ──► one compare-and-swap, no mutex
//!              else             ──► the mutex: bytes, and PREPAID more if there is plenty
//!   append:    the mutex: outstanding - bytes, wherever they were reserved
//! ```
//!
//! Why: with the mutex once to reserve and once to append, two writers wait for each other twice a put, and each time the lines of the
//! state move from one core to the other. One writer saves two locked instructions.

use pagestone_sync::atomic::{AtomicUsize, Ordering};
use pagestone_sync::faults::planted;

use crate::wal::{State, Wal};

/// Bytes that are reserved ahead at most: some hundred puts, and little beside a buffer.
const PREPAID: usize = 32 << 10;
/// The part of a segment, and of a buffer, that they are at most.
const PART_OF_SEGMENT: u64 = 64;
const PART_OF_BUFFER: usize = 16;

/// The bytes, on a line of their own.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Prepaid(AtomicUsize);

impl Prepaid {
    pub(crate) fn none() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Takes so many bytes, if there are as many. Relaxed: the number guards nothing but itself; whoever spends it takes the mutex under
    /// which it was added to what is outstanding.
    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl Wal {
    /// Reserves so many bytes without the mutex, if that can be.
    #[inline]
    pub(crate) fn take_prepaid(&self, bytes: usize) -> bool {
        self.prepaid.take(bytes)
    }

    /// Under the mutex, for who has just reserved some: reserves more ahead, if nobody would miss it.
    pub(crate) fn prepay(&self, state: &mut State) {
        let of_segment = (self.options.segment_bytes / PART_OF_SEGMENT) as usize;
        let bytes = PREPAID.min(of_segment).min(state.buffer.capacity() / PART_OF_BUFFER);
        if self.prepaid.0.load(Ordering::Relaxed) >= bytes / 2 {
            return; // a group that is longer than what is left
        }
        if state.queue.is_empty() && !self.is_pressed(state, bytes) && self.short(state, bytes).is_none() {
            state.outstanding += bytes;
            self.prepaid.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Under the mutex: gives back what is left of what was reserved ahead.
    pub(crate) fn take_back_prepaid(&self, state: &mut State) {
        let left = if planted("who takes back room forgets what is spent meanwhile") {
            let left = self.prepaid.0.load(Ordering::Relaxed);
            self.prepaid.0.store(0, Ordering::Relaxed);
            left
        } else {
            self.prepaid.0.swap(0, Ordering::Relaxed)
        };
        state.give_back(left);
    }
}
