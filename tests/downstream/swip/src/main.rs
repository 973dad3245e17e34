//! One reference through its life: evicted, hot, cool, evicted; the id never leaves the word.

use pagestone_page_format::{FrameIndex, PageId, PageResult};
use pagestone_swip::{AtomicSwipWord, MAX_SWIP_PAGE, Resolved, SwipState, SwipWord};

fn main() -> PageResult<()> {
    let (page, frame) = (PageId::new(77), FrameIndex::new(3));
    let cold = SwipWord::new(page)?;
    assert_eq!(cold.resolve(), Resolved::Evicted(page));
    let hot = cold.warm(frame).expect("an evicted swip can be warmed");
    assert_eq!(hot.resolve(), Resolved::Hot(frame));
    let cool = hot.cool().expect("a hot swip can be cooled");
    assert_eq!(cool.state(), SwipState::Cool);
    assert_eq!(cool.evict().expect("a cool swip can be evicted").raw(), cold.raw());
    assert!([cold, hot, cool].iter().all(|swip| swip.page_id() == page));

    let cell = AtomicSwipWord::new(cold);
    cell.compare_exchange(cold, hot).expect("nobody else is here");
    assert_eq!(cell.compare_exchange(cold, cool), Err(hot), "the live word comes back");
    assert!(SwipWord::new(PageId::new(MAX_SWIP_PAGE.get() + 1)).is_err());
    Ok(())
}
