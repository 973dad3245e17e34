//! A page file as a [`PageStore`].
//!
//! Invariant: nothing is written before every page of the call has a place, and nothing at all once a sync has failed (R5).

use std::io::ErrorKind;

use pagestone_page_format::{Page, PageError, PageId, PageReads, PageResult, PageSize, PageStore};

use super::reads::PageFileReads;
use super::{GROW_BYTES_MAX, GROW_PAGES_MIN, GROW_PART, PageFile, is_no_space};
use crate::{read_exact_at, write_all_at};

impl PageStore for PageFile {
    fn page_size(&self) -> PageSize {
        self.size
    }

    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.check_size(page)?;
        let offset = self.offset_of(id)?;
        let got = read_exact_at(&*self.file, page.bytes_mut(), offset)
            .map_err(|source| PageError::io("read a page", source))?;
        self.check_read(id, page, got)
    }

    fn read_many(&self, ids: &[PageId], pages: &mut [Page]) -> Vec<PageResult<()>> {
        let waves = ids.chunks(self.wave_pages()).zip(pages.chunks_mut(self.wave_pages()));
        waves.flat_map(|(ids, pages)| self.read_wave(ids, pages)).collect()
    }

    fn reads(&self) -> Box<dyn PageReads + '_> {
        Box::new(PageFileReads::new(self))
    }

    /// Looks at every byte, those of a page that the file's end cuts among them.
    fn is_unwritten(&self, id: PageId) -> PageResult<bool> {
        let mut page = self.allocate_page(id);
        let got = read_exact_at(&*self.file, page.bytes_mut(), self.offset_of(id)?)
            .map_err(|source| PageError::io("read a page", source))?;
        Ok(page.bytes()[..got].iter().all(|byte| *byte == 0))
    }

    /// A file that describes itself grows up to the page, by no more, with its blocks reserved first. Any other grows by
    /// [`PageStore::grow`] only, and a page past its end is `InvalidPageId`.
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        self.check_size(page)?;
        let file_len = self.room_for([page.id()])?;
        let offset = self.offset_within(page.id(), file_len)?;
        if self.atomic {
            return self.write_whole(std::slice::from_mut(page));
        }
        let bytes = page.to_checksummed_bytes(&self.checksum);
        write_all_at(&*self.file, bytes, offset).map_err(|source| PageError::io("write a page", source))
    }

    /// All at once where the file can, neighbours together. If one of the pages has no place, none is written.
    fn write_many(&self, pages: &mut [Page]) -> PageResult<()> {
        if self.atomic { self.write_waves(pages, Self::write_whole) } else { self.write_new(pages) }
    }

    fn write_new(&self, pages: &mut [Page]) -> PageResult<()> {
        self.write_waves(pages, Self::write_wave)
    }

    /// Neighbours together, each transfer begun as soon as its pages are made.
    fn write_new_stream(&self, make: &mut dyn FnMut(&mut [u8]) -> bool) -> PageResult<()> {
        self.write_stream(make)
    }

    /// From where they are, neighbours together.
    fn write_stamped(&self, ids: &[PageId], images: &[u8]) -> PageResult<()> {
        let size = self.size.get();
        assert_eq!(images.len(), ids.len() * size, "PageStore::write_stamped is given one image per id");
        let wave = if self.have_places(ids.to_vec())? { self.wave_pages() } else { 1 };
        let write = if self.atomic { Self::write_stamped_whole } else { Self::write_stamped_wave };
        let mut waves = ids.chunks(wave).zip(images.chunks(wave * size));
        waves.try_for_each(|(ids, images)| write(self, ids, images))
    }

    /// The first failure is told as what it is, all later calls as `Poisoned`.
    fn sync(&self) -> PageResult<()> {
        if self.is_read_only() {
            return Ok(()); // nothing was written
        }
        self.poison.check()?;
        self.file.sync().map_err(|source| {
            self.poison.poison(format_args!("sync failed: {source}"));
            PageError::io("sync", source)
        })
    }

    fn len(&self) -> PageResult<u64> {
        Ok(self.file_len()?.saturating_sub(self.base) / self.size.get() as u64)
    }

    /// Grows in chunks: by a thirty-second of the file, at least 8 pages, at most 64 MiB. Where there is no room for a chunk,
    /// by exactly what was asked for.
    fn grow(&self, pages: u64) -> PageResult<()> {
        self.check_writable("grow")?;
        let _alone = self.growing.lock();
        let size = self.size.get() as u64;
        let have = self.file_len()?;
        let wanted = match self.bytes_for(pages) {
            Some(wanted) if wanted <= have => return Ok(()),
            Some(wanted) => wanted,
            None => return Err(PageError::NoSpace { needed: pages.saturating_mul(size) }),
        };
        let chunk = (have / GROW_PART).max(GROW_PAGES_MIN * size).min(GROW_BYTES_MAX) / size;
        let generous = self.bytes_for(self.len()? + chunk).filter(|generous| *generous > wanted);
        let reserve = |end: u64| self.file.reserve(have, end - have);
        let mut result = generous.map_or(Err(ErrorKind::StorageFull.into()), reserve);
        if matches!(&result, Err(error) if is_no_space(error)) {
            result = reserve(wanted);
        }
        result.map_err(|source| self.growth_error(source, wanted - have))
    }
    fn cut(&self, pages: u64) -> PageResult<()> {
        self.check_writable("cut")?;
        let _alone = self.growing.lock();
        match self.bytes_for(pages) {
            Some(end) if end < self.file_len()? => {
                self.file.set_len(end).map_err(|source| PageError::io("cut the file", source))
            }
            Some(_) | None => Ok(()),
        }
    }
}
