//! Mapped pages alone, by code that works with any allocator of pages.

use pagestone_mapped_pages::{
    BulkPageAllocator, MappedOptions, MappedPageError, MappedResult, PageHandle, PageId, Pager,
    ProtectedPageId, SharedPager, SubPageAllocator, SubPageId,
};

fn twice<A, H>(allocator: &mut A) -> Result<usize, A::Error>
where
    H: PageHandle<A, Error = A::Error>,
    A: BulkPageAllocator<H>,
{
    let pages = allocator.alloc_bulk(2)?;
    let len = pages.iter().map(|page| Ok(page.get(allocator)?.len())).sum::<Result<usize, A::Error>>()?;
    allocator.free_bulk(pages)?;
    Ok(len)
}

fn main() -> MappedResult<()> {
    let path = std::env::temp_dir().join(format!("pagestone-downstream-mapped-{}", std::process::id()));
    let mut pager: Pager<2048> = MappedOptions::new().reserve(false).create(&path, 11)?.typed()?;
    assert_eq!(twice::<_, PageId<2048>>(&mut pager)?, 4096);
    assert_eq!(twice::<_, ProtectedPageId<2048>>(&mut pager)?, 4096);
    let root: ProtectedPageId<2048> = pager.alloc_protected()?;
    let mut slots = SubPageAllocator::<2048, 128>::new(pager);
    assert_eq!(twice::<_, SubPageId<2048, 128>>(&mut slots)?, 256);
    let shared = SharedPager::new(slots.into_pager());
    assert_eq!(shared.read().iter_allocated_protected_pages().collect::<Vec<_>>(), [root]);
    assert!(matches!(shared.write().free(PageId(0)), Err(MappedPageError::ReservedPage { page: 0 })));
    drop(shared);
    assert!(Pager::<1024>::open(&path).is_err());
    std::fs::remove_file(&path).expect("it is closed");
    Ok(())
}
