//! A heap file on all the layers: written, crashed, recovered, checkpointed. `src/heap/` is the engine.
//!
//! It prints:
//!
//! ```text
//! 300 records of 100 bytes stand on 9 pages
//! record 0 outgrew page 1 and moved to page 10
//! crash: 303 groups replayed, 301 records found, record 0 with 3900 bytes
//! 150 deleted, 3 pages without records freed
//! checkpoint, then a crash: 0 groups replayed, 151 records found
//! ```
#![forbid(unsafe_code)]

use pagestone_layers_examples::heap::{HeapFile, HeapOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path().join("heap");
    let heap = HeapFile::open(&dir, &HeapOptions::default())?;
    let mut ids = Vec::new();
    for number in 0..300 {
        ids.push(heap.insert(&[number as u8; 100])?); // durable when it returns
    }
    println!("{} records of 100 bytes stand on {} pages", ids.len(), heap.pages()?.len());

    let moved = heap.update(ids[0], &[7; 3900])?.expect("it is there");
    println!("record 0 outgrew page {} and moved to page {}", ids[0].page, moved.page);
    heap.insert(b"the last one")?;

    drop(heap); // no checkpoint, nothing flushed: what a crash leaves
    let heap = HeapFile::open(&dir, &HeapOptions::default())?;
    let (groups, found) = (heap.opened().groups, heap.scan()?.len());
    let len = heap.get(moved)?.expect("it is there").len();
    println!("crash: {groups} groups replayed, {found} records found, record 0 with {len} bytes");

    for id in &ids[1..151] {
        assert!(heap.delete(*id)?);
    }
    println!("150 deleted, {} pages without records freed", heap.vacuum()?);

    heap.checkpoint()?;
    drop(heap);
    let heap = HeapFile::open(&dir, &HeapOptions::default())?;
    let (groups, found) = (heap.opened().groups, heap.scan()?.len());
    println!("checkpoint, then a crash: {groups} groups replayed, {found} records found");
    Ok(())
}
