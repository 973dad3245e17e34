//! A file of mapped pages made good: checksums of superblock, blocks and roots, and the digest that stands for the blocks.
//!
//! Invariant: nothing else is changed, so what is hostile stays hostile. It says for itself where things stand, from
//! `docs/on-disk-format.md`: a mistake of the pager's about its own layout must not be repeated here.

use pagestone_page_format::{Crc32c, crc32c};

const BLOCK: usize = 4096;
const SHARE: usize = 496;
const REGIONS_AT: usize = 4 * BLOCK;

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

/// The root in a slot: the first 496 bytes of each of its sectors.
pub fn root_of(slot: &[u8]) -> Vec<u8> {
    slot.chunks(512).flat_map(|sector| &sector[..SHARE]).copied().collect()
}

/// Puts a root into a slot, with the stamps that it needs.
pub fn put_root(file: &mut [u8], slot: usize, root: &[u8]) {
    let uuid: [u8; 16] = file[16..32].try_into().expect("sixteen bytes");
    let bytes = &mut file[(2 + slot) * BLOCK..(3 + slot) * BLOCK];
    let (sequence, whole) = (u64_at(root, 8), crc32c(root));
    for (number, (sector, share)) in bytes.chunks_mut(512).zip(root.chunks(SHARE)).enumerate() {
        sector[..SHARE].copy_from_slice(share);
        put(sector, SHARE, sequence);
        sector[SHARE + 8..SHARE + 12].copy_from_slice(&whole.to_le_bytes());
        let mut crc = Crc32c::new();
        crc.update(&uuid);
        crc.update(&[slot as u8, number as u8]);
        crc.update(&sector[..508]);
        sector[508..].copy_from_slice(&crc.finalize().to_le_bytes());
    }
}

/// Puts the checksums right, and with `digests` what the roots say of the blocks.
pub fn file(bytes: &mut [u8], digests: bool) {
    if bytes.len() < REGIONS_AT {
        return;
    }
    for copy in 0..2 {
        let block = &mut bytes[copy * BLOCK..(copy + 1) * BLOCK];
        let checksum = u64::from(crc32c(&block[..BLOCK - 8]));
        put(block, BLOCK - 8, checksum);
    }
    let blocks = blocks(bytes);
    for slot in 0..2 {
        let mut root = root_of(&bytes[(2 + slot) * BLOCK..(3 + slot) * BLOCK]);
        if digests {
            let digest = digest(&blocks, u64_at(&root, 16));
            put(&mut root, 24, digest);
        }
        put_root(bytes, slot, &root);
    }
}

/// Block number, sequence and checksum of both slots of each block, put right.
fn blocks(bytes: &mut [u8]) -> Vec<[Option<(u64, u64, u64)>; 2]> {
    let uuid: [u8; 16] = bytes[16..32].try_into().expect("sixteen bytes");
    let log2 = u32::from_le_bytes(bytes[12..16].try_into().expect("four bytes")).clamp(10, 30);
    let granule = (BLOCK >> log2).max(1);
    let per_region = 1 + (8192 / granule).div_ceil(252);
    let region_bytes = per_region * 2 * BLOCK + (16_384 << log2);
    let mut found = Vec::new();
    for (region, start) in (REGIONS_AT..bytes.len()).step_by(region_bytes).enumerate() {
        for block in 0..per_region {
            let number = (region * 64 + block) as u64;
            found.push([0, 1].map(|slot| {
                let at = start + (block * 2 + slot) * BLOCK;
                let block = bytes.get_mut(at..at + BLOCK)?;
                (block[..8] == *b"PGMBLOCK" && u64_at(block, 16) > 0).then(|| {
                    let mut crc = Crc32c::new();
                    crc.update(&uuid);
                    crc.update(&block[..56]);
                    crc.update(&block[64..]);
                    let checksum = u64::from(crc.finalize());
                    put(block, 56, checksum);
                    (number, u64_at(block, 16), checksum)
                })
            }));
        }
    }
    found
}

fn digest(blocks: &[[Option<(u64, u64, u64)>; 2]], base: u64) -> u64 {
    let newest = |slots: &[Option<(u64, u64, u64)>; 2]| {
        slots
            .iter()
            .flatten()
            .filter(|(_, sequence, _)| *sequence <= base)
            .max_by_key(|(_, sequence, _)| *sequence)
            .copied()
    };
    let share = |(number, sequence, checksum)| {
        [number, sequence, checksum].into_iter().fold(0, |sum, word| mix(sum ^ word))
    };
    blocks.iter().filter_map(newest).map(share).fold(0, u64::wrapping_add)
}

fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
