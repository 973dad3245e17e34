//! Prevents: a byte of a long value that is not the one that was put, or was put for something else (R3, M1, M6); a value that
//! changes under its reader; space that is lost, or taken too early (L8).

mod support;

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pagestone_btree::TreeError;
use pagestone_page_format::PageError;
use pagestone_store::{Durability, Options, Store, StoreError};
use pagestone_testkit::{Rng, SimDisk};
use support::{DIR, small};

const PAGE: usize = 4096;
const PAYLOAD: usize = PAGE - 32;
const PAGES_AT: usize = 8192;

fn options() -> Options {
    Options {
        durability: Durability::Relaxed { interval: std::time::Duration::from_millis(10) },
        pool_bytes: 128 * PAGE,
        ..small()
    }
}

fn open(disk: &SimDisk) -> Store {
    Store::open_on(Arc::new(disk.clone()), Path::new(DIR), options()).expect("opens")
}

fn value(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Rng::new(seed);
    (0..len.div_ceil(8)).flat_map(|_| random.below(u64::MAX).to_le_bytes()).take(len).collect()
}

/// A reader that gives a few bytes at a time, and an error when it is over if it is to.
struct Slow<'a> {
    left: &'a [u8],
    fails: bool,
}

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left.is_empty() && self.fails {
            return Err(io::Error::other("planted"));
        }
        let some = 1000.min(out.len());
        self.left.read(&mut out[..some])
    }
}

fn value_pages(disk: &SimDisk) -> Vec<usize> {
    let data = disk.contents("/store/data").expect("a data file");
    let pages = data[PAGES_AT..].chunks(PAGE);
    let of_values = pages.enumerate().filter(|(_, page)| page[..4] == [b'P', b'G', 1, 4]);
    of_values.map(|(number, _)| PAGES_AT + number * PAGE).collect()
}

#[test]
fn every_length_at_a_border_comes_back_by_every_way() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let tree = store.default_tree();
    let inline = tree.max_inline_value(5);
    let mut lengths = vec![0, 1, inline - 1, inline, inline + 1];
    for pages in [1, 2, 16, 17, 255, 256, 257, 600] {
        lengths.extend([pages * PAYLOAD - 1, pages * PAYLOAD, pages * PAYLOAD + 1]);
    }
    for (number, len) in lengths.into_iter().enumerate() {
        let value = value(number as u64, len);
        for known in [true, false] {
            let len = known.then_some(value.len() as u64);
            // Of a known length no more is taken.
            let more: &[u8] = if known { b"and more" } else { b"" };
            let all = [&value[..], more].concat();
            tree.put_reader(b"piece", len, Slow { left: &all, fails: false }).expect("put");
            tree.put(b"whole", &value).expect("put");
            for key in [b"piece", b"whole"] {
                assert!(tree.get(key).expect("get").as_ref() == Some(&value), "{} bytes", value.len());
                let mut reader = tree.get_reader(key).expect("get").expect("it is there");
                assert_eq!(reader.len(), value.len() as u64);
                let mut read = Vec::new();
                reader.read_to_end(&mut read).expect("sound");
                assert!(read == value, "{} bytes", value.len());
            }
            let mut cursor = tree.cursor();
            assert!(cursor.next().expect("sound") == Some((b"piece", &value)));
            assert!(cursor.next_key().expect("sound") == Some(b"whole"));
            assert!(cursor.prev().expect("sound") == Some((b"whole", &value)));
            assert!(cursor.prev_key().expect("sound") == Some(b"piece"));
        }
        assert!(store.verify().expect("reads").is_sound());
    }
    tree.remove(b"piece").expect("remove");
    tree.remove(b"whole").expect("remove");
    let report = store.verify().expect("reads");
    assert!(report.is_sound());
    assert_eq!(report.value_pages, 0);
}

#[test]
fn seeking_reads_what_stands_there() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let tree = store.default_tree();
    let value = value(7, 1_500_000);
    tree.put(b"key", &value).expect("put");
    let mut reader = tree.get_reader(b"key").expect("get").expect("it is there");
    let mut random = Rng::new(8);
    for _ in 0..300 {
        let at = random.below(value.len() as u64 + 100);
        let to = match random.below(3) {
            0 => SeekFrom::Start(at),
            1 => SeekFrom::End(at as i64 - value.len() as i64),
            _ => SeekFrom::Current(at as i64 - reader.stream_position().expect("in memory") as i64),
        };
        assert_eq!(reader.seek(to).expect("not before the beginning"), at);
        let mut some = vec![0; random.below(10_000) as usize];
        let expected = value.get(at as usize..).unwrap_or_default();
        let len = some.len().min(expected.len());
        let mut read = 0;
        while read < len {
            read += reader.read(&mut some[read..len]).expect("sound");
        }
        assert!(some[..len] == expected[..len]);
    }
    assert_eq!(
        reader.seek(SeekFrom::Current(-i64::MAX)).expect_err("before").kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
fn flipped_byte_anywhere_is_told_before_its_page_is_given_out() {
    let disk = SimDisk::new(1);
    let value = value(1, 20 * PAYLOAD + 100);
    let store = open(&disk);
    let tree = store.default_tree();
    tree.put(b"long", &value).expect("put");
    tree.put(b"other", &value[1..]).expect("put");
    store.sync().expect("a healthy disk");
    let pages = value_pages(&disk);
    assert_eq!(pages.len(), 42);
    let data = disk.contents("/store/data").expect("a data file");
    for (number, page) in pages[..21].iter().enumerate() {
        for at in [0, 3, 8, 16, 24, 32, 1000, PAGE - 1] {
            let at = page + at;
            disk.overwrite("/store/data", at as u64, &[data[at] ^ 1]).expect("a file");
            assert!(matches!(
                tree.get(b"long"),
                Err(StoreError::Page(
                    PageError::ChecksumMismatch { .. }
                        | PageError::BadMagic { .. }
                        | PageError::MisdirectedPage { .. }
                ))
            ));
            let mut read = Vec::new();
            let mut reader = tree.get_reader(b"long").expect("the leaf is sound").expect("it is there");
            reader.read_to_end(&mut read).expect_err("a page is broken");
            assert!(read.len() == number * PAYLOAD && read == value[..read.len()], "page {number}");
            reader.read(&mut [0; 10]).expect_err("and still is");
            let mut cursor = tree.cursor();
            assert!(cursor.next().is_err() && matches!(cursor.next(), Err(TreeError::CursorFailed)));
            assert!(tree.get(b"other").expect("sound").expect("it is there") == value[1..]);
            disk.overwrite("/store/data", at as u64, &data[at..at + 1]).expect("a file");
        }
    }
    assert!(tree.get(b"long").expect("mended").expect("it is there") == value);
}

#[test]
fn page_of_another_place_or_of_an_older_value_is_told() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let tree = store.default_tree();
    let (old, new) = (value(1, 3 * PAYLOAD), value(2, 3 * PAYLOAD));
    tree.put(b"key", &old).expect("put");
    store.sync().expect("a healthy disk");
    let pages = value_pages(&disk);
    let data = disk.contents("/store/data").expect("a data file");
    let image = |page: usize| &data[page..page + PAGE];
    // A whole page, of the same value, at the wrong place.
    disk.overwrite("/store/data", pages[1] as u64, image(pages[0])).expect("a file");
    assert!(matches!(tree.get(b"key"), Err(StoreError::Page(PageError::MisdirectedPage { .. }))));
    tree.remove(b"key").expect("remove");
    store.checkpoint().expect("a healthy disk");
    store.checkpoint().expect("a healthy disk");
    tree.put(b"key", &new).expect("put");
    store.sync().expect("a healthy disk");
    assert_eq!(value_pages(&disk), pages, "it stands where the old one stood");
    assert!(tree.get(b"key").expect("sound") == Some(new));
    // The write of one page was lost: what stands there is whole and has the right id.
    disk.overwrite("/store/data", pages[2] as u64, image(pages[2])).expect("a file");
    let error = tree.get(b"key").expect_err("an old page");
    assert!(matches!(error, StoreError::Page(PageError::Malformed { .. })), "{error}");
}

#[test]
fn value_that_is_replaced_while_it_is_read_stays_as_it_was() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let tree = store.default_tree();
    let first = value(1, 700_000);
    tree.put(b"key", &first).expect("put");
    let mut reader = tree.get_reader(b"key").expect("get").expect("it is there");
    let mut cursor = tree.cursor();
    cursor.seek(b"").expect("sound");
    let mut head = vec![0; 1000];
    reader.read_exact(&mut head).expect("sound");
    for round in 2..12 {
        tree.put(b"key", &value(round, 700_000)).expect("put");
        store.checkpoint().expect("a healthy disk");
        store.checkpoint().expect("a healthy disk");
    }
    tree.remove(b"key").expect("remove");
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).expect("sound");
    assert!([head, rest].concat() == first);
    assert!(cursor.next().expect("sound") == Some((b"key", &first)), "as the cursor copied it");
    let grown = store.stats().expect("open").data_pages;
    drop((reader, cursor));
    for round in 0..12 {
        store.checkpoint().expect("a healthy disk");
        store.checkpoint().expect("a healthy disk");
        tree.put(b"key", &value(round, 700_000)).expect("put");
    }
    let after = store.stats().expect("open").data_pages;
    assert!(after <= grown, "what was held back is used again, or cut: {after} of {grown} pages");
    assert!(store.verify().expect("reads").is_sound());
}

#[test]
fn failed_source_changes_nothing_and_leaves_nothing() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let tree = store.default_tree();
    tree.put(b"key", &value(1, 5000)).expect("put");
    let long = value(2, 3_000_000);
    let mut pages = None;
    for round in 0..6 {
        let failed = tree.put_reader(b"key", None, Slow { left: &long, fails: true });
        assert!(matches!(failed, Err(StoreError::Tree(TreeError::Source { .. }))));
        let short = tree.put_reader(b"key", Some(long.len() as u64 + 1), &long[..]);
        assert!(matches!(short, Err(StoreError::Tree(TreeError::Source { source }))
            if source.kind() == io::ErrorKind::UnexpectedEof));
        let few = tree.put_reader(b"new", Some(10), &b"nine"[..]);
        assert!(matches!(few, Err(StoreError::Tree(TreeError::Source { .. }))));
        assert!(tree.get(b"key").expect("sound") == Some(value(1, 5000)), "round {round}");
        assert!(!tree.contains_key(b"new").expect("sound"));
        let report = store.verify().expect("reads");
        assert!(report.is_sound() && report.value_pages == 2);
        let now = store.stats().expect("open").data_pages;
        assert_eq!(*pages.get_or_insert(now), now, "round {round}");
    }
    let too_long = tree.put_reader(b"key", Some(tree.max_value_len() + 1), io::repeat(1));
    assert!(matches!(too_long, Err(StoreError::Tree(TreeError::ValueTooLong { .. }))));
    assert!(matches!(
        tree.put_reader(&[0; 600], None, &long[..]),
        Err(StoreError::Tree(TreeError::KeyTooLong { .. }))
    ));
}

#[test]
fn closed_store_ends_writing_and_reading() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let tree = store.default_tree();
    tree.put(b"key", &value(1, 3_000_000)).expect("put");
    let mut reader = tree.get_reader(b"key").expect("get").expect("it is there");
    reader.read_exact(&mut [0; 100]).expect("sound");
    store.close().expect("a healthy disk");
    assert!(matches!(tree.put_reader(b"key", None, io::repeat(1)), Err(StoreError::Closed)));
    assert!(matches!(tree.get_reader(b"key"), Err(StoreError::Closed)));
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
}

#[test]
fn half_deleted_and_put_again_needs_no_longer_file() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let tree = store.default_tree();
    let mut random = Rng::new(5);
    let entries: Vec<(Vec<u8>, Vec<u8>)> = (0..800u64)
        .map(|n| (format!("package-{n:05}").into_bytes(), value(n, 300 + random.below(14_000) as usize)))
        .collect();
    for (key, value) in &entries {
        tree.put(key, value).expect("put");
    }
    let before = store.verify().expect("reads").bytes;
    for round in 0..3 {
        for (key, _) in entries.iter().skip(round % 2).step_by(2) {
            assert!(tree.remove(key).expect("remove"));
        }
        for (key, value) in entries.iter().skip(round % 2).step_by(2) {
            tree.put(key, value).expect("put");
        }
        let after = store.verify().expect("reads");
        assert!(after.is_sound());
        assert!(after.bytes * 10 <= before * 11, "round {round}: {before} bytes became {}", after.bytes);
    }
    for (key, value) in &entries {
        assert!(tree.get(key).expect("sound").as_ref() == Some(value));
    }
}

/// Four threads over few keys: every value that is read is one that was put, whole.
#[test]
fn threads_read_whole_values_while_others_replace_them() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let done = AtomicBool::new(false);
    let whole = |value: &[u8]| {
        value.iter().all(|byte| *byte == value[0]) && value.len() >= 900 + usize::from(value[0]) * 50
    };
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let (tree, done) = (store.default_tree(), &done);
            scope.spawn(move || {
                let mut random = Rng::new(thread);
                while !done.load(Ordering::Relaxed) {
                    let key = [random.below(6) as u8];
                    let read = match random.below(3) {
                        0 => tree.get(&key).expect("sound"),
                        1 => tree.get_reader(&key).expect("sound").map(|mut reader| {
                            let mut value = Vec::new();
                            reader.read_to_end(&mut value).expect("sound");
                            value
                        }),
                        _ => tree.range(&key[..]..).next().map(|entry| entry.expect("sound").1),
                    };
                    assert!(read.is_none_or(|value| whole(&value)));
                }
            });
        }
        let writers: Vec<_> = (0..2u64)
            .map(|thread| {
                let (tree, store) = (store.default_tree(), store.clone());
                scope.spawn(move || {
                    let mut random = Rng::new(100 + thread);
                    for step in 0..600 {
                        let (key, byte) = ([random.below(6) as u8], random.below(250) as u8);
                        match random.below(8) {
                            0 => drop(tree.remove(&key).expect("remove")),
                            _ => {
                                let len = 900 + usize::from(byte) * 50 + random.below(2000) as usize;
                                tree.put(&key, &vec![byte; len]).expect("put");
                            }
                        }
                        if step % 50 == 0 {
                            store.checkpoint().expect("a healthy disk");
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            let ended = writer.join();
            done.store(true, Ordering::Relaxed);
            ended.expect("no panic");
        }
    });
    assert!(store.verify().expect("reads").is_sound());
}
