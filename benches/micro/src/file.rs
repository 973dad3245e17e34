//! Pages of a file read and written, beside raw loops over the same places of the same file with the same flags.
//!
//! Every page that is read carries its number, and both sides look at it.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{DirectIo, Disk, OpenHow, PageFile, RealDisk};
use pagestone_page_format::{
    AlignedBuf, ChecksumKind, DEFAULT_PAGE_SIZE, PAGE_HEADER_SIZE, Page, PageChecksum, PageId, PageStore,
    StoreUuid,
};

use crate::raw::RawFile;
use crate::rounds::{Contender, Draws, contest, rate};
use crate::{Args, BenchResult, peers};

const SIZE: u64 = DEFAULT_PAGE_SIZE.get() as u64;
/// Where page 0 stands.
const BASE: u64 = 4096;
/// Reads of a batch.
const BATCH: usize = 32;
/// Pages of a write, 1 MiB.
const WAVE: u64 = 256;

pub(crate) fn run(args: &Args) -> BenchResult<()> {
    let [ours, theirs, plain] = ["micro.pages", "micro.page-db", "micro.raw"].map(|name| args.dir.join(name));
    [&ours, &theirs, &plain].into_iter().try_for_each(|path| remove(path))?;
    let count = (args.file_mib << 20) / SIZE / WAVE * WAVE;
    let pages = create(&ours, count)?;
    if !pages.is_direct() {
        println!(
            "\nNOT MEASURED: {} has no direct I/O, pages beside raw reads and writes",
            args.dir.display()
        );
        return Ok(());
    }
    let Some(mut raw) = RawFile::open(&ours)? else {
        println!("\nNOT MEASURED: this system has no raw loop to compare pages with");
        return Ok(());
    };
    let mut peer = peers::Pages::create(&theirs, count)?;
    single_reads(args, count, &pages, &raw, peer.as_mut())?;
    batches(args, count, &pages, &mut raw)?;
    // The raw side of the writes has a file of its own, written before like the other, so that pages stay the pages they are.
    drop(create(&plain, count)?);
    if let Some(raw) = RawFile::open(&plain)? {
        writes(args, count, &pages, &raw, peer.as_mut())?;
    }
    [&ours, &theirs, &plain].into_iter().try_for_each(|path| remove(path))
}

pub(crate) fn remove(path: &Path) -> BenchResult<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

pub(crate) fn create(path: &Path, count: u64) -> BenchResult<PageFile> {
    let file = RealDisk.open(path, &OpenHow::create_new(DirectIo::Prefer))?;
    let checksum = PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::new([3; 16]));
    let pages = PageFile::new(Arc::clone(&file), BASE, DEFAULT_PAGE_SIZE, checksum);
    pages.grow(count)?;
    let mut wave = buffers(&pages, WAVE as usize);
    for first in (0..count).step_by(WAVE as usize) {
        number_from(first, &mut wave);
        pages.write_many(&mut wave)?;
    }
    pages.sync()?;
    Ok(pages)
}

fn buffers(pages: &PageFile, count: usize) -> Vec<Page> {
    (0..count).map(|_| pages.allocate_page(PageId::new(0))).collect()
}

fn number_from(first: u64, wave: &mut [Page]) {
    for (page, id) in wave.iter_mut().zip(first..) {
        page.set_id(PageId::new(id));
        page.payload_mut()[..8].copy_from_slice(&id.to_le_bytes());
    }
}

pub(crate) fn offset_of(id: u64) -> u64 {
    BASE + id * SIZE
}

/// Whether these bytes are the page that stands there.
pub(crate) fn check(offset: u64, page: &[u8]) -> BenchResult<()> {
    let number = page[PAGE_HEADER_SIZE..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    match number {
        Some(id) if offset_of(id) == offset => Ok(()),
        other => Err(format!("at {offset} stands the page with the number {other:?}").into()),
    }
}

fn single_reads(
    args: &Args,
    count: u64,
    pages: &PageFile,
    raw: &RawFile,
    peer: Option<&mut peers::Pages>,
) -> BenchResult<()> {
    let turn = args.turn();
    let (mut ids, mut buffer) = (Draws::new(1), AlignedBuf::zeroed(SIZE as usize));
    let mut contenders = vec![Contender::new("raw `pread`", move || {
        rate(turn, 1.0, || {
            let offset = offset_of(ids.below(count));
            raw.read(&mut buffer, offset)?;
            check(offset, &buffer)
        })
    })];
    let (mut ids, mut page) = (Draws::new(1), pages.allocate_page(PageId::new(0)));
    contenders.push(
        Contender::new("`PageFile::read_into`", move || {
            rate(turn, 1.0, || {
                let id = ids.below(count);
                pages.read_into(PageId::new(id), &mut page)?;
                check(offset_of(id), page.bytes())
            })
        })
        .over(0, 0.97),
    );
    if let Some(peer) = peer {
        let mut ids = Draws::new(1);
        let run = move || rate(turn, 1.0, || peer.read(ids.below(count)));
        contenders.push(Contender::new("page-db, `read_into`", run).over(0, 0.0));
    }
    contest("Random reads of 4 KiB, one at a time", "reads/s", args.rounds, &mut contenders)
}

fn batches(args: &Args, count: u64, pages: &PageFile, raw: &mut RawFile) -> BenchResult<()> {
    let turn = args.turn();
    let raw = std::cell::RefCell::new(raw);
    let aligned = || vec![AlignedBuf::zeroed(SIZE as usize); BATCH];
    let (mut draws, mut at_once) = (Draws::new(2), aligned());
    let by_batches = || {
        rate(turn, BATCH as f64, || {
            let next = || offset_of(draws.below(count));
            raw.borrow_mut().reads(&mut at_once, BATCH, BATCH, next, |offset, page| check(offset, page))
        })
    };
    let (mut ids, mut wave) = (Draws::new(2), buffers(pages, BATCH));
    let read_many = || {
        rate(turn, BATCH as f64, || {
            let ids: [PageId; BATCH] = std::array::from_fn(|_| PageId::new(ids.below(count)));
            pages.read_many(&ids, &mut wave).into_iter().collect::<Result<(), _>>()?;
            ids.iter().zip(&wave).try_for_each(|(id, page)| check(offset_of(id.get()), page.bytes()))
        })
    };
    let (mut draws, mut always) = (Draws::new(2), aligned());
    let without_pause = || {
        // So many that the first and the last 32, which are not all under way, do not count.
        const READS: usize = 1024;
        rate(turn, READS as f64, || {
            let next = || offset_of(draws.below(count));
            raw.borrow_mut().reads(&mut always, READS, 1, next, |offset, page| check(offset, page))
        })
    };
    let mut contenders = [
        Contender::new("raw ring, 32 at once, then the next 32", by_batches),
        Contender::new("raw ring, always 32 under way", without_pause).over(0, 0.0),
        Contender::new("`PageFile::read_many`", read_many).over(0, 0.95),
    ];
    contest("Random reads of 4 KiB in batches of 32, one thread", "reads/s", args.rounds, &mut contenders)
}

fn writes(
    args: &Args,
    count: u64,
    pages: &PageFile,
    raw: &RawFile,
    peer: Option<&mut peers::Pages>,
) -> BenchResult<()> {
    let turn = args.turn();
    let bytes = (WAVE * SIZE) as f64 / 1e9;
    let next = |at: &mut u64| {
        let first = *at;
        *at = if first + WAVE >= count { 0 } else { first + WAVE };
        first
    };
    let (mut at, images) = (0, AlignedBuf::zeroed((WAVE * SIZE) as usize));
    let mut contenders = vec![Contender::new("raw `pwrite` of 1 MiB", move || {
        rate(turn, bytes, || raw.write(&images, offset_of(next(&mut at))))
    })];
    let (mut at, mut wave) = (0, buffers(pages, WAVE as usize));
    contenders.push(
        Contender::new("`PageFile::write_many` of 256 pages", move || {
            rate(turn, bytes, || {
                number_from(next(&mut at), &mut wave);
                Ok(pages.write_many(&mut wave)?)
            })
        })
        .over(0, 0.95),
    );
    if let Some(peer) = peer {
        let mut at = 0;
        let run = move || {
            rate(turn, bytes, || {
                let first = next(&mut at);
                (first..first + WAVE).try_for_each(|id| peer.write(id))
            })
        };
        contenders.push(Contender::new("page-db, 256 times `write_page`", run).over(0, 0.0));
    }
    contest("Sequential writes of 1 MiB of pages", "GB/s", args.rounds, &mut contenders)
}
