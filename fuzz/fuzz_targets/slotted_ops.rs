//! Failure searched for: a cell lost, doubled, torn or misplaced by any sequence of changes; an answer about room that the
//! change does not keep; a full page that was changed.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pagestone_page_format::slotted::{MAX_CELL_FLAGS, SlottedError, SlottedForm, SlottedPage, SlottedWriter};
use pagestone_page_format::{PageId, PageKind, PageWriter, SpeculativePage};
use pagestone_sync::atomic::AtomicU64;

const BASE: usize = 48;

#[derive(Arbitrary, Debug)]
struct Input {
    suffix: u8,
    fixed_links: u8,
    links_per_slot: bool,
    hints: bool,
    large: bool,
    ops: Vec<Op>,
}

/// Keys and values are made of a letter and a length, so that a few bytes of input fill a page.
#[derive(Arbitrary, Debug, Clone)]
enum Op {
    Insert { key: Vec<u8>, letter: u8, len: u16, flags: u8, link: u64 },
    InsertNumber { key: u16, len: u8 },
    Remove { slot: u16 },
    Update { slot: u16, letter: u8, len: u16, flags: u8 },
    SetLink { link: u16, raw: u64 },
    Truncate { slot: u16 },
    Reserve { slots: u16 },
    Compact,
    CopyOut { from: u16, to: u16 },
    Find { key: Vec<u8> },
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    key: Vec<u8>,
    value: Vec<u8>,
    flags: u8,
    link: Option<u64>,
}

struct Run<'a> {
    writer: SlottedWriter<'a>,
    words: &'a [AtomicU64],
    links_per_slot: bool,
    hints: bool,
    model: Vec<Entry>,
    fixed: Vec<u64>,
}

fuzz_target!(|input: Input| {
    let size = if input.large { 65_536 } else { 4096 };
    let words = zeros(size);
    let page = PageWriter::new(&words);
    page.format(PageKind(200), PageId::new(7));
    let writer = SlottedWriter::new(page, BASE);
    let suffix = usize::from(input.suffix);
    let form = SlottedForm {
        fixed_links: input.fixed_links,
        links_per_slot: input.links_per_slot,
        hints: input.hints,
    };
    writer.init(suffix, form).expect("there is room");
    page.put_bytes(size - suffix, &vec![0xa5; suffix]).expect("the suffix lies in the page");
    let mut run = Run {
        writer,
        words: &words,
        links_per_slot: input.links_per_slot,
        hints: input.hints,
        model: Vec::new(),
        fixed: vec![0; input.fixed_links.into()],
    };
    for op in input.ops {
        run.step(op);
    }
    run.compare();
    assert!(bytes(&words)[size - suffix..].iter().all(|byte| *byte == 0xa5), "the suffix was touched");
});

impl Run<'_> {
    fn step(&mut self, op: Op) {
        match op {
            Op::Insert { key, letter, len, flags, link } => {
                self.insert(key, vec![letter; len.into()], flags & MAX_CELL_FLAGS, link);
            }
            Op::InsertNumber { key, len } => {
                self.insert(key.to_be_bytes().into(), vec![key as u8; len.into()], 0, key.into());
            }
            Op::Remove { slot } => {
                let (slot, len) = (usize::from(slot) % (self.model.len() + 1), self.model.len());
                let result = self.unchanged_if_refused(|run| run.writer.remove(slot));
                assert_eq!(result.is_ok(), slot < len, "{result:?}");
                if result.is_ok() {
                    self.model.remove(slot);
                }
            }
            Op::Update { slot, letter, len, flags } => {
                self.update(slot.into(), vec![letter; len.into()], flags & MAX_CELL_FLAGS);
            }
            Op::SetLink { link, raw } => self.set_link(link.into(), raw),
            Op::Truncate { slot } => {
                let slot = usize::from(slot) % (self.model.len() + 2);
                let result = self.unchanged_if_refused(|run| run.writer.truncate(slot));
                assert_eq!(result.is_ok(), slot <= self.model.len(), "{result:?}");
                self.model.truncate(slot);
            }
            Op::Reserve { slots } => {
                let result = self.unchanged_if_refused(|run| run.writer.reserve_slots(slots.into()));
                assert!(matches!(result, Ok(()) | Err(SlottedError::Full { .. })), "{result:?}");
            }
            Op::Compact => {
                self.writer.compact().expect("a page of ours");
                let area = self.writer.read();
                assert_eq!(area.free_space(), area.free_space_after_compaction());
                self.compare();
            }
            Op::CopyOut { from, to } => self.copy_out(from.into(), to.into()),
            Op::Find { key } => drop(self.find(&key)),
        }
        assert_eq!(self.writer.read().count(), Ok(self.model.len()));
    }

    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let found = self.writer.read().lower_bound(key).expect("a page of ours");
        let expected = self.model.binary_search_by(|entry| entry.key.as_slice().cmp(key));
        assert_eq!((found.found, found.slot), (expected.is_ok(), expected.unwrap_or_else(|slot| slot)));
        expected
    }

    fn insert(&mut self, key: Vec<u8>, value: Vec<u8>, flags: u8, link: u64) {
        let link = self.links_per_slot.then_some(link);
        let Err(slot) = self.find(&key) else { return };
        let room = self.writer.read().has_room(1, key.len() + value.len()).expect("a page of ours");
        let result = self.unchanged_if_refused(|run| run.writer.insert(slot, &key, &value, flags, link));
        assert_eq!(result.is_ok(), room, "has_room and insert disagree: {result:?}");
        if result.is_ok() {
            self.model.insert(slot, Entry { key, value, flags, link });
        }
    }

    fn update(&mut self, slot: usize, value: Vec<u8>, flags: u8) {
        let slot = slot % (self.model.len() + 1);
        let result = self.unchanged_if_refused(|run| run.writer.update_value(slot, &value, flags));
        match (result, self.model.get_mut(slot)) {
            (Ok(()), Some(entry)) => (entry.value, entry.flags) = (value, flags),
            (Err(SlottedError::Full { .. }), Some(entry)) => {
                assert!(value.len() > entry.value.len(), "a shorter value fits in place");
            }
            (Err(SlottedError::OutOfRange), None) => {}
            (result, _) => panic!("{result:?}"),
        }
    }

    fn set_link(&mut self, link: usize, raw: u64) {
        let per_slot = self.model.len() * usize::from(self.links_per_slot);
        let links = self.fixed.len() + per_slot;
        let link = link % (links + 1);
        let result = self.unchanged_if_refused(|run| run.writer.set_link(link, raw));
        assert_eq!(result.is_ok(), link < links, "{result:?}");
        if link < self.fixed.len() {
            self.fixed[link] = raw;
        } else if link < links {
            self.model[link - self.fixed.len()].link = Some(raw);
        }
    }

    /// A range of the cells into another page and back to a vector.
    fn copy_out(&self, from: usize, to: usize) {
        let len = self.model.len();
        let (from, to) = (from % (len + 1), to % (len + 2));
        let other = zeros(self.words.len() * 8);
        let copy = SlottedWriter::new(PageWriter::new(&other), BASE);
        let form = SlottedForm { fixed_links: 0, links_per_slot: self.links_per_slot, hints: self.hints };
        copy.init(0, form).expect("there is room");
        let result = self.writer.copy_range(from..to, &copy);
        assert_eq!(result.is_ok(), from <= to && to <= len, "{result:?}");
        if result.is_ok() {
            assert_eq!(contents(copy.read(), self.links_per_slot), self.model[from..to]);
            copy.read().check().expect("a copy is a page");
        }
    }

    /// Runs a change; a page that refused it is what it was.
    fn unchanged_if_refused(
        &self,
        change: impl FnOnce(&Self) -> Result<(), SlottedError>,
    ) -> Result<(), SlottedError> {
        let before = bytes(self.words);
        let result = change(self);
        match result {
            Ok(()) => self.writer.read().check().expect("a changed page is a page"),
            Err(SlottedError::Full { needed, free }) => assert!(needed > free || needed == 0),
            Err(SlottedError::OutOfRange) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(result.is_ok() || bytes(self.words) == before, "a refused change changed the page");
        result
    }

    fn compare(&self) {
        let area = self.writer.read();
        assert_eq!(contents(area, self.links_per_slot), self.model);
        for (link, raw) in self.fixed.iter().enumerate() {
            assert_eq!(area.link(link), Ok(*raw));
        }
        area.check().expect("a page of ours");
    }
}

fn zeros(size: usize) -> Vec<AtomicU64> {
    (0..size / 8).map(|_| AtomicU64::new(0)).collect()
}

fn bytes(words: &[AtomicU64]) -> Vec<u8> {
    let mut out = vec![0; words.len() * 8];
    SpeculativePage::new(words).copy_out(&mut out);
    out
}

fn contents(page: SlottedPage<'_>, links_per_slot: bool) -> Vec<Entry> {
    (0..page.count().expect("a page of ours"))
        .map(|slot| {
            let cell = page.get(slot).expect("a slot below the count");
            let (mut key, mut value) = (Vec::new(), Vec::new());
            page.append_key(cell, &mut key).expect("a cell lies in the page");
            page.append_value(cell, &mut value).expect("a cell lies in the page");
            let link = links_per_slot.then(|| page.slot_link(slot).expect("a slot below the count"));
            Entry { key, value, flags: cell.flags, link }
        })
        .collect()
}
