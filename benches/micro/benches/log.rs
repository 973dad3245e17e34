//! Groups of 100 bytes appended to the log by 1 and 2 threads without waiting for the disk: room, encoding, copy.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pagestone_direct_io::RealDisk;
use pagestone_page_format::{Lsn, Poison, StoreUuid};
use pagestone_wal::{GroupBuilder, Recovery, Wal, WalOptions, WalStart};

/// Groups between two flushes, which are not timed: less than a buffer of the log holds.
const ROUND: u64 = 20_000;

fn log(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let uuid = StoreUuid::new([3; 16]);
    let options = WalOptions { log_bytes: 256 << 20, ..WalOptions::default() };
    let path = dir.path().join("log");
    std::fs::create_dir(&path).expect("a directory");
    Wal::create(Arc::new(RealDisk), path.clone(), &options, uuid).expect("create");
    let start = WalStart {
        uuid,
        generation: 0,
        checkpoint: Lsn::ZERO,
        keep_from: Lsn::ZERO,
        newest_copy_lost: false,
        poison: Poison::new(),
    };
    let recovery = Recovery::open(Arc::new(RealDisk), path, &options, start).expect("open");
    let wal = recovery.start(1).expect("start");

    let mut group = criterion.benchmark_group("append of 100 bytes");
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::new("threads", threads), |bencher| {
            bencher.iter_custom(|iterations| {
                let (mut left, mut took) = (iterations, Duration::ZERO);
                while left > 0 {
                    let round = left.min(ROUND);
                    took += append(&wal, threads, round);
                    left -= round;
                    wal.flush().expect("flush");
                    wal.recycle_below(wal.durable_lsn()).expect("recycle");
                }
                took
            });
        });
    }
    group.finish();
}

/// How long it takes that many threads to append so many groups together.
fn append(wal: &Wal, threads: u64, groups: u64) -> Duration {
    let begin = Barrier::new(threads as usize);
    let one = |thread: u64| {
        let mut group = GroupBuilder::new();
        let share = groups / threads + u64::from(thread < groups % threads);
        begin.wait();
        let begun = Instant::now();
        for number in 0..share {
            let mut payload = [thread as u8; 100];
            payload[..8].copy_from_slice(&number.to_le_bytes());
            group.clear();
            group.push_logical(0x4000, &payload);
            let space = wal.reserve(group.encoded_len()).expect("room");
            wal.append(space, &mut group);
        }
        begun.elapsed()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || one(thread))).collect();
        let mine = one(0);
        others.into_iter().map(|other| other.join().expect("no thread panics")).fold(mine, Duration::max)
    })
}

criterion_group!(benches, log);
criterion_main!(benches);
