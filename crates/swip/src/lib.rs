//! The self-validating page reference: one word that names a page and guesses where it is.
//!
//! Invariant: the page id never leaves the word. The hint is a guess: whoever follows it compares the frame's page id with
//! the word's, so that a stale hint can be wrong and never dangling. The frame's header is the truth, the state of the word
//! a cached view of it.
//!
//! ```text
//!    63   62 61                                          24 23                       0
//!   ┌───────┬──────────────────────────────────────────────┬──────────────────────────┐
//!   │ state │ page id, 38 bits                             │ frame hint, 24 bits      │
//!   └───────┴──────────────────────────────────────────────┴──────────────────────────┘
//!     0 evicted, 1 cool, 2 hot                               all ones: none
//!
//!                warm(frame)                   cool
//!    Evicted ───────────────────► Hot ───────────────────► Cool
//!       ▲                          ▲        warm(frame)      │
//!       │                          └─────────────────────────┤
//!       └────────────────────────────────────────────────────┘
//!                               evict
//! ```
//!
//! So there is no owner, no parent pointer and no unswizzling; any number of words may refer to a page, and evicting the
//! page visits none of them. A word on disk has no hint and state 0, so that images and log records are the same bytes
//! wherever the pages were.
//!
//! After Graefe et al., *In-Memory Performance for Big Data* (VLDB 2014) for swizzling, Leis et al., *LeanStore* (ICDE 2018)
//! for the three states, and the hinted references of LIPAH (CIDR 2025) and PrediCache (SIGMOD 2026).
//!
//! ```
//! use pagestone_page_format::{FrameIndex, PageId};
//! use pagestone_swip::{Resolved, SwipState, SwipWord};
//!
//! let cold = SwipWord::new(PageId::new(7))?;
//! assert_eq!(cold.resolve(), Resolved::Evicted(PageId::new(7)));
//!
//! let hot = cold.warm(FrameIndex::new(3))?;
//! assert_eq!(hot.resolve(), Resolved::Hot(FrameIndex::new(3)));
//! assert_eq!(hot.page_id(), PageId::new(7));
//!
//! let back = hot.cool()?.evict()?;
//! assert_eq!(back, cold);
//! assert_eq!(back.state(), SwipState::Evicted);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod atomic;
mod error;
mod mask;
mod transition;
mod word;

pub use atomic::AtomicSwipWord;
pub use error::{SwipError, SwipResult};
pub use mask::{check_swips, mask_hints};
pub use word::{MAX_FRAMES, MAX_SWIP_PAGE, Resolved, SwipState, SwipWord};
