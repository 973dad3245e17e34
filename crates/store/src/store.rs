//! The handle.

use std::path::Path;
use std::sync::Arc;

use pagestone_btree::BTree;
use pagestone_direct_io::{Disk, RealDisk};
use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::Lsn;
use pagestone_sync::Mutex;
use pagestone_telemetry::{Metric, prometheus_text};
use pagestone_threading::Spawner;

use crate::background::Workers;
use crate::checkpoint::Core;
use crate::{
    Background, CompactProgress, CompactReport, Durability, OpenReport, Options, RecoveryProgress,
    StoreResult, StoreStats, Tree, TreeInfo, VerifyProgress, VerifyReport,
};

/// An open store. Cheap to clone; all clones are one handle, and the store stays locked while any of them, or a tree or
/// a cursor of it, lives.
///
/// ```
/// use pagestone_store::{Options, Store};
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let dir = dir.path().join("store");
/// let store = Store::open(&dir, Options::default())?;
/// let tree = store.default_tree();
/// assert!(!tree.put(b"key", b"value")?.replaced);
/// assert_eq!(tree.get(b"key")?.as_deref(), Some(&b"value"[..]));
/// store.close()?;
/// # Ok::<(), pagestone_store::StoreError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    workers: Mutex<Workers>,
    report: OpenReport,
}

impl Store {
    /// Opens the store in the directory `dir`, recovers it if it was not closed, and makes it if there is none.
    ///
    /// Errors, with nothing changed on disk: `Locked` within 300 ms if another handle has it, `NotAStore`, `NotFound`,
    /// `InvalidOption`, `InvalidSuperblock`, `Mismatch`, `WalCorrupt`. A page that redo needs and that cannot be believed is an
    /// error too; pages that redo had already brought up to date stay so. A log without a data file is `AlreadyExists`; an empty
    /// `data.new` may stay beside it.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> StoreResult<Self> {
        Self::open_on(Arc::new(RealDisk), dir.as_ref(), options)
    }

    /// As [`Store::open`], on another disk than the system's: the simulated one, or an engine's own.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> StoreResult<Self> {
        Self::open_on_with_progress(disk, dir, options, |_| {})
    }

    /// As [`Store::open`]; `progress` is called when a step of recovery begins, and with every mebibyte of log that it read or replayed.
    ///
    /// ```
    /// # use pagestone_store::{Options, Store};
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let dir = dir.path().join("store");
    /// let store = Store::open_with_progress(&dir, Options::default(), |now| {
    ///     eprintln!("{:?}: {} of {} bytes of log", now.step, now.done, now.of);
    /// })?;
    /// assert!(store.open_report().created);
    /// # Ok::<(), pagestone_store::StoreError>(())
    /// ```
    pub fn open_with_progress(
        dir: impl AsRef<Path>,
        options: Options,
        progress: impl FnMut(RecoveryProgress),
    ) -> StoreResult<Self> {
        Self::open_on_with_progress(Arc::new(RealDisk), dir.as_ref(), options, progress)
    }

    /// As [`Store::open_with_progress`], on another disk, as [`Store::open_on`].
    pub fn open_on_with_progress(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        mut progress: impl FnMut(RecoveryProgress),
    ) -> StoreResult<Self> {
        let (core, report) = crate::open::open(&disk, dir, &options, &mut progress)?;
        let core = Arc::new(core);
        let workers = match options.background {
            Background::Threads => Workers::start(&core, Spawner::unpinned())?,
            Background::PinnedThreads => Workers::start(&core, Spawner::detected())?,
            Background::Manual => Workers::none(),
        };
        Ok(Self { inner: Arc::new(Inner { core, workers: Mutex::new(workers), report }) })
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn env(&self) -> &LoggedPool {
        &self.inner.core.env
    }

    /// The tree that every store has.
    pub fn default_tree(&self) -> Tree {
        self.handle(self.inner.core.tree.clone())
    }

    fn handle(&self, tree: BTree) -> Tree {
        Tree::new(Arc::clone(&self.inner), tree)
    }

    /// The tree of this name, 1 to [`MAX_TREE_NAME`](crate::MAX_TREE_NAME) bytes of any kind; made if there is none. All who ask for a
    /// name get clones of one tree. With [`Durability::Strict`] a new tree is durable when this returns.
    ///
    /// ```
    /// use pagestone_store::{Options, Store};
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let dir = dir.path().join("store");
    /// let store = Store::open(&dir, Options::default())?;
    /// let stones = store.tree("stones")?;
    /// stones.put(b"granite", b"hard")?;
    /// store.rename_tree("stones", "rocks")?; // the handle stays good
    /// assert_eq!(store.tree("rocks")?.get(b"granite")?, stones.get(b"granite")?);
    /// store.drop_tree("rocks")?;
    /// assert!(stones.get(b"granite").is_err() && store.trees()?.is_empty());
    /// # Ok::<(), pagestone_store::StoreError>(())
    /// ```
    ///
    /// Errors: `TreeName`, `BadCatalog`, and those of a put. If a drop of this name was interrupted, it is finished first, with the
    /// errors of [`Store::drop_tree`].
    pub fn tree(&self, name: impl AsRef<[u8]>) -> StoreResult<Tree> {
        let (tree, made) = self.inner.core.catalog.tree(name.as_ref())?;
        made.map_or(Ok(()), |lsn| self.inner.acknowledge(lsn))?;
        Ok(self.handle(tree))
    }

    /// The named trees, sorted by name.
    pub fn trees(&self) -> StoreResult<Vec<TreeInfo>> {
        self.inner.core.catalog.trees()
    }

    /// Drops a tree and frees its pages. From the beginning on its name is free and every handle of it gives
    /// [`crate::StoreError::TreeDropped`]; it returns when its pages are free too.
    ///
    /// Errors, with nothing changed: `TreeName`, `TreeNotFound`, `BadCatalog`, and those of a put. An error on the way, of reading a
    /// page of the tree for instance, leaves the rest of its pages in use: the drop goes on where it stopped when it is asked for
    /// again, when [`Store::tree`] asks for the name, in the background of the next opening, and in [`Store::tick`]. So does one
    /// that a crash interrupted.
    pub fn drop_tree(&self, name: impl AsRef<[u8]>) -> StoreResult<()> {
        let done = self.inner.core.catalog.drop_tree(name.as_ref())?;
        self.inner.core.drop_free_regions();
        // Whoever else finished it has logged that by now.
        self.inner.acknowledge(done.unwrap_or_else(|| self.env().log().end_lsn()))
    }

    /// Gives the tree `old` the name `new`, in one step. Handles of it stay good.
    ///
    /// Errors, with nothing changed: `TreeName`, `TreeNotFound` for `old`, `TreeExists` for `new`, also if it is `old`, `BadCatalog`, and
    /// those of a put. If a drop of `new` was interrupted, it is finished first.
    pub fn rename_tree(&self, old: impl AsRef<[u8]>, new: impl AsRef<[u8]>) -> StoreResult<()> {
        let lsn = self.inner.core.catalog.rename(old.as_ref(), new.as_ref())?;
        self.inner.acknowledge(lsn)
    }

    /// Waits until everything written so far is durable.
    pub fn sync(&self) -> StoreResult<()> {
        self.inner.core.env.check_open()?;
        self.inner.core.sync()
    }

    /// Writes out what is dirty now and moves the start of recovery up. Writers go on meanwhile. Not needed to bound the log or
    /// the time of opening: checkpoints are made all the time.
    pub fn checkpoint(&self) -> StoreResult<()> {
        self.inner.core.env.check_open()?;
        self.inner.core.checkpoint()
    }

    /// With [`Background::Manual`]: one turn of each background thread. Makes durable what was written so far, and does one
    /// bounded round of continuous checkpointing: the oldest pages, and a publication if it is due. The same state gives the
    /// same calls to the disk. Segments of the log are made by the writers themselves.
    pub fn tick(&self) -> StoreResult<()> {
        self.sync()?;
        self.inner.core.checkpoint_round()?;
        if self.inner.core.page_provider {
            self.env().pool().provide_frames()?;
        }
        self.inner.core.auto_compact()?;
        self.inner.core.catalog.resume_drops(&|| false)
    }

    /// Looks at every page of the data file: each is reached from exactly one place or free, every page in use is what was
    /// written, and every tree is in order. It may run beside readers and writers, stops none of them, and reports nothing
    /// that they explain: what seems wrong is looked at three times.
    ///
    /// What is wrong is in the report and is no error. Errors: `Closed`, `Poisoned` and `BufferPoolExhausted` of the handle, and the
    /// file's length that cannot be asked for. Memory: two bits for each page that is in use, and a page for each level. Every
    /// page in use is read past the pool, those of long values too, and the trees' through it. The space of long values that are
    /// removed or replaced meanwhile is not used again before the end.
    ///
    /// ```
    /// # use pagestone_store::{Options, Store};
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// let store = Store::open(dir.path().join("store"), Options::default())?;
    /// store.default_tree().put(b"key", b"value")?;
    /// let report = store.verify()?;
    /// assert!(report.is_sound(), "{:?}", report.findings);
    /// assert_eq!((report.map_pages, report.trees, report.entries), (1, 1, 1));
    /// # Ok::<(), pagestone_store::StoreError>(())
    /// ```
    pub fn verify(&self) -> StoreResult<VerifyReport> {
        self.verify_with_progress(|_| {})
    }

    /// As [`Store::verify`]; `progress` is called when a step begins and every thousand pages or so, with nothing latched.
    pub fn verify_with_progress(
        &self,
        mut progress: impl FnMut(VerifyProgress),
    ) -> StoreResult<VerifyReport> {
        crate::verify::verify(&self.inner.core, &mut progress)
    }

    /// Makes the data file as short as what it holds allows: fills nodes that removals and random inserts left half empty, moves pages
    /// from its end into free ones, long values too, and cuts it. It may run beside readers and writers, stops none of them, and
    /// never makes the data file longer. It logs what it moves, about as much as nodes have to move, and makes some checkpoints.
    ///
    /// Nodes are left full, so that later inserts at random places divide them again: for stores that are mostly read from then on, or that
    /// have lost much. The file does not become shorter than the root of the last tree made: a root keeps its page.
    ///
    /// Errors: those of reading and of writing; what was done by then stays done, every tree is whole, and a later call goes on. While it
    /// runs another one waits.
    ///
    /// ```
    /// # use pagestone_store::{Options, Store};
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// let store = Store::open(dir.path().join("store"), Options::default())?;
    /// let tree = store.default_tree();
    /// for key in 0..2000_u32 {
    ///     tree.put(&key.to_be_bytes(), &[7; 100])?;
    /// }
    /// for key in 0..1990_u32 {
    ///     tree.remove(&key.to_be_bytes())?;
    /// }
    /// let report = store.compact()?;
    /// assert!(report.bytes_after < report.bytes_before / 4, "{report:?}");
    /// assert_eq!(tree.len()?, 10);
    /// # Ok::<(), pagestone_store::StoreError>(())
    /// ```
    pub fn compact(&self) -> StoreResult<CompactReport> {
        self.compact_with_progress(|_| {})
    }

    /// As [`Store::compact`]; `progress` is called when a step begins and every thousand nodes or so, with nothing latched.
    pub fn compact_with_progress(
        &self,
        mut progress: impl FnMut(CompactProgress),
    ) -> StoreResult<CompactReport> {
        self.inner.core.compact(&mut progress)
    }

    /// Moves the memory for pages to `bytes`, while the store is in use; that is rounded down to whole pages. Raising returns at once, and
    /// the memory is taken as it is used. Lowering writes what is dirty, evicts, and gives the memory back to the system in blocks of
    /// 2 MiB before it returns; it waits for operations under way, for ten seconds at most and twice.
    ///
    /// A batch of writes that changes more leaves than a quarter of the lower budget has pages is
    /// [`BatchTooLarge`](pagestone_btree::TreeError::BatchTooLarge) from then on, also if it had begun.
    ///
    /// Errors: `BudgetRefused` for less than a tree needs, 32 pages, for more than [`Options::pool_bytes_max`], and if pages stay pinned; those
    /// of writing. The budget is then what it was.
    ///
    /// ```
    /// use pagestone_store::{Options, Store};
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let dir = dir.path().join("store");
    /// let options = Options { pool_bytes: 8 << 20, pool_bytes_max: 64 << 20, ..Options::default() };
    /// let store = Store::open(&dir, options)?;
    /// store.set_pool_bytes(64 << 20)?; // there is memory to spare
    /// store.set_pool_bytes(1 << 20)?; // somebody else needs it
    /// assert_eq!(store.stats()?.pool.frames, 256);
    /// assert!(store.set_pool_bytes(65 << 20).is_err());
    /// # Ok::<(), pagestone_store::StoreError>(())
    /// ```
    pub fn set_pool_bytes(&self, bytes: usize) -> StoreResult<()> {
        self.env().check_open()?;
        Ok(self.env().pool().set_capacity_bytes(bytes)?)
    }

    /// What opening found and did.
    pub fn open_report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// Where the background threads run: `pinned`, with the processors of each class, or `not pinned`, with the reason.
    pub fn thread_placement(&self) -> String {
        self.inner.workers.lock().placement()
    }

    /// What the store has done and what it holds.
    pub fn stats(&self) -> StoreResult<StoreStats> {
        StoreStats::of(&self.inner.core)
    }

    /// Everything that is counted and measured, in Prometheus' text format. Without feature `metrics` the histograms are empty.
    pub fn prometheus(&self) -> StoreResult<String> {
        let mut text = self.stats()?.to_prometheus();
        text.push_str(&prometheus_text(self.metrics()));
        Ok(text)
    }

    /// What latches, pool, log, allocator and trees measure beside what [`Store::stats`] counts, by name: counters, the lines that waited longest for
    /// latches, and of histograms the count and the sum. Without feature
    /// `metrics` there are no lines, and all but the allocator's gauges are zero.
    pub fn measurements(&self) -> Vec<(String, u64)> {
        self.metrics().iter().flat_map(Metric::figures).collect()
    }

    fn metrics(&self) -> Vec<Metric<'static>> {
        let Core { env, tree, .. } = &*self.inner.core;
        [env.pool().metrics(), env.log().metrics(), env.allocator().metrics(), tree.metrics()].concat()
    }

    /// The engine's own 8 bytes in this slot of the superblock, 0 to 7; zero until set.
    pub fn user_meta(&self, slot: usize) -> StoreResult<u64> {
        self.inner.core.user_meta(slot)
    }

    /// Sets them, durably when it returns.
    pub fn set_user_meta(&self, slot: usize, value: u64) -> StoreResult<()> {
        self.inner.core.set_user_meta(slot, value)
    }

    /// Makes everything durable, makes a checkpoint so that the next opening replays nothing, and ends the handle: every
    /// later read and write, of clones and trees too, gives [`crate::StoreError::Closed`]; a cursor may still give what it has copied.
    /// Reports what failed.
    ///
    /// If the checkpoint fails, everything is durable all the same, and the next opening replays the log.
    ///
    /// Dropping every clone without it loses no acknowledged write either; the next opening then replays the log.
    pub fn close(&self) -> StoreResult<()> {
        self.inner.core.env.check_open()?;
        self.inner.workers.lock().stop();
        self.inner.core.env.close();
        self.inner.core.sync()?;
        self.inner.core.checkpoint()
    }
}

impl Inner {
    /// Who starts threads for work that a caller waits for; nobody in a store without threads.
    pub(crate) fn helpers(&self) -> Option<Spawner> {
        self.workers.lock().helpers()
    }

    /// Strict: returns once the write is durable (R1).
    pub(crate) fn acknowledge(&self, lsn: Lsn) -> StoreResult<()> {
        match self.core.durability {
            Durability::Strict => Ok(self.core.env.log().wait_durable(lsn)?),
            Durability::Relaxed { .. } => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.workers.lock().stop();
        // Relaxed writes that nobody synced, also such as were under way when it was closed: try. What fails here was never
        // acknowledged as durable, and nobody is left to be told.
        let _ = self.core.sync();
    }
}

const _: fn() = || {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<Store>();
    shared::<Tree>();
    fn error<T: std::error::Error + Send + Sync>() {}
    error::<crate::StoreError>();
};
