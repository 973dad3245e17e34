//! `pread` and `pwrite` with `O_DIRECT`, and a ring that is fed by hand.
//!
//! Invariant: no buffer that an entry names can go, or be looked at, before that entry's completion was seen.
//!
//! # Safety
//!
//! The kernel writes into the buffer of an entry from its submission to its completion. [`Flight`] borrows the buffers for as long as
//! it lives, gives one out only when its read has completed, and waits in its `drop` for those that have not, on every way out; where
//! it cannot wait it aborts the program.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use io_uring::{IoUring, opcode, types};
use pagestone_page_format::AlignedBuf;

use crate::BenchResult;

/// Entries of the ring.
const DEPTH: u32 = 32;

/// A file past the system's cache, and a ring.
pub(crate) struct RawFile {
    file: File,
    ring: IoUring,
}

impl RawFile {
    /// The file, to read and write. An error where there is no direct I/O or no ring: then there is nothing to compare with.
    pub(crate) fn open(path: &Path) -> BenchResult<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path)?;
        Ok(Some(Self { file, ring: IoUring::new(DEPTH)? }))
    }

    pub(crate) fn read(&self, buffer: &mut AlignedBuf, offset: u64) -> BenchResult<()> {
        whole(self.file.read_at(buffer, offset)?, buffer.len())
    }

    pub(crate) fn write(&self, buffer: &AlignedBuf, offset: u64) -> BenchResult<()> {
        whole(self.file.write_at(buffer, offset)?, buffer.len())
    }

    /// For threads that read one after another: the file without the ring.
    pub(crate) fn reader(&self) -> BenchResult<RawReader> {
        Ok(RawReader(self.file.try_clone()?))
    }

    /// Reads `count` times, as many at once as there are buffers; goes on when `wait` of them have completed. `each` looks at what
    /// came from where.
    pub(crate) fn reads(
        &mut self,
        buffers: &mut [AlignedBuf],
        count: usize,
        wait: usize,
        mut next: impl FnMut() -> u64,
        mut each: impl FnMut(u64, &AlignedBuf) -> BenchResult<()>,
    ) -> BenchResult<()> {
        let mut offsets = [0; DEPTH as usize];
        let mut flight = Flight { raw: self, buffers, under_way: 0 };
        let (mut begun, mut seen) = (0, 0);
        while begun < count.min(flight.buffers.len()) {
            offsets[begun] = next();
            flight.push(begun, offsets[begun])?;
            begun += 1;
        }
        let mut completed = Vec::with_capacity(DEPTH as usize);
        while seen < count {
            flight.wait(wait, &mut completed)?;
            for place in completed.drain(..) {
                each(offsets[place], &flight.buffers[place])?;
                seen += 1;
                if begun < count {
                    offsets[place] = next();
                    flight.push(place, offsets[place])?;
                    begun += 1;
                }
            }
        }
        Ok(())
    }
}

/// What threads read by.
pub(crate) struct RawReader(File);

impl RawReader {
    pub(crate) fn read(&self, buffer: &mut AlignedBuf, offset: u64) -> BenchResult<()> {
        whole(self.0.read_at(buffer, offset)?, buffer.len())
    }
}

/// Reads that are under way.
struct Flight<'r> {
    raw: &'r mut RawFile,
    buffers: &'r mut [AlignedBuf],
    under_way: usize,
}

impl Flight<'_> {
    fn push(&mut self, place: usize, offset: u64) -> BenchResult<()> {
        let buffer = &mut self.buffers[place];
        let fd = types::Fd(self.raw.file.as_raw_fd());
        let read = opcode::Read::new(fd, buffer.as_mut_ptr(), buffer.len() as u32).offset(offset);
        // SAFETY: the file and the buffer are borrowed until this flight is dropped, and the drop waits for the completion.
        unsafe { self.raw.ring.submission().push(&read.build().user_data(place as u64)) }?;
        self.under_way += 1;
        Ok(())
    }

    /// Waits for so many, and gives the places of all that have completed.
    fn wait(&mut self, count: usize, completed: &mut Vec<usize>) -> BenchResult<()> {
        self.raw.ring.submit_and_wait(count.min(self.under_way))?;
        for entry in self.raw.ring.completion() {
            self.under_way -= 1;
            let place = entry.user_data() as usize;
            whole(usize::try_from(entry.result())?, self.buffers[place].len())?;
            completed.push(place);
        }
        Ok(())
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        while self.under_way > 0 {
            if let Err(error) = self.raw.ring.submit_and_wait(1) {
                eprintln!("micro: the ring cannot be waited for: {error}");
                std::process::abort();
            }
            self.under_way -= self.raw.ring.completion().count();
        }
    }
}

fn whole(got: usize, wanted: usize) -> BenchResult<()> {
    if got == wanted { Ok(()) } else { Err(format!("{got} of {wanted} bytes were transferred").into()) }
}
