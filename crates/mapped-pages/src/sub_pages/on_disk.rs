//! Which slots are in use, in protected pages.
//!
//! Invariant: a parent page and the record that names it appear and vanish in one commit, so no cut leaks a page or leaves a record of
//! one that is free.
//!
//! ```text
//!   head ──► protected page ──► …          each of them:
//!
//!          0       1       2       3       4       5       6       7
//!      ┌───────────────────────────────────────────────────────────────┐
//!   0  │ magic  "PGMSUBPG"                                             │
//!   8  │ slots of a page                                               │
//!  16  │ next protected page of the chain, plus one; 0: none           │
//!  24  │ zero                                                          │
//!  32  │ a parent page's id; 0: a record that is free                  │
//!  40  │ a bit for each of its slots in use, in words; and so on       │
//!      └───────────────────────────────────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::slots::{Found, Slots, Used};
use crate::directory::id_of;
use crate::words::Change;
use crate::{DynPageId, DynPager, DynProtectedPageId, MappedPageError, MappedResult};

const MAGIC: u64 = u64::from_le_bytes(*b"PGMSUBPG");
/// Words in front of the records.
const HEAD_WORDS: usize = 4;
const NEXT: usize = 2;

/// Where a record stands: which page of the chain, which record of it.
type Place = (usize, usize);

/// The protected pages of an allocator, and where each parent's record stands.
#[derive(Debug)]
pub(super) struct Chain {
    pages: Vec<DynProtectedPageId>,
    slots: usize,
    places: BTreeMap<u64, Place>,
    free: BTreeSet<Place>,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at * 8..(at + 1) * 8].try_into().expect("eight bytes"))
}

fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at * 8..(at + 1) * 8].copy_from_slice(&word.to_le_bytes());
}

impl Chain {
    fn new(slots: usize) -> Self {
        Self { pages: Vec::new(), slots, places: BTreeMap::new(), free: BTreeSet::new() }
    }

    fn record_words(&self) -> usize {
        1 + self.slots.div_ceil(64)
    }

    fn records(&self, page_size: usize) -> usize {
        (page_size / 8 - HEAD_WORDS) / self.record_words()
    }

    /// Where a record begins, in words of its page.
    fn at(&self, record: usize) -> usize {
        HEAD_WORDS + record * self.record_words()
    }

    pub(super) fn head(&self) -> u64 {
        self.pages[0].0
    }

    /// Makes the first page of a chain.
    pub(super) fn create(pager: &mut DynPager, slots: usize) -> MappedResult<Self> {
        let mut chain = Self::new(slots);
        chain.write(pager, Change::default(), &Used::new(), 1)?;
        Ok(chain)
    }

    /// Reads a chain, and which slots are in use. Never panics, whatever the pages hold.
    pub(super) fn open(pager: &DynPager, head: u64, slots: usize) -> MappedResult<(Self, Slots)> {
        let (mut chain, mut used) = (Self::new(slots), Slots::new(slots));
        let mut next = Some(DynProtectedPageId(head));
        while let Some(id) = next {
            let wrong = |reason| MappedPageError::CorruptProtectedDirectory { page: id.0, reason };
            if chain.pages.contains(&id) {
                return Err(wrong("a chain of sub-page records that has no end"));
            }
            let bytes = pager.get_protected(id)?.as_bytes();
            if word(bytes, 0) != MAGIC || word(bytes, 1) != slots as u64 {
                return Err(wrong("no records of sub-pages of this size"));
            }
            chain.pages.push(id);
            for record in 0..chain.records(bytes.len()) {
                chain.load(pager, bytes, record, &mut used).map_err(wrong)?;
            }
            next = word(bytes, NEXT).checked_sub(1).map(DynProtectedPageId);
        }
        Ok((chain, used))
    }

    fn load(
        &mut self,
        pager: &DynPager,
        bytes: &[u8],
        record: usize,
        used: &mut Slots,
    ) -> Result<(), &'static str> {
        let (place, at) = ((self.pages.len() - 1, record), self.at(record));
        let page = word(bytes, at);
        let words = at + 1..at + self.record_words();
        if page == 0 {
            self.free.insert(place);
            return words
                .into_iter()
                .all(|at| word(bytes, at) == 0)
                .then_some(())
                .ok_or("a free record with slots in use");
        }
        if pager.get(DynPageId(page)).is_err() || self.places.insert(page, place).is_some() {
            return Err("a record of a page that is not allocated, or has another");
        }
        let slots: Vec<usize> = (0..words.len() * 64)
            .filter(|slot| word(bytes, at + 1 + slot / 64) >> (slot % 64) & 1 == 1)
            .collect();
        if slots.is_empty() || slots.iter().any(|slot| *slot >= self.slots) {
            return Err("a record without slots in use, or of slots that no page has");
        }
        for slot in slots {
            used.take(Found { page, slot });
        }
        Ok(())
    }

    /// Makes a change durable, and with it what is in use of these parent pages from now on; of one with nothing in use, the record goes.
    pub(super) fn commit(&mut self, pager: &mut DynPager, change: Change, used: &Used) -> MappedResult<()> {
        let new =
            used.iter().filter(|(page, words)| is_used(words) && !self.places.contains_key(page)).count();
        let missing = new.saturating_sub(self.free.len());
        self.write(pager, change, used, missing.div_ceil(self.records(pager.page_size())))
    }

    /// The same, with so many more pages.
    fn write(
        &mut self,
        pager: &mut DynPager,
        mut change: Change,
        used: &Used,
        more: usize,
    ) -> MappedResult<()> {
        // 1. More pages, if need be, and a place for each record; nothing of it counts before the commit.
        let taken = pager.find_protected(&mut change, more)?;
        let new =
            taken.iter().map(|(region, number, _)| DynProtectedPageId(id_of(*region, *number))).collect();
        let plan = self.plan(new, used, self.records(pager.page_size()));
        // 2. Every page that changes, beside what counts.
        for (number, records) in &plan.touched {
            let id = plan.page(&self.pages, *number).expect("it is to be changed");
            let (entry, mut bytes) = match number.checked_sub(self.pages.len()) {
                Some(new) => (taken[new].2, vec![0; pager.page_size()].into_boxed_slice()),
                None => pager.stage(id)?,
            };
            let next = plan.page(&self.pages, number + 1);
            self.encode(&mut bytes, next, records);
            pager.put(&mut change, id, entry, bytes)?;
        }
        // 3. All of it counts, or nothing.
        pager.commit_protected(change, &taken)?;
        let records = self.records(pager.page_size());
        for page in self.pages.len()..self.pages.len() + plan.new.len() {
            self.free.extend((0..records).map(|record| (page, record)));
        }
        self.pages.extend(plan.new);
        for (page, place) in plan.freed {
            self.places.remove(&page);
            self.free.insert(place);
        }
        for (page, place) in plan.named {
            self.free.remove(&place);
            self.places.insert(page, place);
        }
        Ok(())
    }

    /// Where each record goes, with these pages behind the chain.
    fn plan<'u>(&self, new: Vec<DynProtectedPageId>, used: &'u Used, records: usize) -> Plan<'u> {
        let end = self.pages.len() + new.len();
        let of_new = (self.pages.len()..end).flat_map(|page| (0..records).map(move |record| (page, record)));
        let mut free = self.free.iter().copied().chain(of_new);
        let mut plan = Plan { new, touched: BTreeMap::new(), named: Vec::new(), freed: Vec::new() };
        for (page, words) in used {
            let place = match (self.places.get(page).copied(), is_used(words)) {
                (None, false) => continue,
                (Some(place), true) => place,
                (Some(place), false) => {
                    plan.freed.push((*page, place));
                    place
                }
                (None, true) => {
                    let place = free.next().expect("there are pages for all records");
                    plan.named.push((*page, place));
                    place
                }
            };
            let owner = if is_used(words) { *page } else { 0 };
            plan.touched.entry(place.0).or_default().push(Record { number: place.1, owner, words });
        }
        // New pages are written, and the one before them, which names them.
        if !plan.new.is_empty() {
            (self.pages.len().saturating_sub(1)..end).for_each(|page| {
                plan.touched.entry(page).or_default();
            });
        }
        plan
    }

    fn encode(&self, bytes: &mut [u8], next: Option<DynProtectedPageId>, records: &[Record<'_>]) {
        put(bytes, 0, MAGIC);
        put(bytes, 1, self.slots as u64);
        put(bytes, NEXT, next.map_or(0, |next| next.0 + 1));
        for record in records {
            let at = self.at(record.number);
            put(bytes, at, record.owner);
            record.words.iter().enumerate().for_each(|(word, value)| put(bytes, at + 1 + word, *value));
        }
    }
}

/// What a record is to say.
struct Record<'u> {
    number: usize,
    /// The parent page; 0: the record is free.
    owner: u64,
    words: &'u [u64],
}

/// What a commit of a chain changes.
struct Plan<'u> {
    new: Vec<DynProtectedPageId>,
    /// By page of the chain.
    touched: BTreeMap<usize, Vec<Record<'u>>>,
    named: Vec<(u64, Place)>,
    freed: Vec<(u64, Place)>,
}

impl Plan<'_> {
    /// A page of the chain as it will be.
    fn page(&self, pages: &[DynProtectedPageId], number: usize) -> Option<DynProtectedPageId> {
        pages.iter().chain(&self.new).nth(number).copied()
    }
}

fn is_used(words: &[u64]) -> bool {
    words.iter().any(|word| *word != 0)
}
