//! Prevents: damage that verification misses or calls by another name, and a sound store that it calls damaged, busy or not (M1,
//! M6, M9, E4, R4).

mod support;

use std::sync::atomic::{AtomicBool, Ordering as Std};

use pagestone_allocator::{ClearBits, SetBits};
use pagestone_page_format::slotted::{SlottedPage, SlottedWriter};
use pagestone_page_format::{PageId, PageOp, PageWriter};
use pagestone_store::{Background, Durability, Options, Problem, Store, TreeProblem, VerifyReport};
use pagestone_swip::SwipWord;
use pagestone_testkit::{Rng, SimDisk};
use support::damaged::{AREA, Damaged, PAGE};
use support::{DIR, open, run, script, small, states};

/// A store whose tree has three levels, closed.
fn sample() -> SimDisk {
    let disk = SimDisk::new(3);
    let store = open(&disk).expect("a store");
    for number in 0..600u32 {
        // Neighbours differ in their last byte, so that separators are long and few fit an inner node.
        let key = format!("{:03}{}{:x}", number / 16, "k".repeat(420), number % 16);
        store.default_tree().put(key.as_bytes(), &vec![7; number as usize % 500]).expect("put");
    }
    store.close().expect("closed");
    disk
}

const ROOT: u64 = 1;

fn has(report: &VerifyReport, page: u64, problem: Problem) -> bool {
    report.findings.iter().any(|found| found.page_id == Some(PageId::new(page)) && found.problem == problem)
}

#[track_caller]
fn assert_found(damaged: &Damaged, expected: &[(u64, Problem)]) {
    let report = damaged.verify();
    for (page, problem) in expected {
        assert!(has(&report, *page, *problem), "page {page}, {problem}, is not in {:#?}", report.findings);
    }
    assert_eq!(report.findings.len(), expected.len(), "{:#?}", report.findings);
    assert!(!report.is_sound());
    for finding in &report.findings {
        let line = finding.to_string();
        assert!(line.starts_with("page ") && line.contains("expected") && !line.contains("kkkk"), "{line}");
    }
}

#[track_caller]
fn assert_sound(report: &VerifyReport) {
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert_eq!(report.looks, 1, "what is sound and quiet is looked at once");
    let told = report.map_pages + report.nodes + report.leaves + report.value_pages + report.free_pages;
    assert_eq!(report.pages, told, "{report:#?}");
}

#[test]
fn sound_stores_have_no_finding_and_every_page_is_accounted_for() {
    for seed in 0..12 {
        let steps = script(seed, 60 + 60 * seed as usize, 30);
        let disk = SimDisk::new(seed);
        run(&disk, &steps);
        // As the script left it, with redo before; closed in between; and busy with a pool full of dirty pages.
        for close in [false, true] {
            let store = open(&disk).expect("opens");
            let report = store.verify().expect("verified");
            assert_sound(&report);
            assert_eq!(report.entries, states(&steps).pop().expect("a state").len() as u64);
            store.default_tree().put(b"one more", &[0; 700]).expect("put");
            assert_sound(&store.verify().expect("verified"));
            store.default_tree().remove(b"one more").expect("removed");
            if close {
                store.close().expect("closed");
                assert!(matches!(store.verify(), Err(pagestone_store::StoreError::Closed)));
            }
        }
    }
    let damaged = Damaged::copy_of(&sample());
    let report = damaged.verify();
    assert_sound(&report);
    assert!(report.nodes > 8 && report.leaves > 60, "{report:?}");
    assert_eq!(report.bytes, damaged.file().len() as u64);
}

#[test]
fn progress_is_told_and_no_step_has_more_than_the_file() {
    let store = open(&sample()).expect("opens");
    let mut told = Vec::new();
    store.verify_with_progress(|progress| told.push(progress)).expect("verified");
    assert!(told.iter().all(|progress| progress.look == 1 && progress.done <= progress.of), "{told:?}");
    assert!(told.len() >= 2, "{told:?}");
}

#[test]
fn flipped_byte_in_any_page_in_use_is_found_at_that_page() {
    let sound = sample();
    let whole = Damaged::copy_of(&sound);
    let mut random = Rng::new(5);
    let (mut found, mut free) = (0, 0);
    for page in 0..whole.pages() {
        let damaged = Damaged::copy_of(&sound);
        damaged.flip(2 * PAGE + page as usize * PAGE + random.below(PAGE as u64) as usize);
        let report = damaged.verify();
        if whole.in_use(page) {
            let problem = if page == 0 { Problem::Map } else { Problem::Unreadable };
            assert!(has(&report, page, problem), "page {page}: {:#?}", report.findings);
            let others = report.findings.iter().filter(|finding| finding.page_id != Some(PageId::new(page)));
            assert_eq!(others.count(), 0, "{:#?}", report.findings);
            found += 1;
        } else {
            assert_sound(&report);
            free += 1;
        }
    }
    assert!(found > 60 && free > 0, "{found} found, {free} free");
}

#[test]
fn flipped_byte_in_a_copy_of_the_superblock_is_found_while_the_store_is_open() {
    for copy in 0..2 {
        let damaged = Damaged::copy_of(&sample());
        let store = open(&damaged.disk).expect("opens");
        damaged.flip(copy * PAGE + 100);
        let report = store.verify().expect("verified");
        assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
        assert_eq!((report.findings[0].problem, report.findings[0].page_id), (Problem::Superblock, None));
    }
}

#[test]
fn bits_that_lie_are_leaked_and_dangling_pages() {
    let sound = sample();
    let damaged = Damaged::copy_of(&sound);
    let free = damaged.free_page();
    damaged.rewrite(0, |map| SetBits { first: PageId::new(free), count: 1 }.apply(map).expect("free"));
    // Nobody ever wrote that page, or a split that is gone did.
    let report = damaged.verify();
    assert!(has(&report, free, Problem::Leaked), "{:#?}", report.findings);
    assert!(report.findings.iter().all(|finding| finding.page_id == Some(PageId::new(free))));

    let leaf = damaged.children(damaged.children(ROOT)[1])[1];
    for used in [ROOT, leaf] {
        let damaged = Damaged::copy_of(&sound);
        damaged.rewrite(0, |map| ClearBits { first: PageId::new(used), count: 1 }.apply(map).expect("used"));
        assert_found(&damaged, &[(used, Problem::Dangling)]);
    }
    // In use, and behind the end of the file.
    let damaged = Damaged::copy_of(&sound);
    let behind = damaged.pages() + 3;
    damaged.rewrite(0, |map| SetBits { first: PageId::new(behind), count: 1 }.apply(map).expect("free"));
    assert_found(&damaged, &[(behind, Problem::Length)]);
    // More regions than the file has.
    let damaged = Damaged::copy_of(&sound);
    damaged.rewrite(0, |map| map.put_word(5, 1 << 20).expect("a word"));
    assert_found(&damaged, &[(32_384, Problem::Length)]);
}

#[test]
fn two_children_swapped_are_found_at_their_fences() {
    let sound = sample();
    let damaged = Damaged::copy_of(&sound);
    let inner = damaged.children(ROOT)[1];
    let leaves = damaged.children(inner);
    damaged.set_link(inner, 2, leaves[2]);
    damaged.set_link(inner, 3, leaves[1]);
    let fences = Problem::Tree(TreeProblem::Fences);
    assert_found(&damaged, &[(leaves[1], fences), (leaves[2], fences)]);

    // Of the root: what hangs below them is not called leaked.
    let damaged = Damaged::copy_of(&sound);
    let inner = damaged.children(ROOT);
    damaged.set_link(ROOT, 1, inner[1]);
    damaged.set_link(ROOT, 2, inner[0]);
    assert_found(&damaged, &[(inner[0], fences), (inner[1], fences)]);
    assert_eq!(damaged.verify().not_looked_below, 2);
}

#[test]
fn two_parents_of_one_page_are_found_and_the_page_that_lost_its_parent_too() {
    let damaged = Damaged::copy_of(&sample());
    let inner = damaged.children(ROOT);
    let (shared, lost) = (damaged.children(inner[0])[1], damaged.children(inner[2])[1]);
    damaged.set_link(inner[2], 2, shared);
    assert_found(&damaged, &[(shared, Problem::Tree(TreeProblem::Shared)), (lost, Problem::Leaked)]);
}

#[test]
fn links_in_circles_and_to_nowhere_end_the_walk() {
    let sound = sample();
    let inner = Damaged::copy_of(&sound).children(ROOT);
    let circle = Damaged::copy_of(&sound);
    circle.set_link(inner[1], 1, ROOT);
    let report = circle.verify();
    assert!(has(&report, ROOT, Problem::Tree(TreeProblem::Shared)), "{:#?}", report.findings);
    let own = Damaged::copy_of(&sound);
    own.set_link(inner[1], 1, inner[1]);
    assert!(has(&own.verify(), inner[1], Problem::Tree(TreeProblem::Shared)));
    // A map page, a free page, a page behind the file, a page that no file has, none.
    let free = own.free_page();
    for (to, problem) in [
        (0, TreeProblem::NotANode),
        (free, TreeProblem::Unreadable),
        (own.pages() + 9, TreeProblem::Unreadable),
        ((1 << 38) - 2, TreeProblem::Unreadable),
    ] {
        let nowhere = Damaged::copy_of(&sound);
        nowhere.set_link(inner[1], 2, to);
        let report = nowhere.verify();
        assert!(has(&report, to, Problem::Tree(problem)), "{to}: {:#?}", report.findings);
    }
    let null = Damaged::copy_of(&sound);
    null.rewrite(inner[1], |page| {
        SlottedWriter::new(*page, AREA).set_link(2, SwipWord::NULL.raw()).expect("a link");
    });
    assert!(has(&null.verify(), inner[1], Problem::Tree(TreeProblem::Malformed)));
}

#[test]
fn nodes_that_are_not_what_they_should_be_are_named() {
    let sound = sample();
    let whole = Damaged::copy_of(&sound);
    let inner = whole.children(ROOT);
    let leaves = whole.children(inner[1]);
    let word = |page: &PageWriter<'_>, index: usize| page.read().word(index).expect("a word");
    // Level: a leaf that says it is an inner node is none by its kind; with the kind changed too, its level is wrong.
    let damaged = Damaged::copy_of(&sound);
    damaged.rewrite(leaves[1], |page| page.put_word(4, word(page, 4) | 1 << 32).expect("put"));
    assert_found(&damaged, &[(leaves[1], Problem::Tree(TreeProblem::NotANode))]);
    let damaged = Damaged::copy_of(&sound);
    damaged.rewrite(inner[1], |page| page.put_word(4, word(page, 4) + (1 << 32)).expect("put"));
    assert_found(&damaged, &[(inner[1], Problem::Tree(TreeProblem::Level))]);
    // Merged away.
    let damaged = Damaged::copy_of(&sound);
    damaged.rewrite(leaves[1], |page| page.put_word(4, word(page, 4) | 1 << 40).expect("put"));
    assert_found(&damaged, &[(leaves[1], Problem::Tree(TreeProblem::NotANode))]);
    // Another tree's.
    let damaged = Damaged::copy_of(&sound);
    damaged.rewrite(leaves[1], |page| page.put_word(4, word(page, 4) + 1).expect("put"));
    assert_found(&damaged, &[(leaves[1], Problem::Tree(TreeProblem::OtherTree))]);
    // The sibling chain: cut, and to a leaf further on.
    let damaged = Damaged::copy_of(&sound);
    damaged.rewrite(leaves[1], |page| {
        SlottedWriter::new(*page, AREA).set_link(0, SwipWord::NULL.raw()).expect("a link");
    });
    assert_found(&damaged, &[(leaves[1], Problem::Tree(TreeProblem::Sibling))]);
    for page in [leaves[1], *leaves.last().expect("leaves"), inner[0]] {
        let damaged = Damaged::copy_of(&sound);
        damaged.set_link(page, 0, leaves[0]);
        assert_found(&damaged, &[(page, Problem::Tree(TreeProblem::Sibling))]);
    }
    // Keys out of order: two slots changed places.
    let damaged = Damaged::copy_of(&sound);
    damaged.rewrite(leaves[1], |page| {
        // Slots stand behind the heads, of which there is room for `capacity`.
        let capacity = (word(page, AREA / 8) >> 16) as u16 as usize;
        let slots = AREA / 8 + 3 + capacity.div_ceil(2);
        let (a, b) = (word(page, slots), word(page, slots + 1));
        page.put_word(slots, b).and_then(|()| page.put_word(slots + 1, a)).expect("put");
    });
    assert_found(&damaged, &[(leaves[1], Problem::Tree(TreeProblem::Malformed))]);
    // Flags that nobody knows.
    let damaged = Damaged::copy_of(&sound);
    damaged.rewrite(leaves[1], |page| {
        let capacity = (word(page, AREA / 8) >> 16) as u16 as usize;
        let slots = AREA / 8 + 3 + capacity.div_ceil(2);
        page.put_word(slots, word(page, slots) | 0x80 << 56).expect("put");
    });
    assert_found(&damaged, &[(leaves[1], Problem::Tree(TreeProblem::UnknownFlags))]);
}

#[test]
fn no_byte_of_a_node_under_a_right_checksum_makes_verification_panic_or_run_on() {
    let sound = sample();
    let whole = Damaged::copy_of(&sound);
    let inner = whole.children(ROOT);
    let mut random = Rng::new(23);
    let mut found = 0;
    for round in 0..400 {
        let damaged = Damaged::copy_of(&sound);
        let page = [0, ROOT, inner[1], whole.children(inner[1])[1]][round % 4];
        for _ in 0..=random.below(4) {
            let (index, bits) = (4 + random.below(40) as usize, random.below(u64::MAX));
            damaged.rewrite(page, |page| page.put_word(index, bits).expect("a word"));
        }
        found += u64::from(!damaged.verify().is_sound());
    }
    assert!(found > 300, "only {found} of 400 were found");
}

/// Writers that split all the time beside verification in a loop: nothing is ever called wrong.
#[test]
fn busy_store_has_no_finding() {
    for (background, pool_bytes) in [(Background::Threads, 64 * PAGE), (Background::Manual, 4000 * PAGE)] {
        let disk = SimDisk::new(9);
        let options = Options {
            pool_bytes,
            log_bytes: 16 << 20,
            segment_bytes: 1 << 20,
            durability: Durability::RELAXED,
            background,
            ..small()
        };
        let store =
            Store::open_on(std::sync::Arc::new(disk), std::path::Path::new(DIR), options).expect("a store");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..3u64 {
                let (store, stop) = (store.clone(), &stop);
                scope.spawn(move || {
                    let tree = store.default_tree();
                    let mut random = Rng::new(writer);
                    for number in 0.. {
                        if stop.load(Std::Relaxed) {
                            break;
                        }
                        let key = match writer {
                            0 => format!("run-{number:09}"), // at the right end
                            _ => format!("{:06}", random.below(4_000)),
                        };
                        if writer == 2 && number % 3 == 0 {
                            tree.remove(key.as_bytes()).expect("removed");
                        } else {
                            tree.put(key.as_bytes(), &[1; 300][..random.below(300) as usize]).expect("put");
                        }
                        if number % 500 == 0 {
                            store.tick().expect("ticked");
                        }
                    }
                });
            }
            let splits = || store.stats().expect("stats").tree.splits;
            for round in (0..).take_while(|round| *round < 12 || splits() < 100) {
                let report = store.verify().expect("verified");
                if !report.is_sound() {
                    stop.store(true, Std::Relaxed);
                    panic!("round {round}: {report:#?}");
                }
            }
            stop.store(true, Std::Relaxed);
        });
        assert_sound(&store.verify().expect("verified"));
    }
}

/// Pages that are freed and taken again all the time, lowest first, by merges, splits, and trees that come and go: what is in
/// use and what is reached never agree over one whole look, and nothing is ever called wrong.
#[test]
fn store_whose_pages_change_hands_has_no_finding() {
    let options = Options {
        pool_bytes: 500 * PAGE,
        log_bytes: 16 << 20,
        segment_bytes: 1 << 20,
        durability: Durability::RELAXED,
        background: Background::Threads,
        ..small()
    };
    let disk = std::sync::Arc::new(SimDisk::new(10));
    let store = Store::open_on(disk, std::path::Path::new(DIR), options).expect("a store");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let (store, stop) = (store.clone(), &stop);
            scope.spawn(move || {
                let tree = store.default_tree();
                while !stop.load(Std::Relaxed) {
                    for number in 0..300u64 {
                        let key = format!("{writer}-{number:05}");
                        tree.put(key.as_bytes(), &[1; 400]).expect("put");
                    }
                    for number in 0..300u64 {
                        tree.remove(format!("{writer}-{number:05}").as_bytes()).expect("removed");
                    }
                }
            });
        }
        let (trees, stopped) = (store.clone(), &stop);
        scope.spawn(move || {
            while !stopped.load(Std::Relaxed) {
                let tree = trees.tree("comes and goes").expect("made");
                for number in 0..100u64 {
                    tree.put(&number.to_be_bytes(), &[2; 400]).expect("put");
                }
                drop(tree);
                trees.drop_tree("comes and goes").expect("dropped");
            }
        });
        let changes = || store.stats().expect("stats").tree;
        let few = || changes().merges < 50 || changes().splits < 50;
        for round in (0..).take_while(|round| *round < 100 || few()) {
            let report = store.verify().expect("verified");
            if !report.is_sound() {
                stop.store(true, Std::Relaxed);
                panic!("round {round}: {report:#?}");
            }
        }
        stop.store(true, Std::Relaxed);
    });
    assert_sound(&store.verify().expect("verified"));
}

/// A store with a leaf of two long values, closed.
fn two_long_values() -> SimDisk {
    let disk = SimDisk::new(4);
    let store = open(&disk).expect("a store");
    for key in [b"a", b"b"] {
        store.default_tree().put(key, &vec![key[0]; 40_000]).expect("put");
    }
    store.close().expect("closed");
    disk
}

/// First page and bytes of the reference in a cell of the root.
fn reference(damaged: &Damaged, slot: usize) -> (u64, Vec<u8>) {
    let mut bytes = Vec::new();
    let append = |area: SlottedPage<'_>| area.append_value(area.get(slot).expect("a cell"), &mut bytes);
    damaged.area(ROOT, append).expect("a reference");
    let run = u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes"));
    (run >> 24, bytes)
}

fn set_reference(damaged: &Damaged, slot: usize, bytes: &[u8]) {
    damaged.rewrite(ROOT, |writer| {
        let cell = SlottedPage::new(writer.read(), AREA).get(slot).expect("a cell");
        writer.put_bytes(cell.offset + cell.key_len, bytes).expect("inside the page");
    });
}

#[test]
fn flipped_byte_in_any_page_of_a_long_value_is_found_though_nobody_reads_it() {
    let sound = two_long_values();
    let report = Damaged::copy_of(&sound).verify();
    assert_sound(&report);
    assert_eq!(report.value_pages, 20);
    let (first, _) = reference(&Damaged::copy_of(&sound), 0);
    for page in first..first + 10 {
        let damaged = Damaged::copy_of(&sound);
        damaged.flip(2 * PAGE + page as usize * PAGE + 100 * (page - first) as usize);
        assert_found(&damaged, &[(page, Problem::Unreadable)]);
    }
}

#[test]
fn value_that_two_cells_refer_to_is_found_though_none_of_its_pages_is_free() {
    let sound = two_long_values();
    let damaged = Damaged::copy_of(&sound);
    let ((first, whole), (lost, _)) = (reference(&damaged, 0), reference(&damaged, 1));
    set_reference(&damaged, 1, &whole);
    let shared = (first..first + 10).map(|page| (page, Problem::Tree(TreeProblem::Shared)));
    let leaked = (lost..lost + 10).map(|page| (page, Problem::Leaked));
    assert_found(&damaged, &shared.clone().chain(leaked).collect::<Vec<_>>());
    // As it would be if the other value were removed: nothing is leaked.
    damaged.rewrite(0, |writer| {
        ClearBits { first: PageId::new(lost), count: 10 }.apply(writer).expect("in use");
    });
    assert_found(&damaged, &shared.collect::<Vec<_>>());
}

#[test]
fn node_that_a_cell_calls_its_value_is_found() {
    let damaged = Damaged::copy_of(&two_long_values());
    let (first, mut bytes) = reference(&damaged, 0);
    // The page before is the catalog's root; the last page of the value is nobody's.
    assert_eq!(first, 3);
    bytes[16..24].copy_from_slice(&((first - 1) << 24 | 10).to_le_bytes());
    set_reference(&damaged, 0, &bytes);
    let expected = [(first - 1, Problem::Tree(TreeProblem::Shared)), (first + 9, Problem::Leaked)];
    assert_found(&damaged, &expected);
}
