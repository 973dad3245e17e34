//! The pages of a file in memory.
//!
//! Invariant: every page of the file lies in exactly one map, whole, and stays where it is until the pager is dropped or shrunk, or grows
//! behind a shrinking.
//!
//! ```text
//!   cell 0   │ 1 │ 2     │ 3             │ …  │ 64 MiB │ 64 MiB │ …        each a map, each as large as all before it up to that
//! ```
//!
//! Which cell a page lies in follows from its index, so a page is found without a search, and a growth maps one cell more.

use std::cmp::Reverse;

use pagestone_direct_io::{File, Map, MapAccess};

use crate::layout::{Cells, Layout, place_of, region_of};

/// The map of a cell.
#[derive(Debug)]
struct Piece {
    /// Its first page.
    start: u64,
    map: Box<dyn Map>,
}

/// All maps of a file, by cell.
#[derive(Debug)]
pub(crate) struct Maps {
    layout: Layout,
    cells: Cells,
    access: MapAccess,
    pieces: Vec<Piece>,
}

impl Maps {
    pub(crate) fn new(layout: Layout, access: MapAccess) -> Self {
        Self { layout, cells: layout.cells(), access, pieces: Vec::new() }
    }

    /// Maps what is not mapped yet of a file of so many pages. A cell of which a part is mapped is mapped anew.
    pub(crate) fn extend(&mut self, file: &dyn File, pages: u64) -> std::io::Result<()> {
        let (layout, cells) = (self.layout, self.cells);
        let is_part = |piece: &mut Piece| {
            let cell = cells.pages(cells.cell_of(piece.start));
            (piece.map.bytes().len() as u64) < (cell.end - cell.start) << layout.page_log2()
        };
        drop(self.pieces.pop_if(is_part));
        loop {
            let cell = cells.pages(self.pieces.len());
            let (start, end) = (cell.start, cell.end.min(pages));
            if start >= end {
                return Ok(());
            }
            let region = region_of(start);
            let bytes = self.layout.page_at(region, place_of(start))
                ..self.layout.page_at(region, place_of(end - 1) + 1);
            self.pieces.push(Piece { start, map: file.map(bytes, self.access)? });
        }
    }

    /// The bytes of a page of the file.
    #[inline]
    pub(crate) fn page(&self, index: u64) -> &[u8] {
        let piece = &self.pieces[self.cells.cell_of(index)];
        let start = ((index - piece.start) as usize) << self.layout.page_log2();
        &piece.map.bytes()[start..start + self.layout.page_size()]
    }

    /// The same, to change.
    #[inline]
    pub(crate) fn page_mut(&mut self, index: u64) -> &mut [u8] {
        let piece = &mut self.pieces[self.cells.cell_of(index)];
        let start = ((index - piece.start) as usize) << self.layout.page_log2();
        &mut piece.map.bytes_mut()[start..start + self.layout.page_size()]
    }

    /// The bytes of several pages at once, in the order in which they are asked for. No two are the same.
    pub(crate) fn pages_mut<const N: usize>(&mut self, pages: [u64; N]) -> [&mut [u8]; N] {
        let (log2, size) = (self.layout.page_log2(), self.layout.page_size());
        let mut order: [usize; N] = std::array::from_fn(|at| at);
        // From the last to the first: each is split off the end of what is left.
        order.sort_unstable_by_key(|at| Reverse(pages[*at]));
        let mut found: [&mut [u8]; N] = std::array::from_fn(|_| &mut [][..]);
        let mut pieces = &mut self.pieces[..];
        let mut mapped: (u64, &mut [u8]) = (u64::MAX, &mut []); // a page, and what is left from it on
        for at in order {
            let index = pages[at];
            if index < mapped.0 {
                let (before, from) = pieces.split_at_mut(self.cells.cell_of(index));
                pieces = before;
                mapped = (from[0].start, from[0].map.bytes_mut());
            }
            let start = ((index - mapped.0) as usize) << log2;
            let (before, from) = std::mem::take(&mut mapped.1).split_at_mut(start);
            mapped.1 = before;
            found[at] = &mut from[..size];
        }
        found
    }

    /// Makes a page durable.
    pub(crate) fn flush(&self, index: u64) -> std::io::Result<()> {
        let piece = &self.pieces[self.cells.cell_of(index)];
        let start = ((index - piece.start) as usize) << self.layout.page_log2();
        piece.map.flush(start..start + self.layout.page_size())
    }
}
