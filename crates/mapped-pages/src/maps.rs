//! The pages of a file in memory.
//!
//! Invariant: every page of the file lies in exactly one map, whole, and stays where it is until the pager is dropped or shrunk.
//!
//! ```text
//!   region 0:  │ first map │ as much again │ as much as both │ …     each growth is one map
//!   region 1:  │ …                                                   a file that is opened has one map a region
//! ```

use std::cmp::Reverse;
use std::ops::Range;

use pagestone_direct_io::{File, Map, MapAccess};

use crate::layout::{Layout, REGION_PAGES, pages_in, place_of, region_of, regions_for};

/// Some pages of a region.
#[derive(Debug)]
struct Piece {
    /// The first of them, by its place in the region.
    start: u64,
    end: u64,
    map: Box<dyn Map>,
}

/// All maps of a file, by region, in the order of their pages.
#[derive(Debug)]
pub(crate) struct Maps {
    layout: Layout,
    access: MapAccess,
    regions: Vec<Vec<Piece>>,
}

impl Maps {
    pub(crate) fn new(layout: Layout, access: MapAccess) -> Self {
        Self { layout, access, regions: Vec::new() }
    }

    /// Maps these pages, all of one region and directly behind what is mapped.
    pub(crate) fn add(&mut self, file: &dyn File, pages: Range<u64>) -> std::io::Result<()> {
        let region = region_of(pages.start);
        let (start, end) = (place_of(pages.start), place_of(pages.end - 1) + 1);
        let bytes = self.layout.page_at(region, start)..self.layout.page_at(region, end);
        let map = file.map(bytes, self.access)?;
        if region == self.regions.len() {
            self.regions.push(Vec::new());
        }
        self.regions[region].push(Piece { start, end, map });
        Ok(())
    }

    /// Maps all pages of a file, region by region.
    pub(crate) fn add_all(&mut self, file: &dyn File, pages: u64) -> std::io::Result<()> {
        (0..regions_for(pages)).try_for_each(|region| {
            let start = region as u64 * REGION_PAGES;
            self.add(file, start..start + pages_in(region, pages))
        })
    }

    #[inline]
    fn bytes_in(&self, piece: &Piece, place: u64) -> Range<usize> {
        let start = ((place - piece.start) as usize) << self.layout.page_log2();
        start..start + self.layout.page_size()
    }

    #[inline]
    fn piece(&self, index: u64) -> &Piece {
        let pieces = &self.regions[region_of(index)];
        let place = place_of(index);
        match &pieces[..] {
            [only] => only,
            pieces => &pieces[pieces.partition_point(|piece| piece.end <= place)],
        }
    }

    /// The bytes of a page of the file.
    #[inline]
    pub(crate) fn page(&self, index: u64) -> &[u8] {
        let piece = self.piece(index);
        &piece.map.bytes()[self.bytes_in(piece, place_of(index))]
    }

    /// The same, to change.
    pub(crate) fn page_mut(&mut self, index: u64) -> &mut [u8] {
        let (place, log2, size) = (place_of(index), self.layout.page_log2(), self.layout.page_size());
        let pieces = &mut self.regions[region_of(index)];
        let at = pieces.partition_point(|piece| piece.end <= place);
        let piece = &mut pieces[at];
        let start = ((place - piece.start) as usize) << log2;
        &mut piece.map.bytes_mut()[start..start + size]
    }

    /// The bytes of several pages at once, in the order in which they are asked for. No two are the same.
    pub(crate) fn pages_mut<const N: usize>(&mut self, pages: [u64; N]) -> [&mut [u8]; N] {
        let (log2, size) = (self.layout.page_log2(), self.layout.page_size());
        let mut order: [usize; N] = std::array::from_fn(|at| at);
        // From the last to the first: each is split off the end of what is left.
        order.sort_unstable_by_key(|at| Reverse(pages[*at]));
        let mut found: [&mut [u8]; N] = std::array::from_fn(|_| &mut [][..]);
        let mut regions = &mut self.regions[..];
        let mut pieces: (usize, &mut [Piece]) = (usize::MAX, &mut []);
        let mut bytes: (u64, &mut [u8]) = (u64::MAX, &mut []); // a place, and what is mapped from there on
        for at in order {
            let (region, place) = (region_of(pages[at]), place_of(pages[at]));
            if pieces.0 != region {
                let (before, from) = std::mem::take(&mut regions).split_at_mut(region);
                regions = before;
                pieces = (region, &mut from[0]);
                bytes = (u64::MAX, &mut []);
            }
            if bytes.0 == u64::MAX || place < bytes.0 {
                let pieces_left = std::mem::take(&mut pieces.1);
                let (before, from) =
                    pieces_left.split_at_mut(pieces_left.partition_point(|piece| piece.end <= place));
                pieces.1 = before;
                bytes = (from[0].start, from[0].map.bytes_mut());
            }
            let start = ((place - bytes.0) as usize) << log2;
            let (before, from) = std::mem::take(&mut bytes.1).split_at_mut(start);
            bytes.1 = before;
            found[at] = &mut from[..size];
        }
        found
    }

    /// Makes a page durable.
    pub(crate) fn flush(&self, index: u64) -> std::io::Result<()> {
        let piece = self.piece(index);
        piece.map.flush(self.bytes_in(piece, place_of(index)))
    }
}
