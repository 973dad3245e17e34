//! A pager beside what it should be: the sets and bytes that every answer is compared with.

#![allow(dead_code, unreachable_pub)] // each test uses a part of it

use std::collections::BTreeMap;
use std::path::Path;

use pagestone_direct_io::Disk;
use pagestone_mapped_pages::{DynPageId, DynPager, DynProtectedPageId, MappedOptions, MappedResult};
use pagestone_testkit::Rng;

/// What is allocated: pages with what was written to each last, protected pages with what was committed in each half, and in the last
/// word.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Model {
    pub pages: BTreeMap<u64, Option<u8>>,
    pub protected: BTreeMap<u64, [u8; 3]>,
}

impl Model {
    /// Of a pager: every protected page is read, and is whole.
    pub fn of(pager: &DynPager) -> Result<Self, String> {
        let pages = pager.iter_allocated_pages().map(|id| (id.0, None)).collect();
        let mut protected = BTreeMap::new();
        for id in pager.iter_allocated_protected_pages() {
            let page = pager.get_protected(id).map_err(|error| error.to_string())?;
            let (one, other) = page.as_bytes().split_at(page.len() / 2);
            let (other, word) = other.split_at(other.len() - 8);
            let parts = [one, other, word];
            if parts.iter().any(|part| part.iter().any(|byte| *byte != part[0])) {
                return Err(format!("protected page {id:?} is not whole"));
            }
            protected.insert(id.0, parts.map(|part| part[0]));
        }
        Ok(Self { pages, protected })
    }

    /// What survives a crash: regular pages hold anything.
    pub fn durable(&self) -> Self {
        Self { pages: self.pages.keys().map(|id| (*id, None)).collect(), ..self.clone() }
    }
}

/// What is done, from a seed.
pub struct World<'d> {
    pub disk: &'d dyn Disk,
    pub path: &'d Path,
    pub pager: Option<DynPager>,
    pub model: Model,
    pub rng: Rng,
    /// So many pages are allocated at most, of each kind.
    pub most: usize,
}

impl<'d> World<'d> {
    pub fn create(disk: &'d dyn Disk, path: &'d Path, log2: u32, seed: u64, most: usize) -> Self {
        let options = MappedOptions::new().reserve(seed.is_multiple_of(2));
        let pager = options.create_on(disk, path, log2).expect("create");
        Self { disk, path, pager: Some(pager), model: Model::default(), rng: Rng::new(seed), most }
    }

    pub fn pager(&mut self) -> &mut DynPager {
        self.pager.as_mut().expect("open between steps")
    }

    fn some_page(&mut self) -> Option<DynPageId> {
        let len = self.model.pages.len() as u64;
        (len > 0)
            .then(|| DynPageId(*self.model.pages.keys().nth(self.rng.below(len) as usize).expect("below")))
    }

    fn some_protected(&mut self) -> Option<DynProtectedPageId> {
        let len = self.model.protected.len() as u64;
        let nth = |rng: &mut Rng| rng.below(len) as usize;
        (len > 0)
            .then(|| DynProtectedPageId(*self.model.protected.keys().nth(nth(&mut self.rng)).expect("below")))
    }

    /// One step, which the pager may refuse on a disk that fails.
    pub fn step(&mut self) -> MappedResult<()> {
        match self.rng.below(20) {
            0..3 => self.alloc(1),
            3 => {
                let count = self.rng.below(20) as usize;
                self.alloc(count)
            }
            4..6 => self.free(1),
            6 => {
                let count = self.rng.below(12) as usize;
                self.free(count)
            }
            7 => self.alloc_protected(1),
            8 => {
                let count = self.rng.below(6) as usize;
                self.alloc_protected(count)
            }
            9 => {
                let count = 1 + self.rng.below(4) as usize;
                self.free_protected(count)
            }
            10..14 => self.write_protected(),
            14..17 => self.write_page(),
            17 => self.refused(),
            18 => match self.rng.below(4) {
                0 => self.pager().shrink().map(drop),
                1 => self.pager().flush(),
                _ => match self.some_page() {
                    Some(id) => self.pager().flush_page(id),
                    None => Ok(()),
                },
            },
            _ => self.read(),
        }
    }

    pub fn alloc(&mut self, count: usize) -> MappedResult<()> {
        let count = count.min(self.most.saturating_sub(self.model.pages.len()));
        for id in self.pager().alloc_bulk(count)? {
            assert!(self.model.pages.insert(id.0, None).is_none(), "{id:?} is given out twice");
        }
        Ok(())
    }

    pub fn free(&mut self, count: usize) -> MappedResult<()> {
        let mut ids: Vec<DynPageId> = (0..count).filter_map(|_| self.some_page()).collect();
        ids.sort_unstable();
        ids.dedup();
        self.pager().free_bulk(&ids)?;
        self.model.pages.retain(|id, _| ids.binary_search(&DynPageId(*id)).is_err());
        Ok(())
    }

    pub fn alloc_protected(&mut self, count: usize) -> MappedResult<()> {
        let count = count.min(self.most.saturating_sub(self.model.protected.len()));
        for id in self.pager().alloc_protected_bulk(count)? {
            assert!(self.model.protected.insert(id.0, [0; 3]).is_none(), "{id:?} is given out twice");
        }
        Ok(())
    }

    pub fn free_protected(&mut self, count: usize) -> MappedResult<()> {
        let mut ids: Vec<DynProtectedPageId> = (0..count).filter_map(|_| self.some_protected()).collect();
        ids.sort_unstable();
        ids.dedup();
        self.pager().free_protected_bulk(&ids)?;
        self.model.protected.retain(|id, _| ids.binary_search(&DynProtectedPageId(*id)).is_err());
        Ok(())
    }

    /// Half of a page anew, a little of it or all, the rest as it was; or all of it, and dropped.
    pub fn write_protected(&mut self) -> MappedResult<()> {
        let Some(id) = self.some_protected() else { return Ok(()) };
        if self.rng.chance(128) {
            return self.write_a_little(id);
        }
        let (half, byte, is_dropped) =
            (self.rng.below(2) as usize, self.rng.next_u64() as u8, self.rng.chance(40));
        let mut writer = self.pager().get_protected_mut(id)?;
        let page = writer.page_mut().as_bytes_mut();
        let middle = page.len() / 2;
        let (one, other) = page.split_at_mut(middle);
        [one, other][half].fill(byte);
        if is_dropped {
            return Ok(());
        }
        writer.commit()?;
        let parts = self.model.protected.get_mut(&id.0).expect("it was found there");
        parts[half..].iter_mut().take(1 + half).for_each(|part| *part = byte);
        Ok(())
    }

    /// The last word of a page.
    fn write_a_little(&mut self, id: DynProtectedPageId) -> MappedResult<()> {
        let byte = self.rng.next_u64() as u8;
        let mut writer = self.pager().get_protected_mut(id)?;
        let page = writer.page_mut().as_bytes_mut();
        let end = page.len() - 8;
        page[end..].fill(byte);
        writer.commit()?;
        self.model.protected.get_mut(&id.0).expect("it was found there")[2] = byte;
        Ok(())
    }

    fn write_page(&mut self) -> MappedResult<()> {
        let Some(id) = self.some_page() else { return Ok(()) };
        let byte = self.rng.next_u64() as u8;
        let other = self.some_page().filter(|other| *other != id);
        match other {
            Some(other) => {
                let pages = self.pager().get_many_mut([id, other])?;
                pages.into_iter().for_each(|page| page.as_bytes_mut().fill(byte));
                self.model.pages.insert(other.0, Some(byte));
            }
            None => self.pager().get_mut(id)?.as_bytes_mut().fill(byte),
        }
        self.model.pages.insert(id.0, Some(byte));
        Ok(())
    }

    /// Bulk frees of which one id is wrong.
    fn refused(&mut self) -> MappedResult<()> {
        let counts = (self.pager().page_count(), self.pager().free_page_count());
        if let Some(id) = self.some_page() {
            let wrong = *self.rng.pick(&[id, DynPageId(1), DynPageId(u64::MAX)]);
            assert!(self.pager().free_bulk([id, wrong]).is_err());
        }
        if let Some(id) = self.some_protected() {
            let wrong = *self.rng.pick(&[id, DynProtectedPageId(u64::MAX)]);
            assert!(self.pager().free_protected_bulk([id, wrong]).is_err());
        }
        assert_eq!((self.pager().page_count(), self.pager().free_page_count()), counts);
        Ok(())
    }

    fn read(&mut self) -> MappedResult<()> {
        if let Some(id) = self.some_page() {
            let expected = self.model.pages[&id.0];
            let page = self.pager().get(id)?.as_bytes();
            assert!(expected.is_none_or(|byte| page.iter().all(|found| *found == byte)), "{id:?}");
        }
        if let Some(id) = self.some_protected() {
            let expected = self.model.protected[&id.0];
            let page = self.pager().get_protected(id)?;
            let parts = [0, page.len() / 2, page.len() - 1].map(|at| page.as_bytes()[at]);
            assert_eq!(parts, expected, "{id:?}");
        }
        Ok(())
    }

    /// Closes and opens; everything is compared.
    pub fn reopen(&mut self) -> MappedResult<()> {
        drop(self.pager.take());
        self.pager = Some(MappedOptions::new().open_on(self.disk, self.path)?);
        self.compare();
        Ok(())
    }

    /// Everything that is durable, and the bytes of regular pages, which no crash came over.
    pub fn compare(&self) {
        let pager = self.pager.as_ref().expect("open between steps");
        assert_eq!(Model::of(pager), Ok(self.model.durable()));
        for (id, byte) in &self.model.pages {
            let page = pager.get(DynPageId(*id)).expect("allocated").as_bytes();
            assert!(byte.is_none_or(|byte| page.iter().all(|found| *found == byte)), "page {id}");
        }
        let granule = (4096 / pager.page_size() as u64).max(1);
        let used = self.model.pages.len() as u64 + 2 * granule * self.model.protected.len() as u64;
        assert_eq!(pager.page_count() - 3 - pager.free_page_count(), used);
    }
}
