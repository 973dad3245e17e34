//! Figures of a store, for people and for Prometheus.

use pagestone_btree::TreeStats;
use pagestone_buffer_pool::PoolStats;
use pagestone_direct_io::DoubleWriteStats;
use pagestone_page_format::Lsn;
use pagestone_sync::atomic::Ordering;
use pagestone_telemetry::{Metric, Value, prometheus_text};
use pagestone_wal::WalStats;

use crate::checkpoint::Core;
use crate::{StoreResult, TornWrites};

/// What a store has done since it was opened, and what it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreStats {
    /// Size of every page, in bytes.
    pub page_size: u64,
    /// Pages of the data file.
    pub data_pages: u64,
    /// The buffer pool.
    pub pool: PoolStats,
    /// What keeps pages whole that are being written when the power fails.
    pub torn_writes: TornWrites,
    /// Pages written twice; all zeros where they are not.
    pub double_write: DoubleWriteStats,
    /// Torn pages that opening restored from their copies.
    pub restored: u64,
    /// The log.
    pub log: WalStats,
    /// The height of the default tree; what all trees have done.
    pub tree: TreeStats,
    /// Dropped trees whose pages are not all free yet; none before it was looked for such.
    pub unfinished_drops: Option<u64>,
    /// Drops that an earlier opening left unfinished, or an error, and that failed again.
    pub failed_drops: u64,
    /// Checkpoints published.
    pub checkpoints: u64,
    /// Pages by which the data file was made shorter.
    pub cut_pages: u64,
    /// Cuts that failed: the space is kept, and the next checkpoint tries again.
    pub failed_cuts: u64,
    /// What was made smaller in the background.
    pub auto_compact: AutoCompactStats,
    /// Where recovery would begin.
    pub checkpoint_lsn: Lsn,
    /// The log's generation: how often the store was opened for writing.
    pub generation: u64,
}

/// What [`crate::AutoCompact::Paced`] did since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AutoCompactStats {
    /// Whether it is at it: it has begun to go through the trees, and not ended, or does so again once nobody writes.
    pub under_way: bool,
    /// Times that it went through all trees.
    pub rounds: u64,
    /// Rounds that an error ended, of reading a damaged page for example, and trees that one passed over for it. The next round
    /// begins when it is worth it.
    pub failed: u64,
    /// Pages of nodes that became free because others took their entries.
    pub freed_pages: u64,
    /// Pages of nodes that moved.
    pub moved_pages: u64,
    /// Bytes of the log that it took.
    pub log_bytes: u64,
}

impl AutoCompactStats {
    fn of(core: &Core) -> Self {
        let figures = &core.auto_compaction;
        Self {
            under_way: figures.under_way.load(Ordering::Relaxed),
            rounds: figures.rounds.load(Ordering::Relaxed),
            failed: figures.failed.load(Ordering::Relaxed),
            freed_pages: figures.freed_pages.load(Ordering::Relaxed),
            moved_pages: figures.moved_pages.load(Ordering::Relaxed),
            log_bytes: figures.log_bytes.load(Ordering::Relaxed),
        }
    }
}

impl StoreStats {
    pub(crate) fn of(core: &Core) -> StoreResult<Self> {
        // First: asking for the height may itself read the root.
        let tree = core.tree.stats()?;
        let pool = core.env.pool();
        Ok(Self {
            page_size: pool.page_size().get() as u64,
            data_pages: pool.store().len()?,
            pool: pool.stats(),
            torn_writes: core.protection.how,
            double_write: core.protection.double_write(),
            restored: core.protection.restored,
            log: core.env.log().stats(),
            tree,
            unfinished_drops: core.catalog.unfinished_drops(),
            failed_drops: core.catalog.failed_drops(),
            checkpoints: core.checkpoints.load(Ordering::Relaxed),
            cut_pages: core.tail_cuts.pages.load(Ordering::Relaxed),
            failed_cuts: core.tail_cuts.failed.load(Ordering::Relaxed),
            auto_compact: AutoCompactStats::of(core),
            checkpoint_lsn: core.checkpoint_lsn(),
            generation: core.generation(),
        })
    }

    /// Every figure by name, with what it means. Names end in their unit; those that only rise end in `_total`.
    pub fn figures(&self) -> Vec<(&'static str, &'static str, u64)> {
        vec![
            ("page_bytes", "size of every page", self.page_size),
            ("data_pages", "pages of the data file", self.data_pages),
            ("pool_frames", "frames of the buffer pool", self.pool.frames),
            ("pool_resident_pages", "pages resident in the pool", self.pool.resident),
            ("pool_hits_total", "pins of pages that were resident", self.pool.hits),
            ("pool_misses_total", "pages read from storage", self.pool.misses),
            ("pool_failed_reads_total", "reads that failed", self.pool.failed_reads),
            ("pool_table_hits_total", "accesses that needed the page table", self.pool.table_hits),
            ("pool_prefetches_total", "pages that hints brought in", self.pool.prefetches),
            ("pool_prefetch_hits_total", "pages of those that were then used", self.pool.prefetch_hits),
            ("pool_failed_prefetches_total", "hints that failed", self.pool.failed_prefetches),
            ("evictions_total", "pages evicted from the pool", self.pool.evictions),
            ("write_backs_total", "pages written to storage", self.pool.write_backs),
            ("write_batches_total", "batches in which they were written", self.pool.write_batches),
            ("load_waits_total", "waits for another thread's read", self.pool.load_waits),
            ("frame_waits_total", "waits for a frame", self.pool.frame_waits),
            ("provided_frames_total", "frames freed ahead of time", self.pool.provided),
            ("failed_provisions_total", "errors of freeing ahead of time", self.pool.failed_provisions),
            ("double_write_regions_total", "regions of copies written", self.double_write.regions),
            ("double_write_pages_total", "pages copied into them", self.double_write.pages),
            ("double_write_bytes_total", "bytes written into them", self.double_write.bytes),
            ("double_write_syncs_total", "syncs behind them", self.double_write.syncs),
            (
                "double_write_data_syncs_total",
                "syncs of the data file for want of a free region",
                self.double_write.data_syncs,
            ),
            ("double_write_file_bytes", "bytes of the file of copies", self.double_write.file_bytes),
            ("restored_pages", "torn pages that opening restored from their copies", self.restored),
            ("log_bytes_total", "bytes written to the log", self.log.bytes_written),
            ("log_padding_bytes_total", "bytes of them that are padding", self.log.padding),
            ("log_groups_total", "groups appended to the log", self.log.groups),
            ("log_batches_total", "batches written to the log", self.log.batches),
            ("log_syncs_total", "syncs of the log", self.log.syncs),
            ("log_used_bytes", "bytes of the log's budget that are used", self.log.used),
            ("log_used_bytes_max", "the most that was used of it since opening", self.log.used_max),
            ("log_delays_total", "writers slowed down because the log was filling up", self.log.delays),
            ("log_delay_microseconds_total", "what those delays were asked to be", self.log.delay_us),
            ("tree_height", "levels of the default tree", self.tree.height.into()),
            ("splits_total", "nodes split", self.tree.splits),
            ("merges_total", "nodes merged into a sibling", self.tree.merges),
            ("merges_given_up_total", "merges that failed", self.tree.merges_given_up),
            ("tree_freed_pages_total", "pages that merges gave back", self.tree.pages_freed()),
            (
                "unfinished_drops",
                "dropped trees with pages in use, 0 also before anybody has looked",
                self.unfinished_drops.unwrap_or(0),
            ),
            ("failed_drops_total", "interrupted drops of trees that failed again", self.failed_drops),
            ("checkpoints_total", "checkpoints published", self.checkpoints),
            ("cut_pages_total", "pages by which the data file was made shorter", self.cut_pages),
            ("failed_cuts_total", "cuts of the data file that failed", self.failed_cuts),
            (
                "auto_compact_rounds_total",
                "times that the background went through all trees",
                self.auto_compact.rounds,
            ),
            ("auto_compact_failed_total", "times that an error ended that", self.auto_compact.failed),
            (
                "auto_compact_freed_pages_total",
                "pages that it emptied into others",
                self.auto_compact.freed_pages,
            ),
            (
                "auto_compact_moved_pages_total",
                "pages that it moved down in the file",
                self.auto_compact.moved_pages,
            ),
            ("auto_compact_log_bytes_total", "bytes of the log that it took", self.auto_compact.log_bytes),
            ("checkpoint_lsn", "where recovery would begin", self.checkpoint_lsn.get()),
            ("generation", "times opened for writing", self.generation),
        ]
    }

    /// The figures in Prometheus' text format. [`crate::Store::prometheus`] gives the histograms too.
    pub fn to_prometheus(&self) -> String {
        let figures = self.figures();
        let names: Vec<String> = figures.iter().map(|(name, ..)| format!("pagestone_{name}")).collect();
        prometheus_text(names.iter().zip(&figures).map(|(name, (_, help, value))| Metric {
            name,
            help,
            value: if name.ends_with("_total") { Value::Counter(*value) } else { gauge(*value) },
        }))
    }
}

fn gauge(value: u64) -> Value {
    Value::Gauge(i64::try_from(value).unwrap_or(i64::MAX))
}
