//! A value's bytes into extents, past the pool.
//!
//! Invariant: nothing refers to what is written here; whatever fails, the reservation is dropped and nothing is left behind. The
//! pages are not durable when this returns: the group that takes the extents says so to the log ([`MiniTxn::take_extents`]).
//!
//! ```text
//!   read a batch ─► reserve for it ─► discard its ids from the pool (P13) ─► write it ─► ... ─► trim, discard again
//! ```
//!
//! All pages carry one LSN: where the log was durable when the value was begun. No crash gives it to another group, and every later use
//! of the ids ends behind it (L7). It is past every older use of the ids that were free for extents then; one that a value of unknown
//! length takes later may have been something newer, which a checkpoint has passed all the same (L8).
//!
//! [`MiniTxn::take_extents`]: pagestone_mini_txn::MiniTxn::take_extents

use std::io::{self, Read};

use pagestone_allocator::{ExtentReservation, region_bits};
use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::{Lsn, Page, PageHeader, PageId, PageKind};

use super::{BATCH_BYTES, MAX_RUNS, MAX_VALUE_LEN, Reference};
use crate::{TreeError, TreeResult};

/// What is reserved first for a value whose length nobody knows.
const FIRST_BYTES: usize = 64 << 10;

/// Where a value comes from.
pub(crate) struct Source<'r> {
    /// Its first bytes, which were read already.
    pub(crate) head: &'r [u8],
    pub(crate) rest: &'r mut dyn Read,
    /// Bytes of all of it, if that is known: exactly so many are taken.
    pub(crate) len: Option<u64>,
}

impl Source<'_> {
    /// Fills `out` unless the source ends; gives how much it filled.
    fn fill(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let from_head = self.head.len().min(out.len());
        let (head, later) = self.head.split_at(from_head);
        out[..from_head].copy_from_slice(head);
        self.head = later;
        Ok(from_head + fill(self.rest, &mut out[from_head..])?)
    }
}

/// Reads until `out` is full or the reader ends; gives how much it read.
pub(crate) fn fill(reader: &mut dyn Read, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match reader.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes a value, not empty, to extents of its own. Gives what will refer to it, and the ids.
///
/// Errors, with nothing kept: `Source`, `ValueTooLong`, `NoSpace`, and those of writing.
pub(crate) fn write_value<'e>(
    env: &'e LoggedPool,
    source: Source<'_>,
) -> TreeResult<(Reference, ExtentReservation<'e>)> {
    let Reserved { reference, extents } = reserve_value(env, source.len.unwrap_or(0))?;
    write_from(env, source, extents, reference.lsn)
}

/// As [`write_value`], into extents that were reserved for it: as many pages as it takes.
pub(crate) fn write_value_to<'e>(
    env: &'e LoggedPool,
    source: Source<'_>,
    extents: ExtentReservation<'e>,
) -> TreeResult<(Reference, ExtentReservation<'e>)> {
    write_from(env, source, extents, env.log().durable_lsn())
}

/// A value that has its place and is not written yet.
pub(crate) struct Reserved<'e> {
    /// What will refer to it.
    pub(crate) reference: Reference,
    pub(crate) extents: ExtentReservation<'e>,
}

/// The place for a value of `len` bytes, [`MAX_VALUE_LEN`] at most. Error: `NoSpace`, with nothing kept.
pub(crate) fn reserve_value(env: &LoggedPool, len: u64) -> TreeResult<Reserved<'_>> {
    let pages = Reference::pages_for(len, env.pool().page_size());
    let extents = env.allocator().reserve_extents(env, pages, MAX_RUNS)?;
    let reference = Reference { len, lsn: env.log().durable_lsn(), runs: extents.runs().to_vec() };
    Ok(Reserved { reference, extents })
}

impl<'e> Reserved<'e> {
    /// Writes the value, which is as long as was said. Errors, with nothing kept: those of writing.
    pub(crate) fn write(self, env: &'e LoggedPool, value: &[u8]) -> TreeResult<ExtentReservation<'e>> {
        let source = Source { head: value, rest: &mut io::empty(), len: Some(self.reference.len) };
        let (reference, extents) = write_from(env, source, self.extents, self.reference.lsn)?;
        debug_assert_eq!(reference, self.reference, "a value is written where it has its place");
        Ok(extents)
    }
}

fn write_from<'e>(
    env: &'e LoggedPool,
    mut source: Source<'_>,
    extents: ExtentReservation<'e>,
    lsn: Lsn,
) -> TreeResult<(Reference, ExtentReservation<'e>)> {
    let mut writer = Writer { env, extents, lsn, pages: Vec::new(), written: 0 };
    let mut len = 0;
    loop {
        let filled = writer.fill_batch(&mut source, len)?;
        len += filled.bytes;
        if len > MAX_VALUE_LEN {
            return Err(TreeError::ValueTooLong { len, max: MAX_VALUE_LEN });
        }
        writer.write_batch(filled.pages)?;
        if filled.ended || source.len == Some(len) {
            break;
        }
    }
    if let Some(expected) = source.len.filter(|expected| *expected != len) {
        let short = format!("{expected} bytes were announced, {len} came");
        return Err(TreeError::Source { source: io::Error::new(io::ErrorKind::UnexpectedEof, short) });
    }
    writer.finish(len)
}

struct Writer<'e> {
    env: &'e LoggedPool,
    extents: ExtentReservation<'e>,
    lsn: Lsn,
    /// Buffers, used again for every batch.
    pages: Vec<Page>,
    /// Pages that are written.
    written: u64,
}

struct Filled {
    pages: usize,
    bytes: u64,
    ended: bool,
}

impl<'e> Writer<'e> {
    /// Reads up to a batch of the value, `before` bytes of which were read, into the buffers; the end of the last page is zeros.
    fn fill_batch(&mut self, source: &mut Source<'_>, before: u64) -> TreeResult<Filled> {
        let size = self.env.pool().page_size();
        let mut filled = Filled { pages: 0, bytes: 0, ended: false };
        while filled.pages < (BATCH_BYTES / size.get()).max(1) && !filled.ended {
            let left = source.len.map_or(u64::MAX, |len| len - before - filled.bytes);
            let room = left.min(size.payload_len() as u64) as usize;
            if room == 0 {
                break;
            }
            if filled.pages == self.pages.len() {
                self.pages.push(self.env.pool().store().allocate_page(PageId::new(0)));
            }
            let payload = self.pages[filled.pages].payload_mut();
            let read = source.fill(&mut payload[..room]).map_err(|source| TreeError::Source { source })?;
            payload[read..].fill(0);
            filled.bytes += read as u64;
            filled.pages += usize::from(read > 0);
            filled.ended = read < room;
        }
        Ok(filled)
    }

    fn write_batch(&mut self, pages: usize) -> TreeResult<()> {
        self.env.check_open()?;
        self.env.poison().check()?;
        let wanted = self.written + pages as u64;
        if wanted > self.extents.pages() {
            self.reserve_more(wanted - self.extents.pages())?;
        }
        let ids = ids_of(&self.extents, self.written, pages);
        for (page, id) in self.pages.iter_mut().zip(&ids) {
            self.env.pool().discard(*id)?;
            let mut header = PageHeader::new(PageKind::VALUE, *id);
            header.lsn = self.lsn;
            header.encode(page.bytes_mut());
        }
        self.env.pool().store().write_new(&mut self.pages[..pages])?;
        self.written = wanted;
        Ok(())
    }

    /// The length is not known: as much again as there is, within reason, in a row.
    fn reserve_more(&mut self, needed: u64) -> TreeResult<()> {
        let size = self.env.pool().page_size();
        let again = self.extents.pages().max((FIRST_BYTES / size.get()) as u64).min(region_bits(size) - 1);
        Ok(self.extents.extend(self.env, again.max(needed), 1)?)
    }

    fn finish(mut self, len: u64) -> TreeResult<(Reference, ExtentReservation<'e>)> {
        self.extents.trim(self.written);
        // A reader with a stale swip may have brought one of them into the pool meanwhile.
        for (first, count) in self.extents.runs() {
            for id in first.get()..first.get() + u64::from(*count) {
                self.env.pool().discard(PageId::new(id))?;
            }
        }
        let runs = self.extents.runs().to_vec();
        if runs.len() > MAX_RUNS {
            return Err(TreeError::ValueTooLong { len, max: MAX_VALUE_LEN });
        }
        Ok((Reference { len, lsn: self.lsn, runs }, self.extents))
    }
}

/// The ids of the pages from number `from` on.
pub(crate) fn ids_of(extents: &ExtentReservation<'_>, from: u64, count: usize) -> Vec<PageId> {
    Reference { len: 0, lsn: Lsn::ZERO, runs: extents.runs().to_vec() }.ids(from, count)
}
