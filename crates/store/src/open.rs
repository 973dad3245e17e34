//! Opening: from whatever a crash left to a store that is ready.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagestone_allocator::LoggedAllocator;
use pagestone_btree::{BTree, TREE_BASE_ID};
use pagestone_buffer_pool::{BufferPool, PoolOptions};
use pagestone_direct_io::{Create, Disk, File, OpenHow, PageFile, PathKind, SharedSync, lock_within};
use pagestone_mini_txn::{LateLog, LoggedPool, Redo};
use pagestone_page_format::{PageChecksum, PageError, PageStore, Poison, RedoTable, WriteAhead};
use pagestone_swip::MAX_SWIP_PAGE;
use pagestone_sync::Mutex;
use pagestone_wal::{DurableBy, Wal, WalOptions, WalStart};

use crate::catalog::Catalog;
use crate::checkpoint::Core;
use crate::create::{LOCK_WAIT, check_directory, create};
use crate::superblock::{PAGES_AT, SuperblockCopies};
use crate::{Background, Options, StoreError, StoreResult, torn_writes};

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenReport {
    /// The store was made by this opening.
    pub created: bool,
    /// Groups of the log that were replayed from the last checkpoint on.
    pub groups: u64,
    /// Pages to which a group was applied, counted once per group.
    pub applied: u64,
    /// Pages that already had it.
    pub skipped: u64,
    /// Pages that a power cut had torn and that were restored from their copies.
    pub restored: u64,
    /// Whether there were remains of a batch behind the last whole group, which no acknowledged write can be in.
    pub torn_tail: bool,
    /// A copy of the superblock that could not be used; the other one was, and this opening has written it anew.
    pub superblock_damage: Option<String>,
    /// Whether data goes past the system's page cache.
    pub direct_io: bool,
    /// How long opening took.
    pub took: Duration,
}

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
pub(crate) fn open(disk: &Arc<dyn Disk>, dir: &Path, options: &Options) -> StoreResult<(Core, OpenReport)> {
    let began = Instant::now();
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
    let mut recovery = Wal::open(
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
    let verified = recovery.replay(|_| Ok(()))?;
    recovery.secure()?; // changes no byte that was believed, and only now may anything be built on it (L10)
    superblock.secure(&poison)?;
    // 5. Torn pages are restored from their copies, so that redo finds whole ones.
    let (pages, restored) = torn_writes::recover(disk, dir, options, &first, pages, verified.end, &poison)?;
    // 6. Redo, into a pool that may evict as it goes. A page newer than the log's end is of another time or store (E2): the pool
    //    refuses it as it is read.
    let late_log = Arc::new(LateLog::reading(verified.end));
    let mut pool_options = PoolOptions::new(frames);
    pool_options.log = Some(Arc::clone(&late_log) as Arc<dyn WriteAhead>);
    pool_options.poison = poison.clone();
    let pool = Arc::new(BufferPool::with_options(pages, pool_options)?);
    let mut redo = Redo::new(&pool, redo_table());
    let replayed = recovery.replay(|group| redo.group(&group))?;
    let counts = redo.finish()?;
    // 7. The next generation, durable before the first block that carries it. Two further if a newer copy may be lost.
    let further = if damage.is_some() { 2 } else { 1 };
    let generation = first.generation.max(replayed.max_generation).checked_add(further).ok_or_else(|| {
        PageError::InvalidSuperblock { reason: "the log's generation has no successor".into() }
    })?;
    superblock.publish(&poison, |next| next.generation = generation)?;
    let log = Arc::new(recovery.start(generation)?);
    late_log.open(Arc::clone(&log));
    // 8. Ready. Both copies pass what was replayed before an id is given out: then whatever a map page says is free was freed
    //    by a group that no recovery replays again, and may become an extent (L8). Where nothing was replayed step 7 has seen to it.
    let allocator = LoggedAllocator::under_log(first.page_size, MAX_SWIP_PAGE);
    let direct_io = file.is_direct();
    let env = Arc::new(LoggedPool::new(pool, log, allocator, poison));
    let tree = BTree::open(Arc::clone(&env), TREE_BASE_ID, first.root)?;
    let catalog = Catalog::new(&tree, first.catalog)?;
    let core = Core::new(env, tree, catalog, Mutex::new(superblock), options);
    if replayed.groups > 0 {
        core.checkpoint()?;
        core.checkpoint()?;
    }
    let report = OpenReport {
        created,
        groups: replayed.groups,
        applied: counts.applied,
        skipped: counts.skipped,
        restored,
        torn_tail: replayed.torn_tail,
        superblock_damage: damage,
        direct_io,
        took: began.elapsed(),
    };
    Ok((core, report))
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
