//! What a writer feels of a change of segments: a log of default size, with the next segments made by the writer, and by a thread beside it
//! as the store has one.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pagestone::page_format::ENGINE_OP_KINDS;
use pagestone::wal::{GroupBuilder, Wal};

use super::log;
use crate::BenchResult;
use crate::writers::histogram;

/// Bytes of a group, and groups to a commit: large, so that segments are soon full.
const GROUP: usize = 4000;
const GROUPS: u64 = 16;
/// How often the thread looks, as the store's does.
const LOOK: Duration = Duration::from_millis(10);

/// Fills so many segments, by each.
pub(super) fn changes(dir: &Path, segments: u64) -> BenchResult<()> {
    println!("\n## Changes of segments: {segments} of 64 MiB, {GROUPS} groups of {GROUP} bytes a commit\n");
    println!(
        "| the next segment is made by | made | µs of an append: p50 | p99.9 | longest | of the first in a segment | µs of a commit: p50 | p99.9 | longest | of the first in a segment |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    );
    for (name, beside) in [("the writer", false), ("a thread", true)] {
        let Some(wal) = log::open(&dir.join(format!("segments-{beside}")), None)? else { return Ok(()) };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            if beside {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) && wal.prepare().is_ok() {
                        std::thread::sleep(LOOK);
                    }
                });
            }
            let result = fill(&wal, segments, name);
            done.store(true, Ordering::Relaxed);
            result
        })?;
    }
    Ok(())
}

fn fill(wal: &Wal, segments: u64, name: &str) -> BenchResult<()> {
    const SEGMENT: u64 = 64 << 20;
    let (mut appends, mut commits) = (histogram()?, histogram()?);
    let (mut first_append, mut first_commit) = (Duration::ZERO, Duration::ZERO);
    let (mut group, mut end, mut lasts) = (GroupBuilder::new(), wal.end_lsn().get(), false);
    let payload = [7; GROUP];
    while end < segments * SEGMENT {
        for _ in 0..GROUPS {
            group.clear();
            group.push_logical(*ENGINE_OP_KINDS.start(), &payload);
            let began = Instant::now();
            let space = wal.reserve(group.encoded_len())?;
            let now = wal.append(space, &mut group).end.get();
            let took = began.elapsed();
            appends.record(took.as_nanos() as u64)?;
            if now / SEGMENT != end / SEGMENT {
                (first_append, lasts) = (first_append.max(took), true);
            }
            end = now;
        }
        let began = Instant::now();
        wal.commit()?;
        let took = began.elapsed();
        commits.record(took.as_nanos() as u64)?;
        if std::mem::take(&mut lasts) {
            first_commit = first_commit.max(took);
        }
    }
    let micros = |of: &hdrhistogram::Histogram<u64>, quantile| of.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "| {name} | {} | {:.1} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
        wal.stats().segments_created,
        micros(&appends, 0.5),
        micros(&appends, 0.999),
        micros(&appends, 1.0),
        first_append.as_secs_f64() * 1e6,
        micros(&commits, 0.5),
        micros(&commits, 0.999),
        micros(&commits, 1.0),
        first_commit.as_secs_f64() * 1e6
    );
    Ok(())
}
