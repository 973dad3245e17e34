//! Whether what several threads saw of one key can be explained by one order of their calls.
//!
//! Invariant: a history is accepted exactly if there is an order of its calls in which each saw what the ones before it left, and no call
//! comes before one that had ended when it began (Herlihy and Wing, *Linearizability*, TOPLAS 1990).
//!
//! ```text
//!   thread 0   ├─ put 7 ─┤        ├─ get: 9 ─┤
//!   thread 1        ├──── put 9 ────┤                 put 7, put 9, get: 9          accepted
//!   thread 2                          ├─ get: 7 ─┤    get: 7 began after put 9 …    refused: 9 was seen, or may not yet be
//! ```
//!
//! A search from the front, as Wing and Gong's (*Testing and verifying concurrent objects*, 1993), with a memory of where it has been
//! (Lowe, 2017). A thread makes one call after another, so how far each of them has come, and the value, is all there is to remember;
//! a call that only reads, and fits, is taken at once, because that is never wrong.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells what began before what had ended: numbers that rise, across all threads.
#[derive(Debug, Default)]
pub struct Stamps(AtomicU64);

impl Stamps {
    /// The next number: to be taken right before a call, and right after it.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// What a call saw of its key; a value is a number of its own, and `None` that there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saw {
    /// This.
    Value(Option<u64>),
    /// Some value, or none.
    Presence(bool),
}

/// One call on one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCall {
    /// When it began, by [`Stamps`].
    pub began: u64,
    /// When it had ended.
    pub ended: u64,
    /// What it saw.
    pub saw: Saw,
    /// What it left, if it changed anything.
    pub left: Option<Option<u64>>,
}

impl KeyCall {
    fn fits(&self, value: Option<u64>) -> bool {
        match self.saw {
            Saw::Value(saw) => saw == value,
            Saw::Presence(saw) => saw == value.is_some(),
        }
    }
}

/// What one thread did, key by key, in its order.
#[derive(Debug, Default)]
pub struct ThreadHistory(HashMap<u64, Vec<KeyCall>>);

impl ThreadHistory {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a call; calls on the same key come one after another. Panics otherwise.
    pub fn push(&mut self, key: u64, call: KeyCall) {
        assert!(call.began < call.ended, "a call ends after it began: {call:?}");
        let calls = self.0.entry(key).or_default();
        let before = calls.last().map_or(0, |before| before.ended);
        assert!(calls.is_empty() || before < call.began, "a thread makes one call after another: {call:?}");
        calls.push(call);
    }
}

/// A key whose calls no order explains.
#[derive(Debug)]
pub struct NotLinear {
    /// The key.
    pub key: u64,
    /// The value that the longest order found left.
    pub value: Option<u64>,
    /// How many calls that order has.
    pub explained: usize,
    /// Each thread's next call then: none of them may come next.
    pub stuck: Vec<KeyCall>,
}

/// Looks for an order of the calls on each key, all of which had no value at first. Gives how many calls there were.
///
/// Errors: the first key that has none.
pub fn check_linear(threads: &[ThreadHistory]) -> Result<u64, Box<NotLinear>> {
    let mut keys: Vec<u64> = threads.iter().flat_map(|thread| thread.0.keys().copied()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut calls = 0;
    for key in keys {
        let of_key = |thread: &ThreadHistory| thread.0.get(&key).cloned().unwrap_or_default();
        let of_threads: Vec<Vec<KeyCall>> = threads.iter().map(of_key).collect();
        calls += of_threads.iter().map(|calls| calls.len() as u64).sum::<u64>();
        Search { threads: &of_threads, seen: HashSet::new() }.run(key)?;
    }
    Ok(calls)
}

/// How far each thread has come, and what the key has then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    done: Vec<usize>,
    value: Option<u64>,
}

struct Search<'a> {
    threads: &'a [Vec<KeyCall>],
    seen: HashSet<Place>,
}

impl Search<'_> {
    fn run(mut self, key: u64) -> Result<(), Box<NotLinear>> {
        let total: usize = self.threads.iter().map(Vec::len).sum();
        let mut open = vec![Place { done: vec![0; self.threads.len()], value: None }];
        let mut furthest: Option<(usize, Place)> = None;
        while let Some(mut place) = open.pop() {
            self.take_reads(&mut place);
            let explained = place.done.iter().sum();
            if explained == total {
                return Ok(());
            }
            if !self.seen.insert(place.clone()) {
                continue;
            }
            if furthest.as_ref().is_none_or(|(most, _)| explained > *most) {
                furthest = Some((explained, place.clone()));
            }
            for thread in self.may_be_next(&place) {
                let call = self.threads[thread][place.done[thread]];
                if call.fits(place.value) {
                    let mut next = place.clone();
                    next.done[thread] += 1;
                    next.value = call.left.unwrap_or(place.value);
                    open.push(next);
                }
            }
        }
        let (explained, place) = furthest.expect("the beginning is a place");
        let stuck = self.next_calls(&place).map(|(_, call)| call).collect();
        Err(Box::new(NotLinear { key, value: place.value, explained, stuck }))
    }

    fn next_calls<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = (usize, KeyCall)> + 'a {
        let next = |(thread, done): (usize, &usize)| Some((thread, *self.threads[thread].get(*done)?));
        place.done.iter().enumerate().filter_map(next)
    }

    /// Threads whose next call began before any call that is left had ended.
    fn may_be_next(&self, place: &Place) -> Vec<usize> {
        let first_end = self.next_calls(place).map(|(_, call)| call.ended).min().unwrap_or(u64::MAX);
        let early = self.next_calls(place).filter(|(_, call)| call.began < first_end);
        early.map(|(thread, _)| thread).collect()
    }

    fn take_reads(&self, place: &mut Place) {
        loop {
            let reads = |thread: &usize| {
                let call = self.threads[*thread][place.done[*thread]];
                call.left.is_none() && call.fits(place.value)
            };
            let Some(thread) = self.may_be_next(place).into_iter().find(reads) else { return };
            place.done[thread] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn call(began: u64, ended: u64, saw: Saw, left: Option<Option<u64>>) -> KeyCall {
        KeyCall { began, ended, saw, left }
    }

    fn put(began: u64, ended: u64, replaced: bool, value: u64) -> KeyCall {
        call(began, ended, Saw::Presence(replaced), Some(Some(value)))
    }

    fn get(began: u64, ended: u64, value: Option<u64>) -> KeyCall {
        call(began, ended, Saw::Value(value), None)
    }

    fn is_linear(threads: &[&[KeyCall]]) -> bool {
        let history = |calls: &&[KeyCall]| {
            let mut history = ThreadHistory::new();
            calls.iter().for_each(|call| history.push(5, *call));
            history
        };
        let threads: Vec<ThreadHistory> = threads.iter().map(history).collect();
        check_linear(&threads).is_ok()
    }

    #[test]
    fn what_ran_beside_each_other_may_have_come_in_either_order() {
        for seen in [7, 9] {
            let threads: [&[KeyCall]; 3] =
                [&[put(0, 5, seen == 7, 7)], &[put(1, 6, seen == 9, 9)], &[get(8, 9, Some(seen))]];
            assert!(is_linear(&threads), "{seen}");
        }
        assert!(is_linear(&[&[put(0, 9, false, 7)], &[get(1, 2, None), get(3, 4, Some(7))]]));
    }

    #[test]
    fn an_older_value_a_lost_update_and_a_value_from_nowhere_are_refused() {
        let old: [&[KeyCall]; 2] = [&[put(0, 1, false, 7), put(2, 3, true, 9)], &[get(4, 5, Some(7))]];
        assert!(!is_linear(&old));
        assert!(
            !is_linear(&[&[put(0, 9, false, 7)], &[get(1, 2, Some(7)), get(3, 4, None)]]),
            "seen, then not"
        );
        assert!(!is_linear(&[&[put(0, 5, false, 7)], &[put(1, 6, false, 9)]]), "both found nothing there");
        assert!(!is_linear(&[&[get(0, 1, Some(7))], &[put(2, 3, false, 7)]]), "of the future");
        assert!(!is_linear(&[&[put(0, 1, false, 7)], &[get(2, 3, None)]]), "a lost key");
        let removed = |began, ended, was_there| call(began, ended, Saw::Presence(was_there), Some(None));
        let twice: [&[KeyCall]; 3] = [&[put(0, 1, false, 7)], &[removed(2, 5, true)], &[removed(3, 6, true)]];
        assert!(!is_linear(&twice), "one value is removed once");
    }

    #[test]
    fn what_is_told_is_how_far_an_order_goes_and_what_cannot_follow() {
        let mut threads = [ThreadHistory::new(), ThreadHistory::new()];
        threads[0].push(3, put(0, 1, false, 7));
        threads[1].push(3, get(2, 3, Some(8)));
        let told = check_linear(&threads).expect_err("8 was never put");
        assert_eq!((told.key, told.value, told.explained), (3, Some(7), 1));
        assert_eq!(told.stuck, [get(2, 3, Some(8))]);
    }

    /// By trying every order.
    fn is_linear_by_definition(left: &mut Vec<KeyCall>, value: Option<u64>) -> bool {
        let first_end = left.iter().map(|call| call.ended).min().unwrap_or(0);
        left.is_empty()
            || (0..left.len()).any(|at| {
                let call = left[at];
                if call.began > first_end || !call.fits(value) {
                    return false;
                }
                left.remove(at);
                let found = is_linear_by_definition(left, call.left.unwrap_or(value));
                left.insert(at, call);
                found
            })
    }

    #[test]
    fn random_histories_are_judged_as_by_trying_every_order() {
        let (mut random, mut accepted) = (Rng::new(1), 0);
        for _ in 0..20_000 {
            // Three threads; each of the numbers begins or ends one's call.
            let (mut threads, mut begun): ([Vec<KeyCall>; 3], _) = (Default::default(), [None; 3]);
            for stamp in 0..6 + random.below(8) {
                let thread = random.below(3) as usize;
                match begun[thread].take() {
                    None => begun[thread] = Some(stamp),
                    Some(began) => {
                        let value = |random: &mut Rng| Some(random.below(3)).filter(|value| *value > 0);
                        let saw = match random.below(2) {
                            0 => Saw::Value(value(&mut random)),
                            _ => Saw::Presence(random.below(2) == 0),
                        };
                        let left = (random.below(2) == 0).then(|| value(&mut random));
                        threads[thread].push(call(began, stamp, saw, left));
                    }
                }
            }
            let expected = is_linear_by_definition(&mut threads.concat(), None);
            assert_eq!(is_linear(&threads.each_ref().map(Vec::as_slice)), expected, "{threads:?}");
            accepted += u64::from(expected);
        }
        assert!((1000..19_000).contains(&accepted), "{accepted} accepted: they prove nothing");
    }
}
