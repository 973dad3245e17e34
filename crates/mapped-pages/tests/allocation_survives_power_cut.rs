//! Prevents: a page that is lost, or handed out while it is somebody's, or a protected page that is torn, after a power cut at any instant,
//! any mapped page having reached the disk or not (C1 to C4, C7, C10, C11); and a power cut that is taken for damage.

mod model;

use std::path::Path;

use model::{Model, World};
use pagestone_mapped_pages::{DynPager, DynProtectedPageId, MappedOptions, MappedPageError};
use pagestone_testkit::{AfterFailedSync, CrashOptions, FaultPlan, Keep, SimDisk};

const PATH: &str = "/pages";

fn open(disk: &SimDisk) -> Result<DynPager, MappedPageError> {
    MappedOptions::new().open_on(disk, Path::new(PATH))
}

/// Steps with a note behind each; what should be durable after each.
fn work(world: &mut World<'_>, disk: &SimDisk, steps: u64) -> Vec<Model> {
    let mut states = vec![world.model.durable()];
    for step in 0..steps {
        world.step().expect("a disk that works");
        states.push(world.model.durable());
        disk.note(step + 1);
    }
    states
}

fn found(disk: &SimDisk) -> Result<(DynPager, Model), String> {
    let pager = open(disk).map_err(|error| error.to_string())?;
    let model = Model::of(&pager)?;
    Ok((pager, model))
}

/// The cuts from here on, few of each kind: an image of a pager costs milliseconds. `cargo xtask soak` looks at more.
fn from_here(disk: &SimDisk) -> CrashOptions {
    let cuts = disk.journal_len()..usize::MAX;
    let few = CrashOptions { exhaustive_max: 128, random: 3, pairs_max: 12, ..CrashOptions::default() };
    CrashOptions { cuts, splits_max: 12, lengths_max: 3, ..few }
}

/// Every image is what was acknowledged last or what was under way; gives how many, and how many were the latter.
fn enumerate(disk: &SimDisk, options: &CrashOptions, states: &[Model]) -> (u64, u64) {
    let (mut images, mut later) = (0, 0);
    for image in disk.crash_states(options) {
        let crashed = image.disk();
        let (pager, model) = found(&crashed).unwrap_or_else(|wrong| panic!("{wrong}\n{}", image.explain()));
        let last = image.acknowledged().len();
        let is_next = states.get(last + 1) == Some(&model);
        assert!(model == states[last] || is_next, "{model:?}\n{:?}\n{}", states[last], image.explain());
        (images, later) = (images + 1, later + u64::from(model != states[last]));
        drop(pager);
        assert_eq!(crashed.audit(), []);
    }
    (images, later)
}

#[test]
fn every_power_cut_leaves_the_last_commit_or_the_one_under_way() {
    let (mut images, mut later) = (0, 0);
    for (seed, log2) in [(0, 12), (1, 10), (2, 13), (3, 11)] {
        let disk = SimDisk::new(seed);
        let mut world = World::create(&disk, Path::new(PATH), log2, seed, 30);
        let options = CrashOptions { seed, ..from_here(&disk) };
        let states = work(&mut world, &disk, 24);
        drop(world);
        assert_eq!(disk.audit(), []);
        let (more, of_them) = enumerate(&disk, &options, &states);
        (images, later) = (images + more, later + of_them);
    }
    assert!(images > 500 && later > 20, "{images} images, {later} with what nobody was told of");
}

/// So many words change that the blocks below the root are written: each step is a fold, or half of one.
#[test]
fn every_power_cut_in_a_fold_leaves_one_state_or_the_other() {
    let disk = SimDisk::new(7);
    let mut world = World::create(&disk, Path::new(PATH), 10, 7, 400);
    let options = CrashOptions { shard: (0, 2), pairs_max: 2, ..from_here(&disk) };
    let mut states = vec![world.model.durable()];
    for step in 0..6 {
        match step {
            0 | 4 => world.alloc_protected(130).expect("alloc"),
            2 => world.free_protected(300).expect("free"),
            _ => (0..4).for_each(|_| world.write_protected().expect("write")),
        }
        // The writes are commits of their own; only their end is noted.
        states.push(world.model.durable());
        if step % 2 == 0 {
            disk.note(step);
        }
    }
    let folds = world.pager().metrics().into_iter().find(|metric| metric.name.contains("folds"));
    assert!(format!("{folds:?}").contains("Counter(3)") || cfg!(not(feature = "metrics")), "{folds:?}");
    drop(world);
    let allocated: Vec<Vec<u64>> =
        states.iter().map(|state| state.protected.keys().copied().collect()).collect();
    let mut images = 0;
    for image in disk.crash_states(&options) {
        let (_, model) = found(&image.disk()).unwrap_or_else(|wrong| panic!("{wrong}\n{}", image.explain()));
        let keys: Vec<u64> = model.protected.into_keys().collect();
        let last = 2 * image.acknowledged().len();
        let possible = allocated[last.saturating_sub(1)..].iter().take(3).any(|state| *state == keys);
        assert!(possible, "{} keys\n{}", keys.len(), image.explain());
        images += 1;
    }
    assert!(images > 100, "{images}");
}

/// A crash, work, and a crash again: leftovers of the first must not count after the second (C11).
#[test]
fn what_a_cut_left_behind_is_never_believed_later() {
    let disk = SimDisk::new(9);
    let mut world = World::create(&disk, Path::new(PATH), 12, 9, 300);
    world.alloc_protected(100).expect("alloc");
    let options = CrashOptions { pairs_max: 2, ..from_here(&disk) };
    world.alloc_protected(100).expect("alloc"); // a fold
    world.alloc(100).expect("alloc");
    drop(world);
    let mut images = 0;
    for (number, image) in disk.crash_states(&options).enumerate() {
        let crashed = image.disk();
        let (pager, model) = found(&crashed).unwrap_or_else(|wrong| panic!("{wrong}\n{}", image.explain()));
        let rng = pagestone_testkit::Rng::new(number as u64);
        let mut world =
            World { disk: &crashed, path: Path::new(PATH), pager: Some(pager), model, rng, most: 500 };
        let few = CrashOptions { pairs_max: 2, ..from_here(&crashed) };
        world.free_protected(3).expect("free");
        world.alloc_protected(150).expect("a fold"); // over what the cut one left
        let states = [world.model.durable()];
        let again = crashed.power_cut(Keep::Synced);
        let (_, model) = found(&again).unwrap_or_else(|wrong| panic!("{wrong}\n{}", image.explain()));
        assert_eq!(model, states[0], "{}", image.explain());
        drop(world);
        if number % 40 == 0 {
            for second in crashed.crash_states(&few) {
                found(&second.disk()).unwrap_or_else(|wrong| panic!("{wrong}\n{}", second.explain()));
                images += 1;
            }
        }
        images += 1;
    }
    assert!(images > 100, "{images}");
}

/// Blocks that a cut fold wrote, and that the next fold does not write: of the directory as it was, and behind its end. Once the base has
/// passed their sequence nothing but memory of them keeps them from counting (M3).
#[test]
fn what_only_a_cut_fold_wrote_does_not_count_after_the_next_one() {
    for entries in [250, 260] {
        let disk = SimDisk::new(13);
        let mut world = World::create(&disk, Path::new(PATH), 12, 13, 500);
        world.alloc_protected(entries).expect("a fold");
        let options = CrashOptions { pairs_max: 2, ..from_here(&disk) };
        let ids: Vec<DynProtectedPageId> = world.pager().iter_allocated_protected_pages().collect();
        if entries == 250 {
            world.alloc_protected(130).expect("a fold that reaches into another block");
        } else {
            world.pager().free_protected_bulk(&ids[130..]).expect("a fold of two blocks of the directory");
        }
        drop(world);
        let mut images = 0;
        for image in disk.crash_states(&options) {
            let crashed = image.disk();
            let mut pager = open(&crashed).unwrap_or_else(|error| panic!("{error}\n{}", image.explain()));
            let left = pager.iter_allocated_protected_pages().filter(|id| id.0 < 125).collect::<Vec<_>>();
            pager.free_protected_bulk(left).expect("a fold of one block of the directory");
            pager.alloc_protected_bulk(125).expect("the same entries");
            pager.alloc_protected_bulk(10).expect("some more");
            let expected = Model::of(&pager).expect("whole");
            drop(pager);
            let (_, model) = found(&crashed).unwrap_or_else(|wrong| panic!("{wrong}\n{}", image.explain()));
            assert_eq!(model, expected, "{}", image.explain());
            images += 1;
        }
        assert!(images > 20, "{images}");
    }
}

/// A file has its name once it is whole, and a creation that was cut can be made again (C8, C9, C12).
#[test]
fn a_cut_creation_leaves_nothing_or_a_file() {
    let disk = SimDisk::new(3);
    drop(MappedOptions::new().create_on(&disk, Path::new(PATH), 12).expect("create"));
    disk.note(1);
    let (mut none, mut some) = (0, 0);
    for image in disk.crash_states(&CrashOptions::default()) {
        let crashed = image.disk();
        match open(&crashed) {
            Ok(pager) => {
                assert_eq!(pager.iter_allocated_pages().count(), 0);
                some += 1;
            }
            Err(MappedPageError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                assert!(image.acknowledged().is_empty(), "{}", image.explain());
                let mut pager = MappedOptions::new().create_on(&crashed, Path::new(PATH), 10).expect("again");
                pager.alloc().expect("alloc");
                none += 1;
            }
            Err(error) => panic!("{error}\n{}", image.explain()),
        }
    }
    assert!(none > 5 && some > 0, "{none} without, {some} with a file");
}

/// Garbage where the disk was writing (C6): found again, or told as damage where it may be damage; never another state.
#[test]
fn garbage_in_a_sector_that_was_being_written_is_never_believed() {
    let disk = SimDisk::new(5);
    let mut world = World::create(&disk, Path::new(PATH), 12, 4, 20);
    let options = CrashOptions { garbage: true, ..from_here(&disk) };
    let states = work(&mut world, &disk, 20);
    drop(world);
    let (mut images, mut refused) = (0, 0);
    for image in disk.crash_states(&options) {
        images += 1;
        let last = image.acknowledged().len();
        match found(&image.disk()) {
            Ok((_, model)) => {
                assert!(model == states[last] || states.get(last + 1) == Some(&model), "{}", image.explain());
            }
            Err(wrong) => {
                assert!(wrong.contains("corrupt metadata"), "{wrong}");
                assert_eq!(
                    image.kind(),
                    pagestone_testkit::ImageKind::Garbage,
                    "{wrong}\n{}",
                    image.explain()
                );
                let older = MappedOptions::new().accept_older(true).open_on(&image.disk(), Path::new(PATH));
                assert_eq!(Model::of(&older.expect("the commit before")), Ok(states[last].clone()));
                refused += 1;
            }
        }
    }
    assert!(images > 300 && refused < images / 10, "{refused} of {images} refused");
}

/// After a failed sync the pager is of no use; opened anew it is what the disk says, and a crash finds that again (I9, T4).
#[test]
fn a_failed_sync_ends_the_pager_and_not_the_file() {
    let mut failures = 0;
    for (after, skip) in
        AfterFailedSync::ALL.into_iter().flat_map(|after| (0..16).step_by(3).map(move |skip| (after, skip)))
    {
        let disk = SimDisk::new(11);
        let mut world = World::create(&disk, Path::new(PATH), 12, 12, 20);
        let mut states = vec![world.model.durable()];
        disk.fail(FaultPlan::failed_sync(5, after).skip(skip));
        let mut failed = None;
        for _ in 0..30 {
            let result = world.step();
            states.push(world.model.durable());
            if let Err(error) = result {
                failed = Some(error);
                break;
            }
        }
        if failed.is_some() {
            failures += 1;
            let pager = world.pager();
            assert!(matches!(pager.alloc(), Err(MappedPageError::Unavailable { .. })), "{failed:?}");
            assert!(matches!(pager.alloc_protected(), Err(MappedPageError::Unavailable { .. })));
            assert!(matches!(pager.flush(), Err(MappedPageError::Unavailable { .. })));
            assert!(matches!(pager.shrink(), Err(MappedPageError::Unavailable { .. })));
        }
        drop(world);
        disk.heal();
        if after == AfterFailedSync::ReportedLate {
            continue; // the disk has what it said it had
        }
        assert_eq!(disk.audit(), []);
        let (mut pager, model) = found(&disk).expect("opened anew");
        assert!(
            states[states.len() - 2..].contains(&model) || failed.is_none(),
            "{after:?} {skip}: {failed:?}"
        );
        let options = CrashOptions { pairs_max: 2, ..from_here(&disk) };
        let id = pager.alloc_protected().expect("alloc");
        let mut writer = pager.get_protected_mut(id).expect("writer");
        writer.page_mut().as_bytes_mut().fill(7);
        writer.commit().expect("commit");
        let last = Model::of(&pager).expect("whole");
        drop(pager);
        disk.note(1);
        for image in disk.crash_states(&options) {
            let (_, found) =
                found(&image.disk()).unwrap_or_else(|wrong| panic!("{wrong}\n{}", image.explain()));
            assert!(image.acknowledged().is_empty() || found == last, "{}", image.explain());
        }
    }
    assert!(failures > 8, "{failures}");
}
