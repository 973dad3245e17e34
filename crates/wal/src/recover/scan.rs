//! Blocks off the disk: the newest version of each, and everything that bears witness behind the end.
//!
//! Invariant: a block is believed only if it is whole, of this store, of a generation that the superblock knows and of a
//! file as long as when it was written; a read error is an error and never the end of the log.

use std::io::ErrorKind;

use pagestone_page_format::{AlignedBuf, Lsn};

use crate::block::{BLOCK, BlockHeader, HEADER, NotABlock, SETTLED, block_lsn, position};
use crate::error::{WalError, WalResult};
use crate::group::MAX_BUFFER;
use crate::options::WalStart;
use crate::recover::ahead::ReadAhead;
use crate::segment::{READ, Segment, TAIL_SLOTS};

/// Blocks read at once.
const CHUNK: u64 = (1 << 20) / BLOCK as u64;
/// How far behind the end every block is looked at: as far as two batches reach, the one that tore and the one that
/// proves that it had been durable.
const WINDOW: u64 = 2 * (MAX_BUFFER / BLOCK) as u64;
/// How many blocks are looked at in each segment further behind.
const SAMPLE: u64 = 64;

/// Reads a log's blocks forward.
pub(crate) struct LogReader<'a> {
    segments: &'a [Segment],
    start: &'a WalStart,
    /// Homes read ahead: so many blocks from this one on, all of one segment.
    chunk: AlignedBuf,
    chunk_first: u64,
    chunk_len: u64,
    ahead: Option<ReadAhead>,
    /// The slots of one segment, and what is in them.
    slots: AlignedBuf,
    slots_of: Option<usize>,
    in_slots: Vec<Result<BlockHeader, NotABlock>>,
    seen: Seen,
}

/// What all valid blocks that were looked at say together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// So much was durable.
    pub(crate) claim: Lsn,
    /// The greatest generation.
    pub(crate) generation: u64,
}

/// The newest version of a block.
pub(crate) struct Found<'a> {
    pub(crate) header: BlockHeader,
    /// Its used bytes.
    pub(crate) payload: &'a [u8],
    pub(crate) place: Place,
}

/// Where the newest version of a block stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) segment: usize,
    pub(crate) number: u64,
    pub(crate) home: Home,
    /// The slot that it was read from, if it is not at home.
    pub(crate) slot: Option<u64>,
    /// A spare slot that holds it, there or as well.
    pub(crate) spare: Option<u64>,
}

/// What stands at a block's home.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Home {
    /// The newest version, as it was first written.
    Plain,
    /// The newest version, written by a recovery that had it durably in a spare slot.
    Settled,
    /// Another block, or nothing.
    Other,
    /// What a torn write left, or where it was wiped.
    Torn { wiped: bool },
}

/// Where in a segment, in bytes, something stands behind the end of the log: a block of a batch that never became durable,
/// whole or in part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remains {
    pub(crate) segment: usize,
    pub(crate) offset: u64,
    /// An earlier recovery wiped it; whether that became durable is not known.
    pub(crate) wiped: bool,
}

impl<'a> LogReader<'a> {
    pub(crate) fn new(segments: &'a [Segment], start: &'a WalStart, read_ahead: bool) -> Self {
        // No read is of more than one segment.
        let longest = segments.iter().map(|segment| segment.blocks).max().unwrap_or(0);
        let chunk_bytes = CHUNK.min(longest) as usize * BLOCK;
        Self {
            segments,
            start,
            chunk: AlignedBuf::zeroed(chunk_bytes),
            chunk_first: 0,
            chunk_len: 0,
            ahead: if read_ahead { ReadAhead::start(chunk_bytes) } else { None },
            slots: AlignedBuf::zeroed(
                segments.iter().map(|segment| segment.slots).max().unwrap_or(0) as usize * BLOCK,
            ),
            slots_of: None,
            in_slots: Vec::new(),
            seen: Seen::default(),
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    /// The newest valid version of block `number`: of the highest generation, then with the most in it, then the one at
    /// home. `None` if there is none.
    pub(crate) fn block(&mut self, number: u64) -> WalResult<Option<Found<'_>>> {
        let Some(index) = self.segments.iter().position(|segment| segment.holds(number)) else {
            return Ok(None);
        };
        self.load_slots(index)?;
        let at = self.load(index, number, self.segments[index].end())?;
        let home = self.believe(index, &self.chunk[at..at + BLOCK])?;
        self.note(home.as_ref().ok());
        let ours =
            |found: &Result<BlockHeader, NotABlock>| found.ok().filter(|header| header.number == number);
        let mut best = ours(&home).map(|header| (header, None));
        for (slot, found) in (0..).zip(&self.in_slots) {
            let Some(header) = ours(found) else { continue };
            if best.is_none_or(|(best, _)| version(&header) > version(&best)) {
                best = Some((header, Some(slot)));
            }
        }
        let Some((header, slot)) = best else { return Ok(None) };
        let same = |found: &&Result<BlockHeader, NotABlock>| {
            ours(found).is_some_and(|other| version(&other) == version(&header))
        };
        let spare = (0..).zip(&self.in_slots).skip(TAIL_SLOTS as usize).find(|(_, found)| same(found));
        let home = match home {
            Ok(_) if slot.is_none() && header.has(SETTLED) => Home::Settled,
            Ok(_) if slot.is_none() => Home::Plain,
            Ok(_) | Err(NotABlock::Blank) => Home::Other,
            Err(not_a_block) => Home::Torn { wiped: not_a_block == NotABlock::Wiped },
        };
        let place = Place { segment: index, number, home, slot, spare: spare.map(|(slot, _)| slot) };
        let block = match slot {
            None => &self.chunk[at..at + BLOCK],
            Some(slot) => &self.slots[slot as usize * BLOCK..][..BLOCK],
        };
        Ok(Some(Found { header, payload: &block[HEADER..HEADER + usize::from(header.used)], place }))
    }

    /// Looks at what is behind `read`, the LSN behind what was read: every slot, every block as far as two batches
    /// reach, and the first blocks of every later segment. Gives what stands there for block `next` and later ones.
    ///
    /// Parts of blocks count as well: what a torn write left could be made whole by the next torn write to the same place,
    /// which may bring exactly the sectors that were missing, zeros say.
    pub(crate) fn beyond(&mut self, read: Lsn, next: u64) -> WalResult<Vec<Remains>> {
        let from = position(read).0;
        let mut remains = Vec::new();
        for (index, segment) in self.segments.iter().enumerate() {
            self.load_slots(index)?;
            for (slot, found) in self.in_slots.iter().enumerate() {
                let wiped = *found == Err(NotABlock::Wiped);
                // A spare slot is wiped when its block is durable at home: it may come back.
                if is_left_behind(found, next) && !(wiped && slot >= TAIL_SLOTS as usize) {
                    remains.push(Remains { segment: index, offset: (slot * BLOCK) as u64, wiped });
                }
            }
            let begin = segment.first.max(from);
            let end = segment.end().min((from + WINDOW).max(segment.first + SAMPLE));
            for number in begin..end {
                let at = self.load(index, number, end)?;
                let found = self.believe(index, &self.chunk[at..at + BLOCK])?;
                self.note(found.as_ref().ok());
                if number >= next && is_left_behind(&found, next) {
                    let wiped = found == Err(NotABlock::Wiped);
                    remains.push(Remains { segment: index, offset: segment.home(number), wiped });
                }
            }
        }
        Ok(remains)
    }

    /// Reads a chunk if needed, but not past `until`, and gives where in the chunk the home of a block is.
    fn load(&mut self, index: usize, number: u64, until: u64) -> WalResult<usize> {
        if !(self.chunk_first..self.chunk_first + self.chunk_len).contains(&number) {
            let segment = &self.segments[index];
            self.chunk_len = 0;
            let ahead = self.ahead.as_mut().and_then(|ahead| ahead.take(number, &mut self.chunk));
            let len = match ahead.transpose().map_err(WalError::io(READ))? {
                Some((len, got)) if got == len as usize * BLOCK => len,
                Some(_) => return Err(WalError::io(READ)(ErrorKind::UnexpectedEof.into())),
                None => {
                    let len = CHUNK.min(until - number);
                    segment.read(&mut self.chunk[..len as usize * BLOCK], segment.home(number))?;
                    len
                }
            };
            (self.chunk_first, self.chunk_len) = (number, len);
            if until == segment.end() {
                self.ask_ahead(number + len);
            }
        }
        Ok((number - self.chunk_first) as usize * BLOCK)
    }

    /// Begins to read the chunk that begins with a block, if there is such a block.
    fn ask_ahead(&mut self, first: u64) {
        let Some(ahead) = &mut self.ahead else { return };
        let Some(segment) = self.segments.iter().find(|segment| segment.holds(first)) else { return };
        let len = CHUNK.min(segment.end() - first);
        ahead.ask(&segment.file, segment.home(first), len as usize * BLOCK, (first, len));
    }

    fn load_slots(&mut self, index: usize) -> WalResult<()> {
        if self.slots_of == Some(index) {
            return Ok(());
        }
        self.slots_of = None;
        let count = self.segments[index].slots as usize;
        self.segments[index].read(&mut self.slots[..count * BLOCK], 0)?;
        self.in_slots.clear();
        for slot in 0..count {
            let found = self.believe(index, &self.slots[slot * BLOCK..(slot + 1) * BLOCK])?;
            self.note(found.as_ref().ok());
            self.in_slots.push(found);
        }
        self.slots_of = Some(index);
        Ok(())
    }

    fn note(&mut self, header: Option<&BlockHeader>) {
        let Some(header) = header else { return };
        self.seen.claim = self.seen.claim.max(header.claim());
        self.seen.generation = self.seen.generation.max(header.generation);
    }

    /// Decodes a block of a segment and refuses what cannot be in it.
    fn believe(&self, index: usize, block: &[u8]) -> WalResult<Result<BlockHeader, NotABlock>> {
        let mismatch = |expected: String, found: String| Err(WalError::Mismatch { expected, found });
        let header = match BlockHeader::decode(block) {
            Ok(header) => header,
            Err(NotABlock::Version(found)) => {
                return mismatch("log format version 1".into(), format!("version {found}"));
            }
            Err(other) => return Ok(Err(other)),
        };
        if header.uuid != self.start.uuid {
            return mismatch(
                format!("the log of store {}", self.start.uuid),
                format!("that of {}", header.uuid),
            );
        }
        if header.generation > self.start.generation && !self.start.newest_copy_lost {
            return mismatch(
                format!("a log of generation {} at most", self.start.generation),
                format!("generation {}", header.generation),
            );
        }
        let segment = &self.segments[index];
        if u64::from(header.segment_blocks) != segment.blocks {
            return Err(WalError::corrupt(block_lsn(segment.first), "a segment has lost or gained length"));
        }
        Ok(Ok(header))
    }
}

/// Which of two versions of a block is newer.
fn version(header: &BlockHeader) -> (u64, u16) {
    (header.generation, header.used)
}

/// Whether this is of no block before `next`. A stale block of a recycled segment is.
fn is_left_behind(found: &Result<BlockHeader, NotABlock>, next: u64) -> bool {
    match found {
        Ok(header) => header.number >= next,
        Err(NotABlock::Blank) => false,
        Err(_) => true,
    }
}
