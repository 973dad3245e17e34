//! Failure prevented: a page with a valid checksum and hostile bytes (E4), or one that a writer is changing, that makes a
//! reader or redo panic, loop or look outside the page.
#![cfg(not(loom))]

use pagestone_page_format::slotted::{SlottedForm, SlottedPage, SlottedWriter};
use pagestone_page_format::{PageWriter, SpeculativePage};
use pagestone_sync::atomic::AtomicU64;
use proptest::prelude::*;

const BASE: usize = 48;

fn words(bytes: &[u8]) -> Vec<AtomicU64> {
    let words = bytes.as_chunks::<8>().0;
    words.iter().map(|word| AtomicU64::new(u64::from_le_bytes(*word))).collect()
}

fn read_everything(words: &[AtomicU64], key: &[u8]) {
    let page = SlottedPage::new(SpeculativePage::new(words), BASE);
    let mut out = Vec::new();
    for slot in 0..page.count().unwrap_or(0).min(300) + 1 {
        if let Ok(cell) = page.get(slot) {
            assert!(cell.value_range().end <= words.len() * 8);
            out.clear();
            page.append_key(cell, &mut out).unwrap();
            page.append_value(cell, &mut out).unwrap();
            page.compare_key(cell, key).unwrap();
        }
        let _ = (page.slot_link(slot), page.link(slot));
    }
    if let Ok(found) = page.lower_bound(key) {
        // Not the count: a writer may have changed it meanwhile.
        assert!(found.slot <= usize::from(u16::MAX));
    }
    let _ = (page.free_space(), page.free_space_after_compaction(), page.has_room(1, key.len()));
    let _ = (page.live_bytes(), page.reserved_suffix(), page.link_count(), page.check());
}

fn change_everything(words: &[AtomicU64], key: &[u8], slot: usize) {
    let writer = SlottedWriter::new(PageWriter::new(words), BASE);
    let other: Vec<AtomicU64> = words.iter().map(|_| AtomicU64::new(0)).collect();
    let into = SlottedWriter::new(PageWriter::new(&other), BASE);
    let hints = slot.is_multiple_of(3);
    into.init(0, SlottedForm { fixed_links: 2, links_per_slot: slot.is_multiple_of(2), hints }).unwrap();
    let _ = writer.copy_range(0..slot, &into);
    let _ = writer.insert(slot, key, key, 1, None);
    let _ = writer.insert(0, key, b"", 1, Some(7));
    let _ = writer.update_value(slot, key, 0);
    let _ = writer.update_value(0, b"", 0);
    let _ = writer.set_link(slot, 9);
    let _ = writer.reserve_slots(slot + 5);
    let _ = writer.remove(slot);
    let _ = writer.remove(0);
    let _ = writer.compact();
    let _ = writer.insert(0, key, key, 1, None);
    let _ = writer.truncate(slot / 2);
    let _ = writer.compact();
}

/// A page that was good before some of its bytes were changed: gets past the first checks.
fn nearly_good(count: usize, per_slot: bool, hints: bool, damage: &[(usize, u8)]) -> Vec<AtomicU64> {
    let words = words(&[0; 4096]);
    let page = PageWriter::new(&words);
    let writer = SlottedWriter::new(page, BASE);
    writer.init(64, SlottedForm { fixed_links: 2, links_per_slot: per_slot, hints }).unwrap();
    for slot in 0..count {
        let key = (slot as u64 * 0x0101).to_be_bytes();
        writer.insert(slot, &key, &key[..slot % 8], 0, per_slot.then_some(1)).unwrap();
    }
    for (at, byte) in damage {
        page.put_bytes(*at, &[*byte]).unwrap();
    }
    words
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 4096), key in prop::collection::vec(any::<u8>(), 0..12), slot in 0..300usize) {
        let words = words(&bytes);
        read_everything(&words, &key);
        change_everything(&words, &key, slot);
        read_everything(&words, &key);
    }

    #[test]
    fn damaged_headers_and_arrays(
        count in 0..90usize,
        per_slot: bool,
        hints: bool,
        damage in prop::collection::vec((prop_oneof![BASE..BASE + 24, BASE..1500, BASE..4096usize], any::<u8>()), 1..12),
        key in prop::collection::vec(any::<u8>(), 0..12),
        slot in 0..100usize,
    ) {
        let words = nearly_good(count, per_slot, hints, &damage);
        read_everything(&words, &key);
        change_everything(&words, &key, slot);
        read_everything(&words, &key);
    }

    #[test]
    fn every_header_word(first: u64, second: u64, third: u64, small: bool, hints: bool) {
        let words = nearly_good(40, true, hints, &[]);
        let page = PageWriter::new(&words);
        let mask = if small { 0x0001_0fff_00ff_00ff } else { u64::MAX };
        for (index, word) in [first, second, third].into_iter().enumerate() {
            page.put_word(BASE / 8 + index, word & mask).unwrap();
        }
        read_everything(&words, b"key");
        change_everything(&words, b"key", (first % 50) as usize);
    }
}

#[test]
fn pages_shorter_than_their_headers() {
    for len in 0..20 {
        let words = words(&vec![0xff; len * 8]);
        read_everything(&words, b"key");
        let writer = SlottedWriter::new(PageWriter::new(&words), BASE);
        assert!(writer.insert(0, b"", b"", 0, None).is_err());
        let _ = writer.init(0, SlottedForm::default());
    }
}

#[test]
fn readers_beside_a_writer() {
    let words = nearly_good(0, true, true, &[]);
    std::thread::scope(|threads| {
        let words = &words;
        let reader = threads.spawn(move || {
            for round in 0..3_000_u64 {
                read_everything(words, &(round * 0x0101).to_be_bytes());
            }
        });
        let writer = SlottedWriter::new(PageWriter::new(words), BASE);
        let mut round = 0_u64;
        while !reader.is_finished() {
            round = round.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = (round >> 40).to_be_bytes();
            let found = writer.read().lower_bound(&key).unwrap();
            if writer.insert(found.slot, &key, &key[..5], 0, Some(round)).is_err() {
                writer.truncate((round >> 33) as usize % 20).unwrap();
            }
        }
        reader.join().unwrap();
        writer.read().check().unwrap();
    });
}
