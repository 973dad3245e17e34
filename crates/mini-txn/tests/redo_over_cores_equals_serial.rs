//! Prevents: threads of redo that bring a page's records out of order, lose some, or bring a page to another state than one thread
//! does (L7); a page that cannot be read and that ends in a hang, a panic, or in silence.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pagestone_buffer_pool::BufferPool;
use pagestone_mini_txn::{Redo, RedoCounts};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, Lsn, MemoryStore, OpKind, PAGE_HEADER_SIZE, Page, PageError, PageHeader, PageId,
    PageKind, PageOp, PageResult, PageSize, PageStore, PageWriter, Poison, RedoRange, RedoTable, StoreUuid,
};
use pagestone_testkit::SimDisk;
use pagestone_wal::{DurableBy, GroupBuilder, Recovery, Wal, WalError, WalOptions, WalStart};

const FORMAT: OpKind = 0x7f00;
const FOLD: OpKind = 0x7f01;
const BREAK: OpKind = 0x7f02;

/// Makes a page from nothing, or folds a number into its first word: no two orders of the same numbers give the same word.
#[derive(Debug, Clone, Copy)]
struct Op {
    kind: OpKind,
    number: u64,
}

/// The first word behind the page's header.
const WORD: usize = PAGE_HEADER_SIZE / 8;

impl PageOp for Op {
    fn kind(&self) -> OpKind {
        self.kind
    }
    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        let before = if self.kind == FORMAT { 0 } else { page.read().word(WORD).expect("a word") };
        page.put_word(WORD, before.rotate_left(7).wrapping_mul(31) ^ self.number).expect("a word");
        Ok(())
    }
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_le_bytes());
    }
}

fn table() -> RedoTable {
    let apply = |kind, payload: &[u8], page: &PageWriter<'_>| {
        assert!(kind != BREAK, "a bug of ours");
        Op { kind, number: u64::from_le_bytes(payload.try_into().expect("eight bytes")) }.apply(page)
    };
    RedoTable::new(vec![RedoRange { kinds: FORMAT..=BREAK, apply, formats: |kind| kind == FORMAT }])
}

fn log(disk: &SimDisk, generation: u64) -> Recovery {
    let options = WalOptions {
        segment_bytes: 1 << 20,
        log_bytes: 64 << 20,
        durable_by: Some(DurableBy::Fdatasync),
        ..WalOptions::default()
    };
    let (disk, dir) = (Arc::new(disk.clone()), PathBuf::from("/log"));
    if generation == 0 {
        Wal::create(disk.clone(), dir.clone(), &options, StoreUuid::default()).expect("a log");
    }
    let start = WalStart {
        uuid: StoreUuid::default(),
        generation,
        checkpoint: Lsn::ZERO,
        keep_from: Lsn::ZERO,
        newest_copy_lost: false,
        poison: Poison::new(),
    };
    Recovery::open(disk, dir, &options, start).expect("a log")
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// A log of so many groups of one to four pages. Pages from `old` on are formatted when they come up for the first time.
fn write_log(disk: &SimDisk, seed: u64, groups: u64, pages: u64, old: u64, last: Option<Op>) {
    let wal = log(disk, 0).start(1).expect("begins");
    let (mut random, mut known) = (Random(seed), vec![false; pages as usize]);
    known[..old as usize].fill(true);
    for _ in 0..groups {
        let mut group = GroupBuilder::new();
        for _ in 0..=random.below(4) {
            let page = random.below(pages);
            let kind = if std::mem::replace(&mut known[page as usize], true) { FOLD } else { FORMAT };
            group.push(PageId::new(page), &Op { kind, number: random.below(u64::MAX) });
        }
        append(&wal, &mut group);
    }
    if let Some(op) = last {
        let mut group = GroupBuilder::new();
        group.push(PageId::new(0), &op);
        append(&wal, &mut group);
    }
    wal.flush().expect("durable");
}

fn append(wal: &Wal, group: &mut GroupBuilder) {
    let space = wal.reserve(group.encoded_len()).expect("room");
    drop(wal.append(space, group));
}

/// Storage of pages, one of which cannot be read.
#[derive(Debug)]
struct OneBad {
    inner: MemoryStore,
    bad: AtomicU64,
}

impl PageStore for OneBad {
    fn page_size(&self) -> PageSize {
        self.inner.page_size()
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.inner.read_into(id, page)?;
        if id.get() == self.bad.load(Ordering::SeqCst) {
            return Err(PageError::ChecksumMismatch { page_id: id, stored: 1, computed: 2 });
        }
        Ok(())
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        self.inner.write_page(page)
    }
    fn sync(&self) -> PageResult<()> {
        self.inner.sync()
    }
    fn len(&self) -> PageResult<u64> {
        self.inner.len()
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        self.inner.grow(pages)
    }
}

/// Storage with `old` pages that were written, some of them after the log's last group.
fn storage(old: u64, random: &mut Random) -> Arc<OneBad> {
    let inner = MemoryStore::new(DEFAULT_PAGE_SIZE);
    inner.grow(old.max(1)).expect("room");
    for id in (0..old).map(PageId::new) {
        let mut page = inner.allocate_page(id);
        PageHeader::new(PageKind::PLAIN, id).encode(page.bytes_mut());
        if random.below(8) == 0 {
            page.set_lsn(Lsn::new(20_000 + random.below(40_000)));
        }
        inner.write_page(&mut page).expect("written");
    }
    Arc::new(OneBad { inner, bad: u64::MAX.into() })
}

fn run(disk: &SimDisk, redo: Redo<'_>) -> Result<RedoCounts, WalError> {
    let mut redo = redo;
    log(disk, 1).replay(|group| redo.group(&group))?;
    Ok(redo.finish()?)
}

fn words(pool: &BufferPool, pages: u64) -> Vec<(Lsn, u64)> {
    let word = |id| {
        let page = pool.fetch(PageId::new(id)).expect("a page");
        let page = page.read().expect("a copy");
        (page.lsn(), u64::from_le_bytes(page.payload()[..8].try_into().expect("eight bytes")))
    };
    (0..pages).map(word).collect()
}

#[test]
fn any_number_of_threads_gives_the_same_pages() {
    for seed in 0..12 {
        let mut random = Random(seed);
        let (pages, frames) = (400, 4 + random.below(100) as usize);
        let (groups, old) = (2_000 + random.below(4_000), random.below(pages));
        let disk = SimDisk::new(seed);
        write_log(&disk, seed, groups, pages, old, None);
        let mut all = Vec::new();
        for threads in [0, 1, 2, 3, 7] {
            let store = storage(old, &mut Random(seed));
            let pool = Arc::new(BufferPool::new(Arc::clone(&store), frames));
            let first = run(&disk, Redo::with_threads(&pool, table(), threads)).expect("applied");
            let once = words(&pool, pages);
            let again = run(&disk, Redo::with_threads(&pool, table(), threads)).expect("applied");
            assert_eq!((again.applied, again.records), (0, first.records), "seed {seed}, {threads} threads");
            assert_eq!(words(&pool, pages), once, "seed {seed}, {threads} threads: the second time");
            all.push((RedoCounts { pages_read: 0, ..first }, once));
        }
        assert!(all[0].0.reformatted > 0 && all[0].0.skipped > 0, "seed {seed}: nothing but plain redo");
        for (threads, other) in [1, 2, 3, 7].into_iter().zip(&all[1..]) {
            assert!(*other == all[0], "seed {seed}: {threads} threads differ");
        }
    }
}

#[test]
fn every_page_is_marked_dirty_whoever_applies() {
    let (pages, disk) = (200, SimDisk::new(1));
    write_log(&disk, 1, 3_000, pages, pages, None);
    for threads in [1, 2] {
        let store = storage(pages, &mut Random(1));
        let pool = Arc::new(BufferPool::new(store, 1_000));
        run(&disk, Redo::with_threads(&pool, table(), threads)).expect("applied");
        assert_eq!(pool.dirty_len() as u64, pages, "L10, {threads} threads");
        pool.flush_all().expect("written");
        run(&disk, Redo::with_threads(&pool, table(), threads)).expect("skipped");
        assert_eq!(pool.dirty_len() as u64, pages, "L10, {threads} threads, the second time");
    }
}

#[test]
fn a_page_that_cannot_be_read_is_a_typed_error_and_can_be_tried_again() {
    let (pages, disk) = (300, SimDisk::new(2));
    write_log(&disk, 2, 60_000, pages, pages, None); // several windows
    for threads in [1, 2, 5] {
        for bad in [0, 31, 150, 299] {
            let store = storage(pages, &mut Random(2));
            let pool = Arc::new(BufferPool::new(Arc::clone(&store), 64));
            store.bad.store(bad, Ordering::SeqCst);
            match run(&disk, Redo::with_threads(&pool, table(), threads)) {
                Err(WalError::Page(PageError::ChecksumMismatch { page_id, .. })) if page_id.get() == bad => {}
                other => panic!("page {bad}, {threads} threads: {other:?}"),
            }
            store.bad.store(u64::MAX, Ordering::SeqCst);
            let healthy = storage(pages, &mut Random(2));
            let expected = Arc::new(BufferPool::new(healthy, 64));
            run(&disk, Redo::new(&expected, table())).expect("applied");
            run(&disk, Redo::with_threads(&pool, table(), threads)).expect("applied once it can be read");
            assert_eq!(words(&pool, pages), words(&expected, pages), "page {bad}, {threads} threads");
        }
    }
}

#[test]
fn a_panic_in_a_thread_is_told() {
    let (pages, disk) = (300, SimDisk::new(3));
    write_log(&disk, 3, 100, pages, pages, Some(Op { kind: BREAK, number: 0 }));
    let pool = Arc::new(BufferPool::new(storage(pages, &mut Random(3)), 64));
    match run(&disk, Redo::with_threads(&pool, table(), 2)) {
        Err(WalError::Poisoned { cause }) => assert!(cause.contains("a bug of ours"), "{cause}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn dropping_it_half_way_ends_its_threads() {
    let (pages, disk) = (300, SimDisk::new(4));
    write_log(&disk, 4, 40_000, pages, pages, None);
    let pool = Arc::new(BufferPool::new(storage(pages, &mut Random(4)), 64));
    let mut redo = Redo::with_threads(&pool, table(), 3);
    let mut groups = 0;
    let stopped = log(&disk, 1).replay(|group| {
        groups += 1;
        if groups > 30_000 { Err(PageError::Closed) } else { redo.group(&group) }
    });
    assert!(matches!(stopped, Err(WalError::Page(PageError::Closed))));
    drop(redo);
    assert_eq!(Arc::strong_count(&pool), 1, "a thread is left");
}
