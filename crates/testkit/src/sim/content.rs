//! The bytes of a simulated file, shared between all states of the disk that have them in common.
//!
//! Invariant: a chunk never changes once a second owner has it; who changes it gets a copy. So an image of the whole disk
//! costs the chunks in which it differs, and `hash` is the sum over all sectors that are not zero, whatever the order in
//! which they were written.
//!
//! ```text
//!   Content ─► [ leaf | leaf | - | ... ]          256 KiB each, - is a hole of zeros
//!               leaf ─► [ chunk | - | ... ]       64 chunks of 4 KiB
//!                        chunk = 8 sectors of 512 bytes, and the sum of each
//! ```

use std::sync::Arc;

use crate::rng::mix;

/// Bytes of a sector: what a disk writes whole or not at all (C4).
pub(crate) const SECTOR: usize = 512;
/// Bytes of a chunk: what is shared.
pub(crate) const CHUNK: usize = 4096;
/// Sectors of a chunk.
pub(crate) const SECTORS: usize = CHUNK / SECTOR;
const LEAF: usize = 64;

/// 4 KiB and the sums of their sectors.
#[derive(Clone)]
pub(crate) struct Chunk {
    bytes: [u8; CHUNK],
    /// Zero for a sector of zeros.
    sums: [u64; SECTORS],
}

impl Chunk {
    const ZERO: Chunk = Chunk { bytes: [0; CHUNK], sums: [0; SECTORS] };

    pub(crate) fn sector(&self, sector: usize) -> &[u8] {
        &self.bytes[sector * SECTOR..(sector + 1) * SECTOR]
    }

    /// Changes bytes and the sums that follow from them.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        for sector in at / SECTOR..(at + bytes.len()).div_ceil(SECTOR) {
            self.sums[sector] = sum(self.sector(sector));
        }
    }

    /// What the chunk adds to the hash of a file in which it stands at `index`.
    fn weight(&self, index: usize) -> u64 {
        let mut weight = 0u64;
        for (sector, sum) in self.sums.iter().enumerate() {
            if *sum != 0 {
                weight = weight.wrapping_add(mix(sum ^ mix((index * SECTORS + sector) as u64)));
            }
        }
        weight
    }
}

/// The keys of [`sum`].
const KEYS: [u64; SECTOR / 8] = {
    let mut rng = crate::rng::Rng::new(0x7067_7374_6f6e_6521);
    let mut keys = [0; SECTOR / 8];
    let mut at = 0;
    while at < keys.len() {
        keys[at] = rng.next_u64();
        at += 1;
    }
    keys
};

/// The NH hash of a sector (Black and others, *UMAC*, CRYPTO 1999) less that of zeros, folded to 64 bits: two given sectors
/// have the same sum with a chance of about 2^-63.
fn sum(sector: &[u8]) -> u64 {
    const OF_ZEROS: u128 = {
        let mut total = 0u128;
        let mut at = 0;
        while at < KEYS.len() {
            total = total.wrapping_add(KEYS[at] as u128 * KEYS[at + 1] as u128);
            at += 2;
        }
        total
    };
    let mut total = 0u128.wrapping_sub(OF_ZEROS);
    for (pair, keys) in sector.as_chunks::<16>().0.iter().zip(KEYS.as_chunks::<2>().0) {
        let word = u128::from_le_bytes(*pair);
        let low = (word as u64).wrapping_add(keys[0]);
        let high = ((word >> 64) as u64).wrapping_add(keys[1]);
        total = total.wrapping_add(u128::from(low) * u128::from(high));
    }
    mix(total as u64) ^ ((total >> 64) as u64)
}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunk({:016x})", self.weight(0))
    }
}

type Leaf = [Option<Arc<Chunk>>; LEAF];

/// A file's bytes without its length; what was never written is zero.
#[derive(Clone, Default)]
pub(crate) struct Content {
    leaves: Vec<Option<Arc<Leaf>>>,
    hash: u64,
}

impl Content {
    /// The sum over all sectors that are not zero.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The chunk at an index; `None` is zeros.
    pub(crate) fn chunk(&self, index: usize) -> Option<&Arc<Chunk>> {
        self.leaves.get(index / LEAF)?.as_ref()?[index % LEAF].as_ref()
    }

    /// Shares a chunk.
    pub(crate) fn put_chunk(&mut self, index: usize, chunk: &Arc<Chunk>) {
        let slot = self.slot(index);
        let old = slot.replace(Arc::clone(chunk));
        self.change_hash(index, old.as_deref(), Some(chunk));
    }

    /// Copies some sectors of a chunk: `from..to` of it.
    pub(crate) fn put_sectors(&mut self, index: usize, chunk: &Arc<Chunk>, from: usize, to: usize) {
        if (from, to) == (0, SECTORS) {
            return self.put_chunk(index, chunk);
        }
        self.write(index * CHUNK + from * SECTOR, &chunk.bytes[from * SECTOR..to * SECTOR]);
    }

    /// Changes bytes anywhere.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (index, at) = ((offset + done) / CHUNK, (offset + done) % CHUNK);
            let step = (CHUNK - at).min(bytes.len() - done);
            let slot = self.slot(index);
            let old = slot.as_ref().map_or(0, |chunk| chunk.weight(index));
            let chunk = slot.get_or_insert_with(|| Arc::new(Chunk::ZERO));
            if step == CHUNK {
                *chunk = Arc::new(Chunk::ZERO); // nothing of the old one stays: spare the copy
            }
            let chunk = Arc::make_mut(chunk);
            chunk.put(at, &bytes[done..done + step]);
            let new = chunk.weight(index);
            self.hash = self.hash.wrapping_sub(old).wrapping_add(new);
            done += step;
        }
    }

    /// Makes bytes zero. Chunks that are zero as a whole are one.
    pub(crate) fn zero(&mut self, offset: usize, len: usize) {
        let zero = Arc::new(Chunk::ZERO);
        let mut done = 0;
        while done < len {
            let (index, at) = ((offset + done) / CHUNK, (offset + done) % CHUNK);
            let step = (CHUNK - at).min(len - done);
            match step {
                CHUNK => self.put_chunk(index, &zero),
                _ => self.write(offset + done, &zero.bytes[..step]),
            }
            done += step;
        }
    }

    /// Reads bytes anywhere.
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (index, at) = ((offset + done) / CHUNK, (offset + done) % CHUNK);
            let step = (CHUNK - at).min(bytes.len() - done);
            match self.chunk(index) {
                Some(chunk) => bytes[done..done + step].copy_from_slice(&chunk.bytes[at..at + step]),
                None => bytes[done..done + step].fill(0),
            }
            done += step;
        }
    }

    /// Whether every byte from `len` on is zero and every chunk behind it a hole.
    pub(crate) fn ends_by(&self, len: usize) -> bool {
        let (first, sector) = (len / CHUNK, (len % CHUNK) / SECTOR);
        if self.chunk(first).is_some_and(|chunk| chunk.sums[sector..].iter().any(|sum| *sum != 0)) {
            // The sector in which the length lies counts only from there.
            let chunk = self.chunk(first).expect("it was there");
            if chunk.bytes[len % CHUNK..].iter().any(|byte| *byte != 0) {
                return false;
            }
        }
        let behind = first + 1;
        let leaves = self.leaves.iter().enumerate().skip(behind / LEAF);
        leaves
            .flat_map(|(leaf, chunks)| {
                chunks.iter().flat_map(move |chunks| {
                    chunks.iter().enumerate().map(move |(at, chunk)| (leaf * LEAF + at, chunk))
                })
            })
            .all(|(index, chunk)| index < behind || chunk.is_none())
    }

    /// Forgets every byte from `len` on.
    pub(crate) fn cut(&mut self, len: usize) {
        let whole = len.div_ceil(CHUNK);
        if !len.is_multiple_of(CHUNK) && self.chunk(len / CHUNK).is_some() {
            let at = len % CHUNK;
            self.write(len, &[0; CHUNK][at..]);
        }
        for leaf in whole / LEAF..self.leaves.len() {
            let Some(chunks) = &self.leaves[leaf] else { continue };
            let from = if leaf == whole / LEAF { whole % LEAF } else { 0 };
            let gone: Vec<usize> = (from..LEAF).filter(|at| chunks[*at].is_some()).collect();
            for at in gone {
                let index = leaf * LEAF + at;
                let old = self.slot(index).take();
                self.change_hash(index, old.as_deref(), None);
            }
        }
        self.leaves.truncate(whole.div_ceil(LEAF));
    }

    fn slot(&mut self, index: usize) -> &mut Option<Arc<Chunk>> {
        const EMPTY: Option<Arc<Chunk>> = None;
        let leaf = index / LEAF;
        if self.leaves.len() <= leaf {
            self.leaves.resize(leaf + 1, None);
        }
        let leaf = self.leaves[leaf].get_or_insert_with(|| Arc::new([EMPTY; LEAF]));
        &mut Arc::make_mut(leaf)[index % LEAF]
    }

    fn change_hash(&mut self, index: usize, old: Option<&Chunk>, new: Option<&Arc<Chunk>>) {
        let (old, new) =
            (old.map_or(0, |chunk| chunk.weight(index)), new.map_or(0, |chunk| chunk.weight(index)));
        self.hash = self.hash.wrapping_sub(old).wrapping_add(new);
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({:016x})", self.hash)
    }
}

/// A file's bytes and length. Bytes past the length are zero.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bytes {
    pub(crate) content: Content,
    pub(crate) len: u64,
}

impl Bytes {
    /// Makes the file at least this long.
    pub(crate) fn extend(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Makes the file this long; what lies behind is forgotten.
    pub(crate) fn set_len(&mut self, len: u64) {
        self.len = len;
        self.content.cut(len as usize);
    }

    /// All of it.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.content.read(0, &mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn content_is_a_vector_of_bytes_and_its_hash_depends_on_nothing_else() {
        const LEN: usize = 3 * LEAF * CHUNK;
        let mut rng = Rng::new(1);
        let mut plain = vec![0u8; LEN];
        let mut content = Content::default();
        let mut copies: Vec<(Content, Vec<u8>)> = Vec::new();
        for round in 0..400 {
            let offset = rng.below(LEN as u64) as usize;
            let len = (rng.below(3 * CHUNK as u64) as usize).min(LEN - offset);
            match rng.below(8) {
                0 => {
                    content.cut(offset);
                    plain[offset..].fill(0);
                }
                1 => {
                    let index = offset / CHUNK;
                    let (from, to) = (rng.below(4) as usize, 4 + rng.below(5) as usize);
                    let mut other = Content::default();
                    other.write(index * CHUNK, &vec![round as u8; CHUNK]);
                    content.put_sectors(index, other.chunk(index).expect("written"), from, to);
                    plain[index * CHUNK + from * SECTOR..index * CHUNK + to * SECTOR].fill(round as u8);
                }
                2 => {
                    content.zero(offset, len);
                    plain[offset..offset + len].fill(0);
                }
                _ => {
                    let mut bytes = vec![0; len];
                    rng.fill(&mut bytes);
                    content.write(offset, &bytes);
                    plain[offset..offset + len].copy_from_slice(&bytes);
                }
            }
            if round % 100 == 0 {
                copies.push((content.clone(), plain.clone()));
            }
        }
        copies.push((content, plain));
        for (content, plain) in copies {
            let mut back = vec![1; LEN];
            content.read(0, &mut back);
            assert_eq!(back, plain);
            let mut fresh = Content::default();
            for at in (0..LEN).step_by(1000).rev() {
                fresh.write(at, &plain[at..LEN.min(at + 1000)]);
            }
            assert_eq!(fresh.hash(), content.hash());
        }
    }

    #[test]
    fn zeros_written_hash_like_zeros_never_written_and_a_place_counts() {
        let mut content = Content::default();
        content.write(5000, &[0; 9000]);
        assert_eq!(content.hash(), 0);
        content.write(512, &[1; 512]);
        let first = content.hash();
        content.cut(0);
        assert_eq!(content.hash(), 0);
        content.write(1024, &[1; 512]);
        assert_ne!(content.hash(), first);
    }
}
