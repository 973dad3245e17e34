//! Best fit, as one would write it to see how well ids can be packed: the shortest free run that is long enough, the lowest of those, joined
//! with its neighbours when it is freed. No threads, no crashes, no file.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(crate) struct BestFit {
    by_place: BTreeMap<u64, u64>,
    by_len: BTreeSet<(u64, u64)>,
    end: u64,
}

impl BestFit {
    pub(crate) fn allocate(&mut self, len: u64) -> u64 {
        match self.by_len.range((len, 0)..).next().copied() {
            Some((found, start)) => {
                self.remove(start, found);
                if found > len {
                    self.insert(start + len, found - len);
                }
                start
            }
            None => {
                self.end += len;
                self.end - len
            }
        }
    }

    pub(crate) fn free(&mut self, mut start: u64, mut len: u64) {
        if let Some((before, before_len)) = self.by_place.range(..start).next_back().map(|(a, b)| (*a, *b))
            && before + before_len == start
        {
            self.remove(before, before_len);
            (start, len) = (before, before_len + len);
        }
        if let Some(behind) = self.by_place.get(&(start + len)).copied() {
            self.remove(start + len, behind);
            len += behind;
        }
        if start + len == self.end {
            self.end = start;
        } else {
            self.insert(start, len);
        }
    }

    pub(crate) fn high_water(&self) -> u64 {
        self.end
    }

    fn insert(&mut self, start: u64, len: u64) {
        self.by_place.insert(start, len);
        self.by_len.insert((len, start));
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.by_place.remove(&start);
        self.by_len.remove(&(len, start));
    }
}
