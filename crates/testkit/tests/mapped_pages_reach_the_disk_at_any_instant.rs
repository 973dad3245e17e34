//! A pager over a map that was proved on a disk where mapped pages wait for their flush loses data on every real one.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{DirectIo, Disk, File, MapAccess, OpenHow, RealDisk, read_exact_at, write_all_at};
use pagestone_testkit::{
    AfterFailedSync, CrashOptions, DiskOp, FaultPlan, Keep, Rng, SimDisk, SimOptions, Violation,
};

const S: usize = 512;
const PAGE: usize = 4096;
const LEN: u64 = 4 * PAGE as u64;

/// A disk with the locked file `/a` of four pages of ones, durable.
fn disk_with_file() -> (SimDisk, Arc<dyn File>) {
    let disk = SimDisk::new(1);
    let file = disk.open(Path::new("/a"), &OpenHow::create_new(DirectIo::Off)).expect("create");
    assert!(file.try_lock().expect("lock"));
    write_all_at(&*file, &[1; LEN as usize], 0).expect("write");
    disk.settle();
    (disk, file)
}

/// The first byte of every sector, on a disk of its own or after a power cut.
fn sectors(disk: &SimDisk) -> Vec<u8> {
    disk.contents("/a").expect("there").chunks(S).map(|sector| sector[0]).collect()
}

fn durable(disk: &SimDisk) -> Vec<u8> {
    sectors(&disk.power_cut(Keep::Synced))
}

/// What the sectors of these places are in all images.
fn images(disk: &SimDisk, places: &[usize]) -> BTreeSet<Vec<u8>> {
    disk.crash_states(&CrashOptions::default())
        .map(|image| {
            let bytes = sectors(&image.disk());
            places.iter().map(|place| bytes[*place]).collect()
        })
        .collect()
}

#[test]
fn every_version_that_anybody_could_see_can_be_on_the_disk() {
    let (disk, file) = disk_with_file();
    let mut map = file.map(0..LEN, MapAccess::Write).expect("map");
    map.bytes_mut()[0] = 2;
    map.bytes_mut()[0] = 3; // the borrow before is over
    map.bytes_mut()[9 * S] = 4;
    let expected: [Vec<u8>; 6] = [vec![1, 1], vec![2, 1], vec![3, 1], vec![1, 4], vec![2, 4], vec![3, 4]];
    assert_eq!(images(&disk, &[0, 9]), expected.into());
    assert_eq!(durable(&disk)[0], 1, "nothing was flushed");
    assert_eq!(sectors(&disk)[0], 3, "the file shows what the map holds");
}

#[test]
fn what_a_borrow_holds_while_the_disk_works_can_be_on_the_disk() {
    let (disk, file) = disk_with_file();
    let other = disk.open(Path::new("/b"), &OpenHow::create_new(DirectIo::Off)).expect("create");
    let mut map = file.map(0..LEN, MapAccess::Write).expect("map");
    let page = map.bytes_mut();
    for version in 2..6 {
        page[0] = version;
        write_all_at(&*other, &[version], 0).expect("any work of the disk");
    }
    let found = images(&disk, &[0]);
    assert_eq!(found, (1..6).map(|version| vec![version]).collect());
}

/// Changed before a sync of another file, found by the disk after it: it could have come before.
#[test]
fn a_change_through_a_map_is_as_old_as_it_is() {
    let (disk, file) = disk_with_file();
    let other = disk.open(Path::new("/b"), &OpenHow::create_new(DirectIo::Off)).expect("create");
    disk.settle();
    let mut map = file.map(0..LEN, MapAccess::Write).expect("map");
    map.bytes_mut()[0] = 2;
    write_all_at(&*other, &[9; S], 0).expect("write");
    other.sync().expect("sync");
    let states: BTreeSet<(u8, bool)> = disk
        .crash_states(&CrashOptions::default())
        .map(|image| {
            let disk = image.disk();
            (sectors(&disk)[0], disk.contents("/b").expect("there").len() == S)
        })
        .collect();
    assert_eq!(states, [(1, false), (2, false), (1, true), (2, true)].into());
}

#[test]
fn a_flush_makes_its_pages_durable_and_no_other() {
    let (disk, file) = disk_with_file();
    file.reserve(0, LEN + 8192).expect("longer");
    let mut map = file.map(PAGE as u64..LEN, MapAccess::Write).expect("map");
    for page in 0..3 {
        map.bytes_mut()[page * PAGE..][..PAGE].fill(page as u8 + 2);
    }
    write_all_at(&*file, &[9; S], 0).expect("beside the map");
    map.flush(PAGE + 100..PAGE + 200).expect("flush");
    let pages = |bytes: Vec<u8>| bytes.chunks(8).map(<[u8]>::to_vec).collect::<BTreeSet<_>>();
    assert_eq!(durable(&disk).chunks(8).map(|page| page[0]).collect::<Vec<_>>(), [1, 1, 3, 1, 0, 0]);
    assert_eq!(pages(durable(&disk)).len(), 3, "whole pages, and the length");
    let unsynced: u64 = disk.unsynced("/a").expect("there").iter().map(|range| range.end - range.start).sum();
    assert_eq!(unsynced as usize, S + 2 * PAGE);
    file.sync().expect("a sync covers the maps");
    assert_eq!(durable(&disk).chunks(8).map(|page| page[0]).collect::<Vec<_>>(), [9, 2, 3, 4, 0, 0]);
    assert_eq!(disk.audit(), []);
}

/// What was cut away before a flush stays away after it.
#[test]
fn a_flush_covers_the_truncation_before_it() {
    let (disk, file) = disk_with_file();
    file.set_len(0).expect("cut");
    file.reserve(0, 2 * PAGE as u64).expect("grow");
    let mut map = file.map(0..2 * PAGE as u64, MapAccess::Write).expect("map");
    map.bytes_mut()[0] = 7;
    map.flush(0..1).expect("flush");
    disk.note(1);
    let noted = disk.crash_states(&CrashOptions::default()).filter(|image| !image.acknowledged().is_empty());
    for image in noted {
        assert_eq!(sectors(&image.disk()), [vec![7], vec![0; 15]].concat(), "{image:?}");
    }
}

#[test]
fn a_failed_flush_leaves_what_was_chosen() {
    let (old, new) = (vec![1; 8], vec![2; 8]);
    for after in AfterFailedSync::ALL {
        let (disk, file) = disk_with_file();
        let mut map = file.map(0..LEN, MapAccess::Write).expect("map");
        let plan = disk.fail(FaultPlan::failed_sync(libc::EIO, after).on(DiskOp::Flush));
        map.bytes_mut()[..2 * PAGE].fill(2);
        let held = map.bytes();
        let first = map.flush(0..PAGE);
        assert_eq!(disk.injected(plan), 1);
        assert_eq!(held[0], 2, "a slice never changes");
        let shown = map.bytes()[0];
        let (live, durable) = (sectors(&disk)[..8].to_vec(), durable(&disk)[..8].to_vec());
        match after {
            AfterFailedSync::CleanWithNew => assert_eq!((&live, &durable, shown), (&new, &old, 2)),
            AfterFailedSync::CleanWithOld => assert_eq!((&live, &durable, shown), (&old, &old, 1)),
            AfterFailedSync::PartlyPersisted => {
                assert_eq!((&live, shown), (&new, 2));
                assert!(durable.contains(&1) && durable.contains(&2), "{durable:?}");
            }
            AfterFailedSync::ReportedLate => {
                first.as_ref().expect("reported late");
                assert_eq!((&live, &durable, shown), (&new, &new, 2));
                map.bytes_mut()[..PAGE].fill(3);
                assert!(map.flush(0..PAGE).is_err());
            }
        }
        assert_eq!(first.is_err(), after != AfterFailedSync::ReportedLate);
        assert_eq!(map.bytes()[PAGE], 2, "the other page is dirty as before");
        assert_eq!(disk.audit(), []);
        file.sync().expect("a sync that says nothing");
        assert_eq!(self::durable(&disk)[..8], durable, "and brings nothing back");
        assert_eq!(self::durable(&disk)[8..16], new, "what was still dirty was saved");
        assert_eq!(disk.audit(), [Violation::SyncRetried { path: "/a".into() }]);
        // A change after it dirties the sector as it is shown now.
        map.bytes_mut()[1] = 9;
        let first = match after {
            AfterFailedSync::CleanWithOld => 1,
            AfterFailedSync::ReportedLate => 3,
            _ => 2,
        };
        assert_eq!(map.bytes()[..3], [first, 9, first]);
        let unsynced = disk.unsynced("/a").expect("there");
        assert_eq!((unsynced.len(), unsynced[0].clone()), (1, 0..S as u64));
    }
}

#[test]
fn the_medium_changes_behind_a_map() {
    let (disk, file) = disk_with_file();
    let mut map = file.map(0..LEN, MapAccess::Write).expect("map");
    map.bytes_mut()[0] = 2;
    for round in 0..3 {
        disk.overwrite("/a", 100 + round, &[9]).expect("inside");
        assert_eq!(map.bytes()[100 + round as usize], 9);
        assert_eq!(map.bytes()[0], 2);
    }
    map.bytes_mut()[200] = 5;
    assert_eq!(map.bytes()[99..104], [1, 9, 9, 9, 1]);
    assert_eq!((map.bytes()[0], map.bytes()[200], sectors(&disk)[0]), (2, 5, 2));
    drop(map);
    let crashed = disk.power_cut(Keep::Synced).contents("/a").expect("there");
    assert_eq!((crashed[0], crashed[100], crashed[200]), (1, 9, 1));
}

#[test]
fn maps_can_be_refused_and_meet_nobody() {
    let (disk, file) = disk_with_file();
    let plan = disk.fail(FaultPlan::errno(libc::ENOMEM).on(DiskOp::Map));
    let error = file.map(0..LEN, MapAccess::Write).expect_err("planned");
    assert_eq!((error.kind(), disk.injected(plan)), (ErrorKind::OutOfMemory, 1));
    let map = file.map(0..LEN, MapAccess::Write).expect("map");
    assert_eq!(file.write_at(&[1], 0).expect_err("mapped").kind(), ErrorKind::InvalidInput);
    assert_eq!(disk.audit(), [], "refused, as by the real one");
    let thief = disk.open(Path::new("/a"), &OpenHow::write(DirectIo::Off)).expect("open");
    assert!(thief.set_len(100).is_err());
    assert_eq!(disk.audit(), [Violation::WriteUnderMap { path: "/a".into(), bytes: 0..LEN }]);
    drop(file);
    assert!(!thief.try_lock().expect("the map keeps the lock"));
    drop(map);
    assert!(thief.try_lock().expect("free"));
}

/// The same on a simulated disk and on a real one: who shares a lock maps to read, and a map keeps the lock as it is.
#[test]
fn readers_share_a_file_that_nobody_writes() {
    let dir = tempfile::tempdir().expect("a directory");
    let sim = SimDisk::new(1);
    let disks: [(&dyn Disk, &Path); 2] = [(&sim, Path::new("/a")), (&RealDisk, &dir.path().join("a"))];
    for (disk, path) in disks {
        let open = || disk.open(path, &OpenHow::write(DirectIo::Off)).expect("open");
        let first = disk.open(path, &OpenHow::create_new(DirectIo::Off)).expect("create");
        first.reserve(0, LEN).expect("reserve");
        let second = open();
        let invalid =
            |result: io::Result<bool>| result.is_err_and(|error| error.kind() == ErrorKind::InvalidInput);
        let maps = |file: &dyn File, access| file.map(0..LEN, access);
        assert!(first.try_lock_shared().expect("free") && second.try_lock_shared().expect("shared"));
        let error = maps(&*first, MapAccess::Write).expect_err("others read");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let (one, other) = (maps(&*first, MapAccess::Read), maps(&*second, MapAccess::Read));
        assert_eq!(one.expect("map").bytes(), other.expect("map").bytes());
        let kept = maps(&*first, MapAccess::Read).expect("map");
        assert!(invalid(first.try_lock()), "mapped");
        assert!(first.try_lock_shared().expect("as it is"));
        assert!(!open().try_lock().expect("taken"));
        drop(kept);
        assert!(!first.try_lock().expect("the second shares it"));
        assert!(maps(&*first, MapAccess::Read).is_err(), "what it had, it let go of");
        drop(second);
        assert!(first.try_lock().expect("free"));
        let kept = maps(&*first, MapAccess::Write).expect("map");
        assert!(invalid(first.try_lock_shared()), "mapped");
        assert!(!open().try_lock_shared().expect("taken"));
        let bufs = [io::IoSlice::new(&[1]), io::IoSlice::new(&[2])];
        assert!(first.write_vectored_at(&bufs, LEN - 1).is_err() && first.punch_hole(0, LEN).is_err());
        assert!(kept.bytes().iter().all(|byte| *byte == 0));
    }
}

/// One file and its maps, simulated or real.
struct Side {
    file: Arc<dyn File>,
    maps: Vec<pagestone_direct_io::FileMap>,
}

impl Side {
    fn step(&mut self, rng: &mut Rng) -> String {
        let (offset, len) = (rng.below(30_000), 1 + rng.below(9000));
        let told = |result: io::Result<Vec<u8>>| format!("{:?}", result.map_err(|error| error.kind()));
        let mut bytes = vec![0; len as usize];
        let choice = rng.below(12);
        rng.fill(&mut bytes[..1 + len as usize / 2]);
        match choice {
            0 => told(self.file.reserve(offset, len).map(|()| Vec::new())),
            1 => told(self.file.set_len(offset).map(|()| Vec::new())),
            2 => told(write_all_at(&*self.file, &bytes, offset).map(|()| Vec::new())),
            3 => told(read_exact_at(&*self.file, &mut bytes, offset).map(|got| bytes[..got].to_vec())),
            4 | 5 => {
                let access = *rng.pick(&[MapAccess::Read, MapAccess::Write, MapAccess::Write]);
                let map = self.file.map(offset..offset + len, access);
                told(map.map(|map| {
                    let held = map.bytes().to_vec();
                    // Only maps to write are kept: nothing else may be asked of both.
                    if access == MapAccess::Write {
                        self.maps.push(map);
                    }
                    held
                }))
            }
            6 => told(self.file.sync().map(|()| Vec::new())),
            _ if self.maps.is_empty() => String::new(),
            7 => {
                let at = rng.below(self.maps.len() as u64) as usize;
                format!("{:?}", self.maps.swap_remove(at).bytes())
            }
            8 => {
                let at = rng.below(self.maps.len() as u64) as usize;
                let (from, to) = (offset as usize / 8, (offset + len) as usize / 8);
                told(self.maps[at].flush(from..to).map(|()| Vec::new()))
            }
            _ => {
                let at = rng.below(self.maps.len() as u64) as usize;
                let map = self.maps[at].bytes_mut();
                let from = rng.below(map.len() as u64) as usize;
                let len = bytes.len().min(map.len() - from);
                map[from..from + len].copy_from_slice(&bytes[..len]);
                format!("{:?}", self.maps[at].bytes())
            }
        }
    }
}

#[test]
fn simulated_maps_behave_as_real_ones() {
    let mut maps = 0;
    for seed in 0..10 {
        let dir = tempfile::tempdir().expect("a directory");
        let sim = SimDisk::with(SimOptions { seed, ..SimOptions::default() });
        let open = |disk: &dyn Disk, path: &Path| {
            let file = disk.open(path, &OpenHow::create_new(DirectIo::Off)).expect("create");
            assert!(file.try_lock().expect("lock"));
            Side { file, maps: Vec::new() }
        };
        let mut real = open(&RealDisk, &dir.path().join("a"));
        let mut simulated = open(&sim, Path::new("/a"));
        let (mut one, mut other) = (Rng::new(seed), Rng::new(seed));
        for step in 0..200 {
            let expected = real.step(&mut one);
            assert_eq!(simulated.step(&mut other), expected, "seed {seed}, step {step}");
            maps += real.maps.len();
        }
        assert_eq!(sim.audit(), []);
        let all = sim.contents("/a").expect("there");
        assert_eq!(std::fs::read(dir.path().join("a")).expect("read"), all, "seed {seed}");
    }
    assert!(maps > 1000, "{maps} maps in all steps");
}
