//! Prevents: a thread that is said to be pinned and runs anywhere; pinning that changes who asked for it; silence where it cannot be.

use std::sync::mpsc;

use pagestone_threading::{CoreKind, Cpu, CpuSet, Spawner, ThreadClass, Topology, affinity};

/// The affinity that the system reports of a thread of this class, read on that thread.
fn reported(spawner: &Spawner, class: ThreadClass) -> CpuSet {
    let (send, receive) = mpsc::channel();
    let worker = spawner
        .spawn(
            class,
            "where-am-i",
            |message| panic!("{message}"),
            move || send.send(affinity().expect("Linux says")).expect("the test waits"),
        )
        .expect("a thread");
    worker.join().expect("no panic");
    receive.recv().expect("sent")
}

#[cfg(target_os = "linux")]
#[test]
fn the_system_reports_the_affinity_of_the_class() {
    let mine = affinity().expect("Linux says");
    let (first, rest) = {
        let mut all = mine.iter();
        (all.next().expect("this thread runs somewhere"), all.collect::<Vec<_>>())
    };
    let cpu = |number, kind| Cpu { number, core: number, package: 0, kind };
    let hybrid =
        [cpu(first, CoreKind::Fast)].into_iter().chain(rest.iter().map(|cpu_| cpu(*cpu_, CoreKind::Saving)));
    let spawner = Spawner::pinned(Topology::new(hybrid).expect("a processor"));
    if rest.is_empty() {
        println!("NOT TESTED: this process may use one processor only, so every class is the same one");
    } else {
        assert_eq!(reported(&spawner, ThreadClass::Performance), [first].into_iter().collect());
        assert_eq!(reported(&spawner, ThreadClass::Efficient), rest.into_iter().collect());
    }
    assert_eq!(reported(&spawner, ThreadClass::Worker), mine);
    assert_eq!(reported(&spawner, ThreadClass::Unpinned), mine);
    assert_eq!(reported(&Spawner::unpinned(), ThreadClass::Performance), mine);
    assert_eq!(affinity().expect("Linux says"), mine, "who starts a pinned thread was moved itself");
}

#[cfg(target_os = "linux")]
#[test]
fn the_kernel_says_the_same_in_its_own_words() {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("Linux has it");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("there");
    assert_eq!(affinity().expect("Linux says"), list.trim().parse().expect("a list"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_place_that_is_not_there_is_an_error_and_nothing_runs() {
    let nowhere = Cpu { number: 8191, core: 0, package: 0, kind: CoreKind::Fast };
    let spawner = Spawner::pinned(Topology::new([nowhere]).expect("a processor"));
    let refused = spawner
        .spawn(ThreadClass::Worker, "nowhere", |message| panic!("{message}"), || panic!("the body ran"))
        .expect_err("there is no such processor");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn without_a_topology_threads_run_and_the_reason_is_stated() {
    let spawner = Spawner::unpinned();
    assert_eq!(spawner.to_string(), "not pinned: nobody asked for it");
    let detected = Spawner::detected();
    match (detected.topology(), detected.reason()) {
        (Some(topology), None) => {
            assert!(detected.to_string().starts_with("pinned, performance: "), "{detected}");
            assert!(!topology.all().is_empty() && topology.cores() <= topology.all().len());
        }
        (None, Some(reason)) => println!("NOT TESTED: no topology here: {reason}"),
        both => panic!("a topology, or a reason why not: {both:?}"),
    }
    // Either way a thread runs.
    let (send, receive) = mpsc::channel();
    let worker = detected
        .spawn(
            ThreadClass::Efficient,
            "somewhere",
            |message| panic!("{message}"),
            move || send.send(7).expect("the test waits"),
        )
        .expect("a thread");
    worker.join().expect("no panic");
    assert_eq!(receive.recv(), Ok(7));
}
