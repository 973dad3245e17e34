//! Puts a second, one by one and in batches of 100, over one tree that fits the pool: Relaxed, in a directory of its own.
//!
//! `cargo run --release -p pagestone-store --example batch_rate`

use std::time::{Duration, Instant};

use pagestone_store::{Durability, Options, Store, StoreResult};

const PUTS: u64 = 400_000;
const BATCH: u64 = 100;
const ROUNDS: usize = 3;

fn main() -> StoreResult<()> {
    for round in 1..=ROUNDS {
        let rates = [sequential, scattered].map(|key| (one_by_one(key), in_batches(key)));
        for (order, (single, batched)) in ["in key order", "scattered"].into_iter().zip(rates) {
            let (single, batched) = (rate(single?), rate(batched?));
            println!("round {round}, {order}: single {single:.0}/s, batches of {BATCH} {batched:.0}/s");
        }
    }
    Ok(())
}

fn sequential(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn scattered(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn rate(took: Duration) -> f64 {
    PUTS as f64 / took.as_secs_f64()
}

fn store(run: impl FnOnce(&Store) -> StoreResult<()>) -> StoreResult<Duration> {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { durability: Durability::RELAXED, ..Options::default() };
    let store = Store::open(dir.path().join("store"), options)?;
    let began = Instant::now();
    run(&store)?;
    let took = began.elapsed();
    assert_eq!(store.default_tree().len()?, PUTS);
    Ok(took)
}

fn one_by_one(key: fn(u64) -> [u8; 8]) -> StoreResult<Duration> {
    store(|store| {
        let tree = store.default_tree();
        for number in 0..PUTS {
            tree.put(&key(number), &[7; 100])?;
        }
        Ok(())
    })
}

fn in_batches(key: fn(u64) -> [u8; 8]) -> StoreResult<Duration> {
    store(|store| {
        let tree = store.default_tree();
        let mut batch = store.batch();
        for number in 0..PUTS {
            batch.put(&tree, &key(number), &[7; 100])?;
            if batch.len() as u64 == BATCH {
                batch.commit()?;
            }
        }
        Ok(())
    })
}
