//! One mini-transaction, from `begin` to `commit`.

use pagestone_allocator::{
    ClearBits, ExtentReservation, Release, Reservation, SetBits, check_allocated, map_page_of,
};
use pagestone_buffer_pool::{Admission, ExclusivePage, Pin};
use pagestone_page_format::{
    Lsn, PageError, PageId, PageKind, PageOp, PageResult, PageSize, SpeculativePage,
};
use pagestone_sync::faults::planted;
use pagestone_wal::{GroupBuilder, LogSpace};

use crate::LoggedPool;
use crate::map::{pin_all, pin_of};

/// Log bytes that the space-map changes of one new page, of one run that is freed, or of one extent can need at most.
const MAP_CHANGE_BYTES: usize = 64;
/// Memory that a group has from its beginning at most, in bytes; it grows where that is not enough.
const GROUP_MEMORY: usize = 4096;
/// Operations that pin no more pages than this do not pass the admission gate.
const PINS_WITHOUT_GATE: usize = 2;

/// What a mini-transaction can need at most; everything that is waited for, is waited for on these figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reserve<'a> {
    /// Encoded size of all its operations, framing included, in bytes; not of those on map pages.
    pub log_bytes: usize,
    /// Pages that it may allocate.
    pub new_pages: usize,
    /// Pages that it may hold at once beside the new ones and the map pages.
    pub pins: usize,
    /// Ids that it may free: runs, each the first id and how many, none over the end of its region.
    pub frees: &'a [(PageId, u32)],
    /// Runs of the extents that it will take ([`MiniTxn::take_extents`]).
    pub extents: &'a [(PageId, u32)],
}

impl Reserve<'_> {
    /// Bytes of log that it asks for, with what its map pages need. More than [`pagestone_wal::Wal::max_group_bytes`] never fits.
    pub fn group_bytes(&self) -> usize {
        let runs = self.frees.len() + self.extents.len();
        self.log_bytes + (self.new_pages + runs) * MAP_CHANGE_BYTES
    }

    /// The map pages of its runs, increasing, each once. It pins them, and those of its new pages.
    pub fn map_pages(&self, size: PageSize) -> Vec<PageId> {
        if self.frees.is_empty() && self.extents.is_empty() {
            return Vec::new(); // as most of them: a put, a removal
        }
        let runs = self.frees.iter().chain(self.extents);
        let mut pages: Vec<PageId> = runs.map(|(first, _)| map_page_of(*first, size)).collect();
        pages.sort_unstable();
        pages.dedup();
        pages
    }
}

/// A latched page of a mini-transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHandle(usize);

/// What a commit gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// End of the group in the log: wait for this LSN to know it durable.
    pub lsn: Lsn,
    /// Bytes of the log that it takes, framing included; 0 for one that changed nothing.
    pub log_bytes: u64,
}

/// A group of page changes that will be in the log whole or not at all.
#[derive(Debug)]
#[must_use = "a mini-transaction does nothing until it is committed"]
pub struct MiniTxn<'e> {
    env: &'e LoggedPool,
    // Latched pages drop before pins, pins before the admission that allowed them.
    latched: Vec<Latched<'e>>,
    group: GroupBuilder,
    ids: Option<Reservation<'e>>,
    /// What one call of [`MiniTxn::take_extents`] each took.
    extents: Vec<ExtentReservation<'e>>,
    released: Release<'e>,
    /// What one call of [`MiniTxn::free_extents`] each freed.
    released_extents: Vec<Release<'e>>,
    new_pins: Vec<Pin<'e>>,
    map_pins: Vec<Pin<'e>>,
    space: Option<LogSpace<'e>>,
    _admission: Option<Admission<'e>>,
    changed: bool,
}

#[derive(Debug)]
struct Latched<'e> {
    page: ExclusivePage<'e>,
    changed: bool,
}

impl<'e> MiniTxn<'e> {
    /// The order of waiting: ids (which may load or format map pages), admission, log bytes, frames.
    pub(crate) fn begin(env: &'e LoggedPool, reserve: Reserve<'_>) -> PageResult<Self> {
        let ids = match reserve.new_pages {
            0 => None,
            n => Some(env.allocator().reserve(env, n)?),
        };
        Self::begin_with(env, reserve, ids)
    }

    /// With ids for its new pages.
    pub(crate) fn begin_with(
        env: &'e LoggedPool,
        reserve: Reserve<'_>,
        ids: Option<Reservation<'e>>,
    ) -> PageResult<Self> {
        let mut map_ids = reserve.map_pages(env.pool().page_size());
        if let Some(ids) = &ids {
            map_ids.extend(ids.map_pages());
            map_ids.sort_unstable();
            map_ids.dedup();
        }
        let pins = reserve.pins + reserve.new_pages + map_ids.len();
        let admission = (pins > PINS_WITHOUT_GATE).then(|| env.pool().admit(pins));
        let space = env.log().reserve(reserve.group_bytes())?;
        let map_pins = pin_all(env, &map_ids)?;
        let new_pins = match &ids {
            None => Vec::new(),
            Some(ids) => ids
                .ids()
                .iter()
                .map(|id| env.pool().adopt(*id, PageKind::PLAIN))
                .collect::<PageResult<Vec<_>>>()?,
        };
        Ok(Self {
            env,
            latched: Vec::new(),
            group: GroupBuilder::with_capacity(reserve.group_bytes().min(GROUP_MEMORY)),
            ids,
            extents: Vec::new(),
            released: env.allocator().release(),
            released_extents: Vec::new(),
            new_pins,
            map_pins,
            space: Some(space),
            _admission: admission,
            changed: false,
        })
    }

    /// Takes a page that the caller latched, in latch order, and holds it until the end.
    pub fn latch(&mut self, page: ExclusivePage<'e>) -> PageHandle {
        self.latched.push(Latched { page, changed: false });
        PageHandle(self.latched.len() - 1)
    }

    /// A page's bytes.
    pub fn page(&self, handle: PageHandle) -> SpeculativePage<'e> {
        self.latched[handle.0].page.page()
    }

    /// Which page it is.
    pub fn id(&self, handle: PageHandle) -> PageId {
        self.latched[handle.0].page.id()
    }

    /// A latched page, to look at.
    pub fn latched(&self, handle: PageHandle) -> &ExclusivePage<'e> {
        &self.latched[handle.0].page
    }

    /// Takes one of the reserved page ids and latches its frame. The first change must be an operation that formats it.
    ///
    /// Errors: `NoSpace` if more pages are taken than were reserved, which is a bug of the caller's; `AllocationState` if a page that
    /// the transaction has latched is among those that it reserved, so that a space map which calls it free lies. That shows with the
    /// first page that is taken.
    pub fn allocate(&mut self) -> PageResult<PageHandle> {
        self.check_latched_in_use()?;
        let id = self.ids.as_mut().and_then(|ids| ids.take());
        let pin = id.and_then(|id| self.new_pins.iter().find(|pin| pin.id() == id));
        let Some(pin) = pin else {
            return Err(PageError::NoSpace { needed: self.env.pool().page_size().get() as u64 });
        };
        let page = pin.exclusive()?;
        Ok(self.latch(page))
    }

    /// Nobody waits for a latch that he holds himself.
    fn check_latched_in_use(&self) -> PageResult<()> {
        let Some(ids) = &self.ids else { return Ok(()) };
        let latched = self.latched.iter().map(|latched| latched.page.id());
        let free = latched.filter(|id| !ids.taken().contains(id)).find(|id| ids.ids().contains(id));
        free.map_or(Ok(()), |page_id| Err(PageError::AllocationState { page_id, state: "free" }))
    }

    /// Applies an operation to a latched page and puts it into the group. An error means that the operation did not fit the
    /// page: a bug of ours, and the handle is poisoned when the transaction is dropped.
    pub fn change(&mut self, handle: PageHandle, op: &dyn PageOp) -> PageResult<()> {
        // From here on memory may differ from the log until the commit; a panic inside `apply` poisons in `drop`.
        self.changed = true;
        let latched = &mut self.latched[handle.0];
        latched.changed = true;
        op.apply(&latched.page.writer())?;
        self.group.push(latched.page.id(), op);
        Ok(())
    }

    /// Frees ids in a row, one run of [`Reserve::frees`] or a part of one. The pages stay as the group leaves them; the ids can be
    /// used again once the group is committed. Waits for nothing but the map page's latch, whose holders wait for nothing.
    ///
    /// Errors: `AllocationState` if one of them is free or being freed already, `InvalidPageId`, and `Malformed` if the run was not
    /// reserved; each is a bug of the caller's or a broken file, and if anything was changed the handle is poisoned when the
    /// transaction is dropped. So free first: a group that fails here has changed nothing.
    pub fn free(&mut self, first: PageId, count: u32) -> PageResult<()> {
        self.check_freed(first, count)?;
        self.released.add(first, count)?;
        self.changed = true;
        Ok(())
    }

    /// What can be told of a run before it is freed: its map page is pinned, and says that it is in use.
    fn check_freed(&self, first: PageId, count: u32) -> PageResult<()> {
        let map = map_page_of(first, self.env.pool().page_size());
        if map == first {
            return Err(PageError::InvalidPageId { page_id: first });
        }
        let map = pin_of(&self.map_pins, map)?;
        // The allocator knows only regions that it was asked for ids of; the page knows. The bits of the group's own ids come with it.
        if !self.ids.as_ref().is_some_and(|ids| ids.taken().contains(&first)) {
            check_allocated(map.shared()?.page(), first, count)?;
        }
        Ok(())
    }

    /// Frees extents, each a run of [`Reserve::frees`]: all of them, or none if there is an error. Their ids stay out of use while
    /// anybody reads who began before the commit (L8). Never waits; errors as [`MiniTxn::free`]. Before the first change an error
    /// costs nothing.
    pub fn free_extents(&mut self, runs: &[(PageId, u32)]) -> PageResult<()> {
        if runs.is_empty() {
            return Ok(());
        }
        let mut released = self.env.allocator().release();
        for (first, count) in runs {
            self.check_freed(*first, *count)?;
            released.add_extent(*first, *count)?;
        }
        self.changed = true;
        self.released_extents.push(released);
        Ok(())
    }

    /// Puts extents to use that were named in [`Reserve::extents`]: their bits are set in this group, and the group is durable only
    /// after what was written there is (L12). A group may take several, one call each; they share one pass of the log's barrier.
    /// Errors: `Malformed` if they were not named, a bug of the caller's; then this call has changed nothing.
    pub fn take_extents(&mut self, extents: ExtentReservation<'e>) -> PageResult<()> {
        for page in extents.map_pages() {
            pin_of(&self.map_pins, page)?;
        }
        self.changed = true;
        self.group.refer_to_data();
        self.extents.push(extents);
        Ok(())
    }

    /// Whether anything was changed yet.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// Appends the group, stamps the pages (L1, L3) and lets go of everything. Waits for nothing but map-page latches, whose
    /// holders wait for nothing. Durable once the log is durable up to the LSN it gives.
    pub fn commit(mut self) -> PageResult<Committed> {
        if !self.changed {
            return Ok(Committed { lsn: self.env.log().end_lsn(), log_bytes: 0 });
        }
        self.change_map_pages()?;
        let space = self.space.take().expect("a mini-transaction is committed once");
        let appended = self.env.log().append(space, &mut self.group);
        let (start, lsn) = (appended.start, appended.end);
        let in_progress = (!planted("a group ends before its pages are stamped")).then_some(appended);
        for latched in self.latched.iter().filter(|latched| latched.changed) {
            latched.page.publish(start, lsn);
        }
        self.changed = false;
        // Before anybody can see the pages that use them, and free them: else what is put to use here would be what another group
        // has freed by then (L8).
        if let Some(ids) = self.ids.take() {
            ids.commit();
        }
        self.extents.drain(..).for_each(ExtentReservation::commit);
        self.latched.clear();
        // Only now may a checkpoint forget that the group is in progress (L5): its pages carry their rec LSN.
        drop(in_progress);
        std::mem::replace(&mut self.released, self.env.allocator().release()).commit(lsn);
        for released in std::mem::take(&mut self.released_extents) {
            released.commit(lsn);
        }
        Ok(Committed { lsn, log_bytes: lsn.get() - start.get() })
    }

    /// In increasing order of the map pages, which is the order of their latches.
    fn change_map_pages(&mut self) -> PageResult<()> {
        let takes = self.ids.is_some() || !self.extents.is_empty();
        if !takes && self.released.is_empty() && self.released_extents.is_empty() {
            return Ok(());
        }
        let of_pages = self.ids.iter().flat_map(|ids| ids.set_bits());
        let set = of_pages.chain(self.extents.iter().flat_map(|extents| extents.set_bits()));
        let set = set.map(|(map_page, op)| (map_page, MapChange::Set(op)));
        let released = [&self.released].into_iter().chain(&self.released_extents);
        let clear =
            released.flat_map(Release::clear_bits).map(|(map_page, op)| (map_page, MapChange::Clear(op)));
        let mut changes: Vec<_> = set.chain(clear).collect();
        changes.sort_by_key(|(map_page, _)| *map_page); // stable: what is set, is set first
        let mut current: Option<PageHandle> = None;
        for (map_page, op) in changes {
            let handle = match current.filter(|handle| self.id(*handle) == map_page) {
                Some(handle) => handle,
                None => {
                    let page = pin_of(&self.map_pins, map_page)?.exclusive()?;
                    self.latch(page)
                }
            };
            match &op {
                MapChange::Set(op) => self.change(handle, op)?,
                MapChange::Clear(op) => self.change(handle, op)?,
            }
            current = Some(handle);
        }
        Ok(())
    }
}

/// A change of a map page.
enum MapChange {
    Set(SetBits),
    Clear(ClearBits),
}

impl Drop for MiniTxn<'_> {
    fn drop(&mut self) {
        if self.changed {
            // What memory holds now is in no log. Poison before the latches go, so that nobody builds on it.
            self.env.poison().poison("a mini-transaction with changes was dropped without a commit");
        }
    }
}
