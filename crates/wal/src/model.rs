//! loom models of append, hand-over and the durable mark, on the production types.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p pagestone-wal --lib --release model`. At most three threads; preemption
//! bounds as stated at each model.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{DirectIo, Disk, File, OpenHow, PathKind};
use pagestone_page_format::{Lsn, Poison, StoreUuid};
use pagestone_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use pagestone_sync::thread;

use crate::block::{BLOCK, BlockHeader, block_lsn};
use crate::buffer::Identity;
use crate::error::WalError;
use crate::group::GroupBuilder;
use crate::options::WalOptions;
use crate::segment::{Segment, SegmentMaker};
use crate::wal::{Beginning, Wal};

/// A file that knows up to which LSN it was written and synced. Its atomics let other threads run during I/O.
#[derive(Debug)]
struct Medium {
    written: AtomicU64,
    synced: AtomicU64,
    in_flight: AtomicBool,
    broken: bool,
}

impl File for Medium {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        unreachable!("commits read nothing")
    }
    fn write_at(&self, buf: &[u8], _: u64) -> io::Result<usize> {
        assert!(!self.in_flight.swap(true, Ordering::Relaxed), "two batches in flight");
        let last = &buf[buf.len() - BLOCK..];
        let end = BlockHeader::decode(last).expect("a sealed block").end().get();
        self.written.fetch_max(end, Ordering::Relaxed);
        self.in_flight.store(false, Ordering::Relaxed);
        Ok(buf.len())
    }
    fn sync(&self) -> io::Result<()> {
        if self.broken {
            self.synced.fetch_max(0, Ordering::Relaxed); // what the model's waiters look at first
            return Err(io::Error::other("broken"));
        }
        self.synced.fetch_max(self.written.load(Ordering::Relaxed), Ordering::Relaxed);
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        unreachable!("commits ask for no length")
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        unreachable!("commits set no length")
    }
    fn reserve(&self, _: u64, _: u64) -> io::Result<()> {
        unreachable!("commits allocate nothing")
    }
    fn drop_cache(&self) -> io::Result<()> {
        unreachable!("commits drop no cache")
    }
    fn try_lock(&self) -> io::Result<bool> {
        unreachable!("commits lock no file")
    }
    fn is_direct(&self) -> bool {
        false
    }
}

/// A disk that is never asked.
#[derive(Debug)]
struct NoDisk;

impl Disk for NoDisk {
    fn open(&self, _: &Path, _: &OpenHow) -> io::Result<Arc<dyn File>> {
        unreachable!("the segment is large enough")
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("no directory is made")
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unreachable!("no segment is made")
    }
    fn remove_file(&self, _: &Path) -> io::Result<()> {
        unreachable!("no segment is removed")
    }
    fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
        unreachable!("nothing is listed")
    }
    fn kind(&self, _: &Path) -> io::Result<Option<PathKind>> {
        unreachable!("nothing is looked at")
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("no name changes")
    }
}

fn wal(broken: bool, buffer_bytes: usize) -> (Arc<Medium>, Arc<Wal>) {
    let medium = Arc::new(Medium {
        written: AtomicU64::new(0),
        synced: AtomicU64::new(0),
        in_flight: AtomicBool::new(false),
        broken,
    });
    let options =
        WalOptions { segment_bytes: 64 << 10, log_bytes: 1 << 20, buffer_bytes, ..WalOptions::default() };
    let segment = Segment { first: 1, blocks: 1000, file: medium.clone(), path: "/log/1".into() };
    let wal = Wal::begin(Beginning {
        identity: Identity { uuid: StoreUuid::new([1; 16]), generation: 1, first: 1, prev_end: block_lsn(1) },
        options,
        poison: Poison::new(),
        keep: block_lsn(1),
        segments: VecDeque::from([segment]),
        maker: SegmentMaker {
            disk: Arc::new(NoDisk),
            dir: "/log".into(),
            direct: DirectIo::Off,
            bytes: 64 << 10,
        },
    });
    (medium, Arc::new(wal))
}

fn append(wal: &Wal, len: usize) -> Lsn {
    let mut group = GroupBuilder::new();
    group.push_logical(1, &vec![7; len]);
    let space = wal.reserve(group.encoded_len()).expect("room");
    wal.append(space, &mut group).end
}

/// Commits, and looks whether that was true.
fn commit(medium: &Medium, wal: &Wal) {
    let end = append(wal, 20);
    let before = wal.durable_lsn();
    wal.wait_durable(end).expect("durable");
    assert!(medium.synced.load(Ordering::Relaxed) >= end.get(), "acknowledged before its sync");
    assert!(wal.durable_lsn() >= end.max(before), "the durable LSN rises");
}

fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Three committers: one leads, one succeeds, one follows, in all orders. Three preemptions.
#[test]
fn model_nobody_is_acknowledged_early_or_left_asleep() {
    explore(3, || {
        let (medium, wal) = wal(false, 8 << 10);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (medium, wal) = (Arc::clone(&medium), Arc::clone(&wal));
                thread::spawn(move || commit(&medium, &wal))
            })
            .collect();
        commit(&medium, &wal);
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        assert_eq!(wal.durable_lsn(), wal.end_lsn());
    });
}

/// Two committers, one of which commits twice, so that leads change hands again. Three preemptions.
#[test]
fn model_the_lead_changes_hands() {
    explore(3, || {
        let (medium, wal) = wal(false, 8 << 10);
        let other = {
            let (medium, wal) = (Arc::clone(&medium), Arc::clone(&wal));
            thread::spawn(move || (0..2).for_each(|_| commit(&medium, &wal)))
        };
        commit(&medium, &wal);
        other.join().expect("no panic");
    });
}

/// The sync fails: everybody is told, nothing becomes durable. Two preemptions.
#[test]
fn model_a_failure_is_told_to_all() {
    explore(2, || {
        let (medium, wal) = wal(true, 8 << 10);
        let durable = wal.durable_lsn();
        let waiter = |medium: &Medium, wal: &Wal| {
            // The poison is invisible to loom: meet at something else before looking at it.
            medium.synced.load(Ordering::Relaxed);
            wal.end_lsn();
            let mut group = GroupBuilder::new();
            group.push_logical(1, b"x");
            let Ok(space) = wal.reserve(group.encoded_len()) else { return };
            let end = wal.append(space, &mut group).end;
            assert!(matches!(wal.wait_durable(end), Err(WalError::Poisoned { .. })));
        };
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (medium, wal) = (Arc::clone(&medium), Arc::clone(&wal));
                thread::spawn(move || waiter(&medium, &wal))
            })
            .collect();
        waiter(&medium, &wal);
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        assert_eq!(wal.durable_lsn(), durable);
    });
}

/// More than the buffer holds, beside one who commits: who waits for room leads if nobody else does. Two preemptions.
#[test]
fn model_waiters_for_room_drive_the_log() {
    explore(2, || {
        let (_, wal) = wal(false, 8 << 10);
        let other = {
            let wal = Arc::clone(&wal);
            thread::spawn(move || {
                for _ in 0..3 {
                    append(&wal, 3500);
                }
            })
        };
        let end = append(&wal, 3500);
        wal.wait_durable(end).expect("durable");
        other.join().expect("no panic");
        wal.flush().expect("flush");
        assert_eq!(wal.durable_lsn(), wal.end_lsn());
    });
}
