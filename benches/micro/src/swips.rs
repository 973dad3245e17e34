//! A resident page read through a swip, beside the same page read through a pointer; and what goes on beside hits.
//!
//! The pages are past the caches: who reads one by a swip waits for its frame's header too, and for both at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use pagestone_buffer_pool::{BufferPool, PageProvider, Restart};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, PAGE_HEADER_SIZE, Page, PageError, PageHeader, PageId, PageKind, PageResult, PageSize,
    PageStore, SpeculativePage,
};
use pagestone_swip::SwipWord;
use pagestone_threading::{Spawner, ThreadClass};

use crate::rounds::{Contender, Draws, contest, on_threads, rate};
use crate::{Args, BenchResult};

/// Pages that are read, all of them resident.
const PAGES: u64 = 16_384;
/// The word of a page that is read: its number.
const NUMBER: usize = PAGE_HEADER_SIZE / 8;
/// Pages that a pool takes from its store at a time, between two looks at the clock.
const STEP: u64 = 1024;

pub(crate) fn run(args: &Args) -> BenchResult<()> {
    let pool = BufferPool::new(Numbers { pages: PAGES }, PAGES as usize + 64);
    let mut swips = Vec::new();
    for id in (0..PAGES).map(PageId::new) {
        pool.fetch(id)?;
        swips.push(SwipWord::new(id)?.with_hint(pool.fault(id)?.frame()));
    }
    // Pointers to the same bytes: all frames lie in one piece of memory, and nobody moves a page here.
    let pointers: Vec<SpeculativePage<'_>> = swips
        .iter()
        .map(|swip| pool.resolve(*swip).map(|page| page.page()))
        .collect::<Result<_, _>>()
        .map_err(|restart| format!("{restart:?}"))?;
    let before = pool.stats();
    for threads in [1, 2] {
        reads(args, threads, &pool, &swips, &pointers)?;
    }
    let after = pool.stats();
    println!(
        "\nPages found by the table and not by the swip's hint: {}.",
        after.table_hits - before.table_hits
    );
    under_pressure(args)?;
    clean_evictions(args)
}

fn check(id: u64, found: u64) -> BenchResult<()> {
    if found == id { Ok(()) } else { Err(format!("page {id} holds the number {found}").into()) }
}

fn reads(
    args: &Args,
    threads: u64,
    pool: &BufferPool,
    swips: &[SwipWord],
    pointers: &[SpeculativePage<'_>],
) -> BenchResult<()> {
    let turn = args.turn();
    let pointer = on_threads(threads, turn, PAGES, |id| check(id, number_in(pointers[id as usize])?));
    let by_swip = on_threads(threads, turn, PAGES, |id| {
        loop {
            let page = pool.resolve(swips[id as usize]).map_err(|restart| format!("{restart:?}"))?;
            let number = number_in(page.page());
            if page.validate().is_ok() {
                return check(id, number?);
            }
        }
    });
    let by_id = on_threads(threads, turn, PAGES, |id| {
        loop {
            let page = pool.resolve_by_id(PageId::new(id)).map_err(|restart| format!("{restart:?}"))?;
            let number = number_in(page.page());
            if page.validate().is_ok() {
                return check(id, number?);
            }
        }
    });
    let mut contenders = [
        Contender::new("a pointer", pointer),
        Contender::new("`resolve` by swip, `validate`", by_swip).over(0, 0.0),
        Contender::new("`resolve_by_id`, `validate`", by_id).over(0, 0.0),
    ];
    let title = format!("A word of a resident page, {threads} threads");
    contest(&title, "reads/s", args.rounds, &mut contenders)
}

fn number_in(page: SpeculativePage<'_>) -> BenchResult<u64> {
    Ok(page.word(NUMBER).map_err(|_| "a page has a word behind its header")?)
}

/// One thread reads pages that it read before, while another one brings in pages as fast as it can, none of them twice in a while; that
/// one evicts for itself, or a page provider does for it.
fn under_pressure(args: &Args) -> BenchResult<()> {
    let (hot, frames) = (PAGES / 4, PAGES);
    let pool = Arc::new(BufferPool::new(Numbers { pages: 64 * PAGES }, frames as usize));
    let mut swips: Vec<SwipWord> =
        (0..hot).map(|id| SwipWord::new(PageId::new(id))).collect::<PageResult<_>>()?;
    let (mut draws, lost) = (Draws::new(7), AtomicU64::new(0));
    let mut hits = |pool: &BufferPool| {
        rate(args.turn(), STEP as f64, || {
            for _ in 0..STEP {
                let swip = &mut swips[draws.below(hot) as usize];
                let page = match pool.resolve(*swip) {
                    Ok(page) => page,
                    Err(Restart::Conflict) => continue,
                    Err(Restart::Fault(id)) => {
                        lost.fetch_add(1, Ordering::Relaxed);
                        pool.fault(id)?.optimistic()?
                    }
                };
                let number = number_in(page.page());
                if page.validate().is_ok() {
                    check(swip.page_id().get(), number?)?;
                    *swip = swip.with_hint(page.frame());
                }
            }
            Ok(())
        })
    };
    let hits = std::cell::RefCell::new(&mut hits);
    let next = AtomicU64::new(hot);
    // Pages brought in, and time: without a provider, with one.
    let brought = [(); 2].map(|()| (AtomicU64::new(0), AtomicU64::new(0)));
    let alone = || (hits.borrow_mut())(&pool);
    let beside = |provided: bool| {
        let provider = provided
            .then(|| PageProvider::start(&pool, &Spawner::unpinned(), ThreadClass::Worker))
            .transpose()?;
        let stop = AtomicBool::new(false);
        let (began, (pages, micros)) = (Instant::now(), &brought[usize::from(provided)]);
        let rate = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let id = hot + next.fetch_add(1, Ordering::Relaxed) % (63 * PAGES);
                    drop(pool.fetch(PageId::new(id))?);
                    pages.fetch_add(1, Ordering::Relaxed);
                }
                PageResult::Ok(())
            });
            let rate = (hits.borrow_mut())(&pool);
            stop.store(true, Ordering::Relaxed);
            other.join().map_err(|_| "a thread panicked")??;
            rate
        });
        micros.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        provider.map_or(Ok(()), PageProvider::stop)?;
        rate
    };
    let mut contenders = [
        Contender::new("alone", alone),
        Contender::new("beside a thread that brings pages in", || beside(false)).over(0, 0.0),
        Contender::new("the same, a page provider evicts for it", || beside(true)).over(0, 0.0),
    ];
    contest("Hits by swip, 1 thread, a quarter of the pool", "hits/s", args.rounds, &mut contenders)?;
    println!(
        "\nPages brought in beside them: {} K/s; with a provider {} K/s, which freed {} % of their frames; hits that had lost \
         their page: {}.",
        per_ms(&brought[0]),
        per_ms(&brought[1]),
        pool.stats().provided * 100 / brought[1].0.load(Ordering::Relaxed).max(1),
        lost.load(Ordering::Relaxed).saturating_sub(hot)
    );
    Ok(())
}

fn per_ms((pages, micros): &(AtomicU64, AtomicU64)) -> u64 {
    pages.load(Ordering::Relaxed) * 1000 / micros.load(Ordering::Relaxed).max(1)
}

/// A page brought in where a frame is free, and where a clean page has to leave for it.
fn clean_evictions(args: &Args) -> BenchResult<()> {
    let pages = 64 * PAGES;
    let store = Numbers { pages };
    let pool = BufferPool::new(Numbers { pages }, PAGES as usize);
    let mut next = 0;
    let mut bring = |pool: &BufferPool| {
        next = (next + 1) % pages;
        check(next, pool.fault(PageId::new(next))?.id().get())
    };
    let bring = std::cell::RefCell::new(&mut bring);
    let (mut page, mut id) = (store.allocate_page(PageId::new(0)), 0);
    let read = || {
        rate(args.turn(), STEP as f64, || {
            (0..STEP).try_for_each(|_| {
                id = (id + 1) % pages;
                store.read_into(PageId::new(id), &mut page)?;
                check(id, page.id().get())
            })
        })
    };
    let into_free = || {
        pool.drop_cache()?;
        let began = std::time::Instant::now();
        (0..PAGES / 2).try_for_each(|_| (bring.borrow_mut())(&pool))?;
        Ok((PAGES / 2) as f64 / began.elapsed().as_secs_f64())
    };
    let evicting = || {
        (0..PAGES).try_for_each(|_| (bring.borrow_mut())(&pool))?;
        rate(args.turn(), STEP as f64, || (0..STEP).try_for_each(|_| (bring.borrow_mut())(&pool)))
    };
    let mut contenders = [
        Contender::new("the store alone, which copies a page of memory", read),
        Contender::new("into free frames", into_free).over(0, 0.0),
        Contender::new("a clean page evicted for each", evicting).over(1, 0.0),
    ];
    contest("Pages brought in from memory", "pages/s", args.rounds, &mut contenders)
}

/// Pages that are not there until they are read: a header and a number. Reading one costs what copying it does.
#[derive(Debug)]
struct Numbers {
    pages: u64,
}

impl PageStore for Numbers {
    fn page_size(&self) -> PageSize {
        DEFAULT_PAGE_SIZE
    }

    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        page.bytes_mut().fill(0);
        PageHeader::new(PageKind::PLAIN, id).encode(page.bytes_mut());
        page.payload_mut()[..8].copy_from_slice(&id.get().to_le_bytes());
        Ok(())
    }

    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        Err(PageError::InvalidPageId { page_id: page.id() })
    }

    fn sync(&self) -> PageResult<()> {
        Ok(())
    }

    fn len(&self) -> PageResult<u64> {
        Ok(self.pages)
    }

    fn grow(&self, _: u64) -> PageResult<()> {
        Err(PageError::NoSpace { needed: 1 })
    }
}
