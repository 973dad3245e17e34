//! Failure prevented: a cell lost, doubled, torn or misplaced by an insert, a growth of the arrays, a compaction or a copy;
//! bytes of removed cells that stay in the page; a page that differs after the same history, which redo would diverge on.
#![cfg(not(loom))]

use pagestone_page_format::slotted::{SlottedError, SlottedForm, SlottedPage, SlottedWriter};
use pagestone_page_format::{PageId, PageKind, PageWriter, SpeculativePage};
use pagestone_sync::atomic::AtomicU64;
use proptest::prelude::*;

const BASE: usize = 48;

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    key: Vec<u8>,
    value: Vec<u8>,
    flags: u8,
    link: Option<u64>,
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Vec<u8>, Vec<u8>, u8, u64),
    Remove(usize),
    Update(usize, Vec<u8>, u8),
    SetLink(usize, u64),
    Truncate(usize),
    Reserve(usize),
    Compact,
}

fn words(page_size: usize) -> Vec<AtomicU64> {
    (0..page_size / 8).map(|_| AtomicU64::new(0)).collect()
}

fn bytes(words: &[AtomicU64]) -> Vec<u8> {
    let mut out = vec![0; words.len() * 8];
    SpeculativePage::new(words).copy_out(&mut out);
    out
}

fn contents(page: SlottedPage<'_>, per_slot: bool) -> Vec<Entry> {
    (0..page.count().unwrap())
        .map(|slot| {
            let cell = page.get(slot).unwrap();
            let (mut key, mut value) = (Vec::new(), Vec::new());
            page.append_key(cell, &mut key).unwrap();
            page.append_value(cell, &mut value).unwrap();
            let link = per_slot.then(|| page.slot_link(slot).unwrap());
            Entry { key, value, flags: cell.flags, link }
        })
        .collect()
}

/// Every byte of the area that belongs to nothing is zero.
fn leaks_nothing(words: &[AtomicU64], page: SlottedPage<'_>) {
    let mut image = bytes(words);
    let suffix = page.reserved_suffix().unwrap();
    let count = page.count().unwrap();
    for slot in 0..count {
        let cell = page.get(slot).unwrap();
        image[cell.key_range()].fill(0);
        image[cell.value_range()].fill(0);
    }
    let swips = page.page().header().unwrap().swips;
    assert_eq!(usize::from(swips.count), page.link_count().unwrap());
    let arrays_end = if swips.count == 0 {
        // Without links: the capacity stands in the header.
        let capacity = usize::from(u16::from_le_bytes([image[BASE + 2], image[BASE + 3]]));
        BASE + 24 + 64 * usize::from(image[BASE + 6]) + 12 * capacity
    } else {
        assert_eq!(usize::from(swips.at_word), page.link_word(0).unwrap());
        (usize::from(swips.at_word) + usize::from(swips.count)) * 8
    };
    assert!(image[arrays_end..suffix.start].iter().all(|byte| *byte == 0), "garbage that is not zero");
}

struct Harness {
    page_size: usize,
    suffix: usize,
    form: SlottedForm,
}

impl Harness {
    fn run(&self, ops: Vec<Op>) {
        let words = words(self.page_size);
        let page = PageWriter::new(&words);
        page.format(PageKind(200), PageId::new(7));
        let writer = SlottedWriter::new(page, BASE);
        writer.init(self.suffix, self.form).unwrap();
        let suffix: Vec<u8> = (0..self.suffix).map(|at| at as u8 | 1).collect();
        page.put_bytes(self.page_size - self.suffix, &suffix).unwrap();
        let mut fixed_links = vec![0; self.form.fixed_links.into()];
        let mut model: Vec<Entry> = Vec::new();
        for op in ops {
            let before = bytes(&words);
            let area = writer.read();
            let change = |writer: SlottedWriter<'_>| self.apply(writer, &op, &model);
            let result = change(writer);
            self.same_again(&before, &bytes(&words), change);
            match (&op, result) {
                (_, Err(SlottedError::Full { needed, free })) => {
                    assert!(needed > free);
                    assert_eq!(bytes(&words), before, "a full page was changed");
                }
                (_, Err(error)) => panic!("{op:?}: {error}"),
                (op, Ok(())) => self.apply_to_model(op, &mut model, &mut fixed_links),
            }
            assert_eq!(area.form(), Ok(self.form));
            assert_eq!(contents(area, self.form.links_per_slot), model);
            for (index, link) in fixed_links.iter().enumerate() {
                assert_eq!(area.link(index), Ok(*link));
            }
            assert_eq!(
                area.link(fixed_links.len() + model.len() * usize::from(self.form.links_per_slot)).ok(),
                None
            );
            area.check().unwrap();
            leaks_nothing(&words, area);
            assert!(bytes(&words)[self.page_size - self.suffix..] == suffix, "the suffix was touched");
        }
        // Copies of the whole are the same cells.
        let other = self::words(self.page_size);
        let copy = SlottedWriter::new(PageWriter::new(&other), BASE);
        copy.init(0, SlottedForm { fixed_links: 0, ..self.form }).unwrap();
        let half = model.len() / 2;
        writer.copy_range(0..half, &copy).unwrap();
        writer.copy_range(half..model.len(), &copy).unwrap();
        assert_eq!(contents(copy.read(), self.form.links_per_slot), model);
        copy.read().check().unwrap();
    }

    fn slot(index: usize, model: &[Entry]) -> usize {
        index % model.len().max(1)
    }

    fn apply(&self, writer: SlottedWriter<'_>, op: &Op, model: &[Entry]) -> Result<(), SlottedError> {
        match op {
            Op::Insert(key, value, flags, link) => {
                let area = writer.read();
                let found = area.lower_bound(key).unwrap();
                let expected = model.binary_search_by(|entry| entry.key.cmp(key));
                assert_eq!(expected.unwrap_or_else(|slot| slot), found.slot);
                assert_eq!(expected.is_ok(), found.found);
                if found.found {
                    return Ok(());
                }
                let room = area.has_room(1, key.len() + value.len()).unwrap();
                let result =
                    writer.insert(found.slot, key, value, *flags, self.form.links_per_slot.then_some(*link));
                assert_eq!(room, result.is_ok(), "has_room and insert disagree");
                result
            }
            Op::Remove(index) if !model.is_empty() => writer.remove(Self::slot(*index, model)),
            Op::Update(index, value, flags) if !model.is_empty() => {
                writer.update_value(Self::slot(*index, model), value, *flags)
            }
            Op::SetLink(index, raw) => {
                let links = writer.read().link_count().unwrap();
                assert_eq!(writer.set_link(links, *raw), Err(SlottedError::OutOfRange));
                if links > 0 { writer.set_link(index % links, *raw) } else { Ok(()) }
            }
            Op::Truncate(index) => writer.truncate(index % (model.len() + 1)),
            Op::Reserve(slots) => writer.reserve_slots(*slots),
            Op::Compact => {
                writer.compact().unwrap();
                let area = writer.read();
                assert_eq!(area.free_space(), area.free_space_after_compaction());
                Ok(())
            }
            Op::Remove(_) | Op::Update(..) => Ok(()),
        }
    }

    fn apply_to_model(&self, op: &Op, model: &mut Vec<Entry>, fixed: &mut [u64]) {
        let len = model.len();
        match op.clone() {
            Op::Insert(key, value, flags, link) => {
                if let Err(slot) = model.binary_search_by(|entry| entry.key.cmp(&key)) {
                    let link = self.form.links_per_slot.then_some(link);
                    model.insert(slot, Entry { key, value, flags, link });
                }
            }
            Op::Remove(index) if len > 0 => drop(model.remove(Self::slot(index, model))),
            Op::Update(index, value, flags) if len > 0 => {
                let entry = &mut model[index % len];
                (entry.value, entry.flags) = (value, flags);
            }
            Op::SetLink(index, raw) => {
                let links = fixed.len() + len * usize::from(self.form.links_per_slot);
                if links > 0 {
                    match index % links {
                        at if at < fixed.len() => fixed[at] = raw,
                        at => model[at - fixed.len()].link = Some(raw),
                    }
                }
            }
            Op::Truncate(index) => model.truncate(index % (len + 1)),
            Op::Reserve(_) | Op::Compact | Op::Remove(_) | Op::Update(..) => {}
        }
    }

    /// The same change to the same bytes gives the same bytes.
    fn same_again(
        &self,
        before: &[u8],
        after: &[u8],
        change: impl FnOnce(SlottedWriter<'_>) -> Result<(), SlottedError>,
    ) {
        let words = words(self.page_size);
        let page = PageWriter::new(&words);
        page.copy_in(before);
        let _ = change(SlottedWriter::new(page, BASE));
        assert!(bytes(&words) == after, "the same change gave other bytes");
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        // Few letters: many equal heads, many equal keys, keys that are prefixes of others.
        prop::collection::vec(prop::sample::select(&[0u8, b'a', 255][..]), 0..7),
        prop::collection::vec(any::<u8>(), 0..40),
        long_key(),
    ]
}

/// Keys that share much, of few letters, some of them so much that a slot cannot say how much; and that go on with zeros.
fn long_key() -> impl Strategy<Value = Vec<u8>> {
    let tail = prop::collection::vec(prop::sample::select(&[0_u8, 1, b'a', 255][..]), 0..6);
    (prop::sample::select(&[3_usize, 4, 5, 12, 60, 131, 132, 200][..]), tail)
        .prop_map(|(shared, tail)| [&vec![b'k'; shared][..], &tail].concat())
}

fn op(max_value: usize) -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (key(), prop::collection::vec(any::<u8>(), 0..max_value), 0..8_u8, any::<u64>())
            .prop_map(|(key, value, flags, link)| Op::Insert(key, value, flags, link)),
        3 => any::<usize>().prop_map(Op::Remove),
        3 => (any::<usize>(), prop::collection::vec(any::<u8>(), 0..max_value), 0..8_u8)
            .prop_map(|(index, value, flags)| Op::Update(index, value, flags)),
        1 => (any::<usize>(), any::<u64>()).prop_map(|(index, raw)| Op::SetLink(index, raw)),
        1 => (0..40usize).prop_map(Op::Reserve),
        1 => Just(Op::Compact),
    ]
}

fn form(fixed: u8) -> impl Strategy<Value = SlottedForm> {
    (0..fixed, any::<bool>(), any::<bool>()).prop_map(|(fixed_links, links_per_slot, hints)| SlottedForm {
        fixed_links,
        links_per_slot,
        hints,
    })
}

fn ops(max_value: usize) -> impl Strategy<Value = Vec<Op>> {
    let truncate = any::<usize>().prop_map(Op::Truncate);
    prop::collection::vec(prop_oneof![60 => op(max_value), 1 => truncate], 1..250)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn small_page(ops in ops(120), suffix in 0..200usize, form in form(4)) {
        Harness { page_size: 4096, suffix, form }.run(ops);
    }

    #[test]
    fn small_page_of_small_cells(ops in ops(3), form in form(3)) {
        Harness { page_size: 4096, suffix: 0, form }.run(ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn large_page(ops in ops(2000), suffix in 0..9000usize, form in form(4)) {
        Harness { page_size: 65536, suffix, form }.run(ops);
    }
}

#[test]
fn a_mebibyte_page_stops_at_what_its_headers_can_name() {
    let words = words(1 << 20);
    let writer = SlottedWriter::new(PageWriter::new(&words), 32);
    writer.init(0, SlottedForm { fixed_links: 1, links_per_slot: true, hints: true }).unwrap();
    writer.reserve_slots(40_000).unwrap();
    for slot in 0..40_000u32 {
        writer.insert(slot as usize, &slot.to_be_bytes(), b"", 0, Some(slot.into())).unwrap();
    }
    assert!(matches!(writer.reserve_slots(65_000), Err(SlottedError::Full { .. })));
    for slot in [0, 1, 7, 39_999] {
        let found = writer.read().lower_bound(&(slot as u32).to_be_bytes()).unwrap();
        assert_eq!((found.slot, found.found), (slot, true));
        assert_eq!(writer.read().slot_link(slot), Ok(slot as u64));
    }
    writer.read().check().unwrap();
}

#[test]
fn what_cannot_be_named_is_refused_and_changes_nothing() {
    let words = words(4096);
    let writer = SlottedWriter::new(PageWriter::new(&words), BASE);
    assert_eq!(writer.init(4097, SlottedForm::default()), Err(SlottedError::OutOfRange));
    assert_eq!(writer.init(4096 - BASE, SlottedForm::default()), Err(SlottedError::OutOfRange));
    writer.init(0, SlottedForm { fixed_links: 1, ..SlottedForm::default() }).unwrap();
    let before = bytes(&words);
    assert_eq!(writer.insert(1, b"k", b"v", 0, None), Err(SlottedError::OutOfRange));
    assert_eq!(writer.insert(0, b"k", b"v", 0, Some(1)), Err(SlottedError::OutOfRange));
    assert_eq!(writer.insert(0, b"k", &[1; 70_000], 0, None), Err(SlottedError::OutOfRange));
    assert_eq!(writer.insert(0, &[1; 17_000], b"v", 0, None), Err(SlottedError::OutOfRange));
    assert_eq!(writer.insert(0, b"k", b"v", 8, None), Err(SlottedError::OutOfRange));
    assert!(matches!(writer.insert(0, b"k", &[1; 4096], 0, None), Err(SlottedError::Full { .. })));
    assert_eq!(writer.remove(0), Err(SlottedError::OutOfRange));
    assert_eq!(writer.truncate(1), Err(SlottedError::OutOfRange));
    assert_eq!(writer.update_value(0, b"", 0), Err(SlottedError::OutOfRange));
    assert_eq!(writer.set_link(1, 0), Err(SlottedError::OutOfRange));
    assert_eq!(bytes(&words), before);
}

/// Every count of slots up to some hundreds, and some beyond, with few and with many equal heads: hints lead to where the heads do.
#[test]
fn searches_agree_with_a_vector_whatever_the_count() {
    let form = SlottedForm { fixed_links: 1, links_per_slot: true, hints: true };
    for alike in [1, 2, 5, 40, 700] {
        let words = words(1 << 20);
        let writer = SlottedWriter::new(PageWriter::new(&words), BASE);
        writer.init(0, form).unwrap();
        let mut keys: Vec<[u8; 6]> = Vec::new();
        for count in 0..3000_u32 {
            // Behind the others, before them, and in the midst.
            let head = 1 + 2 * (count.wrapping_mul(0x9E37_79B9) % 3000 / alike);
            let mut key = [0; 6];
            key[..4].copy_from_slice(&head.to_be_bytes());
            key[4..].copy_from_slice(&(count as u16).to_be_bytes());
            let slot = keys.partition_point(|there| *there < key);
            keys.insert(slot, key);
            writer.insert(slot, &key, b"", 0, Some(1)).unwrap();
            if count % 7 == 3 {
                let slot = count as usize * 31 % keys.len();
                keys.remove(slot);
                writer.remove(slot).unwrap();
            }
            if count > 300 && count % 97 != 0 {
                continue;
            }
            let probes = keys.iter().flat_map(|key| {
                let head = u32::from_be_bytes(*key.first_chunk().unwrap());
                [
                    key.to_vec(),
                    [&key[..], b"!"].concat(),
                    head.to_be_bytes().to_vec(),
                    (head + 1).to_be_bytes().to_vec(),
                ]
            });
            for probe in probes.chain([vec![], vec![255; 4], vec![255; 9], vec![0; 4]]) {
                let found = writer.read().lower_bound(&probe).unwrap();
                let slot = keys.partition_point(|key| key[..] < probe[..]);
                assert_eq!(found.slot, slot, "{} slots, {probe:?}", keys.len());
                assert_eq!(found.found, keys.get(slot).is_some_and(|key| key[..] == probe[..]));
            }
            writer.read().check().unwrap();
        }
    }
}

/// A page with its slots there already, so that a few hundred operations meet thousands of them.
#[test]
fn thousands_of_slots_under_every_change() {
    let form = |links_per_slot| SlottedForm { fixed_links: 2, links_per_slot, hints: true };
    for links_per_slot in [false, true] {
        let words = words(65536);
        let page = PageWriter::new(&words);
        page.format(PageKind(200), PageId::new(7));
        let writer = SlottedWriter::new(page, BASE);
        writer.init(100, form(links_per_slot)).unwrap();
        let mut random = 1_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize
        };
        let mut keys: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = Default::default();
        let (mut most, mut full) = (0, 0);
        for round in 0..60_000 {
            let slot = next() % keys.len().max(1);
            let shrinking = round / 10_000 % 3 == 2;
            match next() % 16 {
                0..=12 if !shrinking => {
                    let mut key = (next() as u32 % 60_000).to_be_bytes().to_vec();
                    key.rotate_left(2); // the first two bytes tell most of them apart
                    key.truncate(1 + next() % 3);
                    let value = vec![7; next() % 9];
                    let place = writer.read().lower_bound(&key).unwrap();
                    if !place.found {
                        match writer.insert(place.slot, &key, &value, 0, links_per_slot.then_some(5)) {
                            Ok(()) => drop(keys.insert(key, value)),
                            Err(SlottedError::Full { .. }) => full += 1,
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                0..=13 if !keys.is_empty() => {
                    let key = keys.keys().nth(slot).unwrap().clone();
                    let place = writer.read().lower_bound(&key).unwrap();
                    assert_eq!((place.slot, place.found), (slot, true));
                    if next() % 3 == 0 || shrinking {
                        writer.remove(slot).unwrap();
                        keys.remove(&key);
                    } else {
                        let value = vec![8; next() % 20];
                        match writer.update_value(slot, &value, 1) {
                            Ok(()) => drop(keys.insert(key, value)),
                            Err(SlottedError::Full { .. }) => full += 1,
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                14 if next() % 50 == 0 => writer.compact().unwrap(),
                15 if next() % 1500 == 0 => {
                    writer.truncate(keys.len() / 2).unwrap();
                    let half = keys.len() / 2;
                    let gone = keys.keys().nth(half).cloned();
                    if let Some(gone) = gone {
                        drop(keys.split_off(&gone));
                    }
                }
                _ => drop(writer.reserve_slots(keys.len() + next() % 30)),
            }
            most = most.max(keys.len());
            if round % 16 == 0 {
                writer.read().check().unwrap();
                assert_eq!(writer.read().count(), Ok(keys.len()));
            }
        }
        assert!(most > 2000 && full > 1000, "{most} slots, {full} times full");
        let model: Vec<_> = keys.into_iter().collect();
        let there: Vec<_> = contents(writer.read(), links_per_slot)
            .into_iter()
            .map(|entry| (entry.key, entry.value))
            .collect();
        assert!(there == model);
    }
}
