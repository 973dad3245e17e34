//! What it costs to verify a page that was read, beside copying it.
//!
//! The copy goes from where the page stands into one page that stays in the first cache, as a reader's would: where the data is past
//! the cache, both sides wait for the same lines.

use std::hint::black_box;
use std::time::Duration;

use pagestone_page_format::{AlignedBuf, ChecksumKind, Page, PageChecksum, PageId, PageSize, StoreUuid};

use crate::rounds::{Contender, contest, rate};
use crate::{Args, BenchResult, peers};

/// Bytes that a step passes over, so that looking at the clock costs nothing.
const STEP: usize = 1 << 20;

pub(crate) fn run(args: &Args) -> BenchResult<()> {
    for size in [4096, 65_536] {
        for (place, pages) in [("in cache", 1), ("past the cache", (args.memory_mib << 20) / size)] {
            one(args, size, place, pages)?;
        }
    }
    Ok(())
}

fn one(args: &Args, size: usize, place: &str, count: usize) -> BenchResult<()> {
    let page_size = PageSize::new(size)?;
    let crc32c = PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::new([3; 16]));
    let crc64 = PageChecksum::new(ChecksumKind::Crc64Nvme, StoreUuid::new([3; 16]));
    // In one stretch, as the frames of a pool are, each page with its number in it.
    let pages = |checksum: &PageChecksum| {
        let mut all = AlignedBuf::zeroed(count * size);
        for (bytes, id) in all.chunks_mut(size).zip(0..) {
            let mut page = Page::new(page_size, PageId::new(id));
            page.payload_mut().as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = id.to_le_bytes());
            bytes.copy_from_slice(page.to_checksummed_bytes(checksum));
        }
        all
    };
    let (of_crc32c, of_crc64) = (pages(&crc32c), pages(&crc64));
    let mut copy = AlignedBuf::zeroed(size);
    let turn = args.turn();
    let mut contenders = vec![
        Contender::new(
            "`memcpy`",
            over_pages(&of_crc32c, size, turn, move |_, page| {
                copy.copy_from_slice(black_box(page));
                black_box(&mut *copy);
                Ok(())
            }),
        ),
        Contender::new("CRC32C, `verify`", over_pages(&of_crc32c, size, turn, verify(&crc32c))).over(0, 0.5),
        Contender::new("CRC-64/NVME, `verify`", over_pages(&of_crc64, size, turn, verify(&crc64)))
            .over(0, 0.5),
    ];
    if let Some(crc32c) = peers::crc32c() {
        let run = over_pages(&of_crc32c, size, turn, move |_, page| {
            black_box(crc32c(black_box(page)));
            Ok(())
        });
        contenders.push(Contender::new("page-db, CRC32C", run).over(0, 0.0));
    }
    let title = format!("Checksum of pages of {} KiB, {place}", size >> 10);
    contest(&title, "GB/s", args.rounds, &mut contenders)
}

fn verify(checksum: &PageChecksum) -> impl FnMut(PageId, &[u8]) -> BenchResult<()> {
    move |id, page| {
        // Verifying compares the page's id with the one asked for.
        black_box(checksum.verify(id, black_box(page))?);
        Ok(())
    }
}

/// Goes round and round over the pages.
fn over_pages<'a>(
    pages: &'a [u8],
    size: usize,
    turn: Duration,
    mut each: impl FnMut(PageId, &[u8]) -> BenchResult<()> + 'a,
) -> impl FnMut() -> BenchResult<f64> + 'a {
    let count = pages.len() / size;
    let mut next = 0;
    move || {
        rate(turn, STEP as f64 / 1e9, || {
            for _ in 0..STEP / size {
                each(PageId::new(next as u64), &pages[next * size..][..size])?;
                next = if next + 1 == count { 0 } else { next + 1 };
            }
            Ok(())
        })
    }
}
