//! Prevents: a background thread that nobody can tell from the program's own in `top`, that is said to be pinned and is not, or that
//! is pinned without having been asked.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use pagestone_store::{Background, Durability, Options, Store};
use pagestone_threading::{CpuSet, ThreadClass, Topology, affinity};

/// The threads of this process that are named as ours are, with where the system says that they may run.
fn ours() -> BTreeMap<String, CpuSet> {
    let mut found = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").expect("Linux has it") {
        let task = task.expect("an entry").path();
        // A thread may end while it is looked at.
        let (Ok(name), Ok(status)) =
            (fs::read_to_string(task.join("comm")), fs::read_to_string(task.join("status")))
        else {
            continue;
        };
        if name.starts_with("pagestone-") {
            let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            let cpus = list.expect("Linux says").trim().parse().expect("a list");
            found.insert(name.trim_end().to_owned(), cpus);
        }
    }
    found
}

/// The threads that a store has as long as it is open.
const STEADY: [&str; 6] = [
    "pagestone-ckpt",
    "pagestone-flush",
    "pagestone-log",
    "pagestone-pack",
    "pagestone-pages",
    "pagestone-reads",
];

/// As [`ours`], once the steady ones have come so far as to name themselves.
fn started() -> BTreeMap<String, CpuSet> {
    let begun = Instant::now();
    loop {
        let threads = ours();
        if STEADY.iter().all(|name| threads.contains_key(*name)) {
            return threads;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "a thread has no name of ours: {threads:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// One test, because the threads of a process are looked at as one.
#[test]
fn threads_have_names_and_run_where_the_store_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = |background| {
        let durability = Durability::Relaxed { interval: Duration::from_millis(5) };
        let (pool_bytes, page_provider) = (1 << 20, true);
        let options = Options { durability, background, pool_bytes, page_provider, ..Options::default() };
        Store::open(dir.path().join("store"), options).expect("a store")
    };
    let mine = affinity().expect("Linux says");

    let store = open(Background::Threads);
    let threads = started();
    assert!(threads.values().all(|cpus| *cpus == mine), "pinned unasked: {threads:?}");
    assert_eq!(store.thread_placement(), "not pinned: nobody asked for it");
    store.close().expect("closed");
    drop(store);
    let left = ours();
    assert!(STEADY.iter().all(|name| !left.contains_key(*name)), "threads outlive their store: {left:?}");

    let store = open(Background::PinnedThreads);
    let threads = started();
    match Topology::detect() {
        Ok(topology) => {
            assert!(store.thread_placement().starts_with("pinned, "), "{}", store.thread_placement());
            for (name, class) in [
                ("pagestone-flush", ThreadClass::Performance),
                ("pagestone-ckpt", ThreadClass::Efficient),
                ("pagestone-log", ThreadClass::Efficient),
                ("pagestone-pack", ThreadClass::Efficient),
                ("pagestone-pages", ThreadClass::Worker),
                ("pagestone-reads", ThreadClass::Worker),
            ] {
                assert_eq!(threads.get(name), topology.cpus(class).as_ref(), "{name}");
            }
            if !topology.is_hybrid() {
                println!("NOT TESTED: cores of two kinds in one store; all cores of this machine are alike");
            }
        }
        Err(reason) => {
            println!("NOT TESTED: pinned threads of a store: {reason}");
            assert_eq!(store.thread_placement(), format!("not pinned: {reason}"));
        }
    }
    store.close().expect("closed");
    drop(store);

    let store = open(Background::Manual);
    assert!(STEADY.iter().all(|name| !ours().contains_key(*name)), "a store without threads has some");
    store.close().expect("closed");
    drop(store);
}
