//! A latch taken each way by one thread, beside a bare load of the word that it protects.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, criterion_group, criterion_main};
use pagestone_hybrid_latch::HybridLatch;

fn latch(criterion: &mut Criterion) {
    let (latch, word) = (HybridLatch::new(), AtomicU64::new(7));
    let load = || black_box(&word).load(Ordering::Relaxed);
    let mut group = criterion.benchmark_group("latch");
    group.bench_function("no latch", |bencher| bencher.iter(load));
    group.bench_function("optimistic", |bencher| {
        bencher.iter(|| {
            let sample = latch.optimistic_or_restart().expect("nobody writes");
            let found = load();
            sample.validate().expect("nobody writes");
            found
        });
    });
    group.bench_function("shared", |bencher| {
        bencher.iter(|| {
            let _held = latch.lock_shared().expect("nobody panicked");
            load()
        });
    });
    group.bench_function("exclusive", |bencher| {
        bencher.iter(|| {
            let _held = latch.lock_exclusive().expect("nobody panicked");
            load()
        });
    });
    group.finish();
}

criterion_group!(benches, latch);
criterion_main!(benches);
