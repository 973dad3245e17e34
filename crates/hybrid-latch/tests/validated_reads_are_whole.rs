//! On real threads: a reader that believed half of a change, a writer that lost another's, or a tag that undid either.
#![cfg(not(loom))]

use std::sync::Barrier;
use std::time::{Duration, Instant};

use pagestone_hybrid_latch::{HybridLatch, Tag};
use pagestone_page_format::{PageWriter, SpeculativePage};
use pagestone_sync::atomic::AtomicU64;

const WORDS: usize = 16;
const FOR: Duration = Duration::from_millis(400);

/// Word 0 is a hint that means the same whatever it is; all others are equal, and count the changes.
struct Counted {
    latch: HybridLatch,
    words: [AtomicU64; WORDS],
}

impl Counted {
    fn page(&self) -> SpeculativePage<'_> {
        SpeculativePage::new(&self.words)
    }

    fn put(&self, word: usize, value: u64) {
        PageWriter::new(&self.words).put_word(word, value).expect("in range");
    }

    fn get(&self, word: usize) -> u64 {
        self.page().word(word).expect("in range")
    }

    /// The count, if all words agree on it.
    fn count(&self) -> Option<u64> {
        let count = self.get(1);
        (2..WORDS).all(|word| self.get(word) == count).then_some(count)
    }

    fn write_next(&self) {
        let next = self.count().expect("torn under the exclusive latch") + 1;
        (1..WORDS).rev().for_each(|word| self.put(word, next));
    }
}

/// One actor's turns; gives how many changes it made.
type Actor = fn(&Counted, turn: u64) -> u64;

fn read(counted: &Counted, _: u64) -> u64 {
    let sampled = counted.latch.optimistic_spin().expect("no panic");
    let count = counted.count();
    if sampled.validate().is_ok() {
        assert_eq!(count, Some(sampled.version()), "a validated read is torn");
    }
    0
}

fn write(counted: &Counted, _: u64) -> u64 {
    let _exclusive = counted.latch.lock_exclusive().expect("no panic");
    counted.write_next();
    1
}

fn upgrade(counted: &Counted, _: u64) -> u64 {
    let Ok(sampled) = counted.latch.optimistic_or_restart() else { return 0 };
    let count = counted.count();
    let Ok(_exclusive) = sampled.upgrade_to_exclusive() else { return 0 };
    assert_eq!(count, Some(sampled.version()), "an upgraded read is torn");
    counted.write_next();
    1
}

fn share(counted: &Counted, turn: u64) -> u64 {
    let shared = counted.latch.lock_shared().expect("no panic");
    let count = counted.count();
    assert_eq!(count, Some(counted.latch.version()), "a share let a writer in");
    if turn.is_multiple_of(2) {
        return 0;
    }
    let Ok(exclusive) = shared.try_upgrade_to_exclusive() else { return 0 };
    assert_eq!(counted.count(), count, "a writer came between share and upgrade");
    counted.write_next();
    let shared = exclusive.downgrade();
    assert_eq!(counted.count(), count.map(|count| count + 1), "a writer came between downgrade and share");
    drop(shared);
    1
}

fn mark_and_repair(counted: &Counted, turn: u64) -> u64 {
    match turn % 3 {
        0 => counted.latch.set_tag(Tag::A),
        1 => counted.latch.clear_tag(Tag::A),
        _ => {
            let Ok(exclusive) = counted.latch.try_lock_exclusive() else { return 0 };
            counted.put(0, turn);
            exclusive.unlock_unchanged();
        }
    }
    0
}

fn run(actors: &[Actor]) {
    let counted = Counted { latch: HybridLatch::new(), words: Default::default() };
    counted.latch.set_tag(Tag::B);
    let start = Barrier::new(actors.len());
    let changes: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = actors
            .iter()
            .map(|actor| {
                scope.spawn(|| {
                    start.wait();
                    let end = Instant::now() + FOR;
                    let (mut turn, mut changes) = (0u64, 0);
                    while !turn.is_multiple_of(64) || Instant::now() < end {
                        changes += actor(&counted, turn);
                        turn += 1;
                    }
                    assert!(turn > 0);
                    changes
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("an actor's assertion failed")).sum()
    });
    assert!(changes > 0, "nobody changed anything");
    assert_eq!(counted.count(), Some(changes), "a change is lost");
    assert_eq!(
        counted.latch.version(),
        changes,
        "a change without a new version, or a version without a change"
    );
    assert!(counted.latch.tag(Tag::B), "a tag is lost");
    assert!(counted.latch.try_lock_exclusive().is_ok(), "a latch is left held");
}

#[test]
fn with_readers_writers_upgrades_shares_and_repairs() {
    run(&[read, read, write, upgrade, share, share, mark_and_repair]);
}

#[test]
fn with_one_writer_and_one_reader() {
    run(&[write, read]);
}
