//! An open file of the real file system.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use pagestone_page_format::{AlignedBuf, IO_ALIGNMENT};
use pagestone_sync::atomic::{AtomicBool, Ordering};

use super::batches::Batches;
use super::dsync;
use super::map::RealMap;
use super::owned::RealOwned;
use super::platform::{self, Descriptor};
use super::ranges::{Held, InUse, Ranges};
use crate::reads::BatchedReads;
use crate::writes::BatchedWrites;
use crate::{Backend, DirectIo, File, FileMap, MapAccess, ReadAt, Reads, WriteAt, Writes, write_all_at};

/// Bytes of zeros in one write, where the file system cannot allocate ahead.
const ZEROS: usize = 1 << 20;

/// One descriptor.
#[derive(Debug)]
pub(super) struct RealFile {
    /// Shared with the maps, which keep it, and so the lock, as long as they live; and with the threads of `batches`, which end
    /// with it.
    descriptor: Arc<Descriptor>,
    /// Whether direct I/O may be given up.
    fallback: bool,
    /// Whether it is active. Relaxed: it is a report, and what decides is the descriptor's flag.
    direct: AtomicBool,
    batches: Batches,
    /// None: a file that was opened for direct I/O has no maps.
    ranges: Option<Ranges>,
}

/// What the system looks at before it transfers anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    /// The addresses and lengths of all buffers, or-ed: what they are all a multiple of.
    bits: usize,
    len: usize,
    offset: u64,
}

impl Transfer {
    pub(super) fn of(buf: &[u8], offset: u64) -> Self {
        Self::of_all([buf], offset)
    }

    fn of_all<'b>(bufs: impl IntoIterator<Item = &'b [u8]>, offset: u64) -> Self {
        bufs.into_iter().fold(Self { bits: 0, len: 0, offset }, |all, buf| Self {
            bits: all.bits | buf.as_ptr() as usize | buf.len(),
            len: all.len.saturating_add(buf.len()),
            offset,
        })
    }

    fn is_aligned(&self) -> bool {
        (self.bits | self.offset as usize).is_multiple_of(IO_ALIGNMENT)
    }

    /// Whether it ends at an offset that can be.
    fn is_possible(&self) -> bool {
        self.offset.checked_add(self.len as u64).is_some_and(|end| end <= i64::MAX as u64)
    }

    /// Whether it is such as the system may take.
    pub(super) fn may_begin(&self, direct: bool) -> bool {
        self.is_possible() && (self.is_aligned() || !direct)
    }
}

impl RealFile {
    pub(super) fn new(descriptor: Descriptor, wanted: DirectIo, active: bool, batches: Batches) -> Self {
        Self {
            descriptor: Arc::new(descriptor),
            fallback: wanted == DirectIo::Prefer,
            direct: AtomicBool::new(active),
            batches,
            ranges: (wanted == DirectIo::Off).then(Ranges::new),
        }
    }

    /// Whether a batch of these ranges is done as a batch: it is more than one, and each is such as the system may take. What it
    /// refuses, it refuses alike however it is done.
    fn is_batch(&self, mut ranges: impl ExactSizeIterator<Item = Transfer>) -> bool {
        let direct = self.is_direct();
        ranges.len() > 1 && ranges.all(|range| range.may_begin(direct))
    }

    /// Runs a transfer; where direct I/O is preferred and the system refuses what is aligned, gives direct I/O up for
    /// good and runs it once more (I15). Some file systems accept the flag and refuse the transfer.
    fn transfer(
        &self,
        range: Transfer,
        mut attempt: impl FnMut(&Descriptor) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if !range.is_possible() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the range leads past the largest offset"));
        }
        let was_direct = self.is_direct(); // before the attempt: another thread may give it up meanwhile
        let result = attempt(&self.descriptor);
        let refused = is_refused(&result);
        if !(refused && range.is_aligned() && self.fallback && was_direct) {
            return result;
        }
        platform::disable_direct(&self.descriptor)?;
        self.direct.store(false, Ordering::Relaxed);
        attempt(&self.descriptor)
    }

    /// Keeps maps off what will be written while it is. Refused where they are there.
    fn writing(&self, ranges: impl IntoIterator<Item = (u64, usize)>) -> io::Result<Option<InUse>> {
        self.ranges.as_ref().map(|known| known.write(ranges)).transpose()
    }

    /// Locks the file, and lets who maps it know.
    fn lock(&self, wanted: Held, take: impl Fn(&Descriptor) -> io::Result<bool>) -> io::Result<bool> {
        match &self.ranges {
            Some(ranges) => ranges.lock(wanted, || take(&self.descriptor)),
            None => take(&self.descriptor),
        }
    }

    /// Writes zeros from the end of the file to `end`: blocks are had by using them.
    fn extend_with_zeros(&self, from: u64, end: u64) -> io::Result<()> {
        if end <= from {
            return Ok(());
        }
        // A length that no file can have is refused here, before zeros have filled the disk.
        self.set_len(end)?;
        let block = IO_ALIGNMENT as u64;
        let zeros = AlignedBuf::zeroed(ZEROS);
        // The last block of a file of uneven length exists already; direct writes begin behind it.
        let mut at = from.next_multiple_of(block);
        while at < end {
            let len = (end - at).min(ZEROS as u64);
            let len = if self.is_direct() { len.next_multiple_of(block) } else { len };
            write_all_at(self, &zeros[..len as usize], at)?;
            at += len;
        }
        // Only a direct write reaches past the end; a mapped file, which may not be cut everywhere, has none.
        if self.len()? > end { self.set_len(end) } else { Ok(()) }
    }

    /// Undoes what a failed growth changed of the length: a system may allocate a part before it finds the disk full.
    fn or_restore(&self, before: u64, result: io::Result<()>) -> io::Result<()> {
        if result.is_err() && self.len()? > before {
            self.set_len(before)?;
        }
        result
    }
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.transfer(Transfer::of(buf, offset), |file| platform::read_at(file, buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let _writing = self.writing([(offset, buf.len())])?;
        self.transfer(Transfer::of(buf, offset), |file| platform::write_at(file, buf, offset))
    }

    fn read_batch(&self, batch: &mut [ReadAt<'_>]) {
        let ranges = batch.iter().map(|read| Transfer::of(read.buf, read.offset));
        let done = self.is_batch(ranges) && self.batches.read(&self.descriptor, batch);
        for read in batch {
            // What direct I/O is refused goes the way that may give it up.
            if !done || is_refused(&read.result) {
                read.result = self.read_at(read.buf, read.offset);
            }
        }
    }

    fn reads(&self) -> Box<dyn Reads + '_> {
        match self.batches.reads(&self.descriptor) {
            Some(ring) => Box::new(RealOwned::reads(self, ring)),
            None => Box::new(BatchedReads::new(self)),
        }
    }

    fn writes(&self) -> Box<dyn Writes + '_> {
        // What may be mapped is known for all of a batch at once.
        let ring = if self.ranges.is_none() { self.batches.writes(&self.descriptor) } else { None };
        match ring {
            Some(ring) => Box::new(RealOwned::writes(self, ring)),
            None => Box::new(BatchedWrites::new(self)),
        }
    }

    fn write_batch(&self, batch: &mut [WriteAt<'_>]) {
        let ranges = batch.iter().map(|write| Transfer::of(write.buf, write.offset));
        let is_batch = self.is_batch(ranges);
        // A batch that meets a map goes one by one, and each of its writes is told for itself.
        let writing = self.writing(batch.iter().map(|write| (write.offset, write.buf.len())));
        let done = is_batch && writing.is_ok() && self.batches.write(&self.descriptor, batch);
        drop(writing);
        for write in batch {
            if !done || is_refused(&write.result) {
                write.result = self.write_at(write.buf, write.offset);
            }
        }
    }

    fn write_stream<'b>(&self, writes: &mut dyn Iterator<Item = WriteAt<'b>>) -> Vec<WriteAt<'b>> {
        let direct = self.is_direct();
        let may_begin = |write: &WriteAt<'_>| Transfer::of(write.buf, write.offset).may_begin(direct);
        // What may be mapped is known for all of a batch at once.
        let streamed = match self.ranges {
            None => self.batches.write_stream(&self.descriptor, writes, &may_begin),
            Some(_) => None,
        };
        let Some(mut batch) = streamed else {
            let mut batch: Vec<WriteAt<'b>> = writes.collect();
            self.write_batch(&mut batch);
            return batch;
        };
        for write in &mut batch {
            if is_refused(&write.result) {
                write.result = self.write_at(write.buf, write.offset);
            }
        }
        batch
    }

    fn atomic_write_units(&self) -> Option<RangeInclusive<usize>> {
        // The promise is one of direct writes alone.
        let (least, most) = dsync::atomic_units(&self.descriptor).filter(|_| self.is_direct())?;
        Some(least as usize..=most as usize)
    }

    /// Without a way back to the system's cache: what goes through it is not whole.
    fn write_batch_atomic(&self, batch: &mut [WriteAt<'_>]) {
        let ranges = batch.iter().map(|write| Transfer::of(write.buf, write.offset));
        if self.is_batch(ranges) && self.batches.write_atomic(&self.descriptor, batch) {
            return;
        }
        for write in batch {
            write.result = dsync::write_atomic(&self.descriptor, write.buf, write.offset);
        }
    }

    fn read_vectored_at(&self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        let range = Transfer::of_all(bufs.iter().map(|buf| &**buf), offset);
        self.transfer(range, |file| platform::read_vectored_at(file, bufs, offset))
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let range = Transfer::of_all(bufs.iter().map(|buf| &**buf), offset);
        let _writing = self.writing([(offset, range.len)])?;
        self.transfer(range, |file| platform::write_vectored_at(file, bufs, offset))
    }

    fn sync(&self) -> io::Result<()> {
        platform::sync_data(&self.descriptor)
    }

    fn write_dsync(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let _writing = self.writing([(offset, buf.len())])?;
        self.transfer(Transfer::of(buf, offset), |file| dsync::write_dsync(file, buf, offset))
    }

    fn write_batch_and_sync(&self, batch: &mut [WriteAt<'_>]) -> io::Result<bool> {
        let _writing = self.writing(batch.iter().map(|write| (write.offset, write.buf.len())))?;
        let done = self.batches.write_and_sync(&self.descriptor, batch);
        done.unwrap_or_else(|| Err(ErrorKind::Unsupported.into()))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.descriptor.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match &self.ranges {
            Some(ranges) => ranges.cut(len, || self.descriptor.set_len(len)),
            None => self.descriptor.set_len(len),
        }
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = match offset.checked_add(len) {
            Some(end) if end <= i64::MAX as u64 - ZEROS as u64 => end,
            _ => return Err(ErrorKind::FileTooLarge.into()),
        };
        let before = self.len()?;
        if len == 0 {
            return if before < end { self.set_len(end) } else { Ok(()) };
        }
        let result = match platform::allocate(&self.descriptor, offset, len) {
            Err(error) if error.kind() == ErrorKind::Unsupported => self.extend_with_zeros(before, end),
            other => other,
        };
        self.or_restore(before, result)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        let past_the_end =
            |_| io::Error::new(ErrorKind::InvalidInput, "the hole leads past the largest offset");
        let bytes = usize::try_from(len).map_err(past_the_end)?;
        i64::try_from(offset.saturating_add(len)).map_err(past_the_end)?;
        if len == 0 {
            return Ok(());
        }
        let _writing = self.writing([(offset, bytes)])?;
        platform::punch_hole(&self.descriptor, offset, len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        platform::drop_cache(&self.descriptor)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.lock(Held::Alone, platform::try_lock)
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        self.lock(Held::Shared, platform::try_lock_shared)
    }

    fn backend(&self) -> Backend {
        self.batches.backend(&self.descriptor)
    }

    fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    fn map(&self, range: Range<u64>, access: MapAccess) -> io::Result<FileMap> {
        let refused = |why| io::Error::new(ErrorKind::InvalidInput, why);
        let ranges =
            self.ranges.as_ref().ok_or_else(|| refused("a map and direct I/O do not see each other"))?;
        if range.is_empty() {
            return Err(refused("an empty range has no map"));
        }
        let in_use = ranges.map(range.clone(), access)?;
        let len = self.len()?;
        if len < range.end {
            let message = format!("a map up to byte {} of a file of {len}", range.end);
            return Err(io::Error::new(ErrorKind::UnexpectedEof, message));
        }
        RealMap::new(Arc::clone(&self.descriptor), in_use, range, access).map(FileMap::of_the_system)
    }
}

pub(super) fn is_refused(result: &io::Result<usize>) -> bool {
    matches!(result, Err(error) if error.raw_os_error() == Some(platform::REFUSED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    use tempfile::{TempDir, tempdir};

    /// An empty file and the directory that keeps it.
    fn scratch(wanted: DirectIo, active: bool) -> (RealFile, TempDir) {
        let dir = tempdir().expect("a directory");
        let file = platform::create_new(&dir.path().join("scratch")).expect("a scratch file");
        let batches = Batches::new(Backend::Best).expect("nothing is required");
        (RealFile::new(file, wanted, active, batches), dir)
    }

    fn refused_while_direct(file: &RealFile, buf: &[u8]) -> (io::Result<usize>, u32) {
        let tries = Cell::new(0);
        let result = file.transfer(Transfer::of(buf, 0), |_| {
            tries.set(tries.get() + 1);
            if file.is_direct() {
                Err(io::Error::from_raw_os_error(platform::REFUSED))
            } else {
                Ok(buf.len())
            }
        });
        (result, tries.get())
    }

    #[test]
    fn a_refused_aligned_transfer_gives_direct_io_up_and_reports_it() {
        let (file, _dir) = scratch(DirectIo::Prefer, true);
        let (result, tries) = refused_while_direct(&file, &AlignedBuf::zeroed(4096));
        assert_eq!((result.expect("the second try"), tries), (4096, 2));
        assert!(!file.is_direct());
    }

    #[test]
    fn an_unaligned_or_required_transfer_does_not_fall_back() {
        let (preferred, _dir) = scratch(DirectIo::Prefer, true);
        let (result, tries) = refused_while_direct(&preferred, &AlignedBuf::zeroed(4096)[..100]);
        assert_eq!((result.expect_err("no alignment").kind(), tries), (ErrorKind::InvalidInput, 1));
        assert!(preferred.is_direct());

        let (required, _dir) = scratch(DirectIo::Required, true);
        let (result, tries) = refused_while_direct(&required, &AlignedBuf::zeroed(4096));
        assert_eq!((result.expect_err("no fallback").kind(), tries), (ErrorKind::InvalidInput, 1));
        assert!(required.is_direct());
    }

    #[test]
    fn a_growth_that_failed_half_way_is_undone() {
        let (file, _dir) = scratch(DirectIo::Off, false);
        file.set_len(200).expect("half way");
        assert!(file.or_restore(100, Err(ErrorKind::StorageFull.into())).is_err());
        assert_eq!(file.len().expect("len"), 100);
        file.set_len(300).expect("all the way");
        file.or_restore(100, Ok(())).expect("nothing failed");
        assert_eq!(file.len().expect("len"), 300);
    }

    #[test]
    fn zeros_stand_in_for_allocation_at_every_uneven_length() {
        for (before, end) in
            [(0, 1), (0, 4096), (1, 2), (1, 4096), (4095, 9000), (4096, 3 << 20), (5000, 5000)]
        {
            let (file, _dir) = scratch(DirectIo::Off, false);
            if before > 0 {
                file.write_at(&vec![7; before as usize], 0).expect("write");
            }
            file.extend_with_zeros(before, end).expect("extend");
            assert_eq!(file.len().expect("len"), end, "{before}..{end}");
            let mut bytes = vec![1; end as usize];
            assert_eq!(crate::read_exact_at(&file, &mut bytes, 0).expect("read"), end as usize);
            assert!(bytes[..before as usize].iter().all(|byte| *byte == 7));
            assert!(bytes[before as usize..].iter().all(|byte| *byte == 0));
        }
    }
}
