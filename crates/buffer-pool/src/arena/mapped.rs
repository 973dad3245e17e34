//! The page bytes of every frame: one anonymous reservation that never moves and is never unmapped while the pool lives,
//! so that a stale hint can only be wrong, never dangling.
//!
//! # Safety
//!
//! The mapping is owned by [`Arena`] alone. Its bytes are reached only as `&[AtomicU64]`, through [`Arena::words`]: any
//! number of threads may hold such slices, to the same frame too, and every access through them is atomic. No `&[u8]` and
//! no `&mut` to it is ever made; storage reads into private pages and the pool copies (see `docs/invariants.md`, on the trap of
//! private copies).
#![allow(unsafe_code)]

use pagestone_page_format::{FrameIndex, PageError, PageResult, PageSize};
use pagestone_sync::atomic::AtomicU64;

/// Blocks of this size are what the system can back with one translation.
const HUGE_PAGE: usize = 2 << 20;

#[derive(Debug)]
pub(crate) struct Arena {
    mapping: memmap2::MmapMut,
    /// Bytes from the start of the mapping to the first frame, so that frames are 2 MiB aligned.
    start: usize,
    frames: usize,
    words_per_page: usize,
}

impl Arena {
    /// Reserves room for `frames` pages; memory is committed as frames are first used.
    pub(crate) fn reserve(frames: usize, size: PageSize) -> PageResult<Self> {
        let bytes = frames
            .checked_mul(size.get())
            .and_then(|bytes| bytes.checked_add(HUGE_PAGE))
            .ok_or(PageError::NoSpace { needed: u64::MAX })?;
        let mapping = memmap2::MmapOptions::new()
            .len(bytes)
            .no_reserve_swap()
            .map_anon()
            .map_err(|error| PageError::io("reserving the pool's memory", error))?;
        // A small pool would pay a whole huge page for its last frames: the budget is a promise (G18).
        #[cfg(target_os = "linux")]
        if bytes >= 32 * HUGE_PAGE {
            // Advice: a kernel without huge pages serves the pool with small ones.
            let _ = mapping.advise(memmap2::Advice::HugePage);
        }
        let start = mapping.as_ptr().align_offset(HUGE_PAGE);
        assert!(start < HUGE_PAGE, "byte pointers can always be aligned");
        Ok(Self { mapping, start, frames, words_per_page: size.words() })
    }

    /// Gives the memory of the frames from `frame` on back to the system, as far as whole blocks of 2 MiB go: they read as zeros until
    /// they are written again. The caller owns them all. Where the system has no such call it keeps the memory until it is used again.
    pub(crate) fn release_from(&self, frame: usize) {
        let first = (frame * self.words_per_page * 8).next_multiple_of(HUGE_PAGE);
        let end = self.frames * self.words_per_page * 8;
        #[cfg(target_os = "linux")]
        if first < end {
            // SAFETY: the advice discards bytes, which is unsound where references to them promise that they stay. Here
            // there are only `&[AtomicU64]`, through which bytes may change at any time, zeros are as good as any others, and the
            // frames of these bytes belong to the caller (P9), so that nobody's page is lost. The range is inside the mapping, as
            // in `words`. Advice that the kernel refuses changes nothing: the memory stays.
            let _ = unsafe {
                self.mapping.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    self.start + first,
                    end - first,
                )
            };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (first, end);
    }

    /// The words of one frame. The index must be below the number of frames: a pool index, never a hint unchecked.
    #[inline]
    pub(crate) fn words(&self, frame: FrameIndex) -> &[AtomicU64] {
        let index = frame.index();
        assert!(index < self.frames, "frame {index} of {}", self.frames);
        let offset = self.start + index * self.words_per_page * 8;
        // SAFETY: `reserve` mapped `frames * page size + HUGE_PAGE` bytes and `start < HUGE_PAGE`, so with the index asserted
        // above `offset .. offset + page size` lies inside the mapping.
        let first = unsafe { self.mapping.as_ptr().add(offset) }.cast::<AtomicU64>();
        // SAFETY: the words lie inside the mapping, as above, which lives as long as `self`. The address is 8-aligned: the
        // start is 2 MiB aligned and a page is a multiple of 8 bytes. Anonymous memory is zeroed, hence initialised, and every
        // bit pattern is an `AtomicU64`. Nothing else borrows these bytes: the mapping is private to this file, which makes no
        // other reference to its contents.
        unsafe { std::slice::from_raw_parts(first, self.words_per_page) }
    }
}
