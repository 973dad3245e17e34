//! Opening: from whatever a crash left to a store that is ready.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use pagestone_allocator::LoggedAllocator;
use pagestone_btree::{BTree, TREE_BASE_ID};
use pagestone_buffer_pool::{BufferPool, PoolOptions};
use pagestone_direct_io::{Create, Disk, File, OpenHow, PageFile, PathKind, SharedSync, lock_within};
use pagestone_mini_txn::{LateLog, LoggedPool, Redo};
use pagestone_page_format::{PageChecksum, PageError, PageStore, Poison, RedoTable, WriteAhead};
use pagestone_swip::MAX_SWIP_PAGE;
use pagestone_sync::Mutex;
use pagestone_wal::{DurableBy, Recovery, WalOptions, WalStart};

use crate::catalog::{Catalog, Room, first_removal};
use crate::checkpoint::Core;
use crate::create::{LOCK_WAIT, check_directory, create};
use crate::open_report::Steps;
use crate::superblock::{PAGES_AT, SuperblockCopies};
use crate::{
    Background, OpenReport, Options, RecoveryProgress, RecoveryStep, StoreError, StoreResult, torn_writes,
};

/// Bytes of a block of the log.
const LOG_BLOCK: u64 = 4096;

pub(crate) fn wal_options(options: &Options) -> WalOptions {
    let default = WalOptions::default();
    // No group is larger than a quarter of the budget; the buffer holds one behind a block that is partly filled.
    let buffer = (options.log_bytes / 4).next_multiple_of(LOG_BLOCK) + LOG_BLOCK;
    WalOptions {
        buffer_bytes: usize::try_from(buffer).unwrap_or(usize::MAX).min(default.buffer_bytes),
        segment_bytes: options.segment_bytes,
        log_bytes: options.log_bytes,
        direct: options.direct_io,
        // Without threads the order of all calls to the disk follows from the calls to the store.
        read_ahead: options.background != Background::Manual,
        durable_by: options.durable_by.or(match options.background {
            Background::Threads | Background::PinnedThreads => None,
            Background::Manual => Some(DurableBy::Fdatasync),
        }),
        // Without threads nobody frees the log while a writer sleeps.
        delay_max: match options.background {
            Background::Threads | Background::PinnedThreads => default.delay_max,
            Background::Manual => Duration::ZERO,
        },
        ..default
    }
}

/// The steps of opening, in this order. An error in the first four leaves every file as it was (R7), but for blocks of the log and
/// the superblock copy that counts, which were written once more as they are; one in the fifth leaves, at most, pages whole that were torn; one in redo leaves, at most, pages as the log describes them.
///
/// `tell` is called when a step of recovery begins and as it goes on.
pub(crate) fn open(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    options: &Options,
    tell: &mut dyn FnMut(RecoveryProgress),
) -> StoreResult<(Core, OpenReport)> {
    let began = Instant::now();
    let mut steps = Steps::new(tell);
    options.check()?;
    // 1. Lock the data file, making the store if there is none.
    check_directory(disk, dir, options.create)?;
    let (file, created) = data_file(disk, dir, options)?;
    let file: Arc<dyn File> = Arc::new(SharedSync::new(file));
    // 2. The superblock says what the store is and where its recovery begins.
    let mut superblock = SuperblockCopies::read(Arc::clone(&file))?;
    let first = superblock.current().clone();
    let damage = superblock.damage().map(str::to_owned);
    let frames = options.frames(first.page_size)?;
    let pages = PageFile::new(
        Arc::clone(&file),
        PAGES_AT,
        first.page_size,
        PageChecksum::new(first.checksum, first.uuid),
    );
    // 3. A data file shorter than it was at the checkpoint lost pages that no log describes (M9).
    let len = pages.len()?;
    if len < first.data_pages {
        return Err(PageError::Mismatch {
            expected: format!("a data file of at least {} pages", first.data_pages),
            found: format!("{len} pages"),
        }
        .into());
    }
    // 4. The log: synced, read, and believed as far as it explains itself; what is believed is made durable.
    let poison = Poison::new();
    let mut recovery = Recovery::open(
        Arc::clone(disk),
        dir.join("log"),
        &wal_options(options),
        WalStart {
            uuid: first.uuid,
            generation: first.generation,
            checkpoint: first.checkpoint,
            keep_from: superblock.older_checkpoint(),
            // The lost copy may have been the newer one, with the next generation.
            newest_copy_lost: damage.is_some(),
            poison: poison.clone(),
        },
    )?;
    steps.begin(RecoveryStep::Log, recovery.bytes_max());
    let verified = recovery.replay(|group| steps.at(first.checkpoint, group.end()))?;
    recovery.secure()?; // changes no byte that was believed, and only now may anything be built on it (L10)
    superblock.secure(&poison)?;
    let log_bytes = verified.end.get().saturating_sub(first.checkpoint.get());
    // 5. Torn pages are restored from their copies, so that redo finds whole ones.
    steps.begin(RecoveryStep::TornPages, log_bytes);
    let (pages, protection) = torn_writes::recover(disk, dir, options, &first, pages, verified.end, &poison)?;
    // 6. Redo over the cores, into a pool that may evict as it goes. A page newer than the log's end is of another time or store
    //    (E2): the pool refuses it as it is read.
    steps.begin(RecoveryStep::Redo, log_bytes);
    let late_log = Arc::new(LateLog::reading(verified.end));
    let mut pool_options = PoolOptions::new(frames);
    pool_options.frames_max = options.pool_bytes_max / first.page_size.get();
    pool_options.log = Some(Arc::clone(&late_log) as Arc<dyn WriteAhead>);
    pool_options.poison = poison.clone();
    let pool = Arc::new(BufferPool::with_options(pages, pool_options)?);
    let mut redo = Redo::with_threads(&pool, redo_table(), redo_threads(options));
    let replayed = recovery.replay(|group| {
        steps.at(first.checkpoint, group.end())?;
        redo.group(&group)
    })?;
    let frees = redo.take_frees();
    let counts = redo.finish()?;
    // 7. The next generation, durable before the first block that carries it. Two further if a newer copy may be lost. From here
    //    on both superblock copies begin recovery where this one did.
    let further = if damage.is_some() { 2 } else { 1 };
    let generation = first.generation.max(replayed.max_generation).checked_add(further).ok_or_else(|| {
        PageError::InvalidSuperblock { reason: "the log's generation has no successor".into() }
    })?;
    superblock.publish(&poison, |next| next.generation = generation)?;
    let log = Arc::new(recovery.start(generation)?);
    late_log.open(Arc::clone(&log));
    // 8. Ready. What redo changed is dirty in the pool and waits for checkpoints like any other change; what the replayed log freed
    //    is no extent before two of them have passed its end (L8).
    let allocator = LoggedAllocator::after_replay(first.page_size, MAX_SWIP_PAGE, &frees, verified.end);
    let direct_io = file.is_direct();
    let env = Arc::new(LoggedPool::new(pool, log, allocator, poison));
    let tree = BTree::open(Arc::clone(&env), TREE_BASE_ID, first.root)?;
    let catalog = Catalog::new(&tree, first.catalog, generation)?;
    let core = Core::new(env, tree, catalog, Mutex::new(superblock), protection, options);
    core.log_is_read()?;
    // 9. Where the log that is left would slow down the first writers, it is cut before they come.
    if core.presses() {
        steps.begin(RecoveryStep::Checkpoint, log_bytes);
        core.relieve()?;
    }
    // 10. What was being removed goes on now: later it might take what was put meanwhile. No thread of ours makes room in the log yet.
    let ease = || if core.presses() { core.relieve() } else { Ok(()) };
    let room = Room { ease: &ease, empty: &|| core.empty_log() };
    let finished = core.catalog.finish_removals(&core.env, &room, first.removals_from)?;
    if finished.some_left {
        core.void_removals(first_removal(generation))?;
    }
    let report = OpenReport {
        created,
        finished_removals: finished.removals,
        groups: replayed.groups,
        records: replayed.records,
        log_bytes,
        pages_read: counts.pages_read,
        applied: counts.applied,
        skipped: counts.skipped,
        reformatted: counts.reformatted,
        restored: core.protection.restored,
        torn_tail: replayed.torn_tail,
        superblock_damage: damage,
        direct_io,
        torn_writes: core.protection.how,
        took_by_step: steps.took(),
        took: began.elapsed(),
    };
    Ok((core, report))
}

/// Two for every core, beside the one that reads the log: while one waits for its pages another one applies. Without threads the calls to the disk come in one order (R6 is proved so).
fn redo_threads(options: &Options) -> usize {
    match options.background {
        Background::Threads | Background::PinnedThreads => {
            2 * available_parallelism().map_or(1, NonZero::get)
        }
        Background::Manual => 1,
    }
}

/// Every operation that this store logs.
fn redo_table() -> RedoTable {
    RedoTable::new(vec![pagestone_allocator::redo_range(), pagestone_btree::redo_range()])
}

fn data_file(disk: &Arc<dyn Disk>, dir: &Path, options: &Options) -> StoreResult<(Arc<dyn File>, bool)> {
    let found = find_data_file(disk, dir, options)?;
    // Whoever gave the file its name may have been killed before that was durable: nothing is acknowledged in it before.
    disk.sync_dir(dir).map_err(|error| StoreError::io("syncing the store's directory", error))?;
    Ok(found)
}

fn find_data_file(disk: &Arc<dyn Disk>, dir: &Path, options: &Options) -> StoreResult<(Arc<dyn File>, bool)> {
    let path: PathBuf = dir.join("data");
    let not_a_store = |found: &str| StoreError::NotAStore { path: path.clone(), found: found.into() };
    loop {
        match disk.kind(&path).map_err(|error| StoreError::io("looking at the data file", error))? {
            Some(PathKind::File) => {
                let how = OpenHow { create: Create::Existing, write: true, direct: options.direct_io };
                let file =
                    disk.open(&path, &how).map_err(|error| StoreError::io("opening the data file", error))?;
                lock_within(&*file, &path, LOCK_WAIT)?;
                return Ok((file, false));
            }
            Some(PathKind::Directory) => return Err(not_a_store("a directory")),
            Some(PathKind::Other) => return Err(not_a_store("neither a file nor a directory")),
            None if !options.create => return Err(StoreError::NotFound { path: dir.to_path_buf() }),
            None => {
                options.check_new()?;
                if let Some(file) = create(disk, dir, options)? {
                    return Ok((file, true));
                }
            }
        }
    }
}
