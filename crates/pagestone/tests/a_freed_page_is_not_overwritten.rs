//! Failure prevented: a page that was freed while its frame in the pool was dirty, whose id somebody got and wrote past the pool, is
//! overwritten when the frame is written back.
#![cfg(all(feature = "pool", feature = "alloc"))]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use pagestone::{BufferPool, DEFAULT_PAGE_SIZE, PageAllocator, PageFile, PageId, PageResult};

struct Shared {
    file: Arc<PageFile>,
    ids: PageAllocator,
    pool: BufferPool,
}

impl Shared {
    fn open(path: &Path, frames: usize) -> PageResult<Self> {
        let file = Arc::new(PageFile::open(path, DEFAULT_PAGE_SIZE)?);
        let ids = PageAllocator::new(Arc::clone(&file))?;
        Ok(Self { pool: BufferPool::new(Arc::clone(&file), frames), ids, file })
    }

    /// A page that is dirty in the pool.
    fn write_in_pool(&self, id: PageId, stamp: u64) -> PageResult<()> {
        self.pool.new_page(id)?.write()?.payload_mut()[..8].copy_from_slice(&stamp.to_le_bytes());
        Ok(())
    }

    /// A page that the pool does not have.
    fn write_past_pool(&self, id: PageId, stamp: u64) -> PageResult<()> {
        let mut page = self.file.allocate_page(id);
        page.payload_mut()[..8].copy_from_slice(&stamp.to_le_bytes());
        self.file.write_page(&mut page)
    }

    fn on_disk(&self, id: PageId) -> PageResult<u64> {
        let mut page = self.file.allocate_page(id);
        self.file.read_into(id, &mut page)?;
        Ok(u64::from_le_bytes(*page.payload().first_chunk().expect("a payload is longer")))
    }
}

/// Frees a page that is dirty in the pool, writes what its id becomes past the pool, and lets the pool write whatever it has.
fn free_and_write_past(discards: bool) -> PageResult<u64> {
    let dir = tempfile::tempdir().expect("a directory");
    let shared = Shared::open(&dir.path().join("pages"), 8)?;
    let id = shared.ids.allocate()?;
    shared.write_in_pool(id, 1)?;
    if discards {
        shared.pool.discard(id)?;
    }
    shared.ids.free(id)?;
    shared.ids.sync()?;
    assert_eq!(shared.ids.allocate()?, id);
    shared.write_past_pool(id, 2)?;
    shared.pool.checkpoint()?;
    shared.on_disk(id)
}

#[test]
fn a_freed_pages_dirty_frame_never_overwrites_what_the_page_became() {
    assert_eq!(free_and_write_past(true).expect("a file"), 2);
    assert_eq!(free_and_write_past(false).expect("a file"), 1, "what a discard is there for");
}

#[test]
fn nor_among_threads_that_evict_each_others_pages() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 400;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pages");
    let shared = Shared::open(&path, 16).expect("made");
    let written = Mutex::new(BTreeMap::new());
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let (shared, written) = (&shared, &written);
            threads.spawn(move || {
                let mut dirty = vec![];
                for round in 0..ROUNDS {
                    let (id, stamp) = (shared.ids.allocate().expect("an id"), round * THREADS + thread);
                    if round % 4 == 3 {
                        // It is nobody else's, and the pool has no frame of it.
                        shared.write_past_pool(id, stamp).expect("written");
                        written.lock().expect("no panic").insert(id, stamp);
                        continue;
                    }
                    shared.write_in_pool(id, stamp).expect("a frame");
                    dirty.push(id);
                    if dirty.len() > 3 {
                        let id = dirty.remove(0);
                        shared.pool.discard(id).expect("nobody has it pinned");
                        shared.ids.free(id).expect("it is ours");
                    }
                    if round % 50 == 0 {
                        shared.ids.sync().expect("durable");
                    }
                }
            });
        }
    });
    shared.pool.checkpoint().expect("written");
    shared.ids.sync().expect("durable");
    drop(shared);
    let shared = Shared::open(&path, 16).expect("it is there");
    let written = written.into_inner().expect("no panic");
    assert_eq!(written.len() as u64, THREADS * ROUNDS / 4);
    for (id, stamp) in written {
        assert_eq!(shared.on_disk(id).expect("whole"), stamp, "page {id}");
        assert!(shared.ids.is_allocated(id).expect("its map"));
    }
}
