//! One sync at a time, shared by all who wait, and none after a failure.
//!
//! Invariant: [`File::sync`] returns `Ok` only after a sync that began after the call; and once a sync has failed, no later one
//! succeeds, whoever asks (I9). A system tells a failure to one caller only: with two syncs of a file at once, the other would be
//! told that all is well. Nor is anything read any more through the handle then: the cache may show what is not durable, or again
//! what was there before (Rebello and others, *Can Applications Recover from fsync Failures?*, USENIX ATC 2020), and both are older or
//! newer than what the next opening finds (R3).
//!
//! ```text
//!   A  ──call──┤ sync 1 ├──            leads
//!   B  ────call──────────┤ sync 2 ├──  came while sync 1 ran, so it waits for the next, which one of B and C leads
//!   C  ──────call────────┤ sync 2 ├──
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::ops::RangeInclusive;
use std::sync::Arc;

use pagestone_sync::atomic::{AtomicBool, Ordering};
use pagestone_sync::{Condvar, Mutex};

use crate::{Backend, File, OwnedRead, ReadAt, Reads, WriteAt, Writes};

/// A [`File`] whose syncs are made one by one, shared, and final when they fail. Everybody who syncs the file must do so through
/// this one handle; all else goes straight to the file beneath. It has no maps: a flush of one would be a sync beside it.
///
/// ```
/// use std::sync::Arc;
/// use pagestone_direct_io::{DirectIo, Disk, File, OpenHow, RealDisk, SharedSync};
/// # let dir = tempfile::tempdir()?;
/// let file = RealDisk.open(&dir.path().join("file"), &OpenHow::create_new(DirectIo::Off))?;
/// let file: Arc<dyn File> = Arc::new(SharedSync::new(file));
/// file.write_at(b"hello", 0)?;
/// file.sync()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct SharedSync {
    file: Arc<dyn File>,
    state: Mutex<State>,
    changed: Condvar,
    /// A sync has failed: `state.failed`, for readers, who take no lock.
    failed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Syncs begun; they are numbered from 1 on.
    begun: u64,
    /// The last one that ended well.
    done: u64,
    running: bool,
    failed: Option<(io::ErrorKind, String)>,
}

impl State {
    fn check(&self) -> io::Result<()> {
        match &self.failed {
            None => Ok(()),
            Some((kind, first)) => Err(io::Error::new(*kind, format!("an earlier sync failed: {first}"))),
        }
    }
}

/// A sync under way. One that is left by a panic has failed: nobody knows what it did (E7).
struct Running<'a> {
    of: &'a SharedSync,
    number: u64,
    result: Result<(), (io::ErrorKind, String)>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.of.state.lock();
        state.running = false;
        match std::mem::replace(&mut self.result, Ok(())) {
            Ok(()) => state.done = self.number,
            Err(failure) => {
                state.failed.get_or_insert(failure);
                // Pairs with the load in `believe`.
                self.of.failed.store(true, Ordering::Release);
            }
        }
        drop(state);
        self.of.changed.notify_all();
    }
}

impl SharedSync {
    /// Over an open file that nobody syncs but through this.
    pub fn new(file: Arc<dyn File>) -> Self {
        Self {
            file,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            failed: AtomicBool::new(false),
        }
    }

    /// Refuses what was read if a sync has failed by now.
    fn believe(&self) -> io::Result<()> {
        if self.failed.load(Ordering::Acquire) { self.state.lock().check() } else { Ok(()) }
    }
}

/// Reads of the file beneath, none of which is given out after a failed sync.
struct Believed<'s> {
    of: &'s SharedSync,
    reads: Box<dyn Reads + 's>,
}

impl Reads for Believed<'_> {
    fn begin(&mut self, read: OwnedRead) {
        self.reads.begin(read);
    }

    fn wait(&mut self, least: usize, ended: &mut Vec<OwnedRead>) {
        let before = ended.len();
        self.reads.wait(least, ended);
        for read in &mut ended[before..] {
            if let Err(failed) = self.of.believe() {
                read.result = Err(failed);
            }
        }
    }
}

impl File for SharedSync {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let got = self.file.read_at(buf, offset);
        self.believe()?;
        got
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }

    fn read_batch(&self, batch: &mut [ReadAt<'_>]) {
        self.file.read_batch(batch);
        for read in batch {
            if let Err(failed) = self.believe() {
                read.result = Err(failed);
            }
        }
    }

    fn reads(&self) -> Box<dyn Reads + '_> {
        Box::new(Believed { of: self, reads: self.file.reads() })
    }

    fn write_batch(&self, batch: &mut [WriteAt<'_>]) {
        self.file.write_batch(batch);
    }

    fn writes(&self) -> Box<dyn Writes + '_> {
        self.file.writes()
    }

    fn write_stream<'b>(&self, writes: &mut dyn Iterator<Item = WriteAt<'b>>) -> Vec<WriteAt<'b>> {
        self.file.write_stream(writes)
    }

    fn atomic_write_units(&self) -> Option<RangeInclusive<usize>> {
        self.file.atomic_write_units()
    }

    fn write_batch_atomic(&self, batch: &mut [WriteAt<'_>]) {
        self.file.write_batch_atomic(batch);
    }

    fn read_vectored_at(&self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        let got = self.file.read_vectored_at(bufs, offset);
        self.believe()?;
        got
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.file.write_vectored_at(bufs, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        // The one that runs now may have begun before the caller's last write ended.
        let needed = state.begun + 1;
        loop {
            state.check()?;
            if state.done >= needed {
                return Ok(());
            }
            if !state.running {
                break;
            }
            state = self.changed.wait(state);
        }
        state.running = true;
        state.begun += 1;
        let number = state.begun;
        drop(state);
        let panicked = (io::ErrorKind::Other, "it panicked".to_owned());
        let mut running = Running { of: self, number, result: Err(panicked) };
        let result = self.file.sync();
        running.result = result.as_ref().map(|_| ()).map_err(|error| (error.kind(), error.to_string()));
        drop(running);
        result
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.reserve(offset, len)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.punch_hole(offset, len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        self.file.try_lock_shared()
    }

    fn backend(&self) -> Backend {
        self.file.backend()
    }

    fn is_direct(&self) -> bool {
        self.file.is_direct()
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    use pagestone_page_format::AlignedBuf;

    use super::*;
    use crate::scripted::ScriptedFile;

    /// Counts syncs; each waits until it is let go, with its result.
    #[derive(Debug)]
    struct Slow {
        beneath: ScriptedFile,
        syncs: AtomicU64,
        began: Mutex<mpsc::Sender<()>>,
        go: Mutex<mpsc::Receiver<io::Result<()>>>,
    }

    impl File for Slow {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            self.beneath.read_at(buf, offset)
        }
        fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
            self.beneath.write_at(buf, offset)
        }
        fn sync(&self) -> io::Result<()> {
            self.syncs.fetch_add(1, Ordering::SeqCst);
            self.began.lock().send(()).expect("the test listens");
            self.go.lock().recv().expect("the test lets it go")
        }
        fn len(&self) -> io::Result<u64> {
            self.beneath.len()
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.beneath.set_len(len)
        }
        fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
            self.beneath.reserve(offset, len)
        }
        fn drop_cache(&self) -> io::Result<()> {
            self.beneath.drop_cache()
        }
        fn try_lock(&self) -> io::Result<bool> {
            Ok(true)
        }
        fn is_direct(&self) -> bool {
            false
        }
    }

    type Slowly = (Arc<Slow>, SharedSync, mpsc::Receiver<()>, mpsc::Sender<io::Result<()>>);

    fn slow() -> Slowly {
        let (began, begins) = mpsc::channel();
        let (go, goes) = mpsc::channel();
        let file = Arc::new(Slow {
            beneath: ScriptedFile::new(false),
            syncs: AtomicU64::new(0),
            began: Mutex::new(began),
            go: Mutex::new(goes),
        });
        (Arc::clone(&file), SharedSync::new(file), begins, go)
    }

    #[test]
    fn who_comes_during_a_sync_is_served_by_a_later_one() {
        let (file, shared, begins, go) = slow();
        let late = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| shared.sync());
            begins.recv().expect("the first sync runs");
            for _ in 0..8 {
                scope.spawn(|| {
                    let before = file.syncs.load(Ordering::SeqCst);
                    shared.sync().expect("synced");
                    assert!(file.syncs.load(Ordering::SeqCst) > before, "a sync that began before the call");
                    late.fetch_add(1, Ordering::SeqCst);
                });
            }
            go.send(Ok(())).expect("sent");
            first.join().expect("no panic").expect("synced");
            while late.load(Ordering::SeqCst) < 8 {
                match begins.try_recv() {
                    Ok(()) => go.send(Ok(())).expect("sent"),
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
        assert!((2..=9).contains(&file.syncs.load(Ordering::SeqCst)), "at most one each");
    }

    #[test]
    fn failure_is_final_and_told_to_all() {
        let (file, shared, begins, go) = slow();
        std::thread::scope(|scope| {
            let first = scope.spawn(|| shared.sync());
            begins.recv().expect("the first sync runs");
            let second = scope.spawn(|| shared.sync());
            go.send(Err(ErrorKind::QuotaExceeded.into())).expect("sent");
            assert_eq!(
                first.join().expect("no panic").expect_err("it failed").kind(),
                ErrorKind::QuotaExceeded
            );
            let error = second.join().expect("no panic").expect_err("none is made after a failure");
            assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
        });
        shared.sync().expect_err("sticky");
        let error = shared.read_at(&mut [0; 16], 0).expect_err("the cache is not believed any more");
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
        let mut buf = [0; 16];
        let mut batch = [ReadAt::new(&mut buf, 0)];
        shared.read_batch(&mut batch);
        assert!(batch[0].result.is_err());
        let (mut reads, mut ended) = (shared.reads(), Vec::new());
        reads.begin(OwnedRead::new(AlignedBuf::zeroed(16), 0, 7));
        reads.wait(1, &mut ended);
        assert!(ended.len() == 1 && ended[0].result.is_err());
        let error = shared.read_vectored_at(&mut [IoSliceMut::new(&mut buf)], 0).expect_err("nor in parts");
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
        assert_eq!(file.syncs.load(Ordering::SeqCst), 1, "never tried again");
    }
}
