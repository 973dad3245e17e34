//! Metadata A and B: the root of all metadata, and what has changed since the blocks below it were written.
//!
//! Invariant: a root that decodes is whole, ours, of its slot, and was written by one commit; of one that does not, the sectors tell
//! whether a commit that was cut explains it.
//!
//! ```text
//!   a slot is 8 sectors of 512 bytes:
//!
//!          0       1       2       3       4       5       6       7
//!      ┌───────────────────────────────────────────────────────────────┐
//!   0  │ 496 bytes of the root                                         │
//! 496  │ sequence of the commit                                        │
//! 504  │ CRC32C of the whole root      │ CRC32C of UUID, place, sector │
//!      └───────────────────────────────────────────────────────────────┘
//!
//!   the root, 3968 bytes of which are the first 496 of each sector, one behind the other:
//!
//!          0       1       2       3       4       5       6       7
//!      ┌───────────────────────────────────────────────────────────────┐
//!   0  │ magic  "PGMROOT\0"                                            │
//!   8  │ sequence                                                      │
//!  16  │ base: sequence of the commit that wrote the newest blocks     │
//!  24  │ digest of the blocks that count (`words.rs`)                  │
//!  32  │ pages                                                         │
//!  40  │ number of changed words, up to 244                            │
//!  48  │ bytes of patches                                              │
//!  56  │ address of a changed word, ascending                          │
//!  64  │ its value; and so on                                          │
//!   …  │ patches of protected pages (`patch.rs`); zeros                │
//!      └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! Why the sectors are stamped. Commit `m + 1` is written over commit `m - 1`, while `m` stands in the other slot. A cut leaves each sector
//! as it was or as it should be, or garbage where it was being written, so somewhere two stamps meet: then `m + 1` was acknowledged to
//! nobody, and `m` counts. If all that is legible is of one newer commit, it may have been acknowledged and damaged since, and falling
//! back to `m` could be a lie: that is corruption, and what to do about it is the owner's choice.

use pagestone_page_format::{Crc32c, StoreUuid, crc32c};

use crate::layout::{Address, BLOCK};

const MAGIC: u64 = u64::from_le_bytes(*b"PGMROOT\0");
const SECTOR: usize = 512;
const SECTORS: usize = BLOCK / SECTOR;
/// Bytes of the root in a sector.
const SHARE: usize = SECTOR - 16;
const ROOT_BYTES: usize = SHARE * SECTORS;
const FIELDS: usize = 56;
/// Bytes for changed words and patches.
const BODY: usize = ROOT_BYTES - FIELDS;
/// Words that a root can hold.
const CHANGES_MAX: usize = BODY / 16;

const _: () = assert!(CHANGES_MAX == 244 && SHARE == 496 && ROOT_BYTES == 3968);

/// What a commit leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Root {
    /// One more at each commit. Its lowest bit is the slot.
    pub(crate) sequence: u64,
    /// Blocks of later commits than this one do not count.
    pub(crate) base: u64,
    /// The sum over the blocks that count.
    pub(crate) digest: u64,
    /// Pages of the file, the reserved ones not among them.
    pub(crate) pages: u64,
    /// Words that differ from the blocks', ascending.
    pub(crate) changes: Vec<(Address, u64)>,
    /// What protected pages say beyond their active copies, as `patch.rs` has it.
    pub(crate) patches: Vec<u8>,
}

/// Whether a root holds so many changed words and so many bytes of patches.
pub(crate) const fn has_room(changes: usize, patches: usize) -> bool {
    16 * changes + patches <= BODY
}

/// What a slot holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Slot {
    /// A root.
    Whole(Root),
    /// None that could be read: the stamps of the sectors that could.
    Broken(Vec<Stamp>),
    /// All sectors are of one commit, and it makes no sense.
    Senseless(&'static str),
}

/// Which commit a sector is of: sequence, and checksum of the whole, which tells two attempts at one sequence apart.
pub(crate) type Stamp = (u64, u32);

impl Root {
    /// The slot in which it stands.
    pub(crate) fn slot(&self) -> usize {
        (self.sequence & 1) as usize
    }

    pub(crate) fn encode(&self, uuid: StoreUuid) -> Vec<u8> {
        let mut root = Vec::with_capacity(ROOT_BYTES);
        let (changes, patches) = (self.changes.len() as u64, self.patches.len() as u64);
        let head = [MAGIC, self.sequence, self.base, self.digest, self.pages, changes, patches];
        let changes = self.changes.iter().flat_map(|(address, value)| [address.0, *value]);
        head.into_iter().chain(changes).for_each(|word| root.extend(word.to_le_bytes()));
        root.extend(&self.patches);
        root.resize(ROOT_BYTES, 0);
        let whole = crc32c(&root);
        let mut bytes = Vec::with_capacity(BLOCK);
        for (number, share) in root.chunks(SHARE).enumerate() {
            let start = bytes.len();
            bytes.extend(share);
            bytes.extend(self.sequence.to_le_bytes());
            bytes.extend(whole.to_le_bytes());
            let checksum = sector_checksum(uuid, self.slot(), number, &bytes[start..]);
            bytes.extend(checksum.to_le_bytes());
        }
        bytes
    }
}

fn sector_checksum(uuid: StoreUuid, slot: usize, number: usize, sector: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(uuid.bytes());
    crc.update(&[slot as u8, number as u8]);
    crc.update(sector);
    crc.finalize()
}

impl Slot {
    /// Reads 4096 bytes. Never panics, whatever they are.
    pub(crate) fn decode(bytes: &[u8], uuid: StoreUuid, slot: usize) -> Self {
        let u32_at =
            |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let stamp = |(number, sector): (usize, &[u8])| -> Option<Stamp> {
            let stored = u32_at(sector, SECTOR - 4);
            let computed = sector_checksum(uuid, slot, number, &sector[..SECTOR - 4]);
            (stored == computed).then(|| (u64_at(sector, SHARE), u32_at(sector, SHARE + 8)))
        };
        let stamps: Vec<Stamp> = bytes.chunks(SECTOR).enumerate().filter_map(stamp).collect();
        let root: Vec<u8> = bytes.chunks(SECTOR).flat_map(|sector| &sector[..SHARE]).copied().collect();
        match stamps.first() {
            Some((sequence, whole))
                if stamps == [(*sequence, *whole); SECTORS] && crc32c(&root) == *whole =>
            {
                decode_root(&root, *sequence, slot).map_or_else(Self::Senseless, Self::Whole)
            }
            _ => Self::Broken(stamps),
        }
    }

    /// Whether this slot, in which no root can be read, is what commits leave that were cut while `other` counted.
    pub(crate) fn is_explained_by_a_cut(&self, other: &Root) -> bool {
        let Self::Broken(stamps) = self else { return false };
        // The commit that was cut is the next one. What it was written over is older than the other slot, or an earlier such cut.
        let possible = |stamp: &Stamp| stamp.0 < other.sequence || stamp.0 == other.sequence + 1;
        let new = stamps.iter().find(|stamp| stamp.0 == other.sequence + 1);
        let is_mixed = |new: &Stamp| stamps.iter().any(|stamp| stamp != new);
        // With nothing new in it, it is a damaged copy of an older commit, or the next one had only garbage there yet.
        let is_old = new.is_none() && !stamps.is_empty();
        stamps.iter().all(possible) && (is_old || new.is_some_and(is_mixed))
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn decode_root(root: &[u8], sequence: u64, slot: usize) -> Result<Root, &'static str> {
    let word = |at: usize| u64_at(root, at * 8);
    if word(0) != MAGIC {
        return Err("no root begins like this");
    }
    if word(1) != sequence || (sequence & 1) as usize != slot {
        return Err("the sequence is not that of its sectors or of its slot");
    }
    let (changes, patches) = (word(5) as usize, word(6) as usize);
    if changes > CHANGES_MAX || patches > BODY || !has_room(changes, patches) {
        return Err("more changed words and patches than there is room for");
    }
    let pair = |at: usize| (Address(word(7 + 2 * at)), word(8 + 2 * at));
    let root_changes: Vec<(Address, u64)> = (0..changes).map(pair).collect();
    if !root_changes.is_sorted_by(|one, next| one.0 < next.0) {
        return Err("changed words out of order");
    }
    let (patches, behind) = root[FIELDS + 16 * changes..].split_at(patches);
    if behind.iter().any(|byte| *byte != 0) {
        return Err("something behind the last changed word and patch");
    }
    if word(2) > sequence {
        return Err("blocks that are newer than the root");
    }
    let (base, digest, pages) = (word(2), word(3), word(4));
    Ok(Root { sequence, base, digest, pages, changes: root_changes, patches: patches.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: StoreUuid = StoreUuid::new([3; 16]);

    fn root(sequence: u64, changes: usize) -> Root {
        let changes: Vec<_> =
            (0..changes as u64).map(|number| (Address(number * 3), sequence + number)).collect();
        let patches = vec![5; (BODY - 16 * changes.len()).min(8 * sequence as usize)];
        Root { sequence, base: 1, digest: 7, pages: 16, changes, patches }
    }

    fn decode(bytes: &[u8], slot: usize) -> Slot {
        Slot::decode(bytes, UUID, slot)
    }

    /// Each sector old or new, by the bits of `new`.
    fn mixed(old: &[u8], new: &[u8], choice: u32) -> Vec<u8> {
        let sector = |number: usize| if choice >> number & 1 == 1 { new } else { old };
        (0..SECTORS)
            .flat_map(|number| &sector(number)[number * SECTOR..(number + 1) * SECTOR])
            .copied()
            .collect()
    }

    #[test]
    fn a_root_survives_encoding_and_every_flipped_byte_is_found() {
        for changes in [0, 1, CHANGES_MAX] {
            let root = root(8, changes);
            let bytes = root.encode(UUID);
            assert_eq!(decode(&bytes, 0), Slot::Whole(root.clone()));
            assert!(matches!(decode(&bytes, 1), Slot::Broken(_)), "in the other slot");
            assert!(matches!(Slot::decode(&bytes, StoreUuid::new([4; 16]), 0), Slot::Broken(_)));
            for at in 0..BLOCK {
                let mut broken = bytes.clone();
                broken[at] ^= 1;
                assert!(matches!(decode(&broken, 0), Slot::Broken(stamps) if stamps.len() == SECTORS - 1));
            }
        }
    }

    #[test]
    fn a_cut_commit_is_explained_and_a_damaged_one_is_not() {
        let (old, counts, new) = (root(6, 10).encode(UUID), root(7, 11), root(8, CHANGES_MAX).encode(UUID));
        for choice in 0..1 << SECTORS {
            let slot = decode(&mixed(&old, &new, choice), 0);
            match choice {
                0 => assert_eq!(slot, Slot::Whole(root(6, 10))),
                0xff => assert_eq!(slot, Slot::Whole(root(8, CHANGES_MAX))),
                _ => assert!(slot.is_explained_by_a_cut(&counts)),
            }
            for damaged in 0..SECTORS {
                let mut bytes = mixed(&old, &new, choice);
                bytes[damaged * SECTOR + 5] ^= 4;
                let others = !(1 << damaged) & 0xff;
                // What is left of a whole new one may have been acknowledged.
                let expected = choice & others != others;
                assert_eq!(
                    decode(&bytes, 0).is_explained_by_a_cut(&counts),
                    expected,
                    "{choice:#x} {damaged}"
                );
            }
        }
        assert!(!decode(&[0; BLOCK], 0).is_explained_by_a_cut(&counts), "nothing tells of a commit");
        let later = mixed(&root(8, 0).encode(UUID), &root(10, 0).encode(UUID), 9);
        assert!(!decode(&later, 0).is_explained_by_a_cut(&counts), "7 is long past");
    }

    #[test]
    fn a_commit_that_was_cut_twice_is_explained() {
        let (once, twice) = (root(8, 3).encode(UUID), root(8, 4).encode(UUID));
        for choice in 1..0xff {
            let slot = decode(&mixed(&once, &twice, choice), 0);
            assert!(slot.is_explained_by_a_cut(&root(7, 0)), "{choice:#x}");
        }
    }
}
