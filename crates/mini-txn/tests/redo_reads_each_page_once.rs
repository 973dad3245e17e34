//! Prevents: recovery that takes one random read a group where the pool is smaller than what the log names; groups of one page
//! applied out of order, twice, or not at all (L7).

use std::path::PathBuf;
use std::sync::Arc;

use pagestone_buffer_pool::BufferPool;
use pagestone_mini_txn::{Redo, RedoCounts};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, Lsn, MemoryStore, OpKind, PAGE_HEADER_SIZE, PageError, PageId, PageOp, PageResult,
    PageStore, PageWriter, Poison, RedoRange, RedoTable, StoreUuid,
};
use pagestone_testkit::SimDisk;
use pagestone_wal::{GroupBuilder, Recovery, Wal, WalOptions, WalStart};

const PAGES: u64 = 40;
const GROUPS: u64 = 2000;
const KIND: OpKind = 0x7f00;

/// Takes a page from count `from` to the next; refuses every other page.
struct Next {
    from: u64,
}

/// The first word behind the page's header.
const COUNT: usize = PAGE_HEADER_SIZE / 8;

impl PageOp for Next {
    fn kind(&self) -> OpKind {
        KIND
    }
    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        let found = page.read().word(COUNT).expect("a page has more than a header");
        if found != self.from {
            return Err(PageError::Mismatch { expected: self.from.to_string(), found: found.to_string() });
        }
        page.put_word(COUNT, self.from + 1).expect("a page has more than a header");
        Ok(())
    }
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.from.to_le_bytes());
    }
}

fn table() -> RedoTable {
    let apply = |_, payload: &[u8], page: &PageWriter<'_>| {
        let from = u64::from_le_bytes(payload.try_into().expect("eight bytes"));
        Next { from }.apply(page)
    };
    RedoTable::new(vec![RedoRange { kinds: KIND..=KIND, apply, formats: |_| false }])
}

fn log(disk: &SimDisk, generation: u64) -> Recovery {
    let options = WalOptions {
        segment_bytes: 64 << 10,
        log_bytes: 1 << 20,
        durable_by: Some(pagestone_wal::DurableBy::Fdatasync),
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

/// Every group takes two pages one further; every page comes up again and again.
fn write_log(disk: &SimDisk) -> Vec<u64> {
    let wal = log(disk, 0).start(1).expect("begins");
    let mut counts = vec![0; PAGES as usize];
    for number in 0..GROUPS {
        let mut group = GroupBuilder::new();
        for page in [number % PAGES, (number * 7 + 3) % PAGES] {
            group.push(PageId::new(page), &Next { from: counts[page as usize] });
            counts[page as usize] += 1;
        }
        let space = wal.reserve(group.encoded_len()).expect("room");
        drop(wal.append(space, &mut group));
    }
    wal.flush().expect("durable");
    counts
}

fn redo(disk: &SimDisk, pool: &BufferPool) -> RedoCounts {
    let mut redo = Redo::new(pool, table());
    log(disk, 1).replay(|group| redo.group(&group)).expect("replays");
    redo.finish().expect("applied")
}

#[test]
fn pages_are_read_once_and_come_out_the_same_the_second_time() {
    let disk = SimDisk::new(1);
    let expected = write_log(&disk);
    let store = MemoryStore::new(DEFAULT_PAGE_SIZE);
    store.grow(PAGES).expect("room");
    let store = Arc::new(store);
    let pool = BufferPool::new(Arc::clone(&store), 8);
    for id in (0..PAGES).map(PageId::new) {
        drop(pool.new_page(id).expect("a frame").write().expect("a latch"));
    }
    pool.drop_cache().expect("written");
    let before = pool.stats().misses;
    let counts = redo(&disk, &pool);
    assert_eq!((counts.groups, counts.records, counts.skipped), (GROUPS, 2 * GROUPS, 0));
    assert!(pool.stats().misses - before <= PAGES, "{} reads", pool.stats().misses - before);
    for again in [false, true] {
        if again {
            let counts = redo(&disk, &pool);
            assert_eq!((counts.applied, counts.records), (0, 2 * GROUPS));
        }
        for (id, expected) in expected.iter().enumerate() {
            let page = pool.fetch(PageId::new(id as u64)).expect("a page");
            let found = page.read().expect("a copy").payload()[..8].try_into().expect("eight bytes");
            assert_eq!(u64::from_le_bytes(found), *expected, "page {id}, again: {again}");
        }
    }
}
