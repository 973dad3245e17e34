//! Prevents: somebody who waits for ever, or goes on, after a transaction died half way, a log or a sync failed (R5, L9, E7, E8).
//!
//! Whoever waits is told, whatever for: a latch, admission, room in the log, a durable LSN, a call back. And the handle stays dead.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use pagestone_allocator::SetBits;
use pagestone_mini_txn::{LoggedPool, MasterRecord, MiniTxn, Reserve};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, ENGINE_OP_KINDS, Lsn, MemoryStore, OpKind, Page, PageError, PageId, PageOp,
    PageResult, PageSize, PageStore, PageWriter, StoreUuid,
};
use pagestone_testkit::{DiskOp, FaultPlan, SimDisk};
use pagestone_wal::WalError;

use support::environment_on;

const MAP: PageId = PageId::new(0);
const EIO: i32 = 5;

/// An operation with a bug.
struct Panics;

impl PageOp for Panics {
    fn kind(&self) -> OpKind {
        *ENGINE_OP_KINDS.start()
    }
    fn apply(&self, _: &PageWriter<'_>) -> PageResult<()> {
        panic!("a bug in an operation");
    }
    fn encode(&self, _: &mut Vec<u8>) {}
}

/// A store whose syncs fail when told to.
#[derive(Debug)]
struct Failing {
    pages: MemoryStore,
    fails: Arc<AtomicBool>,
}

impl PageStore for Failing {
    fn page_size(&self) -> PageSize {
        self.pages.page_size()
    }
    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.pages.read_into(id, page)
    }
    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        self.pages.write_page(page)
    }
    fn sync(&self) -> PageResult<()> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(PageError::io("sync", std::io::Error::from_raw_os_error(EIO))),
            false => self.pages.sync(),
        }
    }
    fn len(&self) -> PageResult<u64> {
        self.pages.len()
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        self.pages.grow(pages)
    }
}

/// A store whose syncs fail once the flag is set.
fn failing() -> (Failing, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    (Failing { pages: MemoryStore::new(DEFAULT_PAGE_SIZE), fails: Arc::clone(&fails) }, fails)
}

/// A transaction with the map page latched.
fn latched<'e>(env: &'e LoggedPool, reserve: Reserve<'_>) -> (MiniTxn<'e>, pagestone_mini_txn::PageHandle) {
    let mut txn = env.begin(reserve).expect("begins");
    let page = env.pool().fault(MAP).expect("resident").exclusive().expect("latched");
    let handle = txn.latch(page);
    (txn, handle)
}

/// A group that is in the log's buffer and not durable.
fn append(env: &LoggedPool, bit: u64) -> Lsn {
    let (mut txn, page) = latched(env, Reserve { log_bytes: 128, pins: 1, ..Reserve::default() });
    txn.change(page, &SetBits { first: PageId::new(bit), count: 1 }).expect("a free bit");
    txn.commit().expect("committed").lsn
}

fn is_poisoned<T>(result: PageResult<T>) -> bool {
    matches!(result, Err(PageError::Poisoned { .. }))
}

/// Nothing goes on: no group, no page, no checkpoint, no promise of the log's.
fn assert_dead(env: &LoggedPool) {
    let cause = env.poison().cause().expect("poisoned");
    assert!(is_poisoned(env.begin(Reserve::default())), "{cause}");
    assert!(is_poisoned(env.begin(Reserve { new_pages: 1, ..Reserve::default() })), "{cause}");
    assert!(is_poisoned(env.pool().flush_all()) || env.pool().dirty_len() == 0, "{cause}");
    assert!(is_poisoned(env.pool().sync()), "{cause}");
    assert!(matches!(env.log().reserve(64), Err(WalError::Poisoned { .. })), "{cause}");
    let mut master =
        MasterRecord::open(&SimDisk::new(1), "/master".as_ref(), StoreUuid::default()).expect("made");
    assert!(is_poisoned(env.checkpoint(&mut master)), "{cause}");
    assert!(is_poisoned(master.publish(env.poison(), Lsn::new(4096), 1)), "{cause}");
    assert_eq!(env.poison().cause().as_deref(), Some(&*cause), "the first cause stays");
}

/// Whether who waited was told of a failure.
type Wait<'a> = Box<dyn FnOnce() -> bool + Send + 'a>;

/// Puts everybody to sleep on what `holder` has, lets it die, and hears what each is told.
fn everybody_is_told(
    env: &LoggedPool,
    dies: impl FnOnce(MiniTxn<'_>, pagestone_mini_txn::PageHandle),
) -> Vec<(&'static str, bool)> {
    let appended = append(env, 40);
    assert!(!env.log().is_lsn_durable(appended), "nobody has asked for it");
    let called = Arc::new(Mutex::new(Vec::new()));
    let call = Arc::clone(&called);
    env.log().on_durable(appended, move |result| call.lock().expect("no panic").push(result.is_err()));

    // Half of the frames, so that nobody else passes the gate; nearly all of the log's room.
    let (room, max) = (env.log().budget() as usize, env.log().max_group_bytes());
    let held: Vec<_> = (0..room / max - 1).map(|_| env.log().reserve(max).expect("room")).collect();
    let gate = Reserve { pins: 4, ..Reserve::default() };
    let room = Reserve { log_bytes: max, pins: 1, ..Reserve::default() };
    let exclusive = || env.pool().fault(MAP).and_then(|pin| pin.exclusive().map(drop)).is_err();
    let shared = || env.pool().fault(MAP).and_then(|pin| pin.shared().map(drop)).is_err();
    let waits: [(&'static str, Wait<'_>); 4] = [
        ("exclusive", Box::new(exclusive)),
        ("shared", Box::new(shared)),
        ("admission", Box::new(move || is_poisoned(env.begin(gate)))),
        ("room in the log", Box::new(move || is_poisoned(env.begin(room)))),
    ];
    let (tell, told) = channel();
    let waits_before = env.log().stats().reserve_waits;
    thread::scope(|scope| {
        let (txn, page) = latched(env, Reserve { log_bytes: max / 2, pins: 8, ..Reserve::default() });
        for (what, wait) in waits {
            let tell = tell.clone();
            scope.spawn(move || tell.send((what, wait())).expect("somebody listens"));
        }
        // Those who can be seen to wait do; who comes to a latch later is told as well.
        while env.log().stats().reserve_waits == waits_before || env.pool().waiting_for_admission() == 0 {
            thread::yield_now();
        }
        dies(txn, page);
    });
    drop(tell);
    let told: Vec<(&'static str, bool)> = told.into_iter().collect();
    assert_eq!(told.len(), 4);
    // The latch of a page is poisoned by a panic; after any other end its bytes are no longer to be built on, which `begin` says.
    for (what, heard) in told.iter().filter(|(what, _)| !["exclusive", "shared"].contains(what)) {
        assert!(heard, "who waited for {what} was not told");
    }
    drop(held);
    assert_dead(env);
    assert!(matches!(env.log().wait_durable(appended), Err(WalError::Poisoned { .. })));
    assert!(matches!(env.log().flush(), Err(WalError::Poisoned { .. })));
    assert_eq!(*called.lock().expect("no panic"), [true], "called back once, with the failure");
    told
}

#[test]
fn a_transaction_that_is_dropped_with_changes() {
    let env = environment_on(SimDisk::new(3), MemoryStore::new(DEFAULT_PAGE_SIZE));
    everybody_is_told(&env, |mut txn, page| {
        txn.change(page, &SetBits { first: PageId::new(50), count: 1 }).expect("a free bit");
        drop(txn);
    });
}

#[test]
fn a_panic_in_an_operation() {
    let env = environment_on(SimDisk::new(3), MemoryStore::new(DEFAULT_PAGE_SIZE));
    let told = everybody_is_told(&env, |mut txn, page| {
        catch_unwind(AssertUnwindSafe(move || txn.change(page, &Panics))).expect_err("it panics");
    });
    assert!(
        told.iter().all(|(_, heard)| *heard),
        "its latch is told as dead to who waited for it (E7): {told:?}"
    );
}

#[test]
fn an_operation_that_does_not_fit_its_page() {
    let env = environment_on(SimDisk::new(3), MemoryStore::new(DEFAULT_PAGE_SIZE));
    everybody_is_told(&env, |mut txn, page| {
        // Bit 40 is in use: the operation changes nothing, and yet nobody can know that of any operation.
        txn.change(page, &SetBits { first: PageId::new(40), count: 1 }).expect_err("not free");
        drop(txn);
    });
}

#[test]
fn a_log_that_fails() {
    for (op, kind) in [(DiskOp::Write, "write"), (DiskOp::Sync, "sync")] {
        let disk = SimDisk::new(4);
        let store = Arc::new(MemoryStore::new(DEFAULT_PAGE_SIZE));
        let env = environment_on(disk.clone(), Arc::clone(&store));
        env.pool().checkpoint().expect("a healthy disk");
        let written = |id| {
            let mut page = store.allocate_page(id);
            store.read_into(id, &mut page).expect("whole");
            page.bytes().to_vec()
        };
        let before = written(MAP);
        let lsns: Vec<Lsn> = (40..48).map(|bit| append(&env, bit)).collect();
        let called = Arc::new(Mutex::new(0));
        for lsn in &lsns {
            let called = Arc::clone(&called);
            env.log().on_durable(*lsn, move |result| {
                assert!(result.is_err());
                *called.lock().expect("no panic") += 1;
            });
        }
        let fault = disk.fail(FaultPlan::errno(EIO).on(op));
        thread::scope(|scope| {
            for lsn in &lsns {
                scope.spawn(|| env.log().wait_durable(*lsn).expect_err("it cannot be durable"));
            }
        });
        assert!(disk.injected(fault) > 0, "no {kind} failed");
        disk.heal();
        assert_eq!(*called.lock().expect("no panic"), lsns.len(), "each is called back once");
        assert!(lsns.iter().all(|lsn| !env.log().is_lsn_durable(*lsn)), "L9: never tried again");
        assert_dead(&env);
        assert_eq!(written(MAP), before, "P11: no page before its log");
    }
}

#[test]
fn a_sync_of_the_data_file_that_fails() {
    let (store, fails) = failing();
    let env = environment_on(SimDisk::new(5), store);
    let appended = append(&env, 40);
    env.log().wait_durable(appended).expect("a healthy disk");
    let mut master =
        MasterRecord::open(&SimDisk::new(1), "/master".as_ref(), StoreUuid::default()).expect("made");
    env.checkpoint(&mut master).expect("a healthy store");
    let published = master.checkpoint();
    let behind = append(&env, 41);
    fails.store(true, Ordering::Relaxed);
    env.checkpoint(&mut master).expect_err("its sync fails");
    fails.store(false, Ordering::Relaxed);
    assert_eq!(master.checkpoint(), published, "nothing is published that no sync has covered");
    assert_dead(&env);
    // What the checkpoint made durable of the log stays so; nothing after it becomes so.
    assert!(env.log().is_lsn_durable(behind));
}
