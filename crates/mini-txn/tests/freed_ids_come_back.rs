//! Prevents: an id that is used again before the group that freed it is in the log, or never again, or freed twice (L8).

mod support;

use pagestone_allocator::MapSource;
use pagestone_mini_txn::{LoggedPool, Reserve};
use pagestone_page_format::{PageError, PageId, PageKind, PageOp, PageResult, PageWriter};

use support::environment;

/// Makes a page an empty one.
struct Format(PageId);

impl PageOp for Format {
    fn kind(&self) -> u16 {
        0x7000
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        page.format(PageKind::PLAIN, self.0);
        Ok(())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.get().to_le_bytes());
    }
}

fn take(env: &LoggedPool, pages: usize) -> Vec<PageId> {
    let reserve = Reserve { log_bytes: 64 * pages, new_pages: pages, ..Reserve::default() };
    let mut txn = env.begin(reserve).expect("begins");
    let mut ids = Vec::new();
    for _ in 0..pages {
        let handle = txn.allocate().expect("reserved");
        ids.push(txn.id(handle));
        txn.change(handle, &Format(txn.id(handle))).expect("formats");
    }
    txn.commit().expect("committed");
    ids
}

fn is_allocated(env: &LoggedPool, id: PageId) -> bool {
    let bits = env.load_region(0).expect("readable").expect("formatted");
    bits.is_allocated(id).expect("of this region")
}

#[test]
fn freed_run_is_free_after_the_commit_and_taken_lowest_first() {
    let (_store, env) = environment();
    let ids = take(&env, 5);
    let frees = [(ids[1], 3)];
    let mut txn = env.begin(Reserve { frees: &frees, ..Reserve::default() }).expect("begins");
    txn.free(ids[1], 2).expect("a part of what was reserved");
    assert!(is_allocated(&env, ids[1]), "not before the commit");
    let others = take(&env, 1);
    assert!(!ids.contains(&others[0]), "L8: nobody gets it before the group that freed it is in the log");
    txn.commit().expect("committed");
    assert!(!is_allocated(&env, ids[1]) && !is_allocated(&env, ids[2]) && is_allocated(&env, ids[3]));
    assert_eq!(take(&env, 2), ids[1..3]);
}

#[test]
fn dropped_free_changes_nothing_but_the_handle() {
    let (_store, env) = environment();
    let ids = take(&env, 2);
    let frees = [(ids[0], 1)];
    drop(env.begin(Reserve { frees: &frees, ..Reserve::default() }).expect("begins"));
    assert!(is_allocated(&env, ids[0]));
    let mut txn = env.begin(Reserve { frees: &frees, ..Reserve::default() }).expect("not poisoned");
    txn.free(ids[0], 1).expect("in use");
    drop(txn);
    assert!(is_allocated(&env, ids[0]));
    assert!(matches!(env.begin(Reserve::default()), Err(PageError::Poisoned { .. })));
}

#[test]
fn wrong_frees_are_refused_before_anything_changes() {
    let (_store, env) = environment();
    let ids = take(&env, 2);
    let frees = [(ids[0], 1)];
    let mut txn = env.begin(Reserve { frees: &frees, ..Reserve::default() }).expect("begins");
    assert!(matches!(txn.free(PageId::new(0), 1), Err(PageError::InvalidPageId { .. })), "a map page");
    assert!(matches!(txn.free(PageId::new(40_000), 1), Err(PageError::Malformed { .. })), "not reserved");
    assert!(!txn.is_changed());
    txn.free(ids[0], 1).expect("in use");
    assert!(matches!(txn.free(ids[0], 1), Err(PageError::AllocationState { .. })), "twice");
    txn.commit().expect("committed");
    let mut txn = env.begin(Reserve { frees: &frees, ..Reserve::default() }).expect("begins");
    assert!(matches!(txn.free(ids[0], 1), Err(PageError::AllocationState { .. })), "free already");
    drop(txn);
    assert_eq!(take(&env, 1), ids[..1]);
}
