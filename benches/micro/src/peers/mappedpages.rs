//! mappedpages 0.2: the crate for the same purpose.

use std::path::Path;

use mappedpages::{PageId, Pager, ProtectedPageId};

use crate::BenchResult;

/// Its pager with so many pages, each with its number in front.
pub(crate) struct Mapped {
    pager: Pager<4096>,
    pages: Vec<PageId<4096>>,
    protected: ProtectedPageId<4096>,
    allocated: Vec<PageId<4096>>,
}

fn said(error: mappedpages::MappedPageError) -> Box<dyn std::error::Error + Send + Sync> {
    error.to_string().into()
}

impl Mapped {
    pub(crate) fn create(path: &Path, pages: u64) -> BenchResult<Option<Self>> {
        let mut pager = Pager::create(path).map_err(said)?;
        let ids = pager.alloc_bulk(pages as usize).map_err(said)?;
        let protected = pager.alloc_protected().map_err(said)?;
        let mut mapped = Self { pager, pages: ids, protected, allocated: Vec::new() };
        (0..pages).try_for_each(|page| crate::mapped::Mapped::write(&mut mapped, page))?;
        Ok(Some(mapped))
    }
}

impl crate::mapped::Mapped for Mapped {
    fn alloc(&mut self, count: usize) -> BenchResult<()> {
        match count {
            1 => self.allocated.push(self.pager.alloc().map_err(said)?),
            _ => self.allocated.extend(self.pager.alloc_bulk(count).map_err(said)?),
        }
        Ok(())
    }

    fn free_all(&mut self) -> BenchResult<()> {
        self.pager.free_bulk(std::mem::take(&mut self.allocated)).map_err(said)
    }

    fn commit_protected(&mut self, number: u64) -> BenchResult<()> {
        let mut writer = self.protected.get_mut(&mut self.pager).map_err(said)?;
        writer.page_mut().as_bytes_mut()[..8].copy_from_slice(&number.to_le_bytes());
        writer.commit().map_err(said)
    }

    fn read(&self, page: u64) -> BenchResult<u64> {
        let page = self.pages[page as usize].get(&self.pager).map_err(said)?;
        Ok(u64::from_le_bytes(*page.as_bytes().first_chunk().expect("a page is longer")))
    }

    fn write(&mut self, page: u64) -> BenchResult<()> {
        let id = self.pages[page as usize];
        id.get_mut(&mut self.pager).map_err(said)?.as_bytes_mut()[..8].copy_from_slice(&page.to_le_bytes());
        Ok(())
    }
}

pub(crate) fn create_large(path: &Path, pages: usize) -> BenchResult<bool> {
    Pager::<65_536>::create(path).map_err(said)?.alloc_bulk(pages).map_err(said)?;
    Ok(true)
}

pub(crate) fn open_large(path: &Path, pages: usize) -> BenchResult<()> {
    let pager = Pager::<65_536>::open(path).map_err(said)?;
    let found = pager.iter_allocated_pages().count();
    if found == pages { Ok(()) } else { Err(format!("{pages} pages expected, {found} found").into()) }
}
