//! Many lookups at once, by one thread: what each waits for overlaps.
//!
//! Invariant: an answer that is given here came down the one way, step by step, each validated as that of a single lookup; so each is
//! of one instant, though not of the same one. Whatever does not go through at once (a conflict, a page that is still not there, an
//! error) is left to the loop that owns every retry, as a lookup by itself.
//!
//! ```text
//!   round      lane 0           lane 1           lane 2
//!     1        touch child ───► touch child ───► touch child      misses of memory overlap: nobody waits for a load
//!     2        step ──────────► step ──────────► step             what was touched is in the cache by now
//!              hit              fault            fault
//!     3                         └── prefetch both, in one call ──┘ reads of the disk overlap
//!     4        ...              step again, from where it stood
//! ```
//!
//! After Kocberber et al., *Asynchronous Memory Access Chaining*, VLDB 2015, and Chen et al., *Improving Index Performance through
//! Prefetching*, SIGMOD 2001.

use pagestone_buffer_pool::{OptimisticPage, Restart};
use pagestone_page_format::PageId;
use pagestone_swip::SwipWord;

use crate::descend::Seek;
use crate::error::Interrupt;
use crate::read::Found;
use crate::walk::{self, Node};
use crate::{BTree, TreeResult};

/// Lookups under way at once: enough for the depth at which disks read fastest, and past what a core can have missing.
const LANES: usize = 32;

/// A lookup under way.
struct Lane<'t> {
    /// Which of the keys.
    key: usize,
    node: Node<'t, OptimisticPage<'t>>,
    /// Where it goes next; none from a leaf.
    way: Option<(usize, SwipWord)>,
    /// The page that it wanted and was not there.
    wanted: Option<PageId>,
}

impl BTree {
    /// The values of these keys, in their order: `None` where there is no entry. Any number of them, in any order, also twice.
    ///
    /// Up to 32 lookups are under way at once, so that what they wait for, memory or disk, overlaps. Each answer is of one instant,
    /// as that of [`BTree::get`]; together they are of several.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> TreeResult<Vec<Option<Vec<u8>>>> {
        let mut values = vec![None; keys.len()];
        self.multi_get_with(keys, |key, value| values[key] = value.map(<[u8]>::to_vec))?;
        Ok(values)
    }

    /// As [`BTree::multi_get`], without memory for each value: `answer` is called once for each key, with its index, in no order that
    /// is promised. It runs on a copy, with no latch held. After an error some were answered.
    pub fn multi_get_with<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        mut answer: impl FnMut(usize, Option<&[u8]>),
    ) -> TreeResult<()> {
        self.env().check_open()?;
        let mut value = Vec::new();
        for (group, keys) in keys.chunks(LANES).enumerate() {
            let mut left = Vec::new();
            let mut lanes = self.set_out(keys, &mut left);
            while !lanes.is_empty() {
                self.touch_children(keys, &mut lanes, &mut left);
                self.advance(keys, &mut lanes, &mut left, &mut value, &mut |key, value| {
                    answer(group * LANES + key, value);
                });
                self.fetch_wanted(&mut lanes);
            }
            // Those that did not go through, each by itself.
            for key in left {
                let found = self.get_into(keys[key].as_ref(), &mut value)?;
                answer(group * LANES + key, found.then_some(&value));
            }
        }
        Ok(())
    }

    fn set_out<'t, K: AsRef<[u8]>>(&'t self, keys: &[K], left: &mut Vec<usize>) -> Vec<Lane<'t>> {
        let mut lanes = Vec::with_capacity(keys.len());
        for key in 0..keys.len() {
            match walk::root(self.sampled(), self.roots()) {
                Ok(node) => lanes.push(Lane { key, node, way: None, wanted: None }),
                Err(_) => left.push(key),
            }
        }
        lanes
    }

    /// Finds where each lane goes next, and has the processor fetch what is looked at there.
    fn touch_children<K: AsRef<[u8]>>(&self, keys: &[K], lanes: &mut Vec<Lane<'_>>, left: &mut Vec<usize>) {
        lanes.retain_mut(|lane| {
            if lane.node.level() == 0 || lane.way.is_some() {
                return true;
            }
            match lane.node.way(self.sampled(), Seek::Key(keys[lane.key].as_ref())) {
                Ok(way) => {
                    lane.way = Some(way);
                    true
                }
                Err(_) => {
                    left.push(lane.key);
                    false
                }
            }
        });
    }

    /// Takes one step in each lane, and answers those that stand in a leaf.
    fn advance<'t, K: AsRef<[u8]>>(
        &'t self,
        keys: &[K],
        lanes: &mut Vec<Lane<'t>>,
        left: &mut Vec<usize>,
        value: &mut Vec<u8>,
        answer: &mut dyn FnMut(usize, Option<&[u8]>),
    ) {
        lanes.retain_mut(|lane| {
            let key = keys[lane.key].as_ref();
            let outcome = match lane.way {
                Some(way) => {
                    walk::follow(self.sampled(), self.tree_id(), &lane.node, way, Seek::Key(key)).map(Some)
                }
                None => Ok(None),
            };
            match outcome {
                Ok(Some(node)) => {
                    (lane.node, lane.way, lane.wanted) = (node, None, None);
                    true
                }
                // The first time: with others it is read in one call.
                Err(Interrupt::Restart(Restart::Fault(id))) if lane.wanted.is_none() => {
                    lane.wanted = Some(id);
                    true
                }
                Err(_) => {
                    left.push(lane.key);
                    false
                }
                Ok(None) => {
                    // As at the end of every way down: what is gone with a dropped tree was not missing.
                    let kept = self.env().check_kept().map_err(Interrupt::from);
                    match kept.and_then(|()| self.find_in(&lane.node, key, value)) {
                        Ok(Found::Nothing) => answer(lane.key, None),
                        Ok(Found::Value) => answer(lane.key, Some(value)),
                        Ok(Found::Reference(_)) | Err(_) => left.push(lane.key),
                    }
                    false
                }
            }
        });
    }

    /// Reads the pages that lanes are waiting for, together.
    fn fetch_wanted(&self, lanes: &mut [Lane<'_>]) {
        let wanted: Vec<PageId> = lanes.iter().filter_map(|lane| lane.wanted).collect();
        if !wanted.is_empty() {
            self.env().pool().prefetch(&wanted);
        }
    }
}
