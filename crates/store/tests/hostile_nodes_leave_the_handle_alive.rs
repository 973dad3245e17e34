//! Prevents: bytes of a node that make no sense under a right checksum and that end the handle, once a split, a merge or the removal of
//! a range comes upon them, where an error of that one call is all that is due (E4, R4, I6).
//!
//! A put or a removal within one leaf is the exception: its group has begun when the leaf turns out to lie about its own cells. That ends
//! the handle, rarely, and is no panic.

mod support;

use pagestone_page_format::PageError;
use pagestone_store::{Store, StoreError, StoreResult};
use pagestone_testkit::{Rng, SimDisk};
use support::damaged::{Damaged, PAGE};
use support::open;

/// What a group that fails behind its first change leaves.
const DROPPED: &str = "a mini-transaction with changes was dropped without a commit";

/// As `merges_survive_power_cut` has them: an inner node holds eight, a leaf four.
fn key(number: u64) -> Vec<u8> {
    [vec![b'a' + number as u8 / 16; 440], format!("{number:04}").into_bytes()].concat()
}

/// Three levels, and another tree.
fn filled() -> SimDisk {
    let disk = SimDisk::new(1);
    let store = open(&disk).expect("opens");
    for number in (0..144).step_by(2) {
        store.default_tree().put(&key(number), &[number as u8; 500]).expect("put");
    }
    store.tree("other").expect("a tree").put(b"key", b"value").expect("put");
    let tree = store.tree("to drop").expect("a tree");
    for number in 0..40 {
        tree.put(&key(number), &[1; 500]).expect("put");
    }
    assert!(store.stats().expect("stats").tree.height >= 3);
    store.close().expect("closes");
    disk
}

/// Splits, merges, ranges, a drop. An error is an answer.
fn use_it(store: &Store) -> Vec<StoreResult<()>> {
    let tree = store.default_tree();
    let mut answers = Vec::new();
    for number in (1..144).step_by(2) {
        answers.push(tree.put(&key(number), &[7; 500]).map(drop));
    }
    for number in (0..144).filter(|number| number % 3 != 0) {
        answers.push(tree.remove(&key(number)).map(drop));
    }
    answers.push(tree.remove_range(key(20)..key(110)).map(drop));
    answers.push(store.drop_tree("to drop"));
    answers
}

#[test]
fn any_node_may_hold_anything() {
    let disk = filled();
    let whole = Damaged::copy_of(&disk);
    let nodes: Vec<u64> = (1..whole.pages()).filter(|page| whole.in_use(*page)).collect();
    let (mut random, mut wrong, mut poisoned, mut in_one_leaf) = (Rng::new(11), 0, Vec::new(), 0);
    for turn in 0..600 {
        let damaged = Damaged::copy_of(&disk);
        let page = *random.pick(&nodes);
        // The headers and the arrays behind them, for the most part; cells and fences too.
        let words = random.below(3) + 1;
        let mut story = Vec::new();
        damaged.rewrite(page, |writer| {
            for _ in 0..words {
                let word = if random.below(4) > 0 {
                    4 + random.below(28)
                } else {
                    4 + random.below(PAGE as u64 / 8 - 4)
                };
                let old = writer.read().word(word as usize).expect("a word");
                let new = match random.below(4) {
                    0 => old ^ 1 << random.below(64),
                    1 => old ^ 0xff << (8 * random.below(8)),
                    2 => old.wrapping_add(1 << (8 * random.below(8))),
                    _ => random.next_u64(),
                };
                writer.put_word(word as usize, new).expect("a word");
                story.push(format!("word {word}: {old:#x} -> {new:#x}"));
            }
        });
        let Ok(store) = open(&damaged.disk) else {
            wrong += 1;
            continue;
        };
        let answers = use_it(&store);
        let singles = answers.len() - 2;
        for (index, answer) in answers.into_iter().enumerate() {
            wrong += usize::from(answer.is_err());
            if let Err(StoreError::Page(PageError::Poisoned { cause })) = &answer {
                if index < singles && &**cause == DROPPED {
                    in_one_leaf += 1;
                    break;
                }
                poisoned.push(format!("turn {turn}, page {page}, call {index}, {story:?}: {cause}"));
                break;
            }
        }
    }
    assert!(wrong > 1000, "{wrong}");
    assert!(in_one_leaf <= 3, "{in_one_leaf} of 600 handles were ended by a change of one leaf");
    assert!(poisoned.is_empty(), "{} of 600: {:#?}", poisoned.len(), &poisoned[..poisoned.len().min(8)]);
}
