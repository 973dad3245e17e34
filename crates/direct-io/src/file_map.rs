//! The map that a file gives.
//!
//! Invariant: it answers as the map in it does.
//!
//! ```text
//!   FileMap   of the system: its slice, where the compiler sees it
//!             any other:     Map, by an indirect call
//! ```
//!
//! A page of a map is found in a few instructions, and an indirect call to where its bytes are was half of what a read cost.

use std::io;
use std::ops::Range;

use crate::Map;
use crate::real::RealMap;

/// Bytes of a file in memory: what [`crate::File::map`] gives. What [`Map`] says of its methods holds for these.
#[derive(Debug)]
pub struct FileMap(Kind);

#[derive(Debug)]
enum Kind {
    System(RealMap),
    Other(Box<dyn Map>),
}

impl FileMap {
    /// Of a file that is not the system's.
    pub fn new(map: impl Map + 'static) -> Self {
        Self(Kind::Other(Box::new(map)))
    }

    pub(crate) const fn of_the_system(map: RealMap) -> Self {
        Self(Kind::System(map))
    }

    /// The bytes: [`Map::bytes`].
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Kind::System(map) => map.bytes(),
            Kind::Other(map) => map.bytes(),
        }
    }

    /// The bytes, if the map is the system's: for a path that is to hold no call.
    #[inline]
    pub fn of_memory(&self) -> Option<&[u8]> {
        match &self.0 {
            Kind::System(map) => Some(map.bytes()),
            Kind::Other(_) => None,
        }
    }

    /// The bytes, to change: [`Map::bytes_mut`]. Panics on a map that was made to read.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Kind::System(map) => map.bytes_mut(),
            Kind::Other(map) => map.bytes_mut(),
        }
    }

    /// Makes bytes durable: [`Map::flush`].
    pub fn flush(&self, range: Range<usize>) -> io::Result<()> {
        match &self.0 {
            Kind::System(map) => map.flush(range),
            Kind::Other(map) => map.flush(range),
        }
    }
}
