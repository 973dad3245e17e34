//! Bytes made good, so that what is hostile in them gets past the first checks and reaches the code behind.
//!
//! Invariant: [`page`] and [`page_file`] change nothing but magics, versions, ids, checksums, page sizes and checksum kinds, and
//! only what the choice names.

use pagestone_page_format::slotted::{SlottedForm, SlottedWriter};
use pagestone_page_format::{
    ChecksumKind, FORMAT_VERSION, PAGE_MAGIC, PageChecksum, PageId, PageKind, PageSize, PageWriter,
    SpeculativePage, StoreUuid, crc32c,
};
use pagestone_sync::atomic::AtomicU64;

/// Bytes of one copy of a page file's superblock.
const COPY: usize = 4096;
/// The UUID of pages that stand alone.
pub const UUID: StoreUuid = StoreUuid::new([7; 16]);

/// The checksum of pages that stand alone.
pub fn seal(kind: ChecksumKind) -> PageChecksum {
    PageChecksum::new(kind, UUID)
}

/// Makes bytes a page that passes verification: magic, version, id and checksum. Fewer bytes than a header stay as they are.
pub fn page(bytes: &mut [u8], id: PageId, seal: &PageChecksum) {
    if bytes.len() < 32 {
        return;
    }
    bytes[..2].copy_from_slice(&PAGE_MAGIC.to_le_bytes());
    bytes[2] = FORMAT_VERSION;
    bytes[8..16].copy_from_slice(&id.get().to_le_bytes());
    seal.stamp(bytes);
}

/// A slotted page as an owner would have made it, for the next mutations to damage: some cells, some removed again.
pub fn slotted(bytes: &mut [u8], base: usize, id: PageId, number: u32) {
    let words: Vec<AtomicU64> = (0..bytes.len() / 8).map(|_| AtomicU64::new(0)).collect();
    let page = PageWriter::new(&words);
    page.format(PageKind(200), id);
    let area = SlottedWriter::new(page, base);
    let per_slot = number & 1 == 1;
    let cells = (number >> 8) as usize % 60;
    let form = SlottedForm {
        fixed_links: (number >> 1 & 3) as u8,
        links_per_slot: per_slot,
        hints: number & 1 << 29 != 0,
    };
    area.init((number >> 16) as usize % 100, form).expect("a page is long enough");
    for slot in 0..cells {
        let key = (slot as u64 * 0x0101).to_be_bytes();
        let value = &key[..(slot ^ number as usize >> 3) % 8];
        area.insert(slot, &key, value, 0, per_slot.then_some(7)).expect("so few cells fit");
    }
    if number & 1 << 30 != 0 {
        area.truncate(cells / 2).expect("there are so many");
    }
    SpeculativePage::new(&words).copy_out(bytes);
}

/// Which parts of a page file are put right.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// The checksums of the superblock's copies.
    pub checksums: [bool; 2],
    /// Their magic and version, and a page size and a checksum kind that exist.
    pub fields: [bool; 2],
    /// The second copy is the first.
    pub same: bool,
    /// Bit `n % 32`: page `n`.
    pub pages: u32,
}

impl Parts {
    /// From any number. Zero changes nothing.
    pub fn from_number(number: u32) -> Self {
        let bit = |at: u32| number >> at & 1 == 1;
        Self {
            checksums: [bit(0), bit(1)],
            fields: [bit(2), bit(3)],
            same: bit(4),
            pages: number.rotate_right(7) & (number.rotate_right(15) | number.rotate_right(23)),
        }
    }
}

/// Puts parts of a page file right.
pub fn page_file(bytes: &mut [u8], parts: Parts) {
    for copy in 0..2 {
        let Some(block) = bytes.get_mut(copy * COPY..(copy + 1) * COPY) else { return };
        if parts.fields[copy] {
            superblock_fields(block);
        }
        if parts.checksums[copy] {
            let checksum = u64::from(crc32c(&block[..COPY - 8]));
            block[COPY - 8..].copy_from_slice(&checksum.to_le_bytes());
        }
    }
    if parts.same {
        bytes.copy_within(..COPY, COPY);
    }
    let (superblock, pages) = bytes.split_at_mut(2 * COPY);
    let size = u32::from_le_bytes(superblock[12..16].try_into().expect("four bytes"));
    let (Ok(size), Some(kind)) = (PageSize::new(size as usize), ChecksumKind::from_number(superblock[32]))
    else {
        return;
    };
    let uuid = StoreUuid::new(superblock[16..32].try_into().expect("sixteen bytes"));
    let seal = PageChecksum::new(kind, uuid);
    for (number, bytes) in pages.chunks_exact_mut(size.get()).enumerate() {
        if parts.pages >> (number % 32) & 1 == 1 {
            page(bytes, PageId::new(number as u64), &seal);
        }
    }
}

fn superblock_fields(block: &mut [u8]) {
    block[..8].copy_from_slice(b"PGPAGES\0");
    block[8..12].copy_from_slice(&u32::from(FORMAT_VERSION).to_le_bytes());
    // 4 KiB to 1 MiB, mostly small: the input is.
    let log2 = 12 + (block[12] & block[13] & block[14]).min(8);
    block[12..16].copy_from_slice(&(1_u32 << log2).to_le_bytes());
    block[32] = 1 + block[32] % 2;
}
