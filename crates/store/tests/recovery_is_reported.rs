//! Prevents: recovery over the cores that leaves another store than recovery by one thread; a long recovery that looks like a hang;
//! figures of an opening that are not those of the log; a page that is bad and is met by a thread of redo ending in a hang.

use std::collections::BTreeMap;
use std::path::Path;

use pagestone_direct_io::DirectIo;
use pagestone_page_format::PageError;
use pagestone_store::{
    Background, Durability, OpenReport, Options, RecoveryProgress, RecoveryStep, Store, StoreError,
    TornWrites,
};

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn options(background: Background, direct_io: DirectIo, torn_writes: TornWrites) -> Options {
    Options {
        pool_bytes: 2 << 20,
        log_bytes: 64 << 20,
        segment_bytes: 4 << 20,
        durability: Durability::Relaxed { interval: std::time::Duration::from_secs(1000) },
        background,
        direct_io,
        torn_writes,
        ..Options::default()
    }
}

/// Files of a store as a kill leaves them: nothing is written but what the disk has.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("there") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a kind").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Puts and removes keys at random until there are some mebibytes of log; makes it durable; copies the files.
fn killed(dir: &Path, seed: u64, options: &Options) -> Contents {
    let live = dir.join("live");
    let store = Store::open(&live, options.clone()).expect("made");
    let (tree, mut contents, mut random) = (store.default_tree(), Contents::new(), seed | 1);
    for step in 0..40_000_u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = (random >> 33) % 20_000;
        let key = key.to_be_bytes().to_vec();
        if random >> 60 == 0 {
            tree.remove(&key).expect("removed");
            contents.remove(&key);
        } else {
            let value = step.to_be_bytes().repeat(1 + (random >> 50) as usize % 40);
            tree.put(&key, &value).expect("put");
            contents.insert(key, value);
        }
        if step == 10_000 {
            store.checkpoint().expect("written");
        }
    }
    store.sync().expect("durable");
    copy(&live, &dir.join("killed"));
    contents
}

fn entries(store: &Store) -> Contents {
    let all = store.default_tree().range::<&[u8]>(..);
    all.map(|entry| entry.expect("reads")).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// What redo did, without what depends on who was evicted when.
fn done(report: &OpenReport) -> [u64; 6] {
    let OpenReport { groups, records, log_bytes, applied, skipped, reformatted, .. } = *report;
    [groups, records, log_bytes, applied, skipped, reformatted]
}

#[test]
fn over_the_cores_it_gives_what_one_thread_gives() {
    for (seed, direct_io) in [(1, DirectIo::Prefer), (2, DirectIo::Off), (3, DirectIo::Prefer)] {
        let dir = tempfile::tempdir().expect("a directory");
        let one = options(Background::Manual, direct_io, TornWrites::DoubleWrite);
        let expected = killed(dir.path(), seed, &one);
        let many = Options { background: Background::Threads, ..one.clone() };
        let mut reports = Vec::new();
        for (name, options) in [("one", one), ("many", many)] {
            let dir_of = dir.path().join(name);
            copy(&dir.path().join("killed"), &dir_of);
            let store = Store::open(&dir_of, options).expect("recovered");
            assert!(entries(&store) == expected, "seed {seed}, {name}");
            assert!(store.verify().expect("looked at").is_sound(), "seed {seed}, {name}");
            reports.push(store.open_report().clone());
        }
        assert_eq!(done(&reports[0]), done(&reports[1]), "seed {seed}");
    }
}

#[test]
fn the_report_and_the_progress_are_those_of_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = options(Background::Manual, DirectIo::Off, TornWrites::DoubleWrite);
    killed(dir.path(), 4, &options);
    let mut told: Vec<RecoveryProgress> = Vec::new();
    let store = Store::open_with_progress(dir.path().join("killed"), options, |now| told.push(now));
    let store = store.expect("recovered");
    let report = store.open_report();
    assert!(report.groups > 20_000 && report.records >= report.groups, "{report:?}");
    assert!(report.log_bytes > 3 << 20 && report.pages_read > 0 && report.applied > 0, "{report:?}");
    assert_eq!(report.restored, 0);
    let mut steps: Vec<RecoveryStep> = told.iter().map(|now| now.step).collect();
    steps.dedup();
    use RecoveryStep::{Log, Redo, TornPages};
    assert_eq!(steps, [Log, TornPages, Redo], "the log has room: nothing is written out");
    assert_eq!(report.took_by_step.iter().map(|(step, _)| *step).collect::<Vec<_>>(), steps);
    assert!(told.iter().all(|now| now.done <= now.of), "{told:?}");
    for step in [Log, Redo] {
        let of_step: Vec<u64> = told.iter().filter(|now| now.step == step).map(|now| now.done).collect();
        assert!(of_step.len() as u64 > (report.log_bytes >> 20) - 1, "{step:?}: {of_step:?}");
        assert!(of_step.is_sorted_by(|a, b| a < b), "{step:?}: {of_step:?}");
    }
}

#[test]
fn a_bad_page_that_redo_needs_is_a_typed_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = options(Background::Manual, DirectIo::Off, TornWrites::Off);
    killed(dir.path(), 5, &options);
    let (killed, mut refused) = (dir.path().join("killed"), 0);
    let data = std::fs::read(killed.join("data")).expect("reads");
    // Behind the superblock and the pages that opening reads anyway, some pages of the checkpoint.
    for page in (6..data.len() / 4096).step_by(data.len() / 4096 / 12) {
        let name = dir.path().join(format!("bad{page}"));
        copy(&killed, &name);
        let mut bytes = data.clone();
        bytes[page * 4096 + 2000] ^= 1;
        std::fs::write(name.join("data"), bytes).expect("written");
        let threads = Options { background: Background::Threads, ..options.clone() };
        match Store::open(&name, threads) {
            Err(StoreError::Page(PageError::ChecksumMismatch { .. })) => refused += 1,
            Err(StoreError::Wal(pagestone_wal::WalError::Page(PageError::ChecksumMismatch { .. }))) => {
                refused += 1
            }
            Err(error) => panic!("page {page}: {error}"),
            Ok(_) => {} // a page that the log does not name, or makes from nothing
        }
    }
    assert!(refused > 3, "{refused} openings met their bad page: the premise is gone");
}
