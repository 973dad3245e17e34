//! Prevents: a scan that misses a key, gives it twice, or lends bytes of a leaf that another cursor copied, where cursors are made in one
//! thread, used in a second and dropped in a third, and their memory goes from hand to hand beside splits, merges and failed reads.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pagestone_btree::{BTree, Cursor, TreeError};
use pagestone_page_format::{MemoryStore, Page, PageError, PageId, PageResult, PageSize, PageStore};
use pagestone_testkit::Rng;
use support::{environment_over, trees};

/// Even numbers are there all the time, odd ones come and go.
const NUMBERS: u64 = 1200;

/// Fails reads while it is told to.
#[derive(Debug)]
struct Failing {
    inner: MemoryStore,
    fails: Arc<AtomicBool>,
    calls: AtomicU64,
}

impl PageStore for Failing {
    fn page_size(&self) -> PageSize {
        self.inner.page_size()
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        if self.fails.load(Ordering::Relaxed) && self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(3)
        {
            return Err(PageError::io("read", std::io::Error::other("as asked for")));
        }
        self.inner.read_into(id, page)
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        self.inner.write_page(page)
    }
    fn sync(&self) -> PageResult<()> {
        self.inner.sync()
    }
    fn len(&self) -> PageResult<u64> {
        self.inner.len()
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        self.inner.grow(pages)
    }
}

/// Long common beginnings and none, short rests and keys at their limit.
fn key(number: u64, max: usize) -> Vec<u8> {
    let mut key = vec![b'a' + (number / 400) as u8; [0, 5, 90][(number / 400) as usize % 3] + 1];
    key.extend_from_slice(&(number as u32).to_be_bytes());
    match number % 23 {
        0 => key.resize(max, b'x'),
        rest => key.resize(key.len() + rest as usize * 2, b'y'),
    }
    key
}

/// Long ones among them, which stand elsewhere.
fn value(number: u64, max: usize) -> Vec<u8> {
    let len = match number % 97 {
        0 => 4 * max,
        part if part % 5 == 0 => max / 2,
        part => part as usize,
    };
    [&number.to_be_bytes()[..], &vec![number as u8; len]].concat()
}

/// A cursor, and where it stands: before the key of this number, and behind those below.
struct Scan {
    cursor: Cursor,
    before: u64,
}

impl Scan {
    fn new(tree: &BTree) -> Self {
        Self { cursor: tree.cursor(), before: 0 }
    }

    /// Perhaps seeks, then takes some steps; gives how many.
    fn go(&mut self, random: &mut Rng, max: usize) -> Result<u64, TreeError> {
        let (mut seen, steps) = (0, random.below(200));
        match random.below(6) {
            0 => {
                self.before = random.below(NUMBERS);
                self.cursor.seek(&key(self.before, max))?;
            }
            1 => {
                self.before = NUMBERS;
                self.cursor.seek_last()?;
            }
            _ => {}
        }
        let mut forward = random.below(2) == 0;
        for _ in 0..steps {
            let with_value = random.below(2) == 0;
            let row = match (forward, with_value) {
                (true, true) => self.cursor.next()?.map(|(key, value)| (key, Some(value))),
                (false, true) => self.cursor.prev()?.map(|(key, value)| (key, Some(value))),
                (true, false) => self.cursor.next_key()?.map(|key| (key, None)),
                (false, false) => self.cursor.prev_key()?.map(|key| (key, None)),
            };
            let found = row.map(|(found, found_value)| {
                let at = found.iter().take_while(|byte| (b'a'..b'e').contains(byte)).count();
                let number = u32::from_be_bytes(*found[at..].first_chunk().expect("a number")) as u64;
                assert!(found == key(number, max), "a key of two halves");
                assert!(
                    found_value.is_none_or(|there| there == value(number, max)),
                    "a value of another key"
                );
                number
            });
            match (forward, found) {
                (true, found) => {
                    let end = found.unwrap_or(NUMBERS);
                    assert!(end >= self.before, "{end} came again");
                    let missed = (self.before..end).find(|number| number % 2 == 0);
                    assert_eq!(missed, None, "between {} and {end}", self.before);
                    self.before = found.map_or(NUMBERS, |found| found + 1);
                }
                (false, found) => {
                    let first = found.map_or(0, |found| found + 1);
                    assert!(first <= self.before, "{found:?} came again");
                    let missed = (first..self.before).find(|number| number % 2 == 0);
                    assert_eq!(missed, None, "between {first} and {}", self.before);
                    self.before = found.unwrap_or(0);
                }
            }
            seen += 1;
            if found.is_none() || random.below(50) == 0 {
                forward = !forward;
            }
        }
        Ok(seen)
    }
}

fn scans(page: usize, frames: usize, changes: u64) {
    let fails = Arc::new(AtomicBool::new(false));
    let inner = MemoryStore::new(PageSize::new(page).expect("a page size"));
    let store = Failing { inner, fails: Arc::clone(&fails), calls: AtomicU64::new(0) };
    let env = environment_over(store, frames);
    let tree = trees(&env, 1).remove(0);
    let max = tree.max_key_len();
    for number in (0..NUMBERS).step_by(2) {
        tree.put(&key(number, max), &value(number, max)).expect("put");
    }
    let (done, shared) = (AtomicBool::new(false), Mutex::new(Vec::<Scan>::new()));
    let (seen, errors) = (AtomicU64::new(0), AtomicU64::new(0));
    let scan = |seed: u64| {
        let mut random = Rng::new(seed);
        while !done.load(Ordering::Relaxed) {
            let kept = shared.lock().expect("no panic").pop();
            let mut scan = kept.unwrap_or_else(|| Scan::new(&tree));
            match scan.go(&mut random, max) {
                Ok(rows) => drop(seen.fetch_add(rows, Ordering::Relaxed)),
                Err(_) => {
                    errors.fetch_add(1, Ordering::Relaxed);
                    assert!(matches!(scan.cursor.next(), Err(TreeError::CursorFailed)), "E11");
                    scan.before = random.below(NUMBERS);
                    if scan.cursor.seek(&key(scan.before, max)).is_err() {
                        continue;
                    }
                }
            }
            let mut shared = shared.lock().expect("no panic");
            let at = random.below(shared.len() as u64 + 1) as usize;
            shared.insert(at, scan);
            shared.truncate(9); // some end here
        }
    };
    std::thread::scope(|threads| {
        let readers: Vec<_> = (0..3).map(|seed| threads.spawn(move || scan(seed))).collect();
        let mut random = Rng::new(77);
        for _ in 0..changes {
            let number = random.below(NUMBERS / 2) * 2 + 1;
            match random.below(2) {
                0 => drop(tree.put(&key(number, max), &value(number, max)).expect("put")),
                _ => drop(tree.remove(&key(number, max)).expect("removed")),
            }
        }
        // Nobody writes while reads fail.
        let (before, mut rounds) = (errors.load(Ordering::Relaxed), 0);
        fails.store(true, Ordering::Relaxed);
        while errors.load(Ordering::Relaxed) < before + 30
            && !readers.iter().any(|reader| reader.is_finished())
            && rounds < 20_000
        {
            rounds += 1;
            env.pool().drop_cache().expect("written");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        fails.store(false, Ordering::Relaxed);
        let until = seen.load(Ordering::Relaxed) + 20_000;
        while seen.load(Ordering::Relaxed) < until && !readers.iter().any(|reader| reader.is_finished()) {
            std::thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(errors.load(Ordering::Relaxed) >= 30, "{errors:?}");
    let even = tree.range::<&[u8]>(..).filter(|row| {
        let (_, value) = row.as_ref().expect("a scan");
        value[7] % 2 == 0
    });
    assert_eq!(even.count() as u64, NUMBERS / 2);
}

#[test]
fn small_pages() {
    scans(4096, 80, 4000);
}

#[test]
fn pages_with_hints() {
    scans(16384, 80, 6000);
}

#[test]
fn large_pages() {
    scans(65536, 80, 8000);
}
