//! Failure prevented: a background thread that panics and leaves a store which goes on as if it still ran: writers who wait for ever, or
//! a log that nobody frees (E8, R5).

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pagestone_store::{Background, Durability, Options, Store, StoreError};
use pagestone_testkit::{DiskOp, FaultPlan, SimDisk};

fn options() -> Options {
    Options {
        pool_bytes: 128 * 4096,
        durability: Durability::RELAXED,
        background: Background::Threads,
        page_provider: true,
        ..support::small()
    }
}

/// The error and what it came of, in words.
fn words(error: &StoreError) -> String {
    let sources = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Every write to the log, or to anything but the log, panics in the thread of this name, once it is told so; others go on.
fn panicking(disk: &SimDisk, name: &'static str, log: bool) -> Arc<AtomicBool> {
    let armed = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&armed);
    let in_its_thread = move |path: &Path| {
        let on_log = path.starts_with(Path::new(support::DIR).join("log"));
        let ours = on_log == log && std::thread::current().name() == Some(name);
        assert!(!ours || !switch.load(Ordering::SeqCst), "planted in {name}");
        false
    };
    disk.fail(FaultPlan::errno(5).on(DiskOp::Write).path(in_its_thread).forever());
    armed
}

/// `first` is what the handle dies of: whoever leads a batch of the log lets go of it before its thread ends.
fn dies_of(name: &'static str, log: bool, first: [&str; 2]) {
    let disk = SimDisk::new(3);
    let store = Store::open_on(Arc::new(disk.clone()), Path::new(support::DIR), options()).expect("a store");
    let armed = panicking(&disk, name, log);
    armed.store(true, Ordering::SeqCst);
    let began = Instant::now();
    // Several, so that some wait for others, and for the log.
    let told: Vec<StoreError> = std::thread::scope(|scope| {
        let writer = |thread: u64| {
            let tree = store.default_tree();
            for key in (thread..).step_by(4) {
                assert!(began.elapsed() < Duration::from_secs(120), "nobody was told of {name}");
                let put = tree.put(&(key * 7919 % 50_000).to_be_bytes(), &[thread as u8; 300]);
                if let Err(error) = put {
                    return error;
                }
            }
            unreachable!("keys do not end");
        };
        let writers: Vec<_> = (0..4).map(|thread| scope.spawn(move || writer(thread))).collect();
        writers.into_iter().map(|writer| writer.join().expect("an error is no panic")).collect()
    });
    for error in told.iter().chain(&store.sync().err()) {
        let words = words(error);
        assert!(first.iter().all(|part| words.contains(part)), "{words}");
    }
    assert!(store.default_tree().put(b"key", b"value").is_err(), "it is for good");
    assert!(store.close().is_err(), "nothing more is written");
    drop(store);
    // What was durable is there.
    armed.store(false, Ordering::SeqCst);
    let store = Store::open_on(Arc::new(disk), Path::new(support::DIR), options()).expect("it is recovered");
    assert!(store.verify().expect("looked at").is_sound());
    store.close().expect("closed");
}

#[test]
fn of_the_checkpointer() {
    dies_of("pagestone-ckpt", false, ["pagestone-ckpt", "planted"]);
}

#[test]
fn of_the_flush_of_relaxed_writes() {
    dies_of("pagestone-flush", true, ["the leader of a batch of the log", "gave up"]);
}

#[test]
fn of_the_maker_of_segments() {
    dies_of("pagestone-log", true, ["pagestone-log", "planted"]);
}

#[test]
fn of_the_page_provider() {
    dies_of("pagestone-pages", false, ["pagestone-pages", "planted"]);
}
