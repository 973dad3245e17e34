//! Failure prevented: a page or a record with a valid checksum and hostile bytes (E4) that makes a reader, redo or `verify`
//! panic, loop, or take memory without bound; a reader beside a writer that does.

use pagestone_page_format::slotted::{SlottedForm, SlottedWriter};

use super::*;

fn read_everything(page: &TestPage, key: &[u8]) {
    let view = page.view();
    let mut out = Vec::new();
    let _ = (view.is_node(), view.tree_id(), view.level(), view.upper_is_infinite());
    let _ = (
        view.covers(key),
        view.load().and_then(|node| node.covers_before(key)),
        view.search(key),
        view.check(),
    );
    let _ = (
        view.child_for(key),
        view.load().and_then(|node| node.child_before(key)),
        view.right_sibling(),
        view.right_sibling_word(),
    );
    let _ =
        (view.can_hold(key, 10), view.has_room_for(key, 10), view.used_bytes(), view.should_absorb(&view));
    let _ = view.load().map(|node| (node.find_inside(key), node.child_for_inside(key), node.last_child()));
    let _ = view.load().map(|node| (node.find_cell(key), node.find_expected(node.expect_inside(key), key)));
    let _ = (view.lower_fence(&mut out), view.upper_fence(&mut out));
    for slot in 0..view.count().unwrap_or(0).min(200) + 1 {
        out.clear();
        let _ = (view.append_key(slot, &mut out), view.append_value(slot, &mut out), view.flags(slot));
        let _ = (view.can_update(slot, 900), view.safe_for_separator(slot));
        let _ = (view.child(slot), view.load().and_then(|node| node.child_word(slot)));
    }
    if let Ok(point) = choose_split(view, key, 50) {
        let _ = (FormatNode::right_half(view, &point), FormatNode::left_half(view, &point, PageId::new(3)));
    }
    let _ = (FormatNode::copy_of(view), AbsorbRight::of(view));
}

fn change_everything(image: &[u8], key: &[u8]) {
    let value = [7; 60];
    let ops: [&dyn PageOp; 11] = [
        &InsertCell { key, value: &value, flags: 1 },
        &UpdateCell { at: None, key, value: &value, flags: 1 },
        &UpdateCell { at: Some(3), key, value: &value, flags: 1 },
        &RemoveCell { key },
        &InsertSeparator { key, child: PageId::new(4) },
        &RemoveSeparator { key },
        &CutNode { upper: key, right_sibling: PageId::new(4) },
        &MarkObsolete,
        &EndLevel,
        &SetChild { index: 2, child: PageId::new(4) },
        &SetRightSibling { sibling: pagestone_swip::SwipWord::NULL },
    ];
    for op in ops {
        let _ = op.apply(&TestPage::of_bytes(image).writer());
    }
    if let Ok(op) = AbsorbRight::of(TestPage::of_bytes(image).view()) {
        let _ = op.apply(&TestPage::of_bytes(image).writer());
    }
    if let Ok(op) = FormatNode::copy_of(TestPage::of_bytes(image).view()) {
        let _ = op.apply(&TestPage::of_bytes(image).writer());
    }
}

fn node(inner: bool, count: usize) -> TestPage {
    node_of(4096, inner, count)
}

fn node_of(size: usize, inner: bool, count: usize) -> TestPage {
    let child = pagestone_swip::SwipWord::new(PageId::new(5)).unwrap();
    let mut format =
        FormatNode { lower: b"key".to_vec(), upper: Some(b"kez".to_vec()), ..FormatNode::empty_leaf(1) };
    if inner {
        (format.level, format.first_child) = (1, child);
    }
    let page = TestPage::formatted(size, 1, &format);
    for number in 0..count {
        let key = format!("key{:04}", number * 37 % 1000).into_bytes();
        let _ = match inner {
            true => page.apply(&InsertSeparator { key: &key, child: PageId::new(6) }),
            false => page.apply(&InsertCell { key: &key, value: &key, flags: 0 }),
        };
    }
    page
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(mut bytes in prop::collection::vec(any::<u8>(), 4096), key in keys(512), level: bool) {
        read_everything(&TestPage::of_bytes(&bytes), &key);
        change_everything(&bytes, &key);
        // Past the first checks: the kind and the level.
        (bytes[3], bytes[36], bytes[37]) = if level { (3, 1, 0) } else { (2, 0, 0) };
        bytes[38..44].fill(0);
        read_everything(&TestPage::of_bytes(&bytes), &key);
        change_everything(&bytes, &key);
    }

    #[test]
    fn damaged_nodes(
        size in prop::sample::select(&[4096_usize, 16384][..]),
        inner: bool,
        count in 0..80_usize,
        damage in prop::collection::vec((prop_oneof![32..72_usize, 32..72_usize, 72..4096_usize], any::<u8>()), 1..8),
        number in 0..1000_u32,
    ) {
        let mut bytes = node_of(size, inner, count * (size / 4096)).image();
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        let key = format!("key{number:04}").into_bytes();
        read_everything(&TestPage::of_bytes(&bytes), &key);
        change_everything(&bytes, &key);
    }

    #[test]
    fn random_records(inner: bool, kind in 0x0200..=0x0210_u16, payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let page = node(inner, 20);
        let _ = (redo_range().apply)(kind, &payload, &page.writer());
        read_everything(&page, b"key0001");
    }

    #[test]
    fn damaged_records(inner: bool, kind in 0x0200..=0x020a_u16, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut record = Vec::new();
        FormatNode::copy_of(node(inner, 30).view()).unwrap().encode(&mut record);
        for (at, byte) in damage {
            *at.get_mut(&mut record) = byte;
        }
        let page = node(inner, 20);
        let _ = (redo_range().apply)(kind, &record, &page.writer());
        read_everything(&page, b"key0001");
    }
}

#[test]
fn a_record_that_names_more_cells_than_it_has() {
    let mut record = Vec::new();
    FormatNode::empty_leaf(1).encode(&mut record);
    record.pop();
    record.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    let page = TestPage::new(4096, 1);
    let image = page.image();
    assert!((redo_range().apply)(0x0200, &record, &page.writer()).is_err());
    assert!(page.image() == image);
}

#[test]
fn readers_beside_a_writer() {
    let page = node(false, 0);
    std::thread::scope(|threads| {
        let page = &page;
        let reader = threads.spawn(move || {
            for number in 0..1000 {
                read_everything(page, format!("key{:04}", number * 7 % 1000).as_bytes());
            }
        });
        let mut number = 0_u32;
        while !reader.is_finished() {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let key = format!("key{:04}", number >> 16 & 1023).into_bytes();
            let op: &dyn PageOp = match page.view().find(&key).unwrap() {
                Some(_) => &RemoveCell { key: &key },
                None if page.view().can_hold(&key, 40).unwrap() => {
                    &InsertCell { key: &key, value: &[1; 40], flags: 0 }
                }
                None => &CutNode { upper: b"key0500", right_sibling: PageId::new(3) },
            };
            if page.view().covers(&key) == Ok(Covers::Inside) {
                let _ = op.apply(&page.writer());
            } else {
                FormatNode { lower: b"key".to_vec(), ..FormatNode::empty_leaf(1) }
                    .apply(&page.writer())
                    .unwrap();
            }
        }
        reader.join().unwrap();
        page.sound();
    });
}

/// What is asked before a change reckons with the form that every node of this size has: one of another form has less room than that says.
#[test]
fn a_node_whose_area_has_another_form_is_not_whole() {
    for size in [4096, 16384] {
        for inner in [false, true] {
            let child = pagestone_swip::SwipWord::new(PageId::new(5)).unwrap();
            let mut format = FormatNode::empty_leaf(1);
            if inner {
                (format.level, format.first_child) = (1, child);
            }
            let page = TestPage::formatted(size, 1, &format);
            page.sound();
            let form = SlottedForm {
                fixed_links: if inner { 2 } else { 1 },
                links_per_slot: inner,
                hints: size < 16384,
            };
            let area = SlottedWriter::new(page.writer(), 48);
            area.init(0, form).unwrap();
            area.set_link(0, pagestone_swip::SwipWord::NULL.raw()).unwrap();
            if inner {
                area.set_link(1, child.raw()).unwrap();
            }
            assert!(page.view().check().is_err(), "{size} bytes, inner: {inner}");
        }
    }
}
