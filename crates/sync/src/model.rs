//! The model half: the same names over loom, which explores the interleavings of the C11 memory model; or, with `--cfg shuttle` beside
//! `--cfg loom`, over shuttle, which tries some of many more, at random and sequentially consistent.

#[cfg(not(shuttle))]
use loom as checker;
#[cfg(shuttle)]
use shuttle as checker;

pub use checker::sync::Arc;

/// Atomic integers and fences.
pub mod atomic {
    pub use super::checker::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

    /// A SeqCst fence right behind an atomic read-modify-write of the same thread, and nowhere else.
    pub fn fence_after_rmw() {
        fence(Ordering::SeqCst);
    }
}

/// Hints to the processor.
pub mod hint {
    /// A spinning thread lets the model run another one, else it would spin for ever.
    pub fn spin_loop() {
        super::checker::thread::yield_now();
    }

    /// A model has no caches.
    pub fn prefetch(_: &super::atomic::AtomicU64) {}
}

/// Threads.
pub mod thread {
    pub use super::checker::thread::{Builder, JoinHandle, spawn, yield_now};

    /// A number of the calling thread that no other thread of the model has, the same in every execution.
    pub fn place() -> usize {
        let id = format!("{:?}", super::checker::thread::current().id());
        id.bytes().filter(u8::is_ascii_digit).fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
    }
}

/// A mutual exclusion lock without poisoning.
#[derive(Debug, Default)]
pub struct Mutex<T>(checker::sync::Mutex<T>);

/// Holds a [`Mutex`] until dropped.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    guard: checker::sync::MutexGuard<'a, T>,
    mutex: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(checker::sync::Mutex::new(value))
    }

    /// Waits for the lock and takes it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let guard = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        MutexGuard { guard, mutex: self }
    }

    /// Takes the lock if nobody holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|guard| MutexGuard { guard, mutex: self })
    }

    /// Gives the value back.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<T> std::ops::Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A lock for what takes some nanoseconds; how it waits is a matter of `platform.rs` alone.
#[derive(Debug, Default)]
pub struct BriefMutex<T>(Mutex<T>);

/// Holds a [`BriefMutex`] until dropped.
pub type BriefGuard<'a, T> = MutexGuard<'a, T>;

impl<T> BriefMutex<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits for the lock and takes it.
    pub fn lock(&self) -> BriefGuard<'_, T> {
        self.0.lock()
    }

    /// Waits for the lock and takes it.
    pub fn hold(&self) -> BriefGuard<'_, T> {
        self.0.lock()
    }
}

/// A lock that many share or one has, without poisoning: as [`Mutex`].
#[derive(Debug, Default)]
pub struct RwLock<T>(checker::sync::RwLock<T>);

/// Shares a [`RwLock`] until dropped.
#[derive(Debug)]
pub struct RwLockReadGuard<'a, T>(checker::sync::RwLockReadGuard<'a, T>);

/// Has a [`RwLock`] alone until dropped.
#[derive(Debug)]
pub struct RwLockWriteGuard<'a, T>(checker::sync::RwLockWriteGuard<'a, T>);

impl<T> RwLock<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(checker::sync::RwLock::new(value))
    }

    /// Waits until nobody has it alone, and shares it.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard(self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Waits until nobody has it, and takes it alone.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard(self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Gives the value back.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<T> std::ops::Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> std::ops::Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> std::ops::DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// A condition variable for [`Mutex`].
#[derive(Debug, Default)]
pub struct Condvar(checker::sync::Condvar);

impl Condvar {
    /// A condition variable that nobody waits on.
    pub fn new() -> Self {
        Self(checker::sync::Condvar::new())
    }

    /// Releases the lock, waits for a notification, takes the lock again.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let MutexGuard { guard, mutex } = guard;
        let guard = self.0.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
        MutexGuard { guard, mutex }
    }

    /// As [`Condvar::wait`]; a model has no clock, so the time never runs out.
    pub fn wait_for<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _limit: std::time::Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        (self.wait(guard), false)
    }

    /// As [`Condvar::wait_for`], for waits that look again soon by themselves: in a model the time runs out at once.
    pub fn wait_briefly<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _limit: std::time::Duration,
    ) -> MutexGuard<'a, T> {
        let mutex = guard.mutex;
        drop(guard);
        checker::thread::yield_now();
        mutex.lock()
    }

    /// Wakes one waiter.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes every waiter.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A bounded queue for many producers and many consumers.
#[derive(Debug)]
pub struct Queue<T> {
    capacity: usize,
    values: Mutex<std::collections::VecDeque<T>>,
}

impl<T> Queue<T> {
    /// An empty queue for `capacity` values; `capacity` must not be zero.
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a queue holds at least one value");
        Self { capacity, values: Mutex::new(std::collections::VecDeque::new()) }
    }

    /// Appends a value, or gives it back when the queue is full.
    pub fn push(&self, value: T) -> Result<(), T> {
        let mut values = self.values.lock();
        if values.len() == self.capacity {
            return Err(value);
        }
        values.push_back(value);
        Ok(())
    }

    /// Takes the oldest value.
    pub fn pop(&self) -> Option<T> {
        self.values.lock().pop_front()
    }

    /// How many values it holds now.
    pub fn len(&self) -> usize {
        self.values.lock().len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Waiting on an atomic word. Who sleeps really sleeps, until somebody wakes that very word: a lost wake-up is a deadlock, which
/// the model reports.
pub mod parking {
    use std::collections::BTreeMap;
    use std::sync::Arc; // of what the model has no business with

    use super::atomic::AtomicU64;
    use super::{Condvar, Mutex, checker};

    /// Who sleeps on which word, by its address.
    type Lot = Mutex<BTreeMap<usize, Arc<Condvar>>>;

    checker::lazy_static! {
        static ref LOT: Lot = Mutex::new(BTreeMap::new());
    }

    checker::thread_local! {
        static WAKE_UPS: std::cell::Cell<u64> = std::cell::Cell::new(0);
    }

    /// Sleeps until [`unpark_all`] is called on the same word, unless `still_blocked` says no under the lot's lock.
    pub fn park(word: &AtomicU64, still_blocked: impl Fn() -> bool) {
        let mut lot = LOT.lock();
        if still_blocked() {
            let woken = Arc::clone(lot.entry(address(word)).or_insert_with(|| Arc::new(Condvar::new())));
            drop(woken.wait(lot));
            WAKE_UPS.with(|count| count.set(count.get() + 1));
        }
    }

    /// Wakes everyone who is parked on this word.
    pub fn unpark_all(word: &AtomicU64) {
        let lot = LOT.lock();
        if let Some(woken) = lot.get(&address(word)) {
            woken.notify_all();
        }
    }

    /// How often the calling thread was woken. For models to assert; the other half has no such count.
    pub fn wake_ups() -> u64 {
        WAKE_UPS.with(|count| count.get())
    }

    fn address(word: &AtomicU64) -> usize {
        std::ptr::from_ref(word) as usize
    }
}
