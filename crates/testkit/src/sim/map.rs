//! A map of a simulated file, as its owner has it.
//!
//! Invariant: a `&mut` of the bytes is over when the next call comes, so what it changed is complete then and is looked at; and
//! what a `&` shows never changes: where the disk shows other bytes from some moment on, as after a failed sync, who asks again gets
//! another slice.

use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use pagestone_direct_io::{Map, MapAccess};

use super::disk::SimDisk;
use super::fault::DiskOp;
use super::file::Hold;
use super::maps::{Made, chunks};

/// One map.
pub(super) struct SimMap {
    made: Made,
    disk: SimDisk,
    hold: Arc<Hold>,
    path: PathBuf,
    /// As of which change behind the map's back its memory is.
    as_of: u64,
    /// What the bytes have been since, newest last.
    later: OnceLock<Box<Later>>,
}

/// The bytes after a change behind the map's back.
struct Later {
    as_of: u64,
    bytes: Box<[u8]>,
    next: OnceLock<Box<Later>>,
}

impl SimMap {
    pub(super) fn new(made: Made, disk: SimDisk, hold: Arc<Hold>, path: PathBuf) -> Self {
        Self { made, disk, hold, path, as_of: 0, later: OnceLock::new() }
    }

    /// Takes in what the last `&mut` changed, which is over.
    fn settle(&self) {
        if self.made.shared.writing.load(Ordering::Acquire) {
            self.disk.state_unseen().see_maps(Some(self.made.id));
            self.made.shared.writing.store(false, Ordering::Release);
        }
    }

    fn live_bytes(&self) -> Later {
        let state = self.disk.state_unseen();
        let mut bytes = vec![0; (self.made.range.end - self.made.range.start) as usize].into_boxed_slice();
        let content = &state.live.files[&self.made.file].bytes.content;
        content.read(self.made.range.start as usize, &mut bytes);
        Later { as_of: self.made.shared.behind.load(Ordering::Acquire), bytes, next: OnceLock::new() }
    }
}

impl Map for SimMap {
    fn bytes(&self) -> &[u8] {
        self.settle();
        let (mut shown, mut as_of, mut next) = (self.made.real.bytes(), self.as_of, &self.later);
        loop {
            while let Some(later) = next.get() {
                (shown, as_of, next) = (&later.bytes, later.as_of, &later.next);
            }
            if self.made.shared.behind.load(Ordering::Acquire) == as_of {
                return shown;
            }
            next.get_or_init(|| Box::new(self.live_bytes()));
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.settle();
        let bytes = self.made.real.bytes_mut(); // panics if it was made to read
        let mut state = self.disk.state_unseen();
        let behind = self.made.shared.behind.load(Ordering::Acquire);
        if behind != self.as_of {
            let state = &mut *state;
            state.maps.show_live(self.made.id, &state.live, bytes);
            (self.as_of, self.later) = (behind, OnceLock::new());
        }
        self.made.shared.writing.store(true, Ordering::Release);
        bytes
    }

    fn flush(&self, range: Range<usize>) -> io::Result<()> {
        let len = (self.made.range.end - self.made.range.start) as usize;
        if range.start > range.end || range.end > len {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the range leads past the end of the map"));
        }
        if self.made.access == MapAccess::Read || range.is_empty() {
            return Ok(());
        }
        self.settle();
        let chunks = chunks(&self.made.range, &range);
        let mut state = self.disk.state();
        state.sync_file(DiskOp::Flush, self.hold.id, self.made.file, &self.path, Some(chunks))
    }
}

impl Drop for SimMap {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        state.maps.remove(self.made.id);
    }
}

impl fmt::Debug for SimMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimMap({} {:?})", self.path.display(), self.made.range)
    }
}
