//! Reading the next chunk while this one is being taken apart: what the device and the checksums cost overlaps.
//!
//! Invariant: at most one read is under way, into a buffer that nobody else has; its error is told to whoever asks for that
//! chunk, and to nobody if nobody does.

use std::io;
use std::sync::Arc;

use pagestone_direct_io::{File, read_exact_at};
use pagestone_page_format::AlignedBuf;
use pagestone_sync::{Condvar, Mutex};
use pagestone_threading::Worker;

/// A thread that reads one chunk ahead.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    shared: Arc<Shared>,
    /// Number of the first block that is being read, and how many.
    expected: Option<(u64, u64)>,
    worker: Option<Worker>,
}

#[derive(Debug)]
struct Shared {
    slot: Mutex<Slot>,
    changed: Condvar,
}

#[derive(Debug)]
enum Slot {
    Idle(AlignedBuf),
    Asked {
        file: Arc<dyn File>,
        offset: u64,
        len: usize,
        buf: AlignedBuf,
    },
    Reading,
    Done(AlignedBuf, io::Result<usize>),
    /// The thread is to end, or has.
    Ended,
}

impl ReadAhead {
    /// Starts the thread. `None` if the system has none for us: then nothing is read ahead.
    pub(crate) fn start(chunk_bytes: usize) -> Option<Self> {
        let slot = Mutex::new(Slot::Idle(AlignedBuf::zeroed(chunk_bytes)));
        let shared = Arc::new(Shared { slot, changed: Condvar::new() });
        let (body, end) = (Arc::clone(&shared), Arc::clone(&shared));
        let worker =
            pagestone_threading::spawn("pagestone-ahead", move |_| end.put(Slot::Ended), move || body.run());
        Some(Self { shared, expected: None, worker: Some(worker.ok()?) })
    }

    /// Begins to read blocks ahead, unless a read is under way or waits to be taken.
    pub(crate) fn ask(&mut self, file: &Arc<dyn File>, offset: u64, len: usize, blocks: (u64, u64)) {
        let mut slot = self.shared.slot.lock();
        *slot = match std::mem::replace(&mut *slot, Slot::Ended) {
            Slot::Idle(buf) | Slot::Done(buf, _) => {
                self.expected = Some(blocks);
                Slot::Asked { file: Arc::clone(file), offset, len, buf }
            }
            busy => busy,
        };
        self.shared.changed.notify_all();
    }

    /// If the chunk that begins with block `first` was read ahead, exchanges it for the caller's buffer and gives its length
    /// in blocks, once it is there.
    pub(crate) fn take(&mut self, first: u64, chunk: &mut AlignedBuf) -> Option<io::Result<(u64, usize)>> {
        let (_, len) = self.expected.take_if(|(expected, _)| *expected == first)?;
        let mut slot = self.shared.slot.lock();
        while matches!(*slot, Slot::Asked { .. } | Slot::Reading) {
            slot = self.shared.changed.wait(slot);
        }
        match std::mem::replace(&mut *slot, Slot::Ended) {
            Slot::Done(buf, result) => {
                *slot = Slot::Idle(std::mem::replace(chunk, buf));
                Some(result.map(|got| (len, got)))
            }
            _ => Some(Err(io::Error::other("the thread that reads ahead has ended"))),
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.shared.put(Slot::Ended);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join(); // a panic there was told to who asked for the chunk
        }
    }
}

impl Shared {
    fn put(&self, next: Slot) {
        *self.slot.lock() = next;
        self.changed.notify_all();
    }

    fn run(&self) {
        let mut slot = self.slot.lock();
        loop {
            match std::mem::replace(&mut *slot, Slot::Reading) {
                Slot::Asked { file, offset, len, mut buf } => {
                    drop(slot);
                    let result = read_exact_at(&*file, &mut buf[..len], offset);
                    slot = self.slot.lock();
                    if matches!(*slot, Slot::Ended) {
                        return;
                    }
                    *slot = Slot::Done(buf, result);
                    self.changed.notify_all();
                }
                Slot::Ended => {
                    *slot = Slot::Ended;
                    return;
                }
                other => {
                    *slot = other;
                    slot = self.changed.wait(slot);
                }
            }
        }
    }
}
