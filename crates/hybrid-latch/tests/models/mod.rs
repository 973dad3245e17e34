//! The models of the latch.
//!
//! Each runs the production types over the production racing bytes, two words long. Actors give back what they saw, and
//! the model asserts after all of them are done: an assertion that fails then unwinds through no guard.
//!
//! Two habits make the search honest. Loom keeps one last access of an object, so an actor that loads a word before it
//! stores to it hides the earlier loads of others (measured here: one execution where there are hundreds). So writers
//! store without loading where they can, and each model is explored from every order of its actors.
use std::collections::BTreeSet;
use std::ptr::fn_addr_eq;

use loom::sync::Arc;
use loom::thread;
use pagestone_hybrid_latch::{HybridLatch, Tag};
use pagestone_page_format::{PageWriter, SpeculativePage};
use pagestone_sync::atomic::AtomicU64;
use pagestone_sync::checking;

/// Preemptions of a schedule of two actors.
pub(crate) const OF_TWO: usize = 4;
/// Preemptions of a schedule of three.
pub(crate) const OF_THREE: usize = 2;

/// A latch and the two words it protects, which are equal in every state that a writer leaves behind.
pub(crate) struct Pair {
    latch: HybridLatch,
    words: [AtomicU64; 2],
}

/// What one look at the two words saw.
type Look = [u64; 2];

impl Pair {
    fn new() -> Self {
        Self { latch: HybridLatch::new(), words: [AtomicU64::new(0), AtomicU64::new(0)] }
    }

    fn put(&self, word: usize, value: u64) {
        PageWriter::new(&self.words).put_word(word, value).expect("two words");
    }

    fn get(&self, word: usize) -> u64 {
        SpeculativePage::new(&self.words).word(word).expect("two words")
    }

    fn look(&self) -> Look {
        [self.get(0), self.get(1)]
    }

    fn write(&self, value: u64) {
        self.put(0, value);
        self.put(1, value);
    }

    /// Writes under the exclusive latch, without a look.
    fn change_to(&self, value: u64) {
        let _exclusive = self.latch.lock_exclusive().expect("no panic");
        self.write(value);
    }

    /// Counts under the exclusive latch; gives what it found.
    fn count(&self) -> Look {
        let _exclusive = self.latch.lock_exclusive().expect("no panic");
        let found = self.look();
        self.write(found[0] + 1);
        found
    }

    /// What an optimistic reader believes to have seen, if anything.
    fn believed(&self) -> Option<Look> {
        let sampled = self.latch.optimistic_or_restart().ok()?;
        let seen = self.look();
        sampled.validate().ok().map(|()| seen)
    }
}

/// Runs the actors beside each other, started in every order, in every interleaving that the bound allows; `check` gets
/// the pair that they leave and what each of them saw.
fn explore<T: 'static, const N: usize>(actors: [fn(&Pair) -> T; N], check: fn(&Pair, [T; N])) {
    // Actors of one kind need not change places.
    let kind = |actor: &usize| actors.iter().position(|other| fn_addr_eq(*other, actors[*actor]));
    let mut tried = BTreeSet::new();
    for order in orders(N) {
        if !tried.insert(order.iter().map(kind).collect::<Vec<_>>()) {
            continue;
        }
        checking::explore(if N == 2 { OF_TWO } else { OF_THREE }, move || {
            let pair = Arc::new(Pair::new());
            let mut started: Vec<_> = order
                .iter()
                .map(|&actor| {
                    let pair = Arc::clone(&pair);
                    (actor, thread::spawn(move || actors[actor](&pair)))
                })
                .collect();
            started.sort_unstable_by_key(|(actor, _)| *actor);
            let mut seen = started.into_iter().map(|(_, actor)| actor.join().expect("no actor panics"));
            let seen = std::array::from_fn(|_| seen.next().expect("one result an actor"));
            check(&pair, seen);
            assert!(!pair.latch.is_exclusive(), "a latch is left held");
            assert!(pair.latch.try_lock_exclusive().is_ok(), "a latch is left held");
        });
    }
}

/// Every order of the numbers below `len`.
fn orders(len: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![vec![]];
    for actor in 0..len {
        orders = orders
            .iter()
            .flat_map(|order: &Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut order = order.clone();
                    order.insert(at, actor);
                    order
                })
            })
            .collect();
    }
    orders
}

fn assert_whole(seen: Option<Look>) {
    if let Some([first, second]) = seen {
        assert_eq!(first, second, "a validated read is torn");
    }
}

/// P1, P6: whatever an optimistic reader validates was there at one instant, while a writer changes it twice.
pub(crate) fn optimistic_against_exclusive() {
    fn writer(pair: &Pair) -> Option<Look> {
        pair.change_to(1);
        pair.change_to(2);
        None
    }
    explore([writer, Pair::believed], |pair, [_, seen]| {
        assert_whole(seen);
        assert_eq!(pair.latch.version(), 2, "a change without a new version");
    });
}

/// P1, P6, with two writers.
pub(crate) fn optimistic_against_two_writers() {
    fn writer<const VALUE: u64>(pair: &Pair) -> Option<Look> {
        let _exclusive = pair.latch.try_lock_exclusive().ok()?;
        pair.write(VALUE);
        Some([VALUE; 2])
    }
    explore([writer::<1>, writer::<2>, Pair::believed], |pair, [mine, theirs, seen]| {
        assert_whole(seen);
        assert_whole(Some(pair.look()));
        let writes = mine.iter().chain(&theirs).count() as u64;
        assert!(writes >= 1, "one of two must get it");
        assert_eq!(pair.latch.version(), writes, "a change without a new version");
    });
}

/// A reader who waits for the writer sees what it wrote: the state of the very version that he sampled.
pub(crate) fn optimistic_spin_waits() {
    fn writer(pair: &Pair) -> Option<(Look, u64)> {
        pair.change_to(1);
        None
    }
    fn reader(pair: &Pair) -> Option<(Look, u64)> {
        let sampled = pair.latch.optimistic_spin().expect("no panic");
        let seen = pair.look();
        sampled.validate().ok().map(|()| (seen, sampled.version()))
    }
    explore([writer, reader], |_, [_, seen]| {
        if let Some((seen, version)) = seen {
            assert_eq!(seen, [version; 2], "another state than that of the sampled version");
        }
    });
}

/// Two writers never hold it at once, and the second sees all of the first.
pub(crate) fn exclusive_against_exclusive() {
    explore([Pair::count, Pair::count], |pair, [mine, theirs]| {
        assert_whole(Some(mine));
        assert_whole(Some(theirs));
        assert_eq!(pair.look(), [2, 2], "two writers at once");
        assert_eq!(pair.latch.version(), 2);
    });
}

/// Two who wait for a third are both woken.
pub(crate) fn three_writers_wait() {
    fn writer(pair: &Pair) {
        pair.change_to(1);
    }
    explore([writer; 3], |pair, _| assert_eq!(pair.latch.version(), 3));
}

/// Of two who upgrade the same sample one wins, and what it read before it upgraded still holds.
pub(crate) fn upgrade_race() {
    fn count(pair: &Pair) -> Option<Look> {
        let sampled = pair.latch.optimistic_or_restart().ok()?;
        let found = pair.look();
        let _exclusive = sampled.upgrade_to_exclusive().ok()?;
        pair.write(found[0] + 1);
        Some(found)
    }
    explore([count, count], |pair, [mine, theirs]| {
        let wins = mine.iter().chain(&theirs).count() as u64;
        assert!(wins >= 1, "one of two must win");
        assert_whole(mine);
        assert_whole(theirs);
        assert_eq!(pair.look(), [wins, wins], "an upgrade lost an update");
        assert_eq!(pair.latch.version(), wins);
        assert!(wins < 2 || mine != theirs, "both won at one version");
    });
}

/// An upgrade beside a writer wins at the sampled version or not at all, though it has no fence of its own.
pub(crate) fn upgrade_against_exclusive() {
    fn writer(pair: &Pair) -> Option<Look> {
        pair.change_to(1);
        None
    }
    fn upgrade(pair: &Pair) -> Option<Look> {
        let sampled = pair.latch.optimistic_or_restart().ok()?;
        let found = pair.look();
        let exclusive = sampled.upgrade_to_exclusive().ok()?;
        assert_eq!(sampled.version(), pair.latch.version());
        exclusive.unlock_unchanged();
        Some(found)
    }
    explore([writer, upgrade], |pair, [_, found]| {
        assert_whole(found);
        assert_eq!(pair.latch.version(), 1);
    });
}

/// An upgrade to a share keeps what was read before it, and goes on keeping it.
pub(crate) fn upgrade_to_shared() {
    fn writer(pair: &Pair) -> Option<(Look, Look)> {
        pair.change_to(1);
        None
    }
    fn sharer(pair: &Pair) -> Option<(Look, Look)> {
        let sampled = pair.latch.optimistic_or_restart().ok()?;
        let before = pair.look();
        let _shared = sampled.upgrade_to_shared().ok()?;
        Some((before, pair.look()))
    }
    explore([writer, sharer], |pair, [_, seen]| {
        if let Some((before, after)) = seen {
            assert_whole(Some(before));
            assert_eq!(before, after, "a share let a writer in");
        }
        assert_eq!(pair.look(), [1, 1]);
    });
}

/// P8: tags alone fail no validation, no upgrade and no share.
pub(crate) fn tags_are_no_changes() {
    fn owner(pair: &Pair) -> bool {
        pair.latch.set_tag(Tag::A);
        pair.latch.set_tag(Tag::B);
        pair.latch.clear_tag(Tag::A);
        true
    }
    fn reader(pair: &Pair) -> bool {
        let sampled = pair.latch.optimistic_or_restart().expect("nobody writes");
        let valid = sampled.validate().is_ok();
        let upgraded = sampled.upgrade_to_exclusive().map(|exclusive| exclusive.unlock_unchanged()).is_ok();
        valid && upgraded && pair.latch.try_lock_shared().is_ok()
    }
    explore([owner, reader], |pair, [_, undisturbed]| {
        assert!(undisturbed, "a tag was taken for a change");
        assert!(!pair.latch.tag(Tag::A) && pair.latch.tag(Tag::B), "a tag is lost");
        assert_eq!(pair.latch.version(), 0, "a tag is no change");
    });
}

/// P8: a tag set beside a writer is not lost, loses nothing of the writer's, and passes no validation falsely.
pub(crate) fn tags_beside_a_writer() {
    fn writer(pair: &Pair) -> Option<Look> {
        pair.change_to(1);
        None
    }
    fn owner(pair: &Pair) -> Option<Look> {
        pair.latch.set_tag(Tag::A);
        None
    }
    explore([writer, owner, Pair::believed], |pair, [_, _, seen]| {
        assert_whole(seen);
        assert!(!pair.latch.is_exclusive(), "a tag undid an unlock");
        assert_eq!(pair.latch.version(), 1, "a tag undid a version");
        assert!(pair.latch.tag(Tag::A), "a tag is lost");
    });
}

/// While a share is held nothing changes, and what is seen under it is whole.
pub(crate) fn shared_against_exclusive() {
    fn writer(pair: &Pair) -> Option<(Look, Look)> {
        pair.change_to(1);
        None
    }
    fn sharer(pair: &Pair) -> Option<(Look, Look)> {
        let _shared = pair.latch.lock_shared().expect("no panic");
        Some((pair.look(), pair.look()))
    }
    explore([writer, sharer], |pair, [_, seen]| {
        let (before, after) = seen.expect("a sharer looks");
        assert_whole(Some(before));
        assert_eq!(before, after, "a share let a writer in");
        assert_eq!(pair.look(), [1, 1]);
        assert_eq!(pair.latch.version(), 1, "shares are no changes");
    });
}

/// The same with two who share, so that the last of them to leave lets the writer in.
pub(crate) fn two_shared_against_exclusive() {
    fn writer(pair: &Pair) -> Option<(Look, Look)> {
        pair.change_to(1);
        None
    }
    fn sharer(pair: &Pair) -> Option<(Look, Look)> {
        let _shared = pair.latch.try_lock_shared().ok()?;
        Some((pair.look(), pair.look()))
    }
    explore([writer, sharer, sharer], |pair, seen| {
        for (before, after) in seen.into_iter().flatten() {
            assert_whole(Some(before));
            assert_eq!(before, after, "a share let a writer in");
        }
        assert_eq!(pair.latch.version(), 1, "shares are no changes");
    });
}

/// P8: shares come and go beside an optimistic reader, and fail no validation.
pub(crate) fn shares_are_no_changes() {
    fn sharer(pair: &Pair) -> bool {
        pair.latch.lock_shared().is_ok()
    }
    fn reader(pair: &Pair) -> bool {
        pair.latch.optimistic_or_restart().is_ok_and(|sampled| sampled.validate().is_ok())
    }
    explore([sharer, sharer, reader], |pair, undisturbed| {
        assert_eq!(undisturbed, [true; 3], "a share was taken for a change");
        assert_eq!(pair.latch.version(), 0, "shares are no changes");
    });
}

/// Of two sharers who want to write, none may while the other stays; nobody is let in between look and upgrade.
pub(crate) fn sharers_upgrade() {
    fn count(pair: &Pair) -> bool {
        let shared = pair.latch.lock_shared().expect("no panic");
        let found = pair.get(0);
        let upgraded = shared.try_upgrade_to_exclusive();
        if upgraded.is_ok() {
            pair.write(found + 1);
        }
        upgraded.is_ok()
    }
    explore([count, count], |pair, upgraded| {
        let wins = upgraded.into_iter().map(u64::from).sum();
        assert_eq!(pair.look(), [wins, wins], "an upgrade lost an update");
        assert_eq!(pair.latch.version(), wins);
    });
}

fn write_and_downgrade(pair: &Pair) -> Option<Look> {
    let exclusive = pair.latch.lock_exclusive().expect("no panic");
    pair.write(1);
    let _shared = exclusive.downgrade();
    Some(pair.look())
}

/// After a downgrade nobody writes until it ends.
pub(crate) fn downgrade_keeps_writers_out() {
    fn writer(pair: &Pair) -> Option<Look> {
        pair.change_to(2);
        None
    }
    explore([write_and_downgrade, writer], |pair, [kept, _]| {
        assert!(matches!(kept, Some([1, 1])), "a downgrade let a writer in");
        assert_eq!(pair.latch.version(), 2);
    });
}

/// P1, P6: what was written before a downgrade is a new version, which is read while the share is held.
pub(crate) fn downgrade_is_a_change() {
    explore([write_and_downgrade, Pair::believed], |pair, [_, seen]| {
        assert_whole(seen);
        assert_eq!(pair.latch.version(), 1, "a downgrade is a change");
    });
}

/// Others share at once after a downgrade, and see all that was written before it.
pub(crate) fn downgrade_lets_sharers_in() {
    fn sharer(pair: &Pair) -> Option<Look> {
        let _shared = pair.latch.lock_shared().expect("no panic");
        Some(pair.look())
    }
    explore([write_and_downgrade, sharer], |pair, [_, seen]| {
        assert_whole(seen);
        assert_eq!(pair.latch.version(), 1);
    });
}

/// P5: a repair under `unlock_unchanged` disturbs no reader.
///
/// Word 0 is a hint, which means the same whatever it is; word 1 is the page's content.
pub(crate) fn hint_repair() {
    const REPAIRED: u64 = 99;
    fn repairer(pair: &Pair) -> u64 {
        let Ok(sampled) = pair.latch.optimistic_or_restart() else { return REPAIRED };
        let Ok(exclusive) = sampled.upgrade_to_exclusive() else { return REPAIRED };
        pair.put(0, REPAIRED);
        exclusive.unlock_unchanged();
        REPAIRED
    }
    fn reader(pair: &Pair) -> u64 {
        let Ok(sampled) = pair.latch.optimistic_or_restart() else { return 0 };
        let hint = pair.get(0);
        // While the share is held the repairer is out, before his repair or after it.
        let _shared = pair.latch.lock_shared().expect("no panic");
        if sampled.validate().is_ok() { hint } else { u64::MAX }
    }
    explore([repairer, reader], |pair, [_, hint]| {
        assert_ne!(hint, u64::MAX, "a repair failed a validation");
        assert!(hint == 0 || hint == REPAIRED, "a hint is torn");
        assert_eq!(pair.latch.version(), 0, "a repair is no change");
    });
}

/// P5: beside a repair a real change is still found, by the reader and by the repairer.
pub(crate) fn hint_repair_beside_a_writer() {
    fn repairer(pair: &Pair) -> Option<Look> {
        let sampled = pair.latch.optimistic_or_restart().ok()?;
        let content = pair.get(1);
        let exclusive = sampled.upgrade_to_exclusive().ok()?;
        let now = pair.get(1);
        exclusive.unlock_unchanged();
        Some([content, now])
    }
    fn writer(pair: &Pair) -> Option<Look> {
        pair.change_to(1);
        None
    }
    explore([repairer, writer, Pair::believed], |pair, [repair, _, seen]| {
        if let Some([content, now]) = repair {
            assert_eq!(content, now, "a repair at another version than the sampled one");
        }
        assert_whole(seen);
        assert_eq!(pair.latch.version(), 1, "only the writer changed anything");
    });
}
