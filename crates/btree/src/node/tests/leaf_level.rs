//! Failure prevented: an entry lost, doubled or found in the wrong leaf by an insert, a split, a merge or a change of
//! prefix; a leaf that promises room and has none; redo that makes another page.

use std::collections::BTreeMap;

use pagestone_swip::SwipWord;

use super::*;

/// Key, value and flags.
type Entry = (Vec<u8>, (Vec<u8>, u8));

/// The leaves of a tree whose inner nodes are this vector.
struct LeafLevel {
    size: usize,
    leaves: Vec<TestPage>,
    next_id: u64,
    model: BTreeMap<Vec<u8>, (Vec<u8>, u8)>,
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, usize, u8),
    Remove(Vec<u8>),
    Merge(usize),
    Shift(usize),
}

impl LeafLevel {
    fn new(size: usize) -> Self {
        let root = TestPage::formatted(size, 1, &FormatNode::empty_leaf(9));
        Self { size, leaves: vec![root], next_id: 2, model: BTreeMap::new() }
    }

    fn leaf_of(&self, key: &[u8]) -> usize {
        self.leaves.partition_point(|leaf| leaf.lower().as_slice() <= key) - 1
    }

    fn put(&mut self, key: &[u8], value: &[u8], flags: u8) {
        let mut at = self.leaf_of(key);
        assert_eq!(self.leaves[at].view().covers(key), Ok(Covers::Inside));
        if !self.leaves[at].view().has_room_for(key, value.len()).unwrap() {
            at = self.split(at, key, value.len());
        }
        let leaf = &self.leaves[at];
        let found = leaf.view().find(key).unwrap();
        let loaded = leaf.view().load().unwrap();
        assert_eq!(loaded.find_inside(key), Ok(found));
        let cell = found.map(|slot| leaf.view().cell(slot).unwrap());
        assert_eq!(loaded.find_cell(key), Ok(cell));
        assert_eq!(loaded.find_expected(loaded.expect_inside(key), key), Ok(cell));
        assert_eq!(found.is_some(), self.model.contains_key(key));
        let old = self.model.insert(key.to_vec(), (value.to_vec(), flags));
        match found {
            Some(slot) => {
                assert_eq!(leaf.value(slot), old.unwrap().0);
                assert!(leaf.view().can_update(slot, value.len()).unwrap());
                // Told where, told wrong, or not told: it is the same change.
                let at = [Some(slot), Some(slot + 1), None][value.len() % 3];
                leaf.apply(&UpdateCell { at, key, value, flags }).expect("can_update said yes");
            }
            None => {
                assert!(leaf.view().can_hold(key, value.len()).unwrap());
                leaf.apply(&InsertCell { key, value, flags }).expect("can_hold said yes");
            }
        }
        leaf.sound();
        let slot = leaf.view().find(key).unwrap().expect("just put");
        assert_eq!((leaf.value(slot), leaf.view().flags(slot).unwrap()), (value.to_vec(), flags));
    }

    /// Splits, proves the split, and gives the half for the key.
    fn split(&mut self, at: usize, key: &[u8], value_len: usize) -> usize {
        let old = &self.leaves[at];
        let before: Vec<_> = self.entries(old);
        let point = choose_split(old.view(), key, value_len).unwrap();
        let right = TestPage::new(self.size, self.next_id);
        self.next_id += 1;
        let (lower, upper, sibling) = (old.lower(), old.upper(), old.view().right_sibling().unwrap());
        right.apply(&FormatNode::right_half(old.view(), &point).unwrap()).unwrap();
        if at == 0 {
            // As a root splits: the left half goes to a page of its own and is the same as one that was cut.
            let left = FormatNode::left_half(old.view(), &point, right.id()).unwrap();
            let left = TestPage::formatted(self.size, old.id().get(), &left);
            old.apply(&CutNode::new(&point, right.id())).unwrap();
            assert!(left.image() == old.image());
        } else {
            old.apply(&CutNode::new(&point, right.id())).unwrap();
        }
        old.sound();
        right.sound();
        assert_eq!((old.lower(), right.upper()), (lower, upper));
        assert_eq!(old.upper().as_deref(), Some(&point.separator[..]));
        assert_eq!(right.lower(), point.separator);
        assert_eq!(old.view().right_sibling().unwrap().page_id(), right.id());
        assert_eq!(right.view().right_sibling().unwrap(), sibling);
        let mut after = self.entries(old);
        assert_eq!(after.len(), point.slot);
        assert!(after.iter().all(|entry| entry.0 < point.separator));
        let moved = self.entries(&right);
        assert!(moved.iter().all(|entry| entry.0 >= point.separator));
        after.extend(moved);
        assert_eq!(before, after);
        self.leaves.insert(at + 1, right);
        let half = if key < point.separator.as_slice() { at } else { at + 1 };
        assert!(
            self.leaves[half].view().has_room_for(key, value_len).unwrap(),
            "the half that the entry goes to has no room for it"
        );
        half
    }

    fn remove(&mut self, key: &[u8]) {
        let leaf = &self.leaves[self.leaf_of(key)];
        let found = leaf.view().find(key).unwrap();
        assert_eq!(found.is_some(), self.model.remove(key).is_some());
        if found.is_some() {
            leaf.apply(&RemoveCell { key }).unwrap();
            assert_eq!(leaf.view().find(key), Ok(None));
        } else {
            let image = leaf.image();
            assert!(leaf.apply(&RemoveCell { key }).is_err());
            assert!(leaf.image() == image);
        }
        leaf.sound();
    }

    /// As much as it has room for goes from a leaf to the one before it.
    fn shift(&mut self, at: usize) {
        if at + 1 >= self.leaves.len() {
            return;
        }
        shift(&self.leaves[at], &self.leaves[at + 1]);
    }

    fn merge(&mut self, at: usize) {
        if at + 1 >= self.leaves.len() {
            return;
        }
        let (left, right) = (&self.leaves[at], &self.leaves[at + 1]);
        if left.view().bytes_with(&right.view()).unwrap().is_none() {
            return;
        }
        left.apply(&AbsorbRight::of(right.view()).unwrap()).expect("bytes_with said that it fits");
        right.apply(&MarkObsolete).unwrap();
        assert!(!right.view().is_node().unwrap());
        left.sound();
        self.leaves.remove(at + 1);
    }

    fn entries(&self, leaf: &TestPage) -> Vec<Entry> {
        let count = leaf.view().count().unwrap();
        (0..count)
            .map(|slot| (leaf.key(slot), (leaf.value(slot), leaf.view().flags(slot).unwrap())))
            .collect()
    }

    fn check(&self) {
        let mut all = Vec::new();
        let mut fence = Some(Vec::new());
        for (at, leaf) in self.leaves.iter().enumerate() {
            leaf.sound();
            assert_eq!(Some(leaf.lower()), fence);
            fence = leaf.upper();
            let sibling = self.leaves.get(at + 1).map(|right| right.id());
            let expected = sibling.map_or(SwipWord::NULL, |id| SwipWord::new(id).unwrap());
            assert_eq!(leaf.view().right_sibling(), Ok(expected));
            all.extend(self.entries(leaf));
        }
        assert_eq!(fence, None);
        let model: Vec<_> = self.model.clone().into_iter().collect();
        assert!(all == model);
        for key in self.model.keys() {
            let leaf = &self.leaves[self.leaf_of(key)];
            assert!(leaf.view().find(key).unwrap().is_some());
            let before = self.model.range::<Vec<u8>, _>(..key).next_back();
            if let (Some(slot), Some((before, _))) =
                (leaf.view().lower_bound(key).unwrap().checked_sub(1), before)
            {
                assert_eq!(&leaf.key(slot), before);
            }
        }
    }

    fn run(&mut self, steps: &[Step]) {
        for (round, step) in steps.iter().enumerate() {
            match step {
                Step::Put(key, len, flags) => {
                    let len = len % (max_value(self.size, key) + 1);
                    self.put(key, &vec![round as u8; len], *flags);
                }
                Step::Remove(key) => self.remove(key),
                Step::Merge(at) => self.merge(at % self.leaves.len()),
                Step::Shift(at) => self.shift(at % self.leaves.len()),
            }
        }
        self.check();
    }

    fn used(&self) -> f64 {
        let used: usize = self.leaves.iter().map(|leaf| leaf.view().used_bytes().unwrap()).sum();
        used as f64 / (self.leaves.len() * self.size) as f64
    }
}

fn steps(size: usize, count: usize) -> impl Strategy<Value = Vec<Step>> {
    let put = |lens| {
        (keys(max_key(size)), lens, prop_oneof![3 => Just(0), 1 => 0..8_u8])
            .prop_map(|(key, len, flags)| Step::Put(key, len, flags))
    };
    prop::collection::vec(
        prop_oneof![
            6 => put((0..40_usize).boxed()),
            4 => put(prop_oneof![Just(size / 4), 0..size].boxed()),
            3 => keys(max_key(size)).prop_map(Step::Remove),
            1 => any::<usize>().prop_map(Step::Merge),
            1 => any::<usize>().prop_map(Step::Shift),
        ],
        1..count,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn small_pages(steps in steps(4096, 300)) {
        LeafLevel::new(4096).run(&steps);
    }

    /// Keys of one beginning, as long as they come, make tight nodes; then some keys that begin otherwise.
    #[test]
    fn long_alike_keys(
        rounds in prop::collection::vec((1..500_u16, 1..300_u16, 0..4_u8, any::<u16>()), 1..6),
        len in 0..510_usize,
    ) {
        let mut level = LeafLevel::new(4096);
        for (start, count, kind, unlike) in rounds {
            for number in start..start + count {
                let mut key = vec![b'x'; len];
                key.extend_from_slice(&number.to_be_bytes());
                match kind {
                    0 if number % 3 > 0 => level.remove(&key),
                    _ => level.put(&key, &[kind], 0),
                }
            }
            let mut key = vec![b'x'; usize::from(unlike) % (len + 1)];
            key.push(if unlike % 2 == 0 { b'a' } else { b'y' });
            level.put(&key, &[7; 5], 0);
        }
        level.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn large_pages(steps in steps(65536, 300)) {
        LeafLevel::new(65536).run(&steps);
    }
}

/// After a load in key order the pages are over 90 % full, however the keys begin.
#[test]
fn loads_in_key_order_fill_pages() {
    let kinds: [fn(u32) -> Vec<u8>; 4] = [
        |number| format!("user{number:012}").into_bytes(),
        |number| u64::from(number).to_be_bytes().to_vec(),
        |number| format!("tenant/0001/orders/by-customer/{number:020}").into_bytes(),
        |number| format!("{number}{}", "x".repeat(number as usize % 40)).into_bytes(),
    ];
    for (kind, key) in kinds.iter().enumerate() {
        for value_len in [0, 8, 100, 300] {
            let mut level = LeafLevel::new(4096);
            let mut keys: Vec<_> = (0..4000).map(key).collect();
            keys.sort();
            for key in &keys {
                level.put(key, &vec![1; value_len], 0);
            }
            level.check();
            let used = level.used();
            assert!(used > 0.9, "keys {kind}, values of {value_len}: {:.1} % used", used * 100.0);
        }
    }
}

/// A full tight leaf has room for the separator of the split that a key without its prefix causes, however long that is.
#[test]
fn a_key_unlike_all_others_splits_a_full_tight_leaf() {
    for alike in [1, 20, 200, 500] {
        for last in 1..=40 {
            let format = FormatNode { lower: vec![b'p'; alike], ..FormatNode::empty_leaf(9) };
            let mut level = LeafLevel::new(4096);
            level.leaves = vec![TestPage::formatted(4096, 1, &format)];
            let key = |number: u16| [&vec![b'p'; alike][..], &number.to_be_bytes()].concat();
            let mut number = 0;
            while level.leaves[0].view().can_hold(&key(number), 100).unwrap() {
                level.put(&key(number), &[1; 100], 0);
                number += 1;
            }
            // Fill what is left as well as it goes.
            for len in (0..=last).rev() {
                if level.leaves[0].view().can_hold(&key(number), len).unwrap() {
                    level.put(&key(number), &vec![2; len], 0);
                    number += 1;
                }
            }
            let mut unlike = vec![b'p'; alike - 1];
            unlike.push(b'q');
            level.put(&unlike, &[3; 400], 0);
            assert_eq!(level.leaves.len(), 2);
            assert!(level.leaves[1].view().find(&unlike).unwrap().is_some());
        }
    }
}

/// Loads in order beside each other, in the middle of other keys, fill pages as well.
#[test]
fn two_interleaved_loads_fill_pages() {
    let mut level = LeafLevel::new(4096);
    level.put(b"zz", b"", 0);
    for number in 0..4000 {
        for table in ["a", "b"] {
            level.put(format!("{table}/{number:08}").as_bytes(), &[7; 100], 0);
        }
    }
    level.check();
    assert!(level.used() > 0.9, "{:.1} % used", level.used() * 100.0);
}

/// So does a load in falling order, but for the prefix that a leaf without a lower fence cannot cut.
#[test]
fn loads_in_falling_order_fill_pages() {
    let mut level = LeafLevel::new(4096);
    for number in (0..4000_u64).rev() {
        level.put(&number.to_be_bytes(), &[1; 100], 0);
    }
    level.check();
    assert!(level.used() > 0.9, "{:.1} % used", level.used() * 100.0);
}

/// A queue, filled at one end and emptied at the other, keeps its pages full.
#[test]
fn queues_fill_pages() {
    let mut level = LeafLevel::new(4096);
    for number in 0..4000_u64 {
        level.put(&number.to_be_bytes(), &[7; 100], 0);
        if number >= 1000 {
            level.remove(&(number - 1000).to_be_bytes());
        }
    }
    level.leaves.retain(|leaf| leaf.view().count().unwrap() > 0);
    assert!(level.used() > 0.87, "{:.1} % used", level.used() * 100.0);
}

/// Splits in the middle leave both halves about half full.
#[test]
fn loads_in_random_order_fill_two_thirds() {
    let mut level = LeafLevel::new(4096);
    for number in 0..8000_u32 {
        let key = number.wrapping_mul(2_654_435_761).to_be_bytes();
        level.put(&key, &[7; 100], 0);
    }
    level.check();
    assert!(level.used() > 0.65, "{:.1} % used", level.used() * 100.0);
}
