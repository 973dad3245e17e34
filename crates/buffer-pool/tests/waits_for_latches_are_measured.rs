//! Prevents: a pool that is slow because threads wait for one page, and figures that do not say so.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use pagestone_buffer_pool::{BufferPool, PageGuard};
use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, PageId};

#[test]
fn a_writer_that_waits_is_counted_at_the_line_of_its_call() {
    let pool = BufferPool::new(MemoryStore::new(DEFAULT_PAGE_SIZE), 8);
    let id = PageId::new(0);
    drop(pool.new_page(id).expect("a frame"));
    let figure = |name: &str| {
        let all = pool.metrics().iter().flat_map(|metric| metric.figures()).collect::<Vec<_>>();
        all.into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
    };
    let line = line!() + 1;
    let write = |page: &PageGuard<'_>| drop(page.write().expect("a latch"));
    write(&pool.fetch(id).expect("a page"));
    assert_eq!(figure("latch_exclusive_waits_total"), Some(0), "who finds a latch free does not wait");
    // Who came too late, on a busy machine, has not waited, and tries again.
    for turn in 0.. {
        let ((pinned, is_pinned), (latched, is_latched)) = (mpsc::channel(), mpsc::channel());
        let pool = &pool;
        thread::scope(|scope| {
            scope.spawn(move || {
                let page = pool.fetch(id).expect("a page");
                pinned.send(()).expect("the test waits");
                is_latched.recv().expect("sent");
                write(&page);
            });
            is_pinned.recv().expect("sent");
            let page = pool.fetch(id).expect("a page");
            let held = page.write().expect("a latch");
            latched.send(()).expect("the other waits");
            thread::sleep(Duration::from_millis(20));
            drop(held);
        });
        let waited = figure("latch_exclusive_waits_total").expect("there whatever happened");
        if waited > 0 {
            break;
        }
        if turn == 100 {
            let metrics = pool.metrics();
            assert!(metrics.iter().all(|metric| metric.figures().iter().all(|(_, value)| *value == 0)));
            println!("NOT TESTED: this build has no metrics");
            return;
        }
    }
    let site = format!("waits_for_latches_are_measured.rs:{line} exclusive}}");
    let sites = pool.metrics().iter().flat_map(|metric| metric.figures()).collect::<Vec<_>>();
    assert!(
        sites.iter().any(|(name, value)| {
            name.starts_with("latch_site_waits_total{") && name.ends_with(&site) && *value == 1
        }),
        "no {site} in {sites:?}"
    );
    assert!(figure("latch_wait_nanoseconds_total") > Some(0));
}
