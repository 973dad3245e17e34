//! Prevents: a scan beyond memory that reads page by page; one that misses an entry, or gives one twice, because of what was read ahead of
//! it; damage that is told before the scan comes to it, or not at all, or that ends what lies in front of it.

mod support;

use std::path::Path;
use std::sync::Arc;

use pagestone_btree::{Cursor, TreeError};
use pagestone_page_format::PageError;
use pagestone_store::{Background, Options, Store, StoreError};
use pagestone_testkit::SimDisk;
use support::damaged::{DATA, Damaged, PAGE};
use support::{DIR, State, small};

const ROWS: u32 = 12_000;

/// Pages in the order of the file, as a load leaves them, or in the order in which leaves were split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    Loaded,
    Put,
}

fn rows() -> State {
    let key = |number: u32| format!("/srv/files/{:08x}", number.wrapping_mul(0x9e37_79b1)).into_bytes();
    (0..ROWS).map(|number| (key(number), vec![number as u8; 90])).collect()
}

fn options(background: Background) -> Options {
    Options { background, pool_bytes: 64 * PAGE, ..small() }
}

fn open(disk: &SimDisk, background: Background) -> Store {
    Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options(background)).expect("opens")
}

fn filled(how: Filled, rows: &State) -> SimDisk {
    let disk = SimDisk::new(11);
    let store = open(&disk, Background::Manual);
    match how {
        Filled::Loaded => drop(store.default_tree().bulk_load(rows).expect("loads")),
        Filled::Put => {
            for number in 0..ROWS {
                let (key, value) =
                    rows.iter().nth((number as usize * 7919) % rows.len()).expect("within the rows");
                store.default_tree().put(key, value).expect("put");
                if number % 512 == 0 {
                    store.checkpoint().expect("checkpoint");
                }
            }
        }
    }
    store.close().expect("closes");
    disk
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// What a cursor gives from where it stands, until the end or an error.
fn all(cursor: &mut Cursor, forward: bool) -> (Entries, Result<(), TreeError>) {
    let mut found = Vec::new();
    loop {
        let step = if forward { cursor.next() } else { cursor.prev() };
        match step {
            Ok(Some((key, value))) => found.push((key.to_vec(), value.to_vec())),
            Ok(None) => return (found, Ok(())),
            Err(error) => return (found, Err(error)),
        }
    }
}

fn in_order(rows: &State, forward: bool) -> Entries {
    let mut rows: Entries = rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    if !forward {
        rows.reverse();
    }
    rows
}

#[test]
fn a_scan_beyond_memory_gives_each_entry_once_and_finds_its_pages_read() {
    let rows = rows();
    for (how, background) in [
        (Filled::Loaded, Background::Manual),
        (Filled::Loaded, Background::Threads),
        (Filled::Put, Background::Manual),
        (Filled::Put, Background::Threads),
    ] {
        let disk = filled(how, &rows);
        for forward in [true, false] {
            let store = open(&disk, background);
            let tree = store.default_tree();
            let mut cursor = tree.cursor();
            if !forward {
                cursor.seek_last().expect("there");
            }
            let (found, end) = all(&mut cursor, forward);
            end.expect("no error");
            assert!(found == in_order(&rows, forward), "{how:?}, {background:?}, {forward}");
            let pool = store.stats().expect("stats").pool;
            if background == Background::Manual {
                // The first leaves are not asked for, nor are the nodes above; all others are there when the scan comes to them.
                assert!(pool.prefetch_hits * 10 > pool.misses * 8, "{how:?}, {forward}: {pool:?}");
            }
            assert!(
                pool.misses < pool.prefetches * 5 / 4 + 64,
                "{how:?}, {background:?}, {forward}: {pool:?}"
            );
            // Turned round in the middle, as often as one likes.
            let middle = rows.keys().nth(rows.len() / 2).expect("a key");
            cursor.seek(middle).expect("there");
            for (steps, forward) in [(400, true), (900, false), (700, true)] {
                for _ in 0..steps {
                    let step = if forward { cursor.next() } else { cursor.prev() };
                    assert!(step.expect("no error").is_some());
                }
            }
            let (key, _) = cursor.next().expect("no error").expect("an entry");
            assert_eq!(Some(key), rows.keys().nth(rows.len() / 2 + 200).map(Vec::as_slice));
            store.close().expect("closes");
        }
    }
}

/// Otherwise each scan of some rows in a store beyond memory pays for as many pages again, and pushes what others read out of the pool.
#[test]
fn a_short_scan_reads_little_that_it_does_not_come_to() {
    const SCANNED: usize = 100;
    let rows = rows();
    let disk = filled(Filled::Loaded, &rows);
    // As full leaves hold of them; the scan begins inside of one.
    let come_to = SCANNED.div_ceil(PAGE / 120) + 1;
    for forward in [true, false] {
        let options = Options { pool_bytes: 1024 * PAGE, ..options(Background::Manual) };
        let store = Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options).expect("opens");
        let tree = store.default_tree();
        let before = store.stats().expect("stats").pool.misses;
        let mut cursor = tree.cursor();
        cursor.seek(rows.keys().nth(rows.len() / 2).expect("a key")).expect("there");
        for _ in 0..SCANNED {
            let step = if forward { cursor.next() } else { cursor.prev() };
            assert!(step.expect("no error").is_some());
        }
        let read = store.stats().expect("stats").pool.misses - before;
        assert!(read <= come_to as u64 + 4, "{read} pages for {come_to} leaves, {forward}");
        store.close().expect("closes");
    }
}

#[test]
fn a_damaged_leaf_is_told_once_the_scan_is_there() {
    let rows = rows();
    let damaged = Damaged::copy_of(&filled(Filled::Loaded, &rows));
    // A leaf in the middle of the file is one in the middle of the scan.
    damaged.flip(2 * PAGE + (damaged.pages() / 3) as usize * PAGE + 1000);
    for background in [Background::Manual, Background::Threads] {
        let store = open(&damaged.disk, background);
        let tree = store.default_tree();
        let is_told =
            |error: &TreeError| matches!(error, TreeError::Page(PageError::ChecksumMismatch { .. }));
        let lost: Vec<&Vec<u8>> = rows
            .keys()
            .filter(|key| match tree.get(key) {
                Ok(value) => {
                    assert_eq!(value.as_ref(), rows.get(*key));
                    false
                }
                Err(StoreError::Page(PageError::ChecksumMismatch { .. })) => true,
                Err(error) => panic!("{error}"),
            })
            .collect();
        assert!((10..100).contains(&lost.len()), "one leaf of {DATA}: {}", lost.len());
        let before = rows.range::<Vec<u8>, _>(..lost[0]).count();
        let behind = rows.len() - before - lost.len();
        let mut cursor = tree.cursor();
        for (forward, count) in [(true, before), (false, behind)] {
            let place = |cursor: &mut Cursor| match forward {
                true => cursor.seek_first(),
                false => cursor.seek_last(),
            };
            place(&mut cursor).expect("there");
            let (found, end) = all(&mut cursor, forward);
            assert!(found == in_order(&rows, forward)[..count], "{} and not {count} entries", found.len());
            let error = end.expect_err("a damaged leaf");
            assert!(is_told(&error), "{error}");
            for _ in 0..3 {
                assert!(matches!(cursor.next(), Err(TreeError::CursorFailed)));
                assert!(matches!(cursor.prev_key(), Err(TreeError::CursorFailed)));
            }
        }
        // So does an iterator, from each end, and it never says that it has come to the end (E11).
        let mut range = tree.range::<&[u8]>(..);
        for (forward, count) in [(true, before), (false, behind)] {
            let mut step = || if forward { range.next() } else { range.next_back() };
            for _ in 0..count {
                step().expect("an entry").expect("no error");
            }
            for _ in 0..3 {
                assert!(step().is_some_and(|entry| entry.is_err()));
            }
        }
        // Past it all is well.
        let next = rows.keys().nth(before + lost.len()).expect("a key behind");
        cursor.seek(next).expect("there");
        let (found, end) = all(&mut cursor, true);
        end.expect("no error");
        assert!(found == in_order(&rows, true)[before + lost.len()..]);
        store.close().expect("closes");
    }
}
