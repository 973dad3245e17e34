//! What a checked transition refuses.

use std::fmt;

use pagestone_page_format::FrameIndex;

use crate::SwipState;

/// The result of a transition.
pub type SwipResult<T> = Result<T, SwipError>;

/// Why a swip cannot make a transition. All of them are the caller's mistake; the word is unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SwipError {
    /// The state has no such arrow.
    IllegalTransition {
        /// The state it is in.
        from: SwipState,
        /// The transition that was asked for.
        transition: &'static str,
    },
    /// A cool swip was warmed at another frame than its own.
    OtherFrame {
        /// The frame of its hint.
        hint: FrameIndex,
        /// The frame asked for.
        asked: FrameIndex,
    },
    /// A frame that 24 bits cannot name.
    FrameOutOfRange {
        /// The frame asked for.
        frame: FrameIndex,
    },
    /// The null swip refers to no page and has no transitions.
    Null,
}

impl fmt::Display for SwipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IllegalTransition { from, transition } => {
                write!(f, "cannot {transition} a swip that is {from}")
            }
            Self::OtherFrame { hint, asked } => {
                write!(f, "cannot warm a swip of frame {} at frame {}", hint.get(), asked.get())
            }
            Self::FrameOutOfRange { frame } => {
                write!(f, "frame {} is outside the {} that a swip can name", frame.get(), crate::MAX_FRAMES)
            }
            Self::Null => f.write_str("the null swip refers to no page"),
        }
    }
}

impl std::error::Error for SwipError {}
