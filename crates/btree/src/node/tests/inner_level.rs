//! Failure prevented: a child lost, doubled or reached by the wrong keys after a separator, a split, a merge or a change of
//! prefix; an inner node that says it has room for any separator and has not.

use pagestone_page_format::{FrameIndex, PageId};
use pagestone_swip::SwipWord;

use super::*;

/// One level of inner nodes. The model is what it means: separators, and the child between each two.
struct InnerLevel {
    size: usize,
    nodes: Vec<TestPage>,
    next_id: u64,
    separators: Vec<Vec<u8>>,
    children: Vec<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    /// The child that covers the first key is split; the second key says by what.
    Split(Vec<u8>, Vec<u8>),
    /// The child that covers the key is merged into the one before it.
    Merge(Vec<u8>),
    MergeNodes(usize),
    Shift(usize),
    Move(Vec<u8>),
}

impl InnerLevel {
    fn new(size: usize) -> Self {
        let root = FormatNode {
            level: 1,
            first_child: SwipWord::new(PageId::new(1000)).unwrap(),
            ..FormatNode::empty_leaf(9)
        };
        Self {
            size,
            nodes: vec![TestPage::formatted(size, 1, &root)],
            next_id: 1001,
            separators: Vec::new(),
            children: vec![1000],
        }
    }

    fn node_of(&self, key: &[u8]) -> usize {
        self.nodes.partition_point(|node| node.lower().as_slice() <= key) - 1
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn split_child(&mut self, key: &[u8], near: Vec<u8>) {
        let index = self.separators.partition_point(|separator| separator.as_slice() <= key);
        // A separator strictly inside the child's range.
        let lower = index.checked_sub(1).map(|before| self.separators[before].clone()).unwrap_or_default();
        let upper = self.separators.get(index);
        let mut separator = near;
        if separator <= lower || upper.is_some_and(|upper| &separator >= upper) {
            separator = lower.clone();
            separator.push(0);
        }
        if upper.is_some_and(|upper| &separator >= upper) || separator.len() > max_key(self.size) {
            return;
        }
        let mut at = self.node_of(key);
        if !self.nodes[at].view().has_room_for(key, 0).unwrap() {
            at = self.split_node(at, key);
        }
        let child = self.next_id();
        let node = &self.nodes[at];
        let chosen = node.view().child_for(key).unwrap();
        assert_eq!(chosen.1.page_id().get(), self.children[index]);
        assert_eq!(node.view().load().unwrap().child_for_inside(key), Ok(chosen));
        node.apply(&InsertSeparator { key: &separator, child: PageId::new(child) }).expect("it has room");
        node.sound();
        assert!(node.apply(&InsertSeparator { key: &separator, child: PageId::new(5) }).is_err());
        self.separators.insert(index, separator);
        self.children.insert(index + 1, child);
    }

    fn split_node(&mut self, at: usize, key: &[u8]) -> usize {
        let id = self.next_id();
        let old = &self.nodes[at];
        warm(old);
        let before = read(old);
        let point = choose_split(old.view(), key, 0).unwrap();
        assert_eq!(old.key(point.slot), point.separator, "an exact separator moves up");
        let right = TestPage::new(self.size, id);
        right.apply(&FormatNode::right_half(old.view(), &point).unwrap()).unwrap();
        let left = FormatNode::left_half(old.view(), &point, right.id()).unwrap();
        let left = TestPage::formatted(self.size, old.id().get(), &left);
        let root = TestPage::new(self.size, 1);
        root.apply(&FormatNode::root_over(old.view(), old.id(), &point, right.id()).unwrap()).unwrap();
        assert_eq!(root.view().level(), Ok(2));
        assert_eq!(read(&root), (vec![point.separator.clone()], vec![old.id().get(), right.id().get()]));
        assert_eq!((root.lower(), root.upper()), (old.lower(), old.upper()));
        old.apply(&CutNode::new(&point, right.id())).unwrap();
        assert!(left.masked() == old.masked());
        old.sound();
        right.sound();
        let (mut separators, mut children) = read(old);
        let moved = read(&right);
        separators.push(point.separator.clone());
        separators.extend(moved.0);
        children.extend(moved.1);
        assert_eq!(before, (separators, children));
        for index in 0..=right.view().count().unwrap() {
            assert!(right.view().child(index).unwrap().hint().is_some(), "hints move along");
        }
        self.nodes.insert(at + 1, right);
        let half = if key < point.separator.as_slice() { at } else { at + 1 };
        assert!(self.nodes[half].view().has_room_for(key, 0).unwrap(), "the half has no room");
        half
    }

    fn merge_child(&mut self, key: &[u8]) {
        let node = &self.nodes[self.node_of(key)];
        let (index, child) = node.view().child_for(key).unwrap();
        if index == 0 {
            return;
        }
        let separator = node.key(index - 1);
        let at = self.separators.binary_search(&separator).unwrap();
        node.apply(&RemoveSeparator { key: &separator }).unwrap();
        node.sound();
        assert_eq!(self.children.remove(at + 1), child.page_id().get());
        self.separators.remove(at);
    }

    fn merge_nodes(&mut self, at: usize) {
        if at + 1 >= self.nodes.len() {
            return;
        }
        let (left, right) = (&self.nodes[at], &self.nodes[at + 1]);
        if left.view().bytes_with(&right.view()).unwrap().is_some() {
            left.apply(&AbsorbRight::of(right.view()).unwrap()).expect("bytes_with said that it fits");
            left.sound();
            self.nodes.remove(at + 1);
        }
    }

    /// As many children as it has room for go from a node to the one before it.
    fn shift(&mut self, at: usize) {
        if at + 1 >= self.nodes.len() {
            return;
        }
        shift(&self.nodes[at], &self.nodes[at + 1]);
    }

    fn move_child(&mut self, key: &[u8]) {
        let child = self.next_id();
        let at = self.separators.partition_point(|separator| separator.as_slice() <= key);
        let node = &self.nodes[self.node_of(key)];
        let (index, _) = node.view().child_for(key).unwrap();
        node.apply(&SetChild { index, child: PageId::new(child) }).unwrap();
        assert!(
            node.apply(&SetChild { index: node.view().count().unwrap() + 1, child: PageId::new(1) }).is_err()
        );
        self.children[at] = child;
    }

    fn check(&self) {
        let (mut separators, mut children) = (Vec::new(), Vec::new());
        for (at, node) in self.nodes.iter().enumerate() {
            node.sound();
            if at > 0 {
                assert_eq!(Some(node.lower()), self.nodes[at - 1].upper());
                separators.push(node.lower());
            }
            let (mine, below) = read(node);
            separators.extend(mine);
            children.extend(below);
        }
        assert!(separators == self.separators);
        assert!(children == self.children);
        for (index, separator) in self.separators.iter().enumerate() {
            let node = &self.nodes[self.node_of(separator)];
            assert_eq!(node.view().child_for(separator).unwrap().1.page_id().get(), self.children[index + 1]);
            if node.view().load().unwrap().covers_before(separator).unwrap() {
                let before = node.view().load().unwrap().child_before(separator).unwrap().1;
                assert_eq!(before.page_id().get(), self.children[index]);
            }
        }
    }

    fn run(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Split(key, near) => self.split_child(&key, near),
                Step::Merge(key) => self.merge_child(&key),
                Step::MergeNodes(at) => self.merge_nodes(at % self.nodes.len()),
                Step::Shift(at) => self.shift(at % self.nodes.len()),
                Step::Move(key) => self.move_child(&key),
            }
        }
        self.check();
    }
}

/// Gives every child a hint, as use does.
fn warm(node: &TestPage) {
    for index in 0..=node.view().count().unwrap() {
        let word = node.view().load().unwrap().child_word(index).unwrap();
        let swip = node.view().child(index).unwrap().with_hint(FrameIndex::new(index as u32));
        node.writer().put_word(word, swip.raw()).unwrap();
    }
}

fn read(node: &TestPage) -> (Vec<Vec<u8>>, Vec<u64>) {
    let count = node.view().count().unwrap();
    let children = (0..=count).map(|index| node.view().child(index).unwrap().page_id().get());
    ((0..count).map(|slot| node.key(slot)).collect(), children.collect())
}

fn steps(size: usize, count: usize) -> impl Strategy<Value = Vec<Step>> {
    let key = || keys(max_key(size));
    prop::collection::vec(
        prop_oneof![
            10 => key().prop_map(|key| Step::Split(key.clone(), key)),
            3 => (key(), key()).prop_map(|(key, near)| Step::Split(key, near)),
            2 => key().prop_map(Step::Merge),
            1 => any::<usize>().prop_map(Step::MergeNodes),
            1 => any::<usize>().prop_map(Step::Shift),
            1 => key().prop_map(Step::Move),
        ],
        1..count,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn small_pages(steps in steps(4096, 500)) {
        InnerLevel::new(4096).run(steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn large_pages(steps in steps(65536, 800)) {
        InnerLevel::new(65536).run(steps);
    }
}

#[test]
fn separators_in_order_leave_nodes_full() {
    let mut level = InnerLevel::new(4096);
    for number in 0..3000_u64 {
        let key = number.to_be_bytes().to_vec();
        level.split_child(&key, key.clone());
    }
    level.check();
    let used: usize = level.nodes.iter().map(|node| node.view().used_bytes().unwrap()).sum();
    // Room for the longest separator is kept, and the first six bytes are cut once a node has an upper fence.
    assert!(used * 100 > 60 * level.nodes.len() * 4096, "{} nodes", level.nodes.len());
}

/// What the upper half of a tight node may be: it fits without being tight itself, and has room for a separator only as a tight one.
#[test]
fn a_node_that_can_become_tight_has_room_between_its_separators() {
    let key = |number: u64| [&[b'p'; 504][..], &number.to_be_bytes()].concat();
    let format = FormatNode {
        level: 1,
        lower: key(0),
        upper: Some(b"user".to_vec()),
        first_child: SwipWord::new(PageId::new(5)).unwrap(),
        ..FormatNode::empty_leaf(9)
    };
    let node = TestPage::formatted(4096, 1, &format);
    for number in 1..7 {
        node.apply(&InsertSeparator { key: &key(10 * number), child: PageId::new(5 + number) }).unwrap();
    }
    assert!(!node.view().header().unwrap().tight, "six of them fit as they are");
    for number in [5, 15, 59] {
        assert!(node.view().has_room_for(&key(number), 0).unwrap(), "between two that begin so");
    }
    assert!(
        !node.view().has_room_for(&key(61), 0).unwrap(),
        "a separator behind the last may begin otherwise"
    );
    for number in 0..30 {
        let between = key(100 * number / 60 + 11);
        if node.view().find(&between).unwrap().is_none() && node.view().has_room_for(&between, 0).unwrap() {
            node.apply(&InsertSeparator { key: &between, child: PageId::new(99) }).expect("it said so");
            node.sound();
        }
    }
    assert!(node.view().header().unwrap().tight && node.view().count().unwrap() > 20);
}
