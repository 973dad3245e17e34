//! Prevents: a page that is lost because a write of it was cut, or failed, while its only whole copy was being written over; an old
//! copy in the place of a newer page; a sync that is tried again (C4, I7, I9, R6).

use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{DirectIo, Disk, DoubleWrite, DoubleWriteFile, OpenHow, PageFile, SharedSync};
use pagestone_page_format::{
    ChecksumKind, Lsn, Page, PageChecksum, PageError, PageId, PageResult, PageSize, PageStore, Poison,
    StoreUuid,
};
use pagestone_testkit::{AfterFailedSync, CrashOptions, DiskOp, FaultPlan, Keep, Rng, SimDisk, SimOptions};

const DATA: &str = "/data";
const COPIES: &str = "/doublewrite";
const EIO: i32 = 5;
const UUID: StoreUuid = StoreUuid::new([4; 16]);

fn checksum() -> PageChecksum {
    PageChecksum::new(ChecksumKind::Crc32c, UUID)
}

fn size(bytes: usize) -> PageSize {
    PageSize::new(bytes).expect("a size")
}

/// Both files, empty and durable, the first with room for `pages` pages of version 0.
fn made(disk: &SimDisk, bytes: usize, pages: u64) {
    for path in [DATA, COPIES] {
        disk.open(Path::new(path), &OpenHow::create_new(DirectIo::Prefer)).expect("made");
    }
    disk.sync_dir(Path::new("/")).expect("synced");
    let store = open(disk, bytes).expect("empty");
    store.grow(pages).expect("grown");
    let mut batch: Vec<Page> = (0..pages).map(|id| page(&store, id, 0)).collect();
    store.write_new(&mut batch).expect("written");
    store.sync().expect("synced");
}

type Twice = DoubleWrite<PageFile>;

/// Recovers and opens; gives pages restored too.
fn reopen(disk: &SimDisk, bytes: usize) -> PageResult<(Twice, u64)> {
    let open = |path| disk.open(Path::new(path), &OpenHow::write(DirectIo::Prefer));
    let io = |error| PageError::io("open", error);
    let data = Arc::new(SharedSync::new(open(DATA).map_err(io)?));
    let pages = PageFile::new(data, 0, size(bytes), checksum());
    let found = DoubleWriteFile::read(open(COPIES).map_err(io)?, size(bytes), UUID, checksum())?;
    let restored = found.restore(&pages, Lsn::ZERO, Lsn::MAX)?;
    let count = restored.pages();
    Ok((restored.write_twice(pages, Poison::new()), count))
}

fn open(disk: &SimDisk, bytes: usize) -> PageResult<Twice> {
    reopen(disk, bytes).map(|(store, _)| store)
}

/// Every sector of it tells its version.
fn page(store: &dyn PageStore, id: u64, version: u64) -> Page {
    let mut page = store.allocate_page(PageId::new(id));
    page.set_lsn(Lsn::new(version));
    for chunk in page.payload_mut().chunks_mut(16) {
        chunk[..8].copy_from_slice(&version.to_le_bytes());
    }
    page
}

fn version(store: &dyn PageStore, id: u64) -> PageResult<u64> {
    let mut page = store.allocate_page(PageId::new(id));
    store.read_into(PageId::new(id), &mut page)?;
    Ok(page.lsn().get())
}

fn ids_of(random: &mut Rng, pages: u64, most: u64) -> Vec<u64> {
    let mut ids: Vec<u64> = (0..1 + random.below(most)).map(|_| random.below(pages)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn write(store: &dyn PageStore, ids: &[u64], version: u64) -> PageResult<()> {
    let mut batch: Vec<Page> = ids.iter().map(|id| page(store, *id, version)).collect();
    store.write_many(&mut batch)
}

/// Batches, with a sync now and then. `versions[n][id]` is what page `id` had when the `n`th sync was acknowledged.
fn batches(disk: &SimDisk, store: &dyn PageStore, pages: u64, count: u64, versions: &mut Vec<Vec<u64>>) {
    let mut random = Rng::new(count);
    let mut now = versions.last().expect("the first versions").clone();
    for number in 1..=count {
        let ids = ids_of(&mut random, pages, 4);
        let version = now.iter().max().expect("pages") + 1;
        write(store, &ids, version).expect("a healthy disk");
        ids.iter().for_each(|id| now[*id as usize] = version);
        if number % 4 == 0 {
            store.sync().expect("a healthy disk");
            versions.push(now.clone());
            disk.note(versions.len() as u64 - 1);
        }
    }
}

/// Every page is whole and at least as new as at the last sync that was acknowledged.
fn check(store: &dyn PageStore, synced: &[u64], explain: &dyn Fn() -> String) {
    for (id, synced) in synced.iter().enumerate() {
        let found = version(store, id as u64).unwrap_or_else(|error| panic!("{error}: {}", explain()));
        assert!(found >= *synced, "page {id} of version {found}, {synced} was synced: {}", explain());
    }
}

fn cuts() -> CrashOptions {
    CrashOptions {
        exhaustive_max: 32,
        pairs_max: 8,
        splits_max: 8,
        torn_writes: 4,
        ..CrashOptions::default()
    }
}

#[test]
fn every_cut_leaves_whole_pages_and_so_does_every_cut_of_the_recovery() {
    const PAGES: u64 = 12;
    let disk = SimDisk::new(3);
    made(&disk, 4096, PAGES);
    disk.settle();
    let mut versions = vec![vec![0; PAGES as usize]];
    batches(&disk, &open(&disk, 4096).expect("opens"), PAGES, 24, &mut versions);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    let few = CrashOptions { exhaustive_max: 4, pairs_max: 0, splits_max: 4, random: 2, ..cuts() };
    let (mut images, mut torn, mut again) = (0, 0, 0);
    for image in disk.crash_states(&cuts()) {
        let synced = &versions[image.acknowledged().last().map_or(0, |last| *last as usize)];
        let crashed = image.disk();
        let (store, restored) =
            reopen(&crashed, 4096).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        check(&store, synced, &|| image.explain());
        images += 1;
        torn += u64::from(restored > 0);
        if restored == 0 || torn % 16 != 0 {
            continue;
        }
        // Goes on, so that regions are written over, and is cut again.
        write(&store, &[0, 5], 1000).expect("a healthy disk");
        for second in crashed.crash_states(&few) {
            let explain = || format!("{} after {}", second.explain(), image.explain());
            let store = open(&second.disk(), 4096).unwrap_or_else(|error| panic!("{error}: {}", explain()));
            check(&store, synced, &explain);
            again += 1;
        }
    }
    assert!(images > 500 && torn > 100 && again > 500, "{images} images, {torn} torn, {again} of recoveries");
}

/// The regions of one batch share a sync, and protect its pages all the same.
#[test]
fn batch_of_several_regions_is_whole_after_a_cut() {
    const BYTES: usize = 64 << 10;
    let all: Vec<u64> = (0..40).collect();
    let disk = SimDisk::new(5);
    made(&disk, BYTES, 40);
    disk.settle();
    let store = open(&disk, BYTES).expect("opens");
    for version in 1..=3 {
        write(&store, &all, version).expect("a healthy disk");
    }
    let stats = store.stats();
    assert_eq!((stats.regions, stats.pages, stats.syncs, stats.data_syncs), (6, 120, 3, 0), "31 and 9 pages");
    assert_eq!(stats.bytes, 126 * BYTES as u64);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    let few = CrashOptions { exhaustive_max: 2, pairs_max: 0, splits_max: 2, random: 4, ..cuts() };
    let (mut images, mut torn) = (0, 0);
    for image in disk.crash_states(&few) {
        let (store, restored) =
            reopen(&image.disk(), BYTES).unwrap_or_else(|error| panic!("{error}: {}", image.explain()));
        check(&store, &[0; 40], &|| image.explain());
        images += 1;
        torn += u64::from(restored > 0);
    }
    assert!(images > 50 && torn > 20, "{images} images, {torn} torn");
}

/// Any call fails once, or from there on; what was written before is whole after a power cut, whatever it keeps.
#[test]
fn failed_call_costs_no_page() {
    const PAGES: u64 = 12;
    let made_disk = SimDisk::new(3);
    made(&made_disk, 4096, PAGES);
    let plans: [(&str, FaultPlan); 5] = [
        ("fails once", FaultPlan::errno(EIO)),
        ("fails from there on", FaultPlan::errno(EIO).forever()),
        ("tears a page", FaultPlan::torn(EIO, 1024).path(|path| path == Path::new(DATA))),
        (
            "tears pages from there on",
            FaultPlan::torn(EIO, 512).path(|path| path == Path::new(DATA)).forever(),
        ),
        ("tears copies", FaultPlan::torn(EIO, 5000).path(|path| path == Path::new(COPIES))),
    ];
    for (how, plan) in plans {
        let mut injected = 0;
        for skip in 0.. {
            let disk = made_disk.power_cut(Keep::Everything);
            let store = open(&disk, 4096).expect("a healthy disk");
            let fault = disk.fail(plan.clone().skip(skip));
            let mut random = Rng::new(skip);
            let (mut synced, mut now) = (vec![0; PAGES as usize], vec![0; PAGES as usize]);
            for version in 1..=40 {
                let ids = ids_of(&mut random, PAGES, 4);
                if write(&store, &ids, version).is_ok() {
                    ids.iter().for_each(|id| now[*id as usize] = version);
                }
                if version % 5 == 0 && store.sync().is_ok() {
                    synced.clone_from(&now);
                }
            }
            assert_eq!(disk.audit(), [], "{how} at call {skip}");
            let done = disk.injected(fault) == 0;
            injected += disk.injected(fault);
            for keep in [Keep::Synced, Keep::Everything, Keep::Random(skip), Keep::Random(skip + 1000)] {
                let cut = disk.power_cut(keep);
                let explain = || format!("{how} at call {skip}, {keep:?} kept");
                let store = open(&cut, 4096).unwrap_or_else(|error| panic!("{error}: {}", explain()));
                check(&store, &synced, &explain);
            }
            if done {
                break;
            }
        }
        assert!(injected > 20, "{how}: only {injected} faults");
    }
}

/// What a failed sync of the data file lost, or half wrote, may look whole to the next handle of a system that was not cut.
#[test]
fn failed_sync_poisons_and_the_next_handle_loses_nothing() {
    const PAGES: u64 = 12;
    for after in AfterFailedSync::ALL {
        for path in [DATA, COPIES] {
            for seed in 0..24 {
                let disk = SimDisk::new(seed);
                made(&disk, 4096, PAGES);
                let store = open(&disk, 4096).expect("a healthy disk");
                let fault =
                    disk.fail(FaultPlan::failed_sync(EIO, after).path(move |at| at == Path::new(path)));
                let mut random = Rng::new(seed);
                let mut failure = None;
                for version in 1..=12 {
                    let done = write(&store, &ids_of(&mut random, PAGES, 4), version)
                        .and_then(|()| if version % 3 == 0 { store.sync() } else { Ok(()) });
                    failure = failure.or(done.err());
                }
                assert_eq!(disk.injected(fault), 1);
                let failure = failure.expect("a sync that fails is told");
                assert!(matches!(failure, PageError::Poisoned { .. }), "{failure}");
                let refused = write(&store, &[1], 99).expect_err("sticky");
                assert!(matches!(refused, PageError::Poisoned { .. }), "{refused}");
                assert_eq!(disk.audit(), [], "{after:?} of {path}");
                drop(store);
                disk.heal();
                // Another handle, then the power goes.
                let store = open(&disk, 4096).expect("opens");
                write(&store, &[3, 4, 5], 50).expect("a healthy disk");
                drop(store);
                for keep in [Keep::Synced, Keep::Everything, Keep::Random(seed), Keep::Random(seed + 1000)] {
                    let explain = || format!("{after:?} of {path}, seed {seed}, {keep:?} kept");
                    let store = open(&disk.power_cut(keep), 4096)
                        .unwrap_or_else(|error| panic!("{error}: {}", explain()));
                    check(&store, &[0; PAGES as usize], &explain);
                }
            }
        }
    }
}

/// Threads write more than all regions hold at once: regions are waited for, freed by syncs, and never shared.
#[test]
fn threads_share_the_regions() {
    const BYTES: usize = 64 << 10;
    const THREADS: u64 = 4;
    const EACH: u64 = 10;
    let disk = SimDisk::with(SimOptions { seed: 8, yield_in_writes: true, ..SimOptions::default() });
    made(&disk, BYTES, THREADS * EACH);
    disk.settle();
    let store = open(&disk, BYTES).expect("opens");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || {
                let mut random = Rng::new(thread);
                for version in 1..=40 {
                    let ids: Vec<u64> =
                        ids_of(&mut random, EACH, 8).iter().map(|id| thread * EACH + id).collect();
                    write(store, &ids, version).expect("a healthy disk");
                }
            });
        }
    });
    let stats = store.stats();
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    assert_eq!(stats.regions, THREADS * 40);
    assert!(stats.data_syncs > 0 && stats.data_syncs < stats.regions / 4, "{stats:?}");
    assert_eq!(stats.file_bytes, 8 << 20, "no longer than it may be");
    let (mut torn, mut random) = (0, Rng::new(0));
    for _ in 0..16 {
        let (store, restored) =
            reopen(&disk.power_cut(Keep::Random(random.next_u64())), BYTES).expect("recovers");
        check(&store, &[0; (THREADS * EACH) as usize], &|| "a random cut".into());
        torn += restored;
    }
    assert!(torn > 0, "no page was torn");
}

#[test]
fn full_disk_is_no_space_and_passes() {
    const ENOSPC: i32 = 28;
    let disk = SimDisk::new(1);
    made(&disk, 4096, 400);
    let store = open(&disk, 4096).expect("opens");
    write(&store, &[1], 1).expect("a region of two slots");
    let all: Vec<u64> = (0..400).collect();
    let full = disk.fail(FaultPlan::errno(ENOSPC).on(DiskOp::Reserve).forever());
    // In as many regions as there is room for, with a sync of the data file between them.
    write(&store, &all, 2).expect("smaller regions");
    assert!(disk.injected(full) > 0 && store.stats().regions > 10);
    disk.heal();
    write(&store, &all, 3).expect("room again");
    assert!(store.stats().file_bytes > 1 << 20);
    for id in all {
        assert_eq!(version(&store, id).expect("whole"), 3);
    }
}

#[test]
fn page_without_a_place_is_refused_before_anything_is_written() {
    let disk = SimDisk::new(1);
    made(&disk, 4096, 4);
    let store = open(&disk, 4096).expect("opens");
    let past = store.len().expect("a length");
    let before = disk.journal_len();
    let error = write(&store, &[1, past], 1).expect_err("past the end");
    assert!(matches!(error, PageError::InvalidPageId { page_id } if page_id.get() == past), "{error}");
    let mut large = Page::new(size(8192), PageId::new(1));
    assert!(matches!(store.write_page(&mut large), Err(PageError::InvalidPageSize { size: 8192 })));
    assert_eq!(disk.journal_len(), before);
}

#[test]
fn newest_needed_copy_is_taken_and_no_other() {
    let disk = SimDisk::new(1);
    made(&disk, 4096, 8);
    let store = open(&disk, 4096).expect("opens");
    for version in 1..=3 {
        write(&store, &[1, 2], version).expect("written");
    }
    // The same LSN twice: the later one counts.
    let mut last = page(&store, 2, 3);
    last.payload_mut().fill(0x77);
    store.write_page(&mut last).expect("written");
    let torn = |disk: &SimDisk, id: u64| {
        let torn = disk.power_cut(Keep::Everything);
        torn.overwrite(DATA, id * 4096 + 512, &[0xa5; 3584]).expect("there");
        torn
    };
    let (restored, count) = reopen(&torn(&disk, 1), 4096).expect("recovers");
    assert_eq!((version(&restored, 1).expect("whole"), count), (3, 1));
    let (restored, _) = reopen(&torn(&disk, 2), 4096).expect("recovers");
    let mut found = restored.allocate_page(PageId::new(2));
    restored.read_into(PageId::new(2), &mut found).expect("whole");
    assert!(found.payload().iter().all(|byte| *byte == 0x77), "the earlier region's");
    // Durable in its place, and a later region says so: the copies that are still in the file are not taken.
    store.sync().expect("synced");
    write(&store, &[5], 9).expect("written");
    let (restored, count) = reopen(&torn(&disk, 1), 4096).expect("recovers");
    let error = version(&restored, 1).expect_err("nothing to restore it from");
    assert!(matches!(error, PageError::ChecksumMismatch { .. }) && count == 0, "{error}");
}
