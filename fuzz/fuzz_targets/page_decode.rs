//! Failure searched for: bytes, with a checksum that is right or not, that make reading, changing or copying of a page panic,
//! loop or look outside it; a page that is accepted and comes back as another.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use pagestone_fuzz::repair::{self, seal};
use pagestone_page_format::slotted::{SlottedForm, SlottedPage, SlottedWriter};
use pagestone_page_format::{
    ChecksumKind, PAGE_HEADER_SIZE, Page, PageChecksum, PageError, PageHeader, PageId, PageWriter,
    SpeculativePage,
};
use pagestone_sync::atomic::AtomicU64;

const ID: PageId = PageId::new(5);
/// Where slotted areas begin.
const BASES: [usize; 3] = [PAGE_HEADER_SIZE, 48, 88];

fuzz_target!(|bytes: &[u8]| {
    for kind in [ChecksumKind::Crc32c, ChecksumKind::Crc64Nvme] {
        decode(bytes, &seal(kind));
    }
    let words: Vec<AtomicU64> =
        bytes.as_chunks().0.iter().map(|word| AtomicU64::new(u64::from_le_bytes(*word))).collect();
    let key = &bytes[bytes.len().saturating_sub(9)..];
    let slot = bytes.last().map_or(0, |byte| usize::from(*byte));
    swips(&words);
    for base in BASES {
        read(&words, base, key);
        change(&words, base, key, slot);
        read(&words, base, key);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // A length that is a page's, most often, and a checksum that is right, most often; and now and then a good page to damage.
    let mut len = fuzzer_mutate(data, size, max_size);
    if seed & 3 != 0 && max_size >= 4096 {
        data[len.min(4096)..4096].fill(0);
        len = 4096;
        if seed >> 27 == 0 {
            let base = BASES[seed as usize >> 4 & 1];
            repair::slotted(&mut data[..len], base, ID, seed.wrapping_mul(0x9e37_79b9));
        }
    }
    if seed & 12 != 0 {
        let kind = if seed & 16 == 0 { ChecksumKind::Crc32c } else { ChecksumKind::Crc64Nvme };
        repair::page(&mut data[..len], ID, &seal(kind));
    }
    len
});

/// What is accepted is the page that was asked for, all of it, and comes back as it was.
fn decode(bytes: &[u8], seal: &PageChecksum) {
    let header = PageHeader::decode(bytes);
    assert_eq!(header.is_some(), bytes.len() >= PAGE_HEADER_SIZE);
    if let Some(header) = header {
        let mut again = [0; PAGE_HEADER_SIZE];
        header.encode(&mut again);
        assert_eq!(again, bytes[..PAGE_HEADER_SIZE]);
    }
    match Page::from_bytes(bytes, ID, seal) {
        Ok(page) => {
            let other = PageId::new(ID.get() + 1);
            let told = Page::from_bytes(bytes, other, seal);
            assert!(matches!(told, Err(PageError::MisdirectedPage { .. })), "{told:?}");
            assert_eq!((page.id(), Some(page.header())), (ID, header));
            assert_eq!(page.clone().to_checksummed_bytes(seal), bytes);
            let mut flipped = bytes.to_vec();
            let at = flipped.len() - 1;
            flipped[at] ^= 1;
            Page::from_bytes(&flipped, ID, seal).expect_err("a flipped bit is found");
        }
        Err(
            PageError::ShortRead { .. }
            | PageError::BadMagic { .. }
            | PageError::UnsupportedVersion { .. }
            | PageError::ChecksumMismatch { .. }
            | PageError::MisdirectedPage { .. },
        ) => {}
        Err(other) => panic!("not an error of a page: {other}"),
    }
}

/// The header's swip array may point anywhere.
fn swips(words: &[AtomicU64]) {
    let page = SpeculativePage::new(words);
    let Ok(header) = page.header() else { return };
    let first = usize::from(header.swips.at_word);
    for word in first..first + usize::from(header.swips.count).min(64) {
        assert_eq!(page.word(word).is_ok(), word < words.len());
    }
}

fn read(words: &[AtomicU64], base: usize, key: &[u8]) {
    let page = SlottedPage::new(SpeculativePage::new(words), base);
    let mut out = Vec::new();
    let count = page.count().unwrap_or(0);
    for slot in (0..count.min(300)).chain([count, usize::from(u16::MAX)]) {
        if let Ok(cell) = page.get(slot) {
            assert!(cell.value_range().end <= words.len() * 8);
            out.clear();
            page.append_key(cell, &mut out).expect("a cell lies in the page");
            page.append_value(cell, &mut out).expect("a cell lies in the page");
            page.compare_key(cell, key).expect("a cell lies in the page");
            assert_eq!(out.len(), cell.key_len + cell.value_len);
        }
        let _ = (page.slot_link(slot), page.link(slot), page.link_word(slot));
    }
    if let Ok(found) = page.lower_bound(key) {
        assert!(found.slot <= count);
    }
    let _ = (page.free_space(), page.free_space_after_compaction(), page.has_room(1, key.len()));
    let _ = (page.live_bytes(), page.reserved_suffix(), page.link_count());
    if page.check().is_ok() {
        for slot in 0..count {
            let cell = page.get(slot).expect("a page that was checked");
            out.clear();
            page.append_key(cell, &mut out).expect("a page that was checked");
            let found = page.lower_bound(&out).expect("a page that was checked");
            assert!(found.found && found.slot == slot, "a key is not found where it stands");
        }
    }
}

fn change(words: &[AtomicU64], base: usize, key: &[u8], slot: usize) {
    let writer = SlottedWriter::new(PageWriter::new(words), base);
    let other: Vec<AtomicU64> = words.iter().map(|_| AtomicU64::new(0)).collect();
    let into = SlottedWriter::new(PageWriter::new(&other), base);
    let form = SlottedForm {
        fixed_links: (slot % 3) as u8,
        links_per_slot: slot.is_multiple_of(2),
        hints: slot.is_multiple_of(5),
    };
    if into.init(slot % 64, form).is_ok() {
        let _ = writer.copy_range(0..slot, &into);
        into.read().count().expect("a page that was just made");
    }
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
