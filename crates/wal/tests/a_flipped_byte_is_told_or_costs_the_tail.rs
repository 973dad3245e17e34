//! Prevents: damage in the durable part of the log taken for a torn tail, so that recovery drops what was acknowledged and
//! goes on as if nothing had happened (M2, M3).
#![cfg(not(loom))]

mod common;

use std::path::PathBuf;

use common::{Id, append, commit, create, fresh, open, options, recover, segments, start};
use pagestone_direct_io::Disk;
use pagestone_page_format::Lsn;
use pagestone_testkit::{Keep, SimDisk};
use pagestone_wal::{WalError, WalOptions, WalStart};

/// A log, and what a reader of its undamaged files finds.
struct Log {
    disk: SimDisk,
    options: WalOptions,
    from: WalStart,
    groups: Vec<Id>,
    ends: Vec<Lsn>,
}

impl Log {
    fn new(disk: SimDisk, options: WalOptions, from: WalStart) -> Self {
        let (mut groups, mut ends) = (Vec::new(), Vec::new());
        let mut recovery = open(&disk, &options, from.clone()).expect("open");
        groups.extend(common::replay(&mut recovery).expect("replay").0);
        recovery
            .replay(|group| {
                ends.push(group.end());
                Ok(())
            })
            .expect("replay");
        Self { disk, options, from, groups, ends }
    }

    /// What blocks claim to have been durable, read with nothing but the format's table.
    fn greatest_claim(&self) -> Lsn {
        let mut claim = 0;
        for path in segments(&self.disk) {
            for block in
                self.disk.contents(path).expect("a file").chunks(4096).filter(|block| &block[4..6] == b"PL")
            {
                let word = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().unwrap());
                claim = claim.max(word(40)).max(if block[7] & 2 != 0 { word(32) } else { 0 });
            }
        }
        Lsn::new(claim)
    }

    /// Flips every `step`-th byte of every block that was ever written, and every byte of its header.
    fn flip(&self, step: usize) -> Outcome {
        let durable = self.greatest_claim();
        let must = self.ends.iter().filter(|end| **end <= durable).count();
        let mut outcome = Outcome::default();
        for path in segments(&self.disk) {
            let bytes = self.disk.contents(&path).expect("a file");
            for at in 0..bytes.len() {
                let block = &bytes[at / 4096 * 4096..][..4096];
                if block.iter().all(|byte| *byte == 0) || (at % 4096 > 64 && at % step != 0) {
                    continue;
                }
                outcome.flips += 1;
                self.flip_one(&path, at, bytes[at], must, &mut outcome);
            }
        }
        outcome
    }

    fn flip_one(&self, path: &PathBuf, at: usize, old: u8, must: usize, outcome: &mut Outcome) {
        let place = format!("byte {at} of {}", path.display());
        self.disk.overwrite(path, at as u64, &[old ^ (1 << (at % 8))]).expect("flip");
        match recover(&self.disk, &self.options, self.from.clone()) {
            Ok((found, _)) => {
                assert!(found.len() >= must, "{place}: {} groups found, {must} proved durable", found.len());
                assert_eq!(found, self.groups[..found.len()], "{place}: groups that nobody wrote");
                if found == self.groups {
                    outcome.harmless += 1
                } else {
                    outcome.tail += 1
                }
                if at.is_multiple_of(97) {
                    self.go_on(&found, &place);
                }
            }
            Err(WalError::WalCorrupt { lsn, .. }) => {
                assert!(lsn <= *self.ends.last().unwrap(), "{place}: corrupt at {lsn}");
                outcome.corrupt += 1;
            }
            Err(error) => panic!("{place}: {error}"),
        }
        self.disk.overwrite(path, at as u64, &[old]).expect("flip back");
        self.disk.settle();
    }

    /// A log that was believed to end early goes on, and is found again.
    fn go_on(&self, found: &[Id], place: &str) {
        let disk = self.disk.power_cut(Keep::Everything);
        let generation = self.from.generation + 1;
        let wal =
            open(&disk, &self.options, self.from.clone()).expect("open").start(generation).expect("start");
        let mut groups = found.to_vec();
        for number in 0..3 {
            commit(&wal, (99, number), 3000);
            groups.push((99, number));
        }
        drop(wal);
        let after = WalStart { generation, ..self.from.clone() };
        assert_eq!(recover(&disk, &self.options, after).expect("recover").0, groups, "{place}");
    }
}

#[derive(Debug, Default)]
struct Outcome {
    flips: u64,
    /// Everything was found all the same.
    harmless: u64,
    /// The last batch was lost: nothing proves that it was durable.
    tail: u64,
    corrupt: u64,
}

#[test]
fn one_client_and_a_few_blocks() {
    let options = options();
    let (disk, wal) = fresh(&options);
    for number in 0..7 {
        commit(&wal, (1, number), 900);
    }
    drop(wal);
    let outcome = Log::new(disk, options, start(1)).flip(1);
    println!("{outcome:?}");
    assert!(outcome.corrupt > 0 && outcome.tail > 0 && outcome.harmless > 0, "{outcome:?}");
}

#[test]
fn batches_over_several_blocks() {
    let options = options();
    let (disk, wal) = fresh(&options);
    for number in 0..12 {
        append(&wal, (1, number), 2000);
        if number % 3 == 2 {
            wal.flush().expect("flush");
        }
    }
    drop(wal);
    let outcome = Log::new(disk, options, start(1)).flip(13);
    println!("{outcome:?}");
    assert!(outcome.corrupt > outcome.tail, "{outcome:?}");
}

#[test]
fn several_generations_some_of_which_wrote_nothing() {
    let options = options();
    let disk = SimDisk::new(4);
    create(&disk, &options);
    for generation in 1..6u32 {
        let wal = open(&disk, &options, start(u64::from(generation) - 1))
            .expect("open")
            .start(generation.into())
            .expect("start");
        for number in 0..[2, 0, 1, 3, 1][generation as usize - 1] {
            commit(&wal, (generation, number), 700);
        }
    }
    let outcome = Log::new(disk, options, start(5)).flip(31);
    println!("{outcome:?}");
    assert!(outcome.corrupt > outcome.tail, "{outcome:?}");
}

#[test]
fn after_a_crash_whose_remains_were_wiped() {
    let options = options();
    let (disk, wal) = fresh(&options);
    for number in 0..4 {
        commit(&wal, (1, number), 1500);
    }
    disk.settle();
    append(&wal, (1, 4), 9000);
    wal.flush().expect("flush");
    drop(wal);
    // Whatever of the last batch survived is gone after the next start.
    let disk = disk.power_cut(Keep::Random(3));
    let wal = open(&disk, &options, start(1)).expect("open").start(2).expect("start");
    commit(&wal, (2, 0), 500);
    commit(&wal, (2, 1), 500);
    drop(wal);
    let outcome = Log::new(disk, options, start(2)).flip(31);
    println!("{outcome:?}");
    assert!(outcome.corrupt > 0, "{outcome:?}");
}

#[test]
fn what_belongs_to_no_group_is_missed_all_the_same() {
    let options = options();
    let (disk, wal) = fresh(&options);
    commit(&wal, (1, 0), 3000);
    append(&wal, (1, 1), 11_000);
    wal.flush().expect("flush");
    drop(wal);
    // The second batch loses its last block: what is left of it is read, synced, and given up.
    let path = &segments(&disk)[0];
    disk.overwrite(path, 4096 * 5, &[0; 4096]).expect("overwrite");
    let mut recovery = open(&disk, &options, start(1)).expect("open");
    let (found, report) = common::replay(&mut recovery).expect("replay");
    assert_eq!((&found[..], report.torn_tail), (&[(1, 0)][..], true));
    let wal = recovery.start(2).expect("start");
    commit(&wal, (2, 0), 100);
    drop(wal);
    assert_eq!(recover(&disk, &options, start(2)).expect("recover").0, [(1, 0), (2, 0)]);
    // Damage there must not cost the one commit that stands behind it.
    for block in [2, 3] {
        let cut = disk.power_cut(Keep::Everything);
        cut.overwrite(path, 4096 * (block + 1) + 2000, &[0xff; 9]).expect("overwrite");
        assert!(
            matches!(recover(&cut, &options, start(2)), Err(WalError::WalCorrupt { .. })),
            "block {block}"
        );
    }
}

#[test]
fn recycled_segments_and_a_checkpoint_inside() {
    let options = WalOptions { log_bytes: 192 << 10, ..options() };
    let (disk, wal) = fresh(&options);
    for number in 0..150 {
        let end = commit(&wal, (1, number), 2500);
        wal.recycle_below(Lsn::new(end.get().saturating_sub(80_000))).expect("recycle");
    }
    let checkpoint = commit(&wal, (1, 150), 100);
    for number in 151..156 {
        commit(&wal, (1, number), 1000);
    }
    drop(wal);
    let from = WalStart { checkpoint, keep_from: checkpoint, ..start(1) };
    let outcome = Log::new(disk, options, from).flip(211);
    println!("{outcome:?}");
    assert!(outcome.corrupt > 0 && outcome.harmless > outcome.corrupt, "{outcome:?}");
}

#[test]
fn a_hole_of_any_size_in_the_middle_is_corruption() {
    let options = options();
    let (disk, wal) = fresh(&options);
    let mut ends = Vec::new();
    for number in 0..60 {
        ends.push(commit(&wal, (1, number), 3000));
    }
    drop(wal);
    let paths = segments(&disk);
    assert!(paths.len() >= 4);
    let last = ends[57]; // what the last block but one claims, at least
    for path in &paths[..3] {
        let bytes = disk.contents(path).expect("a file");
        for (from, to) in
            [(0, bytes.len()), (8192, bytes.len()), (8192 + 4096, 8192 + 8192), (40_960, 65_536)]
        {
            disk.overwrite(path, from as u64, &vec![0; to - from]).expect("zero");
            match recover(&disk, &options, start(1)) {
                Err(WalError::WalCorrupt { lsn, .. }) => assert!(lsn < last),
                other => panic!("{other:?} with {from}..{to} of {} gone", path.display()),
            }
            disk.overwrite(path, 0, &bytes).expect("restore");
        }
    }
    // A segment that is gone, in the middle and at the start.
    for (index, path) in paths[..3].iter().enumerate() {
        let without = disk.power_cut(Keep::Everything);
        without.remove_file(path).expect("remove");
        match recover(&without, &options, start(1)) {
            Err(WalError::Missing { .. }) => assert_eq!(index, 0),
            Err(WalError::WalCorrupt { .. }) => assert!(index > 0),
            other => panic!("{other:?}"),
        }
    }
    // A segment that was cut, or that grew (M9, M10).
    for path in &paths[..3] {
        for len in [65_536 - 4096, 16_384, 65_536 + 4096, 65_537] {
            let cut = disk.power_cut(Keep::Everything);
            let how = pagestone_direct_io::OpenHow::write(pagestone_direct_io::DirectIo::Off);
            cut.open(path, &how).expect("open").set_len(len).expect("cut");
            let found = recover(&cut, &options, start(1));
            assert!(matches!(found, Err(WalError::WalCorrupt { .. })), "{found:?} at {len}");
        }
    }
}
