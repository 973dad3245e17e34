//! The log keeps its promises in every interleaving of two or three threads with so many preemptions as each model says; and
//! each model fails if what it proves is taken out of the code.
//!
//! A model has the production log on a disk in memory (`src/model.rs`), nothing else is replaced.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom --cfg pagestone_faults" cargo test --release -p pagestone-wal --test loom_wal
//! ```
#![cfg(loom)]

use std::sync::Arc;

use pagestone_page_format::Lsn;
use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::checking::{DEADLOCK, model};
use pagestone_sync::{parking, thread};
use pagestone_wal::model::{Medium, ModelLog};
use pagestone_wal::{GroupBuilder, Wal, WalError};

const EARLY: &[&str] = &["acknowledged before its sync"];
const ASLEEP: &[&str] = &[DEADLOCK];

/// Bytes that fill most of a block.
const LONG: usize = 3500;

/// Appends a group of `len` times `mark`.
fn append(wal: &Wal, mark: u8, len: usize) -> (Lsn, Lsn) {
    let mut group = GroupBuilder::new();
    group.push_logical(1, &vec![mark; len]);
    let space = wal.reserve(group.encoded_len()).expect("room");
    let appended = wal.append(space, &mut group);
    (appended.start, appended.end)
}

/// Commits, and looks whether that was true.
fn commit(medium: &Medium, wal: &Wal) {
    let end = append(wal, 7, 20).1;
    let before = wal.durable_lsn();
    wal.wait_durable(end).expect("durable");
    assert!(medium.synced() >= end, "acknowledged before its sync");
    assert!(wal.durable_lsn() >= end.max(before), "the durable LSN rises");
}

/// Runs `bodies` beside each other, the first of them in this thread.
fn beside<const N: usize>(log: ModelLog, bodies: [fn(&Medium, &Wal); N]) -> (Arc<Medium>, Arc<Wal>) {
    let (medium, wal) = log.begin();
    let wal = Arc::new(wal);
    let threads: Vec<_> = bodies[1..]
        .iter()
        .map(|body| {
            let (body, medium, wal) = (*body, Arc::clone(&medium), Arc::clone(&wal));
            thread::spawn(move || body(&medium, &wal))
        })
        .collect();
    bodies[0](&medium, &wal);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    (medium, wal)
}

/// Two who append beside one who makes durable: what lies on the medium is what was appended, where its LSNs say.
#[test]
fn appended_groups_lie_where_their_lsns_say() {
    fn write(medium: &Medium, wal: &Wal, mark: u8) {
        let groups = [10, 30].map(|len| (len, append(wal, mark, len)));
        wal.flush().expect("durable");
        for (len, (start, end)) in groups {
            let bytes = medium.written(start, end).expect("a durable group was written");
            assert!(bytes.ends_with(&vec![mark; len]), "a group is not what was appended");
        }
    }
    model("append and seal", "appended_groups_lie_where_their_lsns_say", 3)
        .catches("an open block is not carried over", &["a group is not what was appended"])
        .check(|| {
            beside(
                ModelLog::LARGE,
                [|medium, wal| write(medium, wal, 1), |medium, wal| write(medium, wal, 2)],
            );
        });
}

/// Two committers, one of whom commits twice, so that the lead changes hands again.
#[test]
fn the_lead_changes_hands() {
    model("leader hand-over", "the_lead_changes_hands", 3)
        .catches("the next leader does not wait for its turn", &["one batch is in flight at a time"])
        .catches("the lead ends although somebody waits for it", ASLEEP)
        .check(|| {
            beside(ModelLog::LARGE, [commit, |medium, wal| (0..2).for_each(|_| commit(medium, wal))]);
        });
}

/// Who sees the mark without the mutex sees what it stands for.
#[test]
fn the_durable_mark_is_true() {
    fn look(medium: &Medium, wal: &Wal) {
        let mark = wal.durable_lsn();
        // Before anything is durable the mark stands where the log begins.
        assert!(mark <= Lsn::new(4096) || medium.synced() >= mark, "acknowledged before its sync");
        assert!(wal.durable_lsn() >= mark, "the durable LSN rises");
    }
    model("durable mark", "the_durable_mark_is_true", 2)
        .catches("the durable mark rises before the sync", EARLY)
        .catches("the durable mark rises to the end of the log", EARLY)
        .catches("the durable mark is published relaxed", EARLY)
        .check(|| {
            beside(ModelLog::LARGE, [commit, commit, look]);
        });
}

fn commit_woken_once(medium: &Medium, wal: &Wal) {
    commit(medium, wal);
    assert!(parking::wake_ups() <= 1, "a waiter is woken twice");
}

/// One leads, one succeeds, one follows, in all orders: nobody is left asleep, and nobody is woken twice.
#[test]
fn every_waiter_is_woken_once() {
    model("waiter wake-up", "every_waiter_is_woken_once", 2)
        .catches("followers are not woken", ASLEEP)
        .catches("the next leader is not woken", ASLEEP)
        .catches("who follows sleeps without looking again", ASLEEP)
        .catches("every batch wakes everybody", &["a waiter is woken twice"])
        .check(|| {
            let (_, wal) = beside(ModelLog::LARGE, [commit_woken_once; 3]);
            assert_eq!(wal.durable_lsn(), wal.end_lsn());
        });
}

/// The same with one preemption more.
#[test]
fn every_waiter_is_woken_once_at_length() {
    model("waiter wake-up", "every_waiter_is_woken_once_at_length", 3).check(|| {
        beside(ModelLog::LARGE, [commit_woken_once; 3]);
    });
}

/// The sync fails: everybody is told, nothing becomes durable (L9).
#[test]
fn a_failure_is_told_to_all() {
    fn told(medium: &Medium, wal: &Wal) {
        // The poison is invisible to the model: meet at something else before looking at it.
        medium.synced();
        wal.end_lsn();
        let mut group = GroupBuilder::new();
        group.push_logical(1, b"x");
        let Ok(space) = wal.reserve(group.encoded_len()) else { return };
        let end = wal.append(space, &mut group).end;
        assert!(matches!(wal.wait_durable(end), Err(WalError::Poisoned { .. })), "a failure is no success");
    }
    model("waiter wake-up, L9", "a_failure_is_told_to_all", 2)
        .catches("a failure wakes nobody", ASLEEP)
        .catches("the durable mark rises before the sync", &["a failure is no success"])
        .check(|| {
            let (_, wal) = beside(ModelLog { broken: true, ..ModelLog::LARGE }, [told; 3]);
            assert_eq!(wal.durable_lsn(), Lsn::new(4096), "a failure is no success");
        });
}

/// More than the buffer holds, beside one who commits: who waits for room leads if nobody else does.
#[test]
fn waiters_for_room_drive_the_log() {
    model("append and seal", "waiters_for_room_drive_the_log", 2)
        .catches("who waits for room does not lead", ASLEEP)
        .check(|| {
            let (_, wal) = beside(
                ModelLog::LARGE,
                [
                    |_, wal| {
                        let end = append(wal, 1, LONG).1;
                        wal.wait_durable(end).expect("durable");
                    },
                    |_, wal| {
                        for _ in 0..3 {
                            append(wal, 2, LONG);
                        }
                    },
                ],
            );
            wal.flush().expect("flush");
            assert_eq!(wal.durable_lsn(), wal.end_lsn());
        });
}

/// Room that is reserved ahead and spent without the mutex, beside one who lacks room and takes back what is left of it: it is
/// counted once.
#[test]
fn room_ahead_is_counted_once() {
    model("room ahead against who lacks room", "room_ahead_is_counted_once", 2)
        .catches(
            "who takes back room forgets what is spent meanwhile",
            &["no more room is given back than was promised"],
        )
        .check(|| {
            let (_, wal) = beside(
                ModelLog::LARGE,
                [
                    |_, wal| {
                        append(wal, 1, LONG + 100);
                        // Beside what is reserved ahead the buffer has no room for it.
                        append(wal, 1, LONG + 500);
                    },
                    |_, wal| {
                        for _ in 0..2 {
                            append(wal, 2, 20);
                        }
                    },
                ],
            );
            wal.flush().expect("flush");
            assert_eq!(wal.durable_lsn(), wal.end_lsn());
        });
}

/// Segments of one block: who appends makes the next ones while what lies below the mark is recycled.
#[test]
fn recycling_beside_appends_takes_no_block_away() {
    fn append_through(_: &Medium, wal: &Wal) {
        // The third needs a block that no segment is ready for.
        append(wal, 1, LONG);
        let end = append(wal, 1, LONG).1;
        wal.wait_durable(end).expect("durable");
        append(wal, 1, LONG);
    }
    fn recycle(_: &Medium, wal: &Wal) {
        // What a checkpoint might say: everything is in the pages.
        for _ in 0..2 {
            wal.recycle_below(wal.end_lsn()).expect("a healthy disk");
        }
    }
    model("segment recycle against append", "recycling_beside_appends_takes_no_block_away", 2)
        .catches(
            "the keep LSN passes the durable mark",
            &["a file that is not its segment's", "in a ready segment"],
        )
        .catches(
            "recycling does not wait for who makes segments",
            &["two segments of one name", "in a ready segment", "a file that is not its segment's"],
        )
        .catches("a segment is ready before its name is durable", &["whose name could still vanish"])
        .check(|| {
            let small = ModelLog { segments: 2, segment_blocks: 1, ..ModelLog::LARGE };
            let (medium, wal) = beside(small, [append_through, recycle]);
            append(&wal, 2, LONG);
            wal.flush().expect("durable");
            assert_eq!(medium.segments() as u64, wal.stats().segments, "a segment is lost");
        });
}

/// Two who commit, stamp a page each and are done, in any order, beside a checkpoint that looks at the log first and at the pages
/// then (L5): it never passes a group whose page it did not see.
#[test]
fn a_checkpoint_counts_groups_in_progress() {
    model("checkpoint scan against a group in progress", "a_checkpoint_counts_groups_in_progress", 3)
        .catches("a group in progress is not counted", &["a checkpoint passes a group"])
        .catches("who is done ends another's group", &["a checkpoint passes a group"])
        .catches("who is done says so relaxed", &["a checkpoint passes a group"])
        .catches("who claims a place acquires nothing", &["a checkpoint passes a group"])
        .check(|| {
            let (_, wal) = ModelLog::LARGE.begin();
            let wal = Arc::new(wal);
            let rec_lsns = Arc::new([(); 2].map(|()| AtomicU64::new(u64::MAX)));
            let writers: Vec<_> = (0..2)
                .map(|page| {
                    let (wal, rec_lsns) = (Arc::clone(&wal), Arc::clone(&rec_lsns));
                    thread::spawn(move || {
                        let mut group = GroupBuilder::new();
                        group.push_logical(1, b"x");
                        let space = wal.reserve(group.encoded_len()).expect("room");
                        let appended = wal.append(space, &mut group);
                        rec_lsns[page].store(appended.start.get(), Ordering::Release);
                        appended.start
                    })
                })
                .collect();
            let (end, in_progress) = wal.checkpoint_floor();
            let dirty = rec_lsns.iter().map(|rec_lsn| Lsn::new(rec_lsn.load(Ordering::Acquire)));
            let checkpoint = dirty.chain(in_progress).fold(end, Lsn::min);
            for writer in writers {
                let start = writer.join().expect("no panic");
                assert!(checkpoint <= start, "a checkpoint passes a group");
            }
        });
}
