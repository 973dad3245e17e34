//! What the allocator knows, behind its mutex: which step a request needs next, and the effect of each step.
//!
//! Invariant: every id of a known region is in exactly one of five states: free (in `free`), being released (in
//! `releasing`), held by readers (in `held`), in a reservation, or in use; the last two are told apart by their owners alone. Of
//! the free ids those are settled (in `settled`, too) that are not young: only they may become extents.
//!
//! ```text
//!              reserve                    commit
//!     free ─────────────► reserved ─────────────────────► in use
//!      ▲  ◄───────────────  drop                            │ ▲
//!      │                                                add │ │ drop
//!      ├──────────────────────────────── being released ◄───┘ │
//!      │              commit             │      └─────────────┘
//!      └───────── held ◄─────────────────┘ an extent, while somebody reads
//! ```

use std::ops::Range;

use pagestone_page_format::{Lsn, PageError, PageId, PageResult};
use pagestone_sync::faults::planted;

use crate::RegionBits;
use crate::extents::Extents;
use crate::quarantine::{Held, Young};
use crate::readers::Readers;
use crate::regions::Regions;
use crate::replayed::ReplayedFrees;
use crate::request::{Look, Request, Step};
use crate::space_map::malformed;
use crate::tail::Tail;

#[derive(Debug)]
pub(crate) struct State {
    /// Ids of a region.
    bits: u64,
    /// Ids of the file: up to this one, without it.
    end: u64,
    free: Extents,
    /// Those of the free ids that are not young.
    settled: Extents,
    young: Young,
    held: Held,
    releasing: Extents,
    /// Extents were wanted past the high water although young ids would have done; see [`State::grew_beside`].
    grew_beside: Option<GrewBeside>,
    pub(crate) regions: Regions,
    /// Pages that the file is known to have room for.
    pub(crate) room: u64,
    pub(crate) tail: Tail,
}

/// How much a checkpoint would have saved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum GrewBeside {
    /// Some ids.
    Young,
    /// A good part of the file.
    ManyYoung,
}

/// Young ids are many if they are more than this part of those below the high water.
const MANY: u64 = 16;

impl State {
    pub(crate) fn new(bits: u64, end: u64) -> Self {
        Self {
            bits,
            end,
            free: Extents::new(),
            settled: Extents::new(),
            young: Young::default(),
            held: Held::default(),
            releasing: Extents::new(),
            grew_beside: None,
            regions: Regions::new(),
            room: 0,
            tail: Tail::default(),
        }
    }

    /// Ids that are free, and free for no extent yet; with those that readers hold.
    pub(crate) fn quarantined(&self) -> u64 {
        self.young_free() + self.held.ids().total()
    }

    fn young_free(&self) -> u64 {
        self.free.total() - self.settled.total()
    }

    /// Whether the file grew by extents while a checkpoint would have made room for them.
    pub(crate) fn grew_beside(&self) -> Option<GrewBeside> {
        self.grew_beside
    }

    /// Before anything is known: a replayed log that ended at `lsn` freed these ids.
    pub(crate) fn freed_by_replay(&mut self, lsn: Lsn, frees: &ReplayedFrees) {
        frees.runs().for_each(|(start, len)| self.young.add(lsn, start, len));
        self.young.close();
        self.tail.keep_until(lsn, u64::MAX);
    }

    /// A checkpoint at `lsn` has passed, in both copies: what was freed before it may be used as extents.
    pub(crate) fn checkpoint_passed(&mut self, lsn: Lsn) {
        self.tail.pass(lsn);
        let passed = self.young.pass(lsn);
        for (start, len) in passed.iter().flat_map(|ids| ids.within(0..self.end)) {
            // Those that are reserved settle when they are forfeited; those of unknown regions when they are loaded.
            for (start, len) in self.free.within(start..start + len).collect::<Vec<_>>() {
                self.settled.give(start, len).expect("what was young is not settled");
            }
        }
        // Also where nothing passed because all of it went into use as pages: another checkpoint would free nothing.
        if !passed.is_empty() || self.young_free() == 0 {
            self.grew_beside = None;
        }
    }

    /// Takes back what nobody reads any more.
    pub(crate) fn let_go(&mut self, readers: &Readers) {
        while let Some(run) = self.held.let_go(readers) {
            self.become_young(run.lsn, run.start, run.len);
        }
    }

    /// Ids become free, and settled as far as they are not young.
    fn give(&mut self, start: u64, len: u64) {
        self.free.give(start, len).expect("an id that becomes free is not free");
        for (start, len) in self.young.others(start, len) {
            self.settled.give(start, len).expect("what was not free was not settled");
        }
    }

    /// Runs of settled ids for extents, lowest first: one, if there is one so long; else as few as there can be. Only such as
    /// begin below `end`.
    fn plan(&self, pages: u64, runs: usize, end: u64) -> Option<Vec<(u64, u64)>> {
        if let Some(start) = self.settled.lowest_run(pages).filter(|start| *start < end) {
            return Some(vec![(start, pages)]);
        }
        let (mut plan, mut missing) = (Vec::new(), pages);
        for (start, len) in self.settled.longest_first().filter(|(start, _)| *start < end).take(runs) {
            plan.push((start, len.min(missing)));
            missing -= len.min(missing);
            if missing == 0 {
                plan.sort_unstable();
                return Some(plan);
            }
        }
        None
    }

    /// Takes note of what is taken, for [`State::grew_beside`].
    fn note_growth(&mut self, first_past: u64, pages: u64, highest: u64) {
        let young = self.young_free();
        if highest >= first_past && young >= pages {
            let how = if young >= first_past / MANY { GrewBeside::ManyYoung } else { GrewBeside::Young };
            self.grew_beside = self.grew_beside.max(Some(how));
        }
    }

    /// Takes note that there was no room for extents: whatever is young, is worth a checkpoint.
    pub(crate) fn note_full(&mut self) {
        if self.young_free() > 0 {
            self.grew_beside = Some(GrewBeside::ManyYoung);
        }
    }

    /// What `request` needs next. Prefers free ids among those in use, then a look into unknown regions, then ids past
    /// the highest in use, then a new region.
    pub(crate) fn next_step(&self, request: Request, look: Look) -> Step {
        let impossible = match request {
            Request::Singles(_) => false,
            Request::Run(len) => len >= self.bits,
            Request::Extents { pages, runs } => pages > (self.bits - 1).saturating_mul(runs as u64),
        };
        if impossible {
            return Step::NoSpace;
        }
        let unless_busy = |step| if self.regions.is_busy() { Step::Wait } else { step };
        let cut = self.tail.is_being_cut() && !planted("who needs ids behind a cut does not wait for it");
        let unless_cutting = |step| if cut { Step::Wait } else { step };
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
            return unless_cutting(Step::Take);
        }
        match (self.new_region(request), self.regions.lowest_unknown()) {
            (Some(format), _) => unless_busy(unless_cutting(format)),
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
            Request::Run(pages) => first.checked_add(1 + pages)?,
            Request::Extents { pages, .. } if pages < self.bits => first.checked_add(1 + pages)?,
            Request::Singles(ids) | Request::Extents { pages: ids, .. } => {
                let free = match request {
                    Request::Extents { runs, .. } => {
                        self.settled.longest_first().take(runs).map(|(_, len)| len).sum()
                    }
                    _ => self.free.total(),
                };
                let missing = ids - free.min(ids);
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
            Request::Extents { pages, runs } => self.plan(pages, runs, end).is_some(),
        }
    }

    /// Takes the ids asked for, lowest first, as runs; [`Step::Take`] said that they are there.
    pub(crate) fn take(&mut self, request: Request) -> Vec<(u64, u64)> {
        match request {
            Request::Singles(wanted) => {
                let (mut runs, mut missing) = (Vec::new(), wanted);
                while missing > 0 {
                    let run =
                        self.free.take_lowest(missing).expect("enough ids were counted under this lock");
                    self.settled.take_within(run.0, run.1);
                    missing -= run.1;
                    runs.push(run);
                }
                runs
            }
            Request::Run(len) => {
                let start = self.free.lowest_run(len).expect("a run was found under this lock");
                self.free.take(start, len).expect("a run that was found is free");
                self.settled.take_within(start, len);
                vec![(start, len)]
            }
            Request::Extents { pages, runs } => self.take_extents(pages, runs),
        }
    }

    /// Takes the lowest ids, if so many below `end` are free.
    pub(crate) fn take_below(&mut self, ids: u64, end: u64) -> Option<Vec<(u64, u64)>> {
        let (mut runs, mut missing) = (Vec::new(), ids);
        for (start, len) in self.free.within(0..end) {
            if missing == 0 {
                break;
            }
            runs.push((start, len.min(missing)));
            missing -= len.min(missing);
        }
        if missing > 0 {
            return None;
        }
        for (start, len) in &runs {
            self.free.take(*start, *len).expect("what was found under this lock is free");
            self.settled.take_within(*start, *len);
        }
        Some(runs)
    }

    /// Takes settled ids below `end`, in at most so many runs.
    pub(crate) fn take_extents_below(
        &mut self,
        pages: u64,
        runs: usize,
        end: u64,
    ) -> Option<Vec<(u64, u64)>> {
        let one = self.settled.lowest_run(pages).filter(|start| start + pages <= end);
        let plan = match one {
            Some(start) => vec![(start, pages)],
            None => {
                let mut parts: Vec<(u64, u64)> = self.settled.within(0..end).collect();
                parts.sort_unstable_by_key(|(start, len)| (std::cmp::Reverse(*len), *start));
                parts.truncate(runs);
                let mut missing = pages;
                parts.iter_mut().for_each(|(_, len)| {
                    *len = missing.min(*len);
                    missing -= *len;
                });
                parts.retain(|(_, len)| *len > 0);
                parts.sort_unstable();
                (missing == 0).then_some(parts)?
            }
        };
        for (start, len) in &plan {
            self.settled.take(*start, *len).expect("what was planned is settled");
            self.free.take(*start, *len).expect("what is settled is free");
        }
        Some(plan)
    }

    fn take_extents(&mut self, pages: u64, runs: usize) -> Vec<(u64, u64)> {
        let high = self.high_water().unwrap_or(0);
        let plan = self.plan(pages, runs, high).or_else(|| self.plan(pages, runs, self.end));
        let plan = plan.expect("extents were found under this lock");
        for (start, len) in &plan {
            self.settled.take(*start, *len).expect("what was planned is settled");
            self.free.take(*start, *len).expect("what is settled is free");
        }
        self.note_growth(high, pages, plan.last().map_or(0, |(start, _)| *start));
        plan
    }

    /// Takes note that reserved ids were put to use.
    pub(crate) fn put_to_use(&mut self, start: u64, len: u64) {
        self.young.forget(start, len);
    }

    /// Makes reserved ids free again, as settled as they were, or by now are.
    pub(crate) fn forfeit(&mut self, start: u64, len: u64) {
        self.give(start, len);
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
        for (start, len) in self.releasing.within(own.clone()).chain(self.held.ids().within(own.clone())) {
            loaded.mark(start, len, true);
        }
        for (start, len) in loaded.free_runs() {
            self.give(start.get(), own.end.saturating_sub(start.get()).min(len));
        }
        self.regions.set_known(region, loaded.regions());
        Ok(())
    }

    /// Takes in the region that was formatted.
    pub(crate) fn add_region(&mut self, region: u64) {
        let own = self.ids_of(region);
        self.give(own.start + 1, own.end - own.start - 1);
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
        let free = [&self.free, &self.releasing, self.held.ids()];
        if let Some(id) = free.into_iter().find_map(|ids| ids.overlap(start, len)) {
            return Err(PageError::AllocationState { page_id: PageId::new(id), state: "free" });
        }
        self.releasing.give(start, len).expect("no overlap was found under this lock");
        Ok(())
    }

    /// Forgets that ids were to be released: they stay in use.
    pub(crate) fn forget_release(&mut self, start: u64, len: u64) {
        self.releasing.take(start, len).expect("what a release holds is being released");
    }

    /// Makes ids free that a group ending at `lsn` freed; with a mark, once every reader below it is gone.
    pub(crate) fn finish_release(&mut self, lsn: Lsn, start: u64, len: u64, mark: Option<u64>) {
        self.forget_release(start, len);
        match mark {
            Some(mark) => self.held.add(mark, lsn, start, len),
            None => self.become_young(lsn, start, len),
        }
    }

    /// Makes ids free for pages. Those of an unknown region are found free when it is loaded.
    fn become_young(&mut self, lsn: Lsn, start: u64, len: u64) {
        self.young.add(lsn, start, len);
        let region = start / self.bits;
        if self.regions.is_known(region) {
            self.give(start, len);
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

    /// One past the highest id that the file must have room for: all behind it are free, and no recovery that begins at `lsn`, or
    /// later, meets them in its log.
    pub(crate) fn tail_start(&self, lsn: Lsn) -> Option<u64> {
        if self.regions.must_load().is_some() {
            return None;
        }
        let end = self.formatted_end();
        let free = self.last_extent().map_or(end, |free| free.start);
        let young = self.young.end_behind(lsn, free, end - free);
        let young = young.filter(|_| !planted("a tail forgets what was freed behind the checkpoint"));
        Some(young.unwrap_or(free).max(self.tail.kept(lsn)))
    }

    /// Takes the ids of the last region out, if all of them are free; gives the region. It is to be put in progress.
    pub(crate) fn take_last_region(&mut self) -> Option<u64> {
        let region = self.regions.count()?.checked_sub(1).filter(|region| *region > 0)?;
        let ids = self.ids_of(region);
        let (first, len) = (ids.start + 1, ids.end - ids.start - 1);
        if self.regions.is_busy() || self.tail.is_being_cut() || !self.regions.is_known(region) {
            return None;
        }
        self.free.take(first, len).ok()?;
        self.settled.take_within(first, len);
        Some(region)
    }

    /// The last region is no more, by a group that ends at `lsn`: until a checkpoint has passed it, redo may meet its map page, and the
    /// pages of it that were freed before but behind a checkpoint.
    pub(crate) fn region_dropped(&mut self, region: u64, lsn: Lsn) {
        let ids = self.ids_of(region);
        let young = self.young.end_behind(self.tail.passed(), ids.start, ids.end - ids.start);
        self.regions.set_dropped(region);
        self.tail.keep_until(lsn, young.unwrap_or(0).max(ids.start + 1));
    }

    /// The last region stays.
    pub(crate) fn keep_last_region(&mut self, region: u64) {
        let ids = self.ids_of(region);
        self.give(ids.start + 1, ids.end - ids.start - 1);
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
