//! Many lookups at once, by one thread: what each waits for overlaps.
//!
//! Invariant: an answer that is given here came down the one way, step by step, each validated as that of a single lookup; so each is
//! of one instant, though not of the same one. Whatever does not go through by itself (a page that another thread loads, an
//! error) is left to the loop that owns every retry, as a lookup by itself. While reads are under way nothing else is waited for and no code of the
//! caller's runs: both might want a page that only this thread can bring. So what is found meanwhile is kept until they have ended.
//!
//! ```text
//!   sweep   the next keys, a few beside each other ──► found: answered       misses of memory overlap (sweep.rs)
//!                                                  └─► missing: a lane       up to 64 of them; its read is begun
//!            lane 0           lane 1           lane 2           ...
//!   wait     ... reads of the disk overlap, with each other and with sweeps: until some pages have come
//!   advance  leaf: answered   missing: begun   leaf: answered
//! ```
//!
//! Where all is in memory there are sweeps and nothing else. After Kocberber et al., *Asynchronous Memory Access Chaining*, VLDB 2015.

mod sweep;

use pagestone_buffer_pool::{Begun, Faults, OptimisticPage, Pin, Restart};
use pagestone_page_format::{PageId, PageResult};
use pagestone_swip::SwipWord;

use self::sweep::{GROUP, Told, sweep};
use crate::descend::Seek;
use crate::error::Interrupt;
use crate::node::prefetch_search;
use crate::read::Found;
use crate::walk::{self, Node};
use crate::{BTree, TreeResult};

/// Pages that are read at once: enough for the depth at which disks read fastest.
const READS: usize = 32;
/// Lookups under way at once: past what a core can have missing, and so many that there is a next page to read, known already, for each that comes.
const LANES: usize = 2 * READS;
/// A third of the reads under way is waited for at once: fewer wake the thread more often, and ring the disk's doorbell for each; more leave
/// the disk idle.
const WAKE_SHARE: usize = 3;
/// Bytes of values that are kept until the reads under way have ended, but for those of the lanes.
const KEPT_BYTES: usize = 256 << 10;
/// Lookups, found or not, that are kept so at most: while a page is under way others may wait for it, until this thread looks.
const KEPT: usize = 1024;
/// Lookups that are left to be made by themselves, before they are.
const LEFT: usize = READS;
/// How often a lane begins again at the root.
const RESTARTS: u32 = 3;

/// A lookup that wanted a page which was not there.
struct Lane<'t> {
    /// Which of the keys.
    key: usize,
    node: Node<'t, OptimisticPage<'t>>,
    /// Where it goes next, if that is known; none from a leaf.
    way: Option<(usize, SwipWord)>,
    /// The page that it wanted last.
    wanted: Option<PageId>,
    now: Now,
    restarts: u32,
}

/// What a lane can do now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Now {
    Step,
    /// Wait for the page that it wants, which is under way.
    Wait,
    /// Ask for it again: it could not be begun.
    Ask,
}

/// The lookups of one call.
struct Lookups<'t, 'k, K> {
    tree: &'t BTree,
    keys: &'k [K],
    /// The first key that was not begun as yet.
    next: usize,
    lanes: Vec<Lane<'t>>,
    faults: Faults<'t>,
    /// What came last: pinned until its lanes have stepped.
    arrived: Vec<(PageId, PageResult<Pin<'t>>)>,
    /// Keys that did not go through, each to be looked up by itself.
    left: Vec<usize>,
    kept: Kept,
}

/// What was found while reads were under way.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Each key, and up to where its value stands, which begins where the one before it ends.
    found: Vec<(usize, Option<usize>)>,
}

impl Kept {
    fn keep(&mut self, key: usize, value: Option<&[u8]>) {
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.found.push((key, value.map(|_| self.bytes.len())));
    }

    fn has_room(&self) -> bool {
        self.bytes.len() < KEPT_BYTES && self.found.len() < KEPT
    }

    fn hand_out(&mut self, answer: &mut dyn FnMut(usize, Option<&[u8]>)) {
        let mut from = 0;
        for (key, end) in self.found.drain(..) {
            answer(key, end.map(|end| &self.bytes[std::mem::replace(&mut from, end)..end]));
        }
        self.bytes.clear();
    }
}

impl BTree {
    /// The values of these keys, in their order: `None` where there is no entry. Any number of them, in any order, also twice.
    ///
    /// Up to 64 lookups are under way at once, and up to 32 reads of the disk, so that what they wait for overlaps: the more keys a call has, the
    /// longer it does.
    /// Each answer is of one instant, as that of [`BTree::get`]; together they are of several.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> TreeResult<Vec<Option<Vec<u8>>>> {
        let mut values = vec![None; keys.len()];
        self.multi_get_with(keys, |key, value| values[key] = value.map(<[u8]>::to_vec))?;
        Ok(values)
    }

    /// As [`BTree::multi_get`], without memory for each value: `answer` is called once for each key, with its index, in no order that
    /// is promised. It runs on a copy, with no latch held and no read under way. After an error some were answered.
    pub fn multi_get_with<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        mut answer: impl FnMut(usize, Option<&[u8]>),
    ) -> TreeResult<()> {
        self.env().check_open()?;
        let mut lookups = Lookups::new(self, keys);
        let mut value = Vec::new();
        while !lookups.are_done() {
            lookups.go_on(&mut value, &mut answer);
            // Nothing is under way now.
            lookups.kept.hand_out(&mut answer);
            for key in lookups.left.drain(..) {
                let found = self.get_into(keys[key].as_ref(), &mut value)?;
                answer(key, found.then_some(&value));
            }
        }
        Ok(())
    }
}

impl<'t, 'k, K: AsRef<[u8]>> Lookups<'t, 'k, K> {
    fn new(tree: &'t BTree, keys: &'k [K]) -> Self {
        Self {
            tree,
            keys,
            next: 0,
            lanes: Vec::new(),
            faults: tree.env().pool().faults(READS),
            arrived: Vec::new(),
            left: Vec::new(),
            kept: Kept::default(),
        }
    }

    fn are_done(&self) -> bool {
        self.next == self.keys.len()
    }

    /// Goes on until all keys are looked up, or enough was kept or left; then no lane is left, and nothing is under way.
    fn go_on(&mut self, value: &mut Vec<u8>, answer: &mut dyn FnMut(usize, Option<&[u8]>)) {
        loop {
            self.advance(value, answer);
            self.arrived.clear();
            self.set_out(value, answer);
            if self.lanes.is_empty() {
                return;
            }
            self.wait();
        }
    }

    /// Sweeps over the next keys, as far as there are lanes for those that do not come through.
    fn set_out(&mut self, value: &mut Vec<u8>, answer: &mut dyn FnMut(usize, Option<&[u8]>)) {
        let Self { tree, keys, next, lanes, faults, arrived, left, kept } = self;
        // Where no lane can begin, as with a root that is not in memory, a few by themselves bring what is missing.
        while kept.has_room() && lanes.len() < LANES && left.len() < LEFT && *next < keys.len() {
            let (first, before) = (*next, lanes.len());
            *next = keys.len().min(first + GROUP.min(LANES - before));
            let alone = faults.under_way() == 0 && arrived.is_empty();
            sweep(tree, first, &keys[first..*next], value, &mut |key, told| match told {
                Told::Found(found) if alone => answer(key, found),
                Told::Found(found) => kept.keep(key, found),
                Told::Missing { node, way, page } => {
                    let (way, wanted) = (Some(way), Some(page));
                    lanes.push(Lane { key, node, way, wanted, now: Now::Ask, restarts: 0 });
                }
                Told::Not => left.push(key),
            });
            lanes[before..].iter_mut().for_each(|lane| lane.ask(faults));
        }
    }

    /// Takes each lane that can step as far as it comes, and answers those that come to a leaf.
    fn advance(&mut self, value: &mut Vec<u8>, answer: &mut dyn FnMut(usize, Option<&[u8]>)) {
        let Self { tree, keys, lanes, faults, arrived, left, kept, .. } = self;
        lanes.retain_mut(|lane| {
            if lane.now != Now::Step {
                return true;
            }
            let key = keys[lane.key].as_ref();
            let found = lane.step(tree, key).and_then(|()| tree.find_in(&lane.node, None, key, value));
            let found = match found {
                Ok(Found::Nothing) => None,
                Ok(Found::Value) => Some(&value[..]),
                Err(Interrupt::Restart(Restart::Fault(id))) if lane.wanted != Some(id) => {
                    lane.wanted = Some(id);
                    lane.ask(faults);
                    return true;
                }
                Err(Interrupt::Restart(Restart::Conflict)) => {
                    return lane.begins_again(tree) || give_up(left, lane);
                }
                Ok(Found::Reference(_)) | Err(_) => return give_up(left, lane),
            };
            if faults.under_way() == 0 && arrived.is_empty() {
                answer(lane.key, found);
            } else {
                kept.keep(lane.key, found);
            }
            false
        });
    }

    /// If no lane can step: has all reads begun that can be, and waits until some pages have come. Lanes whose pages cannot be had so are left.
    fn wait(&mut self) {
        let Self { lanes, faults, left, arrived, .. } = self;
        lanes.iter_mut().filter(|lane| lane.now == Now::Ask).for_each(|lane| lane.ask(faults));
        if lanes.iter().any(|lane| lane.now == Now::Step) {
            return;
        }
        if faults.under_way() == 0 {
            lanes.drain(..).for_each(|lane| left.push(lane.key));
            return;
        }
        faults.wait(faults.under_way().div_ceil(WAKE_SHARE), arrived);
        // The next ones begin before those that came are looked at.
        lanes.iter_mut().filter(|lane| lane.now == Now::Ask).for_each(|lane| lane.ask(faults));
        faults.wait(0, arrived);
        for lane in lanes.iter_mut().filter(|lane| lane.now == Now::Wait) {
            // An error too: the lane finds the page missing again, and is left to be told.
            if arrived.iter().any(|(id, _)| lane.wanted == Some(*id)) {
                lane.now = Now::Step;
            }
        }
    }
}

impl<'t> Lane<'t> {
    /// Has the page that it wants brought in.
    fn ask(&mut self, faults: &mut Faults<'t>) {
        let Some(id) = self.wanted else { return };
        self.now = match faults.begin(id) {
            Begun::Reading => Now::Wait,
            Begun::Resident => Now::Step,
            Begun::NotNow => Now::Ask,
        };
    }

    /// Goes on to the leaf of its key.
    fn step(&mut self, tree: &'t BTree, key: &[u8]) -> Result<(), Interrupt> {
        while self.node.level() > 0 {
            let way = match self.way {
                Some(way) => way,
                None => self.node.way(Seek::Key(key))?,
            };
            self.way = Some(way);
            let below = self.node.level() - 1;
            let ask = |page| prefetch_search(below, page, key.len());
            self.node = walk::child(tree.sampled(), tree.tree_id(), &self.node, way, ask)?;
            (self.way, self.wanted) = (None, None);
        }
        // As at the end of every way down: what is gone with a dropped tree was not missing.
        tree.env().check_kept()?;
        walk::check_leaf(&self.node, key)
    }

    /// A node on the way was changed, or has left: from the root again, but not for ever.
    fn begins_again(&mut self, tree: &'t BTree) -> bool {
        self.restarts += 1;
        match walk::root(tree.sampled(), tree.roots()) {
            Ok(node) if self.restarts <= RESTARTS => {
                (self.node, self.way, self.wanted) = (node, None, None);
                true
            }
            _ => false,
        }
    }
}

/// Leaves the lookup to the loop that owns every retry; the lane ends.
fn give_up(left: &mut Vec<usize>, lane: &Lane<'_>) -> bool {
    left.push(lane.key);
    false
}
