//! Prevents: a record that was acknowledged and is gone, a moved record that is there twice or not at all, a page that belongs to
//! nobody: an engine's own operations, one group over several pages, cut by a power failure anywhere (R1, R2, R6).
//!
//! Each operation of the heap, alone and after others, on a simulated disk; every state that a power cut after any of its writes,
//! syncs and renames can leave where they are few, else a covering set, torn at 512 bytes.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use pagestone::alloc::MapSource;
use pagestone::wal::DurableBy;
use pagestone::{PageId, PageResult, WalOptions};
use pagestone_layers_examples::heap::{HeapError, HeapFile, HeapOptions, RecordId, max_record};
use pagestone_testkit::{CrashOptions, Rng, SimDisk};

type State = BTreeMap<RecordId, Vec<u8>>;

fn open(disk: &SimDisk) -> PageResult<HeapFile> {
    let log = WalOptions {
        segment_bytes: 64 << 10,
        log_bytes: 256 << 10,
        durable_by: Some(DurableBy::Fdatasync),
        ..WalOptions::default()
    };
    HeapFile::open_on(Arc::new(disk.clone()), Path::new("/heap"), &HeapOptions { frames: 8, log })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Insert,
    Grow,
    UpdateInPlace,
    Move,
    Delete,
    EmptyAPage,
    Vacuum,
    Checkpoint,
}

const OPS: [Op; 8] = [
    Op::Insert,
    Op::Grow,
    Op::UpdateInPlace,
    Op::Move,
    Op::Delete,
    Op::EmptyAPage,
    Op::Vacuum,
    Op::Checkpoint,
];

/// A heap that runs operations, and the states that it went through.
struct Run {
    disk: SimDisk,
    heap: HeapFile,
    states: Vec<State>,
    random: Rng,
}

impl Run {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let heap = open(&disk).expect("a healthy disk");
        Self { disk, heap, states: vec![State::new()], random: Rng::new(seed) }
    }

    fn now(&self) -> &State {
        self.states.last().expect("never empty")
    }

    /// What was done is acknowledged from here on.
    fn acknowledge(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.now().clone();
        change(&mut state);
        self.states.push(state);
        self.disk.note(self.states.len() as u64 - 1);
    }

    fn record(&mut self, len: usize) -> Vec<u8> {
        let first = self.random.below(256) as usize;
        (0..len).map(|at| (first + at * 7) as u8).collect()
    }

    fn some_id(&mut self) -> Option<RecordId> {
        let at = self.random.below(self.now().len().max(1) as u64) as usize;
        self.now().keys().nth(at).copied()
    }

    fn insert(&mut self, len: usize) -> RecordId {
        let record = self.record(len);
        let id = self.heap.insert(&record).expect("a healthy disk");
        self.acknowledge(|state| assert_eq!(state.insert(id, record), None, "{id:?} was given twice"));
        id
    }

    fn delete(&mut self, id: RecordId) {
        assert!(self.heap.delete(id).expect("a healthy disk"));
        self.acknowledge(|state| drop(state.remove(&id)));
    }

    fn update(&mut self, id: RecordId, len: usize) {
        let record = self.record(len);
        let now = self.heap.update(id, &record).expect("a healthy disk").expect("it is there");
        self.acknowledge(|state| {
            state.remove(&id);
            state.insert(now, record);
        });
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Insert => drop(self.insert(300)),
            Op::Grow => {
                let before = self.heap.pages().expect("reads").len();
                while self.heap.pages().expect("reads").len() == before {
                    self.insert(1500);
                }
            }
            Op::UpdateInPlace => self.some_id().into_iter().for_each(|id| {
                let len = self.now()[&id].len();
                self.update(id, len);
            }),
            Op::Move => self.some_id().into_iter().for_each(|id| self.update(id, 3600)),
            Op::Delete => self.some_id().into_iter().for_each(|id| self.delete(id)),
            Op::EmptyAPage => {
                let page = self.some_id().map(|id| id.page);
                let ids: Vec<_> = self.now().keys().filter(|id| Some(id.page) == page).copied().collect();
                ids.into_iter().for_each(|id| self.delete(id));
            }
            Op::Vacuum => {
                self.heap.vacuum().expect("a healthy disk");
                self.acknowledge(|_| {});
            }
            Op::Checkpoint => {
                self.heap.checkpoint().expect("a healthy disk");
                self.acknowledge(|_| {});
            }
        }
    }

    /// Looks at every image of what was done since `from`, and cuts the recovery of one in `cut_again` again.
    fn look(&self, from: usize, cut_again: usize, seen: &mut HashSet<u64>, what: &dyn std::fmt::Debug) {
        assert_eq!(self.disk.audit(), [], "the disk saw a broken rule: {what:?}");
        let few = CrashOptions {
            exhaustive_max: 8,
            pairs_max: 2,
            splits_max: 4,
            random: 1,
            ..CrashOptions::default()
        };
        for image in self.disk.crash_states(&CrashOptions { cuts: from..usize::MAX, ..few.clone() }) {
            if !seen.insert(image.fingerprint()) {
                continue;
            }
            let context = || format!("{what:?}: {}", image.explain());
            let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
            let legal = &self.states[acknowledged..self.states.len().min(acknowledged + 2)];
            let disk = image.disk();
            let found = recovered(&disk, &context);
            assert!(legal.contains(&found), "after {acknowledged}: {} records: {}", found.len(), context());
            if seen.len().is_multiple_of(cut_again) {
                for again in disk.crash_states(&few) {
                    let context = || format!("{} after {}", again.explain(), context());
                    assert!(recovered(&again.disk(), &context) == found, "R6: {}", context());
                }
            }
        }
    }
}

/// What is in the heap after a crash; every page of the file is the space map, of the chain, or free (V1).
fn recovered(disk: &SimDisk, context: &dyn Fn() -> String) -> State {
    let fine = |result: PageResult<_>| result.unwrap_or_else(|error| panic!("{error}: {}", context()));
    let heap = open(disk).unwrap_or_else(|error| panic!("{error}: {}", context()));
    let found = fine(heap.scan());
    let chain: HashSet<PageId> =
        heap.pages().unwrap_or_else(|error| panic!("{error}: {}", context())).into_iter().collect();
    let map = heap.env().load_region(0).expect("readable").expect("formatted");
    for id in (1..heap.env().pool().store().len().expect("a length")).map(PageId::new) {
        let in_use = map.is_allocated(id).expect("of region 0");
        assert_eq!(in_use, chain.contains(&id), "page {id} is lost or used twice: {}", context());
    }
    let count = found.len();
    let state: State = found.into_iter().collect();
    assert_eq!(state.len(), count, "a record twice: {}", context());
    state
}

#[test]
fn every_operation_cut_anywhere() {
    let mut seen = HashSet::new();
    // From nothing: the first format of every file, and the first group.
    let mut run = Run::new(1);
    run.insert(100);
    run.look(0, 64, &mut seen, &"a new heap");
    // Each operation after each other one, on a heap of a few pages.
    for (seed, (before, last)) in (2..).zip(OPS.iter().flat_map(|before| OPS.map(|last| (*before, last)))) {
        let mut run = Run::new(seed);
        [Op::Grow, Op::Insert, Op::Grow].into_iter().for_each(|op| run.run(op));
        run.run(before);
        let from = run.disk.journal_len();
        run.run(last);
        run.look(from, 64, &mut seen, &(before, last));
    }
    println!("{} distinct images", seen.len());
    assert!(seen.len() > 2500, "{} distinct images", seen.len());
}

#[test]
fn long_histories_through_a_log_that_is_used_again() {
    let mut run = Run::new(77);
    for _ in 0..400 {
        // No checkpoint of its own: the heap makes one whenever its log is half full.
        let op = OPS[run.random.below(OPS.len() as u64 - 1) as usize];
        run.run(op);
        let mut found: State = run.heap.scan().expect("reads").into_iter().collect();
        for id in run.now().keys().copied().collect::<Vec<_>>() {
            assert_eq!(run.heap.get(id).expect("reads"), found.remove(&id));
        }
        assert!(found.is_empty());
    }
    let stats = run.heap.env().log().stats();
    assert!(stats.end_lsn.get() > stats.budget && stats.segments_recycled > 2, "not used again: {stats:?}");
    // Recovery of a log this long is many operations: not cut again here.
    run.look(run.disk.journal_len() - 12, usize::MAX, &mut HashSet::new(), &"a long history");
}

#[test]
fn a_record_that_fits_no_page_changes_nothing() {
    let run = Run::new(5);
    let max = max_record(run.heap.env().pool().page_size());
    let id = run.heap.insert(&vec![1; max]).expect("the longest");
    let too_long = run.heap.insert(&vec![1; max + 1]);
    assert!(matches!(too_long, Err(HeapError::RecordTooLong { len, max: m }) if len == max + 1 && m == max));
    assert!(run.heap.update(id, &vec![1; max + 1]).is_err());
    assert_eq!(run.heap.get(id).expect("reads"), Some(vec![1; max]));
    assert!(run.heap.delete(id).expect("deletes") && !run.heap.delete(id).expect("is gone"));
    assert_eq!(run.heap.update(id, b"x").expect("is gone"), None);
}
