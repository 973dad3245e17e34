//! A value's bytes out of its extents.
//!
//! Invariant: a byte is given out after its whole page was verified: checksum, id, kind, and the LSN that the reference names.
//! The guard that came before the reference keeps the pages as they are.

use std::io::{self, Read, Seek, SeekFrom};

use pagestone_allocator::ReadGuard;
use pagestone_page_format::{Page, PageError, PageId, PageKind, PageResult};
use pagestone_sync::Arc;

use super::{BATCH_BYTES, Reference};
use crate::{BTree, TreeResult};

/// Pages that are read at first; then twice as many each time, for whoever reads on.
const FIRST_PAGES: usize = 16;

/// A value of a tree, to be read piece by piece: as it was when it was asked for, whatever becomes of the key meanwhile.
///
/// It holds at most a mebibyte of the value. While it lives, the space of long values that are removed or replaced is not used
/// again. Errors of reading carry a [`PageError`] as their source: a broken page is an error before any byte of it is
/// given out, and again whenever it is asked for.
///
/// A value that stands in its leaf is copied out at once.
#[derive(Debug)]
pub struct ValueReader {
    body: Body,
    at: u64,
}

#[derive(Debug)]
enum Body {
    Inline(Vec<u8>),
    Extents(Chunks),
}

/// The pages of a value, some of them in memory.
#[derive(Debug)]
pub(crate) struct Chunks {
    tree: BTree,
    reference: Reference,
    _guard: Arc<ReadGuard>,
    /// Buffers; the first `loaded` hold the pages from number `first` on, verified.
    pages: Vec<Page>,
    first: u64,
    loaded: usize,
    /// Pages to read next.
    ahead: usize,
}

impl Chunks {
    /// Over the value that `reference` stands for; `guard` was taken before the leaf with the reference was validated.
    pub(crate) fn new(tree: BTree, reference: Reference, guard: Arc<ReadGuard>) -> Self {
        Self { tree, reference, _guard: guard, pages: Vec::new(), first: 0, loaded: 0, ahead: FIRST_PAGES }
    }

    /// The bytes from `at` to the end of their page; empty at the end of the value.
    fn chunk(&mut self, at: u64) -> TreeResult<&[u8]> {
        let payload = self.tree.env().pool().page_size().payload_len() as u64;
        let (page, offset) = (at / payload, (at % payload) as usize);
        let len = self.reference.len.saturating_sub(page * payload).min(payload) as usize;
        if offset >= len {
            return Ok(&[]);
        }
        if page < self.first || page >= self.first + self.loaded as u64 {
            self.load(page)?;
        }
        Ok(&self.pages[(page - self.first) as usize].payload()[offset..len])
    }

    /// Reads page number `from`, and some behind it.
    fn load(&mut self, from: u64) -> TreeResult<()> {
        let env = self.tree.env();
        env.check_open()?;
        let store = env.pool().store();
        let most = (BATCH_BYTES / env.pool().page_size().get()).max(1);
        let goes_on = from == self.first + self.loaded as u64;
        self.ahead = if goes_on { (self.ahead * 2).min(most) } else { FIRST_PAGES.min(most) };
        (self.first, self.loaded) = (from, 0);
        let ids = self.reference.ids(from, self.ahead);
        while self.pages.len() < ids.len() {
            self.pages.push(store.allocate_page(PageId::new(0)));
        }
        for (index, read) in store.read_many(&ids, &mut self.pages[..ids.len()]).into_iter().enumerate() {
            match read.and_then(|()| self.verify(ids[index], &self.pages[index])) {
                Ok(()) => self.loaded = index + 1,
                // What lies before it is sound; this one is told when it is its turn.
                Err(_) if index > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn verify(&self, id: PageId, page: &Page) -> PageResult<()> {
        let header = page.header();
        if header.kind != PageKind::VALUE {
            return Err(PageError::Malformed { page_id: id, reason: "not a page of a value" });
        }
        if header.lsn != self.reference.lsn {
            return Err(PageError::Malformed { page_id: id, reason: "a page of another value" });
        }
        Ok(())
    }

    /// Appends the whole value to `out`.
    pub(crate) fn append_to(mut self, out: &mut Vec<u8>) -> TreeResult<()> {
        let mut at = 0;
        loop {
            let chunk = self.chunk(at)?;
            if chunk.is_empty() {
                return Ok(());
            }
            // As far as it was verified, so that no length in a file alone takes memory.
            out.extend_from_slice(chunk);
            at += chunk.len() as u64;
        }
    }
}

impl ValueReader {
    pub(crate) fn inline(value: Vec<u8>) -> Self {
        Self { body: Body::Inline(value), at: 0 }
    }

    pub(crate) fn of_chunks(chunks: Chunks) -> Self {
        Self { body: Body::Extents(chunks), at: 0 }
    }

    /// Bytes of the value.
    pub fn len(&self) -> u64 {
        match &self.body {
            Body::Inline(value) => value.len() as u64,
            Body::Extents(chunks) => chunks.reference.len,
        }
    }

    /// Whether the value is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some bytes from the position on, verified, without going on; empty at the end.
    fn chunk(&mut self) -> io::Result<&[u8]> {
        match &mut self.body {
            Body::Inline(value) => {
                let at = usize::try_from(self.at).unwrap_or(usize::MAX);
                Ok(value.get(at..).unwrap_or_default())
            }
            Body::Extents(chunks) => chunks.chunk(self.at).map_err(io::Error::other),
        }
    }
}

impl Read for ValueReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        let chunk = self.chunk()?;
        let len = chunk.len().min(out.len());
        out[..len].copy_from_slice(&chunk[..len]);
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for ValueReader {
    /// Past the end there is nothing to read. Before the beginning is `InvalidInput`.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.len().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
