//! Mapped pages beside another pager of the kind: durable allocation, protected pages, reads, writes, opening; and growth by the length of
//! the file.
//!
//! What is allocated is freed again outside of the time: the peer's map ends at one page.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use pagestone_mapped_pages::{MappedOptions, MappedPageError, PageId, Pager, ProtectedPageId};

use crate::rounds::{Contender, Draws, contest, rate};
use crate::{Args, BenchResult, peers};

/// Pages that are read and written. The peer's files of pages of 4 KiB end at 16 384.
const PAGES: u64 = 8192;
/// Reads between two looks at the clock.
const STEP: u64 = 1024;
/// Pages of a bulk.
const BULK: usize = 1000;

/// What is asked of both.
pub(crate) trait Mapped {
    /// So many pages in one durable call. They are freed by `free_all`.
    fn alloc(&mut self, count: usize) -> BenchResult<()>;
    fn free_all(&mut self) -> BenchResult<()>;
    /// Eight bytes of the protected page, committed.
    fn commit_protected(&mut self, number: u64) -> BenchResult<()>;
    /// The number in front of a page.
    fn read(&self, page: u64) -> BenchResult<u64>;
    fn write(&mut self, page: u64) -> BenchResult<()>;
}

struct Ours {
    pager: Pager<4096>,
    pages: Vec<PageId<4096>>,
    protected: ProtectedPageId<4096>,
    allocated: Vec<PageId<4096>>,
}

impl Ours {
    fn create(path: &Path) -> BenchResult<Self> {
        let mut pager = Pager::create(path)?;
        let pages = pager.alloc_bulk(PAGES as usize)?;
        let protected = pager.alloc_protected()?;
        let mut ours = Self { pager, pages, protected, allocated: Vec::new() };
        (0..PAGES).try_for_each(|page| ours.write(page))?;
        ours.pager.flush()?;
        Ok(ours)
    }
}

/// As of the peer: what an error is made into stands apart from what is measured.
#[cold]
fn said(error: MappedPageError) -> Box<dyn std::error::Error + Send + Sync> {
    error.to_string().into()
}

impl Mapped for Ours {
    fn alloc(&mut self, count: usize) -> BenchResult<()> {
        match count {
            1 => self.allocated.push(self.pager.alloc()?),
            _ => self.allocated.extend(self.pager.alloc_bulk(count)?),
        }
        Ok(())
    }

    fn free_all(&mut self) -> BenchResult<()> {
        Ok(self.pager.free_bulk(std::mem::take(&mut self.allocated))?)
    }

    fn commit_protected(&mut self, number: u64) -> BenchResult<()> {
        let mut writer = self.protected.get_mut(&mut self.pager)?;
        writer.page_mut().as_bytes_mut()[..8].copy_from_slice(&number.to_le_bytes());
        Ok(writer.commit()?)
    }

    fn read(&self, page: u64) -> BenchResult<u64> {
        let page = self.pages[page as usize].get(&self.pager).map_err(said)?;
        Ok(u64::from_le_bytes(*page.as_bytes().first_chunk().expect("a page is longer")))
    }

    fn write(&mut self, page: u64) -> BenchResult<()> {
        let id = self.pages[page as usize];
        id.get_mut(&mut self.pager).map_err(said)?.as_bytes_mut()[..8].copy_from_slice(&page.to_le_bytes());
        Ok(())
    }
}

pub(crate) fn run(args: &Args) -> BenchResult<()> {
    let (path, peer_path) = (args.dir.join("micro.mapped"), args.dir.join("micro.mapped-peer"));
    let mut ours = Ours::create(&path)?;
    let mut peer = peers::Mapped::create(&peer_path, PAGES)?;
    against(
        args,
        "mapped: pages allocated one by one, each durable",
        "pages/s",
        2.0,
        &mut ours,
        &mut peer,
        |side, turn| allocate(side, turn, 1),
    )?;
    against(
        args,
        "mapped: pages allocated in bulk of 1000",
        "pages/s",
        10.0,
        &mut ours,
        &mut peer,
        |side, turn| allocate(side, turn, BULK),
    )?;
    against(
        args,
        "mapped: eight bytes of a protected page committed",
        "commits/s",
        2.0,
        &mut ours,
        &mut peer,
        |side, turn| {
            let mut number = 0;
            rate(turn, 1.0, || {
                number += 1;
                side.commit_protected(number)
            })
        },
    )?;
    let mut draws = Draws::new(5);
    against(args, "mapped: random pages read", "reads/s", 1.0, &mut ours, &mut peer, |side, turn| {
        rate(turn, STEP as f64, || {
            (0..STEP).try_for_each(|_| {
                let page = draws.below(PAGES);
                check(page, black_box(side.read(page)?))
            })
        })
    })?;
    let mut draws = Draws::new(6);
    against(
        args,
        "mapped: random pages written, not flushed",
        "writes/s",
        1.0,
        &mut ours,
        &mut peer,
        |side, turn| rate(turn, STEP as f64, || (0..STEP).try_for_each(|_| side.write(draws.below(PAGES)))),
    )?;
    drop((ours, peer));
    remove([&path, &peer_path])?;
    open(args, &path, &peer_path)?;
    growth(args, &path)
}

/// Both sides by turns; `turn` gives what a side did a second.
fn against(
    args: &Args,
    title: &str,
    unit: &str,
    goal: f64,
    ours: &mut dyn Mapped,
    peer: &mut Option<peers::Mapped>,
    turn: impl FnMut(&mut dyn Mapped, Duration) -> BenchResult<f64>,
) -> BenchResult<()> {
    let turn = std::cell::RefCell::new(turn);
    let mut contenders = Vec::new();
    if let Some(peer) = peer {
        contenders.push(Contender::new("mappedpages 0.2", || turn.borrow_mut()(peer, args.turn())));
    }
    let goal = if contenders.is_empty() { None } else { Some(goal) };
    let contender = Contender::new("pagestone-mapped-pages", || turn.borrow_mut()(ours, args.turn()));
    contenders.push(match goal {
        Some(goal) => contender.over(0, goal),
        None => contender,
    });
    contest(title, unit, args.rounds, &mut contenders)
}

fn allocate(side: &mut dyn Mapped, turn: Duration, count: usize) -> BenchResult<f64> {
    let (mut took, mut done, mut live) = (Duration::ZERO, 0, 0);
    while took < turn {
        let begun = Instant::now();
        side.alloc(count)?;
        took += begun.elapsed();
        (done, live) = (done + count, live + count);
        if live >= 2 * BULK {
            side.free_all()?;
            live = 0;
        }
    }
    side.free_all()?;
    Ok(done as f64 / took.as_secs_f64())
}

/// A file of 1 GiB, in pages of 64 KiB because the peer's map ends at one page.
fn open(args: &Args, path: &Path, peer_path: &Path) -> BenchResult<()> {
    const PAGES: usize = 16_000;
    Pager::<65_536>::create(path)?.alloc_bulk(PAGES)?;
    let has_peer = peers::create_large(peer_path, PAGES)?;
    let open = |path: &Path| -> BenchResult<()> {
        let pager = Pager::<65_536>::open(path)?;
        check(PAGES as u64, pager.iter_allocated_pages().count() as u64)
    };
    let mut contenders =
        vec![Contender::new("pagestone-mapped-pages", || rate(args.turn(), 1.0, || open(path)))];
    if has_peer {
        contenders.push(Contender::new("mappedpages 0.2", || {
            rate(args.turn(), 1.0, || peers::open_large(peer_path, PAGES))
        }));
        contenders[0] =
            Contender::new("pagestone-mapped-pages", || rate(args.turn(), 1.0, || open(path))).over(1, 0.0);
    }
    contest("mapped: a file of 1 GiB opened", "openings/s", args.rounds, &mut contenders)?;
    drop(contenders);
    remove([path, peer_path])
}

/// A sparse file that is so long already grows by 64 MiB; the last contenders over the first.
fn growth(args: &Args, path: &Path) -> BenchResult<()> {
    let mut pagers = Vec::new();
    for gib in [1_usize, 8, 64] {
        let path = path.with_extension(format!("{gib}"));
        let mut pager: Pager<4096> = MappedOptions::new().reserve(false).create(&path, 12)?.typed()?;
        pager.alloc_bulk(gib << 18)?;
        pagers.push((gib, path, pager));
    }
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (gib, _, pager) in &mut pagers {
        let grow = move || {
            let (mut took, mut done) = (Duration::ZERO, 0);
            while took < args.turn() {
                let begun = Instant::now();
                let pages = pager.alloc_bulk(16_384)?;
                took += begun.elapsed();
                done += 1;
                pager.free_bulk(pages)?;
                pager.shrink()?;
            }
            Ok(f64::from(done) / took.as_secs_f64())
        };
        let contender = Contender::new(format!("{gib} GiB"), grow);
        contenders.push(if contenders.is_empty() { contender } else { contender.over(0, 0.0) });
    }
    contest(
        "mapped: a file grows by 64 MiB, all of it allocated",
        "growths/s",
        args.rounds,
        &mut contenders,
    )?;
    drop(contenders);
    pagers.into_iter().try_for_each(|(_, path, _)| Ok(std::fs::remove_file(path)?))
}

fn remove<const N: usize>(paths: [&Path; N]) -> BenchResult<()> {
    paths.into_iter().filter(|path| path.exists()).try_for_each(|path| Ok(std::fs::remove_file(path)?))
}

fn check(expected: u64, found: u64) -> BenchResult<()> {
    if found == expected { Ok(()) } else { Err(format!("{expected} expected, {found} found").into()) }
}
