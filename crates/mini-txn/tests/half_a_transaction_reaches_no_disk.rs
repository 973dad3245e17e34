//! Prevents: changes that no log describes in the data file, after a mini-transaction that was dropped half way (P11, R5).

mod support;

use pagestone_allocator::SetBits;
use pagestone_mini_txn::Reserve;
use pagestone_page_format::{PageError, PageId, PageStore};

use support::environment;

#[test]
fn dropped_changes_poison_and_are_not_written() {
    let (store, env) = environment();
    env.pool().checkpoint().expect("written");
    let map_page = PageId::new(0);
    let mut before = store.allocate_page(map_page);
    store.read_into(map_page, &mut before).expect("written");
    let mut txn = env.begin(Reserve { log_bytes: 256, pins: 1, ..Reserve::default() }).expect("begins");
    let page = env.pool().fault(map_page).expect("resident").exclusive().expect("latched");
    // Make it dirty under the log first, so that eviction would want it.
    let handle = txn.latch(page);
    txn.change(handle, &SetBits { first: PageId::new(5), count: 1 }).expect("free bits");
    txn.commit().expect("committed");
    let mut txn = env.begin(Reserve { log_bytes: 256, pins: 1, ..Reserve::default() }).expect("begins");
    let handle = txn.latch(env.pool().fault(map_page).expect("resident").exclusive().expect("latched"));
    txn.change(handle, &SetBits { first: PageId::new(9), count: 1 }).expect("free bits");
    drop(txn); // half way
    assert!(matches!(env.pool().flush_all(), Err(PageError::Poisoned { .. })));
    assert!(matches!(env.begin(Reserve::default()), Err(PageError::Poisoned { .. })));
    let mut after = store.allocate_page(map_page);
    store.read_into(map_page, &mut after).expect("still whole");
    assert_eq!(before.bytes(), after.bytes(), "P11: what no log describes stays in memory");
}

#[test]
fn dropped_transaction_without_changes_is_free_and_gives_its_ids_back() {
    let (_store, env) = environment();
    let reserve = Reserve { log_bytes: 256, new_pages: 3, ..Reserve::default() };
    let first = {
        let mut txn = env.begin(reserve).expect("begins");
        let handle = txn.allocate().expect("reserved");
        txn.id(handle)
    };
    let mut txn = env.begin(reserve).expect("not poisoned");
    let handle = txn.allocate().expect("reserved");
    assert_eq!(txn.id(handle), first);
}
