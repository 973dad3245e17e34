//! A checkpoint never passes a change that is in memory alone, in every interleaving of a round and a writer with so many preemptions as
//! each model says (L5); and each model fails if what it proves is taken out of the code.
//!
//! Log, pool and mini-transactions are the production types. Replaced are the log's disk (`pagestone_wal::model`), the arena, and storage,
//! which is here and remembers how far each of its pages has come.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom --cfg pagestone_faults" cargo test --release -p pagestone-mini-txn --test loom_checkpoint
//! ```
#![cfg(loom)]

use std::sync::{Arc, Mutex, PoisonError};

use pagestone_allocator::LoggedAllocator;
use pagestone_buffer_pool::{BufferPool, PoolOptions};
use pagestone_mini_txn::{LoggedPool, Reserve};
use pagestone_page_format::{
    ENGINE_OP_KINDS, Lsn, OpKind, Page, PageHeader, PageId, PageKind, PageOp, PageResult, PageSize,
    PageStore, PageWriter, Poison, WriteAhead,
};
use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::checking::model;
use pagestone_sync::thread;
use pagestone_wal::Wal;
use pagestone_wal::model::{Medium, ModelLog};

const PASSED: &[&str] = &["L5: a checkpoint passes a change that is in memory alone"];
const PAGES: usize = 2;
/// The word behind the header.
const WORD: usize = 4;

/// Storage that knows the LSN of each of its pages, and that the log is synced before any of them is written.
#[derive(Debug)]
struct Storage {
    io: AtomicU64,
    lsns: Mutex<[Lsn; PAGES]>,
    medium: Arc<Medium>,
}

impl Storage {
    fn lsns(&self) -> [Lsn; PAGES] {
        *self.lsns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn let_others_run(&self) {
        self.io.fetch_add(1, Ordering::Relaxed);
    }
}

impl PageStore for Storage {
    fn page_size(&self) -> PageSize {
        PageSize::new(64).expect("a page of a model")
    }

    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        page.bytes_mut().fill(0);
        PageHeader::new(PageKind::PLAIN, id).encode(page.bytes_mut());
        Ok(())
    }

    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        assert!(page.lsn() <= self.medium.synced(), "P11: a page goes out before its log");
        self.let_others_run();
        self.lsns.lock().unwrap_or_else(PoisonError::into_inner)[page.id().get() as usize] = page.lsn();
        self.let_others_run();
        Ok(())
    }

    fn sync(&self) -> PageResult<()> {
        Ok(())
    }

    fn len(&self) -> PageResult<u64> {
        Ok(PAGES as u64)
    }

    fn grow(&self, _: u64) -> PageResult<()> {
        Ok(())
    }
}

/// Writes a word.
struct Mark(u64);

impl PageOp for Mark {
    fn kind(&self) -> OpKind {
        *ENGINE_OP_KINDS.start()
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        page.put_word(WORD, self.0).expect("a word of the page");
        Ok(())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }
}

struct World {
    env: LoggedPool,
    storage: Arc<Storage>,
}

impl World {
    /// All pages are resident and clean.
    fn new() -> Self {
        let (medium, log) = ModelLog::LARGE.begin();
        let log: Arc<Wal> = Arc::new(log);
        let storage =
            Arc::new(Storage { io: AtomicU64::new(0), lsns: Mutex::new([Lsn::ZERO; PAGES]), medium });
        let options =
            PoolOptions { log: Some(Arc::clone(&log) as Arc<dyn WriteAhead>), ..PoolOptions::new(PAGES) };
        let pool = BufferPool::with_options(Box::new(Arc::clone(&storage)), options).expect("a small pool");
        for id in 0..PAGES as u64 {
            drop(pool.fault(PageId::new(id)).expect("storage is healthy"));
        }
        let allocator = LoggedAllocator::under_log(storage.page_size(), PageId::new(PAGES as u64));
        Self { env: LoggedPool::new(Arc::new(pool), log, allocator, Poison::new()), storage }
    }

    /// One group that changes one page; gives its end.
    fn change(&self, page: usize) -> Lsn {
        let pin = self.env.pool().fault(PageId::new(page as u64)).expect("resident");
        let reserve = Reserve { log_bytes: 64, pins: 1, ..Reserve::default() };
        let mut txn = self.env.begin(reserve).expect("room");
        let handle = txn.latch(pin.exclusive().expect("nobody panics"));
        txn.change(handle, &Mark(7)).expect("it fits");
        txn.commit().expect("it was reserved").lsn
    }

    /// What a round says that it reached, and how far storage has come then.
    fn round(&self) -> (Lsn, [Lsn; PAGES]) {
        let round = self.env.checkpoint_round(Lsn::MAX, PAGES).expect("a healthy disk");
        (round.reached, self.storage.lsns())
    }
}

/// Rounds beside threads that make the changes of `writers` each, pages by their number.
fn rounds_beside(rounds: usize, writers: &'static [&'static [usize]]) {
    let world = Arc::new(World::new());
    let writers: Vec<_> = writers
        .iter()
        .map(|pages| {
            let world = Arc::clone(&world);
            thread::spawn(move || pages.iter().map(|page| (*page, world.change(*page))).collect::<Vec<_>>())
        })
        .collect();
    let rounds: Vec<_> = (0..rounds).map(|_| world.round()).collect();
    for (page, end) in writers.into_iter().flat_map(|writer| writer.join().expect("no panic")) {
        for (reached, stored) in &rounds {
            // Recovery begins at what was reached, which is no place inside a group.
            assert!(
                *reached < end || stored[page] >= end,
                "L5: a checkpoint passes a change that is in memory alone"
            );
        }
    }
}

#[test]
fn l5_a_round_passes_no_change_that_storage_lacks() {
    model("L5 checkpoint over log, pool and groups", "l5_a_round_passes_no_change_that_storage_lacks", 3)
        .catches("a group in progress is not counted", PASSED)
        .catches("a group ends before its pages are stamped", PASSED)
        .catches("a checkpoint asks the log after its scan", PASSED)
        .check(|| rounds_beside(1, &[&[0]]));
}

/// The page is changed again while it is copied and written: it comes back younger (L3, P12), and the next round does not pass it.
#[test]
fn l5_a_page_that_changes_while_it_is_written_is_not_passed() {
    model(
        "L5 checkpoint over log, pool and groups",
        "l5_a_page_that_changes_while_it_is_written_is_not_passed",
        2,
    )
    .catches("a write settles what came after its copy", PASSED)
    .check(|| rounds_beside(2, &[&[0, 0]]));
}

#[test]
fn l5_two_writers() {
    model("L5 checkpoint over log, pool and groups", "l5_two_writers", 2)
        .catches("who is done ends another's group", PASSED)
        .check(|| rounds_beside(1, &[&[0], &[1]]));
}
