//! What the pool costs: one tree, its nodes walked by the same code in plain memory, through swips, and through the pool's table.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pagestone::btree::{Interrupt, PageSource, Roots, Sampled, look_up_in};
use pagestone::page_format::{
    FrameIndex, Page, PageError, PageId, PageResult, PageSize, PageStore, SpeculativePage,
};
use pagestone::pool::{BufferPool, OptimisticPage, Restart};
use pagestone::swip::{AtomicSwipWord, SwipWord};

use super::plain::{PAGE, PlainPages};
use super::turns::{Contender, Contest, Key};
use super::{check, fill, missing, open};
use crate::writers::key;
use crate::{BenchResult, in_new_dir};

/// Options of this bench.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory that does not exist yet; removed at the end. It takes 130 bytes a row, the memory 400.
    #[arg(long)]
    dir: PathBuf,
    /// Rows of 16 and 100 bytes.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// Turns of each contender.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// How long a turn takes, in milliseconds.
    #[arg(long, default_value_t = 200)]
    turn_ms: u64,
    /// Rates by the threads' processor time, as Linux counts it, for a machine that others use too.
    #[arg(long)]
    by_cpu: bool,
}

/// Runs it and prints Markdown.
pub(crate) fn run(args: &Args) -> BenchResult<()> {
    in_new_dir(&args.dir, || all(args))
}

fn all(args: &Args) -> BenchResult<()> {
    let contest = Contest {
        rows: args.rows,
        rounds: args.rounds,
        turn: Duration::from_millis(args.turn_ms),
        by_cpu: args.by_cpu,
    };
    contest.announce("; all walk the same nodes by the same code");
    let dir = args.dir.join("store");
    let tree_id = make(&dir, args.rows)?;
    let mut plain = PlainPages::read(&dir.join("data"))?;
    let root = PageId::new(plain.root(tree_id)?);
    let pool = pool_of(&plain)?;
    let plain = plain.words()?;

    let swip = SwipWord::new(root)?;
    let (by_swip, by_table) = (AtomicSwipWord::new(swip), AtomicSwipWord::new(swip));
    let direct = AtomicSwipWord::new(swip.with_hint(FrameIndex::new(root.get() as u32)));
    let over_plain =
        |keys: &[Key], value: &mut Vec<u8>| look_up(plain, Roots { tree_id, root: &direct }, keys, value);
    let over_swips = |keys: &[Key], value: &mut Vec<u8>| {
        look_up(Sampled(&pool), Roots { tree_id, root: &by_swip }, keys, value)
    };
    let over_table = |keys: &[Key], value: &mut Vec<u8>| {
        look_up(ByTable(&pool), Roots { tree_id, root: &by_table }, keys, value)
    };
    const PLAIN: &str = "in plain memory";
    let mut contenders = [
        Contender::new(PLAIN, over_plain),
        Contender::new("**by swips**, the pool's way", over_swips).over(PLAIN, 0.93),
        Contender::new("by the pool's table alone", over_table).over(PLAIN, 0.0),
    ];
    let before = pool.stats();
    for threads in [1, 2] {
        contest.run(threads, &mut contenders)?;
    }
    let after = pool.stats();
    println!(
        "\nPages found by the table and not by the hint of a swip: {}; pages read: {}.",
        after.table_hits - before.table_hits,
        after.misses - before.misses
    );
    Ok(())
}

/// Makes the store and closes it; gives the number of its tree.
fn make(dir: &Path, rows: u64) -> BenchResult<u32> {
    let mut keys: Vec<Key> = (0..rows).map(key).collect();
    keys.sort_unstable();
    let store = open(dir, rows, PageSize::new(PAGE)?)?;
    fill(&store, &keys)?;
    let tree_id = store.default_tree().id();
    store.close()?;
    Ok(tree_id)
}

/// A pool that has all of the pages.
fn pool_of(plain: &PlainPages) -> BenchResult<BufferPool> {
    let pages = plain.len();
    let copy: Vec<Box<[u8]>> = (0..pages).map(|id| plain.bytes(id).into()).collect();
    let pool = BufferPool::new(Copies(copy), pages as usize + 64);
    for id in 0..pages {
        pool.fetch(PageId::new(id))?;
        pool.fetch(PageId::new(id))?; // warm
    }
    Ok(pool)
}

fn look_up<'p, S: PageSource<'p>>(
    source: S,
    tree: Roots<'_>,
    keys: &[Key],
    value: &mut Vec<u8>,
) -> BenchResult<()> {
    for key in keys {
        loop {
            match look_up_in(source, tree, key, value) {
                Ok(Some(_)) => break check(key, value)?,
                Ok(None) => return Err(missing(key)),
                // Another thread repaired a hint.
                Err(Interrupt::Restart(Restart::Conflict)) => {}
                Err(other) => return Err(format!("{other:?}").into()),
            }
        }
    }
    Ok(())
}

/// Pages of a pool, found by their ids and never by a hint.
#[derive(Clone, Copy)]
struct ByTable<'p>(&'p BufferPool);

impl<'p> PageSource<'p> for ByTable<'p> {
    type Held = OptimisticPage<'p>;

    #[inline]
    fn take(
        self,
        swip: SwipWord,
        _: impl FnOnce(SpeculativePage<'p>),
    ) -> Result<OptimisticPage<'p>, Restart> {
        self.0.resolve_by_id(swip.page_id())
    }

    /// Where it is takes a look into the table.
    #[inline]
    fn expect(self, _: SwipWord, _: impl FnOnce(SpeculativePage<'p>)) {}
}

/// Pages to read, once each.
#[derive(Debug)]
struct Copies(Vec<Box<[u8]>>);

impl PageStore for Copies {
    fn page_size(&self) -> PageSize {
        PageSize::new(PAGE).expect("4096 is a page size")
    }

    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        let bytes = self.0.get(id.get() as usize).ok_or(PageError::InvalidPageId { page_id: id })?;
        page.bytes_mut().copy_from_slice(bytes);
        Ok(())
    }

    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        Err(PageError::InvalidPageId { page_id: page.id() })
    }

    fn sync(&self) -> PageResult<()> {
        Ok(())
    }

    fn len(&self) -> PageResult<u64> {
        Ok(self.0.len() as u64)
    }

    fn grow(&self, _: u64) -> PageResult<()> {
        Err(PageError::NoSpace { needed: 1 })
    }
}
