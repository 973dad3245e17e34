//! Page ids: allocated and given back one by one and in runs, made durable, and how well they are packed.
//!
//! Beside page-db's, whose list of free ids is a vector behind a mutex, with no durable free and no runs; and, for how they are packed,
//! beside best fit without threads, crashes or a file.

mod best_fit;
mod logged;
mod packing;
mod sparse;

use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use pagestone_allocator::PageAllocator;
use pagestone_page_format::{DEFAULT_PAGE_SIZE, PageId};

use crate::rounds::{Contender, Draws, contest, rate, sum_of_threads};
use crate::{Args, BenchResult, peers};
use sparse::SparseFile;

/// Ids that a thread holds at once in a batch.
const BATCH: usize = 256;
/// Ids of a run.
const RUN: u32 = 64;
/// Pairs between two looks at the clock.
const STEP: usize = 256;
/// Changes in front of each sync.
const CHANGES: usize = 10;

pub(crate) fn run(args: &Args) -> BenchResult<()> {
    let ours = PageAllocator::open(args.dir.join("micro.ids"), DEFAULT_PAGE_SIZE)?;
    let path = args.dir.join("micro.page-db-ids");
    let peer = peers::Ids::create(&path)?;
    for threads in [1, 2] {
        one_by_one(args, threads, &ours, peer.as_ref())?;
        batches(args, threads, &ours, peer.as_ref())?;
    }
    runs(args, &ours, peer.as_ref())?;
    drop(ours);
    std::fs::remove_file(args.dir.join("micro.ids"))?;
    if peer.is_some() {
        std::fs::remove_file(path)?;
    }
    logged::run(args)?;
    syncs(args)?;
    packing::run()
}

fn one_by_one(args: &Args, threads: u64, ours: &PageAllocator, peer: Option<&peers::Ids>) -> BenchResult<()> {
    let pairs = || {
        (0..STEP).try_for_each(|_| {
            let id = ours.allocate()?;
            Ok(ours.free(id)?)
        })
    };
    let mut contenders = vec![];
    if let Some(peer) = peer {
        let pairs = || (0..STEP).try_for_each(|_| peer.free(peer.allocate()?));
        contenders.push(Contender::new("page-db", on_threads(threads, args.turn(), STEP, pairs)));
    }
    let run = Contender::new("`allocate`, `free`", on_threads(threads, args.turn(), STEP, pairs));
    contenders.push(if peer.is_some() { run.over(0, 0.0) } else { run });
    let title = format!("An id allocated and freed, {threads} threads");
    contest(&title, "pairs/s", args.rounds, &mut contenders)
}

fn batches(args: &Args, threads: u64, ours: &PageAllocator, peer: Option<&peers::Ids>) -> BenchResult<()> {
    let batch = || {
        let mut ids = [PageId::new(0); BATCH];
        for id in &mut ids {
            *id = ours.allocate()?;
        }
        ids.into_iter().try_for_each(|id| Ok(ours.free(id)?))
    };
    let mut contenders = vec![];
    if let Some(peer) = peer {
        let batch = || {
            let mut ids = [0; BATCH];
            for id in &mut ids {
                *id = peer.allocate()?;
            }
            ids.into_iter().try_for_each(|id| peer.free(id))
        };
        contenders.push(Contender::new("page-db", on_threads(threads, args.turn(), BATCH, batch)));
    }
    let run = Contender::new("`allocate`, `free`", on_threads(threads, args.turn(), BATCH, batch));
    contenders.push(if peer.is_some() { run.over(0, 0.0) } else { run });
    let title = format!("{BATCH} ids allocated and then freed, {threads} threads");
    contest(&title, "pairs/s", args.rounds, &mut contenders)
}

fn runs(args: &Args, ours: &PageAllocator, peer: Option<&peers::Ids>) -> BenchResult<()> {
    let run = || {
        let first = ours.allocate_extent(RUN)?;
        Ok(ours.free_extent(first, RUN)?)
    };
    let mut contenders = vec![];
    if let Some(peer) = peer {
        let run = || {
            let mut ids = [0; RUN as usize];
            for id in &mut ids {
                *id = peer.allocate()?;
            }
            ids.into_iter().try_for_each(|id| peer.free(id))
        };
        contenders
            .push(Contender::new("page-db, one by one, in no order", on_threads(1, args.turn(), 1, run)));
    }
    let run = Contender::new("`allocate_extent`, `free_extent`", on_threads(1, args.turn(), 1, run));
    contenders.push(if peer.is_some() { run.over(0, 0.0) } else { run });
    contest(&format!("Runs of {RUN} ids allocated and freed"), "runs/s", args.rounds, &mut contenders)
}

/// A sync after few changes, in files of three sizes.
fn syncs(args: &Args) -> BenchResult<()> {
    let mut files = vec![];
    for pages in [100_000, 1_000_000, 10_000_000] {
        let path = args.dir.join(format!("micro.ids-{pages}"));
        files.push((pages, InUse::create(&path, pages)?, path));
    }
    let mut contenders = vec![];
    for (place, (pages, in_use, _)) in files.iter_mut().enumerate() {
        let run = || rate(args.turn(), 1.0, || in_use.change_and_sync());
        let contender = Contender::new(format!("{pages} pages"), run);
        contenders.push(if place == 0 { contender } else { contender.over(0, 0.0) });
    }
    contest(&format!("`sync` after {CHANGES} changes anywhere"), "syncs/s", args.rounds, &mut contenders)?;
    drop(contenders);
    for (_, in_use, path) in files {
        drop(in_use);
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// An allocator with so many ids in use, and changes of no order.
struct InUse {
    allocator: PageAllocator,
    draws: Draws,
    end: u64,
}

impl InUse {
    fn create(path: &Path, pages: u64) -> BenchResult<Self> {
        let allocator = PageAllocator::new(SparseFile::create(path)?)?;
        let mut left = pages;
        while left > 0 {
            let count = left.min(10_000) as u32;
            allocator.allocate_extent(count)?;
            left -= u64::from(count);
        }
        allocator.sync()?;
        Ok(Self { draws: Draws::new(pages), end: allocator.high_water(), allocator })
    }

    fn change_and_sync(&mut self) -> BenchResult<()> {
        for _ in 0..CHANGES / 2 {
            self.allocator.allocate()?;
            loop {
                let id = PageId::new(self.draws.below(self.end));
                if self.allocator.is_allocated(id)? {
                    break self.allocator.free(id)?;
                }
            }
        }
        Ok(self.allocator.sync()?)
    }
}

/// Steps of so many units on each thread; the rates add up.
fn on_threads<'a>(
    threads: u64,
    turn: Duration,
    units: usize,
    step: impl Fn() -> BenchResult<()> + Sync + 'a,
) -> impl FnMut() -> BenchResult<f64> + 'a {
    move || {
        let (begin, step) = (Barrier::new(threads as usize), &step);
        sum_of_threads(threads, |_| {
            begin.wait();
            rate(turn, units as f64, step)
        })
    }
}
