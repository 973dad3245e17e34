//! Redo: applies whole groups of the log to the pool's pages, on as many threads as it is given.
//!
//! Invariant (L7): all of a group's records for a page are applied exactly if the group's end is greater than the page's LSN,
//! decided once per group and page; then the page carries the group's end. So redo of a redo changes nothing, and what comes out
//! does not depend on the number of threads.
//!
//! ```text
//!   replay ──► group, group, group ...   records are dealt out by page id: a page has one lane for good      here
//!                 lane 0 │ lane 1        window: records of some mebibytes of log                           window.rs
//!                        ▼ ▼             one is gathered while one is applied                                lane.rs
//!                        sorted by page, 32 pages read at once, the records of one page in their order       apply.rs
//! ```
//!
//! A record concerns one page and reads no other, so pages may be brought up to date one after the other, or side by side (parallel
//! redo by page, as in ARIES, Mohan et al., TODS 1992, section 10). In a pool that is smaller than what the log names, each page is then
//! read and written once a window, and in the order of the file, not once a group.
//!
//! Memory: the pool, and two windows for each lane, all of them together a sixteenth of the pool, 8 MiB at least and 64 MiB at most.

mod apply;
mod lane;
mod window;

use pagestone_allocator::ReplayedFrees;
use pagestone_buffer_pool::BufferPool;
use pagestone_page_format::{PageError, PageId, PageResult, RedoTable};
use pagestone_swip::MAX_SWIP_PAGE;
use pagestone_sync::Arc;
use pagestone_wal::{Group, RecordKind};

use apply::Applier;
use lane::{Lane, Patience};
use window::Window;

/// What redo did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedoCounts {
    /// Groups seen.
    pub groups: u64,
    /// Records of pages seen.
    pub records: u64,
    /// Pages to which a group was applied, counted once per group.
    pub applied: u64,
    /// Pages that already had a group's changes, counted once per group.
    pub skipped: u64,
    /// Pages whose image in the file was unusable and was formatted anew.
    pub reformatted: u64,
    /// Pages that were read from storage, as often as each was; those that failed as well.
    pub pages_read: u64,
}

impl RedoCounts {
    fn add(&mut self, other: Self) {
        self.groups += other.groups;
        self.records += other.records;
        self.applied += other.applied;
        self.skipped += other.skipped;
        self.reformatted += other.reformatted;
    }
}

/// Bytes of the windows that are gathered, of all lanes together: this part of the pool at most, and so many at least.
const POOL_SHARE: usize = 32;
const WINDOWS_MIN: usize = 4 << 20;
/// More than this saves nothing: a page has some dozen records in it.
const WINDOWS_MAX: usize = 32 << 20;
/// Bytes of a window that a thread without work is given.
const WORTH_A_LOOK: usize = 64 << 10;
/// Bytes of log after which idle threads are looked for.
const LOOK_EVERY: usize = 128 << 10;

/// Redo into one pool. Nothing is sure to be applied before [`Redo::finish`].
///
/// Dropping it without that waits for its threads, which apply what they have been given.
#[derive(Debug)]
pub struct Redo<'p> {
    pool: &'p BufferPool,
    misses_before: u64,
    counts: RedoCounts,
    /// What is being gathered for each lane.
    windows: Vec<Window>,
    /// Bytes that each of them may have.
    window_max: usize,
    /// Bytes of log since the last look for idle threads.
    unlooked: usize,
    frees: ReplayedFrees,
    lanes: Lanes,
}

/// Who applies.
#[derive(Debug)]
enum Lanes {
    /// The caller itself.
    Here(RedoTable),
    /// A thread for each window.
    Threads(Vec<Lane>),
}

impl<'p> Redo<'p> {
    /// With the operations of every floor that logs. The caller's thread does it all, and the same log gives the same calls to storage.
    pub fn new(pool: &'p BufferPool, table: RedoTable) -> Self {
        Self::with_lanes(pool, 1, Lanes::Here(table))
    }

    /// As [`Redo::new`], with so many threads that apply while the caller goes on reading the log: at most one for every four frames.
    /// Fewer than two, or as many as the system has for us: the caller's thread does it.
    pub fn with_threads(pool: &'p Arc<BufferPool>, table: RedoTable, threads: usize) -> Self {
        let threads = threads.min(pool.capacity() / FRAMES_PER_THREAD);
        if threads < 2 {
            return Self::new(pool, table);
        }
        let start = |number| Lane::start(number, Applier::new(Arc::clone(pool), table.clone(), threads));
        let lanes: Vec<Lane> = (0..threads).map_while(|number| start(number).ok()).collect();
        match lanes.len() {
            0 => Self::new(pool, table),
            count => Self::with_lanes(pool, count, Lanes::Threads(lanes)),
        }
    }

    fn with_lanes(pool: &'p BufferPool, count: usize, lanes: Lanes) -> Self {
        Self {
            pool,
            misses_before: pool.stats().misses,
            counts: RedoCounts::default(),
            windows: (0..count).map(|_| Window::default()).collect(),
            window_max: (pool.capacity() / POOL_SHARE * pool.page_size().get())
                .clamp(WINDOWS_MIN, WINDOWS_MAX)
                / count,
            unlooked: 0,
            frees: ReplayedFrees::default(),
            lanes,
        }
    }

    /// Takes one group; groups come in the order of their LSNs. Errors: those of [`Redo::finish`], perhaps for a group before.
    pub fn group(&mut self, group: &Group<'_>) -> PageResult<()> {
        self.counts.groups += 1;
        for record in group.records() {
            match record.kind {
                RecordKind::Logical => {}
                RecordKind::Page => {
                    self.frees.note(record.op, record.payload);
                    if record.page > MAX_SWIP_PAGE {
                        return Err(PageError::InvalidPageId { page_id: record.page });
                    }
                    let lane = lane_of(record.page, self.windows.len());
                    self.windows[lane].push(group, &record);
                }
                // For engines that replay the log themselves; to skip one would be to lose it.
                kind @ (RecordKind::PageImage | RecordKind::PagePatch) => {
                    return Err(PageError::Mismatch {
                        expected: "an operation on a page, or an engine's own record".into(),
                        found: format!("{kind:?}"),
                    });
                }
            }
        }
        self.unlooked += group.encoded_len();
        if self.unlooked >= LOOK_EVERY {
            self.unlooked = 0;
            self.hand_over(false)?;
        }
        Ok(())
    }

    /// What the groups so far freed, for [`LoggedAllocator::after_replay`](pagestone_allocator::LoggedAllocator::after_replay). They are
    /// forgotten here.
    pub fn take_frees(&mut self) -> ReplayedFrees {
        std::mem::take(&mut self.frees)
    }

    /// Applies what is left, and gives what was done.
    ///
    /// Errors: a page that cannot be read and is not formatted by its first group, an unknown operation, or one that does not fit
    /// its page; `Poisoned` if a thread panicked. After one not all that was given is applied.
    pub fn finish(mut self) -> PageResult<RedoCounts> {
        self.hand_over(true)?;
        if let Lanes::Threads(lanes) = &mut self.lanes {
            // All of them, whatever one says: none is at work when this returns.
            let done: Vec<PageResult<RedoCounts>> = lanes.drain(..).map(Lane::finish).collect();
            for counts in done {
                self.counts.add(counts?);
            }
        }
        let pages_read = self.pool.stats().misses - self.misses_before;
        Ok(RedoCounts { pages_read, ..self.counts })
    }

    /// Hands over the windows that are full, to idle threads also such as are worth it, or all.
    fn hand_over(&mut self, all: bool) -> PageResult<()> {
        match &mut self.lanes {
            Lanes::Here(table) => {
                let window = &mut self.windows[0];
                if all || window.is_full(self.window_max) {
                    let mut applier = Applier::new(self.pool, table.clone(), 1);
                    applier.apply(window)?;
                    self.counts.add(applier.counts());
                }
            }
            Lanes::Threads(lanes) => {
                for (lane, window) in lanes.iter().zip(&mut self.windows) {
                    let wait = all || window.is_full(self.window_max);
                    if wait || window.bytes() >= WORTH_A_LOOK {
                        lane.hand_over(window, if wait { Patience::UntilIdle } else { Patience::None })?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Frames that a thread wants for itself, at least.
const FRAMES_PER_THREAD: usize = 4;

/// Which lane has the page: always the same one, so that its records keep their order.
fn lane_of(page: PageId, lanes: usize) -> usize {
    // Neighbours in the file go to one lane, which reads them together.
    (page.get() / PAGES_TOGETHER) as usize % lanes
}

const PAGES_TOGETHER: u64 = 64;
