//! Going on behind what was read: the tail's remains are wiped, and a new generation begins.
//!
//! Invariant: after this, every block of the log is at home and nothing of a block lies behind its end; so at most one
//! generation ever has a version of a block on disk, and no later damage or torn write brings an abandoned one to light.
//! Every step changes nothing that replay reads, so a cut anywhere and a second recovery give the same.
//!
//! What is shown as wiped is wiped once more: a sync of it may have failed, and then the disk still has what was there.

use std::collections::{BTreeSet, VecDeque};

use pagestone_direct_io::{DurableBy, OpenHow};
use pagestone_page_format::AlignedBuf;

use crate::block::{BLOCK, FIRST_BLOCK, WIPED, block_lsn, position};
use crate::buffer::Identity;
use crate::error::{WalError, WalResult};
use crate::probe;
use crate::recover::Recovery;
use crate::recover::scan::Remains;
use crate::segment::{self, MakeError, Segment, SegmentMaker};
use crate::wal::{Beginning, Wal};

impl Recovery {
    /// Opens the log for writing under a new generation, which the superblock says durably already.
    ///
    /// 1. [`Recovery::secure`], if that was not done: every block of the log is durable at its home.
    /// 2. Wipe what stands behind the end, whole or torn, and sync: it is of a batch that was never acknowledged, and a later write
    ///    that is torn as well must not make it whole.
    /// 3. Tidy names: remove what is half made or stands behind a gap, recycle what lies below the older checkpoint, make
    ///    the first segment ready.
    /// 4. Choose the call that makes batches durable.
    /// 5. Begin at the next block; its `prev_end` tells where the log before it ended.
    ///
    /// Replays first, to nobody, if nobody did. Errors: those of [`Recovery::replay`]; `Mismatch` if the generation is not
    /// above all that the log has seen; `Io`, `NoSpace`. After an error, open again.
    pub fn start(mut self, generation: u64) -> WalResult<Wal> {
        self.start.poison.check()?;
        if self.found.is_none() {
            self.replay(|_| Ok(()))?;
        }
        let found = self.found.as_ref().expect("a replay that succeeded has found something");
        let (next, report) = (found.next, found.report);
        let newest = report.max_generation.max(self.start.generation);
        if generation <= newest {
            return Err(WalError::Mismatch {
                expected: format!("a generation above {newest}"),
                found: format!("generation {generation}"),
            });
        }
        self.secure()?;
        self.wipe_remains()?;
        let mut maker = SegmentMaker {
            disk: self.disk.clone(),
            dir: self.dir.clone(),
            direct: self.options.direct,
            bytes: self.options.segment_bytes,
            durable_by: DurableBy::default(),
        };
        let segments = self.tidy(&maker, next)?;
        maker.durable_by = self.choose(&segments)?;
        let segments =
            segments.into_iter().map(|segment| maker.for_batches(segment)).collect::<WalResult<_>>()?;
        Ok(Wal::begin(Beginning {
            identity: Identity { uuid: self.start.uuid, generation, first: next, prev_end: report.end },
            keep: self.start.keep_from.clamp(block_lsn(FIRST_BLOCK), report.end),
            options: self.options,
            poison: self.start.poison,
            segments,
            maker,
        }))
    }

    /// Step 2.
    fn wipe_remains(&mut self) -> WalResult<()> {
        let remains = self.found.take().map_or(Vec::new(), |found| found.remains);
        let wiped: BTreeSet<usize> = remains.iter().map(|remains| remains.segment).collect();
        for index in &wiped {
            let Segment { path, first, .. } = self.segments[*index].clone();
            self.segments[*index] =
                Segment::open(&*self.disk, path, first, &OpenHow::write(self.options.direct))?;
        }
        let mut block = AlignedBuf::zeroed(BLOCK);
        block.fill(WIPED);
        for &Remains { segment, offset, .. } in &remains {
            self.segments[segment].write(&block, offset).map_err(WalError::io("wiping of the log's tail"))?;
        }
        let mut files = wiped.iter().map(|index| &self.segments[*index].file);
        files.try_for_each(|file| file.sync()).map_err(WalError::io("sync of the log's tail"))
    }

    /// Step 4. Where there is no segment, because the disk is full, there is nothing to try it on.
    fn choose(&self, segments: &VecDeque<Segment>) -> WalResult<DurableBy> {
        let Some(last) = segments.back() else { return Ok(self.options.durable_by.unwrap_or_default()) };
        match self.options.durable_by {
            None => probe::fastest(&*self.disk, last),
            Some(by) if by == DurableBy::default() || probe::works(&*self.disk, last, by)? => Ok(by),
            Some(_) => Err(WalError::InvalidOptions { reason: "the system has no such durable write" }),
        }
    }

    /// Step 3. Gives the segments from the keep LSN to behind the block that comes next, open for writing.
    ///
    /// What lies behind a gap past the end is the rest of renamings that a power cut undid in part: replay found no
    /// witness in it. What lies before a gap below the checkpoint is not ours to explain, and is left alone.
    fn tidy(&self, maker: &SegmentMaker, next: u64) -> WalResult<VecDeque<Segment>> {
        let keep = position(self.start.keep_from.min(self.start.checkpoint)).0.min(next);
        let (mut below, mut run, mut behind) = (Vec::new(), VecDeque::<Segment>::new(), Vec::new());
        for segment in &self.segments {
            let continues = run.back().is_some_and(|last| last.end() == segment.first);
            if segment.end() <= keep && segment.end() < next {
                below.push(segment);
            } else if segment.first > next && !continues {
                behind.push(segment);
            } else {
                if !continues {
                    run.clear();
                }
                run.push_back(segment.clone());
            }
        }

        let names = self.disk.list(&self.dir).map_err(WalError::io("listing of the log's directory"))?;
        let unfinished =
            names.iter().filter(|name| segment::is_unfinished(name)).map(|name| self.dir.join(name));
        let useless: Vec<_> = behind.iter().map(|segment| segment.path.clone()).chain(unfinished).collect();
        useless.iter().try_for_each(|path| maker.remove(path))?;

        let mut changed = !useless.is_empty();
        for segment in below {
            if segment.bytes() == maker.bytes && run.len() < self.options.max_segments() {
                run.push_back(maker.recycle(segment, run.back().map_or(next, Segment::end))?);
            } else {
                maker.remove(&segment.path)?;
            }
            changed = true;
        }
        if run.back().is_none_or(|last| last.end() <= next) {
            match maker.make(next) {
                Ok(segment) => run.push_back(segment),
                Err(MakeError::Refused(WalError::NoSpace { .. })) => {} // reads go on; `reserve` will say so
                Err(error) => return Err(error.into()),
            }
            changed = true;
        }
        if changed {
            maker.sync_dir()?;
        }
        let how = OpenHow::write(self.options.direct);
        run.into_iter().map(|segment| Segment::open(&*self.disk, segment.path, segment.first, &how)).collect()
    }
}
