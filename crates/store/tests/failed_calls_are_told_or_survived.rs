//! Prevents: a store that answers wrongly, hangs, panics or forgets what it acknowledged because one call to the disk failed, or that
//! call and all after it (I1 to I18, R1 to R3, R5).

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use pagestone_direct_io::{Create, DirectIo, Disk, OpenHow};
use pagestone_store::{Store, StoreResult};
use pagestone_testkit::{DiskOp, ErrorLoop, Keep, SimDisk, StruckDisk};
use support::{DIR, open, verified_contents};

/// Keys that are put over and over.
const KEYS: u64 = 24;

enum Step {
    Put { from: u64, count: u64 },
    Remove(u64),
    Get { from: u64, count: u64 },
    Scan,
    Checkpoint,
    Sync,
    Reopen,
}

const SCRIPT: [Step; 14] = [
    Step::Put { from: 0, count: KEYS },
    Step::Get { from: 0, count: KEYS },
    Step::Remove(3),
    Step::Checkpoint,
    Step::Put { from: 2, count: 12 },
    Step::Scan,
    Step::Sync,
    Step::Reopen,
    Step::Get { from: 0, count: KEYS },
    Step::Put { from: 8, count: 12 },
    Step::Checkpoint,
    Step::Checkpoint,
    Step::Remove(9),
    Step::Get { from: 0, count: 10 },
];

/// After so many errors a run is over; earlier where all calls fail for good.
const ERRORS: u32 = 4;
const ERRORS_FOR_GOOD: u32 = 2;

fn key(number: u64) -> Vec<u8> {
    format!("/usr/share/doc/package-{number:04}/copyright").into_bytes()
}

/// So long that a few fill a page.
fn value(number: u64, round: u64) -> Vec<u8> {
    let mut value = format!("{number}:{round}:").into_bytes();
    value.resize(900, round as u8);
    value
}

/// Of each key the values that it may have, none among them: the acknowledged one in front, behind it those whose put or removal
/// failed. Durability is strict, so what is acknowledged is there after a power cut.
#[derive(Default)]
struct Known(BTreeMap<u64, Vec<Option<Vec<u8>>>>);

impl Known {
    fn changed(&mut self, number: u64, to: Option<Vec<u8>>, done: bool) {
        let may = self.0.entry(number).or_insert_with(|| vec![None]);
        if done {
            may.clear();
        }
        may.push(to);
    }

    fn judge(&self, number: u64, found: Option<Vec<u8>>) {
        match self.0.get(&number) {
            Some(may) => {
                assert!(may.contains(&found), "key {number}: a value that it cannot have: {found:?}")
            }
            None => assert!(found.is_none(), "key {number} was never put: {found:?}"),
        }
    }

    fn check(&self, disk: &SimDisk) -> Store {
        let store = open(disk).expect("opens where nothing fails");
        let found = verified_contents(&store).expect("a whole store");
        (0..KEYS).for_each(|number| self.judge(number, found.get(&key(number)).cloned()));
        assert!(found.keys().all(|found| (0..KEYS).any(|number| key(number) == *found)));
        store
    }
}

fn run(step: &Step, round: u64, store: &Store, known: &mut Known) -> StoreResult<()> {
    let tree = store.default_tree();
    match step {
        Step::Put { from, count } => (*from..from + count).try_for_each(|number| {
            let result = tree.put(&key(number), &value(number, round));
            known.changed(number, Some(value(number, round)), result.is_ok());
            result.map(drop)
        }),
        Step::Remove(number) => {
            let result = tree.remove(&key(*number));
            known.changed(*number, None, result.is_ok());
            result.map(drop)
        }
        Step::Get { from, count } => (*from..from + count).try_for_each(|number| {
            known.judge(number, tree.get(&key(number))?.map(|value| value.to_vec()));
            Ok(())
        }),
        Step::Scan => {
            let mut found = BTreeMap::new();
            for entry in tree.range::<&[u8]>(..) {
                let (key, value) = entry?;
                found.insert(key.to_vec(), value.to_vec());
            }
            (0..KEYS).for_each(|number| known.judge(number, found.get(&key(number)).cloned()));
            Ok(())
        }
        Step::Checkpoint => store.checkpoint(),
        Step::Sync => store.sync(),
        Step::Reopen => store.close(),
    }
}

/// What a process leaves that is killed while it makes a segment of the log; the next opening removes it.
fn leave_a_segment_half_made(disk: &SimDisk) {
    let how = OpenHow { create: Create::OpenOrNew, write: true, direct: DirectIo::Off };
    // A call to the disk like any other: it may be the one that fails.
    drop(disk.open(&Path::new(DIR).join("log/00000000000ff000.seg.new"), &how));
}

fn workload(struck: &StruckDisk) {
    let (disk, mut known, mut errors) = (&struck.disk, Known::default(), 0);
    let most = if struck.strike.for_good() { ERRORS_FOR_GOOD } else { ERRORS };
    let mut store: Option<Store> = None;
    'script: for (round, step) in (1..).zip(&SCRIPT) {
        let ready = loop {
            match store.take().map_or_else(|| open(disk), Ok) {
                Ok(ready) => break ready,
                Err(error) => {
                    assert!(struck.was_struck(), "{error}, and nothing failed");
                    errors += 1;
                    if errors >= most {
                        break 'script;
                    }
                }
            }
        };
        let result = run(step, round, &ready, &mut known);
        if let Err(error) = &result {
            assert!(struck.was_struck(), "{error}, and nothing failed");
            errors += 1;
            if errors >= most {
                break;
            }
            // Whether it lives on or not, nobody may be told otherwise by the next handle.
            if errors % 2 == 0 {
                continue;
            }
        }
        if matches!(step, Step::Reopen) {
            drop(ready);
            leave_a_segment_half_made(disk);
        } else {
            store = Some(ready);
        }
    }
    drop(store);
    assert_eq!(disk.audit(), []);
    disk.heal();
    for keep in [Keep::Synced, Keep::Random(1), Keep::Everything] {
        drop(known.check(&disk.power_cut(keep)));
    }
    let store = known.check(disk);
    for number in 0..KEYS {
        store.default_tree().put(&key(number), &value(number, 1000)).expect("writes again");
        known.changed(number, Some(value(number, 1000)), true);
    }
    store.close().expect("closes");
    drop(store);
    drop(known.check(&disk.power_cut(Keep::Synced)));
}

/// A store maps nothing, gives back no part of a file, and looks past the cache by direct I/O only.
const NOT_CALLED: [DiskOp; 4] = [DiskOp::DropCache, DiskOp::PunchHole, DiskOp::Map, DiskOp::Flush];

#[test]
fn store() {
    let ops: Vec<DiskOp> = DiskOp::ALL.into_iter().filter(|op| !NOT_CALLED.contains(op)).collect();
    let report = ErrorLoop::new(&ops).stride(97).run(workload);
    println!("{report:?}");
}
