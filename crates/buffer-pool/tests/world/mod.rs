//! The world of a model: the production pool with two frames over a storage and a log in memory that check what is done to them.
//!
//! Pages are eight words; the two behind the header are the page's content. What storage remembers is no part of the model; one
//! atomic lets other threads run at the beginning and at the end of each I/O.
#![allow(dead_code, reason = "each file of models uses its part")]

use std::collections::BTreeSet;
use std::ptr::fn_addr_eq;
use std::sync::{Arc, Mutex, PoisonError};

use pagestone_buffer_pool::{BufferPool, Pin, PoolOptions, Restart};
use pagestone_page_format::{
    Lsn, Page, PageError, PageHeader, PageId, PageKind, PageResult, PageSize, PageStore, PageWriter,
    SpeculativePage, WriteAhead,
};
use pagestone_swip::SwipWord;
use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::checking::DEADLOCK;
use pagestone_sync::{checking, thread};

/// The words behind the header.
pub(crate) type Content = [u64; 2];

/// Their indices.
pub(crate) const FIRST: usize = 4;
pub(crate) const SECOND: usize = 5;

pub(crate) struct World {
    pub(crate) pool: BufferPool,
    pub(crate) storage: Arc<Storage>,
}

#[derive(Debug)]
pub(crate) struct Storage {
    io: AtomicU64,
    /// The end of the durable log.
    durable: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    contents: Vec<Content>,
    reads: u64,
    failing_reads: u64,
    failing_writes: u64,
}

impl World {
    /// A pool of two frames over pages of such contents.
    pub(crate) fn new<const N: usize>(contents: [Content; N]) -> Self {
        Self::with_frames(2, contents)
    }

    /// A pool of so many frames.
    pub(crate) fn with_frames<const N: usize>(frames: usize, contents: [Content; N]) -> Self {
        let state = State { contents: contents.to_vec(), reads: 0, failing_reads: 0, failing_writes: 0 };
        let storage =
            Arc::new(Storage { io: AtomicU64::new(0), durable: AtomicU64::new(0), state: Mutex::new(state) });
        let log = Arc::clone(&storage) as Arc<dyn WriteAhead>;
        let options = PoolOptions { log: Some(log), ..PoolOptions::new(frames) };
        let pool = BufferPool::with_options(Box::new(Arc::clone(&storage)), options);
        Self { pool: pool.expect("a small pool"), storage }
    }

    /// Brings pages in and lets them be.
    pub(crate) fn resident(self, ids: &[u64]) -> Self {
        ids.iter().for_each(|id| drop(self.fault(*id)));
        self
    }

    pub(crate) fn fault(&self, id: u64) -> Pin<'_> {
        self.pool.fault(PageId::new(id)).expect("storage is healthy")
    }

    /// A swip of the page with a hint, if it is resident.
    pub(crate) fn swip(&self, id: u64) -> SwipWord {
        let swip = cold(id);
        self.pool.frame_of(PageId::new(id)).map_or(swip, |frame| swip.with_hint(frame))
    }

    /// Writes both words under the exclusive latch, as the group `[end - 1, end)`.
    pub(crate) fn change(&self, id: u64, content: Content, end: u64) {
        let pin = self.fault(id);
        let page = pin.exclusive().expect("nobody panics");
        put(&page.writer(), content);
        page.publish(Lsn::new(end - 1), Lsn::new(end));
    }

    /// What a reader who follows `swip` believes to have seen, if anything.
    pub(crate) fn believed(&self, swip: SwipWord) -> Result<Content, Restart> {
        let page = self.pool.resolve(swip)?;
        let seen = look(page.page());
        page.validate().map(|()| seen)
    }
}

/// Runs the bodies beside each other over what `setup` gives, started in every order, in every interleaving that the bound allows;
/// `after` looks at what they leave. Every order, because loom remembers one last access of an object: who loads a word before it
/// stores to it hides the earlier loads of others.
pub(crate) fn beside<const N: usize>(
    preemptions: usize,
    setup: fn() -> World,
    bodies: [fn(&World); N],
    after: fn(&World),
) {
    let kind = |body: &usize| bodies.iter().position(|other| fn_addr_eq(*other, bodies[*body]));
    let mut tried = BTreeSet::new();
    for order in orders(N) {
        if !tried.insert(order.iter().map(kind).collect::<Vec<_>>()) {
            continue;
        }
        checking::explore(preemptions, move || {
            let world = Arc::new(setup());
            let threads: Vec<_> = order
                .iter()
                .map(|&body| {
                    let world = Arc::clone(&world);
                    thread::spawn(move || bodies[body](&world))
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            after(&world);
        });
    }
}

/// Every order of the numbers below `len`.
fn orders(len: usize) -> Vec<Vec<usize>> {
    (0..len).fold(vec![vec![]], |orders, next| {
        let insert = |order: &Vec<usize>, at| [&order[..at], &[next], &order[at..]].concat();
        orders.iter().flat_map(|order| (0..=order.len()).map(move |at| insert(order, at))).collect()
    })
}

impl Storage {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn let_others_run(&self) {
        self.io.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn fail_reads(&self, number: u64) {
        self.state().failing_reads = number;
    }

    pub(crate) fn fail_writes(&self, number: u64) {
        self.state().failing_writes = number;
    }

    pub(crate) fn reads(&self) -> u64 {
        self.state().reads
    }

    pub(crate) fn content(&self, id: u64) -> Content {
        self.state().contents[id as usize]
    }

    /// Writes past the pool.
    pub(crate) fn write_past(&self, id: u64, content: Content) {
        self.let_others_run();
        self.state().contents[id as usize] = content;
        self.let_others_run();
    }
}

impl PageStore for Storage {
    fn page_size(&self) -> PageSize {
        PageSize::new(64).expect("a page of a model")
    }

    fn read_into(&self, id: PageId, page: &mut Page) -> PageResult<()> {
        self.let_others_run();
        let mut state = self.state();
        state.reads += 1;
        if state.failing_reads > 0 {
            state.failing_reads -= 1;
            drop(state);
            self.let_others_run();
            return Err(PageError::BadMagic { page_id: id, found: 0, expected: 1 });
        }
        let content = state.contents[id.get() as usize];
        drop(state);
        page.bytes_mut().fill(0);
        PageHeader::new(PageKind::PLAIN, id).encode(page.bytes_mut());
        for (word, value) in [(FIRST, content[0]), (SECOND, content[1])] {
            page.bytes_mut()[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
        self.let_others_run();
        Ok(())
    }

    fn write_page(&self, page: &mut Page) -> PageResult<()> {
        let durable = Lsn::new(self.durable.load(Ordering::Relaxed));
        assert!(page.lsn() <= durable, "P11: a page goes out before its log");
        let word = |word: usize| {
            u64::from_le_bytes(page.bytes()[word * 8..word * 8 + 8].try_into().expect("eight bytes"))
        };
        let content = [word(FIRST), word(SECOND)];
        assert_eq!(content[0], content[1], "L4: a torn page goes out");
        self.let_others_run();
        let mut state = self.state();
        if state.failing_writes > 0 {
            state.failing_writes -= 1;
            return Err(PageError::NoSpace { needed: 64 });
        }
        state.contents[page.id().get() as usize] = content;
        drop(state);
        self.let_others_run();
        Ok(())
    }

    fn sync(&self) -> PageResult<()> {
        Ok(())
    }

    fn len(&self) -> PageResult<u64> {
        Ok(self.state().contents.len() as u64)
    }

    fn grow(&self, _: u64) -> PageResult<()> {
        Ok(())
    }
}

impl WriteAhead for Storage {
    fn durable_lsn(&self) -> Lsn {
        Lsn::new(self.durable.load(Ordering::Acquire))
    }

    fn ensure_durable(&self, lsn: Lsn) -> PageResult<()> {
        self.durable.fetch_max(lsn.get(), Ordering::Release);
        Ok(())
    }
}

pub(crate) fn cold(id: u64) -> SwipWord {
    SwipWord::new(PageId::new(id)).expect("in range")
}

pub(crate) fn put(page: &PageWriter<'_>, content: Content) {
    page.put_word(FIRST, content[0]).expect("a word of the page");
    page.put_word(SECOND, content[1]).expect("a word of the page");
}

pub(crate) fn look(page: SpeculativePage<'_>) -> Content {
    [FIRST, SECOND].map(|word| page.word(word).expect("a word of the page"))
}

/// The content of a pinned page that nobody changes now.
pub(crate) fn under(pin: &Pin<'_>) -> Content {
    look(pin.optimistic().expect("nobody panics").page())
}

pub(crate) const PAGES: [Content; 3] = [[100; 2], [200; 2], [300; 2]];
pub(crate) const ID: PageId = PageId::new(0);

pub(crate) const ASLEEP: &[&str] = &[DEADLOCK];
/// How loom says that an execution does not end.
pub(crate) const NO_END: &str = "exceeded maximum number of branches";

/// Two pages fill the pool; both came in just now and go first.
pub(crate) fn full() -> World {
    World::new(PAGES).resident(&[0, 1])
}

/// One page, changed, with a change that storage lacks.
pub(crate) fn dirty() -> World {
    let world = World::new(PAGES).resident(&[0]);
    world.change(0, [101; 2], 20);
    world
}

pub(crate) fn at_rest(world: &World) {
    world.pool.assert_at_rest();
    world.pool.assert_residency(3);
}

pub(crate) fn fault_another(world: &World) {
    drop(world.fault(2));
}

pub(crate) fn flush(world: &World) {
    world.pool.flush(ID).expect("storage is healthy");
}

pub(crate) fn fault_if_possible(world: &World) {
    if let Ok(pin) = world.pool.fault(ID) {
        assert_eq!(under(&pin), PAGES[0]);
    }
}
