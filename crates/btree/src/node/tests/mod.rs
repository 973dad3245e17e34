//! Nodes against plain maps: one page, a whole level of pages, and pages that are no nodes.
//!
//! Every operation here goes through [`TestPage::apply`], which proves redo on the way.

mod hostile;
mod inner_level;
mod leaf_level;
mod limits;

use pagestone_page_format::{
    Lsn, PageId, PageKind, PageOp, PageResult, PageSize, PageWriter, SpeculativePage,
};
use pagestone_swip::mask_hints;
use pagestone_sync::atomic::AtomicU64;
use proptest::prelude::*;

use super::*;

/// A page of its own.
struct TestPage {
    words: Vec<AtomicU64>,
}

impl TestPage {
    fn new(size: usize, id: u64) -> Self {
        let page = Self { words: (0..size / 8).map(|_| AtomicU64::new(0)).collect() };
        page.writer().format(PageKind::PLAIN, PageId::new(id));
        page
    }

    fn formatted(size: usize, id: u64, op: &FormatNode) -> Self {
        let page = Self::new(size, id);
        page.apply(op).expect("a node that fits");
        page
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let page = Self::new(bytes.len(), 0);
        page.writer().copy_in(bytes);
        page
    }

    fn writer(&self) -> PageWriter<'_> {
        PageWriter::new(&self.words)
    }

    fn view(&self) -> NodeView<'_> {
        NodeView::new(SpeculativePage::new(&self.words))
    }

    fn id(&self) -> PageId {
        self.writer().read().header().unwrap().page_id
    }

    fn image(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.words.len() * 8];
        self.writer().read().copy_out(&mut bytes);
        bytes
    }

    /// The page as it goes to storage.
    fn masked(&self) -> Vec<u8> {
        let mut bytes = self.image();
        mask_hints(&mut bytes).unwrap();
        bytes
    }

    /// Applies an operation as the live path does, and the decoded record of it to the before-image as redo does.
    fn apply(&self, op: &dyn PageOp) -> PageResult<()> {
        let before = Self::of_bytes(&self.masked());
        let result = op.apply(&self.writer());
        let mut record = Vec::new();
        op.encode(&mut record);
        let redone = (redo_range().apply)(op.kind(), &record, &before.writer());
        assert_eq!(result.is_ok(), redone.is_ok());
        if result.is_ok() {
            assert!(self.masked() == before.masked(), "redo made another page");
        }
        if (redo_range().formats)(op.kind()) {
            let blank = Self::new(self.words.len() * 8, self.id().get());
            blank.writer().set_lsn(Lsn::new(77)).unwrap();
            (redo_range().apply)(op.kind(), &record, &blank.writer()).unwrap();
            assert_eq!(blank.writer().read().header().unwrap().lsn, Lsn::new(77));
            blank.writer().set_lsn(self.writer().read().header().unwrap().lsn).unwrap();
            assert!(self.masked() == blank.masked(), "a formatted page depends on what stood there");
        }
        result
    }

    fn key(&self, slot: usize) -> Vec<u8> {
        let mut key = Vec::new();
        self.view().append_key(slot, &mut key).unwrap();
        key
    }

    fn value(&self, slot: usize) -> Vec<u8> {
        let mut value = Vec::new();
        self.view().append_value(slot, &mut value).unwrap();
        value
    }

    fn lower(&self) -> Vec<u8> {
        let mut fence = Vec::new();
        self.view().lower_fence(&mut fence).unwrap();
        fence
    }

    fn upper(&self) -> Option<Vec<u8>> {
        let mut fence = Vec::new();
        self.view().upper_fence(&mut fence).unwrap().then_some(fence)
    }

    fn sound(&self) {
        assert_eq!(self.view().check(), Ok(()));
        assert!(self.view().is_node().unwrap());
    }
}

/// As much as it has room for goes from a node to the one before it.
fn shift(left: &TestPage, right: &TestPage) {
    if let Some(shift) = left.view().shift_from(&right.view(), usize::MAX).unwrap() {
        let absorb = AbsorbRight::first_of(right.view(), right.id(), &shift).unwrap();
        left.apply(&absorb).expect("shift_from said that it fits");
        right.apply(&TrimLeft { lower: &shift.separator }).expect("shift_from said that it fits");
        assert!(right.view().count().unwrap() > 0);
        left.sound();
        right.sound();
    }
}

/// Keys that meet: few letters, long common beginnings, numbers in a row, all ones.
fn keys(max: usize) -> impl Strategy<Value = Vec<u8>> {
    let number = 0..2000_u32;
    prop_oneof![
        3 => prop::collection::vec(prop::sample::select(&[0_u8, b'a', b'b', 255][..]), 0..6),
        3 => number.clone().prop_map(|number| format!("user{number:012}").into_bytes()),
        2 => (number.clone(), prop_oneof![Just(max - 8), 0..max - 8]).prop_map(|(number, len)| {
            let mut key = vec![b'p'; len];
            key.extend_from_slice(&u64::from(number).to_be_bytes());
            key
        }),
        1 => (prop::collection::vec(any::<u8>(), 0..20), 0..=max).prop_map(|(mut key, len)| {
            key.resize(len.max(key.len()), 255);
            key
        }),
        2 => number.clone().prop_map(|number| number.to_be_bytes().to_vec()),
        3 => (number, 0..160_usize).prop_map(|(number, shared)| {
            format!("/usr/share/{}/{}/{number}", "d".repeat(shared), number % 7).into_bytes()
        }),
    ]
}

fn max_key(size: usize) -> usize {
    max_key_len(PageSize::new(size).unwrap())
}

fn max_value(size: usize, key: &[u8]) -> usize {
    max_inline_value(PageSize::new(size).unwrap(), key.len())
}
