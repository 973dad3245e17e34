//! Space taken back by itself: leaves that random inserts and removals left half empty go into fewer, and the file gets shorter.
//!
//! Invariant: every step is a group of its own that leaves every tree whole, with the same entries (B5), as those of a compaction; so it may
//! end anywhere. An error ends a round and nothing else: space is kept, and nobody is told but by the figures. While others write it adds no
//! more to the log than its share of what they add; an idle store comes to an end, and then nothing is looked at.
//!
//! ```text
//!   nothing to do ── others have logged a sixteenth of the file ──► pack, level by level, tree by tree ──► is much of the file free?
//!        ▲                                                                                              no │            │ yes
//!        ├─────────────────────────────────────────────────────────────────────────────────────────────────┘            ▼
//!        └──────────────── the tail is cut ◄──────────────────────────────────────────── nodes at its end move down
//! ```
//!
//! A turn is a bounded piece of that. What others logged since the last turn is what it goes by: it needs no counter that writers would have
//! to keep, and no clock, so that `tick` gives the same calls in the same state. A store is at rest once nobody else appended a group for
//! some turns, not for one: turns are short while there is little to do, and who writes slowly is no rest. Nothing is held back then but for who
//! reads what is not in memory: a turn is short where others read pages since the one before. A round some of which came beside writers is
//! followed by another one at rest: what it passed over, the cut among it, is done by nobody else.
//! docs/decisions/014-space-under-churn.md has what it brings and costs.

use std::collections::VecDeque;
use std::ops::Range;

use pagestone_btree::{BTree, Fill, TreeError};
use pagestone_page_format::PageId;
use pagestone_sync::Mutex;
use pagestone_sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::checkpoint::{Core, Next};
use crate::compact::{levels_below_root, pages_in_use};
use crate::{AutoCompact, StoreError, StoreResult};

/// How full leaves are made, in hundredths.
const HUNDREDTHS: u8 = 95;
/// Siblings of which one must be to spare: beside writers only where it takes least; at rest wherever it is worth the log at all.
const SIBLINGS_BESIDE_WRITERS: u8 = 4;
const SIBLINGS_AT_REST: u8 = 12;
/// The part of the file that others log before a round is worth it, and its least in bytes.
const DUE_PART: u64 = 16;
const DUE_BYTES_MIN: u64 = 256 << 10;
/// The same at rest, where the last round came beside writers and so left much.
const ROUGH_PART: u64 = 256;
/// A file with fewer pages is left alone.
const PAGES_MIN: u64 = 64;
/// The part of the file that is free before nodes are moved.
const FREE_PART: u64 = 16;
/// The same beside writers, who will use most of it again.
const FREE_PART_BESIDE_WRITERS: u64 = 4;
/// Steps of one turn.
const STEPS: usize = 256;
/// The same where others read pages since the last turn: each step may be a read that theirs wait behind.
const STEPS_BESIDE_READERS: usize = 8;
/// Turns at rest without a pause in which others could be seen to read.
const IN_A_ROW: u32 = 16;
/// What a look at a node counts for, in bytes of the log: it may be a page to read.
const LOOK_BYTES: i64 = 512;
/// The most that is saved up for later.
const CREDIT_MAX: i64 = 1 << 20;
/// Turns in which nobody else appended a group, after which the store is at rest.
const QUIET_TURNS: u32 = 8;
/// Rounds at rest, whatever was logged, for one that came beside writers: more than one, for they may be disturbed again.
const AGAIN: u8 = 3;

/// What it is about, and how far it has come.
#[derive(Debug, Default)]
pub(crate) struct AutoCompaction {
    state: Mutex<State>,
    /// Whether a round was begun and has not ended, or another one comes once nobody writes.
    pub(crate) under_way: AtomicBool,
    pub(crate) rounds: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) freed_pages: AtomicU64,
    pub(crate) moved_pages: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// The end of the log at the last turn, and behind what that wrote; nothing before the first one, for which nobody has written yet.
    seen: Option<Seen>,
    /// Turns since others appended a group.
    quiet: u32,
    /// What others logged since the last round began.
    others: u64,
    /// What may be logged; below zero after a step that took more.
    credit: i64,
    /// Free pages when the last round ended.
    free_left: u64,
    /// Whether some of the round's steps were taken beside writers, or the last round's: then more can be done at rest.
    rough: bool,
    /// Rounds that come at rest whatever was logged.
    again: u8,
    /// Turns without a pause.
    in_a_row: u32,
    /// Pages that were read up to the end of the last turn with steps.
    reads: u64,
    /// What is to be done in this round, if there is one.
    tasks: VecDeque<Task>,
}

/// How far the log had come.
#[derive(Debug, Clone, Copy)]
struct Seen {
    end: u64,
    groups: u64,
}

/// One level of one tree, or what comes behind them all.
#[derive(Debug)]
enum Task {
    Pack {
        tree: BTree,
        level: u8,
        from: Vec<u8>,
    },
    ShrinkRoot(BTree),
    /// Decides whether anything moves.
    Measure,
    Move {
        tree: BTree,
        level: u8,
        from: Vec<u8>,
        end: PageId,
    },
    Tail,
}

/// What a step came to.
#[derive(Default)]
struct Stepped {
    /// The rest of the task.
    rest: Option<Task>,
    looked: u64,
    log_bytes: u64,
}

impl Core {
    /// A bounded piece of it. Errors: `Poisoned` and `Closed`; any other ends the round and is counted.
    pub(crate) fn auto_compact(&self) -> StoreResult<Next> {
        let AutoCompact::Paced { log_percent } = self.auto_compact else { return Ok(Next::Idle) };
        let mut state = self.auto_compaction.state.lock();
        self.env.poison().check()?;
        let others_read = self.env.pool().stats().misses > state.reads;
        let log = self.env.log().stats();
        let now = Seen { end: log.end_lsn.get(), groups: log.groups };
        let before = state.seen.replace(now).unwrap_or(now);
        let others = now.end.saturating_sub(before.end);
        state.quiet = if now.groups > before.groups { 0 } else { state.quiet.saturating_add(1) };
        let rests = state.quiet >= QUIET_TURNS;
        state.others += others;
        let share = others.saturating_mul(log_percent.into()) / 100;
        state.credit = state.credit.saturating_add_unsigned(share).min(CREDIT_MAX);
        if state.tasks.is_empty() {
            match self.begin_round(&mut state, rests) {
                Ok(true) => {}
                // Soon where another one comes at rest.
                Ok(false) => return Ok(if state.again > 0 { Next::Soon } else { Next::Idle }),
                Err(_) => {
                    self.round_failed(&mut state)?;
                    return Ok(Next::Idle);
                }
            }
        }
        // A compaction that somebody asked for does all of this.
        let Some(_one) = self.compacting.try_lock() else {
            (state.others, state.rough) = (0, false);
            self.end_round(&mut state);
            return Ok(Next::Idle);
        };
        state.rough |= !rests;
        // What writers read is their own affair: beside them it is what they log that bounds a turn.
        let steps = if rests && others_read { STEPS_BESIDE_READERS } else { STEPS };
        let next = self.take_steps(&mut state, rests, steps)?;
        state.reads = self.env.pool().stats().misses;
        state.in_a_row = if rests && !others_read { (state.in_a_row + 1) % IN_A_ROW } else { 0 };
        Ok(if next == Next::AtOnce && state.in_a_row == 0 { Next::Soon } else { next })
    }

    /// Takes so many steps of the round, or as many as there are and may be taken now.
    fn take_steps(&self, state: &mut State, rests: bool, steps: usize) -> StoreResult<Next> {
        for _ in 0..steps {
            // Room is made by who makes checkpoints, with `tick` behind this turn; and what is left is for those who write.
            if self.is_filling() {
                return Ok(Next::Soon);
            }
            if !rests && state.credit <= 0 {
                return Ok(Next::Soon);
            }
            let Some(task) = state.tasks.pop_front() else { break };
            match self.auto_step(task, rests, state) {
                Ok(stepped) => {
                    let cost = stepped.looked.saturating_mul(LOOK_BYTES as u64) + stepped.log_bytes;
                    state.credit = state.credit.saturating_sub_unsigned(cost).max(-CREDIT_MAX);
                    state.seen = state.seen.map(|Seen { end, groups }| Seen {
                        end: end + stepped.log_bytes,
                        groups: groups + u64::from(stepped.log_bytes > 0),
                    });
                    self.auto_compaction.log_bytes.fetch_add(stepped.log_bytes, Ordering::Relaxed);
                    if let Some(rest) = stepped.rest {
                        state.tasks.push_front(rest);
                    }
                }
                // Its other levels say the same.
                Err(StoreError::Tree(TreeError::Dropped)) => {}
                Err(_) => {
                    self.round_failed(state)?;
                    return Ok(Next::Idle);
                }
            }
        }
        if state.tasks.is_empty() {
            self.end_round(state);
        }
        Ok(if rests { Next::AtOnce } else { Next::Soon })
    }

    fn end_round(&self, state: &mut State) {
        state.tasks.clear();
        state.free_left = self.env.allocator().free_count();
        if !state.rough {
            state.again = 0;
        }
        self.auto_compaction.under_way.store(state.again > 0, Ordering::Relaxed);
        self.auto_compaction.rounds.fetch_add(1, Ordering::Relaxed);
    }

    /// An error ended it, and the next one begins when it is worth it. Errors: those of the handle.
    fn round_failed(&self, state: &mut State) -> StoreResult<()> {
        self.env.check_open()?;
        self.env.poison().check()?;
        self.auto_compaction.failed.fetch_add(1, Ordering::Relaxed);
        (state.others, state.rough) = (0, false);
        self.end_round(state);
        Ok(())
    }

    /// If it is worth it by now.
    fn begin_round(&self, state: &mut State, rests: bool) -> StoreResult<bool> {
        let allocator = self.env.allocator();
        let pages = self.env.pool().store().len()?;
        if pages < PAGES_MIN {
            state.again = 0;
            self.auto_compaction.under_way.store(false, Ordering::Relaxed);
            return Ok(false);
        }
        let size = self.env.pool().page_size().get() as u64;
        let part = if rests && state.rough { ROUGH_PART } else { DUE_PART };
        let much_logged = state.others >= (pages * size / part).max(DUE_BYTES_MIN);
        let much_freed = allocator.free_count().saturating_sub(state.free_left) >= pages / FREE_PART;
        if much_logged || much_freed {
            state.again = AGAIN;
        } else if rests && state.again > 0 {
            state.again -= 1;
        } else {
            return Ok(false);
        }
        (state.others, state.rough) = (0, false);
        self.auto_compaction.under_way.store(true, Ordering::Relaxed);
        state.free_left = allocator.free_count();
        for (tree, levels) in self.trees_and_levels()? {
            let pack = |level| Task::Pack { tree: tree.clone(), level, from: Vec::new() };
            state.tasks.extend(levels.map(pack));
            state.tasks.push_back(Task::ShrinkRoot(tree));
        }
        state.tasks.push_back(Task::Measure);
        Ok(true)
    }

    /// Every tree that is not dropped, and its levels below the root. One whose root cannot be read is counted, and left alone.
    fn trees_and_levels(&self) -> StoreResult<Vec<(BTree, Range<u8>)>> {
        let mut all = Vec::new();
        for tree in self.kept_trees()? {
            match levels_below_root(&tree) {
                Ok(levels) => all.push((tree, levels)),
                Err(TreeError::Dropped) => {}
                Err(_) => {
                    self.env.poison().check()?;
                    self.auto_compaction.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(all)
    }

    fn auto_step(&self, task: Task, rests: bool, state: &mut State) -> StoreResult<Stepped> {
        let figures = &self.auto_compaction;
        match task {
            Task::Pack { tree, level, from } => {
                let siblings = if rests { SIBLINGS_AT_REST } else { SIBLINGS_BESIDE_WRITERS };
                let fill = Fill::UpTo { hundredths: HUNDREDTHS, siblings };
                let packed = tree.pack(level, &from, fill)?;
                figures.freed_pages.fetch_add(packed.freed, Ordering::Relaxed);
                let rest = packed.next.map(|from| Task::Pack { tree, level, from });
                Ok(Stepped { rest, looked: packed.looked, log_bytes: packed.log_bytes })
            }
            Task::ShrinkRoot(tree) => {
                tree.shrink_root()?;
                Ok(Stepped { looked: 1, ..Stepped::default() })
            }
            Task::Measure => {
                self.plan_moves(rests, state)?;
                Ok(Stepped::default())
            }
            Task::Move { tree, level, from, end } => {
                let moved = tree.relocate(level, &from, end)?;
                figures.moved_pages.fetch_add(moved.moved, Ordering::Relaxed);
                let next = moved.next.filter(|_| !moved.full);
                let rest = next.map(|from| Task::Move { tree, level, from, end });
                // A parent tells what its children's ids are.
                Ok(Stepped { rest, looked: 1, log_bytes: moved.log_bytes })
            }
            Task::Tail => {
                self.drop_free_regions();
                // As a compaction ends. Beside writers the next checkpoints, which come by themselves, cut what is long, and if writers end
                // before them, the round that comes at rest.
                if rests {
                    self.empty_log()?;
                    self.empty_log()?;
                    self.cut_whole_tail()?;
                }
                Ok(Stepped::default())
            }
        }
    }

    fn plan_moves(&self, rests: bool, state: &mut State) -> StoreResult<()> {
        self.env.allocator().load_all(&*self.env)?;
        let (in_use, file) = (pages_in_use(&self.env), self.env.pool().store().len()?);
        let part = if rests { FREE_PART } else { FREE_PART_BESIDE_WRITERS };
        if file.saturating_sub(in_use) < file / part {
            return Ok(());
        }
        // Room for what comes meanwhile.
        let end = PageId::new(in_use + in_use / (4 * FREE_PART));
        for (tree, levels) in self.trees_and_levels()? {
            let move_level = |level| Task::Move { tree: tree.clone(), level, from: Vec::new(), end };
            state.tasks.extend(levels.map(move_level));
        }
        state.tasks.push_back(Task::Tail);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use pagestone_testkit::{DiskOp, FaultPlan, SimDisk};

    use super::*;
    use crate::{Background, Options, Store};

    /// Otherwise a damaged catalog, or one read that fails, would end a handle whose other trees are whole.
    #[test]
    fn catalog_that_cannot_be_read_ends_a_round_and_not_the_handle() {
        let disk = SimDisk::new(1);
        let options = Options {
            background: Background::Manual,
            pool_bytes: 32 * 4096,
            log_bytes: 4 << 20,
            segment_bytes: 1 << 20,
            ..Options::default()
        };
        let open = || {
            let disk: Arc<dyn pagestone_direct_io::Disk> = Arc::new(disk.clone());
            Store::open_on(disk, Path::new("/store"), options.clone()).expect("opens")
        };
        let fill = |store: &Store| {
            for number in 0..4000_u64 {
                store.default_tree().put(&number.to_be_bytes(), &[7; 100]).expect("put");
            }
        };
        let store = open();
        // So many that their names take several pages, which nobody keeps in the pool.
        for number in 0..60_u8 {
            store.tree([number; 200]).expect("made");
        }
        fill(&store);
        store.close().expect("closed");
        drop(store);
        let store = open();
        let core = &store.inner().core;
        assert_eq!(core.auto_compact().expect("nothing to do yet"), Next::Idle);
        fill(&store);
        store.checkpoint().expect("a healthy disk");
        let figures = &core.auto_compaction;
        // Nobody has asked for a tree by its name: the catalog is read now.
        for (failed, call) in [(1, DiskOp::Len), (2, DiskOp::Read)] {
            let fault = disk.fail(FaultPlan::errno(5).on(call).forever());
            let turn = core.auto_compact();
            assert!(disk.injected(fault) > 0);
            disk.heal();
            assert_eq!(turn.expect("no reason to end the handle"), Next::Idle, "{call:?}");
            let told = (figures.failed.load(Ordering::Relaxed), figures.under_way.load(Ordering::Relaxed));
            assert_eq!(told, (failed, false));
            // The next one is begun when it is worth it again.
            assert_eq!(core.auto_compact().expect("a healthy disk"), Next::Idle);
            assert_eq!(figures.failed.load(Ordering::Relaxed), failed);
            fill(&store);
        }
        core.auto_compact().expect("a healthy disk");
        assert!(figures.under_way.load(Ordering::Relaxed) || figures.rounds.load(Ordering::Relaxed) > 0);
    }
}
