//! A page file alone: pages at their places, stamped on the way out and verified on the way in.
//!
//! It prints:
//!
//! ```text
//! page 2 says: the third page
//! opened again: 3 pages of 8192 bytes
//! one byte changed on the disk: page 1: checksum mismatch
//! its neighbour still says: the third page
//! page 7 was never written: an error, not zeros
//! ```
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};

use pagestone::{PageError, PageFile, PageFileOptions, PageId, PageSize};

fn text(file: &PageFile, id: u64) -> Result<String, PageError> {
    let page = file.read_page(PageId::new(id))?; // magic, version, checksum, id: in this order
    let bytes = page.payload().split(|byte| *byte == 0).next().expect("a split gives one part at least");
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("pages");
    let file = PageFile::open(&path, PageSize::new(8192)?)?; // made, and locked for this handle
    for (id, text) in (0..).zip(["the first page", "the second page", "the third page"]) {
        let mut page = file.allocate_page(PageId::new(id));
        page.payload_mut()[..text.len()].copy_from_slice(text.as_bytes());
        file.write_page(&mut page)?; // the file grows as pages are written
    }
    file.sync()?; // durable from here on
    println!("page 2 says: {}", text(&file, 2)?);
    drop(file);

    // The file says itself how large its pages are.
    let file = PageFileOptions::new().open(&path)?;
    println!("opened again: {} pages of {} bytes", file.page_count()?, file.page_size());
    drop(file);

    let mut raw = OpenOptions::new().read(true).write(true).open(&path)?;
    let at = 8192 + 8192 + 500; // behind two copies of the superblock, 4096 bytes each, and page 0
    let mut byte = [0];
    raw.seek(SeekFrom::Start(at))?;
    raw.read_exact(&mut byte)?;
    raw.seek(SeekFrom::Start(at))?;
    raw.write_all(&[byte[0] ^ 1])?;
    raw.sync_all()?;
    let file = PageFileOptions::new().open(&path)?;
    match text(&file, 1) {
        Err(PageError::ChecksumMismatch { page_id, .. }) => {
            println!("one byte changed on the disk: page {page_id}: checksum mismatch");
        }
        other => println!("one byte changed on the disk: {other:?}"),
    }
    println!("its neighbour still says: {}", text(&file, 2)?);
    if text(&file, 7).is_err() {
        println!("page 7 was never written: an error, not zeros");
    }
    Ok(())
}
