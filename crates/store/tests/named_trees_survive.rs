//! Prevents: a tree that a power cut halves, a name that comes back or goes with it, a page that nobody has any more after a cut in
//! the middle of a creation, a rename or a drop (R1, R2, C1 to C9, C11).

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pagestone_store::{Background, Options, Store, StoreError, StoreResult};
use pagestone_testkit::{CrashImage, CrashOptions, DiskOp, FaultPlan, Keep, Rng, SimDisk};
use support::{State, open, small, space};

type Trees = BTreeMap<Vec<u8>, State>;

#[derive(Debug, Clone)]
enum Step {
    Create(Vec<u8>),
    Rename(Vec<u8>, Vec<u8>),
    Drop(Vec<u8>),
    Put(Vec<u8>, Vec<u8>, Vec<u8>),
    Checkpoint,
}

impl Step {
    fn run(&self, store: &Store) -> StoreResult<()> {
        match self {
            Self::Create(name) => store.tree(name).map(drop),
            Self::Rename(old, new) => store.rename_tree(old, new),
            Self::Drop(name) => store.drop_tree(name),
            Self::Put(name, key, value) => store.tree(name)?.put(key, value).map(drop),
            Self::Checkpoint => store.checkpoint(),
        }
    }

    fn apply(&self, trees: &mut Trees) {
        match self {
            Self::Create(name) => drop(trees.insert(name.clone(), State::new())),
            Self::Rename(old, new) => {
                let state = trees.remove(old).expect("the script renames what is there");
                trees.insert(new.clone(), state);
            }
            Self::Drop(name) => drop(trees.remove(name).expect("the script drops what is there")),
            Self::Put(name, key, value) => {
                trees.get_mut(name).expect("the script creates first").insert(key.clone(), value.clone());
            }
            Self::Checkpoint => {}
        }
    }
}

/// Trees that come, grow, take another name and go, among so many that the catalog has several leaves.
fn script(seed: u64, steps: usize) -> Vec<Step> {
    let mut random = Rng::new(seed);
    let mut trees = Trees::new();
    let mut all: Vec<Step> = Vec::new();
    let name = |number: u64| format!("{number:0>170}").into_bytes();
    while all.len() < steps {
        let any = |random: &mut Rng, trees: &Trees| {
            trees.keys().nth(random.below(trees.len().max(1) as u64) as usize).cloned()
        };
        let fresh = name(random.below(1 << 30));
        let step = match (random.below(20), any(&mut random, &trees)) {
            (_, None) | (0..6, _) => Step::Create(fresh),
            (6..10, Some(old)) => Step::Rename(old, fresh),
            (10..13, Some(name)) => Step::Drop(name),
            (13, _) => Step::Checkpoint,
            (_, Some(name)) => {
                // Enough for several leaves: 6 values of 900 bytes.
                for number in 0..6 {
                    let step = Step::Put(name.clone(), vec![number; 3], vec![number; 900]);
                    step.apply(&mut trees);
                    all.push(step);
                }
                continue;
            }
        };
        step.apply(&mut trees);
        all.push(step);
    }
    all
}

fn states(script: &[Step]) -> Vec<Trees> {
    let mut trees = Trees::new();
    let mut all = vec![trees.clone()];
    for step in script {
        step.apply(&mut trees);
        all.push(trees.clone());
    }
    all
}

fn run(disk: &SimDisk, script: &[Step]) {
    let store = open(disk).expect("a healthy disk");
    for (number, step) in script.iter().enumerate() {
        step.run(&store).expect("a healthy disk");
        disk.note(number as u64 + 1);
    }
}

fn contents(store: &Store) -> StoreResult<Trees> {
    let mut trees = Trees::new();
    for info in store.trees()? {
        let state = store.tree(&info.name)?.range::<&[u8]>(..).collect::<Result<State, _>>()?;
        trees.insert(info.name, state);
    }
    Ok(trees)
}

/// What is there; then what was being dropped is finished, and every page is in one tree or free.
fn recovered(disk: &SimDisk, explain: impl Fn() -> String) -> Trees {
    let store = open(disk).unwrap_or_else(|error| panic!("{error}: {}", explain()));
    let found = contents(&store).unwrap_or_else(|error| panic!("{error}: {}", explain()));
    let report = store.verify().expect("verified");
    assert!(report.is_sound(), "before the rest of a drop: {:#?} {}", report.findings, explain());
    store.tick().unwrap_or_else(|error| panic!("{error}: {}", explain()));
    assert!(contents(&store).expect("reads") == found, "the rest of a drop changes no other tree");
    assert_eq!(store.stats().expect("stats").unfinished_drops, Some(0));
    let report = store.verify().expect("verified");
    assert!(report.is_sound(), "{:#?} {}", report.findings, explain());
    let trees = store.trees().expect("trees");
    assert_eq!(report.trees, trees.len() as u64 + 1);
    store.close().expect("closes");
    space::check(disk, &trees);
    found
}

fn acknowledged(image: &CrashImage) -> usize {
    image.acknowledged().last().map_or(0, |last| *last as usize)
}

fn whole_pages() -> CrashOptions {
    CrashOptions::default().page_atomic(|path| path.to_string_lossy().starts_with("/store/data"))
}

#[test]
fn create_rename_and_drop_survive_every_cut() {
    let script = script(1, 160);
    let disk = SimDisk::new(1);
    run(&disk, &script);
    assert_eq!(disk.audit(), [], "the disk saw a broken rule");
    let states = states(&script);
    let kinds = |wanted: fn(&Step) -> bool| script.iter().filter(|step| wanted(step)).count();
    assert!(
        kinds(|step| matches!(step, Step::Rename(..))) > 5
            && kinds(|step| matches!(step, Step::Drop(..))) > 5
    );
    let options =
        CrashOptions { exhaustive_max: 16, pairs_max: 2, splits_max: 2, random: 2, ..whole_pages() };
    let mut images = disk.crash_states(&options);
    for image in &mut images {
        let acknowledged = acknowledged(&image);
        let found = recovered(&image.disk(), || image.explain());
        let legal = &states[acknowledged..states.len().min(acknowledged + 2)];
        assert!(legal.contains(&found), "after {acknowledged} steps: {}", image.explain());
    }
    assert!(images.stats().images > 500, "only {} images", images.stats().images);
}

/// What is in the log is cut at the end of a block: so every step is tried at every place in a block, roughly.
#[test]
fn create_rename_and_drop_survive_cuts_wherever_they_stand_in_the_log() {
    let (one, other) = (vec![b'a'; 199], vec![b'b'; 200]);
    let script = [Step::Create(one.clone()), Step::Rename(one, other.clone()), Step::Drop(other)];
    let states = states(&script);
    let few = CrashOptions { exhaustive_max: 4, pairs_max: 0, splits_max: 0, random: 0, ..whole_pages() };
    let mut images = 0;
    for lead in (0..4096usize).step_by(97) {
        let disk = SimDisk::new(1);
        let store = open(&disk).expect("opens");
        for part in 0..5usize {
            let value = vec![0; lead.saturating_sub(900 * part).min(900)];
            store.default_tree().put(&[part as u8], &value).expect("put");
        }
        disk.settle();
        for (number, step) in script.iter().enumerate() {
            step.run(&store).expect("a healthy disk");
            disk.note(number as u64 + 1);
        }
        for image in disk.crash_states(&few) {
            let acknowledged = acknowledged(&image);
            let found = recovered(&image.disk(), || format!("behind {lead} bytes: {}", image.explain()));
            let legal = &states[acknowledged..states.len().min(acknowledged + 2)];
            assert!(legal.contains(&found), "behind {lead} bytes: {}", image.explain());
            images += 1;
        }
    }
    assert!(images > 200, "{images} images");
}

/// A drop of many groups, each of which can be the last that a power cut leaves.
fn dropping(disk: &SimDisk) -> (Trees, Trees) {
    let store = open(disk).expect("opens");
    let (gone, kept) = (store.tree("gone").expect("tree"), store.tree("kept").expect("tree"));
    for number in 0..60u32 {
        let key = format!("{:0>480}", number.wrapping_mul(2_654_435_761));
        gone.put(key.as_bytes(), &[1; 400]).expect("put");
    }
    kept.put(b"key", b"value").expect("put");
    let before = contents(&store).expect("reads");
    store.checkpoint().expect("checkpoint");
    disk.settle();
    disk.note(1);
    store.drop_tree("gone").expect("dropped");
    let after = contents(&store).expect("reads");
    // Make each group durable at a time of its own: evicting pages syncs the log.
    for number in 0..200u32 {
        store.default_tree().put(&number.to_be_bytes(), &[0; 100]).expect("put");
    }
    (before, after)
}

/// C11, R6: the rest of a drop, cut at every point of it and taken up again.
#[test]
fn interrupted_drop_is_finished_after_any_number_of_cuts() {
    let disk = SimDisk::new(1);
    let (before, after) = dropping(&disk);
    let few = CrashOptions { exhaustive_max: 2, pairs_max: 0, splits_max: 0, random: 1, ..whole_pages() };
    let (mut halves, mut second) = (0, 0);
    for image in disk.crash_states(&few) {
        let crashed = image.disk();
        let store = open(&crashed).expect("opens");
        let found = contents(&store).expect("reads");
        assert!(found == before || found == after, "{}", image.explain());
        store.tick().expect("finishes");
        drop(store);
        let again = crashed.crash_states(&few).step_by(if halves < 2 { 3 } else { 120 });
        for again in again {
            let explain = || format!("{} after {}", again.explain(), image.explain());
            assert!(recovered(&again.disk(), explain) == found, "{}", explain());
            second += 1;
        }
        halves += 1;
    }
    assert!(halves > 20 && second > 100, "{halves} halves, {second} images of what followed");
}

/// A store whose `gone` is being dropped, for about half of its pages; with the pages that it has.
fn half_dropped() -> SimDisk {
    let disk = SimDisk::new(1);
    let (before, after) = dropping(&disk);
    let few = CrashOptions { exhaustive_max: 2, pairs_max: 0, splits_max: 0, random: 0, ..whole_pages() };
    let half = disk.crash_states(&few).find(|image| {
        let store = open(&image.disk()).expect("opens");
        let found = contents(&store).expect("reads");
        assert!(found == before || found == after);
        let stats = || store.stats().expect("stats");
        let groups = stats().log.groups;
        store.tick().expect("finishes");
        found == after && stats().log.groups > groups + 2
    });
    half.expect("a cut within the drop").disk()
}

#[test]
fn interrupted_drop_is_finished_by_whoever_wants_the_name() {
    let half = half_dropped();
    for way in 0..4 {
        let disk = half.power_cut(Keep::Everything);
        let store = open(&disk).expect("opens");
        assert_eq!(store.trees().expect("trees").len(), 1, "the name is gone");
        match way {
            0 => assert!(store.tree("gone").expect("a new tree").is_empty().expect("reads")),
            1 => store.drop_tree("gone").expect("finishes"),
            2 => store.rename_tree("kept", "gone").expect("finishes, renames"),
            _ => assert!(matches!(store.rename_tree("gone", "x"), Err(StoreError::TreeNotFound { .. }))),
        }
        if way == 3 {
            store.tick().expect("finishes");
        }
        assert!(matches!(store.drop_tree("never"), Err(StoreError::TreeNotFound { .. })));
        let trees = store.trees().expect("trees");
        store.close().expect("closes");
        space::check(&disk, &trees);
    }
}

#[test]
fn interrupted_drop_is_finished_in_the_background() {
    let disk = half_dropped();
    let options = Options { background: Background::Threads, ..small() };
    let store = Store::open_on(Arc::new(disk.clone()), Path::new("/store"), options).expect("opens");
    while store.stats().expect("stats").unfinished_drops != Some(0) {
        std::thread::yield_now();
    }
    let trees = store.trees().expect("trees");
    store.close().expect("closes");
    space::check(&disk, &trees);
}

/// I6: a page of a dropped tree that cannot be read is that drop's trouble and nobody else's.
#[test]
fn drop_that_meets_an_unreadable_page_goes_on_when_it_can() {
    const EIO: i32 = 5;
    let disk = half_dropped();
    for background in [Background::Manual, Background::Threads] {
        let disk = disk.power_cut(Keep::Everything);
        drop(open(&disk).expect("recovers").close());
        let in_data = |path: &Path| path.ends_with("data");
        // Superblock copies, map and trees are read before; fail what comes when the drop is taken up.
        let options = Options { background, ..small() };
        let mut told = false;
        for skip in 0..40 {
            let disk = disk.power_cut(Keep::Everything);
            let plan = disk.fail(FaultPlan::errno(EIO).on(DiskOp::Read).path(in_data).skip(skip).forever());
            let Ok(store) = Store::open_on(Arc::new(disk.clone()), Path::new("/store"), options.clone())
            else {
                continue;
            };
            if background == Background::Manual {
                let _ = store.tick();
            }
            let stats = || store.stats();
            while background == Background::Threads
                && stats().is_ok_and(|stats| stats.failed_drops == 0 && stats.unfinished_drops != Some(0))
            {
                std::thread::yield_now();
            }
            disk.heal();
            told |= stats().expect("stats").failed_drops > 0 && disk.injected(plan) > 0;
            store.default_tree().put(b"still", b"alive").expect("the handle lives");
            assert!(store.tree("gone").expect("finished").is_empty().expect("a new tree"));
            let trees = store.trees().expect("trees");
            store.close().expect("closes");
            space::check(&disk, &trees);
        }
        assert!(told, "no drop failed");
    }
}

/// Every operation of the disk fails once, and then for good: no panic, no wrong tree; after reopening nothing is leaked.
#[test]
fn failing_operations_leave_each_tree_whole() {
    const EIO: i32 = 5;
    let script = script(2, 60);
    let states = states(&script);
    let mut injected = 0;
    for forever in [false, true] {
        for operation in 0.. {
            let disk = SimDisk::new(3);
            let store = open(&disk).expect("opens");
            let plan = FaultPlan::errno(EIO).skip(operation * 3);
            let plan = disk.fail(if forever { plan.forever() } else { plan });
            let mut done = 0;
            for step in &script {
                if step.run(&store).is_err() {
                    break;
                }
                done += 1;
            }
            drop(store);
            let failed = disk.injected(plan) > 0;
            disk.heal();
            let found = recovered(&disk, || format!("operation {operation}"));
            assert!(states[done..].iter().take(2).any(|state| *state == found), "operation {operation}");
            if !failed {
                break;
            }
            injected += 1;
        }
    }
    assert!(injected > 60, "{injected}");
}
