//! A page file that is written, closed, opened again and found as it was.

use pagestone_direct_io::{DirectIo, Disk, OpenHow, PageFile, RealDisk};
use pagestone_page_format::{
    ChecksumKind, DEFAULT_PAGE_SIZE, PageChecksum, PageError, PageId, PageStore, StoreUuid,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("pagestone-downstream-direct-io-{}", std::process::id()));
    RealDisk.create_dir(&dir)?;
    let path = dir.join("pages");
    let open = |how: &OpenHow, uuid: u8| {
        let checksum = PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::new([uuid; 16]));
        RealDisk.open(&path, how).map(|file| PageFile::new(file, 8192, DEFAULT_PAGE_SIZE, checksum))
    };

    let pages = open(&OpenHow::create_new(DirectIo::Prefer), 1)?;
    pages.grow(8)?;
    let mut page = pages.allocate_page(PageId::new(5));
    page.payload_mut().fill(0xa5);
    pages.write_page(&mut page)?;
    pages.sync()?;
    drop(pages);

    let pages = open(&OpenHow::read(DirectIo::Prefer), 1)?;
    page.payload_mut().fill(0);
    pages.read_into(PageId::new(5), &mut page)?;
    assert!(page.payload().iter().all(|byte| *byte == 0xa5));
    let stranger = open(&OpenHow::read(DirectIo::Prefer), 2)?;
    assert!(matches!(stranger.read_into(PageId::new(5), &mut page), Err(PageError::ChecksumMismatch { .. })));
    assert!(open(&OpenHow::create_new(DirectIo::Prefer), 1).is_err(), "it exists");
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
