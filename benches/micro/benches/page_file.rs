//! Pages of a file read and written, in the directory for temporary files. What it means beside raw loops is told by `micro`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pagestone_direct_io::PageFileOptions;
use pagestone_page_format::{DEFAULT_PAGE_SIZE, Page, PageId, PageStore};

/// Pages of the file, and of a batch of writes: 1 MiB.
const PAGES: u64 = 256;
const BATCH: usize = 32;

fn page_file(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = PageFileOptions::new().open(dir.path().join("pages")).expect("a page file");
    let mut pages: Vec<Page> = (0..PAGES).map(|id| file.allocate_page(PageId::new(id))).collect();
    file.write_many(&mut pages).expect("write");

    let mut group =
        criterion.benchmark_group(if file.is_direct() { "page file" } else { "buffered page file" });
    let mut next = 0;
    // A step that has no divisor in common with the number of pages: every page comes up.
    let mut visit = move || {
        next = (next + 101) % PAGES;
        PageId::new(next)
    };
    group.throughput(Throughput::Elements(1));
    let mut page = file.allocate_page(PageId::new(0));
    group.bench_function("read_into", |bencher| {
        bencher.iter(|| {
            let id = visit();
            file.read_into(id, &mut page).expect("read");
            assert_eq!(page.id(), id);
        });
    });
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("read_many of 32", |bencher| {
        bencher.iter(|| {
            let ids: [PageId; BATCH] = std::array::from_fn(|_| visit());
            let results = file.read_many(&ids, &mut pages[..BATCH]);
            assert!(results.iter().all(Result::is_ok) && pages[BATCH - 1].id() == ids[BATCH - 1]);
        });
    });
    pages.iter_mut().zip(0..).for_each(|(page, id)| page.set_id(PageId::new(id)));
    group.throughput(Throughput::Bytes(PAGES * DEFAULT_PAGE_SIZE.get() as u64));
    group.bench_function("write_many of 256", |bencher| {
        bencher.iter(|| file.write_many(&mut pages).expect("write"));
    });
    group.finish();
}

criterion_group!(benches, page_file);
criterion_main!(benches);
