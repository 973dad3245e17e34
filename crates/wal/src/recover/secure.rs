//! Making durable what replay believed, whatever a sync that failed before has left in the system's cache.
//!
//! Invariant: at every moment each block of the tail that was ever acknowledged is durable at a place that is not being written;
//! and when this returns every block of the log is durable at its home.
//!
//! ```text
//!   home before          in a spare slot    what is done
//!   as first written     any                copy to a spare slot, sync, home, sync      its first writing may have been acknowledged
//!   another block, torn  no                 copy to a spare slot, sync, home, sync      the tail slot is left as it is
//!   torn, or settled     yes                home, sync                                  the spare slot may be all there is
//!   settled              no                 nothing: the spare slot was given up after the home was durable
//! ```
//!
//! A sync that fails may leave bytes that the system shows as written and takes for clean, although no disk has them: a later sync
//! that succeeds says nothing about them (Rebello and others, *Can Applications Recover from fsync Failures?*, USENIX ATC 2020). The
//! only remedy that needs no knowledge of the system is to write them again. Bytes that are proved durable by a later block need
//! none; what lies behind is at most one batch.
//!
//! Why not over the old bytes at once: a power cut while a sector is being written may leave garbage in it (C6), and nobody knows
//! which of the places that show a block is the one that the disk has.
//!
//! Why the mark [`SETTLED`]: it tells a home that was never written but once, which is as good as it ever was, from one that was
//! written again and may be garbage below what the cache shows. Only in the first case may the spare slot be written over.

use pagestone_direct_io::OpenHow;
use pagestone_page_format::AlignedBuf;

use crate::block::{BLOCK, BlockHeader, SETTLED, WIPED, block_lsn};
use crate::error::{WalError, WalResult};
use crate::recover::Recovery;
use crate::recover::scan::{Home, Place};
use crate::segment::{Segment, TAIL_SLOTS};

const WRITE: &str = "settling of the log's tail";
const SYNC: &str = "sync of the log's tail";

impl Recovery {
    /// Makes durable what [`Recovery::replay`] found. To be called before anything is built on it: a page that is written with its
    /// LSN, a checkpoint behind it, another generation. [`Recovery::start`] calls it if nobody did.
    ///
    /// It writes blocks of the log's tail once more, over bytes that are the same, and changes nothing that replay reads. It may
    /// be cut at any point and done again.
    ///
    /// Replays first, to nobody, if nobody did. Errors: those of [`Recovery::replay`]; `Io`. After an error, open again.
    pub fn secure(&mut self) -> WalResult<()> {
        if self.secured {
            return Ok(());
        }
        if self.found.is_none() {
            self.replay(|_| Ok(()))?;
        }
        let tail = self.found.as_ref().map_or(Vec::new(), |found| found.tail.clone());
        for places in tail.chunk_by(|a, b| a.segment == b.segment) {
            let Some(segment) = self.segments.get_mut(places[0].segment) else { continue };
            let Segment { path, first, .. } = segment.clone();
            *segment = Segment::open(&*self.disk, path, first, &OpenHow::write(self.options.direct))?;
            Securing::new(segment).run(places)?;
        }
        self.secured = true;
        Ok(())
    }
}

/// One segment with blocks of the tail.
struct Securing<'a> {
    segment: &'a Segment,
    block: AlignedBuf,
}

impl<'a> Securing<'a> {
    fn new(segment: &'a Segment) -> Self {
        Self { segment, block: AlignedBuf::zeroed(BLOCK) }
    }

    /// 1. Wipe homes that hold a part of a block, and sync: what is written there next and torn must not make it whole.
    /// 2. Write home what may stand in a spare slot only, and sync. Now nothing in a spare slot is needed.
    /// 3. Everything else, as many at a time as there are spare slots: to the slots, sync, home, sync.
    /// 4. Wipe the spare slots, and sync: a home that is not durable is one whose block stands in a spare slot.
    fn run(&mut self, places: &[Place]) -> WalResult<()> {
        let torn: Vec<_> = places.iter().filter(|place| matches!(place.home, Home::Torn { .. })).collect();
        torn.iter().try_for_each(|place| self.wipe(self.segment.home(place.number)))?;
        self.sync_if(!torn.is_empty())?;

        let (copied, rest): (Vec<&Place>, Vec<&Place>) =
            places.iter().partition(|place| place.spare.is_some() && place.home != Home::Plain);
        copied.iter().try_for_each(|place| self.write_home(place))?;
        self.sync_if(!copied.is_empty())?;

        let spares = TAIL_SLOTS..self.segment.slots;
        for round in rest.chunks(spares.clone().count()) {
            for (place, spare) in round.iter().zip(spares.clone()) {
                self.load(place)?;
                self.write(spare * BLOCK as u64)?;
            }
            self.sync_if(true)?;
            round.iter().try_for_each(|place| self.write_home(place))?;
            self.sync_if(true)?;
        }

        let used = spares.clone().take(rest.len());
        let shown = places.iter().filter_map(|place| place.spare);
        let given_up: std::collections::BTreeSet<u64> = used.chain(shown).collect();
        given_up.iter().try_for_each(|spare| self.wipe(spare * BLOCK as u64))?;
        self.sync_if(!given_up.is_empty())
    }

    /// Reads a block where replay found it.
    fn load(&mut self, place: &Place) -> WalResult<BlockHeader> {
        let from = place.slot.map_or(self.segment.home(place.number), |slot| slot * BLOCK as u64);
        self.segment.read(&mut self.block, from)?;
        match BlockHeader::decode(&self.block) {
            Ok(header) if header.number == place.number => Ok(header),
            _ => Err(WalError::corrupt(
                block_lsn(place.number),
                "the log's tail changed while it was recovered",
            )),
        }
    }

    fn write_home(&mut self, place: &Place) -> WalResult<()> {
        let header = self.load(place)?;
        BlockHeader { flags: header.flags | SETTLED, ..header }.seal(&mut self.block);
        self.write(self.segment.home(place.number))
    }

    fn wipe(&mut self, offset: u64) -> WalResult<()> {
        self.block.fill(WIPED);
        self.write(offset)
    }

    fn write(&self, offset: u64) -> WalResult<()> {
        self.segment.write(&self.block, offset).map_err(WalError::io(WRITE))
    }

    fn sync_if(&self, anything: bool) -> WalResult<()> {
        if anything { self.segment.file.sync().map_err(WalError::io(SYNC)) } else { Ok(()) }
    }
}
