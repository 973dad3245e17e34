//! Prevents: a pager that answers wrongly, hangs, panics or forgets what it acknowledged because one call to the disk failed, or that call
//! and all after it (I1 to I16, R1, R3, R5).

mod model;

use std::path::Path;

use model::{Model, World};
use pagestone_direct_io::Disk;
use pagestone_mapped_pages::{MappedOptions, MappedResult};
use pagestone_testkit::{DiskOp, ErrorLoop, Keep, Rng, SimDisk};

const PATH: &str = "/pages";
const STEPS: usize = 9;

fn step(world: &mut World<'_>, number: usize) -> MappedResult<()> {
    match number {
        0 => world.alloc(20),
        1 => world.alloc_protected(125), // a fold
        2 | 6 => world.write_protected(),
        3 => world.free(8),
        4 => {
            let id = world.pager().iter_allocated_pages().next().expect("some are left");
            world.pager().flush_page(id)
        }
        5 => world.free_protected(40),
        7 => world.pager().shrink().map(drop),
        _ => world.pager().flush(),
    }
}

fn world(disk: &dyn Disk) -> MappedResult<World<'_>> {
    let path = Path::new(PATH);
    let pager = MappedOptions::new().create_on(disk, path, 12)?;
    Ok(World { disk, path, pager: Some(pager), model: Model::default(), rng: Rng::new(3), most: 500 })
}

/// What stands behind each step, on a disk that does not fail.
fn expected() -> Vec<Model> {
    let disk = SimDisk::new(0);
    let mut world = world(&disk).expect("create");
    let mut states = vec![world.model.durable()];
    for number in 0..STEPS {
        step(&mut world, number).expect("a disk that works");
        states.push(world.model.durable());
    }
    states
}

#[test]
fn every_call_may_fail() {
    let expected = expected();
    let ops = [
        DiskOp::Open,
        DiskOp::Create,
        DiskOp::Rename,
        DiskOp::Kind,
        DiskOp::SyncDir,
        DiskOp::Read,
        DiskOp::Write,
        DiskOp::Sync,
        DiskOp::Len,
        DiskOp::SetLen,
        DiskOp::Reserve,
        DiskOp::DropCache,
        DiskOp::Lock,
        DiskOp::Map,
        DiskOp::Flush,
    ];
    let report = ErrorLoop::new(&ops).stride(21).run(|struck| {
        let disk = &struck.disk;
        // How many steps were acknowledged, and whether one more may have happened.
        let (mut done, mut failed) = (0, false);
        if let Ok(mut world) = world(disk) {
            while done < STEPS && !failed {
                failed = step(&mut world, done).is_err();
                done += usize::from(!failed);
            }
            drop(world.pager.take());
            if let Ok(pager) = MappedOptions::new().open_on(disk, Path::new(PATH)) {
                let found = Model::of(&pager);
                assert!(found.is_err() || found == Ok(expected[done].clone()) || failed, "{}", struck.strike);
            }
        }
        disk.heal();
        let possible = &expected[done..(done + 1 + usize::from(failed)).min(expected.len())];
        let pager = MappedOptions::new().open_on(disk, Path::new(PATH));
        let Ok(pager) = pager else {
            assert!(done == 0, "{}: {pager:?}", struck.strike);
            drop(MappedOptions::new().create_on(disk, Path::new(PATH), 12).expect("there is none"));
            return;
        };
        let found = Model::of(&pager).unwrap_or_else(|wrong| panic!("{}: {wrong}", struck.strike));
        assert!(possible.contains(&found), "{}: {done} done, {found:?}", struck.strike);
        drop(pager);
        let cut = disk.power_cut(Keep::Synced);
        let pager = MappedOptions::new().open_on(&cut, Path::new(PATH)).expect("what was opened is durable");
        assert_eq!(Model::of(&pager), Ok(found), "{}", struck.strike);
    });
    assert!(report.runs > 500 && report.injected > 500, "{report:?}");
}
