//! One closure on several threads at once.
//!
//! Invariant: every thread is waited for, whatever became of the others; the answer is what each of them gave, or the first error in
//! their order.

use crate::BenchResult;

/// Calls `one` with the numbers of so many threads, of which the caller's is the first. With none it does nothing.
pub(crate) fn on_threads<T: Send>(
    threads: u64,
    one: impl Fn(u64) -> BenchResult<T> + Sync,
) -> BenchResult<Vec<T>> {
    let one = &one;
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || one(thread))).collect();
        let first = (threads > 0).then(|| one(0));
        let others = others.into_iter().map(|other| other.join().map_err(|_| "a thread panicked")?);
        // All have ended before any of their errors is looked at.
        let all: Vec<_> = first.into_iter().chain(others).collect();
        all.into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn all_run_at_once_and_their_answers_come_in_order() {
        let together = Barrier::new(4);
        let given = on_threads(4, |thread| {
            together.wait();
            Ok(thread * 10)
        });
        assert_eq!(given.unwrap(), [0, 10, 20, 30]);
        assert!(on_threads(0, |_| BenchResult::Ok(())).unwrap().is_empty());
    }

    #[test]
    fn the_first_error_is_told_and_nobody_is_left_behind() {
        let ended = AtomicU64::new(0);
        let given: BenchResult<Vec<()>> = on_threads(4, |thread| {
            ended.fetch_add(1, Ordering::Relaxed);
            if thread == 0 { Ok(()) } else { Err(format!("{thread} failed").into()) }
        });
        assert_eq!(given.unwrap_err().to_string(), "1 failed");
        assert_eq!(ended.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_panic_is_an_error() {
        let given = on_threads(2, |thread| {
            assert_eq!(thread, 0, "meant to fail");
            Ok(())
        });
        assert_eq!(given.unwrap_err().to_string(), "a thread panicked");
    }
}
