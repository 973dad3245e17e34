//! A resident page fetched by its id: pinned and let go, and pinned and read.
//!
//! Beside it a pool as one would write it in an hour, a map behind a lock with the pages behind locks of their own.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, RwLock};

use pagestone_buffer_pool::BufferPool;
use pagestone_page_format::{DEFAULT_PAGE_SIZE, MemoryStore, PAGE_HEADER_SIZE, PageId, PageStore};

use crate::rounds::{Contender, contest, on_threads};
use crate::{Args, BenchResult, peers};

/// Pages, all of them resident.
const PAGES: u64 = 16_384;

pub(crate) fn run(args: &Args) -> BenchResult<()> {
    let store = MemoryStore::new(DEFAULT_PAGE_SIZE);
    store.grow(PAGES)?;
    let pool = BufferPool::new(store, PAGES as usize + 64);
    for id in 0..PAGES {
        pool.new_page(PageId::new(id))?.write()?.payload_mut()[..8].copy_from_slice(&id.to_le_bytes());
    }
    let map: Map = RwLock::new((0..PAGES).map(|id| (id, Arc::new(RwLock::new(in_front(id))))).collect());
    let peer = peers::Pool::create(&args.dir.join("micro.page-db-pool"), PAGES)?;
    for (threads, goal) in [(1, 3.0), (2, 5.0)] {
        fetch(args, threads, goal, &pool, &map, peer.as_ref())?;
        read(args, threads, &pool, &map, peer.as_ref())?;
    }
    if peer.is_some() {
        std::fs::remove_file(args.dir.join("micro.page-db-pool"))?;
    }
    Ok(())
}

type Map = RwLock<HashMap<u64, Arc<RwLock<Vec<u8>>>>>;

fn in_front(id: u64) -> Vec<u8> {
    let mut page = vec![0; DEFAULT_PAGE_SIZE.get()];
    page[..8].copy_from_slice(&id.to_le_bytes());
    page
}

fn from_map(map: &Map, id: u64) -> BenchResult<Arc<RwLock<Vec<u8>>>> {
    let map = map.read().map_err(|_| "a thread panicked")?;
    Ok(Arc::clone(map.get(&id).ok_or("the map lacks a page")?))
}

fn fetch(
    args: &Args,
    threads: u64,
    goal: f64,
    pool: &BufferPool,
    map: &Map,
    peer: Option<&peers::Pool>,
) -> BenchResult<()> {
    let turn = args.turn();
    let mut contenders = vec![
        Contender::new(
            "`RwLock<HashMap>`",
            on_threads(threads, turn, PAGES, |id| {
                black_box(from_map(map, id)?);
                Ok(())
            }),
        ),
        Contender::new(
            "`BufferPool::fetch`",
            on_threads(threads, turn, PAGES, |id| {
                let page = pool.fetch(PageId::new(id))?;
                check(id, page.id().get())
            }),
        )
        .over(0, 0.0),
    ];
    if let Some(peer) = peer {
        contenders.push(Contender::new(
            "page-db, `fetch`",
            on_threads(threads, turn, PAGES, |id| check(id, peer.fetch(id)?)),
        ));
        let run = |id| check(id, pool.fetch(PageId::new(id))?.id().get());
        contenders
            .push(Contender::new("`BufferPool::fetch`", on_threads(threads, turn, PAGES, run)).over(2, goal));
    }
    let title = format!("Fetch of a resident page by id, {threads} threads");
    contest(&title, "fetches/s", args.rounds, &mut contenders)
}

fn read(
    args: &Args,
    threads: u64,
    pool: &BufferPool,
    map: &Map,
    peer: Option<&peers::Pool>,
) -> BenchResult<()> {
    let turn = args.turn();
    let mut contenders = vec![
        Contender::new(
            "`RwLock<HashMap>`",
            on_threads(threads, turn, PAGES, |id| {
                let page = from_map(map, id)?;
                let page = page.read().map_err(|_| "a thread panicked")?;
                check(id, number(&page)?)
            }),
        ),
        Contender::new(
            "`fault`, `optimistic`, `validate`",
            on_threads(threads, turn, PAGES, |id| {
                let pin = pool.fault(PageId::new(id))?;
                loop {
                    let page = pin.optimistic()?;
                    let found = page.page().word(PAGE_HEADER_SIZE / 8);
                    if page.validate().is_ok() {
                        return check(id, found.map_err(|_| "a page has a word behind its header")?);
                    }
                }
            }),
        )
        .over(0, 0.0),
        Contender::new(
            "`fetch`, `read`: a copy of the page",
            on_threads(threads, turn, PAGES, |id| {
                check(id, number(pool.fetch(PageId::new(id))?.read()?.payload())?)
            }),
        )
        .over(0, 0.0),
    ];
    if let Some(peer) = peer {
        let run = |id| check(id, peer.read(id)?);
        contenders.push(
            Contender::new("page-db, `fetch`, `read`", on_threads(threads, turn, PAGES, run)).over(0, 0.0),
        );
    }
    let title = format!("A word of a resident page read by id, {threads} threads");
    contest(&title, "reads/s", args.rounds, &mut contenders)
}

fn number(bytes: &[u8]) -> BenchResult<u64> {
    Ok(u64::from_le_bytes(*bytes.first_chunk().ok_or("a payload is longer than a number")?))
}

fn check(id: u64, found: u64) -> BenchResult<()> {
    if found == id { Ok(()) } else { Err(format!("page {id} holds the number {found}").into()) }
}
