//! Prevents: writers that stand in a queue for room behind one who has it already and only waits for the disk.
#![cfg(not(loom))]

mod common;

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::{fresh, group, options};
use pagestone_page_format::{PageError, PageResult};
use pagestone_wal::WalOptions;

/// The write barrier of a log stands between sealing a batch and writing it: whoever holds it there holds the leader.
#[test]
fn others_fill_the_next_buffer_while_a_full_one_is_written() {
    let options = WalOptions { buffer_bytes: 32 << 10, full_wait: Duration::from_secs(2), ..options() };
    let (_, wal) = fresh(&options);
    let (reached, leads) = mpsc::channel();
    let (go_on, held) = mpsc::channel::<PageResult<()>>();
    let held = Mutex::new(held);
    wal.set_write_barrier(move || {
        reached.send(()).expect("heard");
        held.lock().expect("no panic").recv().expect("said")
    });
    let wal = Arc::new(wal);
    let append = |wal: &pagestone_wal::Wal, number| {
        let mut group = group((1, number), 3000);
        group.refer_to_data();
        let space = wal.reserve(group.encoded_len())?;
        Ok::<_, pagestone_wal::WalError>(wal.append(space, &mut group).end)
    };
    let writer = {
        let wal = Arc::clone(&wal);
        std::thread::spawn(move || (0..12).map(|number| append(&wal, number)).collect::<Vec<_>>())
    };
    leads.recv().expect("a buffer of 32 KiB does not hold so much");
    let meanwhile = append(&wal, 100).expect("the other buffer has room");
    assert!(!wal.is_lsn_durable(meanwhile), "the leader is held");
    go_on.send(Ok(())).expect("heard");
    let ends = writer.join().expect("no panic");
    assert!(ends.iter().all(Result::is_ok));
    // The same when the write fails: who led is told, and the room is given back.
    let writer = {
        let wal = Arc::clone(&wal);
        std::thread::spawn(move || (20..40).map(|number| append(&wal, number)).find(Result::is_err))
    };
    leads.recv().expect("the other buffer is full");
    append(&wal, 101).expect("the other buffer has room");
    go_on
        .send(Err(PageError::InvalidPageId { page_id: pagestone_page_format::PageId::new(1) }))
        .expect("heard");
    assert!(writer.join().expect("no panic").is_some(), "a failure is told");
    assert!(append(&wal, 102).is_err());
}
