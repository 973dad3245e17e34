//! A range of entries is removed: the intent, one group, then the entries, in as many groups as they need.
//!
//! Invariant: once the intent is logged, all of the range goes, whatever crash comes between; and nothing that was put behind the
//! removal goes with it. Each group writes down how far it has come, and the next opening finishes the rest before anybody can put
//! anything. A call that fails takes its intent back, so that nothing is removed behind its caller's back; if it cannot even do that,
//! the handle takes no more writes. An opening that cannot look for intents makes those void that it did not see, in the superblock, before
//! it gives out a handle: whoever puts something then does not lose it to an opening that can.
//!
//! ```text
//!   key                                     value
//!   02 │ tree id │ number │ 0               the end: 0 none, or 1 and the first key that stays
//!   02 │ tree id │ number │ 1               how far: 0 all, or 1, then the length (16) of the first key that is still to go, the key, zeros
//!                                           (as long all the time, so that it is written in place)
//!
//!   [ both ] [ entries of a leaf, how far ] [ entries of a leaf, how far ] ... [ both gone ]
//! ```
//!
//! An opening has no thread beside it that makes room in the log, so it makes checkpoints between the groups: a removal may need more
//! log than there is. Where an intent is to be taken back and the log, or the disk under it, is full, the log is emptied first.
//!
//! A range within one leaf is one group and needs no intent.

use std::cell::Cell;

use pagestone_btree::{BTree, BatchChange, BatchOp, RemovalRecord, TreeError, TreeResult, apply_batch};
use pagestone_mini_txn::LoggedPool;
use pagestone_page_format::{Lsn, PageError};
use pagestone_sync::atomic::Ordering;
use pagestone_wal::WalError;

use super::Catalog;
use super::entry::{Entry, REMOVAL_PREFIX, bad};
use crate::{StoreError, StoreResult};

/// Bytes of a removal's keys: prefix, tree id, number, part.
const KEY_LEN: usize = 1 + 4 + 8 + 1;
const THE_END: u8 = 0;
const HOW_FAR: u8 = 1;

/// The keys of one removal.
#[derive(Clone, Copy)]
struct Keys {
    tree: u32,
    number: u64,
}

impl Keys {
    fn of(self, part: u8) -> [u8; KEY_LEN] {
        let mut key = [REMOVAL_PREFIX; KEY_LEN];
        key[1..5].copy_from_slice(&self.tree.to_be_bytes());
        key[5..13].copy_from_slice(&self.number.to_be_bytes());
        key[13] = part;
        key
    }

    fn parse(key: &[u8]) -> StoreResult<(Self, u8)> {
        let Ok([REMOVAL_PREFIX, t0, t1, t2, t3, number @ .., part]) = <[u8; KEY_LEN]>::try_from(key) else {
            return Err(bad("bytes of the key of a removal", KEY_LEN as u64, key.len() as u64));
        };
        if part > HOW_FAR {
            return Err(bad("part of a removal, at most", HOW_FAR.into(), part.into()));
        }
        Ok((Self { tree: u32::from_be_bytes([t0, t1, t2, t3]), number: u64::from_be_bytes(number) }, part))
    }
}

/// The longest bound: the longest key, and the least byte behind it.
fn bound_max(tree: &BTree) -> usize {
    tree.max_key_len() + 1
}

fn encode_end(to: Option<&[u8]>) -> Vec<u8> {
    match to {
        None => vec![0],
        Some(to) => [&[1], to].concat(),
    }
}

fn decode_end(value: &[u8]) -> StoreResult<Option<Vec<u8>>> {
    match value {
        [0] => Ok(None),
        [1, to @ ..] => Ok(Some(to.to_vec())),
        _ => Err(bad("end of a removal, at most", 1, value.first().copied().unwrap_or(0).into())),
    }
}

/// `max` bytes and three.
fn encode_how_far(from: Option<&[u8]>, max: usize) -> Vec<u8> {
    let mut value = vec![0; 3 + max];
    if let Some(from) = from {
        value[0] = 1;
        value[1..3].copy_from_slice(&(from.len() as u16).to_le_bytes());
        value[3..3 + from.len()].copy_from_slice(from);
    }
    value
}

/// Where the rest begins; none if there is no rest.
fn decode_how_far(value: &[u8]) -> StoreResult<Option<Vec<u8>>> {
    match value {
        [0, ..] => Ok(None),
        [1, l0, l1, key @ ..] => {
            let len = usize::from(u16::from_le_bytes([*l0, *l1]));
            let key = key
                .get(..len)
                .ok_or_else(|| bad("bytes of a removal's next key, at most", key.len() as u64, len as u64))?;
            Ok(Some(key.to_vec()))
        }
        _ => Err(bad("state of a removal, at most", 1, value.first().copied().unwrap_or(0).into())),
    }
}

/// Whether an entry is what some version of this code wrote.
pub(super) fn check(key: &[u8], value: &[u8]) -> StoreResult<()> {
    match Keys::parse(key)? {
        (_, THE_END) => decode_end(value).map(drop),
        (..) => decode_how_far(value).map(drop),
    }
}

/// A bound that is no longer than the longest key and one byte, with the same keys on either side.
fn shortened(mut bound: Vec<u8>, max_key_len: usize) -> Vec<u8> {
    if bound.len() > max_key_len + 1 {
        bound.truncate(max_key_len);
        bound.push(0);
    }
    bound
}

/// Number of the first removal of a generation of the log; there is room for 2^32 of them.
pub(crate) fn first_removal(generation: u64) -> u64 {
    generation.saturating_mul(1 << 32)
}

/// What [`Catalog::finish_removals`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Finished {
    pub(crate) removals: u64,
    /// The catalog could not be read or changed, so that intents may be left in it.
    pub(crate) some_left: bool,
}

/// How a removal gets room in the log.
pub(crate) struct Room<'a> {
    /// Called before each group, with nothing held: does something where the log is filling up and nobody else does.
    pub(crate) ease: &'a dyn Fn() -> StoreResult<()>,
    /// Called when the log, or the disk for another segment of it, is full: gives back all of the log that can be.
    pub(crate) empty: &'a dyn Fn() -> StoreResult<()>,
}

/// Whether there was no room in the log or on the disk: that says nothing about a tree.
fn is_no_room(error: &StoreError) -> bool {
    match error {
        StoreError::Page(PageError::NoSpace { .. })
        | StoreError::Wal(WalError::NoSpace { .. } | WalError::LogFull { .. }) => true,
        StoreError::Page(PageError::Io { source, .. }) => source
            .get_ref()
            .is_some_and(|inner| matches!(inner.downcast_ref(), Some(WalError::LogFull { .. }))),
        _ => false,
    }
}

impl Catalog {
    /// Removes the entries of a tree whose keys are not below `from` and below `to`; gives how many they were, and the LSN at which that
    /// is durable.
    pub(crate) fn remove_range(
        &self,
        env: &LoggedPool,
        room: &Room<'_>,
        tree: &BTree,
        from: Vec<u8>,
        to: Option<Vec<u8>>,
    ) -> StoreResult<(u64, Option<Lsn>)> {
        let from = shortened(from, tree.max_key_len());
        let to = to.map(|to| shortened(to, tree.max_key_len()));
        let number = self.next_removal.fetch_add(1, Ordering::Relaxed);
        let keys = Keys { tree: tree.tree_id(), number };
        let begun = Cell::new(false);
        let begin = || {
            let (end, how_far) = (encode_end(to.as_deref()), encode_how_far(Some(&from), bound_max(tree)));
            let put = |key, value| BatchOp { tree: &self.list, key, change: BatchChange::Put(value) };
            let (end_key, how_far_key) = (keys.of(THE_END), keys.of(HOW_FAR));
            let done = apply_batch(env, &[put(&end_key, &end), put(&how_far_key, &how_far)]);
            begun.set(done.is_ok()); // an error has put nothing
            done.map(drop)
        };
        let removed = self.go_on(room, tree, keys, &from, to.as_deref(), &begin);
        if !begun.get() {
            return removed;
        }
        match (removed, self.take_back(env, room, keys)) {
            (Ok((entries, _)), Ok(lsn)) => Ok((entries, lsn)),
            (Err(error), Ok(_)) => Err(error),
            (removed, Err(error)) => {
                // The next opening would remove what is put from now on.
                env.poison()
                    .poison(format_args!("the intent of a removal that has ended stays logged: {error}"));
                Err(removed.err().unwrap_or(error))
            }
        }
    }

    fn go_on(
        &self,
        room: &Room<'_>,
        tree: &BTree,
        keys: Keys,
        from: &[u8],
        to: Option<&[u8]>,
        begin: &dyn Fn() -> TreeResult<()>,
    ) -> StoreResult<(u64, Option<Lsn>)> {
        let max = bound_max(tree);
        let key = keys.of(HOW_FAR);
        let value = |next: Option<&[u8]>| encode_how_far(next, max);
        // What it says is no tree's error: kept here while it goes through the tree.
        let no_room = Cell::new(None);
        let make_room = || {
            (room.ease)().map_err(|error| {
                no_room.set(Some(error));
                TreeError::Page(PageError::Closed)
            })
        };
        let record =
            RemovalRecord { list: &self.list, key: &key, value: &value, begin, make_room: &make_room };
        let removed = tree.remove_range_with(from, to, Some(record));
        removed.map_err(|error| no_room.take().unwrap_or_else(|| error.into()))
    }

    /// Takes the intent out. Where there is no room in the log for that, room is made, once.
    fn take_back(&self, env: &LoggedPool, room: &Room<'_>, keys: Keys) -> StoreResult<Option<Lsn>> {
        let (end, how_far) = (keys.of(THE_END), keys.of(HOW_FAR));
        let remove = |key| BatchOp { tree: &self.list, key, change: BatchChange::Remove };
        let take_back = || StoreResult::Ok(apply_batch(env, &[remove(&end), remove(&how_far)])?.lsn);
        match take_back() {
            Err(error) if is_no_room(&error) => {
                (room.empty)()?;
                take_back()
            }
            done => done,
        }
    }

    /// Finishes the removals that a crash interrupted; for the opening, before anybody has a handle.
    ///
    /// Where the catalog cannot be read they stay, and are void from then on: the caller records that before it gives out a handle.
    /// Those with a number below `number_from` are void, and are taken back. So is one that fails for its tree's sake. Errors are about
    /// the handle, or say that there is no room in the log even once it was emptied: then the removal stays.
    pub(crate) fn finish_removals(
        &self,
        env: &LoggedPool,
        room: &Room<'_>,
        number_from: u64,
    ) -> StoreResult<Finished> {
        // What cannot be written to make room says nothing about tree or catalog.
        let failed = Cell::new(false);
        let noted = |done: StoreResult<()>| done.inspect_err(|_| failed.set(true));
        let room = Room { ease: &|| noted((room.ease)()), empty: &|| noted((room.empty)()) };
        let of_the_bytes = |error: StoreError| match failed.get() || is_no_room(&error) {
            true => Err(error),
            false => super::of_the_catalog(error).map(drop), // told to whoever reads there
        };
        let mut finished = Finished::default();
        let found = self.interrupted().or_else(|error| {
            finished.some_left = true;
            of_the_bytes(error).map(|()| Vec::new())
        })?;
        for (keys, from, to) in found {
            let finish = || {
                let from = from.filter(|_| keys.number >= number_from);
                if let (Some(tree), Some(from)) = (self.by_id(keys.tree)?, from) {
                    let done = self.finish_removal(&room, &tree, keys, from, to.as_deref());
                    finished.removals += u64::from(done.is_ok());
                    done.or_else(of_the_bytes)?;
                }
                self.take_back(env, &room, keys)
            };
            if let Err(error) = finish() {
                finished.some_left = true;
                of_the_bytes(error)?;
            }
        }
        Ok(finished)
    }

    /// Where the disk has no room for more of the log, one that is emptied again and again does as well.
    fn finish_removal(
        &self,
        room: &Room<'_>,
        tree: &BTree,
        keys: Keys,
        mut from: Vec<u8>,
        to: Option<&[u8]>,
    ) -> StoreResult<()> {
        loop {
            match self.go_on(room, tree, keys, &from, to, &|| Ok(())) {
                Ok(_) => return Ok(()),
                Err(error) if is_no_room(&error) => {
                    (room.empty)()?;
                    match self.list.get(&keys.of(HOW_FAR))?.map(|value| decode_how_far(&value)).transpose()? {
                        Some(Some(next)) if next > from => from = next,
                        _ => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The removals in the catalog: where the rest of each begins, if there is any, and where it ends.
    #[expect(clippy::type_complexity, reason = "used once, right above")]
    fn interrupted(&self) -> StoreResult<Vec<(Keys, Option<Vec<u8>>, Option<Vec<u8>>)>> {
        let mut found = Vec::new();
        let mut cursor = self.list.cursor();
        cursor.seek(&[REMOVAL_PREFIX])?;
        let mut ends: Option<(Keys, Option<Vec<u8>>)> = None;
        while let Some((key, value)) = cursor.next()? {
            match (Keys::parse(key)?, ends.take()) {
                ((keys, THE_END), None) => ends = Some((keys, decode_end(value)?)),
                ((keys, _), Some((first, to))) if first.of(HOW_FAR) == key => {
                    found.push((keys, decode_how_far(value)?, to));
                }
                ((keys, part), _) => return Err(bad("parts of one removal", keys.number, part.into())),
            }
        }
        match ends {
            None => Ok(found),
            Some((keys, _)) => Err(bad("parts of one removal", keys.number, 1)),
        }
    }

    /// The tree with this number, if it is one that is not being dropped.
    fn by_id(&self, id: u32) -> StoreResult<Option<BTree>> {
        if id == self.default.tree_id() {
            return Ok(Some(self.default.clone()));
        }
        let mut known = self.known.lock();
        let head = self.head(&mut known)?;
        let mut found: Option<Entry> = None;
        self.for_each(head, |_, entry| {
            if entry.tree == id && !entry.dropping {
                found = Some(entry);
            }
        })?;
        found.map(|entry| known.open.get(&self.list, entry)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_encoding_and_others_are_refused() {
        let keys = Keys { tree: 7, number: 1 << 40 };
        for part in [THE_END, HOW_FAR] {
            let (found, of) = Keys::parse(&keys.of(part)).expect("a key");
            assert_eq!((found.tree, found.number, of), (7, 1 << 40, part));
        }
        Keys::parse(&keys.of(2)).err().expect("no part");
        Keys::parse(&keys.of(0)[1..]).err().expect("no key");
        for to in [None, Some(&b""[..]), Some(b"key")] {
            assert_eq!(decode_end(&encode_end(to)).expect("an end").as_deref(), to);
            let value = encode_how_far(to, 9);
            assert_eq!((value.len(), decode_how_far(&value).expect("a key").as_deref()), (12, to));
        }
        for wrong in [&b""[..], b"\x02", b"\0\0"] {
            decode_end(wrong).expect_err("no end");
        }
        for wrong in [&b""[..], b"\x02", b"\x01", b"\x01\x04\0abc"] {
            decode_how_far(wrong).expect_err("no key");
        }
    }

    #[test]
    fn a_bound_that_is_too_long_for_a_key_divides_keys_as_it_did() {
        let bound = b"abcdef".to_vec();
        let short = shortened(bound.clone(), 3);
        assert_eq!(short, b"abc\0");
        for key in [&b"ab"[..], b"abb", b"abc", b"abd", b"b"] {
            assert_eq!(key < bound.as_slice(), key < short.as_slice(), "{key:?}");
        }
        assert_eq!(shortened(b"abcd".to_vec(), 3), b"abcd");
    }
}
