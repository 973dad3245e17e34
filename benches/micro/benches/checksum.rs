//! A page stamped and verified, by size and by checksum. What it means beside `memcpy` is told by `micro`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pagestone_page_format::{ChecksumKind, Page, PageChecksum, PageId, PageSize, StoreUuid};

fn checksum(criterion: &mut Criterion) {
    for kind in [ChecksumKind::Crc32c, ChecksumKind::Crc64Nvme] {
        let mut group = criterion.benchmark_group(format!("{kind:?}"));
        for size in [4096, 16_384, 65_536] {
            let checksum = PageChecksum::new(kind, StoreUuid::new([3; 16]));
            let id = PageId::new(7);
            let mut page = Page::new(PageSize::new(size).expect("a page size"), id);
            page.payload_mut().fill(0x5a);
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new("stamp", size), |bencher| {
                bencher.iter(|| checksum.stamp(black_box(page.bytes_mut())));
            });
            group.bench_function(BenchmarkId::new("verify", size), |bencher| {
                bencher.iter(|| checksum.verify(id, black_box(page.bytes())).expect("the page is whole"));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, checksum);
criterion_main!(benches);
