//! Logs in which one byte after the other is flipped, and what a reader may make of each.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use pagestone_page_format::{Lsn, crc32c};
use pagestone_testkit::{Keep, SimDisk};
use pagestone_wal::{DurableBy, WalError, WalOptions, WalStart};

use super::{Id, append, commit, create, open, options, recover, replay, segments, start};

const BLOCK: usize = 4096;
/// Positions in a block that [`Log::flip_some`] flips.
pub(crate) const POSITIONS: usize = 64;

/// A log, and what a reader of its undamaged files finds.
pub(crate) struct Log {
    disk: SimDisk,
    options: WalOptions,
    from: WalStart,
    groups: Vec<Id>,
    ends: Vec<Lsn>,
    /// What blocks claim to have been durable.
    claim: Lsn,
    /// Blocks, by file and number in it, whose content stands nowhere else and that another block proves to have been durable.
    proved: HashSet<(PathBuf, usize)>,
}

impl Log {
    pub(crate) fn new(disk: SimDisk, options: WalOptions, from: WalStart) -> Self {
        let (mut groups, mut ends) = (Vec::new(), Vec::new());
        let mut recovery = open(&disk, &options, from.clone()).expect("open");
        groups.extend(replay(&mut recovery).expect("replay").0);
        recovery
            .replay(|group| {
                ends.push(group.end());
                Ok(())
            })
            .expect("replay");
        let (claim, proved) = proved(&disk, from.checkpoint);
        Self { disk, options, from, groups, ends, claim, proved }
    }

    /// A copy of it on a disk of its own.
    pub(crate) fn copy(&self) -> Self {
        Self::new(self.disk.power_cut(Keep::Everything), self.options.clone(), self.from.clone())
    }

    /// Every block of its files, in the order in which they stand.
    pub(crate) fn blocks(&self) -> Vec<(PathBuf, usize)> {
        let count = |path: &Path| self.disk.contents(path).expect("a file").len() / BLOCK;
        segments(&self.disk)
            .into_iter()
            .flat_map(|path| (0..count(&path)).map(move |block| (path.clone(), block)).collect::<Vec<_>>())
            .collect()
    }

    /// Flips a bit at [`POSITIONS`] places of a block, one in each 64 bytes, the header's among them.
    pub(crate) fn flip_some(&self, (path, block): &(PathBuf, usize), outcome: &mut Outcome) {
        let bytes = self.disk.contents(path).expect("a file");
        for line in 0..POSITIONS {
            let at =
                block * BLOCK + line * (BLOCK / POSITIONS) + (block * 37 + line * 11) % (BLOCK / POSITIONS);
            outcome.flips += 1;
            self.flip_one(path, at, bytes[at], outcome);
        }
    }

    /// Flips every `step`-th byte of every block that was ever written, and every byte of its header.
    pub(crate) fn flip(&self, step: usize) -> Outcome {
        let mut outcome = Outcome::default();
        for path in segments(&self.disk) {
            let bytes = self.disk.contents(&path).expect("a file");
            for at in 0..bytes.len() {
                let block = &bytes[at / BLOCK * BLOCK..][..BLOCK];
                if block.iter().all(|byte| *byte == 0) || (at % BLOCK > 64 && at % step != 0) {
                    continue;
                }
                outcome.flips += 1;
                self.flip_one(&path, at, bytes[at], &mut outcome);
            }
        }
        outcome
    }

    fn flip_one(&self, path: &PathBuf, at: usize, old: u8, outcome: &mut Outcome) {
        let must = self.ends.iter().filter(|end| **end <= self.claim).count();
        let proved = self.proved.contains(&(path.clone(), at / BLOCK));
        outcome.proved += u64::from(proved);
        let place = format!("byte {at} of {}", path.display());
        self.disk.overwrite(path, at as u64, &[old ^ (1 << (at % 8))]).expect("flip");
        match recover(&self.disk, &self.options, self.from.clone()) {
            Ok((found, _)) => {
                assert!(!proved, "{place}: damage before the tail was taken for its end");
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
pub(crate) struct Outcome {
    pub(crate) flips: u64,
    /// In blocks before the tail of which there is one copy: each was told.
    pub(crate) proved: u64,
    /// Everything was found all the same.
    pub(crate) harmless: u64,
    /// The last batch was lost: nothing proves that it was durable.
    pub(crate) tail: u64,
    pub(crate) corrupt: u64,
}

/// The newest version of a block, and every place that has it.
#[derive(Default)]
struct Version {
    generation: u64,
    used: u16,
    places: Vec<(PathBuf, usize)>,
}

/// What blocks claim to have been durable; and those blocks from the checkpoint on that end at or below that and stand in one place only, by file
/// and number in it. Read with nothing but the format's table.
fn proved(disk: &SimDisk, checkpoint: Lsn) -> (Lsn, HashSet<(PathBuf, usize)>) {
    let mut claim = 0;
    let mut newest: BTreeMap<u64, Version> = BTreeMap::new();
    for path in segments(disk) {
        for (index, block) in disk.contents(&path).expect("a file").chunks_exact(BLOCK).enumerate() {
            let word = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().unwrap());
            if &block[4..6] != b"PL" || crc32c(&block[4..]).to_le_bytes() != block[..4] {
                continue;
            }
            claim = claim.max(word(40)).max(if block[7] & 2 != 0 { word(32) } else { 0 });
            let (generation, used) = (word(24), u16::from_le_bytes([block[56], block[57]]));
            let known = newest.entry(word(32) / BLOCK as u64).or_default();
            if (generation, used) > (known.generation, known.used) {
                *known = Version { generation, used, places: Vec::new() };
            }
            if (generation, used) == (known.generation, known.used) {
                known.places.push((path.clone(), index));
            }
        }
    }
    let needed = |number: u64, used: u16| {
        let end = number * BLOCK as u64 + 64 + u64::from(used);
        end <= claim && end > checkpoint.get()
    };
    let proved = newest
        .into_iter()
        .filter(|(number, version)| needed(*number, version.used) && version.places.len() == 1)
        .flat_map(|(_, version)| version.places);
    (Lsn::new(claim), proved.collect())
}

/// A log of so many bytes at least, of lives that each end in a power cut, by turns by each durable write.
pub(crate) fn crashed_again_and_again(bytes: u64, lives: u64) -> Log {
    let mut options = WalOptions { log_bytes: 4 * bytes, ..options() };
    let mut disk = SimDisk::new(7);
    create(&disk, &options);
    let mut found = 0;
    for life in 1..=lives {
        options.durable_by = Some(DurableBy::ALL[life as usize % DurableBy::ALL.len()]);
        let wal = open(&disk, &options, start(life - 1)).expect("open").start(life).expect("start");
        let mut number = 0;
        while wal.end_lsn().get() < bytes * life / lives {
            let len = [300, 2500, 9000, 40, 5000][number as usize % 5];
            match number % 3 {
                0 => drop(commit(&wal, (life as u32, number), len)),
                _ => drop(append(&wal, (life as u32, number), len)),
            }
            number += 1;
        }
        wal.flush().expect("flush");
        disk.settle();
        append(&wal, (life as u32, number), 6000);
        wal.flush().expect("flush");
        drop(wal);
        disk = disk.power_cut(Keep::Random(life));
        let groups = recover(&disk, &options, start(life)).expect("recover").0.len();
        assert!(groups > found, "life {life} left nothing");
        found = groups;
    }
    Log::new(disk, options, start(lives))
}
