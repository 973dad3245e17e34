//! How a store is opened.

use std::time::Duration;

use pagestone_btree::{MIN_TREE_FRAMES, split_log_bytes};
use pagestone_direct_io::{DirectIo, DurableBy};
use pagestone_page_format::{ChecksumKind, DEFAULT_PAGE_SIZE, PageSize};
use pagestone_wal::{MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};

use crate::superblock::MAX_TREE_PAGE;
use crate::{StoreError, StoreResult};

/// When a write is acknowledged as durable (R1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Every write returns once it is durable.
    Strict,
    /// Writes return at once; a background flush begins at least once in this interval and makes them durable, `sync` at once.
    /// With [`Background::Manual`] only `sync` and `tick` do.
    Relaxed {
        /// The longest time before a flush begins.
        interval: Duration,
    },
}

impl Durability {
    /// Relaxed with the default interval of 10 ms.
    pub const RELAXED: Durability = Durability::Relaxed { interval: Duration::from_millis(10) };
}

/// Who does the work that no caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// Threads of the store, where the system puts them.
    Threads,
    /// Threads of the store, pinned by what they are for: the flush that writers wait for on fast cores, checkpoints and the rest on
    /// cores that save power. Where all cores are alike every thread may use all that the process may; where the system does not say,
    /// as [`Background::Threads`]. [`crate::Store::thread_placement`] tells which, and why.
    PinnedThreads,
    /// Nobody but [`crate::Store::tick`]: no thread is started, so that tests can enumerate every interleaving with a crash.
    Manual,
}

/// What keeps a page whole that a power cut meets while it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TornWrites {
    /// As [`TornWrites::Atomic`] where that can be had, else as [`TornWrites::DoubleWrite`]. Which it is, [`crate::OpenReport`] and
    /// [`crate::StoreStats`] tell; they never say this.
    #[default]
    Best,
    /// Every page is written twice: the next opening restores a torn one from its copy. A batch of pages costs one more write and
    /// one more sync.
    DoubleWrite,
    /// Every page is written once, and each write asks the system to leave it whole or undone (`RWF_ATOMIC`, Linux 6.11). Needs a device and a
    /// file system that say they do that for writes as long as a page, and direct I/O; pages of 4 or 8 KiB. Opening fails without.
    Atomic,
    /// Every page is written once. Only where the device writes whole pages or nothing; elsewhere a page can be lost to a power
    /// cut, which is then reported as [`pagestone_page_format::PageError::ChecksumMismatch`]. The option may change from one opening
    /// to the next.
    Off,
}

/// Whether the background makes the data file smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoCompact {
    /// Only [`crate::Store::compact`] does.
    Off,
    /// Leaves that inserts and removals at random places left half empty go into fewer, nodes at the end of the file move into what is free,
    /// and the file is cut: once a sixteenth of it was logged, or became free, and in small steps beside readers and writers. While others write
    /// it goes no faster than its share of the log lets it; when nobody writes, until it is done. Long values stay where they are.
    Paced {
        /// Bytes that it may log for every hundred that others log.
        log_percent: u32,
    },
}

impl AutoCompact {
    /// A tenth of what others log.
    pub const DEFAULT: AutoCompact = AutoCompact::Paced { log_percent: 10 };
}

/// How a store is opened. `Options::default()` suits most.
///
/// ```
/// use pagestone_store::{Durability, Options};
/// let options = Options { pool_bytes: 64 << 20, durability: Durability::RELAXED, ..Options::default() };
/// assert_eq!(options.page_size.get(), 4096);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Size of every page, 4 KiB to 64 KiB; an existing store keeps the one it was created with.
    pub page_size: PageSize,
    /// Memory for pages, in bytes. It can be moved while the store is open, by [`crate::Store::set_pool_bytes`]. Beside it each tree that is open
    /// keeps up to 16 pages that cursors copied, and each cursor in use has one.
    pub pool_bytes: usize,
    /// What `pool_bytes` can be raised to; less than it, 0 for example, means as much. Costs address space and, used or not, 3 % of it in
    /// memory for headers and tables.
    pub pool_bytes_max: usize,
    /// The log's budget, in bytes: checkpoints keep it below, writers wait when they cannot.
    pub log_bytes: u64,
    /// Size of one log segment, at least 64 KiB.
    pub segment_bytes: u64,
    /// When a write is acknowledged.
    pub durability: Durability,
    /// Whether data and log bypass the system's page cache.
    pub direct_io: DirectIo,
    /// What keeps a page whole that is written when the power fails.
    pub torn_writes: TornWrites,
    /// The checksum of the pages of a new store.
    pub checksum: ChecksumKind,
    /// Whether to create the store if there is none.
    pub create: bool,
    /// Who does the work in the background.
    pub background: Background,
    /// Whether a thread of the background evicts pages, and writes dirty ones, before their frames are wanted
    /// ([`pagestone_buffer_pool::PageProvider`]). For data larger than the pool where there are cores to spare; without it whoever needs
    /// a frame does the same work. With [`Background::Manual`] it is a part of [`crate::Store::tick`].
    pub page_provider: bool,
    /// Whether the background makes the data file smaller. With [`Background::Manual`] it is a part of [`crate::Store::tick`].
    pub auto_compact: AutoCompact,
    /// By which of the system's calls the log is made durable. `None` tries them all when the store is opened, for some milliseconds, and
    /// keeps the fastest; with [`Background::Manual`], where nothing may depend on the clock, it is [`DurableBy::Fdatasync`]. One that
    /// the system does not have is an error. [`crate::StoreStats`] tells the choice, in `log.durable_by`.
    pub durable_by: Option<DurableBy>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            page_size: DEFAULT_PAGE_SIZE,
            pool_bytes: 256 << 20,
            pool_bytes_max: 0,
            log_bytes: 1 << 30,
            segment_bytes: 64 << 20,
            durability: Durability::Strict,
            direct_io: DirectIo::Prefer,
            torn_writes: TornWrites::Best,
            checksum: ChecksumKind::Crc32c,
            create: true,
            background: Background::Threads,
            page_provider: false,
            auto_compact: AutoCompact::DEFAULT,
            durable_by: None,
        }
    }
}

/// Levels of a tree that the log's largest group must be able to split at once. A split of more, which takes keys near their
/// limit and millions of them, is refused by the log as too large.
const LEVELS_SPLIT: usize = 4;

impl Options {
    /// Refuses what cannot work, before anything is touched.
    pub(crate) fn check(&self) -> StoreResult<()> {
        let invalid = |option, found: String, expected: String| {
            Err(StoreError::InvalidOption { option, found, expected })
        };
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&self.segment_bytes)
            || !self.segment_bytes.is_multiple_of(4096)
        {
            return invalid(
                "segment_bytes",
                self.segment_bytes.to_string(),
                format!("a multiple of 4096 from {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}"),
            );
        }
        if self.log_bytes < 4 * self.segment_bytes {
            return invalid(
                "log_bytes",
                self.log_bytes.to_string(),
                format!("at least four segments, {}", 4 * self.segment_bytes),
            );
        }
        Ok(())
    }

    /// Refuses what cannot make a store; an existing one keeps its own page size.
    pub(crate) fn check_new(&self) -> StoreResult<()> {
        if self.page_size.get() > MAX_TREE_PAGE {
            return Err(StoreError::InvalidOption {
                option: "page_size",
                found: self.page_size.to_string(),
                expected: format!("at most {MAX_TREE_PAGE}"),
            });
        }
        self.frames(self.page_size).map(drop)
    }

    /// Frames of the pool for pages of this size, whose trees the log must be able to split.
    pub(crate) fn frames(&self, size: PageSize) -> StoreResult<usize> {
        let frames = self.pool_bytes / size.get();
        if frames < MIN_TREE_FRAMES {
            return Err(StoreError::InvalidOption {
                option: "pool_bytes",
                found: self.pool_bytes.to_string(),
                expected: format!("at least {} for pages of {size} bytes", MIN_TREE_FRAMES * size.get()),
            });
        }
        let group = crate::open::wal_options(self).max_group_bytes();
        let split = split_log_bytes(size, LEVELS_SPLIT);
        if group < split {
            return Err(StoreError::InvalidOption {
                option: "log_bytes",
                found: self.log_bytes.to_string(),
                expected: format!(
                    "a log whose largest group is {split} bytes, at least; that of this one is {group}"
                ),
            });
        }
        Ok(frames)
    }
}
