//! The allocator under the log against a set of ids.

use std::collections::{BTreeMap, BTreeSet};

use pagestone_page_format::{Lsn, PageError, PageId};
use proptest::prelude::*;

use crate::file_in_memory::{BITS, File};
use crate::{LoggedAllocator, ReadGuard, Reservation};

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
    /// Reserve extents, add to them, cut them, and commit or forfeit.
    Extents {
        pages: u64,
        runs: usize,
        more: u64,
        keep: u64,
        commit: bool,
    },
    /// Release a run that begins at the nth id in use, and commit or forget.
    Release {
        nth: usize,
        count: u32,
        extent: bool,
        commit: bool,
    },
    /// A checkpoint passes all but the newest groups.
    Checkpoint {
        back: u64,
    },
    /// Somebody begins to read extents, or the nth who does ends.
    Read,
    ReadNoMore {
        nth: usize,
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
        4 => (0u64..130, 1usize..5, 0u64..20, 0u64..150, any::<bool>())
            .prop_map(|(pages, runs, more, keep, commit)| Verb::Extents { pages, runs, more, keep, commit }),
        10 => (any::<usize>(), 1u32..6, any::<bool>(), any::<bool>())
            .prop_map(|(nth, count, extent, commit)| Verb::Release { nth, count, extent, commit }),
        2 => (0u64..6).prop_map(|back| Verb::Checkpoint { back }),
        1 => Just(Verb::Read),
        1 => any::<usize>().prop_map(|nth| Verb::ReadNoMore { nth }),
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

fn all_known(allocator: &LoggedAllocator) -> bool {
    let state = allocator.state();
    state.regions.must_load().is_none() && state.regions.lowest_unknown().is_none()
}

/// What was freed and is not just free.
#[derive(Default)]
struct Freed {
    /// The last group.
    lsn: u64,
    /// No checkpoint has passed the group that freed these.
    young: BTreeMap<u64, u64>,
    /// One has, but not the whole batch that they may be in: they may still wait for that.
    waiting: BTreeSet<u64>,
    readers: Vec<(u64, ReadGuard)>,
    began: u64,
    /// Held by the readers that had begun by then; and when they were freed.
    held: BTreeMap<u64, (u64, u64)>,
}

impl Freed {
    fn free(&mut self, ids: &[u64], extent: bool) {
        self.lsn += 1;
        for id in ids {
            match extent && !self.readers.is_empty() {
                true => drop(self.held.insert(*id, (self.began, self.lsn))),
                false => drop(self.young.insert(*id, self.lsn)),
            }
        }
    }

    fn let_go(&mut self) {
        let oldest = self.readers.iter().map(|(number, _)| *number).min();
        let gone = self.held.extract_if(.., |_, (began, _)| oldest.is_none_or(|oldest| oldest >= *began));
        self.young.extend(gone.map(|(id, (_, lsn))| (id, lsn)));
    }

    /// In use, or as good as.
    fn taken(&self, used: &BTreeSet<u64>) -> BTreeSet<u64> {
        used.iter().chain(self.held.keys()).copied().collect()
    }
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
        let mut freed = Freed::default();
        let mut allocator = file.allocator();
        for verb in verbs {
            let all_known = all_known(&allocator);
            let taken = freed.taken(&used);
            match verb {
                Verb::Singles { ids, take, commit } => match allocator.reserve(&file, ids) {
                    Ok(got) => {
                        prop_assert_eq!(got.ids().len(), ids);
                        prop_assert!(got.ids().is_sorted());
                        prop_assert!(got.ids().iter().all(|id| is_free(&taken, id.get()) && id.get() < LIMIT));
                        if all_known {
                            let lowest: Vec<u64> = (1..).filter(|id| is_free(&taken, *id)).take(ids).collect();
                            prop_assert_eq!(got.ids().iter().map(|id| id.get()).collect::<Vec<_>>(), lowest);
                        }
                        let pages: BTreeSet<u64> = got.ids().iter().map(|id| id.get() / BITS * BITS).collect();
                        prop_assert!(got.map_pages().map(PageId::get).eq(pages));
                        settle(&file, &mut used, got, take, commit);
                        freed.young.retain(|id, _| !used.contains(id));
                    }
                    Err(PageError::NoSpace { .. }) => {
                        let left = (1..LIMIT).filter(|id| is_free(&taken, *id)).count();
                        prop_assert!(left < ids, "{} ids are left, {} are asked for", left, ids);
                    }
                    Err(error) => prop_assert!(false, "{error}"),
                },
                Verb::Run { ids, take, commit } => {
                    let lowest = (1..LIMIT).find(|start| {
                        *start + u64::from(ids) <= LIMIT && (*start..*start + u64::from(ids)).all(|id| is_free(&taken, id))
                    });
                    match allocator.reserve_run(&file, ids) {
                        Ok(got) => {
                            let start = got.ids().first().map_or(1, |id| id.get());
                            prop_assert!(got.ids().iter().map(|id| id.get()).eq(start..start + u64::from(ids)));
                            prop_assert!(got.ids().iter().all(|id| is_free(&taken, id.get()) && id.get() < LIMIT));
                            if all_known && ids > 0 {
                                prop_assert_eq!(Some(start), lowest);
                            }
                            settle(&file, &mut used, got, take, commit);
                        freed.young.retain(|id, _| !used.contains(id));
                        }
                        Err(PageError::NoSpace { .. }) => prop_assert_eq!(lowest, None),
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                Verb::Extents { pages, runs, more, keep, commit } => {
                    let settled = |id: u64| is_free(&taken, id) && !freed.young.contains_key(&id);
                    match allocator.reserve_extents(&file, pages, runs) {
                        Ok(mut got) => {
                            prop_assert_eq!(got.pages(), pages);
                            prop_assert!(got.runs().len() <= runs);
                            if got.extend(&file, more, 1).is_ok() {
                                prop_assert_eq!(got.pages(), pages + more);
                            }
                            let keep = keep.min(got.pages());
                            got.trim(keep);
                            prop_assert_eq!(got.pages(), keep);
                            let mut ids = BTreeSet::new();
                            for (first, count) in got.runs() {
                                let run = first.get()..first.get() + u64::from(*count);
                                prop_assert!(!run.is_empty() && first.get() / BITS == (run.end - 1) / BITS);
                                prop_assert!(run.clone().all(|id| settled(id) && id < LIMIT && ids.insert(id)));
                            }
                            let maps: BTreeSet<u64> = ids.iter().map(|id| id / BITS * BITS).collect();
                            prop_assert!(got.map_pages().into_iter().map(PageId::get).eq(maps));
                            if commit {
                                file.set(got.set_bits());
                                used.extend(ids);
                                got.commit();
                            }
                        }
                        Err(PageError::NoSpace { .. }) => {
                            let surely = |id: u64| settled(id) && !freed.waiting.contains(&id);
                            let room = |start: u64| start + pages <= LIMIT && (start..start + pages).all(surely);
                            prop_assert!(!(1..LIMIT).any(room), "there is room for {pages} in a row");
                        }
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                Verb::Checkpoint { back } => {
                    let passed = freed.lsn.saturating_sub(back);
                    allocator.checkpoint_passed(Lsn::new(passed));
                    if back == 0 {
                        freed.young.clear();
                        freed.waiting.clear();
                        prop_assert_eq!(allocator.quarantined_count(), freed.held.len() as u64);
                    } else {
                        // Which of the older ones have passed is the allocator's to say: the model keeps those that must not.
                        let older = freed.young.iter().filter(|(_, lsn)| **lsn <= passed);
                        freed.waiting.extend(older.map(|(id, _)| *id));
                        freed.young.retain(|_, lsn| *lsn > passed);
                    }
                }
                Verb::Read => {
                    freed.readers.push((freed.began, allocator.read_guard()));
                    freed.began += 1;
                }
                Verb::ReadNoMore { nth } => {
                    if !freed.readers.is_empty() {
                        drop(freed.readers.remove(nth % freed.readers.len()));
                    }
                    freed.let_go();
                }
                Verb::Release { nth, count, extent, commit } => {
                    let Some(first) = used.iter().nth(nth % used.len().max(1)).copied() else { continue };
                    let ids: Vec<u64> = (first..first + u64::from(count)).take_while(|id| used.contains(id)).collect();
                    let mut release = allocator.release();
                    let (half, rest) = ids.split_at(ids.len() / 2);
                    for part in [rest, half] {
                        if let Some(first) = part.first() {
                            let (first, count) = (PageId::new(*first), part.len() as u32);
                            if extent { release.add_extent(first, count) } else { release.add(first, count) }.expect("in use");
                        }
                    }
                    prop_assert_eq!(release.map_pages().count(), 1);
                    let error = release.add(PageId::new(first), 1).expect_err("it is being released");
                    let expected = matches!(error, PageError::AllocationState { page_id, state: "free" } if page_id.get() == first);
                    prop_assert!(expected);
                    if commit {
                        file.apply_release(&release);
                        freed.free(&ids, extent);
                        release.commit(Lsn::new(freed.lsn));
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
                // Opening makes both superblock copies pass whatever was replayed.
                Verb::Reopen => {
                    (freed, allocator) = (Freed::default(), file.allocator());
                }
            }
            let taken = freed.taken(&used);
            prop_assert_eq!(file.in_use(), used.clone());
            if self::all_known(&allocator) {
                let high = taken.last().copied().unwrap_or(0);
                let high = high.max(file.state.lock().maps.len().saturating_sub(1) as u64 * BITS);
                prop_assert_eq!(allocator.high_water(), Some(high + 1));
                let free = (1..high).filter(|id| is_free(&taken, *id)).count() as u64;
                prop_assert_eq!(allocator.free_count(), free);
            }
        }
        drop(allocator);
    }
}
