//! An open file of a simulated disk.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;

use pagestone_direct_io::{File, FileMap, MapAccess, ReadAt, WriteAt};
use pagestone_page_format::IO_ALIGNMENT;

use super::content::{CHUNK, SECTOR};
use super::disk::{AtomicWrites, SimDisk};
use super::errno::errno;
use super::fault::{DiskOp, Fault};
use super::journal::{LengthChange, Operation};
use super::map::SimMap;
use super::names::FileId;
use super::state::reported;

/// The largest file: what is behind it is a bug of the caller's sooner than a test.
pub(super) const LARGEST: u64 = 16 << 30;

/// One handle.
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) file: FileId,
    pub(super) path: PathBuf,
    /// Handles are numbered in the order in which they were opened.
    pub(super) id: u64,
    pub(super) write: bool,
    pub(super) direct: bool,
    /// Whether every write is durable when it returns.
    pub(super) dsync: bool,
    /// Whether it was opened without direct I/O.
    pub(super) mappable: bool,
    pub(super) hold: Arc<Hold>,
}

impl SimFile {
    /// Refuses what direct I/O cannot do: one of these buffers at this offset.
    fn check_alignment<'b>(&self, bufs: impl IntoIterator<Item = &'b [u8]>, offset: u64) -> io::Result<()> {
        let bits =
            bufs.into_iter().fold(offset as usize, |bits, buf| bits | buf.as_ptr() as usize | buf.len());
        if self.direct && !bits.is_multiple_of(IO_ALIGNMENT) {
            return Err(errno(libc::EINVAL));
        }
        Ok(())
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.write { Ok(()) } else { Err(errno(libc::EBADF)) }
    }

    fn check_range(offset: u64, len: u64) -> io::Result<u64> {
        match offset.checked_add(len) {
            Some(end) if end <= LARGEST => Ok(end),
            Some(end) if end <= i64::MAX as u64 => Err(errno(libc::EFBIG)),
            _ => Err(errno(libc::EINVAL)),
        }
    }

    /// The bytes that a write has under way; none if it is empty or will be refused.
    fn flight(&self, len: usize, offset: u64) -> Option<Range<u64>> {
        let end = Self::check_range(offset, len as u64).ok()?;
        (self.write && offset < end).then_some(offset..end)
    }

    /// Fills the buffers in order.
    fn read_into(&self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let there = state.live.files[&self.file].bytes.len.saturating_sub(offset);
        let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut len = (wanted as u64).min(there) as usize;
        let fault = state.gate_transfer(DiskOp::Read, &self.path, len)?;
        self.check_alignment(bufs.iter().map(|buf| &**buf), offset)?;
        let bytes = &state.live.files[&self.file].bytes;
        if let Some(Fault::Short(most)) = fault {
            len = len.min(most);
        }
        let mut done = 0;
        for buf in bufs {
            let of_buf = buf.len().min(len - done);
            if of_buf > 0 {
                bytes.content.read(offset as usize + done, &mut buf[..of_buf]);
            }
            done += of_buf;
        }
        Ok(done)
    }

    /// A write that the audit knows of while it lasts.
    fn write_from(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let Some(range) = self.flight(bufs.iter().map(|buf| buf.len()).sum(), offset) else {
            return self.write_audited(bufs, offset, false);
        };
        self.disk.state().begin_write(self.id, self.file, &self.path, range.clone());
        let result = self.write_audited(bufs, offset, false);
        self.disk.state().end_write(self.id, self.file, &range);
        result
    }

    /// A write, of which the audit knows already; one that is `whole` is neither short nor torn.
    fn write_audited(&self, bufs: &[IoSlice<'_>], offset: u64, whole: bool) -> io::Result<usize> {
        let buf: Cow<'_, [u8]> = match bufs {
            [one] => Cow::Borrowed(one),
            _ => Cow::Owned(bufs.iter().flat_map(|buf| buf.iter().copied()).collect()),
        };
        let mut state = self.disk.state();
        let fault = state.gate_transfer(DiskOp::Write, &self.path, buf.len())?;
        self.check_writable()?;
        self.check_alignment(bufs.iter().map(|buf| &**buf), offset)?;
        let len = match fault {
            Some(Fault::Torn { .. }) if whole => 0,
            Some(Fault::Short(_)) if whole => buf.len(),
            Some(Fault::Short(most) | Fault::Torn { bytes: most, .. }) => buf.len().min(most),
            _ => buf.len(),
        };
        let end = Self::check_range(offset, len as u64)?;
        if len > 0 {
            state.check_unmapped(self.id, self.file, &self.path, offset..end)?;
            if state.options.yield_in_writes {
                drop(state);
                std::thread::yield_now();
                state = self.disk.state();
            }
            let write = state.write_live(self.file, offset, &buf[..len], whole);
            state.record(Operation::Write(write));
        }
        match fault {
            Some(Fault::Torn { errno: number, .. } | Fault::DoneButReported(number)) => Err(errno(number)),
            _ => Ok(len),
        }
    }

    /// A batch, of which all are under way from the first to the last of them, in whichever order they are done here.
    fn write_all(&self, batch: &mut [WriteAt<'_>], write_one: impl Fn(&WriteAt<'_>) -> io::Result<usize>) {
        let mut state = self.disk.state();
        let order = state.batch_order(DiskOp::Write, &self.path, batch.len());
        let ranges =
            batch.iter().filter_map(|write| self.flight(write.buf.len(), write.offset)).collect::<Vec<_>>();
        for range in &ranges {
            state.begin_write(self.id, self.file, &self.path, range.clone());
        }
        drop(state);
        for at in order {
            let write = &mut batch[at];
            write.result = write_one(write);
        }
        let mut state = self.disk.state();
        for range in &ranges {
            state.end_write(self.id, self.file, range);
        }
    }

    fn lock(&self, alone: bool) -> io::Result<bool> {
        let mut state = self.disk.state();
        state.gate(DiskOp::Lock, &self.path)?;
        let mapped = state.maps.any_of(self.id);
        let lock = state.locks.entry(self.file).or_default();
        if mapped && lock.is_alone() != alone {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "the file is mapped, and its lock stays as it is",
            ));
        }
        Ok(lock.take(self.id, alone))
    }

    fn change_length(&self, op: DiskOp, change: LengthChange) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.gate(op, &self.path)?;
        self.check_writable()?;
        let len = state.live.files[&self.file].bytes.len;
        let change = match change {
            LengthChange::Truncate(to) if to > len => LengthChange::Extend(to),
            change => change,
        };
        if let LengthChange::Truncate(to) = change {
            state.check_unmapped(self.id, self.file, &self.path, to..u64::MAX)?;
        }
        if change != LengthChange::Truncate(len) && !matches!(change, LengthChange::Extend(to) if to <= len) {
            state.live.change_length(self.file, change);
            state.record(Operation::Length { file: self.file, change });
        }
        reported(fault)
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_into(&mut [IoSliceMut::new(buf)], offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        if self.dsync {
            return self.write_dsync(buf, offset);
        }
        self.write_from(&[IoSlice::new(buf)], offset)
    }

    fn read_vectored_at(&self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        self.read_into(bufs, offset)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        if self.dsync {
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return first.map_or(Ok(0), |buf| self.write_dsync(buf, offset));
        }
        self.write_from(bufs, offset)
    }

    fn read_batch(&self, batch: &mut [ReadAt<'_>]) {
        let order = self.disk.state().batch_order(DiskOp::Read, &self.path, batch.len());
        for at in order {
            let read = &mut batch[at];
            read.result = self.read_at(read.buf, read.offset);
        }
    }

    fn write_batch(&self, batch: &mut [WriteAt<'_>]) {
        self.write_all(batch, |write| self.write_audited(&[IoSlice::new(write.buf)], write.offset, false));
    }

    fn atomic_write_units(&self) -> Option<RangeInclusive<usize>> {
        let atomic = self.disk.state().options.atomic_writes;
        (self.direct && atomic != AtomicWrites::None).then_some(SECTOR..=CHUNK)
    }

    fn write_batch_atomic(&self, batch: &mut [WriteAt<'_>]) {
        let units = self.atomic_write_units();
        let whole = self.disk.state().options.atomic_writes == AtomicWrites::Kept;
        self.write_all(batch, |write| {
            let units = units.as_ref().ok_or_else(|| errno(libc::EOPNOTSUPP))?;
            let len = write.buf.len();
            if !(units.contains(&len) && len.is_power_of_two() && write.offset.is_multiple_of(len as u64)) {
                return Err(errno(libc::EINVAL));
            }
            self.write_audited(&[IoSlice::new(write.buf)], write.offset, whole)
        });
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state().sync_file(DiskOp::Sync, self.id, self.file, &self.path, None)
    }

    fn write_dsync(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let Some(range) = self.flight(buf.len(), offset) else {
            return self.write_audited(&[IoSlice::new(buf)], offset, false);
        };
        self.disk.state().begin_write(self.id, self.file, &self.path, range.clone());
        let result = self.write_audited(&[IoSlice::new(buf)], offset, false).and_then(|took| {
            let end = offset as usize + took;
            let chunks = offset as usize / CHUNK..end.div_ceil(CHUNK);
            if took > 0 {
                self.disk.state().sync_file(DiskOp::Sync, self.id, self.file, &self.path, Some(chunks))?;
            }
            Ok(took)
        });
        self.disk.state().end_write(self.id, self.file, &range);
        result
    }

    fn write_batch_and_sync(&self, batch: &mut [WriteAt<'_>]) -> io::Result<bool> {
        self.write_batch(batch);
        let whole = |write: &WriteAt<'_>| matches!(write.result, Ok(took) if took == write.buf.len());
        if !batch.iter().all(whole) {
            return Ok(false);
        }
        self.sync().map(|()| true)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.gate(DiskOp::Len, &self.path)?;
        Ok(state.live.files[&self.file].bytes.len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::check_range(len, 0)?;
        self.change_length(DiskOp::SetLen, LengthChange::Truncate(len))
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = Self::check_range(offset, len)?;
        self.change_length(DiskOp::Reserve, LengthChange::Extend(end))
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        let range = offset..Self::check_range(offset, len)?;
        if range.is_empty() {
            return Ok(());
        }
        let mut state = self.disk.state();
        let fault = state.gate(DiskOp::PunchHole, &self.path)?;
        self.check_writable()?;
        state.check_unmapped(self.id, self.file, &self.path, range.clone())?;
        state.begin_write(self.id, self.file, &self.path, range.clone());
        if let Some(write) = state.punch_live(self.file, range.clone()) {
            state.record(Operation::Write(write));
        }
        state.end_write(self.id, self.file, &range);
        reported(fault)
    }

    fn drop_cache(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.gate(DiskOp::DropCache, &self.path)?;
        state.drop_cache(self.file);
        reported(fault)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.lock(true)
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        self.lock(false)
    }

    fn is_direct(&self) -> bool {
        self.direct
    }

    fn map(&self, range: Range<u64>, access: MapAccess) -> io::Result<FileMap> {
        let mut state = self.disk.state();
        state.gate(DiskOp::Map, &self.path)?;
        let refused = |why| Err(io::Error::new(ErrorKind::InvalidInput, why));
        if !self.mappable {
            return refused("a map and direct I/O do not see each other");
        }
        if !state.locks.entry(self.file).or_default().allows(self.id, access) {
            return refused("a file is mapped by who holds its lock");
        }
        if range.is_empty() {
            return refused("an empty range has no map");
        }
        if state.maps.excludes(self.file, &range, access) || state.is_being_written(self.file, &range) {
            return refused("the bytes are in use by a map or a write");
        }
        if state.live.files[&self.file].bytes.len < range.end {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the file ends before the range"));
        }
        if access == MapAccess::Write && !self.write {
            return Err(errno(libc::EACCES));
        }
        let state = &mut *state;
        let made = state.maps.make(self.id, self.file, range, access, &state.live)?;
        let (disk, hold) = (self.disk.clone(), Arc::clone(&self.hold));
        Ok(FileMap::new(SimMap::new(made, disk, hold, self.path.clone())))
    }
}

/// What a handle and its maps share: when the last of them goes, so does the lock.
pub(super) struct Hold {
    pub(super) disk: SimDisk,
    pub(super) file: FileId,
    pub(super) id: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        state.locks.entry(self.file).or_default().release(self.id);
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.path.display())
    }
}
