//! The loops that finish a transfer.
//!
//! Invariant: no other code in pagestone loops over [`File::read_at`] or [`File::write_at`]. Here, and only here, a short
//! transfer goes on where it stopped (I1, I3), an interrupted one is tried again (I4), a busy one is tried again a bounded
//! number of times (I5), and a transfer that makes no progress ends as an error and not as an endless loop (R4). A read that gives
//! nothing is the end of the file only if the file ends there by its length: who reads a log must not take a failure for its end.
//!
//! On a file with direct I/O active a transfer can only go on at a whole block. One that stopped inside a block is done
//! again from that block's start: the same bytes to the same place.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::time::Duration;

use pagestone_page_format::IO_ALIGNMENT;

use crate::{DurableBy, File, OwnedRead, OwnedWrite, ReadAt, Reads, WriteAt, Writes};

/// How often in a row `EAGAIN`, `EBUSY` or no progress is taken before it becomes the caller's error: some 50 ms in all.
const BUSY_LIMIT: u32 = 10;
/// How often in a row an interruption is taken. Signals come one by one; an endless row of them is a broken system.
const INTERRUPTED_LIMIT: u32 = 10_000;

/// Fills `buf` from `offset`. Gives the bytes got, which are fewer than `buf.len()` only at the end of the file.
///
/// Errors: what the file gives, except interruptions and short-lived busyness; `InvalidInput` if the range leads past
/// the largest offset.
pub fn read_exact_at(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    check_range(offset, buf.len())?;
    let mut done = 0;
    let mut patience = Patience::new();
    while done < buf.len() {
        let from = resume_at(file, done);
        match file.read_at(&mut buf[from..], offset + from as u64) {
            // The end, unless the file says that it is longer (I2).
            Ok(0) if offset + from as u64 >= file.len()? => break,
            Ok(got) => {
                let end = from + within(got, buf.len() - from)?;
                if end > done {
                    done = end;
                    patience = Patience::new();
                } else if offset + done as u64 >= file.len()? {
                    break; // the end of the file lies inside a block
                } else {
                    patience.after(io::Error::new(ErrorKind::WouldBlock, "a read makes no progress"))?;
                }
            }
            Err(error) => patience.after(error)?,
        }
    }
    Ok(done)
}

/// Writes all of `buf` at `offset`.
///
/// Errors: what the file gives, except interruptions and short-lived busyness; `WriteZero` if it takes nothing;
/// `InvalidInput` if the range leads past the largest offset. After an error any part of the range may have been written.
pub fn write_all_at(file: &dyn File, buf: &[u8], offset: u64) -> io::Result<()> {
    check_range(offset, buf.len())?;
    let mut done = 0;
    let mut patience = Patience::new();
    while done < buf.len() {
        let from = resume_at(file, done);
        match file.write_at(&buf[from..], offset + from as u64) {
            Ok(0) => return Err(write_zero()),
            Ok(took) => {
                let end = from + within(took, buf.len() - from)?;
                if end > done {
                    done = end;
                    patience = Patience::new();
                } else {
                    patience.after(io::Error::from(ErrorKind::WouldBlock)).map_err(|_| write_zero())?;
                }
            }
            Err(error) => patience.after(error)?,
        }
    }
    Ok(())
}

/// Fills every buffer of the batch, as [`read_exact_at`] would one by one: each `result` is the bytes got, fewer than asked for only at
/// the end of the file, or that read's own error.
pub fn read_exact_batch(file: &dyn File, batch: &mut [ReadAt<'_>]) {
    file.read_batch(batch);
    for read in batch {
        if needs_finishing(&read.result, read.buf.len()) {
            read.result = read_exact_at(file, read.buf, read.offset);
        }
    }
}

/// Waits as [`Reads::wait`] does, and fills the buffers of those that have ended as [`read_exact_at`] would: each `result` is the bytes got, fewer
/// than asked for only at the end of the file, or that read's own error.
pub fn wait_exact(file: &dyn File, reads: &mut dyn Reads, least: usize, ended: &mut Vec<OwnedRead>) {
    let before = ended.len();
    reads.wait(least, ended);
    for read in &mut ended[before..] {
        if needs_finishing(&read.result, read.buf.len()) {
            read.result = read_exact_at(file, &mut read.buf, read.offset);
        }
    }
}

/// Waits as [`Writes::wait`] does, and writes what is left of those that have ended as [`write_all_at`] would: each `result` is the length or that
/// write's own error, after which any part of the range may have been written.
pub fn wait_all(file: &dyn File, writes: &mut dyn Writes, least: usize, ended: &mut Vec<OwnedWrite>) {
    let before = ended.len();
    writes.wait(least, ended);
    for write in &mut ended[before..] {
        if needs_finishing(&write.result, write.len) {
            write.result = write_all_at(file, write.bytes(), write.offset).map(|()| write.len);
        }
    }
}

/// Writes every buffer of the batch, as [`write_all_at`] would one by one: each `result` is its length or that write's own error.
/// After an error any part of that range may have been written.
pub fn write_all_batch(file: &dyn File, batch: &mut [WriteAt<'_>]) {
    file.write_batch(batch);
    finish_writes(file, batch);
}

/// Writes every buffer of the batch, each whole or not at all whatever cuts the power, as [`File::write_batch_atomic`] has it: each `result` is its
/// length or that write's own error. One that was interrupted, or found the device busy, is made again as a whole.
///
/// Errors: `Unsupported` where the system cannot; `InvalidData` for a write that came short all the same: it may be torn.
pub fn write_all_batch_atomic(file: &dyn File, batch: &mut [WriteAt<'_>]) {
    file.write_batch_atomic(batch);
    for write in batch {
        write.result = finish_atomic(file, write);
    }
}

fn finish_atomic(file: &dyn File, write: &mut WriteAt<'_>) -> io::Result<usize> {
    let mut patience = Patience::new();
    loop {
        match std::mem::replace(&mut write.result, Ok(0)) {
            Ok(took) if took == write.buf.len() => return Ok(took),
            Ok(_) => {
                let message = "a write that was to be whole came short";
                return Err(io::Error::new(ErrorKind::InvalidData, message));
            }
            Err(error) => patience.after(error)?,
        }
        file.write_batch_atomic(std::slice::from_mut(write));
    }
}

/// Writes every buffer that the iterator gives, while it makes the next; otherwise as [`write_all_batch`]. Gives them back in their order,
/// each with its `result`.
pub fn write_all_stream<'b>(
    file: &dyn File,
    writes: &mut dyn Iterator<Item = WriteAt<'b>>,
) -> Vec<WriteAt<'b>> {
    let mut batch = file.write_stream(writes);
    finish_writes(file, &mut batch);
    batch
}

fn finish_writes(file: &dyn File, batch: &mut [WriteAt<'_>]) {
    for write in batch {
        if needs_finishing(&write.result, write.buf.len()) {
            write.result = write_all_at(file, write.buf, write.offset).map(|()| write.buf.len());
        }
    }
}

/// Fills several buffers, one behind the other, from `offset`. Gives the bytes got in all, which are fewer than the buffers hold only
/// at the end of the file. Errors as [`read_exact_at`] has them.
pub fn read_exact_vectored_at(
    file: &dyn File,
    bufs: &mut [IoSliceMut<'_>],
    offset: u64,
) -> io::Result<usize> {
    let len = total(bufs.iter().map(|buf| buf.len()))?;
    check_range(offset, len)?;
    let done = at_once(file.read_vectored_at(bufs, offset), len)?;
    let mut start = 0;
    for buf in bufs {
        if done < start + buf.len() {
            let got = read_exact_at(file, buf, offset + start as u64)?;
            if got < buf.len() {
                return Ok(start + got);
            }
        }
        start += buf.len();
    }
    Ok(start)
}

/// Writes several buffers, one behind the other, at `offset`. Errors as [`write_all_at`] has them; after one any part of the range may
/// have been written.
pub fn write_all_vectored_at(file: &dyn File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
    let len = total(bufs.iter().map(|buf| buf.len()))?;
    check_range(offset, len)?;
    let done = at_once(file.write_vectored_at(bufs, offset), len)?;
    let mut start = 0;
    for buf in bufs {
        if done < start + buf.len() {
            write_all_at(file, buf, offset + start as u64)?;
        }
        start += buf.len();
    }
    Ok(())
}

/// Writes every buffer of the batch, no two of which overlap, and returns when all of them are durable. Nothing is said of what was
/// written otherwise.
///
/// With [`DurableBy::ODsync`] the file must be one of [`crate::Disk::open_dsync`].
///
/// Errors: `Unsupported`, with nothing written, where the system has no such call. Any other error is final, as that of a sync is (I9):
/// nobody knows what is on disk, and nothing may be tried again.
pub fn write_durable(file: &dyn File, batch: &mut [WriteAt<'_>], by: DurableBy) -> io::Result<()> {
    match by {
        DurableBy::Fdatasync => {
            batch.iter().try_for_each(|write| write_all_at(file, write.buf, write.offset))?;
            file.sync()
        }
        DurableBy::Pwritev2Dsync => {
            let each = |write: &WriteAt<'_>| write_through(file, write, |buf, at| file.write_dsync(buf, at));
            batch.iter().try_for_each(each)
        }
        DurableBy::ODsync => {
            let each = |write: &WriteAt<'_>| write_through(file, write, |buf, at| file.write_at(buf, at));
            batch.iter().try_for_each(each)
        }
        DurableBy::IoUring => {
            if file.write_batch_and_sync(batch)? {
                return Ok(());
            }
            for write in batch {
                if needs_finishing(&write.result, write.buf.len()) {
                    write.result = write_all_at(file, write.buf, write.offset).map(|()| write.buf.len());
                }
                std::mem::replace(&mut write.result, Ok(write.buf.len()))?;
            }
            file.sync()
        }
    }
}

/// Writes all of a buffer by a call that makes durable what it takes. Only a short count is gone on from: an error may be that of a sync.
fn write_through(
    file: &dyn File,
    write: &WriteAt<'_>,
    call: impl Fn(&[u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    check_range(write.offset, write.buf.len())?;
    let mut done = 0;
    while done < write.buf.len() {
        let from = resume_at(file, done);
        let took = call(&write.buf[from..], write.offset + from as u64)?;
        let end = from + within(took, write.buf.len() - from)?;
        if end <= done {
            return Err(write_zero());
        }
        done = end;
    }
    Ok(())
}

/// How much of all buffers one call has done; what it left is finished buffer by buffer, one that it left inside from its beginning.
fn at_once(result: io::Result<usize>, len: usize) -> io::Result<usize> {
    match result {
        Ok(count) => within(count, len),
        Err(error) if is_passing(&error) => Ok(0),
        Err(error) => Err(error),
    }
}

fn total(lens: impl Iterator<Item = usize>) -> io::Result<usize> {
    let too_much = || io::Error::new(ErrorKind::InvalidInput, "the buffers hold more than can be counted");
    lens.into_iter().try_fold(0, |sum: usize, len| sum.checked_add(len)).ok_or_else(too_much)
}

/// Whether a transfer of a batch has to be done again, alone and from its beginning: it was short, interrupted, or found the device
/// busy. Any other error is final.
fn needs_finishing(result: &io::Result<usize>, wanted: usize) -> bool {
    match result {
        Ok(done) => *done != wanted,
        Err(error) => is_passing(error),
    }
}

/// Whether the same call may succeed at once, or soon.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::ResourceBusy)
}

/// Where to go on after `done` bytes.
fn resume_at(file: &dyn File, done: usize) -> usize {
    if file.is_direct() { done - done % IO_ALIGNMENT } else { done }
}

fn check_range(offset: u64, len: usize) -> io::Result<()> {
    match offset.checked_add(len as u64) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        _ => Err(io::Error::new(ErrorKind::InvalidInput, "the range leads past the largest offset")),
    }
}

/// A count larger than what was asked for would move us past bytes that were never transferred.
fn within(count: usize, asked: usize) -> io::Result<usize> {
    if count <= asked {
        return Ok(count);
    }
    Err(io::Error::new(ErrorKind::InvalidData, "the file reports more bytes than were asked for"))
}

#[cold]
fn write_zero() -> io::Error {
    io::Error::new(ErrorKind::WriteZero, "the file takes no more bytes")
}

/// Counts what was taken in a row; progress starts it anew.
struct Patience {
    interrupted: u32,
    busy: u32,
}

impl Patience {
    fn new() -> Self {
        Self { interrupted: 0, busy: 0 }
    }

    /// Returns if the transfer is worth another try, else gives the error back.
    #[cold]
    fn after(&mut self, error: io::Error) -> io::Result<()> {
        match error.kind() {
            ErrorKind::Interrupted if self.interrupted < INTERRUPTED_LIMIT => {
                self.interrupted += 1;
                Ok(())
            }
            ErrorKind::WouldBlock | ErrorKind::ResourceBusy if self.busy < BUSY_LIMIT => {
                self.busy += 1;
                std::thread::sleep(Duration::from_millis(self.busy.into()));
                Ok(())
            }
            _ => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Script, ScriptedFile};

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn short_and_interrupted_transfers_are_finished() {
        for direct in [false, true] {
            let file = ScriptedFile::new(direct);
            let bytes = pattern(3 * 4096);
            file.script([
                Script::Short(1),
                Script::Fail(ErrorKind::Interrupted),
                Script::Short(5000),
                Script::Fail(ErrorKind::WouldBlock),
                Script::Fail(ErrorKind::ResourceBusy),
                Script::Short(4096),
            ]);
            write_all_at(&file, &bytes, 4096).expect("write");
            file.script([Script::Short(1), Script::Fail(ErrorKind::Interrupted), Script::Short(6000)]);
            let mut back = vec![0; bytes.len()];
            assert_eq!(read_exact_at(&file, &mut back, 4096).expect("read"), bytes.len());
            assert_eq!(back, bytes);
            assert!(file.every_transfer_was_aligned() || !direct, "direct transfers resume at a block");
        }
    }

    #[test]
    fn each_transfer_of_a_batch_is_finished_or_fails_by_itself() {
        for direct in [false, true] {
            let file = ScriptedFile::new(direct);
            let bytes = pattern(4 * 4096);
            file.script([
                Script::Short(4096),
                Script::Fail(ErrorKind::Interrupted),
                Script::Fail(ErrorKind::PermissionDenied),
                Script::Short(0),
            ]);
            let mut batch: Vec<WriteAt<'_>> =
                bytes.chunks(4096).zip(0..).map(|(part, at)| WriteAt::new(part, at * 4096)).collect();
            write_all_batch(&file, &mut batch);
            let ok: Vec<Option<usize>> = batch.into_iter().map(|write| write.result.ok()).collect();
            assert_eq!(ok, [Some(4096), Some(4096), None, Some(4096)]);
            write_all_at(&file, &bytes[8192..12_288], 8192).expect("the one that failed");
            file.script([
                Script::Short(100),
                Script::Fail(ErrorKind::Other),
                Script::Fail(ErrorKind::ResourceBusy),
            ]);
            let mut back = vec![0; 5 * 4096];
            let mut batch: Vec<ReadAt<'_>> =
                back.chunks_mut(4096).zip(0..).map(|(part, at)| ReadAt::new(part, at * 4096)).collect();
            read_exact_batch(&file, &mut batch);
            let ok: Vec<Option<usize>> = batch.into_iter().map(|read| read.result.ok()).collect();
            assert_eq!(ok, [Some(4096), None, Some(4096), Some(4096), Some(0)]);
            assert!(back[..4096] == bytes[..4096] && back[8192..16_384] == bytes[8192..]);
        }
    }

    #[test]
    fn buffers_are_filled_in_order_whatever_one_call_does() {
        for direct in [false, true] {
            let file = ScriptedFile::new(direct);
            let bytes = pattern(3 * 4096);
            let scripts = [
                vec![],
                vec![Script::Short(0), Script::Short(4096)],
                vec![Script::Short(100), Script::Short(4096)],
                vec![Script::Fail(ErrorKind::Interrupted), Script::Fail(ErrorKind::WouldBlock)],
            ];
            for (at, script) in scripts.into_iter().enumerate() {
                let offset = 4096 * at as u64;
                let parts: Vec<IoSlice<'_>> =
                    [&bytes[..4096], &[], &bytes[4096..]].into_iter().map(IoSlice::new).collect();
                // A write that takes nothing is an error at once.
                let ok_to_write = !matches!(script.first(), Some(Script::Short(0)));
                file.script(script.iter().copied().filter(|_| ok_to_write));
                write_all_vectored_at(&file, &parts, offset).expect("written");
                let mut back = vec![0; bytes.len()];
                let (one, other) = back.split_at_mut(8192);
                file.script(script);
                let mut parts = [IoSliceMut::new(one), IoSliceMut::new(&mut []), IoSliceMut::new(other)];
                let got = read_exact_vectored_at(&file, &mut parts, offset).expect("read");
                assert_eq!((got, back == bytes), (bytes.len(), true), "script {at}");
            }
            assert!(file.every_transfer_was_aligned() || !direct);
            file.script([Script::Fail(ErrorKind::Other)]);
            let error = write_all_vectored_at(&file, &[IoSlice::new(&bytes)], 0).expect_err("at once");
            assert_eq!(error.kind(), ErrorKind::Other);
            file.script([Script::Claim(5000)]);
            let lied = read_exact_vectored_at(&file, &mut [IoSliceMut::new(&mut [0; 4096])], 0);
            assert_eq!(lied.expect_err("more than asked for").kind(), ErrorKind::InvalidData);
        }
    }

    #[test]
    fn the_end_of_the_file_is_told_by_the_count() {
        for direct in [false, true] {
            let file = ScriptedFile::new(direct);
            write_all_at(&file, &pattern(8192), 0).expect("write");
            file.set_len(5000).expect("cut");
            let mut back = vec![0; 8192];
            assert_eq!(read_exact_at(&file, &mut back, 0).expect("read"), 5000);
            assert_eq!(read_exact_at(&file, &mut back, 8192).expect("read"), 0);
            assert_eq!(back[..5000], pattern(8192)[..5000]);
        }
    }

    #[test]
    fn patience_is_bounded() {
        let file = ScriptedFile::new(false);
        for kind in [ErrorKind::WouldBlock, ErrorKind::ResourceBusy, ErrorKind::Interrupted] {
            file.script_forever(Script::Fail(kind));
            assert_eq!(write_all_at(&file, &[1; 10], 0).expect_err("write").kind(), kind);
            assert_eq!(read_exact_at(&file, &mut [1; 10], 0).expect_err("read").kind(), kind);
        }
    }

    #[test]
    fn other_errors_come_through_at_once() {
        let file = ScriptedFile::new(false);
        for kind in [ErrorKind::StorageFull, ErrorKind::PermissionDenied, ErrorKind::Other] {
            file.script([Script::Fail(kind)]);
            assert_eq!(write_all_at(&file, &[1; 10], 0).expect_err("write").kind(), kind);
            file.script([Script::Fail(kind)]);
            assert_eq!(read_exact_at(&file, &mut [1; 10], 0).expect_err("read").kind(), kind);
        }
    }

    #[test]
    fn a_write_without_progress_is_write_zero() {
        let file = ScriptedFile::new(false);
        file.script([Script::Short(3), Script::Short(0)]);
        assert_eq!(write_all_at(&file, &[1; 10], 0).expect_err("write").kind(), ErrorKind::WriteZero);

        let direct = ScriptedFile::new(true);
        direct.script_forever(Script::Short(100));
        assert_eq!(write_all_at(&direct, &[1; 4096], 0).expect_err("write").kind(), ErrorKind::WriteZero);
    }

    #[test]
    fn a_lying_count_and_an_impossible_range_are_refused() {
        let file = ScriptedFile::new(false);
        file.script([Script::Claim(11)]);
        assert_eq!(write_all_at(&file, &[1; 10], 0).expect_err("write").kind(), ErrorKind::InvalidData);
        file.script([Script::Claim(11)]);
        assert_eq!(read_exact_at(&file, &mut [1; 10], 0).expect_err("read").kind(), ErrorKind::InvalidData);
        for offset in [u64::MAX, u64::MAX - 5, i64::MAX as u64] {
            let kind = write_all_at(&file, &[1; 10], offset).expect_err("write").kind();
            assert_eq!(kind, ErrorKind::InvalidInput);
        }
    }
}
