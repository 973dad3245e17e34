//! A set of pages, one bit for each, in memory for those parts of the file alone in which there are any.

use std::collections::BTreeMap;

use pagestone_page_format::PageId;

/// Pages of a part: 512 bytes of bits.
const PART: u64 = 4096;

#[derive(Debug, Default)]
pub(super) struct PageSet {
    parts: BTreeMap<u64, Box<[u64]>>,
}

impl PageSet {
    /// Gives whether it was not there before.
    pub(super) fn insert(&mut self, page: PageId) -> bool {
        let (part, word, mask) = place(page);
        let words = self.parts.entry(part).or_insert_with(|| vec![0; PART as usize / 64].into());
        let new = words[word] & mask == 0;
        words[word] |= mask;
        new
    }

    pub(super) fn contains(&self, page: PageId) -> bool {
        let (part, word, mask) = place(page);
        self.parts.get(&part).is_some_and(|words| words[word] & mask != 0)
    }

    /// The bits of the page and the 63 behind it; the page's number is a multiple of 64.
    pub(super) fn word_at(&self, page: PageId) -> u64 {
        let (part, word, _) = place(page);
        self.parts.get(&part).map_or(0, |words| words[word])
    }

    /// All of them, rising.
    pub(super) fn iter(&self) -> impl Iterator<Item = PageId> {
        self.parts.iter().flat_map(|(part, words)| {
            let first = part * PART;
            (0..PART)
                .filter(|bit| words[(bit / 64) as usize] >> (bit % 64) & 1 == 1)
                .map(move |bit| PageId::new(first + bit))
        })
    }
}

fn place(page: PageId) -> (u64, usize, u64) {
    let bit = page.get() % PART;
    (page.get() / PART, (bit / 64) as usize, 1 << (bit % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_put_in_and_nothing_else() {
        let ids = [0, 1, 63, 64, 4095, 4096, 1 << 37, (1 << 42) - 1].map(PageId::new);
        let mut set = PageSet::default();
        for id in ids {
            assert!(!set.contains(id));
            assert!(set.insert(id), "{id} is new");
            assert!(!set.insert(id), "{id} is known");
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), ids);
        assert!(!set.contains(PageId::new(2)) && !set.contains(PageId::new(1 << 36)));
        assert_eq!(set.word_at(PageId::new(0)), 1 << 63 | 0b11);
        assert_eq!((set.word_at(PageId::new(64)), set.word_at(PageId::new(1 << 36))), (1, 0));
    }
}
