//! Small regions and a file in memory, for tests; and the allocator against a set of ids.

use std::collections::BTreeSet;

use pagestone_page_format::{DEFAULT_PAGE_SIZE, PageError, PageId, PageResult};
use pagestone_sync::Mutex;
use proptest::prelude::*;

use crate::{MapSource, PageAllocator, RegionBits, Release, Reservation};

/// Ids of a region in these tests.
pub(crate) const BITS: u64 = 64;

/// A file whose map pages are one word each.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) state: Mutex<FileState>,
}

#[derive(Clone, Debug)]
pub(crate) struct FileState {
    pub(crate) maps: Vec<u64>,
    pub(crate) pages: u64,
    /// The disk is full at so many pages.
    pub(crate) limit: u64,
    pub(crate) loads: u64,
}

impl File {
    pub(crate) fn new(limit: u64) -> Self {
        Self { state: Mutex::new(FileState { maps: vec![], pages: 0, limit, loads: 0 }) }
    }

    /// With regions that are all in use but for these ids.
    pub(crate) fn full(regions: usize, free: &[u64]) -> Self {
        let file = Self::new(u64::MAX);
        let mut state = file.state.lock();
        state.maps = vec![u64::MAX; regions];
        state.pages = regions as u64 * BITS;
        for id in free {
            state.maps[(id / BITS) as usize] &= !(1 << (id % BITS));
        }
        drop(state);
        file
    }

    pub(crate) fn allocator(&self) -> PageAllocator {
        PageAllocator::with_region_bits(BITS, DEFAULT_PAGE_SIZE, PageId::MAX)
    }

    pub(crate) fn apply(&self, reservation: &Reservation<'_>) {
        let mut state = self.state.lock();
        for (page, set) in reservation.set_bits() {
            for id in set.first.get()..set.first.get() + u64::from(set.count) {
                assert_eq!(page.get(), id / BITS * BITS, "each change goes to the map page of its ids");
                let word = &mut state.maps[(id / BITS) as usize];
                assert_eq!(*word >> (id % BITS) & 1, 0, "id {id} has two owners");
                *word |= 1 << (id % BITS);
            }
        }
    }

    pub(crate) fn apply_release(&self, release: &Release<'_>) {
        let mut state = self.state.lock();
        for (page, clear) in release.clear_bits() {
            for id in clear.first.get()..clear.first.get() + u64::from(clear.count) {
                assert_eq!(page.get(), id / BITS * BITS, "each change goes to the map page of its ids");
                let word = &mut state.maps[(id / BITS) as usize];
                assert_eq!(*word >> (id % BITS) & 1, 1, "id {id} is freed twice");
                *word &= !(1 << (id % BITS));
            }
        }
    }

    pub(crate) fn in_use(&self) -> BTreeSet<u64> {
        let state = self.state.lock();
        let ids = (0..state.maps.len() as u64 * BITS)
            .filter(|id| state.maps[(id / BITS) as usize] >> (id % BITS) & 1 == 1);
        ids.filter(|id| id % BITS != 0).collect()
    }

    pub(crate) fn loads(&self) -> u64 {
        self.state.lock().loads
    }
}

impl MapSource for File {
    fn load_region(&self, region: u64) -> PageResult<Option<RegionBits>> {
        let mut state = self.state.lock();
        state.loads += 1;
        let regions = (region == 0).then_some(state.maps.len() as u64);
        let word = state.maps.get(region as usize).copied();
        Ok(word.map(|word| RegionBits::of_words(region, regions, vec![word])))
    }

    fn format_region(&self, region: u64) -> PageResult<()> {
        let mut state = self.state.lock();
        assert_eq!(region, state.maps.len() as u64, "regions are formatted in order, once");
        assert!(state.pages > region * BITS, "there is room for the map page");
        state.maps.push(1);
        Ok(())
    }

    fn grow(&self, pages: u64) -> PageResult<()> {
        let mut state = self.state.lock();
        if pages > state.limit {
            return Err(PageError::NoSpace { needed: pages });
        }
        state.pages = state.pages.max(pages);
        Ok(())
    }

    fn file_pages(&self) -> PageResult<u64> {
        Ok(self.state.lock().pages)
    }
}

#[derive(Clone, Debug)]
enum Verb {
    /// Reserve so many, take so many, and commit or forfeit.
    Singles {
        ids: usize,
        take: usize,
        commit: bool,
    },
    Run {
        ids: u32,
        take: usize,
        commit: bool,
    },
    /// Release a run that begins at the nth id in use, and commit or forget.
    Release {
        nth: usize,
        count: u32,
        commit: bool,
    },
    /// Release some id that is not in use.
    DoubleFree {
        id: u64,
    },
    /// Forget everything in memory, as a new process does.
    Reopen,
}

fn verbs() -> impl Strategy<Value = Vec<Verb>> {
    let verb = prop_oneof![
        4 => (0usize..90, 0usize..90, any::<bool>()).prop_map(|(ids, take, commit)| Verb::Singles { ids, take, commit }),
        3 => (0usize..4, 0usize..4, any::<bool>()).prop_map(|(ids, take, commit)| Verb::Singles { ids, take, commit }),
        2 => (0u32..70, 0usize..70, any::<bool>()).prop_map(|(ids, take, commit)| Verb::Run { ids, take, commit }),
        8 => (any::<usize>(), 1u32..6, any::<bool>()).prop_map(|(nth, count, commit)| Verb::Release { nth, count, commit }),
        1 => (0u64..600).prop_map(|id| Verb::DoubleFree { id }),
        1 => Just(Verb::Reopen),
    ];
    proptest::collection::vec(verb, 1..150)
}

/// Takes ids, writes them down, and ends the reservation.
fn settle(file: &File, used: &mut BTreeSet<u64>, mut ids: Reservation<'_>, take: usize, commit: bool) {
    for _ in 0..take {
        ids.take();
    }
    if commit {
        file.apply(&ids);
        used.extend(ids.taken().iter().map(|id| id.get()));
        ids.commit();
    }
}

fn all_known(allocator: &PageAllocator) -> bool {
    let state = allocator.state();
    state.regions.must_load().is_none() && state.regions.lowest_unknown().is_none()
}

fn is_free(used: &BTreeSet<u64>, id: u64) -> bool {
    !id.is_multiple_of(BITS) && !used.contains(&id)
}

proptest! {
    #[test]
    fn allocator_is_a_set_of_ids(verbs in verbs()) {
        const LIMIT: u64 = 6 * BITS + 20;
        let file = File::new(LIMIT);
        let mut used = BTreeSet::new();
        let mut allocator = file.allocator();
        for verb in verbs {
            let all_known = all_known(&allocator);
            match verb {
                Verb::Singles { ids, take, commit } => match allocator.reserve(&file, ids) {
                    Ok(got) => {
                        prop_assert_eq!(got.ids().len(), ids);
                        prop_assert!(got.ids().is_sorted());
                        prop_assert!(got.ids().iter().all(|id| is_free(&used, id.get()) && id.get() < LIMIT));
                        if all_known {
                            let lowest: Vec<u64> = (1..).filter(|id| is_free(&used, *id)).take(ids).collect();
                            prop_assert_eq!(got.ids().iter().map(|id| id.get()).collect::<Vec<_>>(), lowest);
                        }
                        let pages: BTreeSet<u64> = got.ids().iter().map(|id| id.get() / BITS * BITS).collect();
                        prop_assert!(got.map_pages().map(PageId::get).eq(pages));
                        settle(&file, &mut used, got, take, commit);
                    }
                    Err(PageError::NoSpace { .. }) => {
                        let left = (1..LIMIT).filter(|id| is_free(&used, *id)).count();
                        prop_assert!(left < ids, "{} ids are left, {} are asked for", left, ids);
                    }
                    Err(error) => prop_assert!(false, "{error}"),
                },
                Verb::Run { ids, take, commit } => {
                    let lowest = (1..LIMIT).find(|start| {
                        *start + u64::from(ids) <= LIMIT && (*start..*start + u64::from(ids)).all(|id| is_free(&used, id))
                    });
                    match allocator.reserve_run(&file, ids) {
                        Ok(got) => {
                            let start = got.ids().first().map_or(1, |id| id.get());
                            prop_assert!(got.ids().iter().map(|id| id.get()).eq(start..start + u64::from(ids)));
                            prop_assert!(got.ids().iter().all(|id| is_free(&used, id.get()) && id.get() < LIMIT));
                            if all_known && ids > 0 {
                                prop_assert_eq!(Some(start), lowest);
                            }
                            settle(&file, &mut used, got, take, commit);
                        }
                        Err(PageError::NoSpace { .. }) => prop_assert_eq!(lowest, None),
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                Verb::Release { nth, count, commit } => {
                    let Some(first) = used.iter().nth(nth % used.len().max(1)).copied() else { continue };
                    let ids: Vec<u64> = (first..first + u64::from(count)).take_while(|id| used.contains(id)).collect();
                    let mut release = allocator.release();
                    let (half, rest) = ids.split_at(ids.len() / 2);
                    for part in [rest, half] {
                        if let Some(first) = part.first() {
                            release.add(PageId::new(*first), part.len() as u32).expect("in use");
                        }
                    }
                    prop_assert_eq!(release.map_pages().count(), 1);
                    let error = release.add(PageId::new(first), 1).expect_err("it is being released");
                    let expected = matches!(error, PageError::AllocationState { page_id, state: "free" } if page_id.get() == first);
                    prop_assert!(expected);
                    if commit {
                        file.apply_release(&release);
                        release.commit();
                        used.retain(|id| !ids.contains(id));
                    }
                }
                Verb::DoubleFree { id } => {
                    let mut release = allocator.release();
                    let added = release.add(PageId::new(id), 1);
                    if id.is_multiple_of(BITS) {
                        let refused = matches!(added, Err(PageError::InvalidPageId { .. }));
                        prop_assert!(refused);
                    } else if all_known && !used.contains(&id) {
                        let refused =
                            matches!(added, Err(PageError::AllocationState { .. } | PageError::InvalidPageId { .. }));
                        prop_assert!(refused);
                    }
                }
                Verb::Reopen => allocator = file.allocator(),
            }
            prop_assert_eq!(file.in_use(), used.clone());
            if self::all_known(&allocator) {
                let high = used.last().copied().unwrap_or(0);
                let high = high.max(file.state.lock().maps.len().saturating_sub(1) as u64 * BITS);
                prop_assert_eq!(allocator.high_water(), Some(high + 1));
                let free = (1..high).filter(|id| is_free(&used, *id)).count() as u64;
                prop_assert_eq!(allocator.free_count(), free);
            }
        }
        drop(allocator);
    }
}
