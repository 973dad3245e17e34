//! Prevents: recovery after a killed process believing blocks that were written and never synced, and a later power cut
//! taking them away from under what was built on them (L10, C13); and waiters left behind by a leader that panicked (E8).
#![cfg(not(loom))]

mod common;

use std::ffi::OsString;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{DIR, append, commit, create, open, options, replay, start};
use pagestone_direct_io::{Disk, File, OpenHow, PathKind};
use pagestone_testkit::{CrashOptions, SimDisk};
use pagestone_wal::{Recovery, Wal, WalError};

/// A disk that kills who syncs it, once armed.
#[derive(Clone, Debug)]
struct Deadly {
    disk: SimDisk,
    armed: Arc<AtomicBool>,
}

#[derive(Debug)]
struct DeadlyFile(Arc<dyn File>, Arc<AtomicBool>);

impl Disk for Deadly {
    fn open(&self, path: &Path, how: &OpenHow) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(DeadlyFile(self.disk.open(path, how)?, Arc::clone(&self.armed))))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(dir)
    }
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        self.disk.kind(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

impl File for DeadlyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        assert!(!self.1.load(Ordering::Relaxed), "killed before the sync");
        self.0.sync()
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.reserve(offset, len)
    }
    fn drop_cache(&self) -> io::Result<()> {
        self.0.drop_cache()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }
    fn is_direct(&self) -> bool {
        self.0.is_direct()
    }
}

fn deadly(disk: &SimDisk, generation: u64) -> (Deadly, Wal) {
    let deadly = Deadly { disk: disk.clone(), armed: Arc::default() };
    let recovery = Recovery::open(Arc::new(deadly.clone()), DIR.into(), &options(), start(generation - 1))
        .expect("open");
    (deadly, recovery.start(generation).expect("start"))
}

#[test]
fn a_killed_process_and_then_a_power_cut() {
    let options = options();
    for len in [100, 5000] {
        let disk = SimDisk::new(1);
        create(&disk, &options);
        let (killer, wal) = deadly(&disk, 1);
        commit(&wal, (1, 0), 500);
        disk.settle();
        let (_, end) = append(&wal, (1, 1), len);
        killer.armed.store(true, Ordering::Relaxed);
        assert!(catch_unwind(AssertUnwindSafe(|| wal.wait_durable(end))).is_err());
        drop(wal);

        // The next process finds what was written; from now on it must stay.
        let mut recovery = open(&disk, &options, start(1)).expect("open");
        let (found, _) = replay(&mut recovery).expect("replay");
        assert_eq!(found, [(1, 0), (1, 1)]);
        disk.note(2);
        let wal = recovery.start(2).expect("start");
        commit(&wal, (2, 0), 300);
        disk.note(3);
        drop(wal);
        let crashes = CrashOptions { exhaustive_max: 256, ..CrashOptions::default() };
        for image in disk.crash_states(&crashes) {
            let (found, _) = common::recover(&image.disk(), &options, start(9)).expect("recover");
            let stays = image.acknowledged().last().copied().unwrap_or(1);
            assert!(found.len() as u64 >= stays, "{found:?}\n{}", image.explain());
            assert_eq!(found, [(1, 0), (1, 1), (2, 0)][..found.len()]);
        }
    }
}

#[test]
fn a_leader_that_panics_leaves_nobody_asleep() {
    let disk = SimDisk::new(1);
    create(&disk, &options());
    let (killer, wal) = deadly(&disk, 1);
    let durable = commit(&wal, (1, 0), 500);
    killer.armed.store(true, Ordering::Relaxed);
    let panics: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|thread| {
                let wal = &wal;
                scope.spawn(move || {
                    let told = catch_unwind(AssertUnwindSafe(|| {
                        let mut group = common::group((1, thread), 50);
                        let space = wal.reserve(group.encoded_len())?;
                        let end = wal.append(space, &mut group).end;
                        wal.wait_durable(end)
                    }));
                    match told {
                        Ok(result) => assert!(matches!(result, Err(WalError::Poisoned { .. })), "{result:?}"),
                        Err(_) => return 1,
                    }
                    0
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("caught")).sum()
    });
    assert_eq!((panics, wal.durable_lsn()), (1, durable));
}
