//! The pages of a file in memory.
//!
//! Invariant: every page of the file lies in exactly one window, whole, and a window that the file has outgrown stays mapped where it is
//! until the pager is dropped or shrunk.
//!
//! ```text
//!   window 0    window 1    …    the last: as far as the file reaches
//!   │ 64 MiB  │ 64 MiB  │ …  │ 64 M          each a map, made when its first page is asked for
//! ```
//!
//! Which window a page lies in, and where, are two shifts of its index. A growth maps the last window anew, or one more; an opening maps
//! nothing, however long the file is.

use std::cmp::Reverse;
use std::io;
use std::sync::{Arc, OnceLock};

use pagestone_direct_io::{File, FileMap, MapAccess};
use pagestone_sync::Mutex;

use crate::layout::{Layout, MAP_WORDS, REGION_PAGES, Shape, place_of, region_of};

/// The pages of a window, and what of the file it maps.
#[derive(Debug)]
struct Window {
    map: OnceLock<FileMap>,
    /// One behind its last page.
    end: u64,
    /// A bit for each page that is somebody's and no copy: what is looked at whenever a page is borrowed. Here, because a page is found
    /// here as well; as many words as the largest window needs.
    lent: [u64; MAP_WORDS],
}

impl Window {
    #[inline]
    fn is_lent(&self, index: u64, shape: Shape) -> bool {
        // Within bounds where the compiler knows the shape.
        let place = shape.place_of(index);
        self.lent[(place / 64) as usize] >> (place % 64) & 1 == 1
    }
}

/// All maps of a file.
#[derive(Debug)]
pub(crate) struct Maps {
    layout: Layout,
    access: MapAccess,
    /// Whether blocks are reserved before a window is mapped to write.
    reserve: bool,
    file: Arc<dyn File>,
    windows: Vec<Window>,
    /// Held by who maps a window: two maps of one are refused.
    mapping: Mutex<()>,
}

impl Maps {
    /// Of a file of so many pages. Maps nothing yet.
    pub(crate) fn new(
        layout: Layout,
        file: Arc<dyn File>,
        access: MapAccess,
        reserve: bool,
        pages: u64,
    ) -> Self {
        let mut maps = Self { layout, access, reserve, file, windows: Vec::new(), mapping: Mutex::new(()) };
        maps.extend(pages);
        maps
    }

    /// Follows a file that grew to so many pages, and maps the window of the last one.
    pub(crate) fn grow(&mut self, pages: u64) -> io::Result<()> {
        self.extend(pages);
        self.windows.len().checked_sub(1).map_or(Ok(()), |last| self.map(last).map(drop))
    }

    fn extend(&mut self, pages: u64) {
        let window_pages = self.layout.shape().window_pages();
        let is_part = |window: &mut Window| !window.end.is_multiple_of(window_pages);
        let mut part = self.windows.pop_if(is_part);
        // Unmapped before it is mapped anew.
        part.iter_mut().for_each(|part| part.map = OnceLock::new());
        loop {
            let start = self.windows.len() as u64 * window_pages;
            if start >= pages {
                return;
            }
            let (map, end) = (OnceLock::new(), pages.min(start + window_pages));
            let mut window = Window { map, end, lent: [0; MAP_WORDS] };
            if let Some(part) = part.take() {
                window.lent = part.lent;
            }
            self.windows.push(window);
        }
    }

    /// The map of a window, made if its first page is asked for.
    ///
    /// Errors: what the system says: no memory for the map, no room for blocks that the file should have; `UnexpectedEof` if the file was
    /// cut since it was opened.
    fn map(&self, number: usize) -> io::Result<&FileMap> {
        let window = &self.windows[number];
        if let Some(map) = window.map.get() {
            return Ok(map);
        }
        let _mapping = self.mapping.lock();
        if let Some(map) = window.map.get() {
            return Ok(map);
        }
        let first = number as u64 * self.layout.shape().window_pages();
        let start = self.layout.page_at(region_of(first), place_of(first));
        let end = self.layout.page_at(region_of(first), place_of(window.end - 1) + 1);
        if self.reserve && self.access == MapAccess::Write {
            // A copy of a file may have holes that the file had not. What was cut is not made up for.
            if self.file.len()? < end {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.file.reserve(start, end - start)?;
        }
        let map = self.file.map(start..end, self.access)?;
        Ok(window.map.get_or_init(|| map))
    }

    fn mapped_mut(&mut self, window: usize) -> io::Result<&mut FileMap> {
        if self.windows[window].map.get().is_none() {
            self.map(window)?;
        }
        Ok(self.windows[window].map.get_mut().expect("it was mapped above"))
    }

    /// The bytes of a page that is somebody's, of a file of this shape, where they are found without a call. `None` otherwise: it is
    /// nobody's, its window is not mapped yet, or its map is not the system's.
    #[inline]
    pub(crate) fn lent(&self, index: u64, shape: Shape) -> Option<&[u8]> {
        let start = shape.start_of(index);
        let window = self.windows.get(shape.window_of(index))?;
        if !window.is_lent(index, shape) {
            return None;
        }
        window.map.get()?.of_memory()?.get(start..start + shape.page_size())
    }

    /// Whether a page is somebody's and its window is mapped.
    #[inline]
    pub(crate) fn is_ready(&self, index: u64, shape: Shape) -> bool {
        let window = self.windows.get(shape.window_of(index));
        window.is_some_and(|window| window.is_lent(index, shape) && window.map.get().is_some())
    }

    /// Whether a page is somebody's.
    pub(crate) fn is_lent(&self, index: u64) -> bool {
        let shape = self.layout.shape();
        let window = self.windows.get(shape.window_of(index));
        window.is_some_and(|window| window.is_lent(index, shape))
    }

    /// Says which pages of a region are somebody's, by the words of its map.
    pub(crate) fn lend(&mut self, region: usize, bits: impl Fn(usize) -> u64) {
        let shape = self.layout.shape();
        let (windows, words) = (REGION_PAGES / shape.window_pages(), shape.window_pages().div_ceil(64));
        let first = region * windows as usize;
        for (number, window) in self.windows.iter_mut().enumerate().skip(first).take(windows as usize) {
            let from = (number - first) as u64 * shape.window_pages();
            for word in 0..words {
                let (at, shift) = ((from / 64 + word) as usize, from % 64);
                window.lent[word as usize] = bits(at) >> shift;
            }
        }
    }

    /// From now on no page can be borrowed, for good: nobody knows what is on disk.
    pub(crate) fn lend_nothing(&mut self) {
        self.windows.iter_mut().for_each(|window| window.lent = [0; MAP_WORDS]);
    }

    /// The bytes of a page of the file. Errors are those of a map that is made now.
    pub(crate) fn page(&self, index: u64) -> io::Result<&[u8]> {
        let shape = self.layout.shape();
        let start = shape.start_of(index);
        Ok(&self.map(shape.window_of(index))?.bytes()[start..start + shape.page_size()])
    }

    /// The same, to change.
    #[inline]
    pub(crate) fn page_mut(&mut self, index: u64, shape: Shape) -> io::Result<&mut [u8]> {
        let start = shape.start_of(index);
        let map = self.mapped_mut(shape.window_of(index))?;
        Ok(&mut map.bytes_mut()[start..start + shape.page_size()])
    }

    /// The bytes of several pages at once, in the order in which they are asked for. No two are the same.
    pub(crate) fn pages_mut<const N: usize>(&mut self, pages: [u64; N]) -> io::Result<[&mut [u8]; N]> {
        let shape = self.layout.shape();
        for index in pages {
            self.mapped_mut(shape.window_of(index))?;
        }
        let mut order: [usize; N] = std::array::from_fn(|at| at);
        // From the last to the first: each is split off the end of what is left.
        order.sort_unstable_by_key(|at| Reverse(pages[*at]));
        let mut found: [&mut [u8]; N] = std::array::from_fn(|_| &mut [][..]);
        let mut windows = &mut self.windows[..];
        let mut mapped: &mut [u8] = &mut []; // what is left of the first window that was looked at
        for at in order {
            let window = shape.window_of(pages[at]);
            if window < windows.len() {
                let (before, from) = windows.split_at_mut(window);
                windows = before;
                mapped = from[0].map.get_mut().expect("it was mapped above").bytes_mut();
            }
            let (before, from) = std::mem::take(&mut mapped).split_at_mut(shape.start_of(pages[at]));
            mapped = before;
            found[at] = &mut from[..shape.page_size()];
        }
        Ok(found)
    }

    /// Makes a page durable.
    pub(crate) fn flush(&self, index: u64) -> io::Result<()> {
        let shape = self.layout.shape();
        let start = shape.start_of(index);
        // What was never mapped was not changed through a map.
        let map = self.windows[shape.window_of(index)].map.get();
        map.map_or(Ok(()), |map| map.flush(start..start + shape.page_size()))
    }
}
