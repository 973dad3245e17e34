//! A walk from page to page by swips, under optimistic latches: a reader that writes nothing, and whose references mend themselves.
//!
//! It prints:
//!
//! ```text
//! cold: the pages add up to 36, 8 faults, 7 hints mended
//! hot: the pages add up to 36, 0 faults, 0 hints mended
//! evicted: the pages add up to 36, 8 faults
//! a writer came between the look and the validation: Conflict
//! looked again: page 1 holds 101
//! ```
#![forbid(unsafe_code)]

use pagestone::page_format::{PageKind, SwipArray};
use pagestone::pool::{Pin, Restart};
use pagestone::{BufferPool, Lsn, MemoryStore, PAGE_HEADER_SIZE, PageId, PageResult, SwipWord};
use pagestone::{DEFAULT_PAGE_SIZE, PageStore};

const VALUE: usize = PAGE_HEADER_SIZE / 8; // word of a page where its number stands
const NEXT: usize = VALUE + 1; // and the swip of the page behind it, of page 0 for none

/// One way along the chain, or why it must be taken again. Nothing that it read is believed before the page it was read from is
/// validated, and no child before its holder (P7).
fn walk(pool: &BufferPool, first: SwipWord, mended: &mut u64) -> Result<u64, Restart> {
    let mut page = pool.resolve(first)?; // a hint in the word is a guess: the frame's header decides
    let mut sum = 0;
    loop {
        let value = page.page().word(VALUE).map_err(|_| Restart::Conflict)?;
        let raw = page.page().word(NEXT).map_err(|_| Restart::Conflict)?;
        page.validate()?;
        sum += value;
        let swip = SwipWord::from_raw(raw);
        if swip.page_id() == PageId::new(0) {
            return Ok(sum);
        }
        let next = pool.resolve(swip)?;
        page.validate()?;
        if swip.hint() != Some(next.frame()) {
            page.repair_hint(NEXT, swip, next.frame()); // the page is no dirtier and no reader restarts for it (P5)
            *mended += 1;
        }
        page = next;
    }
}

/// Owns the retries: what needs I/O is done here, with no latch held, and the step is taken again with the page pinned.
fn retry(pool: &BufferPool, first: SwipWord) -> PageResult<(u64, u64, u64)> {
    let (mut faults, mut mended, mut pinned): (u64, u64, Option<Pin<'_>>) = (0, 0, None);
    loop {
        match walk(pool, first, &mut mended) {
            Ok(sum) => return Ok((sum, faults, mended)),
            Err(Restart::Conflict) => {}
            Err(Restart::Fault(id)) => {
                drop(pinned.take());
                pinned = Some(pool.fault(id)?);
                faults += 1;
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = MemoryStore::new(DEFAULT_PAGE_SIZE);
    store.grow(9)?;
    let pool = BufferPool::new(store, 16);
    for id in 1..=8 {
        let pin = pool.adopt(PageId::new(id), PageKind(200))?;
        let page = pin.exclusive()?;
        page.writer().set_swips(SwipArray { at_word: NEXT as u16, count: 1 })?; // their hints never reach the file
        page.writer().put_word(VALUE, id)?;
        let next = PageId::new(if id < 8 { id + 1 } else { 0 });
        page.writer().put_word(NEXT, SwipWord::new(next)?.raw())?;
        page.publish(Lsn::ZERO, Lsn::ZERO); // dirty from here on
    }
    pool.drop_cache()?;

    let first = SwipWord::new(PageId::new(1))?;
    let (sum, faults, mended) = retry(&pool, first)?;
    println!("cold: the pages add up to {sum}, {faults} faults, {mended} hints mended");
    let (sum, faults, mended) = retry(&pool, first)?;
    println!("hot: the pages add up to {sum}, {faults} faults, {mended} hints mended");
    pool.drop_cache()?; // no page that refers to them is visited
    let (sum, faults, _) = retry(&pool, first)?;
    println!("evicted: the pages add up to {sum}, {faults} faults");

    let pin = pool.fault(PageId::new(1))?;
    let looked = pin.optimistic()?;
    let page = pin.exclusive()?;
    page.writer().put_word(VALUE, 101)?;
    page.publish(Lsn::ZERO, Lsn::ZERO);
    drop(page);
    if let Err(restart) = looked.validate() {
        println!("a writer came between the look and the validation: {restart:?}");
    }
    let looked = pin.optimistic()?;
    let value = looked.page().word(VALUE)?;
    looked.validate().map_err(|restart| format!("{restart:?}, and nobody else is here"))?;
    println!("looked again: page 1 holds {value}");
    Ok(())
}
