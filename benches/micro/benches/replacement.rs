//! How well the pool chooses what leaves: hit ratios of the production clock on three traces, beside LRU, CLOCK and OPT computed offline.
//!
//! No time is measured, and every run gives the same table. The pool has one frame for ten pages. Its claim: a scan costs what is hot at
//! most two points.
//!
//! ```sh
//! cargo bench -p pagestone-micro-benches --bench replacement
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pagestone_buffer_pool::BufferPool;
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, Page, PageHeader, PageId, PageKind, PageResult, PageSize, PageStore,
};

const PAGES: u64 = 20_000;
const FRAMES: usize = 2_000;
/// Zipfian accesses of a trace; the first tenth of them fills the cache and is not counted.
const ACCESSES: usize = 400_000;
const WARM_UP: usize = ACCESSES / 10;
/// After so many zipfian accesses somebody reads so many neighbours once.
const SCAN_EVERY: usize = 8_000;
const SCAN: u64 = 4_000;

/// Pages out of nothing.
#[derive(Debug)]
struct Endless;

impl PageStore for Endless {
    fn page_size(&self) -> PageSize {
        DEFAULT_PAGE_SIZE
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        PageHeader::new(PageKind::PLAIN, id).encode(page.bytes_mut());
        Ok(())
    }
    fn write_page(&self, _: &mut Page) -> PageResult<()> {
        Ok(())
    }
    fn sync(&self) -> PageResult<()> {
        Ok(())
    }
    fn len(&self) -> PageResult<u64> {
        Ok(u64::MAX >> 26)
    }
    fn grow(&self, _: u64) -> PageResult<()> {
        Ok(())
    }
}

/// A page, and whether its hit counts: a scan's does not.
type Access = (u64, bool);

/// Numbers that look random (splitmix64).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

/// Zipfian accesses with exponent 0.99, the popular pages all over the file.
fn zipfian() -> Vec<Access> {
    let mut sums = Vec::with_capacity(PAGES as usize);
    let mut sum = 0.0;
    for rank in 1..=PAGES {
        sum += (rank as f64).powf(-0.99);
        sums.push(sum);
    }
    let mut draws = Draws(1);
    let mut draw = |at| {
        let want = (draws.next() >> 11) as f64 / (1u64 << 53) as f64 * sum;
        let rank = sums.partition_point(|sum| *sum < want) as u64;
        (rank.wrapping_mul(7_919) % PAGES, at >= WARM_UP)
    };
    (0..ACCESSES).map(&mut draw).collect()
}

/// The same, with scans of other pages between.
fn polluted() -> Vec<Access> {
    let mut scan = PAGES;
    let mut trace = Vec::new();
    for chunk in zipfian().chunks(SCAN_EVERY) {
        trace.extend_from_slice(chunk);
        trace.extend((scan..scan + SCAN).map(|id| (id, false)));
        scan += SCAN;
    }
    trace
}

/// Round and round over a fifth more pages than there are frames.
fn looping() -> Vec<Access> {
    let pages = FRAMES as u64 * 6 / 5;
    (0..ACCESSES).map(|at| (at as u64 % pages, at >= WARM_UP)).collect()
}

/// Percent of the accesses that count which `hit`.
fn percent(trace: &[Access], mut hit: impl FnMut(usize, u64) -> bool) -> f64 {
    let (mut hits, mut all) = (0u64, 0u64);
    for (at, (id, counts)) in trace.iter().enumerate() {
        let hit = hit(at, *id);
        all += u64::from(*counts);
        hits += u64::from(*counts && hit);
    }
    100.0 * hits as f64 / all as f64
}

fn pool(trace: &[Access]) -> f64 {
    let pool = BufferPool::new(Endless, FRAMES);
    percent(trace, |_, id| {
        let hit = pool.is_resident(PageId::new(id));
        pool.fetch(PageId::new(id)).expect("no page is pinned");
        hit
    })
}

fn lru(trace: &[Access]) -> f64 {
    let (mut used, mut by_age) = (HashMap::new(), BTreeMap::new());
    percent(trace, |at, id| {
        let before = used.insert(id, at);
        if let Some(before) = before {
            by_age.remove(&before);
        }
        by_age.insert(at, id);
        if used.len() > FRAMES {
            let (_, oldest) = by_age.pop_first().expect("it is full");
            used.remove(&oldest);
        }
        before.is_some()
    })
}

fn clock(trace: &[Access]) -> f64 {
    let (mut place, mut frames, mut hand) = (HashMap::new(), Vec::<(u64, bool)>::new(), 0);
    percent(trace, |_, id| {
        if let Some(at) = place.get(&id) {
            let frame: &mut (u64, bool) = &mut frames[*at];
            frame.1 = true;
            return true;
        }
        if frames.len() < FRAMES {
            place.insert(id, frames.len());
            frames.push((id, true));
            return false;
        }
        while std::mem::take(&mut frames[hand].1) {
            hand = (hand + 1) % FRAMES;
        }
        place.remove(&frames[hand].0);
        place.insert(id, hand);
        frames[hand] = (id, true);
        hand = (hand + 1) % FRAMES;
        false
    })
}

/// Belady's: what is wanted last leaves, the new page itself too.
fn opt(trace: &[Access]) -> f64 {
    let (mut next, mut seen) = (vec![usize::MAX; trace.len()], HashMap::new());
    for (at, (id, _)) in trace.iter().enumerate().rev() {
        next[at] = seen.insert(*id, at).unwrap_or(usize::MAX - at);
    }
    let (mut wanted, mut by_want) = (HashMap::new(), BTreeSet::new());
    percent(trace, |at, id| {
        let before = wanted.insert(id, next[at]);
        if let Some(before) = before {
            by_want.remove(&(before, id));
        }
        by_want.insert((next[at], id));
        if wanted.len() > FRAMES {
            let (_, last) = by_want.pop_last().expect("it is full");
            wanted.remove(&last);
        }
        before.is_some()
    })
}

fn main() {
    println!("{PAGES} pages, {FRAMES} frames, {ACCESSES} accesses; percent that hit, scans not counted\n");
    println!("| trace | pool | LRU | CLOCK | OPT |\n|---|---:|---:|---:|---:|");
    let mut of_pool = Vec::new();
    for (name, trace) in [
        ("zipfian 0.99", zipfian()),
        ("zipfian 0.99, polluted by scans", polluted()),
        ("looping over 1.2 of the frames", looping()),
    ] {
        let ratios = [pool(&trace), lru(&trace), clock(&trace), opt(&trace)];
        println!("| {name} | {:.1} | {:.1} | {:.1} | {:.1} |", ratios[0], ratios[1], ratios[2], ratios[3]);
        of_pool.push(ratios[0]);
    }
    println!("\nScans cost the pool {:.1} points.", of_pool[0] - of_pool[1]);
}
