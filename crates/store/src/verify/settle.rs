//! Which suspects are believed.

use std::collections::BTreeSet;

use pagestone_allocator::{RegionBits, map_page_of};
use pagestone_page_format::PageId;
use pagestone_sync::thread;

use super::look::{Looked, is_of_the_handle};
use super::report::{Problem, VerifyReport};
use crate::StoreResult;
use crate::checkpoint::Core;

/// How often a page is asked for while its map page keeps changing.
const TRIES: usize = 256;

/// The later look's report, with the findings that the earlier one had too.
pub(super) fn in_both(earlier: Looked, later: Looked) -> Looked {
    let (earlier, Looked { report: later, values }) = (earlier.report, later);
    // Which findings were only counted is not known: as long as both looks had more than can be named, there are more.
    let more_findings = earlier.more_findings.min(later.more_findings);
    let known: BTreeSet<_> =
        earlier.findings.iter().map(|finding| (finding.page_id, finding.problem)).collect();
    let mut findings = later.findings;
    findings.retain(|finding| known.contains(&(finding.page_id, finding.problem)));
    Looked { report: VerifyReport { findings, more_findings, ..later }, values }
}

/// Drops what a tree explains.
pub(super) fn confirm(core: &Core, looked: &mut Looked) -> StoreResult<()> {
    for finding in std::mem::take(&mut looked.report.findings) {
        let stands = match (finding.page_id, finding.problem) {
            (Some(page), Problem::Leaked) => settled(core, page, |in_use, held| in_use && !held)?,
            // Pages of values have no fences to be found by.
            (Some(page), Problem::Dangling) if looked.values.contains(page) => true,
            (Some(page), Problem::Dangling) => settled(core, page, |in_use, held| !in_use && held)?,
            _ => true,
        };
        if stands {
            looked.report.findings.push(finding);
        }
    }
    Ok(())
}

/// Asks whether the page is in use, and whether a tree holds it, while its map page stays as it is.
fn settled(core: &Core, page: PageId, stands: impl Fn(bool, bool) -> bool) -> StoreResult<bool> {
    let pool = core.env.pool();
    let map_page = map_page_of(page, pool.page_size());
    let _admission = pool.admit(1);
    for _ in 0..TRIES {
        let pin = match pool.fault(map_page) {
            Ok(pin) => pin,
            Err(error) if is_of_the_handle(&error) => return Err(error.into()),
            Err(_) => return Ok(true), // no map, no bit to contradict it
        };
        let sample = pin.optimistic()?;
        let in_use = RegionBits::decode(sample.page()).map(|bits| bits.is_allocated(page));
        let mut held = false;
        for tree in core.all_trees()?.0 {
            held |= tree.holds_page(page)?;
        }
        if sample.validate().is_ok() {
            return Ok(match in_use {
                Ok(Some(in_use)) => stands(in_use, held),
                Ok(None) | Err(_) => true,
            });
        }
        thread::yield_now();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use pagestone_allocator::MapSource;
    use pagestone_direct_io::Disk;
    use pagestone_testkit::SimDisk;

    use super::*;
    use crate::verify::report::Finding;
    use crate::{Background, Durability, Options};

    fn core() -> Core {
        let options = Options {
            pool_bytes: 64 << 12,
            log_bytes: 4 << 20,
            segment_bytes: 1 << 20,
            durability: Durability::RELAXED,
            background: Background::Manual,
            ..Options::default()
        };
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let (core, _) =
            crate::open::open(&disk, Path::new("/store"), &options, &mut |_| {}).expect("a store");
        for number in 0..2000u32 {
            core.tree.put(&number.to_le_bytes(), &[7; 200]).expect("put");
        }
        core
    }

    #[test]
    fn the_trees_hold_exactly_the_pages_in_use_that_are_no_map() {
        let core = core();
        let bits = core.env.load_region(0).expect("read").expect("a region");
        let trees = core.all_trees().expect("listed").0;
        let mut held = 0;
        for id in (0..core.env.pool().store().len().expect("a length") + 9).map(PageId::new) {
            let in_use = bits.is_allocated(id).expect("of the region") && id.get() != 0;
            let holders = trees.iter().filter(|tree| tree.holds_page(id).expect("asked")).count();
            assert_eq!(holders, usize::from(in_use), "{id}");
            let settled = |wanted: (bool, bool)| {
                settled(&core, id, |in_use, held| (in_use, held) == wanted).expect("asked")
            };
            assert!(!settled((false, true)), "{id} is not dangling");
            assert_eq!(settled((true, false)), id.get() == 0, "{id}: the map holds itself");
            held += u64::from(in_use);
        }
        assert!(held > 100, "only {held} pages");
    }

    #[test]
    fn what_one_look_alone_saw_is_dropped() {
        let looked = |pages: &[(u64, Problem)], more_findings| {
            let finding = |(page, problem): &(u64, Problem)| Finding {
                page_id: Some(PageId::new(*page)),
                problem: *problem,
                expected: String::new(),
                found: String::new(),
            };
            let findings = pages.iter().map(finding).collect();
            let report = VerifyReport { findings, more_findings, ..VerifyReport::default() };
            Looked { report, values: Default::default() }
        };
        let first = looked(&[(1, Problem::Leaked), (2, Problem::Leaked), (3, Problem::Unreadable)], 5);
        let second = looked(&[(1, Problem::Dangling), (2, Problem::Leaked), (4, Problem::Leaked)], 0);
        let both = in_both(first, second).report;
        let left: Vec<_> = both.findings.iter().map(|finding| (finding.page_id, finding.problem)).collect();
        assert_eq!(left, [(Some(PageId::new(2)), Problem::Leaked)]);
        assert_eq!(both.more_findings, 0);
    }
}
