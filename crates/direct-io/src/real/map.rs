//! Bytes of a file in memory.
//!
//! Invariant: while a map lives, its bytes change through it alone, and the file does not end before them.
//!
//! # Safety
//!
//! [`RealMap::new`] makes slices of a shared mapping possible, which are sound as long as nothing else writes those bytes and
//! nothing cuts the file. Who could:
//!
//! * this handle: [`InUse`] is held for as long as the map, and [`super::ranges`] refuses what meets it;
//! * another handle, here or in another process: the caller holds the lock of the whole file, alone or, to read, among
//!   readers; [`super::ranges`] keeps it from being changed, the map keeps the descriptor to which it belongs, and the contract of the seam is that only the lock's holder writes or cuts a file;
//! * who keeps to no contract (an editor opened on a live file): as with a debugger, nothing can be promised. What the seam
//!   promises where it is documented ([`crate::File::map`]) is that a file that was cut ends the process by a signal.
//!
//! A byte of a mapped file is initialised and any value is a `u8`, so nothing is asked of the contents. A read fault of the
//! device raises a signal too, and a missing block does where the disk is full: callers reserve what they map to write.
//!
//! [`MappedPage`] is a slice under another name: it owns nothing and promises nothing that its slice does not.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

use memmap2::{Mmap, MmapMut, MmapOptions};

use super::FLUSH_IS_DURABLE;
use super::platform::{self, Descriptor};
use super::ranges::InUse;
use crate::{Map, MapAccess};

/// One mapping. Fields are dropped in this order: unmapped first, then free for others, then unlocked.
#[derive(Debug)]
pub(crate) struct RealMap {
    pages: Pages,
    _in_use: InUse,
    descriptor: Arc<Descriptor>,
}

#[derive(Debug)]
enum Pages {
    Read(Mmap),
    Write(MmapMut),
}

impl RealMap {
    /// Maps a range that is in use by nothing else, of a locked file that reaches to its end.
    pub(super) fn new(
        descriptor: Arc<Descriptor>,
        in_use: InUse,
        range: Range<u64>,
        access: MapAccess,
    ) -> io::Result<Self> {
        let len = usize::try_from(range.end - range.start).map_err(|_| ErrorKind::OutOfMemory)?;
        let mut options = MmapOptions::new();
        options.offset(range.start).len(len);
        let file: &File = &descriptor;
        let pages = match access {
            // SAFETY: the caller holds the file's lock, `in_use` keeps this handle off the range and off cuts before its end, and
            // both live in the map that is made here, behind its pages. The file is at least as long as the range's end.
            MapAccess::Read => Pages::Read(unsafe { options.map(file) }?),
            // SAFETY: as above; and no other map of the range exists, so that `&mut` of it is the only way to its bytes.
            MapAccess::Write => Pages::Write(unsafe { options.map_mut(file) }?),
        };
        Ok(Self { pages, _in_use: in_use, descriptor })
    }
}

/// The bytes of one page of a map, without a copy: what pagers lend. Unsized, as `str` is.
///
/// ```
/// use pagestone_direct_io::MappedPage;
/// let mut bytes = [0; 1024];
/// MappedPage::from_bytes_mut(&mut bytes).as_bytes_mut()[..5].copy_from_slice(b"stone");
/// assert_eq!(&MappedPage::from_bytes(&bytes).as_bytes()[..5], b"stone");
/// ```
#[repr(transparent)]
#[derive(PartialEq, Eq)]
pub struct MappedPage([u8]);

impl MappedPage {
    /// These bytes.
    #[inline]
    pub fn from_bytes(bytes: &[u8]) -> &Self {
        let page = std::ptr::from_ref(bytes) as *const Self;
        // SAFETY: the type is transparent over `[u8]`: the pointer has the same address, length and layout, the borrow the same life,
        // and any bytes are a page.
        unsafe { &*page }
    }

    /// These bytes, to change.
    #[inline]
    pub fn from_bytes_mut(bytes: &mut [u8]) -> &mut Self {
        let page = std::ptr::from_mut(bytes) as *mut Self;
        // SAFETY: as above; and the one `&mut` of the slice is given up for the one `&mut` of the page.
        unsafe { &mut *page }
    }

    /// Its bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its bytes, to change.
    #[inline]
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for MappedPage {
    /// The size and never the bytes, which are the user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedPage({} bytes)", self.len())
    }
}

impl Map for RealMap {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match &self.pages {
            Pages::Read(pages) => pages,
            Pages::Write(pages) => pages,
        }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.pages {
            Pages::Read(_) => panic!("a map that was made to read is written"),
            Pages::Write(pages) => pages,
        }
    }

    fn flush(&self, range: Range<usize>) -> io::Result<()> {
        if range.start > range.end || range.end > self.bytes().len() {
            let message = format!("{range:?} of a map of {} bytes", self.bytes().len());
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        match &self.pages {
            Pages::Read(_) => return Ok(()), // nothing was changed through it
            Pages::Write(_) if range.is_empty() => return Ok(()),
            Pages::Write(pages) => pages.flush_range(range.start, range.len())?,
        }
        if FLUSH_IS_DURABLE { Ok(()) } else { platform::sync_data(&self.descriptor) }
    }
}
