//! What a protected page says beyond its active copy, where that is little.
//!
//! Invariant: a patch is of an active copy that is durable and that nobody writes to, and its checksum is that of the page as it reads; so
//! a root that holds it is all that a commit has to make durable.
//!
//! ```text
//!   in a root:   id │ checksum, runs │ run: at, words │ its words │ run …          ascending ids, ascending runs, all in words of 8 bytes
//!   in memory:   the same, and the page as it reads
//! ```
//!
//! Small commits of protected pages cost one sync instead of two: first the copy, then the root that makes it count. A page goes into its
//! other copy when its patch becomes long, or when the patches no longer fit into a root. It is what write-ahead logs do with pages (Mohan et
//! al., *ARIES*, TODS 1992), with a log of one record that is always written anew, so that there is nothing to replay or to recycle.

use std::collections::BTreeMap;

use crate::layout::BLOCK;

/// The longest page that is kept in memory beside its copies.
pub(crate) const PATCHED_PAGE_MAX: usize = 64 << 10;
/// The longest patch, in a root: some of them fit into one.
const PATCH_MAX: usize = 960;
const HEAD: usize = 16;
const RUN_HEAD: usize = 8;

const _: () = assert!(4 * PATCH_MAX <= BLOCK - 8 * 16 - 56, "four fit into a root that has no changed words");

/// Some words of a page, from this one on.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Run {
    at: usize,
    bytes: Vec<u8>,
}

/// What differs from the active copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Patch {
    /// That of the page as it reads.
    pub(crate) checksum: u32,
    runs: Vec<Run>,
}

/// A page that has a patch, as it reads.
#[derive(Clone, Debug)]
pub(crate) struct Patched {
    pub(crate) patch: Patch,
    pub(crate) bytes: Box<[u8]>,
}

impl Patch {
    /// What has to be changed in `base` to have `bytes`. `None` if that is long.
    pub(crate) fn between(base: &[u8], bytes: &[u8], checksum: u32) -> Option<Self> {
        let mut patch = Self { checksum, runs: Vec::new() };
        let mut len = HEAD;
        for (at, (old, new)) in base.chunks_exact(8).zip(bytes.chunks_exact(8)).enumerate() {
            if old == new {
                continue;
            }
            match patch.runs.last_mut() {
                // A word between two runs costs what another run would.
                Some(run) if at - (run.at + run.bytes.len() / 8) <= 1 => {
                    let from = (run.at * 8) + run.bytes.len();
                    run.bytes.extend_from_slice(&bytes[from..(at + 1) * 8]);
                    len += (at + 1) * 8 - from;
                }
                _ => {
                    patch.runs.push(Run { at, bytes: new.to_vec() });
                    len += RUN_HEAD + 8;
                }
            }
            if len > PATCH_MAX {
                return None;
            }
        }
        Some(patch)
    }

    /// Whether nothing differs.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The page as it reads, of its active copy.
    pub(crate) fn apply(&self, base: &[u8]) -> Box<[u8]> {
        let mut bytes: Box<[u8]> = base.into();
        for run in &self.runs {
            bytes[run.at * 8..][..run.bytes.len()].copy_from_slice(&run.bytes);
        }
        bytes
    }

    fn encode(&self, id: u64, out: &mut Vec<u8>) {
        out.extend(id.to_le_bytes());
        out.extend(self.checksum.to_le_bytes());
        out.extend((self.runs.len() as u32).to_le_bytes());
        for run in &self.runs {
            out.extend((run.at as u32).to_le_bytes());
            out.extend((run.bytes.len() as u32 / 8).to_le_bytes());
            out.extend(&run.bytes);
        }
    }
}

/// The patches of these pages, by ascending ids, as a root holds them.
pub(crate) fn encode<'p>(patches: impl Iterator<Item = (u64, &'p Patch)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    patches.for_each(|(id, patch)| patch.encode(id, &mut bytes));
    bytes
}

/// The patches of a root, of pages of so many bytes. Never panics, whatever the bytes are.
pub(crate) fn decode(mut bytes: &[u8], page_size: usize) -> Result<BTreeMap<u64, Patch>, &'static str> {
    if page_size > PATCHED_PAGE_MAX && !bytes.is_empty() {
        return Err("patches of pages that are too long for them");
    }
    let mut patches = BTreeMap::new();
    while !bytes.is_empty() {
        let id = u64::from_le_bytes(take(&mut bytes)?);
        let checksum = u32::from_le_bytes(take(&mut bytes)?);
        let mut patch = Patch { checksum, runs: Vec::new() };
        let mut end = 0;
        for _ in 0..u32::from_le_bytes(take(&mut bytes)?) {
            let at = u32::from_le_bytes(take(&mut bytes)?) as usize;
            let words = u32::from_le_bytes(take(&mut bytes)?) as usize;
            if at < end || words == 0 || at + words > page_size / 8 {
                return Err("a patch whose runs are not in the page one behind the other");
            }
            end = at + words;
            let run = bytes.split_off(..words * 8).ok_or(SHORT)?;
            patch.runs.push(Run { at, bytes: run.to_vec() });
        }
        if patches.last_key_value().is_some_and(|(last, _)| *last >= id) {
            return Err("patches out of order");
        }
        patches.insert(id, patch);
    }
    Ok(patches)
}

const SHORT: &str = "a patch that ends too early";

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let taken = bytes.split_off(..N).ok_or(SHORT)?;
    Ok(taken.try_into().expect("so many were taken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_makes_the_page_of_its_base_and_survives_encoding() {
        let base = [7; 1024];
        let places: [&[usize]; 6] = [&[], &[0], &[0, 23, 40], &[1016, 1023], &[8, 24, 40, 56], &[100, 900]];
        let mut patches = BTreeMap::new();
        for (id, places) in (3..).step_by(5).zip(places) {
            let mut bytes = base;
            places.iter().for_each(|at| bytes[*at] = 9);
            let patch = Patch::between(&base, &bytes, id as u32).expect("short");
            assert_eq!((&*patch.apply(&base), patch.is_empty()), (&bytes[..], places.is_empty()));
            patches.insert(id, patch);
        }
        let encoded = encode(patches.iter().map(|(id, patch)| (*id, patch)));
        assert_eq!(encoded.len() % 8, 0);
        assert_eq!(decode(&encoded, 1024), Ok(patches.clone()));
        decode(&encoded, 512).expect_err("a run past the end of the page");
        decode(&encoded, 128 << 10).expect_err("pages that have no patches");
        for len in (8..encoded.len()).step_by(8) {
            if let Ok(fewer) = decode(&encoded[..len], 1024) {
                assert!(fewer.iter().all(|(id, patch)| patches.get(id) == Some(patch)));
            }
        }
        let twice = [&encoded[..], &encoded[..]].concat();
        assert_eq!(decode(&twice, 1024), Err("patches out of order"));
    }

    #[test]
    fn what_differs_much_has_no_patch() {
        let base = vec![0; 4096];
        let mut bytes = base.clone();
        bytes[..900].fill(1);
        Patch::between(&base, &bytes, 0).expect("one run");
        bytes[900..1000].fill(1);
        assert_eq!(Patch::between(&base, &bytes, 0), None);
    }
}
