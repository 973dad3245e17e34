//! The arrows of the state diagram, each a method that checks where it starts.
//!
//! Invariant: a transition keeps the page id, and leaves the diagram never.

use pagestone_page_format::FrameIndex;

use crate::{MAX_FRAMES, SwipError, SwipResult, SwipState, SwipWord};

impl SwipWord {
    /// Evicted or cool to hot: the page is in this frame and was touched. A cool swip is warmed at its own frame; a hint
    /// that turned out wrong is repaired with [`SwipWord::with_hint`].
    ///
    /// Errors: [`SwipError::IllegalTransition`] if it is hot, [`SwipError::OtherFrame`], [`SwipError::FrameOutOfRange`],
    /// [`SwipError::Null`].
    pub const fn warm(self, frame: FrameIndex) -> SwipResult<Self> {
        if self.is_null() {
            return Err(SwipError::Null);
        }
        if frame.index() >= MAX_FRAMES {
            return Err(SwipError::FrameOutOfRange { frame });
        }
        match (self.state(), self.hint()) {
            (SwipState::Hot, _) => {
                Err(SwipError::IllegalTransition { from: SwipState::Hot, transition: "warm" })
            }
            (_, Some(hint)) if hint.get() != frame.get() => Err(SwipError::OtherFrame { hint, asked: frame }),
            _ => Ok(self.at(SwipState::Hot, frame)),
        }
    }

    /// Hot to cool: the frame was marked for replacement.
    ///
    /// Errors: [`SwipError::IllegalTransition`] if it is not hot, [`SwipError::Null`].
    pub const fn cool(self) -> SwipResult<Self> {
        match (self.is_null(), self.state(), self.hint()) {
            (true, ..) => Err(SwipError::Null),
            (false, SwipState::Hot, Some(frame)) => Ok(self.at(SwipState::Cool, frame)),
            (false, from, _) => Err(SwipError::IllegalTransition { from, transition: "cool" }),
        }
    }

    /// Cool to evicted: the page left its frame. A hot swip is cooled first: who touches it meanwhile saves the page.
    ///
    /// Errors: [`SwipError::IllegalTransition`] if it is not cool, [`SwipError::Null`].
    pub const fn evict(self) -> SwipResult<Self> {
        match (self.is_null(), self.state()) {
            (true, _) => Err(SwipError::Null),
            (false, SwipState::Cool) => Ok(self.without_hint()),
            (false, from) => Err(SwipError::IllegalTransition { from, transition: "evict" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use pagestone_page_format::PageId;
    use proptest::prelude::*;

    use super::*;
    use crate::{MAX_SWIP_PAGE, Resolved};

    /// The diagram, written down a second time, in the plainest way.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Model {
        Evicted,
        Cool(u32),
        Hot(u32),
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Warm(u32),
        Cool,
        Evict,
        Repair(u32),
        Mask,
    }

    impl Model {
        fn step(self, step: Step) -> Option<Model> {
            let fits = |frame| (frame as usize) < MAX_FRAMES;
            match (step, self) {
                (Step::Warm(frame), Model::Evicted) if fits(frame) => Some(Model::Hot(frame)),
                (Step::Warm(frame), Model::Cool(hint)) if frame == hint => Some(Model::Hot(frame)),
                (Step::Cool, Model::Hot(hint)) => Some(Model::Cool(hint)),
                (Step::Evict, Model::Cool(_)) => Some(Model::Evicted),
                (Step::Repair(frame), _) => {
                    Some(if fits(frame) { Model::Hot(frame) } else { Model::Evicted })
                }
                (Step::Mask, _) => Some(Model::Evicted),
                _ => None,
            }
        }
    }

    fn apply(swip: SwipWord, step: Step) -> SwipResult<SwipWord> {
        match step {
            Step::Warm(frame) => swip.warm(FrameIndex::new(frame)),
            Step::Cool => swip.cool(),
            Step::Evict => swip.evict(),
            Step::Repair(frame) => Ok(swip.with_hint(FrameIndex::new(frame))),
            Step::Mask => Ok(swip.without_hint()),
        }
    }

    fn frames() -> impl Strategy<Value = u32> {
        // Few frames, so that they meet again; the last one there is, and two that are none.
        prop_oneof![4 => 0..3u32, 1 => (1u32 << 24) - 3..=1 << 24, 1 => Just(u32::MAX)]
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => frames().prop_map(Step::Warm),
            4 => Just(Step::Cool),
            4 => Just(Step::Evict),
            1 => frames().prop_map(Step::Repair),
            1 => Just(Step::Mask),
        ];
        prop::collection::vec(step, 0..64)
    }

    proptest! {
        #[test]
        fn transitions_follow_the_diagram_and_keep_the_page(page in 0..=MAX_SWIP_PAGE.get(), steps in steps()) {
            let page = PageId::new(page);
            let mut swip = SwipWord::new(page).expect("in range");
            let mut model = Model::Evicted;
            for step in steps {
                let after = apply(swip, step);
                prop_assert_eq!(after.is_ok(), model.step(step).is_some(), "{:?} at {:?}", step, swip);
                swip = after.unwrap_or(swip);
                model = model.step(step).unwrap_or(model);
                prop_assert_eq!(swip.page_id(), page);
                let expected = match model {
                    Model::Evicted => Resolved::Evicted(page),
                    Model::Cool(frame) => Resolved::Cool(FrameIndex::new(frame)),
                    Model::Hot(frame) => Resolved::Hot(FrameIndex::new(frame)),
                };
                prop_assert_eq!(swip.resolve(), expected);
            }
        }
    }

    #[test]
    fn refusals_say_why() {
        let cold = SwipWord::new(PageId::new(9)).expect("in range");
        let frame = FrameIndex::new(4);
        let hot = cold.warm(frame).expect("evicted");
        let cool = hot.cool().expect("hot");
        let illegal = |from, transition| Err(SwipError::IllegalTransition { from, transition });
        assert_eq!(cold.cool(), illegal(SwipState::Evicted, "cool"));
        assert_eq!(cold.evict(), illegal(SwipState::Evicted, "evict"));
        assert_eq!(hot.warm(frame), illegal(SwipState::Hot, "warm"));
        assert_eq!(hot.evict(), illegal(SwipState::Hot, "evict"));
        assert_eq!(cool.cool(), illegal(SwipState::Cool, "cool"));
        let asked = FrameIndex::new(5);
        assert_eq!(cool.warm(asked), Err(SwipError::OtherFrame { hint: frame, asked }));
        let frame = FrameIndex::new(MAX_FRAMES as u32);
        assert_eq!(cold.warm(frame), Err(SwipError::FrameOutOfRange { frame }));
        assert_eq!(SwipWord::NULL.warm(asked), Err(SwipError::Null));
        assert_eq!(SwipWord::NULL.cool(), Err(SwipError::Null));
        assert_eq!(SwipWord::NULL.evict(), Err(SwipError::Null));
        assert_eq!(hot.evict().expect_err("hot").to_string(), "cannot evict a swip that is hot");
    }
}
