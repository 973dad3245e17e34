//! Prevents: tests of crashes that cannot fail. Each bug is planted in a process of its own, which has to die of it; without one the same
//! histories end well. A step of `cargo xtask check`, with
//! `--cfg pagestone_faults` alone.
#![cfg(all(pagestone_faults, not(loom)))]

mod model;

use std::path::Path;
use std::process::Command;

use model::{Model, World};
use pagestone_direct_io::Disk;
use pagestone_mapped_pages::{DynPager, DynProtectedPageId, MappedOptions};
use pagestone_testkit::{CrashOptions, Keep, SimDisk};

const PATH: &str = "/pages";

/// Where each of them is planted says the same words.
const BUGS: [&str; 9] = [
    "a copy is not synced before the root that makes it count",
    "a root is written over the one that counts",
    "a root counts before it is durable",
    "a root is written before the blocks that it names are durable",
    "what a cut fold left behind is forgotten",
    "a root speaks of pages that the file may lose",
    "a page is freed twice and nobody is told",
    "a freed page keeps its patch",
    "an opening believes what only a cache holds",
];

#[test]
fn each_bug_ends_the_histories() {
    let this = std::env::current_exe().expect("it runs");
    for bug in BUGS {
        let mut command = Command::new(&this);
        command.args(["histories", "--exact", "--nocapture", &format!("plant={bug}")]);
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("running 1 test") && !output.status.success(), "{bug}: {said}");
        let why = String::from_utf8_lossy(&output.stderr);
        println!("{bug}: {}", why.lines().find(|line| line.contains("panicked")).unwrap_or("no panic"));
    }
}

#[test]
fn histories() {
    if let Some(bug) = std::env::args().find_map(|arg| arg.strip_prefix("plant=").map(str::to_owned)) {
        assert!(BUGS.contains(&&*bug), "no bug of these: {bug}");
        pagestone_sync::faults::plant(&bug);
    }
    steps_and_cuts();
    folds_and_cuts();
    cuts_of_what_only_the_cache_had();
}

fn found(disk: &SimDisk) -> (DynPager, Model) {
    let pager = MappedOptions::new().open_on(disk, Path::new(PATH)).expect("it opens");
    let model = Model::of(&pager).expect("whole");
    (pager, model)
}

fn few(disk: &SimDisk) -> CrashOptions {
    let few = CrashOptions { exhaustive_max: 64, random: 3, pairs_max: 4, ..CrashOptions::default() };
    CrashOptions { cuts: disk.journal_len()..usize::MAX, splits_max: 8, lengths_max: 3, ..few }
}

/// Each image is what was acknowledged last, or what was under way.
fn steps_and_cuts() {
    for (seed, log2) in [(0, 12), (1, 10)] {
        let disk = SimDisk::new(seed);
        let mut world = World::create(&disk, Path::new(PATH), log2, seed, 30);
        let options = few(&disk);
        let mut states = vec![world.model.durable()];
        for step in 0..60 {
            world.step().expect("a disk that works");
            states.push(world.model.durable());
            disk.note(step);
        }
        world.compare();
        drop(world);
        assert_eq!(disk.audit(), []);
        for image in disk.crash_states(&options) {
            let (_pager, model) = found(&image.disk());
            let last = image.acknowledged().len();
            assert!(model == states[last] || states.get(last + 1) == Some(&model), "{}", image.explain());
        }
    }
}

/// A cut fold, and a fold over what it left.
fn folds_and_cuts() {
    let disk = SimDisk::new(13);
    let mut world = World::create(&disk, Path::new(PATH), 12, 13, 500);
    world.alloc_protected(260).expect("a fold");
    let options = few(&disk);
    let ids: Vec<DynProtectedPageId> = world.pager().iter_allocated_protected_pages().collect();
    let before = world.model.durable();
    world.pager().free_protected_bulk(&ids[130..]).expect("a fold of two blocks of the directory");
    drop(world);
    for image in disk.crash_states(&options) {
        let crashed = image.disk();
        let (mut pager, model) = found(&crashed);
        let count = model.protected.len();
        assert!(model == before || count == 130, "{count}\n{}", image.explain());
        let left: Vec<_> = pager.iter_allocated_protected_pages().filter(|id| id.0 < 125).collect();
        pager.free_protected_bulk(left).expect("a fold of one block of the directory");
        pager.alloc_protected_bulk(125).expect("the same entries");
        pager.alloc_protected_bulk(10).expect("some more");
        let expected = Model::of(&pager).expect("whole");
        drop(pager);
        assert_eq!(found(&crashed).1, expected, "{}", image.explain());
    }
}

/// A root that only a cache holds, as of a process that was killed while it wrote, is on the disk once it was believed.
fn cuts_of_what_only_the_cache_had() {
    let disk = SimDisk::new(3);
    let mut world = World::create(&disk, Path::new(PATH), 12, 3, 30);
    world.alloc(5).expect("alloc");
    drop(world);
    let older = disk.contents(PATH).expect("there");
    let mut pager = MappedOptions::new().open_on(&disk, Path::new(PATH)).expect("open");
    pager.alloc().expect("the last commit");
    drop(pager);
    let newer = disk.contents(PATH).expect("there");
    // The older file on the disk, the newer one's root in the cache.
    let killed = SimDisk::new(4);
    let how = pagestone_direct_io::OpenHow::create_new(pagestone_direct_io::DirectIo::Off);
    let file = killed.open(Path::new(PATH), &how).expect("an empty disk");
    pagestone_direct_io::write_all_at(&*file, &older, 0).expect("write");
    drop(file);
    killed.settle();
    let how = pagestone_direct_io::OpenHow::write(pagestone_direct_io::DirectIo::Off);
    let file = killed.open(Path::new(PATH), &how).expect("there");
    pagestone_direct_io::write_all_at(&*file, &newer[8192..16_384], 8192).expect("write");
    drop(file);
    let believed = found(&killed).1;
    assert_eq!(found(&killed.power_cut(Keep::Synced)).1, believed, "what an opening showed is lost");
}
