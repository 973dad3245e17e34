//! What can happen while a region is read or formatted, one order after the other, and what `reserve` costs.

use std::sync::mpsc;

use pagestone_page_format::{DEFAULT_PAGE_SIZE, Lsn, PageError, PageId, PageResult};
use pagestone_sync::Mutex;

use crate::file_in_memory::{BITS, File};
use crate::{LoggedAllocator, MapSource, RegionBits};

/// A file with something to do before or after a region's bits are read.
struct During<'a> {
    file: &'a File,
    region: u64,
    before: &'a (dyn Fn() + Sync),
    after: &'a (dyn Fn() + Sync),
}

impl MapSource for During<'_> {
    fn load_region(&self, region: u64) -> PageResult<Option<RegionBits>> {
        if region == self.region {
            (self.before)();
        }
        let loaded = self.file.load_region(region);
        if region == self.region {
            (self.after)();
        }
        loaded
    }
    fn format_region(&self, region: u64) -> PageResult<()> {
        self.file.format_region(region)
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        self.file.grow(pages)
    }
    fn file_pages(&self) -> PageResult<u64> {
        self.file.file_pages()
    }
}

fn id(number: u64) -> PageId {
    PageId::new(number)
}

#[test]
fn free_that_spans_a_load_is_neither_lost_nor_too_early() {
    // Each free has three moments: announced, bit cleared, committed. The load may begin and end between any two.
    for (before_load, during_read, after_read) in [
        (0, 0, 3),
        (0, 1, 2),
        (0, 2, 1),
        (0, 3, 0),
        (1, 0, 2),
        (1, 1, 1),
        (1, 2, 0),
        (2, 0, 1),
        (2, 1, 0),
        (3, 0, 0),
    ] {
        for commits in [true, false] {
            let file = File::full(2, &[]);
            let allocator = file.allocator();
            let release = Mutex::new(Some(allocator.release()));
            let done = Mutex::new(0);
            let advance = |moments: u32| {
                for _ in 0..moments {
                    let mut done = done.lock();
                    let mut release = release.lock();
                    match *done {
                        0 => release.as_mut().expect("held").add(id(70), 1).expect("in use"),
                        1 if commits => file.apply_release(release.as_ref().expect("held")),
                        2 if commits => release.take().expect("held").commit(Lsn::new(1)),
                        2 => drop(release.take()),
                        _ => {}
                    }
                    *done += 1;
                }
            };
            advance(before_load);
            let source = During {
                file: &file,
                region: 1,
                before: &|| advance(during_read),
                after: &|| advance(after_read),
            };
            // 126 is not free: a third region is formatted unless 70 has come back in time.
            let first = allocator.reserve(&source, 1).expect("the file can grow");
            let free_now = commits;
            assert_eq!(
                first.ids(),
                [id(if free_now { 70 } else { 129 })],
                "{before_load} {during_read} {after_read}"
            );
            let second = allocator.reserve(&source, 1).expect("the file can grow");
            assert_ne!(first.ids(), second.ids());
        }
    }
}

#[test]
fn id_is_not_given_out_while_it_is_being_freed() {
    let file = File::full(2, &[]);
    let allocator = file.allocator();
    let mut release = allocator.release();
    release.add(id(70), 2).expect("in use");
    file.apply_release(&release);
    // The bits are clear now, and the group is not in the log.
    let other = allocator.reserve(&file, 1).expect("the file can grow");
    assert_eq!(other.ids(), [id(129)]);
    assert!(matches!(
        allocator.release().add(id(71), 1),
        Err(PageError::AllocationState { page_id, state: "free" }) if page_id == id(71)
    ));
    release.commit(Lsn::new(1));
    assert_eq!(allocator.reserve(&file, 2).expect("there is room").ids(), [id(70), id(71)]);
}

#[test]
fn region_is_read_once_however_many_threads_need_it() {
    let file = File::full(3, &[5, 6, 7, 8, 9, 10, 11, 12]);
    let allocator = file.allocator();
    let slow = During {
        file: &file,
        region: 0,
        before: &|| std::thread::sleep(std::time::Duration::from_millis(20)),
        after: &|| {},
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut ids = allocator.reserve(&slow, 1).expect("one is free");
                ids.take();
                file.apply(&ids);
                ids.commit();
            });
        }
    });
    assert_eq!(file.loads(), 2, "the first and the last region");
    assert_eq!(allocator.free_count(), 0);
}

#[test]
fn one_who_needs_no_new_region_does_not_wait_for_one() {
    let file = File::full(3, &[1, 2]);
    let allocator = file.allocator();
    let (loading, is_loading) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (loading, may_go_on) = (Mutex::new(loading), Mutex::new(may_go_on));
    let slow = During {
        file: &file,
        region: 1,
        before: &|| {
            loading.lock().send(()).expect("somebody listens");
            may_go_on.lock().recv().expect("somebody sends");
        },
        after: &|| {},
    };
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| allocator.reserve(&slow, 3).map(|ids| ids.ids().to_vec()));
        is_loading.recv().expect("the other thread loads");
        assert_eq!(allocator.reserve(&file, 1).expect("1 is free").ids(), [id(1)]);
        go_on.send(()).expect("the other thread waits");
        assert_eq!(waits.join().expect("no panic").expect("the file can grow"), [id(1), id(2), id(193)]);
    });
}

/// Fails, or panics, once; counts its calls.
struct Failing<'a> {
    file: &'a File,
    left: Mutex<u32>,
    panics: bool,
}

impl Failing<'_> {
    fn fail(&self) -> PageResult<()> {
        let mut left = self.left.lock();
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        drop(left);
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(!self.panics, "a planted panic");
        Err(PageError::io("read", std::io::Error::other("planted")))
    }
}

impl MapSource for Failing<'_> {
    fn load_region(&self, region: u64) -> PageResult<Option<RegionBits>> {
        self.fail()?;
        self.file.load_region(region)
    }
    fn format_region(&self, region: u64) -> PageResult<()> {
        self.fail()?;
        self.file.format_region(region)
    }
    fn grow(&self, pages: u64) -> PageResult<()> {
        self.fail()?;
        self.file.grow(pages)
    }
    fn file_pages(&self) -> PageResult<u64> {
        self.fail()?;
        self.file.file_pages()
    }
}

#[test]
fn failed_source_fails_its_caller_and_hangs_nobody() {
    for panics in [false, true] {
        for failures in 0..12 {
            let file = File::new(u64::MAX);
            let source = Failing { file: &file, left: Mutex::new(failures), panics };
            let allocator = file.allocator();
            let failed = Mutex::new(0);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        for _ in 0..6 {
                            let attempt = std::panic::AssertUnwindSafe(|| allocator.reserve(&source, 1));
                            match std::panic::catch_unwind(attempt) {
                                Ok(Ok(mut ids)) => {
                                    ids.take();
                                    file.apply(&ids);
                                    ids.commit();
                                }
                                Ok(Err(PageError::Io { .. })) | Err(_) => *failed.lock() += 1,
                                Ok(Err(error)) => panic!("{error}"),
                            }
                        }
                    });
                }
            });
            assert_eq!(*failed.lock(), failures, "each failure is seen by one caller");
            assert!(file.in_use().into_iter().eq(1..=u64::from(18 - failures)));
        }
    }
}

#[test]
fn full_disk_leaves_every_id_as_it_was_and_what_is_free_usable() {
    let file = File::full(40, &[64 * 30 + 5, 64 * 31 + 6]);
    file.state.lock().limit = 40 * BITS;
    let allocator = file.allocator();
    // More regions than one call looks into otherwise.
    let ids = allocator.reserve(&file, 2).expect("two are free somewhere");
    assert_eq!(ids.ids(), [id(64 * 30 + 5), id(64 * 31 + 6)]);
    assert!(matches!(allocator.reserve(&file, 1), Err(PageError::NoSpace { .. })));
    assert!(matches!(allocator.reserve(&file, usize::MAX), Err(PageError::NoSpace { .. })));
    drop(ids);
    assert!(matches!(allocator.reserve(&file, 3), Err(PageError::NoSpace { .. })));
    assert_eq!(allocator.free_count(), 2);
    assert_eq!(file.state.lock().maps.len(), 40, "no region was formatted in vain");
    let mut release = allocator.release();
    release.add(id(7), 1).expect("frees still work");
    file.apply_release(&release);
    release.commit(Lsn::new(1));
    assert_eq!(allocator.reserve(&file, 1).expect("one was freed").ids(), [id(7)]);
}

#[test]
fn shorter_file_than_its_map_says_is_an_error_and_no_endless_loop() {
    let file = File::full(40, &[5, 64 * 39 + 1]);
    let mut state = file.state.lock();
    (state.pages, state.limit) = (3, 3);
    drop(state);
    let allocator = file.allocator();
    assert!(matches!(allocator.reserve(&file, 1), Err(PageError::NoSpace { .. })));
}

#[test]
fn one_call_looks_into_a_few_regions_and_later_ones_go_on() {
    let file = File::full(1000, &[64 * 500 + 9]);
    let allocator = file.allocator();
    let mut before = 0;
    let mut found = false;
    for _ in 0..300 {
        let mut ids = allocator.reserve(&file, 1).expect("the file can grow");
        assert!(file.loads() - before <= 6, "{} regions were read in one call", file.loads() - before);
        before = file.loads();
        found |= ids.take() == Some(id(64 * 500 + 9));
        file.apply(&ids);
        ids.commit();
    }
    assert!(found, "what is free is found while the file grows");
    assert_eq!(file.loads(), 1000);
}

#[test]
fn ids_past_the_last_are_no_space() {
    struct Endless;
    impl MapSource for Endless {
        fn load_region(&self, region: u64) -> PageResult<Option<RegionBits>> {
            let regions = PageId::MAX.get() / BITS + 1;
            Ok(Some(RegionBits::of_words(region, (region == 0).then_some(regions), vec![u64::MAX >> 3])))
        }
        fn format_region(&self, region: u64) -> PageResult<()> {
            panic!("region {region} cannot be")
        }
        fn grow(&self, pages: u64) -> PageResult<()> {
            panic!("{pages} pages cannot be")
        }
        fn file_pages(&self) -> PageResult<u64> {
            Ok(PageId::MAX.get() + 1)
        }
    }
    let allocator = LoggedAllocator::with_region_bits(BITS, DEFAULT_PAGE_SIZE, PageId::MAX);
    // Three ids are free in each region; the lowest known are those of region 0.
    assert_eq!(allocator.reserve(&Endless, 1).expect("one is free").ids(), [id(61)]);
    assert!(matches!(allocator.reserve_run(&Endless, 64), Err(PageError::NoSpace { .. })));
    assert!(matches!(allocator.reserve_run(&Endless, u32::MAX), Err(PageError::NoSpace { .. })));

    for last in [1, 2, 62, 63, 64, 65, 100, 127, 128, 129, 130] {
        let file = File::new(u64::MAX);
        let allocator = LoggedAllocator::with_region_bits(BITS, DEFAULT_PAGE_SIZE, id(last));
        let mut got = vec![];
        let error = loop {
            match allocator.reserve(&file, 1) {
                Ok(mut ids) => {
                    got.extend(ids.take());
                    file.apply(&ids);
                    ids.commit();
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(error, PageError::NoSpace { .. }));
        let all: Vec<PageId> = (1..=last).filter(|id| id % BITS != 0).map(PageId::new).collect();
        assert_eq!(got, all);
        assert!(allocator.reserve(&file, usize::MAX).is_err());
        assert!(allocator.release().add(id(last + 1), 1).is_err());
    }
}

#[test]
fn maps_that_contradict_themselves_are_malformed() {
    struct Wrong(fn(u64) -> Option<RegionBits>);
    impl MapSource for Wrong {
        fn load_region(&self, region: u64) -> PageResult<Option<RegionBits>> {
            Ok((self.0)(region))
        }
        fn format_region(&self, _region: u64) -> PageResult<()> {
            panic!("nothing is changed after corruption")
        }
        fn grow(&self, _pages: u64) -> PageResult<()> {
            panic!("nothing is changed after corruption")
        }
        fn file_pages(&self) -> PageResult<u64> {
            Ok(0)
        }
    }
    let cases: [fn(u64) -> Option<RegionBits>; 3] = [
        // Counted, never formatted.
        |region| (region == 0).then(|| RegionBits::of_words(0, Some(2), vec![u64::MAX])),
        // The map of another region.
        |_| Some(RegionBits::of_words(0, Some(2), vec![u64::MAX])),
        // The map of a larger page.
        |region| Some(RegionBits::of_words(region, Some(2), vec![u64::MAX; 2])),
    ];
    for case in cases {
        let allocator = LoggedAllocator::with_region_bits(BITS, DEFAULT_PAGE_SIZE, PageId::MAX);
        for _ in 0..2 {
            assert!(matches!(allocator.reserve(&Wrong(case), 1), Err(PageError::Malformed { .. })));
        }
    }
}
