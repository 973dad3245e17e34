//! Reading a log back, deciding where it ends, and going on behind it.
//!
//! Invariant: replay changes nothing on disk; what it found cannot vanish once [`Recovery::secure`] has returned (L10); and reading
//! the same files again gives the same groups and the same end, whatever was cut in between (R6).
//!
//! ```text
//!   open     sync every file ─► replay   block by block from the checkpoint   scan.rs       recover   pages too: apply.rs
//!                                        groups out of their payload          replay.rs
//!                                        a hole: torn tail or corruption      here
//!            ─► secure   the tail is written once more, and synced            secure.rs
//!            ─► start    wipe the tail's remains, begin                       settle.rs
//! ```
//!
//! # The hole
//!
//! Reading stops at the first block that is missing, torn, stale, or follows one whose newest version is lost. Let `h` be
//! the LSN behind what was read. A valid block of this log anywhere that claims to have been sealed when more than `h` was
//! durable proves that durable bytes are gone: [`WalError::WalCorrupt`]. Without such a witness the hole is a torn tail.
//! A crash cannot make a witness: claims are true when they are written, and what is durable is never written again, but for a tail
//! that is durable somewhere else.

mod ahead;
mod apply;
mod create;
mod replay;
mod scan;
mod secure;
mod settle;

pub use apply::RecoveryReport;
pub(crate) use create::create;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use pagestone_direct_io::{Disk, OpenHow};
use pagestone_page_format::{Lsn, PageResult};

use crate::alone::Alone;
use crate::block::{BlockHeader, FIRST_BLOCK, FIRST_OF_GENERATION, block_lsn, position};
use crate::error::{WalError, WalResult};
use crate::group::Group;
use crate::options::{WalOptions, WalStart};
use crate::segment::{self, Segment};
use replay::Assembler;
use scan::{Home, LogReader, Place, Remains};

/// A log that has been opened for reading: replay it, then go on writing behind it.
///
/// Dropping it changes nothing on disk.
#[derive(Debug)]
pub struct Recovery {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) options: WalOptions,
    pub(crate) start: WalStart,
    /// In the order of their blocks, without overlaps, perhaps with gaps; open for reading.
    pub(crate) segments: Vec<Segment>,
    pub(crate) found: Option<Found>,
    /// What was found is durable, by a call of [`Recovery::secure`].
    pub(crate) secured: bool,
    /// Where recovery begins, if the log keeps that itself.
    pub(crate) alone: Option<Alone>,
}

/// What replay found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ReplayReport {
    /// End of the last whole group, and of the log. No page can rightly carry a greater LSN.
    pub end: Lsn,
    /// Groups handed out.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// The greatest generation of any block of the log, 0 if there is none.
    pub max_generation: u64,
    /// Behind the end lay remains of a batch that never became durable as a whole.
    pub torn_tail: bool,
}

/// What replay learned for [`Recovery::start`].
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) report: ReplayReport,
    /// Number of the block that the next generation begins with.
    pub(crate) next: u64,
    /// Blocks that nothing proves to be durable, or that are not at home, in order.
    pub(crate) tail: Vec<Place>,
    /// What stands behind the end.
    pub(crate) remains: Vec<Remains>,
}

impl Recovery {
    /// Opens a log of which the caller keeps the start in a superblock of its own; [`crate::Wal::open`] is for others. Changes nothing:
    /// syncs the files, then reads (L10).
    ///
    /// Errors: [`WalError::Missing`] if there are no segments, `Io` if they cannot be read.
    pub fn open(disk: Arc<dyn Disk>, dir: PathBuf, options: &WalOptions, start: WalStart) -> WalResult<Self> {
        options.check()?;
        let missing = || WalError::Missing { lsn: start.checkpoint };
        let names = match disk.list(&dir) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(WalError::io("listing of the log's directory")(error)),
        };
        disk.sync_dir(&dir).map_err(WalError::io("sync of the log's directory"))?;
        let mut segments: Vec<Segment> = Vec::new();
        let how = OpenHow::read(options.direct);
        for (name, first) in names.iter().filter_map(|name| Some((name, segment::parse_name(name)?))) {
            let segment = Segment::open(&*disk, dir.join(name), first, &how)?;
            if segments.last().is_some_and(|before| before.end() > first) {
                return Err(WalError::corrupt(block_lsn(first), "two segments hold the same block"));
            }
            segment.file.sync().map_err(WalError::io("sync of the log"))?;
            segments.push(segment);
        }
        if segments.is_empty() {
            return Err(missing());
        }
        Ok(Self {
            disk,
            dir,
            options: options.clone(),
            start,
            segments,
            found: None,
            secured: false,
            alone: None,
        })
    }

    /// Bytes from the checkpoint to the end of the last segment: replay has no more to read.
    pub fn bytes_max(&self) -> u64 {
        let end = self.segments.last().map_or(Lsn::ZERO, |segment| block_lsn(segment.end()));
        end.get().saturating_sub(self.start.checkpoint.get())
    }

    /// Hands out every whole group from the checkpoint on, in the order of their LSNs, and finds the end of the log.
    ///
    /// It may be called again and does the same again, without looking behind the end once more. Groups are handed out as they are read: when it ends with an error,
    /// those before it were true all the same, but nothing may be concluded from there being no more.
    ///
    /// Errors: [`WalError::WalCorrupt`], [`WalError::Missing`], [`WalError::Mismatch`]; `Io` if a read fails, which is
    /// never taken for the end of the log; [`WalError::Page`] with what `apply` gave.
    pub fn replay(&mut self, mut apply: impl FnMut(Group<'_>) -> PageResult<()>) -> WalResult<ReplayReport> {
        let known = self.found.take();
        let checkpoint = self.start.checkpoint.max(block_lsn(FIRST_BLOCK));
        let first = position(checkpoint).0;
        if !self.segments.iter().any(|segment| segment.holds(first) || segment.end() == first) {
            return Err(WalError::Missing { lsn: checkpoint });
        }
        let mut reader = LogReader::new(&self.segments, &self.start, self.options.read_ahead);
        let mut assembler = Assembler::new(checkpoint);
        let mut tail = Tail::default();
        let mut last: Option<BlockHeader> = None;
        let mut next = first;
        // What lies behind the end was looked at once, and is not looked at again.
        let behind = known.as_ref().map_or(u64::MAX, |known| known.next);
        while next < behind
            && let Some(block) = reader.block(next)?
        {
            if !goes_on(last.as_ref(), &block.header, &mut assembler)? {
                break;
            }
            assembler.take(&block.header, block.payload, &mut apply)?;
            tail.take(&block.header, block.place);
            last = Some(block.header);
            tail.prove(reader.seen().claim);
            next += 1;
        }
        if let Some(known) = known {
            let report = known.report;
            if next < known.next || !assembler.report().is_of(&report) {
                return Err(WalError::corrupt(
                    assembler.report().end,
                    "the log changed while it was read again",
                ));
            }
            self.found = Some(known);
            return Ok(report);
        }

        let read = last.map_or(block_lsn(first), |last| last.end());
        let remains = reader.beyond(read, next)?;
        let seen = reader.seen();
        if seen.claim > read {
            return Err(WalError::corrupt(read, "more than what can be read was durable"));
        }
        if checkpoint > read {
            return Err(WalError::corrupt(read, "the log ends before the checkpoint"));
        }
        let report = ReplayReport {
            max_generation: seen.generation,
            torn_tail: remains.iter().any(|remains| !remains.wiped)
                || tail.has_torn_homes()
                || assembler.is_inside_group(),
            ..assembler.report()
        };
        self.found = Some(Found { report, next, tail: tail.places(seen.claim), remains });
        Ok(report)
    }
}

impl ReplayReport {
    /// Whether the same groups were handed out.
    fn is_of(&self, other: &Self) -> bool {
        (self.end, self.groups, self.records, self.bytes)
            == (other.end, other.groups, other.records, other.bytes)
    }
}

/// Collects what [`Recovery::secure`] has to look after: no more than what nothing proves to be durable yet.
#[derive(Default)]
struct Tail {
    /// With the end of each block.
    blocks: VecDeque<(Lsn, Place)>,
}

impl Tail {
    fn take(&mut self, header: &BlockHeader, place: Place) {
        if header.has(FIRST_OF_GENERATION) {
            // A generation begins when everything before it has been secured.
            self.blocks.retain(|(_, before)| before.slot.is_some());
        }
        self.blocks.push_back((header.end(), place));
    }

    /// So much is known to be durable. A block that is at home by that, and was written there once, needs no look.
    fn prove(&mut self, claim: Lsn) {
        while self.blocks.front().is_some_and(|(end, place)| *end <= claim && place.home == Home::Plain) {
            self.blocks.pop_front();
        }
    }

    fn has_torn_homes(&self) -> bool {
        self.blocks.iter().any(|(_, place)| place.home == Home::Torn { wiped: false })
    }

    fn places(self, claim: Lsn) -> Vec<Place> {
        let wanted = |(end, place): &(Lsn, Place)| match place.home {
            Home::Plain => *end > claim,
            // Without a copy in a spare slot its own sync is known to have succeeded.
            Home::Settled => place.spare.is_some(),
            Home::Other | Home::Torn { .. } => true,
        };
        self.blocks.into_iter().filter(wanted).map(|(_, place)| place).collect()
    }
}

/// Whether a valid block continues what was read before it. If it begins a generation, what belonged to no whole group
/// before it is dropped.
fn goes_on(last: Option<&BlockHeader>, header: &BlockHeader, assembler: &mut Assembler) -> WalResult<bool> {
    let Some(last) = last else { return Ok(true) };
    let begins = header.has(FIRST_OF_GENERATION);
    if header.generation == last.generation {
        if begins {
            return Err(WalError::corrupt(block_lsn(header.number), "a generation begins twice"));
        }
        // Something follows a block that had room: its newest version is lost.
        return Ok(last.is_final());
    }
    if !begins || header.generation < last.generation {
        return Ok(false);
    }
    let end = assembler.report().end;
    if header.prev_end != end {
        return Err(WalError::corrupt(
            header.prev_end.min(end),
            "the log before a generation ended elsewhere",
        ));
    }
    assembler.cut();
    Ok(true)
}
