//! The open log: its parts, and who may touch which.
//!
//! Invariant: LSNs are given under the mutex in the order in which the bytes come to lie, and batches carry them in that
//! order, one at a time; so everything before the durable LSN is durable, without a gap, by construction.
//!
//! ```text
//!   reserve ──► append ──► wait_durable
//!   waits       copies     leads a batch or waits for one
//!
//!   state      Mutex       the buffer, the end, reservations, who leads           held for a copy, never over I/O
//!   prepaid    AtomicUsize room that is reserved ahead: prepaid.rs                added under the mutex, taken without it
//!   progress   atomics     groups whose pages are not stamped yet: progress.rs    begun under the mutex, done without it
//!   making     Mutex       making, renaming, removing segment files               held over I/O, taken before the others
//!   segments   Mutex       which segments are ready                               held for a look-up
//!   durable    AtomicU64   rises when a batch is synced                           read by everybody
//! ```
//!
//! Who leads a batch owns the other buffer, the tail slots and the files' bytes until it hands over.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use pagestone_direct_io::Disk;
use pagestone_page_format::{AlignedBuf, Lsn, PageResult, Poison, StoreUuid, WriteAhead};
use pagestone_sync::atomic::{AtomicBool, AtomicU64, Ordering};
use pagestone_sync::{Condvar, Mutex};

use crate::alone::Alone;
use crate::buffer::{Identity, LogBuffer};
use crate::callback::Callback;
use crate::error::WalResult;
use crate::metrics::WalMetrics;
use crate::options::WalOptions;
use crate::prepaid::Prepaid;
use crate::progress::Progress;
use crate::recover;
use crate::segment::{Segment, SegmentMaker};
use crate::stats::WalStats;

/// The write-ahead log, open for writing.
///
/// It is shared by reference; every method takes `&self` and may be called from many threads.
///
/// An engine with page kinds and records of its own, and no superblock: the log keeps by itself where recovery begins.
///
/// ```
/// use pagestone_page_format::{DEFAULT_PAGE_SIZE, Lsn, MemoryStore, Page, PageId, PageStore};
/// use pagestone_wal::{GroupBuilder, Wal, WalOptions};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("log");
/// let options = WalOptions { segment_bytes: 64 << 10, log_bytes: 1 << 20, ..WalOptions::default() };
/// let log = Wal::open(&dir, &options)?.start_alone()?; // made, if there is none
/// let mut page = Page::new(DEFAULT_PAGE_SIZE, PageId::new(3));
/// page.payload_mut()[..5].copy_from_slice(b"hello");
/// log.append_page_image(page.id(), page.bytes())?;
/// let mut group = GroupBuilder::new(); // atomic: replayed whole or not at all
/// group.push_page_patch(page.id(), 32, b"J");
/// group.push_logical(0x4000, b"greeted");
/// log.append(log.reserve(group.encoded_len())?, &mut group);
/// let end = log.commit()?; // strict: durable
/// drop(log);
///
/// let store = MemoryStore::new(DEFAULT_PAGE_SIZE); // a page file, after a crash
/// let mut said = Vec::new();
/// let mut recovery = Wal::open(&dir, &options)?;
/// let report = recovery.recover(&store, Lsn::ZERO, |_, record| {
///     said.push((record.op, record.payload.to_vec()));
///     Ok(())
/// })?;
/// assert_eq!((report.groups, report.applied, report.end), (2, 2, end));
/// assert_eq!(said, [(0x4000, b"greeted".to_vec())]);
/// store.read_into(PageId::new(3), &mut page)?;
/// assert_eq!((&page.payload()[..5], page.lsn()), (&b"Jello"[..], end));
///
/// let log = recovery.start_alone()?;
/// let empty_from = log.reset()?; // the pages are durable: nothing of the log is needed any more
/// assert!(empty_from >= end && log.append_logical(0x4000, b"again")? > empty_from);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Wal {
    pub(crate) identity: Identity,
    pub(crate) options: WalOptions,
    pub(crate) poison: Poison,
    pub(crate) state: Mutex<State>,
    /// Beside the mutex, so that who reserves need not take it.
    pub(crate) prepaid: Prepaid,
    /// Beside the mutex, so that who is done need not take it.
    pub(crate) progress: Progress,
    /// Told whenever [`Wal::reserve`] may find more room than before.
    pub(crate) room: Condvar,
    /// Told when the keep LSN rose: who is delayed may go on sooner.
    pub(crate) eased: Condvar,
    /// Rises under the mutex. Release there pairs with the Acquire of those who look without it.
    pub(crate) durable: AtomicU64,
    /// A batch failed: nothing becomes durable any more.
    pub(crate) dead: AtomicBool,
    /// The batch whose leader has been told to go ahead; what its successor sleeps on, by its number.
    pub(crate) turns: [AtomicU64; 4],
    /// What the waiters of a batch sleep on, by its number; only the addresses are used.
    pub(crate) followers: [AtomicU64; 4],
    pub(crate) segments: Mutex<VecDeque<Arc<Segment>>>,
    pub(crate) making: Mutex<()>,
    pub(crate) maker: SegmentMaker,
    pub(crate) metrics: WalMetrics,
    /// What makes the bytes durable that groups refer to.
    pub(crate) barrier: OnceLock<WriteBarrier>,
    /// Where recovery begins, if the log keeps that itself.
    pub(crate) alone: Option<Alone>,
}

/// Makes durable whatever was written outside the log before the call.
pub(crate) type WriteBarrier = Box<dyn Fn() -> PageResult<()> + Send + Sync>;

/// What the mutex guards. What every append changes stands together, behind the rest: lines of the cache that move from one writer's core
/// to the next one's are what the mutex costs.
#[repr(C)]
pub(crate) struct State {
    /// The other buffer, unless a batch is in flight in it.
    pub(crate) spare: Option<AlignedBuf>,
    /// Starts of the groups in progress for which [`Progress`] had no place.
    pub(crate) without_place: Vec<Lsn>,
    /// The disk had no room for the next segment; asked again only when it must be.
    pub(crate) no_space: bool,
    pub(crate) next_ticket: u64,
    /// How many sleep because the log is filling up.
    pub(crate) delayed: usize,
    /// All but what is counted in `counts`.
    pub(crate) stats: WalStats,
    pub(crate) commit: CommitState,
    /// Replay may start here; segments below are nobody's.
    pub(crate) keep: Lsn,
    /// Number of the block behind the last ready segment.
    pub(crate) ready: u64,
    /// Who waits in [`Wal::reserve`], in order.
    pub(crate) queue: VecDeque<u64>,
    pub(crate) buffer: LogBuffer,
    /// End of the last appended group.
    pub(crate) end: Lsn,
    /// Bytes promised to reservations: buffer, segments and budget have room for them.
    pub(crate) outstanding: usize,
    pub(crate) counts: GroupCounts,
}

/// What every append counts; as in [`WalStats`].
#[derive(Default)]
pub(crate) struct GroupCounts {
    pub(crate) groups: u64,
    pub(crate) group_bytes: u64,
    pub(crate) used_max: u64,
}

/// Who leads, and what.
pub(crate) struct CommitState {
    /// Somebody leads, or has been told to.
    pub(crate) leading: bool,
    /// The leader has sealed its batch and not finished it.
    pub(crate) in_flight: bool,
    /// Somebody will lead the next batch and sleeps until its turn.
    pub(crate) successor: bool,
    /// Number of the newest sealed batch, and what it makes durable.
    pub(crate) sealed: u64,
    pub(crate) sealed_end: Lsn,
    /// Some group that no batch carries yet refers to data outside the log (L12).
    pub(crate) after_data: bool,
    /// The tail slot that the next open block goes to: never the one of the newest durable version.
    pub(crate) slot: u64,
    pub(crate) callbacks: BTreeMap<(Lsn, u64), Callback>,
    pub(crate) next_callback: u64,
}

/// What recovery leaves to begin with.
pub(crate) struct Beginning {
    pub(crate) identity: Identity,
    pub(crate) options: WalOptions,
    pub(crate) poison: Poison,
    pub(crate) keep: Lsn,
    /// Contiguous, and ending behind the identity's first block.
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) maker: SegmentMaker,
}

impl Wal {
    /// Makes the log's directory and its first segment, and syncs both. The stream begins at LSN 4096. For engines that keep by
    /// themselves where recovery begins ([`crate::Recovery::open`]); [`Wal::open`] makes what it needs.
    ///
    /// What an interrupted call left is finished. A directory with any block of any log in it is
    /// [`crate::WalError::AlreadyExists`].
    pub fn create(disk: Arc<dyn Disk>, dir: PathBuf, options: &WalOptions, uuid: StoreUuid) -> WalResult<()> {
        let _ = uuid; // stands in every block; an empty log has none
        recover::create(disk, dir, options)
    }

    /// Sets what makes bytes outside the log durable, once, before the first group that refers to such bytes is appended.
    ///
    /// Who leads a batch with such a group in it calls it once, before the first byte of the batch is written, with no lock held.
    /// It must make everything durable that was written before it was called, and must not wait for the log. An error ends the
    /// handle as a failed write of the log does (L9). Panics if there is one already, which is a bug of the caller's.
    pub fn set_write_barrier(&self, barrier: impl Fn() -> PageResult<()> + Send + Sync + 'static) {
        let set = self.barrier.set(Box::new(barrier));
        assert!(set.is_ok(), "a log has one write barrier");
    }

    pub(crate) fn begin(beginning: Beginning) -> Self {
        let Beginning { identity, options, poison, keep, segments, maker } = beginning;
        let ready = segments.back().map_or(identity.first, Segment::end);
        let end = identity.prev_end;
        let state = State {
            spare: Some(AlignedBuf::zeroed(options.buffer_bytes)),
            without_place: Vec::new(),
            no_space: false,
            next_ticket: 0,
            delayed: 0,
            stats: WalStats::default(),
            commit: CommitState {
                leading: false,
                in_flight: false,
                successor: false,
                sealed: 0,
                sealed_end: end,
                after_data: false,
                slot: 0,
                callbacks: BTreeMap::new(),
                next_callback: 0,
            },
            keep,
            ready,
            queue: VecDeque::new(),
            buffer: LogBuffer::new(AlignedBuf::zeroed(options.buffer_bytes), identity.first),
            end,
            outstanding: 0,
            counts: GroupCounts::default(),
        };
        Self {
            identity,
            options,
            poison,
            state: Mutex::new(state),
            prepaid: Prepaid::none(),
            progress: Progress::new(),
            room: Condvar::new(),
            eased: Condvar::new(),
            durable: AtomicU64::new(end.get()),
            dead: AtomicBool::new(false),
            turns: [const { 0 }; 4].map(AtomicU64::new),
            followers: [const { 0 }; 4].map(AtomicU64::new),
            segments: Mutex::new(segments.into_iter().map(Arc::new).collect()),
            making: Mutex::new(()),
            maker,
            metrics: WalMetrics::new(),
            barrier: OnceLock::new(),
            alone: None,
        }
    }

    /// Everything before this LSN is durable. Rises, never falls.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn::new(self.durable.load(Ordering::Acquire)) // pairs with the store in `finish_batch`
    }

    /// Whether everything before `lsn` is durable.
    pub fn is_lsn_durable(&self, lsn: Lsn) -> bool {
        self.durable_lsn() >= lsn
    }

    /// End of the last appended group.
    pub fn end_lsn(&self) -> Lsn {
        self.state.lock().end
    }

    /// For checkpoints (L5, step 1): at one instant, the end of the log and the start of the oldest group that was
    /// appended and whose pages are not yet stamped.
    pub fn checkpoint_floor(&self) -> (Lsn, Option<Lsn>) {
        let state = self.state.lock();
        (state.end, self.progress.oldest(&state.without_place))
    }

    /// Bytes that the log spans from the keep LSN to its end: what a checkpoint could free.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Bytes that the log may span.
    pub fn budget(&self) -> u64 {
        self.options.log_bytes
    }

    /// Bytes of the largest group that it takes.
    pub fn max_group_bytes(&self) -> usize {
        self.options.max_group_bytes()
    }

    /// The generation that it writes.
    pub fn generation(&self) -> u64 {
        self.identity.generation
    }

    /// What it has done since it was opened, and how full it is.
    pub fn stats(&self) -> WalStats {
        let segments = self.segments.lock().len() as u64;
        let state = self.state.lock();
        WalStats {
            end_lsn: state.end,
            durable_lsn: self.durable_lsn(),
            keep_lsn: state.keep,
            used: state.used(),
            budget: self.options.log_bytes,
            groups: state.counts.groups,
            group_bytes: state.counts.group_bytes,
            used_max: state.counts.used_max,
            durable_by: self.maker.durable_by,
            segments,
            ..state.stats
        }
    }
}

impl State {
    /// So many of the bytes that were promised are used, or not wanted.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        let left = self.outstanding.checked_sub(bytes);
        self.outstanding = left.expect("no more room is given back than was promised");
    }

    pub(crate) fn used(&self) -> u64 {
        self.end.get().saturating_sub(self.keep.get())
    }
}

impl WriteAhead for Wal {
    fn durable_lsn(&self) -> Lsn {
        Wal::durable_lsn(self)
    }

    fn ensure_durable(&self, lsn: Lsn) -> PageResult<()> {
        Ok(self.wait_durable(lsn)?)
    }
}

impl std::fmt::Debug for Wal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wal")
            .field("uuid", &self.identity.uuid)
            .field("generation", &self.identity.generation)
            .field("durable", &self.durable_lsn())
            .finish_non_exhaustive()
    }
}
