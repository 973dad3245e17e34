//! Of those who replace the same word one wins, and the others learn what stands there now, with all that came before it.
//!
//! Two actors, every interleaving with up to four preemptions.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom --cfg pagestone_faults" cargo test --release -p pagestone-swip --test loom_atomic
//! ```
#![cfg(loom)]

use pagestone_page_format::{FrameIndex, PageId};
use pagestone_swip::{AtomicSwipWord, SwipWord};
use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::checking::model;
use pagestone_sync::{Arc, thread};

fn cold() -> SwipWord {
    SwipWord::new(PageId::new(7)).expect("in range")
}

fn hinted(frame: u32) -> SwipWord {
    cold().with_hint(FrameIndex::new(frame))
}

#[test]
fn one_wins_and_the_other_learns_the_live_word() {
    let model = model("root word (swip)", "one_wins_and_the_other_learns_the_live_word", 4);
    model.catches("a swip is replaced whatever it is", &["both win"]).check(|| {
        let root = Arc::new(AtomicSwipWord::new(cold()));
        let theirs = {
            let root = Arc::clone(&root);
            thread::spawn(move || root.compare_exchange(cold(), hinted(1)))
        };
        let mine = root.compare_exchange(cold(), hinted(2));
        let theirs = theirs.join().expect("no actor panics");
        match (mine, theirs) {
            (Ok(live), Err(told)) | (Err(told), Ok(live)) => {
                assert_eq!(told, live);
                assert_eq!(root.load(), live);
            }
            both => panic!("both win, or none: {both:?}"),
        }
    });
}

#[test]
fn who_sees_a_word_sees_what_came_before_it() {
    let model = model("root word (swip)", "who_sees_a_word_sees_what_came_before_it", 4);
    model.catches("a swip is loaded relaxed", &["a word was seen before what it was stored after"]).check(
        || {
            let root = Arc::new((AtomicSwipWord::new(cold()), AtomicU64::new(0)));
            let publisher = {
                let root = Arc::clone(&root);
                thread::spawn(move || {
                    root.1.store(1, Ordering::Relaxed);
                    root.0.compare_exchange(cold(), hinted(1)).expect("nobody else writes");
                    root.1.store(2, Ordering::Relaxed);
                    root.0.store(hinted(2));
                })
            };
            let seen = root.0.load();
            let before = root.1.load(Ordering::Relaxed);
            let refused = root.0.compare_exchange(SwipWord::NULL, cold()).expect_err("never null");
            let before_refused = root.1.load(Ordering::Relaxed);
            publisher.join().expect("no actor panics");
            for (word, before) in [(seen, before), (refused, before_refused)] {
                let frame = word.hint().map_or(0, |frame| u64::from(frame.get()));
                assert!(before >= frame, "a word was seen before what it was stored after");
            }
        },
    );
}
