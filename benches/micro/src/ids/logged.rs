//! Ids under the log: what its mutex costs a group that splits or merges, alone and beside another.

use std::sync::atomic::{AtomicU64, Ordering};

use pagestone_allocator::{LoggedAllocator, MapSource, RegionBits};
use pagestone_page_format::{DEFAULT_PAGE_SIZE, Lsn, PageId, PageResult};

use super::{STEP, on_threads};
use crate::rounds::{Contender, contest};
use crate::{Args, BenchResult};

/// A file that is long enough, kept nowhere.
struct Nowhere;

impl MapSource for Nowhere {
    fn load_region(&self, _: u64) -> PageResult<Option<RegionBits>> {
        Ok(None)
    }
    fn format_region(&self, _: u64) -> PageResult<()> {
        Ok(())
    }
    fn grow(&self, _: u64) -> PageResult<()> {
        Ok(())
    }
    fn file_pages(&self) -> PageResult<u64> {
        Ok(1 << 32)
    }
}

pub(super) fn run(args: &Args) -> BenchResult<()> {
    let allocator = LoggedAllocator::under_log(DEFAULT_PAGE_SIZE, PageId::MAX);
    let lsn = AtomicU64::new(1);
    let pair = || {
        let mut ids = allocator.reserve(&Nowhere, 1)?;
        let id = ids.take().ok_or("nothing was reserved")?;
        ids.commit();
        let mut release = allocator.release();
        release.add(id, 1)?;
        release.commit(Lsn::new(lsn.fetch_add(1, Ordering::Relaxed)));
        Ok(())
    };
    let pairs = || (0..STEP).try_for_each(|_| pair());
    let mut contenders = vec![
        Contender::new("1 thread", on_threads(1, args.turn(), STEP, pairs)),
        Contender::new("2 threads", on_threads(2, args.turn(), STEP, pairs)).over(0, 0.0),
    ];
    contest("Under the log: an id reserved, taken and released", "pairs/s", args.rounds, &mut contenders)
}
