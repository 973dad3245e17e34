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
        for tree in core.all_trees() {
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
