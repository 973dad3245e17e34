//! Failure prevented: a pool that works only when it is large, or only over a file that somebody else made long enough; a page
//! that is lost between the pool and the file that it opened.
#![cfg(not(loom))]

use pagestone_buffer_pool::BufferPool;
use pagestone_direct_io::PageFile;
use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, PageError, PageId, PageStore};

fn write(pool: &BufferPool, id: u64, value: u64) {
    let page = pool.new_page(PageId::new(id)).expect("a frame");
    page.write().expect("a latch").payload_mut()[..8].copy_from_slice(&value.to_le_bytes());
}

fn read(pool: &BufferPool, id: u64) -> u64 {
    let page = pool.fetch(PageId::new(id)).expect("it was written").read().expect("a copy");
    u64::from_le_bytes(page.payload()[..8].try_into().expect("eight bytes"))
}

#[test]
fn pools_of_one_to_nine_frames_hold_a_hundred_pages() {
    for frames in 1..10 {
        let pool = BufferPool::new(MemoryStore::new(DEFAULT_PAGE_SIZE), frames);
        assert_eq!(pool.capacity(), frames);
        (0..100).for_each(|id| write(&pool, id, id * id));
        assert!((1..=frames).contains(&pool.resident_len()));
        assert!((0..100).rev().all(|id| read(&pool, id) == id * id), "{frames} frames");
        pool.checkpoint().expect("written");
        assert_eq!(pool.dirty_len(), 0);
    }
}

#[test]
fn a_pinned_page_stays_and_the_rest_takes_turns() {
    let pool = BufferPool::new(MemoryStore::new(DEFAULT_PAGE_SIZE), 2);
    write(&pool, 0, 7);
    let pinned = pool.fetch(PageId::new(0)).expect("a frame");
    (1..50).for_each(|id| write(&pool, id, id));
    assert!(pool.is_resident(PageId::new(0)) && pinned.is_dirty());
    drop(pinned);
    assert!((1..50).all(|id| read(&pool, id) == id) && read(&pool, 0) == 7);
}

#[test]
fn a_number_of_frames_that_no_pool_has_is_taken_for_the_nearest() {
    assert_eq!(BufferPool::new(MemoryStore::new(DEFAULT_PAGE_SIZE), 0).capacity(), 1);
}

#[test]
fn what_a_pool_wrote_the_next_one_finds() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pages");
    let pool = BufferPool::open(&path, DEFAULT_PAGE_SIZE, 4).expect("made");
    (0..40).for_each(|id| write(&pool, id * 3, id));
    let locked = BufferPool::open(&path, DEFAULT_PAGE_SIZE, 4).expect_err("the file has a user");
    assert!(matches!(locked, PageError::Locked { .. }), "{locked}");
    pool.checkpoint().expect("written");
    drop(pool);
    let pool = BufferPool::open(&path, DEFAULT_PAGE_SIZE, 1000).expect("it is there");
    assert!((0..40).all(|id| read(&pool, id * 3) == id));
    let unwritten = pool.fetch(PageId::new(1)).expect_err("nobody wrote it");
    assert!(matches!(unwritten, PageError::BadMagic { .. }), "{unwritten}");
}

#[test]
fn an_impossible_page_is_an_error_and_the_file_stays_as_long_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let file =
        std::sync::Arc::new(PageFile::open(dir.path().join("pages"), DEFAULT_PAGE_SIZE).expect("made"));
    let pool = BufferPool::new(std::sync::Arc::clone(&file), 4);
    write(&pool, 2, 1);
    let before = file.len().expect("a length");
    for id in [1 << 52, u64::MAX, PageId::MAX.get() + 1] {
        for error in
            [pool.new_page(PageId::new(id)).expect_err("no"), pool.fetch(PageId::new(id)).expect_err("no")]
        {
            assert!(matches!(error, PageError::InvalidPageId { page_id } if page_id.get() == id), "{error}");
        }
    }
    assert_eq!((file.len().expect("a length"), pool.resident_len()), (before, 1));
}
