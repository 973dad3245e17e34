//! What the allocator knows, behind its mutex: which step a request needs next, and the effect of each step.
//!
//! Invariant: every id of a known region is in exactly one of four states: free (in `free`), being released (in
//! `releasing`), in a reservation, or in use; the last two are told apart by their owners alone.
//!
//! ```text
//!              reserve                    commit
//!     free ─────────────► reserved ─────────────────────► in use
//!      ▲  ◄───────────────  drop                            │ ▲
//!      │                                                add │ │ drop
//!      └──────────────────────────────── being released ◄───┘ │
//!                     commit                    └─────────────┘
//! ```

use std::ops::Range;

use pagestone_page_format::{PageError, PageId, PageResult};

use crate::RegionBits;
use crate::extents::Extents;
use crate::regions::Regions;
use crate::space_map::malformed;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// That many ids, wherever they are.
    Singles(u64),
    /// That many ids in a row.
    Run(u64),
}

impl Request {
    pub(crate) fn ids(self) -> u64 {
        match self {
            Self::Singles(ids) | Self::Run(ids) => ids,
        }
    }
}

/// How far a request looks for free ids in regions that are not known yet before it makes the file longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// Into that many more regions: the bound on what one operation costs. Later requests go on from there.
    Regions(u32),
    /// Into all of them: the file cannot grow.
    All,
}

/// What a request needs next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// There are enough ids.
    Take,
    /// This region's bits.
    Load(u64),
    /// A new region, in a file of at least so many pages.
    Format { region: u64, pages: u64 },
    /// What another thread is loading or formatting.
    Wait,
    /// Ids that no file can have.
    NoSpace,
}

#[derive(Debug)]
pub(crate) struct State {
    /// Ids of a region.
    bits: u64,
    /// Ids of the file: up to this one, without it.
    end: u64,
    free: Extents,
    releasing: Extents,
    pub(crate) regions: Regions,
    /// Pages that the file is known to have room for.
    pub(crate) room: u64,
}

impl State {
    pub(crate) fn new(bits: u64, end: u64) -> Self {
        Self { bits, end, free: Extents::new(), releasing: Extents::new(), regions: Regions::new(), room: 0 }
    }

    /// What `request` needs next. Prefers free ids among those in use, then a look into unknown regions, then ids past
    /// the highest in use, then a new region.
    pub(crate) fn next_step(&self, request: Request, look: Look) -> Step {
        if matches!(request, Request::Run(len) if len >= self.bits) {
            return Step::NoSpace;
        }
        let unless_busy = |step| if self.regions.is_busy() { Step::Wait } else { step };
        if let Some(region) = self.regions.must_load() {
            return unless_busy(Step::Load(region));
        }
        if self.has(request, self.high_water().unwrap_or(0)) {
            return Step::Take;
        }
        if let Some(region) = self.regions.lowest_unknown() {
            match look {
                Look::All => return unless_busy(Step::Load(region)),
                // Somebody is looking already: growing is as good as waiting.
                Look::Regions(more) if more > 0 && !self.regions.is_busy() => return Step::Load(region),
                Look::Regions(_) => {}
            }
        }
        if self.has(request, self.end) {
            return Step::Take;
        }
        match (self.new_region(request), self.regions.lowest_unknown()) {
            (Some(format), _) => unless_busy(format),
            (None, Some(region)) => unless_busy(Step::Load(region)),
            (None, None) => Step::NoSpace,
        }
    }

    /// The region to format next, and how long the file must be to hold everything that is asked for, so that a full disk
    /// is noticed before anything was changed.
    fn new_region(&self, request: Request) -> Option<Step> {
        let region = self.regions.count()?;
        let first = region.checked_mul(self.bits)?;
        let pages = match request {
            Request::Run(len) => first.checked_add(1 + len)?,
            Request::Singles(ids) => {
                let missing = ids - self.free.total().min(ids);
                let maps = missing.div_ceil(self.bits - 1);
                first.checked_add(missing.checked_add(maps)?)?
            }
        };
        (pages <= self.end).then_some(Step::Format { region, pages })
    }

    /// Whether the ids asked for are free below `end`, which is the high water or the end of everything.
    fn has(&self, request: Request, end: u64) -> bool {
        match request {
            Request::Singles(ids) => {
                let past = self
                    .last_extent()
                    .map_or(0, |last| if last.start < end { 0 } else { last.end - last.start });
                self.free.total() - past >= ids
            }
            Request::Run(len) => self.free.lowest_run(len).is_some_and(|start| start < end),
        }
    }

    /// Takes the ids asked for, lowest first; [`Step::Take`] said that they are there.
    pub(crate) fn take(&mut self, request: Request) -> Vec<PageId> {
        let mut ids = Vec::new();
        let mut push = |(start, len)| ids.extend((start..start + len).map(PageId::new));
        match request {
            Request::Singles(wanted) => {
                let mut missing = wanted;
                while missing > 0 {
                    let run =
                        self.free.take_lowest(missing).expect("enough ids were counted under this lock");
                    missing -= run.1;
                    push(run);
                }
            }
            Request::Run(len) => {
                let start = self.free.lowest_run(len).expect("a run was found under this lock");
                self.free.take(start, len).expect("a run that was found is free");
                push((start, len));
            }
        }
        ids
    }

    /// Makes reserved ids free again.
    pub(crate) fn forfeit(&mut self, start: u64, len: u64) {
        self.free.give(start, len).expect("ids of a reservation are not free");
    }

    /// Takes in what was read of the region in progress. Ids that are being released are not free yet, whatever their
    /// bit; ids that were released since the reading began are, whatever their bit.
    pub(crate) fn merge(&mut self, region: u64, loaded: Option<RegionBits>) -> PageResult<()> {
        let released = self.regions.take_released();
        let Some(mut loaded) = loaded else {
            return if region == 0 {
                self.regions.set_empty();
                Ok(())
            } else {
                Err(malformed(self.map_page(region), "a region that is counted and was never formatted"))
            };
        };
        if loaded.region() != region || loaded.bits() != self.bits {
            return Err(malformed(self.map_page(region), "the map of another region"));
        }
        for (start, len) in released {
            loaded.mark(start, len, false);
        }
        let own = self.ids_of(region);
        for (start, len) in self.releasing.within(own.clone()) {
            loaded.mark(start, len, true);
        }
        for (start, len) in loaded.free_runs() {
            let len = own.end.saturating_sub(start.get()).min(len);
            self.free.give(start.get(), len).expect("no id of an unknown region is free");
        }
        self.regions.set_known(region, loaded.regions());
        Ok(())
    }

    /// Takes in the region that was formatted.
    pub(crate) fn add_region(&mut self, region: u64) {
        let own = self.ids_of(region);
        self.free.give(own.start + 1, own.end - own.start - 1).expect("no id of a new region is free");
        self.regions.set_formatted(region);
    }

    /// Begins to release ids: they must be in use, as far as that is known.
    pub(crate) fn begin_release(&mut self, first: PageId, count: u32) -> PageResult<()> {
        let (start, len) = (first.get(), u64::from(count));
        let in_region = start % self.bits;
        let formatted = self.regions.count().is_none_or(|count| start / self.bits < count);
        if in_region == 0 || len == 0 || in_region + len > self.bits || start >= self.end || !formatted {
            return Err(PageError::InvalidPageId { page_id: first });
        }
        if let Some(id) = self.free.overlap(start, len).or_else(|| self.releasing.overlap(start, len)) {
            return Err(PageError::AllocationState { page_id: PageId::new(id), state: "free" });
        }
        self.releasing.give(start, len).expect("no overlap was found under this lock");
        Ok(())
    }

    /// Forgets that ids were to be released: they stay in use.
    pub(crate) fn forget_release(&mut self, start: u64, len: u64) {
        self.releasing.take(start, len).expect("what a release holds is being released");
    }

    /// Makes released ids free. Those of an unknown region are found free when it is loaded.
    pub(crate) fn finish_release(&mut self, start: u64, len: u64) {
        self.forget_release(start, len);
        let region = start / self.bits;
        if self.regions.is_known(region) {
            self.free.give(start, len).expect("ids that are being released are not free");
        } else {
            self.regions.note_released(region, start, len);
        }
    }

    /// One past the highest id in use or reserved, once the last region is known.
    pub(crate) fn high_water(&self) -> Option<u64> {
        if self.regions.must_load().is_some() {
            return None;
        }
        Some(self.last_extent().map_or(self.formatted_end(), |last| last.start))
    }

    /// Free ids below the high water.
    pub(crate) fn free_count(&self) -> u64 {
        self.free.total() - self.last_extent().map_or(0, |last| last.end - last.start)
    }

    /// The free ids behind the highest in use.
    fn last_extent(&self) -> Option<Range<u64>> {
        let (start, len) = self.free.last()?;
        (start + len == self.formatted_end()).then_some(start..start + len)
    }

    fn formatted_end(&self) -> u64 {
        self.regions.count().unwrap_or(0).saturating_mul(self.bits).min(self.end)
    }

    fn ids_of(&self, region: u64) -> Range<u64> {
        let first = region.saturating_mul(self.bits).min(self.end);
        first..first.saturating_add(self.bits).min(self.end)
    }

    fn map_page(&self, region: u64) -> PageId {
        PageId::new(region.saturating_mul(self.bits))
    }
}
