//! Locks, a queue and a parked word, by their one name for std and for the model checker.

use std::time::Duration;

use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::{Condvar, Mutex, Queue, parking};

fn main() {
    let queue = Queue::new(2);
    assert!(queue.push(1).is_ok() && queue.push(2).is_ok() && queue.push(3) == Err(3));
    assert_eq!(queue.pop(), Some(1));
    let (lock, bell) = (Mutex::new(7), Condvar::new());
    let (guard, timed_out) = bell.wait_for(lock.lock(), Duration::from_millis(1));
    assert!(timed_out && *guard == 7);
    let word = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while word.load(Ordering::Acquire) == 0 {
                parking::park(&word, || word.load(Ordering::Acquire) == 0);
            }
        });
        word.store(1, Ordering::Release);
        parking::unpark_all(&word);
    });
}
