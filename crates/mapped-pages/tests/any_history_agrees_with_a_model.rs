//! Prevents: an order of calls, reopenings and crashes after which the pager says something else than it should. `cargo xtask soak`
//! (`soak_mapped`) goes on for as long as it is told.

#[path = "model/mod.rs"]
mod model;

use std::path::Path;

use model::{Model, World};
use pagestone_direct_io::RealDisk;
use pagestone_mapped_pages::MappedOptions;
use pagestone_testkit::{Keep, SimDisk};
use tempfile::tempdir;

#[test]
fn on_a_real_disk_with_reopening() {
    for (seed, log2) in [(0, 12), (1, 10)] {
        let dir = tempdir().expect("a directory");
        let path = dir.path().join("pages");
        let mut world = World::create(&RealDisk, &path, log2, seed, 2000);
        for step in 0..800 {
            world.step().expect("a disk that works");
            if step % 200 == 199 {
                world.reopen().expect("reopen");
            }
        }
    }
}

#[test]
fn on_a_simulated_disk_with_crashes() {
    for seed in 0..4 {
        let mut disk = SimDisk::new(seed);
        let path = Path::new("/pages");
        let mut world = World::create(&disk, path, 10 + seed as u32, seed, 60);
        let (mut model, mut rng) = (world.model.durable(), world.rng.clone());
        drop(world);
        for round in 0..12 {
            let pager = MappedOptions::new().open_on(&disk, path).expect("after a crash");
            assert_eq!(Model::of(&pager), Ok(model.clone()), "seed {seed}, round {round}");
            world = World { disk: &disk, path, pager: Some(pager), model, rng, most: 60 };
            (0..40).for_each(|_| world.step().expect("a disk that works"));
            world.compare();
            (model, rng) = (world.model.durable(), world.rng.clone());
            drop(world);
            assert_eq!(disk.audit(), []);
            let keep = *rng.pick(&[Keep::Synced, Keep::Everything, Keep::Random(round)]);
            disk = disk.power_cut(keep);
        }
    }
}
