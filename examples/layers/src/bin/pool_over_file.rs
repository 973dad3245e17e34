//! A pool over a page file: more pages than memory has frames for, and each is there when it is asked for.
//!
//! It prints:
//!
//! ```text
//! 200 pages written through 16 frames
//! page 0 is resident: false
//! all 200 pages read back, each with its own number
//! page 0 changed, and dirty: true
//! after a checkpoint: false
//! opened again: page 0 says 4711
//! ```
#![forbid(unsafe_code)]

use pagestone::{BufferPool, DEFAULT_PAGE_SIZE, PageGuard, PageId, PageResult};

fn number(page: &PageGuard<'_>) -> PageResult<u64> {
    let page = page.read()?; // a copy of one instant; nobody is kept from writing
    Ok(u64::from_le_bytes(page.payload()[..8].try_into().expect("eight bytes")))
}

fn set(page: &PageGuard<'_>, number: u64) -> PageResult<()> {
    page.write()?.payload_mut()[..8].copy_from_slice(&number.to_le_bytes()); // published when it is dropped
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("pages");
    let pool = BufferPool::open(&path, DEFAULT_PAGE_SIZE, 16)?;
    for id in 0..200 {
        let page = pool.new_page(PageId::new(id))?; // pinned until it is dropped; the file grows
        set(&page, id)?;
    }
    assert!(pool.resident_len() <= pool.capacity());
    println!("200 pages written through {} frames", pool.capacity());
    println!("page 0 is resident: {}", pool.is_resident(PageId::new(0))); // long evicted, and written before that

    for id in 0..200 {
        assert_eq!(number(&pool.fetch(PageId::new(id))?)?, id);
    }
    println!("all 200 pages read back, each with its own number");

    let page = pool.fetch(PageId::new(0))?;
    set(&page, 4711)?;
    println!("page 0 changed, and dirty: {}", page.is_dirty());
    pool.checkpoint()?; // every dirty page written, and all of it synced
    println!("after a checkpoint: {}", page.is_dirty());
    drop(page);
    drop(pool);

    let pool = BufferPool::open(&path, DEFAULT_PAGE_SIZE, 16)?;
    println!("opened again: page 0 says {}", number(&pool.fetch(PageId::new(0))?)?);
    Ok(())
}
