//! Full scans with everything in memory.
//!
//! A cursor of pagestone, LMDB, the map and redb lend what they give. `memcpy` copies as many bytes as the rows have, from memory that it
//! did not touch in between to memory of its own.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::RwLock;
use std::time::{Duration, Instant};

use pagestone::store::Tree;

use super::{Args, Direction, Row, Seen, bulk_load, open, quartiles, ratio};
use crate::BenchResult;
use crate::peers::{self, Peer};

/// Bytes of the pool for a row: the row in leaves that are full, and a little.
const ROW_BYTES: u64 = 150;

/// One side: its name, its scan, and what each whole scan took in each turn.
struct Side<'a> {
    name: &'a str,
    scan: Box<dyn Fn(Direction) -> BenchResult<Seen> + 'a>,
    took: Vec<Duration>,
}

impl<'a> Side<'a> {
    fn new(name: &'a str, scan: impl Fn(Direction) -> BenchResult<Seen> + 'a) -> Self {
        Self { name, scan: Box::new(scan), took: Vec::new() }
    }
}

const MEMCPY: &str = "`memcpy` of as many bytes";
const LMDB: &str = "LMDB (heed)";

pub(super) fn run(args: &Args, rows: &[Row]) -> BenchResult<()> {
    let store = open(&args.dir.join("resident"), args.rows * ROW_BYTES + (64 << 20))?;
    bulk_load(&store, rows)?;
    let tree = store.default_tree();
    let mut all = Seen::new(Direction::Forward);
    rows.iter().for_each(|(key, value)| all.see(key, value));
    let map: RwLock<BTreeMap<Vec<u8>, Vec<u8>>> = RwLock::default();
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    if !args.alone {
        map.write()
            .map_err(|_| "a thread panicked")?
            .extend(rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        peers = peers::create(&args.dir)?;
        peers.retain(|peer| ["LMDB (heed)", "redb"].contains(&peer.name()));
        for peer in &peers {
            peer.fill(&mut rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())))?;
        }
    }
    let (from, to) = (vec![1_u8; all.bytes() as usize], RwLock::new(vec![0_u8; all.bytes() as usize]));
    let mut sides = vec![
        Side::new("**pagestone**, cursor", |direction| by_cursor(&tree, direction)),
        Side::new("pagestone, iterator that owns", |direction| by_iterator(&tree, direction)),
        Side::new(MEMCPY, |_| {
            let mut to = to.write().map_err(|_| "a thread panicked")?;
            to.copy_from_slice(black_box(&from));
            black_box(&mut *to);
            Ok(all)
        }),
    ];
    if !args.alone {
        sides.push(Side::new("`RwLock<BTreeMap>`", |direction| by_map(&map, direction)));
    }
    for peer in &peers {
        sides.push(Side::new(peer.name(), |direction| {
            peer.scan(direction)?.ok_or_else(|| "this store is not scanned".into())
        }));
    }
    let before = store.stats()?.pool;
    let mut misses_before = None;
    for direction in [Direction::Forward, Direction::Backward] {
        sides.iter_mut().for_each(|side| side.took.clear());
        // The first round warms up.
        for round in 0..=args.rounds {
            for place in 0..sides.len() {
                let place = (place + round) % sides.len();
                let side = &mut sides[place];
                let (began, mut scans) = (Instant::now(), 0);
                while scans == 0 || began.elapsed() < Duration::from_millis(args.turn_ms) {
                    (side.scan)(direction)?.check(&all)?;
                    scans += 1;
                }
                if round > 0 {
                    side.took.push(began.elapsed() / scans);
                }
            }
            misses_before.get_or_insert(store.stats()?.pool.misses);
        }
        print(direction, &sides, &all);
    }
    let misses = store.stats()?.pool.misses - misses_before.unwrap_or(before.misses);
    if misses > 0 {
        return Err(format!("{misses} pages were not resident").into());
    }
    drop(sides);
    Ok(store.close()?)
}

fn print(direction: Direction, sides: &[Side<'_>], all: &Seen) {
    println!("\n### Resident, {direction:?}\n");
    println!("| | M rows/s | user GB/s | user bytes over `memcpy` | rows over LMDB |\n|---|---|---|---|---|");
    let of = |name: &str| sides.iter().find(|side| side.name == name);
    for side in sides {
        let per_second =
            |count: u64| quartiles(side.took.iter().map(|took| count as f64 / took.as_secs_f64()));
        let [low, rows, high] = per_second(all.rows()).map(|rate| rate / 1e6);
        let against = |name: &str, goal: f64| match of(name).filter(|_| side.name.starts_with("**")) {
            Some(other) => ratio(super::over(&other.took, &side.took), goal),
            None => String::new(),
        };
        println!(
            "| {} | {rows:.1} [{low:.1} to {high:.1}] | {:.2} | {} | {} |",
            side.name,
            per_second(all.bytes())[1] / 1e9,
            against(MEMCPY, 0.35),
            against(LMDB, 1.5)
        );
    }
}

/// What a cursor lends.
pub(super) fn by_cursor(tree: &Tree, direction: Direction) -> BenchResult<Seen> {
    let (mut cursor, mut seen) = (tree.cursor(), Seen::new(direction));
    match direction {
        Direction::Forward => {
            while let Some((key, value)) = cursor.next()? {
                seen.see(key, value);
            }
        }
        Direction::Backward => {
            cursor.seek_last()?;
            while let Some((key, value)) = cursor.prev()? {
                seen.see(key, value);
            }
        }
    }
    Ok(seen)
}

fn by_iterator(tree: &Tree, direction: Direction) -> BenchResult<Seen> {
    let (mut range, mut seen) = (tree.range::<&[u8]>(..), Seen::new(direction));
    let mut step = || if direction == Direction::Forward { range.next() } else { range.next_back() };
    while let Some(entry) = step() {
        let (key, value) = entry?;
        seen.see(&key, &value);
    }
    Ok(seen)
}

fn by_map(map: &RwLock<BTreeMap<Vec<u8>, Vec<u8>>>, direction: Direction) -> BenchResult<Seen> {
    let (map, mut seen) = (map.read().map_err(|_| "a thread panicked")?, Seen::new(direction));
    match direction {
        Direction::Forward => map.iter().for_each(|(key, value)| seen.see(key, value)),
        Direction::Backward => map.iter().rev().for_each(|(key, value)| seen.see(key, value)),
    }
    Ok(seen)
}
