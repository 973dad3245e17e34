//! The long form of `any_history_agrees_with_a_model`: random operations, reopenings and power cuts, beside a model.
//!
//! `--seconds N` goes on for about so long, `--operations N` until so many are done instead; `--seed N` says where it begins,
//! the clock if it is not given. Prints its figures in its last line, and panics with seed and round if a promise was broken.
#![forbid(unsafe_code)]

#[path = "../tests/model/mod.rs"]
mod model;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::{Model, World};
use pagestone_mapped_pages::MappedOptions;
use pagestone_testkit::{Keep, Rng, SimDisk, Soak};

/// Lives of a file, each ended by a power cut.
const ROUNDS: u64 = 50;
const STEPS: u64 = 200;

fn main() -> Result<(), String> {
    let soak = Soak::from_args(&["--operations"])?;
    let (operations, seed) = (soak.number("--operations"), soak.seed());
    let (next, done, cuts) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let is_over = || match operations {
        Some(operations) => done.load(Relaxed) >= operations,
        None => soak.is_over(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !is_over() {
                    let seed = seed.wrapping_add(next.fetch_add(1, Relaxed));
                    life(seed, || {
                        done.fetch_add(STEPS, Relaxed);
                        cuts.fetch_add(1, Relaxed);
                        is_over()
                    });
                }
            });
        }
    });
    let took = soak.elapsed().as_secs_f64();
    println!("{} operations, {} power cuts, {took:.0} s", done.into_inner(), cuts.into_inner());
    Ok(())
}

/// One file from its creation on; `cut` is told of each power cut and says whether that is enough.
fn life(seed: u64, cut: impl Fn() -> bool) {
    let path = Path::new("/pages");
    let mut disk = SimDisk::new(seed);
    // The simulated disk looks at all that is mapped after each change: a step costs what the file is long. Most files are short.
    let most = if seed.is_multiple_of(64) { 200 } else { [8, 16, 32][(seed % 3) as usize] };
    let log2 = if seed.is_multiple_of(16) { 10 + (seed / 16 % 4) as u32 } else { 10 };
    let mut world = World::create(&disk, path, log2, seed, most);
    let (mut model, mut rng): (Model, Rng) = (world.model.durable(), world.rng.clone());
    drop(world);
    for round in 0..ROUNDS {
        let pager = MappedOptions::new().open_on(&disk, path);
        let pager = pager.unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
        assert_eq!(Model::of(&pager), Ok(model.clone()), "seed {seed}, round {round}");
        world = World { disk: &disk, path, pager: Some(pager), model, rng, most };
        for step in 0..STEPS {
            let result = world.step();
            result.unwrap_or_else(|error| panic!("seed {seed}, round {round}, step {step}: {error}"));
        }
        world.compare();
        (model, rng) = (world.model.durable(), world.rng.clone());
        drop(world);
        assert_eq!(disk.audit(), [], "seed {seed}, round {round}");
        let keep = *rng.pick(&[Keep::Synced, Keep::Everything, Keep::Random(seed ^ round)]);
        disk = disk.power_cut(keep);
        if cut() {
            return;
        }
    }
}
