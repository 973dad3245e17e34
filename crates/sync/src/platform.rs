//! The production half: `std` atomics and threads, `parking_lot` locks, a bounded `crossbeam` queue.
#![allow(unsafe_code)] // two calls in `parking`, one in `hint`, the value of `BriefMutex`, argued there

pub use std::sync::Arc;

use crate::brief::BriefLock;

/// Atomic integers and fences.
pub mod atomic {
    pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

    /// A SeqCst fence right behind an atomic read-modify-write of the same thread, and nowhere else.
    ///
    /// On x86-64 such an instruction is a full barrier by itself (Intel SDM 3A, 10.2.2: neither reads nor writes pass a locked
    /// instruction), so nothing but the compiler has to be held back: a second barrier would cost as much as the first. Linux's
    /// `smp_mb__after_atomic` is the same idea.
    #[inline]
    pub fn fence_after_rmw() {
        if cfg!(all(target_arch = "x86_64", not(miri))) {
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }
}

/// Hints to the processor.
pub mod hint {
    use super::atomic::AtomicU64;

    pub use std::hint::spin_loop;

    /// Asks for the cache line of this word, which will be read soon. Reads nothing, orders nothing, waits for nothing; on machines
    /// for which the language has no such instruction yet it does nothing.
    #[inline]
    pub fn prefetch(word: &AtomicU64) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: `_mm_prefetch` asks for SSE, which every x86-64 processor has, and for nothing else: it accesses no memory.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast()) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = word;
    }
}

/// Threads. Production code spawns through `pagestone-threading`, which names them and notices their panics.
pub mod thread {
    pub use std::thread::{Builder, JoinHandle, yield_now};

    std::thread_local! {
        /// It holds nothing: what tells threads apart is where it stands (docs/decisions/012).
        static HERE: std::cell::Cell<u8> = const { std::cell::Cell::new(0) };
    }

    /// A number of the calling thread, the same at every call, that few others have: to spread threads over things that each of them
    /// could use. It costs no atomic operation, as `ThreadId` does.
    ///
    /// The storage of a thread lies beside its stack, so the threads of a program are some pages apart, often always as many: also a
    /// power of two, where stacks are aligned to huge pages. So the number is the product with an odd one without a pattern, of which the
    /// upper bits follow from all below.
    #[inline]
    pub fn place() -> usize {
        let page = HERE.with(|here| std::ptr::from_ref(here).addr() as u64 >> 12);
        (page.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 52) as usize
    }

    /// Starts a thread. Takes the closure to run; gives its handle; panics if the system refuses a thread.
    pub fn spawn<F, T>(body: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        std::thread::spawn(body)
    }
}

/// A mutual exclusion lock without poisoning: layers that must notice a panic do so themselves (R5).
#[derive(Debug, Default)]
pub struct Mutex<T>(parking_lot::Mutex<T>);

/// Holds a [`Mutex`] until dropped.
#[derive(Debug)]
pub struct MutexGuard<'a, T>(parking_lot::MutexGuard<'a, T>);

impl<T> Mutex<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    /// Waits for the lock and takes it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(self.0.lock())
    }

    /// Takes the lock if nobody holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().map(MutexGuard)
    }

    /// Gives the value back.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T> std::ops::Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// A mutual exclusion lock for what takes some nanoseconds, by a thread that seldom meets others there: one locked instruction for
/// locking and unlocking, where [`Mutex`] takes two. Without poisoning.
///
/// Who meets another that took it by [`BriefMutex::lock`] spins, then lets others run; who meets one that has it by
/// [`BriefMutex::hold`] sleeps. So what is long is done under the latter.
///
/// `brief.rs` says how.
#[derive(Default)]
pub struct BriefMutex<T> {
    lock: BriefLock,
    value: std::cell::UnsafeCell<T>,
}

/// Holds a [`BriefMutex`] until dropped. Who shares it shares the value, which must be fit for that:
///
/// ```compile_fail,E0277
/// fn share<T: Sync>(_: T) {}
/// let mutex = pagestone_sync::BriefMutex::new(std::cell::Cell::new(0));
/// share(mutex.lock());
/// ```
pub struct BriefGuard<'a, T> {
    mutex: &'a BriefMutex<T>,
    /// It is sent and shared as what it gives: the mutex alone would let a value be shared that is only fit to be sent.
    _value: std::marker::PhantomData<&'a mut T>,
    /// Given up behind the lock, so that who has it next finds that free.
    _turn: Option<MutexGuard<'a, ()>>,
}

// SAFETY: of the threads that share it one at a time gets at the value, as with `Mutex`: it must be fit to be sent, and no more.
unsafe impl<T: Send> Sync for BriefMutex<T> {}

impl<T> BriefMutex<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self { lock: BriefLock::new(), value: std::cell::UnsafeCell::new(value) }
    }

    /// Waits for the lock and takes it, for some nanoseconds.
    #[inline]
    pub fn lock(&self) -> BriefGuard<'_, T> {
        self.lock.lock();
        self.guard(None)
    }

    /// Waits for the lock and takes it, for as long as it takes.
    pub fn hold(&self) -> BriefGuard<'_, T> {
        self.guard(Some(self.lock.hold()))
    }

    /// For who has just taken the lock.
    #[inline]
    fn guard<'a>(&'a self, turn: Option<MutexGuard<'a, ()>>) -> BriefGuard<'a, T> {
        BriefGuard { mutex: self, _value: std::marker::PhantomData, _turn: turn }
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for BriefMutex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It may be the thread itself that has it.
        let mut shown = f.debug_tuple("BriefMutex");
        if self.lock.try_lock() {
            shown.field(&self.guard(None)).finish()
        } else {
            shown.field(&format_args!("<locked>")).finish()
        }
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for BriefGuard<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> std::ops::Deref for BriefGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard took the lock and has not given it up, so there is no other guard (`brief.rs`).
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> std::ops::DerefMut for BriefGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and this borrow is of the guard alone.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T> Drop for BriefGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.lock.unlock();
    }
}

/// A lock that many share or one has, without poisoning: as [`Mutex`].
#[derive(Debug, Default)]
pub struct RwLock<T>(parking_lot::RwLock<T>);

/// Shares a [`RwLock`] until dropped.
#[derive(Debug)]
pub struct RwLockReadGuard<'a, T>(parking_lot::RwLockReadGuard<'a, T>);

/// Has a [`RwLock`] alone until dropped.
#[derive(Debug)]
pub struct RwLockWriteGuard<'a, T>(parking_lot::RwLockWriteGuard<'a, T>);

impl<T> RwLock<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(parking_lot::RwLock::new(value))
    }

    /// Waits until nobody has it alone, and shares it.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard(self.0.read())
    }

    /// Waits until nobody has it, and takes it alone.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard(self.0.write())
    }

    /// Gives the value back.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
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
pub struct Condvar(parking_lot::Condvar);

impl Condvar {
    /// A condition variable that nobody waits on.
    pub fn new() -> Self {
        Self(parking_lot::Condvar::new())
    }

    /// Releases the lock, waits for a notification, takes the lock again. May wake without one.
    pub fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(&mut guard.0);
        guard
    }

    /// As [`Condvar::wait`], for at most `limit`. Gives the lock and whether the time ran out.
    pub fn wait_for<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: std::time::Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        let timed_out = self.0.wait_for(&mut guard.0, limit).timed_out();
        (guard, timed_out)
    }

    /// As [`Condvar::wait_for`], for waits that look again soon by themselves and may miss a notification: in a model the time
    /// runs out at once, while a wait that nobody ends shows there as a deadlock.
    pub fn wait_briefly<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: std::time::Duration,
    ) -> MutexGuard<'a, T> {
        self.wait_for(guard, limit).0
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

/// A bounded queue for many producers and many consumers: the free list of the pool.
#[derive(Debug)]
pub struct Queue<T>(crossbeam_queue::ArrayQueue<T>);

impl<T> Queue<T> {
    /// An empty queue for `capacity` values; `capacity` must not be zero.
    pub fn new(capacity: usize) -> Self {
        Self(crossbeam_queue::ArrayQueue::new(capacity))
    }

    /// Appends a value, or gives it back when the queue is full.
    pub fn push(&self, value: T) -> Result<(), T> {
        self.0.push(value)
    }

    /// Takes the oldest value.
    pub fn pop(&self) -> Option<T> {
        self.0.pop()
    }

    /// How many values it holds now.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Waiting on an atomic word without a lock beside it.
pub mod parking {
    use super::atomic::AtomicU64;
    use parking_lot_core::{DEFAULT_PARK_TOKEN, DEFAULT_UNPARK_TOKEN};

    /// Sleeps until [`unpark_all`] is called on the same word, unless `still_blocked` says no under the queue's lock.
    ///
    /// May wake without a call; callers look at the word again. There is no lost wake-up as long as the waker
    /// changes the word before it calls [`unpark_all`] and `still_blocked` reads the word.
    pub fn park(word: &AtomicU64, still_blocked: impl Fn() -> bool) {
        let key = std::ptr::from_ref(word) as usize;
        // SAFETY: `park` asks that the key is an address under the caller's control (it is the address of a word that
        // the caller borrows for the whole call), that the closures do not panic and do not call into parking_lot:
        // `still_blocked` loads one atomic, the other two are empty.
        unsafe {
            parking_lot_core::park(key, still_blocked, || {}, |_, _| {}, DEFAULT_PARK_TOKEN, None);
        }
    }

    /// Wakes everyone who is parked on this word.
    pub fn unpark_all(word: &AtomicU64) {
        let key = std::ptr::from_ref(word) as usize;
        // SAFETY: the key is the address of a word that the caller borrows, as for `park`.
        unsafe {
            parking_lot_core::unpark_all(key, DEFAULT_UNPARK_TOKEN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As far apart as stacks lie that are a power of two with the page that guards them, or that the system aligns to huge pages.
    #[test]
    fn threads_have_places_of_their_own_whatever_the_size_of_their_stacks() {
        for stack in [252 << 10, 2044 << 10, 2 << 20, 8 << 20] {
            let together = std::sync::Barrier::new(16);
            let places: std::collections::BTreeSet<usize> = std::thread::scope(|scope| {
                let place = || {
                    together.wait();
                    thread::place() % 64
                };
                let start = |_| std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, place);
                let threads: Vec<_> = (0..16).map(|n| start(n).expect("a thread")).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            assert!(places.len() >= 8, "16 threads with stacks of {stack} are in places {places:?}");
        }
    }

    #[test]
    fn a_brief_mutex_has_one_owner_at_a_time() {
        let (sum, parts) = (BriefMutex::new((0_u64, 0_u64)), 20_000);
        std::thread::scope(|scope| {
            for long in [false, false, true] {
                let sum = &sum;
                scope.spawn(move || {
                    for _ in 0..parts {
                        let mut both = if long { sum.hold() } else { sum.lock() };
                        assert_eq!(both.0, both.1, "half of what another did is seen");
                        both.0 += 1;
                        std::hint::black_box(&mut *both);
                        both.1 += 1;
                    }
                });
            }
        });
        assert_eq!(*sum.lock(), (3 * parts, 3 * parts));
    }

    /// Whoever holds it may print it, and what it is a part of.
    #[test]
    fn a_brief_mutex_is_printed_by_who_holds_it() {
        let mutex = BriefMutex::new(7);
        assert_eq!(format!("{mutex:?}"), "BriefMutex(7)");
        for guard in [BriefMutex::lock, BriefMutex::hold] {
            let guard = guard(&mutex);
            assert_eq!(format!("{guard:?} of {mutex:?}"), "7 of BriefMutex(<locked>)");
        }
        assert_eq!(format!("{mutex:?}"), "BriefMutex(7)");
    }
}
