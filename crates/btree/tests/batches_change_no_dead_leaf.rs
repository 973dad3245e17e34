//! Prevents: a batch that changes a page which was merged away since the batch was planned, thrown out of the pool for an extent and read
//! again as it once was: what it puts there is in no tree.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use pagestone_btree::{BTree, BatchChange, BatchOp, apply_batch};
use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::{MemoryStore, Page, PageId, PageResult, PageSize, PageStore};
use support::{environment_over, trees};

const PAGE: usize = 4096;
const MARK: [u8; 300] = [0xab; 300];

fn key(number: u32) -> Vec<u8> {
    format!("key-{number:04}").into_bytes()
}

/// What is to happen while values are written, before the first and the second of them.
#[derive(Debug, Default)]
struct Between {
    arrived: Mutex<Vec<Sender<Vec<PageId>>>>,
    go_on: Mutex<Vec<Receiver<()>>>,
}

#[derive(Debug)]
struct Pausing {
    pages: MemoryStore,
    /// Pages that storage had with the mark when they were to be written over.
    marked: Arc<AtomicUsize>,
    between: Arc<Between>,
}

impl PageStore for Pausing {
    fn page_size(&self) -> PageSize {
        self.pages.page_size()
    }

    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.pages.read_into(id, page)
    }

    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        self.pages.write_page(page)
    }

    fn write_new(&self, pages: &mut [Page]) -> PageResult<()> {
        for page in pages.iter() {
            let mut old = self.pages.allocate_page(page.id());
            let is_there = self.pages.read_into(page.id(), &mut old).is_ok();
            if is_there && old.bytes().windows(MARK.len()).any(|bytes| bytes == MARK) {
                self.marked.fetch_add(1, Ordering::Relaxed);
            }
        }
        let arrived = self.between.arrived.lock().expect("no panic").pop();
        let go_on = self.between.go_on.lock().expect("no panic").pop();
        if let (Some(arrived), Some(go_on)) = (arrived, go_on) {
            arrived.send(pages.iter().map(Page::id).collect()).expect("somebody listens");
            go_on.recv().expect("somebody tells");
        }
        self.pages.write_many(pages)
    }

    fn sync(&self) -> PageResult<()> {
        self.pages.sync()
    }

    fn len(&self) -> PageResult<u64> {
        self.pages.len()
    }

    fn grow(&self, pages: u64) -> PageResult<()> {
        self.pages.grow(pages)
    }
}

/// One batch, which a long value in another tree makes slow.
fn put_with_long_value(env: &Arc<LoggedPool>, trees: &[BTree], number: u32) {
    let (key, long) = (key(number), vec![1; 5000]);
    let ops = [
        BatchOp { tree: &trees[0], key: &key, change: BatchChange::Put(b"new") },
        BatchOp { tree: &trees[1], key: b"slow", change: BatchChange::Put(&long) },
    ];
    apply_batch(env, &ops).expect("a batch");
}

#[test]
fn what_a_batch_puts_is_there_though_its_leaf_became_an_extent() {
    let (marked, between) = (Arc::new(AtomicUsize::new(0)), Arc::new(Between::default()));
    let pages = MemoryStore::new(PageSize::new(PAGE).expect("a page size"));
    let store = Pausing { pages, marked: Arc::clone(&marked), between: Arc::clone(&between) };
    let env = environment_over(store, 256);
    let trees = trees(&env, 3);
    for number in 0..400 {
        trees[0].put(&key(10 * number), &MARK).expect("a put");
    }
    env.pool().flush_all().expect("storage has the leaves");
    let ((batch_arrived, batch_waits), (batch_go, batch_goes_on)) = (channel(), channel());
    let ((value_arrived, value_waits), (value_go, value_goes_on)) = (channel(), channel());
    // Taken from the end.
    *between.arrived.lock().expect("no panic") = vec![value_arrived, batch_arrived];
    *between.go_on.lock().expect("no panic") = vec![value_goes_on, batch_goes_on];
    std::thread::scope(|scope| {
        let (env, trees) = (&env, &trees);
        let batch = scope.spawn(move || put_with_long_value(env, trees, 2005));
        batch_waits.recv().expect("the batch is planned");
        // Its leaf goes, with others, and what it was becomes a value.
        for number in 1..399 {
            trees[0].remove(&key(10 * number)).expect("a removal").expect("it was there");
        }
        let freed = trees[0].stats().expect("a tree").pages_freed() as usize;
        env.allocator().checkpoint_passed(env.log().end_lsn());
        let value = vec![2; freed * env.pool().page_size().payload_len()];
        scope.spawn(move || trees[2].put(b"value", &value).expect("a put"));
        let taken = value_waits.recv().expect("the value has its place");
        assert_eq!(taken.len(), freed);
        batch_go.send(()).expect("the batch waits");
        batch.join().expect("the batch ends");
        value_go.send(()).expect("the value waits");
    });
    assert!(marked.load(Ordering::Relaxed) > 20, "leaves became parts of the value");
    assert_eq!(trees[0].get(&key(2005)).expect("a look-up"), Some(b"new".to_vec()));
    assert_eq!(trees[0].len().expect("a scan"), 3);
}
