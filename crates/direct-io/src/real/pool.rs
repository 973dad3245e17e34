//! Batches through a few threads that block: where there is no ring.
//!
//! Invariant: no thread of the pool sees a buffer of the caller. Each transfer happens in a buffer of its own, which the caller
//! fills before and reads after; so whatever unwinds, nothing is written behind its back. Every transfer gets exactly one result.
//!
//! ```text
//!   batch ──► waves of WAVE_BYTES ──► queue ──► THREADS threads ──┐ pread, pwrite
//!                                       └─────► the caller helps ─┴──► replies ──► results
//! ```
//!
//! The copy costs some 0.1 µs for 4 KiB, beside an I/O of 20 µs and more and two switches of threads: no reason for unsafe code.
//! A panic in a transfer is caught where it happens: that transfer fails, and so does every later one of the file (E8). The threads
//! end with the pool, which joins them: no descriptor outlives the handle, and so no lock does.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pagestone_page_format::AlignedBuf;
use pagestone_sync::thread::{Builder, JoinHandle};
use pagestone_sync::{Condvar, Mutex};

use super::platform::{self, Descriptor};
use crate::{ReadAt, WriteAt};

/// Threads of a pool. With the caller, as many transfers are under way at once as saturate a solid-state disk but for a tenth.
const THREADS: usize = 15;
/// Bytes of a batch that are copied and under way at once, or else one transfer.
const WAVE_BYTES: usize = 4 << 20;

/// One transfer of bytes at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Read,
    Write,
}

/// What a transfer does.
type Transfer = dyn Fn(Direction, &mut [u8], u64) -> io::Result<usize> + Send + Sync;

/// The threads of one file.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    transfer: Box<Transfer>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
    /// What a transfer panicked with.
    panicked: Option<String>,
}

/// A transfer to be done.
struct Job {
    direction: Direction,
    buf: AlignedBuf,
    offset: u64,
    /// Its place in the wave.
    place: usize,
    replies: Arc<Replies>,
}

/// What came of the transfers of a wave.
struct Replies {
    state: Mutex<(usize, Vec<Option<Reply>>)>,
    all: Condvar,
}

type Reply = (AlignedBuf, io::Result<usize>);

impl Pool {
    /// Starts the threads, or as many as the system gives; an error if it gives none.
    pub(super) fn start(file: Arc<Descriptor>) -> io::Result<Self> {
        Self::with(move |direction, buf, offset| match direction {
            Direction::Read => platform::read_at(&file, buf, offset),
            Direction::Write => platform::write_at(&file, buf, offset),
        })
    }

    fn with(
        transfer: impl Fn(Direction, &mut [u8], u64) -> io::Result<usize> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (queue, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { transfer: Box::new(transfer), queue, changed });
        let mut pool = Self { shared, threads: Vec::with_capacity(THREADS) };
        for _ in 0..THREADS {
            let shared = Arc::clone(&pool.shared);
            match Builder::new().name("pagestone-io".to_owned()).spawn(move || shared.work()) {
                Ok(thread) => pool.threads.push(thread),
                Err(error) if pool.threads.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(pool)
    }

    /// Reads the batch.
    pub(super) fn read(&self, batch: &mut [ReadAt<'_>]) {
        for wave in waves(batch, |read| read.buf.len()) {
            let reads = &mut batch[wave];
            let buffers = reads.iter().map(|read| (AlignedBuf::zeroed(read.buf.len()), read.offset));
            let replies = self.run(Direction::Read, buffers.collect());
            for (read, (buf, result)) in reads.iter_mut().zip(replies) {
                if let Ok(got) = result {
                    read.buf[..got].copy_from_slice(&buf[..got]);
                }
                read.result = result;
            }
        }
    }

    /// Writes the batch.
    pub(super) fn write(&self, batch: &mut [WriteAt<'_>]) {
        for wave in waves(batch, |write| write.buf.len()) {
            let writes = &mut batch[wave];
            let buffers = writes.iter().map(|write| {
                let mut buf = AlignedBuf::zeroed(write.buf.len());
                buf.copy_from_slice(write.buf);
                (buf, write.offset)
            });
            let replies = self.run(Direction::Write, buffers.collect());
            for (write, (_, result)) in writes.iter_mut().zip(replies) {
                write.result = result;
            }
        }
    }

    /// Does the transfers of one wave, and others' meanwhile.
    fn run(&self, direction: Direction, wave: Vec<(AlignedBuf, u64)>) -> Vec<Reply> {
        let count = wave.len();
        let state = Mutex::new((count, wave.iter().map(|_| None).collect()));
        let replies = Arc::new(Replies { state, all: Condvar::new() });
        let jobs = wave.into_iter().enumerate().map(|(place, (buf, offset))| {
            let replies = Arc::clone(&replies);
            Job { direction, buf, offset, place, replies }
        });
        self.shared.queue.lock().jobs.extend(jobs);
        self.shared.changed.notify_all();
        let mut state = replies.state.lock();
        while state.0 > 0 {
            let Some(job) = self.shared.next_now() else {
                state = replies.all.wait(state);
                continue;
            };
            drop(state);
            self.shared.run(job);
            state = replies.state.lock();
        }
        let replies = std::mem::take(&mut state.1);
        replies.into_iter().map(|reply| reply.expect("none is left to come")).collect()
    }
}

impl Drop for Pool {
    /// Nobody waits for a transfer any more: who began one has the pool borrowed.
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // It has no panic to tell of: those of transfers are caught, and there is nothing else.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads.len())
    }
}

impl Shared {
    /// The life of a thread.
    fn work(&self) {
        loop {
            let mut queue = self.queue.lock();
            let job = loop {
                match queue.jobs.pop_front() {
                    Some(job) => break job,
                    None if queue.closed => return,
                    None => queue = self.changed.wait(queue),
                }
            };
            drop(queue);
            self.run(job);
        }
    }

    fn next_now(&self) -> Option<Job> {
        self.queue.lock().jobs.pop_front()
    }

    /// Does a transfer and replies, whatever happens.
    fn run(&self, mut job: Job) {
        let panicked = self.queue.lock().panicked.clone();
        let result = match panicked {
            Some(message) => Err(after_panic(&message)),
            None => {
                let transfer = || (self.transfer)(job.direction, &mut job.buf, job.offset);
                catch_unwind(AssertUnwindSafe(transfer)).unwrap_or_else(|panic| {
                    let message = message_of(&*panic);
                    let error = after_panic(&message);
                    self.queue.lock().panicked.get_or_insert(message);
                    Err(error)
                })
            }
        };
        let mut state = job.replies.state.lock();
        state.1[job.place] = Some((job.buf, result));
        state.0 -= 1;
        if state.0 == 0 {
            job.replies.all.notify_all();
        }
    }
}

/// Cuts a batch into ranges of at most [`WAVE_BYTES`], or of one transfer.
fn waves<T>(batch: &[T], len: impl Fn(&T) -> usize) -> Vec<Range<usize>> {
    let (mut waves, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, transfer) in batch.iter().enumerate() {
        let len = len(transfer);
        if at > start && bytes + len > WAVE_BYTES {
            waves.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes += len;
    }
    waves.push(start..batch.len());
    waves
}

#[cold]
fn after_panic(message: &str) -> io::Error {
    io::Error::other(format!("a transfer of this file panicked: {message}"))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (_, Some(message)) => message.clone(),
        _ => "a panic without a message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn read(pool: &Pool, offsets: impl IntoIterator<Item = u64>) -> Vec<io::Result<usize>> {
        let offsets: Vec<u64> = offsets.into_iter().collect();
        let mut buffers = vec![[0; 8]; offsets.len()];
        let mut batch: Vec<ReadAt<'_>> =
            buffers.iter_mut().zip(offsets).map(|(buf, offset)| ReadAt::new(buf, offset)).collect();
        pool.read(&mut batch);
        batch.into_iter().map(|read| read.result).collect()
    }

    #[test]
    fn transfers_of_a_batch_are_under_way_at_once_and_each_has_its_own_result() {
        // Nobody gets on before as many are there as can be.
        let there = (Mutex::new(HashSet::new()), Condvar::new());
        let pool = Pool::with(move |_, _, offset| {
            let mut threads = there.0.lock();
            threads.insert(std::thread::current().id());
            there.1.notify_all();
            while threads.len() < THREADS + 1 {
                threads = there.1.wait(threads);
            }
            if offset % 3 == 0 {
                Err(io::ErrorKind::PermissionDenied.into())
            } else {
                Ok(offset as usize % 8)
            }
        });
        let results = read(&pool.expect("threads"), 0..100);
        for (offset, result) in results.into_iter().enumerate() {
            assert_eq!(result.ok(), (offset % 3 != 0).then_some(offset % 8));
        }
    }

    #[test]
    fn a_panic_is_told_to_all_who_wait_and_to_all_who_come() {
        let pool = Pool::with(|_, buf, offset| {
            assert_ne!(offset, 13, "no transfer at 13");
            Ok(buf.len())
        });
        let pool = pool.expect("threads");
        assert!(read(&pool, 0..10).iter().all(Result::is_ok));
        let results = read(&pool, 10..20);
        let error = results[3].as_ref().expect_err("it panicked");
        assert!(error.to_string().contains("no transfer at 13"), "{error}");
        for result in read(&pool, 0..10) {
            assert!(result.expect_err("for good").to_string().contains("no transfer at 13"));
        }
    }

    #[test]
    fn threads_end_with_the_pool_and_hold_nothing_of_it() {
        let held = Arc::new(());
        let of_pool = Arc::clone(&held);
        let pool = Pool::with(move |_, buf, _| {
            let _also = &of_pool;
            Ok(buf.len())
        });
        assert_eq!(read(&pool.expect("threads"), 0..50).len(), 50);
        assert_eq!(Arc::strong_count(&held), 1, "every thread is gone");
    }

    #[test]
    fn what_is_copied_at_once_is_bounded() {
        let all = |lens: &[usize]| waves(lens, |len| *len);
        assert_eq!(all(&[1, 2, WAVE_BYTES - 3, 1]), [0..3, 3..4]);
        assert_eq!(all(&[WAVE_BYTES, 1, WAVE_BYTES - 1, 1]), [0..1, 1..3, 3..4]);
        assert_eq!(all(&[2 * WAVE_BYTES, 3 * WAVE_BYTES]), [0..1, 1..2], "one transfer is never cut");
    }
}
