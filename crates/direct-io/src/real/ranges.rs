//! Which bytes of a file are mapped, which are being written, and how the file is locked.
//!
//! Invariant: a map lives under a lock, one to write under a lock of its own, and that lock does not change while it lives. No byte is in two maps of which one is written, and none is in a map while this handle writes it or ends the file
//! before it. Slices of a map are sound only if nothing changes the bytes behind them.
//!
//! ```text
//!   map    ─┐                        ┌─ refused if it meets a map (but two readers) or a write under way
//!   write  ─┼─► one list, one lock ──┼─ refused if it meets a map
//!   cut    ─┘                        └─ refused if a map reaches past it; made under the lock
//! ```

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

use pagestone_sync::Mutex;

use crate::MapAccess;

/// The ranges of one handle, shared with its maps.
#[derive(Clone, Debug)]
pub(super) struct Ranges(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    next: u64,
    held: Held,
    used: Vec<Used>,
}

#[derive(Debug)]
struct Used {
    by: u64,
    range: Range<u64>,
    what: Use,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Map(MapAccess),
    Write,
}

/// The lock that a handle has on its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Held {
    #[default]
    Nothing,
    Shared,
    Alone,
}

/// Some ranges in use, until it is dropped.
#[derive(Debug)]
pub(super) struct InUse {
    of: Ranges,
    by: u64,
}

impl Ranges {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(List::default())))
    }

    /// A map comes. Whether the file is long enough is to be looked at after this and before the map is made: then it stays so.
    pub(super) fn map(&self, range: Range<u64>, access: MapAccess) -> io::Result<InUse> {
        self.enter([range], Use::Map(access))
    }

    /// Takes a lock, or another than there was. A system lets go of the old one first, and of it alone if the new one is not to be
    /// had: not while maps rely on it.
    pub(super) fn lock(&self, wanted: Held, take: impl FnOnce() -> io::Result<bool>) -> io::Result<bool> {
        let mut list = self.0.lock();
        if list.held != wanted && list.used.iter().any(|used| matches!(used.what, Use::Map(_))) {
            let message = "the file is mapped, and its lock stays as it is";
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        let taken = take();
        list.held = if matches!(taken, Ok(true)) { wanted } else { Held::Nothing };
        taken
    }

    /// Writes come, of these offsets and lengths.
    pub(super) fn write(&self, ranges: impl IntoIterator<Item = (u64, usize)>) -> io::Result<InUse> {
        let range = |(offset, len)| offset..u64::saturating_add(offset, len as u64);
        self.enter(ranges.into_iter().map(range), Use::Write)
    }

    /// Changes the length by `cut`, unless that takes bytes of a map away.
    pub(super) fn cut<T>(&self, len: u64, cut: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let list = self.0.lock();
        let is_map = |used: &&Used| matches!(used.what, Use::Map(_));
        if let Some(used) = list.used.iter().filter(is_map).find(|used| used.range.end > len) {
            return Err(refused(&used.range, "and the file cannot end before them"));
        }
        cut()
    }

    fn enter(&self, ranges: impl IntoIterator<Item = Range<u64>>, what: Use) -> io::Result<InUse> {
        let mut list = self.0.lock();
        let locked = match what {
            Use::Write => true,
            Use::Map(MapAccess::Read) => list.held != Held::Nothing,
            Use::Map(MapAccess::Write) => list.held == Held::Alone,
        };
        if !locked {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a file is mapped by who holds its lock"));
        }
        let by = list.next;
        list.next += 1;
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            let meets = |there: &&Used| there.range.start < range.end && range.start < there.range.end;
            let tolerates = |there: &Used| match (there.what, what) {
                (Use::Write, Use::Write) => true,
                (Use::Map(there), Use::Map(comes)) => (there, comes) == (MapAccess::Read, MapAccess::Read),
                _ => false,
            };
            if let Some(there) = list.used.iter().filter(meets).find(|there| !tolerates(there)) {
                let error = refused(&there.range, "and cannot be changed but through that map");
                list.used.retain(|used| used.by != by);
                return Err(error);
            }
            list.used.push(Used { by, range, what });
        }
        drop(list);
        Ok(InUse { of: self.clone(), by })
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.of.0.lock().used.retain(|used| used.by != self.by);
    }
}

fn refused(there: &Range<u64>, why: &str) -> io::Error {
    let message =
        format!("bytes {}..{} of the file are in use by a map or a write, {why}", there.start, there.end);
    io::Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked() -> Ranges {
        let ranges = Ranges::new();
        assert!(ranges.lock(Held::Alone, || Ok(true)).expect("free"));
        ranges
    }

    #[test]
    fn maps_need_a_lock_and_keep_it() {
        let ranges = Ranges::new();
        ranges.map(0..1, MapAccess::Read).expect_err("no lock");
        assert!(ranges.lock(Held::Shared, || Ok(true)).expect("free"));
        ranges.map(0..1, MapAccess::Write).expect_err("others may share it");
        let map = ranges.map(0..1, MapAccess::Read).expect("nobody writes");
        ranges.lock(Held::Alone, || panic!("changed all the same")).expect_err("mapped");
        assert!(ranges.lock(Held::Shared, || Ok(true)).expect("as it is"));
        drop(map);
        assert!(!ranges.lock(Held::Alone, || Ok(false)).expect("taken"));
        ranges.map(0..1, MapAccess::Read).expect_err("the old lock was let go of");
    }

    #[test]
    fn what_meets_is_refused_and_what_ends_makes_room() {
        let ranges = locked();
        let is_refused =
            |result: io::Result<InUse>| result.is_err_and(|error| error.kind() == ErrorKind::InvalidInput);
        let map = ranges.map(10..20, MapAccess::Write).expect("free");
        for (offset, len) in [(0, 11), (10, 10), (12, 1), (19, 100)] {
            assert!(is_refused(ranges.write([(30, 5), (offset, len)])), "{offset} {len}");
        }
        assert!(is_refused(ranges.map(19..21, MapAccess::Read)));
        let beside = ranges.write([(0, 10), (20, 10), (15, 0)]).expect("beside it, and nothing within it");
        assert!(is_refused(ranges.map(25..26, MapAccess::Read)), "a write is under way");
        assert!(ranges.write([(20, 10)]).is_ok(), "writes are not kept from one another");
        drop(beside);
        let next = ranges.map(20..30, MapAccess::Read).expect("the write is over");
        let again = ranges.map(25..35, MapAccess::Read).expect("two readers");
        drop((map, next));
        assert!(is_refused(ranges.write([(25, 1)])));
        drop(again);
        ranges.write([(0, 100)]).expect("no map is left");
        assert!(ranges.0.lock().used.is_empty());
    }

    #[test]
    fn a_file_is_not_cut_before_a_map() {
        let ranges = locked();
        let map = ranges.map(10..20, MapAccess::Read).expect("free");
        ranges.cut(19, || -> io::Result<()> { panic!("cut all the same") }).expect_err("a byte of the map");
        ranges.cut(20, || Ok(())).expect("behind it");
        drop(map);
        ranges.cut(0, || Ok(())).expect("no map is left");
    }
}
