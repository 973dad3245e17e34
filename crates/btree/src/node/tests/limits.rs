//! Failure prevented: keys and values within their limits that no split makes room for; records larger than promised.

use super::*;

fn entry(size: usize, key_len: usize, first: u8, salt: u8) -> (Vec<u8>, Vec<u8>) {
    let mut key = vec![first; key_len];
    if let Some(last) = key.last_mut() {
        *last = salt;
    }
    let value = vec![salt; max_value(size, &key)];
    (key, value)
}

#[test]
fn limits_are_what_the_design_asks_for() {
    for size in [4096, 8192, 16384, 32768, 65536] {
        let page_size = PageSize::new(size).unwrap();
        assert_eq!(max_key_len(page_size), size / 8);
        assert!(max_inline_value(page_size, 16) * 5 > size, "about a quarter of the page");
        assert!(max_inline_value(page_size, size / 8) > 64, "room for a reference in any case");
        // A leaf with short fences holds four of the largest entries.
        let leaf = TestPage::formatted(size, 1, &FormatNode::empty_leaf(1));
        for number in 0..4 {
            let (key, value) = entry(size, 16, number, number);
            leaf.apply(&InsertCell { key: &key, value: &value, flags: 0 }).unwrap();
        }
        // An inner node holds four of the longest separators between two of the longest fences.
        let fence = |byte: u8| vec![byte; size / 8];
        let inner = FormatNode {
            level: 1,
            lower: fence(0),
            upper: Some(fence(9)),
            first_child: pagestone_swip::SwipWord::new(PageId::new(5)).unwrap(),
            ..FormatNode::empty_leaf(1)
        };
        let inner = TestPage::formatted(size, 1, &inner);
        for number in 1..5 {
            inner.apply(&InsertSeparator { key: &fence(number), child: PageId::new(6) }).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever a full leaf holds, one split makes room for the largest entries anywhere; also in place of a small one.
    #[test]
    fn one_split_makes_room_for_any_entry(
        size in prop::sample::select(&[4096_usize, 16384, 65536][..]),
        lens in prop::collection::vec((1..=512_usize, prop_oneof![Just(0_usize), Just(960), 0..960_usize]), 1..60),
        fences in (0..=512_usize, 0..=512_usize),
        key_len in prop_oneof![Just(512_usize), 1..=512_usize],
        position: u8,
        alike: bool,
    ) {
        let part = size / 4096;
        let lens = lens.into_iter().map(|(key, value)| (key * part, value * part));
        let (fences, key_len) = ((fences.0 * part, fences.1 * part), key_len * part);
        let first = |number: u8| if alike { 7 } else { number };
        let mut lower = vec![first(1); fences.0];
        let mut upper = vec![first(250); fences.1];
        if alike {
            lower = vec![6; fences.0];
            upper = vec![8; fences.1.max(1)];
        }
        let upper = (!upper.is_empty()).then_some(upper);
        let leaf = TestPage::formatted(size, 1, &FormatNode { lower, upper, ..FormatNode::empty_leaf(1) });
        for (number, (key_len, value_len)) in lens.enumerate() {
            let number = (number * 4 + 2) as u8;
            let (key, value) = entry(size, key_len, first(number), number);
            let value = &value[..value.len().min(value_len)];
            if leaf.view().covers(&key) == Ok(Covers::Inside) {
                let node = leaf.view().load().unwrap();
                assert_eq!(node.find_inside(&key), leaf.view().find(&key));
            }
            if leaf.view().covers(&key) == Ok(Covers::Inside)
                && leaf.view().find(&key) == Ok(None)
                && leaf.view().can_hold(&key, value.len()).unwrap()
            {
                leaf.apply(&InsertCell { key: &key, value, flags: 0 }).unwrap();
            }
        }
        leaf.sound();
        let (key, value) = entry(size, key_len, first(position), position);
        if leaf.view().covers(&key) == Ok(Covers::Inside) && !leaf.view().has_room_for(&key, value.len()).unwrap() {
            let point = choose_split(leaf.view(), &key, value.len()).unwrap();
            let right = FormatNode::right_half(leaf.view(), &point).unwrap();
            let right = TestPage::formatted(size, 2, &right);
            leaf.apply(&CutNode::new(&point, right.id())).unwrap();
            leaf.sound();
            right.sound();
            let half = if key < point.separator { &leaf } else { &right };
            prop_assert!(half.view().has_room_for(&key, value.len()).unwrap());
            match half.view().find(&key).unwrap() {
                Some(_) => half.apply(&UpdateCell { at: None, key: &key, value: &value, flags: 0 }).unwrap(),
                None => half.apply(&InsertCell { key: &key, value: &value, flags: 0 }).unwrap(),
            }
            half.sound();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// However full a node is and whatever its fences share: it can lose its upper fence, and keeps all it has.
    #[test]
    fn any_node_can_be_the_last_of_its_level(
        shared in 0..=500_usize,
        between in 0..=500_usize,
        lens in prop::collection::vec((0..=512_usize, 0..960_usize), 0..80),
        inner: bool,
    ) {
        let lower = vec![7; shared];
        let upper = Some([vec![7; shared], vec![9; 4]].concat());
        let child = pagestone_swip::SwipWord::new(PageId::new(5)).unwrap();
        let mut format = FormatNode { lower, upper, right_sibling: child, ..FormatNode::empty_leaf(1) };
        if inner {
            (format.level, format.first_child) = (1, child);
        }
        let node = TestPage::formatted(4096, 1, &format);
        // All keys may share more than the fences do, so that the node is tight.
        let start = [vec![7; shared], vec![8; between.min(500 - shared)]].concat();
        for (number, (key_len, value_len)) in lens.into_iter().enumerate() {
            let mut key = [&start[..], &(number as u16).to_be_bytes()].concat();
            key.resize(key.len().max(key_len), 1);
            let value = vec![3; value_len.min(max_value(4096, &key))];
            if inner && node.view().can_hold(&key, 0).unwrap() {
                node.apply(&InsertSeparator { key: &key, child: PageId::new(6) }).unwrap();
            } else if !inner && node.view().can_hold(&key, value.len()).unwrap() {
                node.apply(&InsertCell { key: &key, value: &value, flags: 0 }).unwrap();
            }
        }
        let all = |node: &TestPage| -> Vec<_> {
            (0..node.view().count().unwrap()).map(|slot| (node.key(slot), node.value(slot))).collect()
        };
        let before = all(&node);
        node.apply(&EndLevel).unwrap();
        node.sound();
        prop_assert!(node.upper().is_none() && node.view().right_sibling().unwrap().is_null());
        prop_assert!(all(&node) == before);
    }
}

#[test]
fn records_are_little_more_than_the_users_bytes() {
    let (key, value) = (b"user000000012345", [7; 100]);
    let len = |op: &dyn PageOp| {
        let mut record = Vec::new();
        op.encode(&mut record);
        record.len()
    };
    assert_eq!(len(&InsertCell { key, value: &value, flags: 0 }), 16 + 100 + 1);
    assert_eq!(len(&UpdateCell { at: None, key, value: &value, flags: 3 }), 16 + 100 + 2);
    assert_eq!(len(&RemoveCell { key }), 16);
    assert!(len(&InsertSeparator { key, child: PageId::new(1 << 37) }) <= 16 + 6);
    // A whole leaf: what its cells hold, their prefix once, and a few bytes for each.
    let leaf = TestPage::formatted(4096, 1, &FormatNode::empty_leaf(1));
    for number in 0..30 {
        let key = format!("user{number:012}").into_bytes();
        leaf.apply(&InsertCell { key: &key, value: &value, flags: 0 }).unwrap();
    }
    assert!(len(&FormatNode::copy_of(leaf.view()).unwrap()) <= 30 * (16 + 100 + 2) + 16);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever a full inner node holds, one split makes room for the longest separator of any child.
    #[test]
    fn one_split_makes_room_for_any_separator(
        size in prop::sample::select(&[4096_usize, 16384, 65536][..]),
        lens in prop::collection::vec(prop_oneof![Just(512_usize), 1..=512_usize, 1..9_usize], 1..120),
        fences in (0..=512_usize, 0..=512_usize),
        position: u8,
    ) {
        let part = size / 4096;
        let child = pagestone_swip::SwipWord::new(PageId::new(5)).unwrap();
        let upper = vec![250; fences.1 * part];
        let format = FormatNode {
            level: 1,
            lower: vec![1; fences.0 * part],
            upper: (!upper.is_empty()).then_some(upper),
            first_child: child,
            ..FormatNode::empty_leaf(1)
        };
        let node = TestPage::formatted(size, 1, &format);
        for (number, len) in lens.into_iter().enumerate() {
            let key = vec![(number * 2 + 2) as u8; len * part];
            if node.view().can_hold(&key, 0).unwrap() {
                node.apply(&InsertSeparator { key: &key, child: PageId::new(6) }).unwrap();
            }
        }
        node.sound();
        let key = vec![position.clamp(2, 249) | 1; size / 8];
        if node.view().covers(&key) == Ok(Covers::Inside)
            && !node.view().has_room_for(&key, 0).unwrap()
            && node.view().count().unwrap() > 1
        {
            let point = choose_split(node.view(), &key, 0).unwrap();
            let right = FormatNode::right_half(node.view(), &point).unwrap();
            let right = TestPage::formatted(size, 2, &right);
            node.apply(&CutNode::new(&point, right.id())).unwrap();
            node.sound();
            right.sound();
            let half = if key < point.separator { &node } else { &right };
            prop_assert!(half.view().has_room_for(&key, 0).unwrap());
            half.apply(&InsertSeparator { key: &key, child: PageId::new(6) }).unwrap();
            half.sound();
        }
    }
}
