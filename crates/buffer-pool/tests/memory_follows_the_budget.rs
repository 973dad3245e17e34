//! Failure prevented: a budget that moves only in the statistics, one that loses pages or changes on its way, a lower one that the memory
//! of the process does not follow, or one that takes a frame from under a pin.
#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pagestone_buffer_pool::{BufferPool, PoolOptions};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, Page, PageHeader, PageId, PageKind, PageResult, PageSize, PageStore,
};

/// Every page is there, and costs no memory.
#[derive(Debug)]
struct Endless;

impl PageStore for Endless {
    fn page_size(&self) -> PageSize {
        DEFAULT_PAGE_SIZE
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        page.bytes_mut().fill(id.get() as u8 | 1);
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
        Ok(1 << 30)
    }
    fn grow(&self, _: u64) -> PageResult<()> {
        Ok(())
    }
}

fn pool_of(store: impl PageStore + 'static, frames: usize, frames_max: usize) -> BufferPool {
    let exhausted_wait = Duration::from_secs(60);
    let options = PoolOptions { frames_max, exhausted_wait, ..PoolOptions::new(frames) };
    BufferPool::with_options(Box::new(store), options).expect("a pool")
}

/// MiB of memory that the process holds now; none where the system does not say it as Linux does.
fn resident_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? >> 10)
}

fn fill(pool: &BufferPool, pages: u64) {
    for id in (0..pages).map(PageId::new) {
        let page = pool.fetch(id).expect("a page");
        assert_eq!(page.read().expect("a copy").payload()[0], id.get() as u8 | 1);
    }
}

/// All in one test: others in the process would change what it looks at.
#[test]
fn memory_of_the_process_goes_up_and_down_with_the_budget_under_load() {
    const SMALL: usize = 4096;
    const LARGE: usize = 32_768;
    let Some(before) = resident_mib() else {
        println!(
            "NOT TESTED: that memory follows the budget. This system has no /proc/self/status with VmRSS."
        );
        return;
    };
    let pool = Arc::new(pool_of(Endless, LARGE, 0));
    fill(&pool, LARGE as u64);
    let full = resident_mib().expect("as before") - before;
    assert!(full >= 128, "{full} MiB for 128 MiB of pages");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = |thread: u64| {
            let mut next = thread;
            while !stop.load(Ordering::Relaxed) {
                next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let id = PageId::new((next >> 40) % (2 * LARGE as u64));
                let page = pool.fetch(id).expect("a page");
                if next & 1 << 33 == 0 {
                    page.write().expect("a latch").payload_mut()[1] = 1;
                }
                assert_eq!(page.read().expect("a copy").payload()[0], id.get() as u8 | 1);
            }
        };
        let threads: Vec<_> = (0..2).map(|thread| scope.spawn(move || load(thread))).collect();
        let moved = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..2 {
                pool.set_capacity(SMALL).expect("pins are short");
                assert_eq!(pool.capacity(), SMALL);
                until(|| resident_mib().is_some_and(|now| now <= before + 16 + 16), "16 MiB of pages");
                assert!(pool.resident_len() <= SMALL);
                pool.set_capacity_bytes(LARGE * DEFAULT_PAGE_SIZE.get()).expect("it was reserved");
                until(|| resident_mib().is_some_and(|now| now >= before + 64), "raised again");
            }
        }));
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().expect("no page was lost"));
        moved.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    fill(&pool, LARGE as u64);
    let overhead = pool.overhead_bytes() as f64 / (LARGE * DEFAULT_PAGE_SIZE.get()) as f64;
    println!("overhead: {:.2} % of the pages", overhead * 100.0);
    assert!(overhead <= 0.03, "{overhead}");
}

/// Waits for what comes within seconds; a machine that is busy may take longer.
fn until(come: impl Fn() -> bool, what: &str) {
    let began = Instant::now();
    while !come() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: {:?} MiB", resident_mib());
        std::thread::sleep(Duration::from_millis(10));
    }
}
