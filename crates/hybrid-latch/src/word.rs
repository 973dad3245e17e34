//! The word of a latch and every transition of it, as pure functions.
//!
//! Invariant: a transition touches its own bits and no other, so that whatever happens meanwhile to the tags, the sleepers
//! or the shared count is kept. Releases are therefore numbers to add to the word, whatever else stands in it.
//!
//! ```text
//!   63                                16 15            5 4      3 2        1        0
//!  ┌────────────────────────────────────┬───────────────┬────────┬────────┬────────┬─────────┐
//!  │ version, 48 bits, wraps            │ shared, 11    │ tags   │POISONED│ PARKED │EXCLUSIVE│
//!  └────────────────────────────────────┴───────────────┴────────┴────────┴────────┴─────────┘
//! ```
//!
//! The version stands on top so that its carry falls off the word. It wraps after 2^48 changes: a reader would have to
//! sleep between two loads through exactly that many, four months of them at one every 40 ns, to be fooled.

const EXCLUSIVE: u64 = 1 << 0;
const PARKED: u64 = 1 << 1;
const POISONED: u64 = 1 << 2;
const TAG_SHIFT: u32 = 3;
const SHARED_SHIFT: u32 = 5;
const SHARED_ONE: u64 = 1 << SHARED_SHIFT;
const SHARED_MAX: u64 = (1 << 11) - 1;
const SHARED_MASK: u64 = SHARED_MAX << SHARED_SHIFT;
const VERSION_SHIFT: u32 = 16;
const VERSION_ONE: u64 = 1 << VERSION_SHIFT;
const VERSION_MASK: u64 = !(VERSION_ONE - 1);

const _: () = assert!(EXCLUSIVE | PARKED | POISONED == (1 << TAG_SHIFT) - 1);
const _: () = assert!(Tag::A.mask() | Tag::B.mask() == (1 << SHARED_SHIFT) - (1 << TAG_SHIFT));
const _: () = assert!(SHARED_MASK | (SHARED_ONE - 1) | VERSION_MASK == u64::MAX);
const _: () = assert!(SHARED_MASK & VERSION_MASK == 0);

/// Added to free an exclusive word: the version moves on.
pub(crate) const FREE_CHANGED: u64 = VERSION_ONE - EXCLUSIVE;
/// Added to free an exclusive word whose holder is panicking: the version moves on, the poison stays.
pub(crate) const FREE_POISONED: u64 = VERSION_ONE - EXCLUSIVE + POISONED;
/// Added to free an exclusive word at the version it was taken at.
pub(crate) const FREE_UNCHANGED: u64 = EXCLUSIVE.wrapping_neg();
/// Added to turn an exclusive word into one with a single shared holder: the version moves on.
pub(crate) const DOWNGRADE: u64 = VERSION_ONE - EXCLUSIVE + SHARED_ONE;
/// Added when a shared holder leaves.
pub(crate) const LEAVE_SHARED: u64 = SHARED_ONE.wrapping_neg();

/// One of the two bits that a latch keeps for its owner. The pool keeps its `COOL` mark in one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag {
    /// The first bit.
    A,
    /// The second bit.
    B,
}

impl Tag {
    /// Its bit in the word.
    pub(crate) const fn mask(self) -> u64 {
        match self {
            Tag::A => 1 << TAG_SHIFT,
            Tag::B => 1 << (TAG_SHIFT + 1),
        }
    }
}

/// Why a transition is not allowed now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// Somebody holds the latch. It may be free later.
    Blocked,
    /// It is not at the version any more that was asked for.
    Changed,
    /// Never again.
    Poisoned,
}

/// What a transition gives: the word to install in place of the old one.
pub(crate) type Transition = Result<Word, Refused>;

/// A value of the word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    pub(crate) const fn is_exclusive(self) -> bool {
        self.0 & EXCLUSIVE != 0
    }

    pub(crate) const fn is_parked(self) -> bool {
        self.0 & PARKED != 0
    }

    pub(crate) const fn is_poisoned(self) -> bool {
        self.0 & POISONED != 0
    }

    pub(crate) const fn has_tag(self, tag: Tag) -> bool {
        self.0 & tag.mask() != 0
    }

    pub(crate) const fn shared(self) -> u64 {
        (self.0 & SHARED_MASK) >> SHARED_SHIFT
    }

    pub(crate) const fn version(self) -> u64 {
        self.0 >> VERSION_SHIFT
    }

    /// Whether what was read since `self` was sampled can be believed when `now` stands in the word: the same version,
    /// and no writer in between. Tags, sleepers and shared holders do not count (P8).
    pub(crate) const fn still_valid(self, now: Word) -> bool {
        (self.0 ^ now.0) & (VERSION_MASK | EXCLUSIVE | POISONED) == 0
    }

    /// To be read optimistically: nobody writes. Installs nothing.
    pub(crate) const fn read(self) -> Transition {
        if self.0 & (EXCLUSIVE | POISONED) == 0 { Ok(self) } else { Err(self.refused()) }
    }

    /// Free, to be held exclusively.
    pub(crate) const fn take_exclusive(self) -> Transition {
        if self.0 & (EXCLUSIVE | POISONED | SHARED_MASK) == 0 {
            Ok(Word(self.0 | EXCLUSIVE))
        } else {
            Err(self.refused())
        }
    }

    /// Free or shared, to be shared by one more.
    pub(crate) const fn take_shared(self) -> Transition {
        if self.0 & (EXCLUSIVE | POISONED) == 0 && self.shared() < SHARED_MAX {
            Ok(Word(self.0 + SHARED_ONE))
        } else {
            Err(self.refused())
        }
    }

    /// As [`Word::take_shared`], but who comes after a sleeper lets it go first: else a stream of shared holders would
    /// keep a writer out for ever.
    pub(crate) const fn take_shared_in_turn(self) -> Transition {
        if self.is_parked() && self.shared() > 0 && !self.is_poisoned() {
            return Err(Refused::Blocked);
        }
        self.take_shared()
    }

    /// Shared by one holder, to be held exclusively by it.
    pub(crate) const fn upgrade_only_holder(self) -> Transition {
        if self.shared() == 1 { Ok(Word(self.0 - SHARED_ONE + EXCLUSIVE)) } else { Err(Refused::Blocked) }
    }

    /// With a sleeper.
    pub(crate) const fn park(self) -> Word {
        Word(self.0 | PARKED)
    }

    /// Whether the holder who left `self` behind him, by adding `release`, has somebody to wake.
    pub(crate) const fn wakes(self) -> bool {
        // A shared holder wakes nobody while others stay, unless the count was full and somebody waits for a place.
        self.is_parked() && (self.shared() <= 1 || self.shared() == SHARED_MAX)
    }

    const fn refused(self) -> Refused {
        if self.is_poisoned() { Refused::Poisoned } else { Refused::Blocked }
    }
}

/// The mask that clears PARKED.
pub(crate) const NOT_PARKED: u64 = !PARKED;

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Word")
            .field("version", &self.version())
            .field("exclusive", &self.is_exclusive())
            .field("shared", &self.shared())
            .field("parked", &self.is_parked())
            .field("poisoned", &self.is_poisoned())
            .field("tag_a", &self.has_tag(Tag::A))
            .field("tag_b", &self.has_tag(Tag::B))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A word of every kind: free, shared, full, exclusive, tagged, parked, poisoned, about to wrap.
    fn words() -> impl Strategy<Value = Word> {
        let shared =
            prop_oneof![Just(0), Just(1), Just(2), Just(SHARED_MAX - 1), Just(SHARED_MAX), 0..=SHARED_MAX];
        let version = prop_oneof![Just(0), Just((1u64 << 48) - 1), 0..1u64 << 48];
        (0..1u64 << SHARED_SHIFT, shared, version)
            .prop_map(|(low, shared, version)| Word(low | shared << SHARED_SHIFT | version << VERSION_SHIFT))
    }

    fn free_words() -> impl Strategy<Value = Word> {
        words().prop_map(|word| Word(word.0 & !(EXCLUSIVE | POISONED | SHARED_MASK)))
    }

    const TAGS_AND_SLEEPERS: u64 = PARKED | Tag::A.mask() | Tag::B.mask();

    proptest! {
        #[test]
        fn exclusive_is_for_a_free_word_alone(word in words()) {
            let free = !word.is_exclusive() && word.shared() == 0;
            let expected = if word.is_poisoned() {
                Err(Refused::Poisoned)
            } else if free {
                Ok(Word(word.0 + EXCLUSIVE))
            } else {
                Err(Refused::Blocked)
            };
            prop_assert_eq!(word.take_exclusive(), expected);
        }

        #[test]
        fn a_share_is_for_a_word_without_a_writer_and_with_room(word in words()) {
            let room = !word.is_exclusive() && word.shared() < SHARED_MAX;
            let expected = if word.is_poisoned() {
                Err(Refused::Poisoned)
            } else if room {
                Ok(Word(word.0 + SHARED_ONE))
            } else {
                Err(Refused::Blocked)
            };
            prop_assert_eq!(word.take_shared(), expected);
            let waits = word.is_parked() && word.shared() > 0 && room && !word.is_poisoned();
            prop_assert_eq!(word.take_shared_in_turn(), if waits { Err(Refused::Blocked) } else { expected });
            if let Ok(more) = expected {
                prop_assert_eq!(more.shared(), word.shared() + 1);
                prop_assert_eq!(more.version(), word.version());
                prop_assert_eq!(more.0.wrapping_add(LEAVE_SHARED), word.0);
            }
        }

        #[test]
        fn every_release_frees_and_touches_nothing_else(word in free_words()) {
            let taken = word.take_exclusive().expect("free").0;
            let changed = Word(taken.wrapping_add(FREE_CHANGED));
            prop_assert_eq!(changed.version(), (word.version() + 1) % (1 << 48));
            prop_assert_eq!(changed.0 & !VERSION_MASK, word.0 & !VERSION_MASK);
            prop_assert_eq!(Word(taken.wrapping_add(FREE_UNCHANGED)), word);
            prop_assert_eq!(taken.wrapping_add(FREE_POISONED), changed.0 | POISONED);
            prop_assert_eq!(Some(Word(taken.wrapping_add(DOWNGRADE))), changed.take_shared().ok());
        }

        #[test]
        fn only_the_only_holder_upgrades(word in words()) {
            // A word with shares is neither exclusive nor poisoned: nobody can make it so.
            let word = if word.shared() > 0 { Word(word.0 & !(EXCLUSIVE | POISONED)) } else { word };
            let upgraded = word.upgrade_only_holder();
            prop_assert_eq!(upgraded.is_ok(), word.shared() == 1);
            if let Ok(upgraded) = upgraded {
                prop_assert_eq!(upgraded.0, word.0 & !SHARED_MASK | EXCLUSIVE);
            }
        }

        #[test]
        fn tags_sleepers_and_shares_are_no_changes(word in free_words(), noise: u64) {
            let noise = noise & (TAGS_AND_SLEEPERS | SHARED_MASK);
            prop_assert!(word.still_valid(Word(word.0 ^ noise)));
        }

        #[test]
        fn writers_poison_and_versions_are_changes(word in free_words(), steps in 1..1u64 << 48, noise: u64) {
            let now = word.0 ^ noise & (TAGS_AND_SLEEPERS | SHARED_MASK);
            prop_assert!(!word.still_valid(Word(now.wrapping_add(steps << VERSION_SHIFT))));
            prop_assert!(!word.still_valid(Word(now | EXCLUSIVE)));
            prop_assert!(!word.still_valid(Word(now | POISONED)));
        }
    }

    #[test]
    fn a_poisoned_word_gives_nothing() {
        let word = Word(POISONED);
        for refused in [word.read(), word.take_shared(), word.take_shared_in_turn(), word.take_exclusive()] {
            assert_eq!(refused, Err(Refused::Poisoned));
        }
    }

    #[test]
    fn the_last_to_leave_wakes_and_who_makes_room_does() {
        for (shared, wakes) in [(0, true), (1, true), (2, false), (SHARED_MAX - 1, false), (SHARED_MAX, true)]
        {
            assert_eq!(Word(PARKED | shared << SHARED_SHIFT).wakes(), wakes, "{shared}");
            assert!(!Word(shared << SHARED_SHIFT).wakes(), "nobody sleeps");
        }
    }
}
