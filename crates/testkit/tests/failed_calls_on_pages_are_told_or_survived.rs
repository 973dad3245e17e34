//! Prevents: a page file, a double-write file or a pool that answers wrongly, hangs, panics or forgets what a sync acknowledged because
//! one call to the disk failed, or that call and all after it (I1 to I18, R1, R3, R5).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pagestone_buffer_pool::BufferPool;
use pagestone_direct_io::{
    Create, DirectIo, Disk, DoubleWriteFile, File, OpenHow, PageFile, PageFileOptions, SharedSync,
    lock_within,
};
use pagestone_page_format::{
    ChecksumKind, DEFAULT_PAGE_SIZE, Lsn, Page, PageChecksum, PageError, PageId, PageResult, PageStore,
    Poison, StoreUuid,
};
use pagestone_testkit::{DiskOp, ErrorLoop, Keep, SimDisk, StruckDisk};

/// What the loop is run over.
trait Stack {
    /// Writes version `version` of these pages.
    fn write(&self, ids: &[u64], version: u64) -> PageResult<()>;
    /// The versions of these pages.
    fn read(&self, ids: &[u64]) -> Vec<PageResult<u64>>;
    fn sync(&self) -> PageResult<()>;
    fn grow(&self, pages: u64) -> PageResult<()>;
    fn len(&self) -> PageResult<u64>;
}

type Open = fn(&SimDisk) -> PageResult<Box<dyn Stack>>;

/// Every word behind the header is the version.
fn fill(payload: &mut [u8], version: u64) {
    payload.chunks_mut(8).for_each(|word| word.copy_from_slice(&version.to_le_bytes()[..word.len()]));
}

fn version(payload: &[u8]) -> u64 {
    let version = u64::from_le_bytes(payload[..8].try_into().expect("eight bytes"));
    let whole = payload.chunks(8).all(|word| *word == version.to_le_bytes()[..word.len()]);
    assert!(whole, "a page of two versions was believed");
    version
}

struct Pages<S>(S);

impl<S: PageStore> Stack for Pages<S> {
    fn write(&self, ids: &[u64], version: u64) -> PageResult<()> {
        let page = |id: &u64| {
            let mut page = self.0.allocate_page(PageId::new(*id));
            page.set_lsn(Lsn::new(version));
            fill(page.payload_mut(), version);
            page
        };
        let mut pages: Vec<Page> = ids.iter().map(page).collect();
        match pages.as_mut_slice() {
            [alone] => self.0.write_page(alone),
            pages => self.0.write_many(pages),
        }
    }

    fn read(&self, ids: &[u64]) -> Vec<PageResult<u64>> {
        let ids: Vec<PageId> = ids.iter().map(|id| PageId::new(*id)).collect();
        let mut pages: Vec<Page> = ids.iter().map(|id| self.0.allocate_page(*id)).collect();
        let results = match pages.as_mut_slice() {
            [alone] => vec![self.0.read_into(ids[0], alone)],
            pages => self.0.read_many(&ids, pages),
        };
        results
            .into_iter()
            .zip(&pages)
            .map(|(result, page)| result.map(|()| version(page.payload())))
            .collect()
    }

    fn sync(&self) -> PageResult<()> {
        self.0.sync()
    }

    fn grow(&self, pages: u64) -> PageResult<()> {
        self.0.grow(pages)
    }

    fn len(&self) -> PageResult<u64> {
        self.0.len()
    }
}

struct Pool(BufferPool);

impl Stack for Pool {
    fn write(&self, ids: &[u64], version: u64) -> PageResult<()> {
        for id in ids {
            let page = match self.0.fetch(PageId::new(*id)) {
                Ok(page) => page,
                // Never written, or torn: what it held does not matter.
                Err(
                    PageError::BadMagic { .. }
                    | PageError::ShortRead { .. }
                    | PageError::ChecksumMismatch { .. },
                ) => self.0.new_page(PageId::new(*id))?,
                Err(error) => return Err(error),
            };
            fill(page.write()?.payload_mut(), version);
        }
        Ok(())
    }

    fn read(&self, ids: &[u64]) -> Vec<PageResult<u64>> {
        let mut results: Vec<PageResult<u64>> = Vec::new();
        for id in ids {
            let read = || Ok(version(self.0.fetch(PageId::new(*id))?.read()?.payload()));
            // What fails for good is waited for each time: once is enough.
            if results.last().is_none_or(Result::is_ok) {
                results.push(read());
            }
        }
        results
    }

    fn sync(&self) -> PageResult<()> {
        self.0.checkpoint()
    }

    fn grow(&self, pages: u64) -> PageResult<()> {
        self.0.store().grow(pages)
    }

    fn len(&self) -> PageResult<u64> {
        self.0.store().len()
    }
}

fn page_file(disk: &SimDisk) -> PageResult<PageFile> {
    PageFileOptions::new().open_on(disk, Path::new("/pages"))
}

fn open_page_file(disk: &SimDisk) -> PageResult<Box<dyn Stack>> {
    Ok(Box::new(Pages(page_file(disk)?)))
}

fn open_pool(disk: &SimDisk) -> PageResult<Box<dyn Stack>> {
    Ok(Box::new(Pool(BufferPool::new(page_file(disk)?, FRAMES))))
}

fn open_double_write(disk: &SimDisk) -> PageResult<Box<dyn Stack>> {
    let how = OpenHow { create: Create::OpenOrNew, write: true, direct: DirectIo::Prefer };
    let open = |path: &Path| disk.open(path, &how).map_err(|error| PageError::io("open", error));
    let data = open(Path::new("/data"))?;
    lock_within(&*data, Path::new("/data"), std::time::Duration::ZERO)?;
    let copies = open(Path::new("/copies"))?;
    disk.sync_dir(Path::new("/")).map_err(|error| PageError::io("sync the directory", error))?;
    let (size, uuid) = (DEFAULT_PAGE_SIZE, StoreUuid::new([4; 16]));
    let checksum = PageChecksum::new(ChecksumKind::Crc32c, uuid);
    let data: Arc<dyn File> = Arc::new(SharedSync::new(data));
    let pages = PageFile::new(data, 0, size, checksum.clone());
    let restored =
        DoubleWriteFile::read(copies, size, uuid, checksum)?.restore(&pages, Lsn::ZERO, Lsn::MAX)?;
    Ok(Box::new(Pages(restored.write_twice(pages, Poison::new()))))
}

enum Step {
    Grow(u64),
    Write(&'static [u64]),
    Read(&'static [u64]),
    Sync,
    Reopen,
}

/// Frames of the pool.
const FRAMES: usize = 8;
/// Twice as many pages.
const ALL: [u64; 2 * FRAMES] = {
    let mut all = [0; 2 * FRAMES];
    let mut id = 0;
    while id < all.len() {
        all[id] = id as u64;
        id += 1;
    }
    all
};

const SCRIPT: [Step; 20] = [
    Step::Grow(ALL.len() as u64),
    Step::Write(&[0]),
    Step::Write(&[3]),
    Step::Read(&[0]),
    Step::Sync,
    Step::Write(&ALL),
    Step::Read(&ALL),
    Step::Sync,
    Step::Write(&[3]),
    Step::Write(&[1, 2, 7, 5]),
    Step::Read(&[5, 3, 1, 6]),
    Step::Grow(4 * ALL.len() as u64),
    Step::Sync,
    Step::Write(&[6, 4]),
    Step::Reopen,
    Step::Read(&ALL),
    Step::Write(&[0, 1, 4]),
    Step::Sync,
    Step::Write(&[1]),
    Step::Read(&[0, 1, 4]),
];

/// After so many errors a run is over; earlier where all calls fail for good, which are waited for each time.
const ERRORS: u32 = 5;
const ERRORS_FOR_GOOD: u32 = 2;

/// A version that no page has: torn by a write that failed, or never written.
const UNREADABLE: u64 = u64::MAX;

/// What each page may be.
#[derive(Default)]
struct Known {
    /// Versions that a page may show now; more than one after a write that failed.
    live: BTreeMap<u64, Vec<u64>>,
    /// Versions since the last sync that was acknowledged, and the one that it covered in front; only that one if nothing was written.
    since_sync: BTreeMap<u64, Vec<u64>>,
    /// Pages whose first version a sync has covered.
    synced: Vec<u64>,
}

impl Known {
    fn written(&mut self, ids: &[u64], version: u64, done: bool) {
        for id in ids {
            let live = self.live.entry(*id).or_default();
            match done {
                true => live.clear(),
                false => live.push(UNREADABLE),
            }
            live.push(version);
            self.since_sync.entry(*id).or_default().extend([UNREADABLE, version]);
        }
    }

    /// Everything that was written for sure is durable.
    fn synced(&mut self) {
        for (id, live) in &self.live {
            if let [version] = live.as_slice() {
                self.since_sync.insert(*id, vec![*version]);
                self.synced.push(*id);
            }
        }
    }

    /// The handle ended: what is found is anything since the last sync.
    fn reopened(&mut self) {
        self.live = self.since_sync.clone();
    }

    fn judge(&self, id: u64, read: &PageResult<u64>, struck: &StruckDisk) {
        match read {
            Ok(version) => {
                let live = self.live.get(&id).map(Vec::as_slice).unwrap_or_default();
                assert!(live.contains(version), "page {id} shows version {version}, may show {live:?}");
            }
            Err(error) => {
                let certain = matches!(self.live.get(&id).map(Vec::as_slice), Some([_]));
                assert!(!certain || struck.was_struck(), "page {id}: {error}, and nothing failed");
            }
        }
    }

    /// After a reopening of a disk on which nothing fails any more. What is written twice is never torn.
    fn check(&self, stack: &dyn Stack, twice: bool) {
        for id in &ALL {
            let found = stack.read(&[*id]).pop().expect("one result");
            let may = self.since_sync.get(id).map(Vec::as_slice).unwrap_or_default();
            match found {
                Ok(version) => {
                    assert!(may.contains(&version), "page {id} of version {version}, may be {may:?}")
                }
                Err(error) => {
                    let acknowledged = self.synced.contains(id) && (twice || may.len() == 1);
                    assert!(!acknowledged, "page {id} was acknowledged as {may:?}: {error}");
                }
            }
        }
    }
}

/// Runs the script, opening again and again until it works or it has failed too often; then looks at what was left on a disk on which
/// nothing fails, with the power cut at that instant and without.
fn workload(struck: &StruckDisk, open: Open, twice: bool) {
    let (disk, mut known, mut errors) = (&struck.disk, Known::default(), 0);
    let most = if struck.strike.for_good() { ERRORS_FOR_GOOD } else { ERRORS };
    let mut stack: Option<Box<dyn Stack>> = None;
    let mut told = |error: PageError| {
        assert!(struck.was_struck(), "{error}, and nothing failed");
        errors += 1;
        errors < most
    };
    'script: for (version, step) in (1..).zip(&SCRIPT) {
        let ready = loop {
            match stack.take().map_or_else(|| open(disk), Ok) {
                Ok(ready) => break ready,
                Err(error) => {
                    if !told(error) {
                        break 'script;
                    }
                }
            }
        };
        let result = match step {
            Step::Grow(pages) => {
                ready.grow(*pages).and_then(|()| ready.len()).map(|len| assert!(len >= *pages, "{len}"))
            }
            Step::Write(ids) => {
                let result = ready.write(ids, version);
                known.written(ids, version, result.is_ok());
                result
            }
            Step::Read(ids) => {
                let results = ready.read(ids);
                ids.iter().zip(&results).for_each(|(id, read)| known.judge(*id, read, struck));
                results.into_iter().find_map(Result::err).map_or(Ok(()), Err)
            }
            Step::Sync => ready.sync().map(|()| known.synced()),
            Step::Reopen => {
                drop(ready);
                known.reopened();
                continue;
            }
        };
        match result {
            Ok(()) => stack = Some(ready),
            Err(error) => {
                let poisoned = matches!(error, PageError::Poisoned { .. });
                // A failed sync is sticky (R5): the handle that told it must not say later that all is durable.
                if matches!(step, Step::Sync) && ready.sync().is_ok() {
                    assert!(disk.audit().is_empty(), "a sync was tried again");
                    known.synced();
                }
                if !told(error) {
                    break;
                }
                if poisoned {
                    drop(ready);
                    known.reopened();
                } else {
                    stack = Some(ready);
                }
            }
        }
    }
    drop(stack);
    assert_eq!(disk.audit(), []);
    disk.heal();
    for keep in [Keep::Synced, Keep::Random(1), Keep::Random(2), Keep::Everything] {
        let cut = disk.power_cut(keep);
        known.check(&*open(&cut).expect("opens after a cut"), twice);
    }
    let stack = open(disk).expect("opens where nothing fails");
    known.check(&*stack, twice);
    stack.grow(ALL.len() as u64).expect("grows again");
    stack.write(&ALL, 1000).expect("writes again");
    stack.sync().expect("syncs again");
    assert!(stack.read(&ALL).into_iter().all(|read| read.is_ok_and(|version| version == 1000)));
}

const OF_A_PAGE_FILE: [DiskOp; 12] = [
    DiskOp::Open,
    DiskOp::Create,
    DiskOp::Rename,
    DiskOp::Kind,
    DiskOp::SyncDir,
    DiskOp::Read,
    DiskOp::Write,
    DiskOp::Sync,
    DiskOp::Len,
    DiskOp::SetLen,
    DiskOp::Reserve,
    DiskOp::Lock,
];

#[test]
fn page_file_alone() {
    let batches = [DiskOp::Read, DiskOp::Write];
    let report = ErrorLoop::new(&OF_A_PAGE_FILE)
        .reordering(&batches)
        .run(|struck| workload(struck, open_page_file, false));
    println!("{report:?}");
}

#[test]
fn pool_over_a_page_file() {
    let report = ErrorLoop::new(&OF_A_PAGE_FILE).run(|struck| workload(struck, open_pool, false));
    println!("{report:?}");
}

#[test]
fn pages_written_twice() {
    let ops = [
        DiskOp::Open,
        DiskOp::Create,
        DiskOp::SyncDir,
        DiskOp::Read,
        DiskOp::Write,
        DiskOp::Sync,
        DiskOp::Len,
        DiskOp::Reserve,
        DiskOp::Lock,
    ];
    let report = ErrorLoop::new(&ops).run(|struck| workload(struck, open_double_write, true));
    println!("{report:?}");
}
