//! How long the file is over what is in it, after ten million operations of no order.

use pagestone_allocator::PageAllocator;
use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, PageId};

use super::best_fit::BestFit;
use crate::BenchResult;
use crate::rounds::Draws;

const OPERATIONS: u64 = 10_000_000;
/// Ids in use that the operations stay around.
const LIVE: u64 = 1_000_000;
/// Operations between two syncs: until then a freed id that the disk knows is nobody's.
const SYNC: u64 = 10_000;

/// Runs of 1 to 64 ids, short ones more often; half of them one by one.
fn length(draws: &mut Draws) -> u64 {
    if draws.below(2) == 0 { 1 } else { 1 + draws.below(64).min(draws.below(64)) }
}

struct Model {
    held: Vec<(u64, u64)>,
    live: u64,
    draws: Draws,
}

impl Model {
    fn new() -> Self {
        Self { held: vec![], live: 0, draws: Draws::new(7) }
    }

    /// One operation: a run for each allocator, or the one that is freed.
    fn step(
        &mut self,
        allocate: impl FnOnce(u64) -> BenchResult<u64>,
        free: impl FnOnce(u64, u64) -> BenchResult<()>,
    ) -> BenchResult<()> {
        // Below the mark more is allocated than freed, above it less.
        if self.held.is_empty() || self.draws.below(2 * LIVE) > self.live {
            let len = length(&mut self.draws);
            self.held.push((allocate(len)?, len));
            self.live += len;
            return Ok(());
        }
        let nth = self.draws.below(self.held.len() as u64) as usize;
        let (start, len) = self.held.swap_remove(nth);
        self.live -= len;
        free(start, len)
    }
}

pub(crate) fn run() -> BenchResult<()> {
    let ours = PageAllocator::new(MemoryStore::new(DEFAULT_PAGE_SIZE))?;
    let (mut model, mut worst) = (Model::new(), 0.0_f64);
    for operation in 0..OPERATIONS {
        model.step(
            |len| Ok(ours.allocate_extent(len as u32)?.get()),
            |start, len| Ok(ours.free_extent(PageId::new(start), len as u32)?),
        )?;
        if operation % SYNC == 0 {
            ours.sync()?;
            if operation > OPERATIONS / 10 {
                worst = worst.max(ours.high_water() as f64 / model.live as f64);
            }
        }
    }
    ours.sync()?;
    let (live, high) = (model.live, ours.high_water());
    let (mut model, mut best, mut best_worst) = (Model::new(), BestFit::default(), 0.0_f64);
    for operation in 0..OPERATIONS {
        let shared = std::cell::RefCell::new(&mut best);
        model.step(
            |len| Ok(shared.borrow_mut().allocate(len)),
            |start, len| {
                shared.borrow_mut().free(start, len);
                Ok(())
            },
        )?;
        if operation % SYNC == 0 && operation > OPERATIONS / 10 {
            best_worst = best_worst.max(best.high_water() as f64 / model.live as f64);
        }
    }
    if model.live != live {
        return Err("the two did not do the same".into());
    }
    println!(
        "\n### The file over the ids in it, {OPERATIONS} operations on runs of 1 to 64, {live} ids in use\n"
    );
    println!("| | at the end | the worst after a tenth |\n|---|---|---|");
    let over = |high: u64| high as f64 / live as f64;
    println!("| best fit, nothing held back | {:.3} | {best_worst:.3} |", over(best.high_water()));
    println!("| `PageAllocator`, a sync every {SYNC} | {:.3} | {worst:.3} |", over(high));
    Ok(())
}
