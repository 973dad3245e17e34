//! Prevents: an engine that logs its pages by bytes, images and patches, getting back pages that no prefix of its commits explains, or
//! its own records out of order, after a power cut at any operation of its log, its page file and its checkpoints, or of the
//! recovery from one (R1, R2, R6, L7).
#![cfg(not(loom))]

use std::path::Path;
use std::sync::Arc;

use pagestone_direct_io::{Create, DirectIo, Disk, OpenHow, PageFile};
use pagestone_page_format::{
    ChecksumKind, DEFAULT_PAGE_SIZE, Lsn, MemoryStore, Page, PageChecksum, PageError, PageId, PageKind,
    PageStore, StoreUuid,
};
use pagestone_testkit::{CrashOptions, SimDisk};
use pagestone_wal::{DurableBy, GroupBuilder, RecordKind, RecoveryReport, Wal, WalError, WalOptions};

const PAGES: u64 = 4;
const STEPS: u64 = 26;
const NOTE: u16 = 0x4000;
/// Behind the page's header.
const COUNTER: u32 = 32;

fn options() -> WalOptions {
    WalOptions {
        segment_bytes: 64 << 10,
        log_bytes: 256 << 10,
        buffer_bytes: 32 << 10,
        durable_by: Some(DurableBy::Fdatasync),
        ..WalOptions::default()
    }
}

fn page_file(disk: &SimDisk) -> PageFile {
    let how = OpenHow { create: Create::OpenOrNew, write: true, direct: DirectIo::Prefer };
    let file = disk.open(Path::new("/pages"), &how).expect("a file");
    PageFile::new(file, 0, DEFAULT_PAGE_SIZE, PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::default()))
}

/// A counter in every page and, behind it, where it was changed last.
struct Engine {
    log: Wal,
    file: PageFile,
    pages: Vec<Page>,
    /// Changed since the checkpoint: its image is in the log.
    has_image: Vec<bool>,
}

/// What the engine knows after recovery.
struct Recovered {
    engine: Engine,
    /// The steps that the log handed back.
    notes: Vec<u64>,
    report: RecoveryReport,
}

fn recover(disk: &SimDisk) -> Result<Recovered, WalError> {
    let mut recovery = Wal::open_on(Arc::new(disk.clone()), Path::new("/log"), &options())?;
    let file = page_file(disk);
    // Whoever made the file may have been killed before its name was durable.
    disk.sync_dir(Path::new("/")).expect("a directory");
    let (mut notes, mut before) = (Vec::new(), Lsn::ZERO);
    let report = recovery.recover(&file, Lsn::ZERO, |end, record| {
        assert!(record.kind == RecordKind::Logical && record.op == NOTE && end > before);
        before = end;
        notes.push(u64::from_le_bytes(record.payload.try_into().expect("eight bytes")));
        Ok(())
    })?;
    let mut pages: Vec<Page> = (0..PAGES).map(|id| Page::new(DEFAULT_PAGE_SIZE, PageId::new(id))).collect();
    for (id, page) in (0..file.len()?.min(PAGES)).zip(&mut pages) {
        match file.read_into(PageId::new(id), page) {
            // Zeros, where the file has grown and the page was never logged.
            Err(PageError::BadMagic { found: 0, .. }) => {
                *page = Page::new(DEFAULT_PAGE_SIZE, PageId::new(id))
            }
            read => read?,
        }
    }
    let log = recovery.start_alone()?;
    let engine = Engine { log, file, pages, has_image: vec![false; PAGES as usize] };
    Ok(Recovered { engine, notes, report })
}

impl Engine {
    /// Two pages and a note change together.
    fn step(&mut self, step: u64) -> Lsn {
        let mut group = GroupBuilder::new();
        let changed = [0, 1 + (step % (PAGES - 1)) as usize];
        for id in changed {
            let page = &mut self.pages[id];
            let at = 64 + step as usize % 8 * 480;
            let mark = [step as u8; 40];
            page.payload_mut()[..8].copy_from_slice(&step.to_le_bytes());
            page.payload_mut()[at - 32..at - 32 + mark.len()].copy_from_slice(&mark);
            if self.has_image[id] {
                group.push_page_patch(page.id(), COUNTER, &step.to_le_bytes());
                group.push_page_patch(page.id(), at as u32, &mark);
            } else {
                group.push_page_image(page.id(), page.bytes());
                self.has_image[id] = true;
            }
        }
        group.push_logical(NOTE, &step.to_le_bytes());
        let space = self.log.reserve(group.encoded_len()).expect("room");
        let end = self.log.append(space, &mut group).end;
        changed.iter().for_each(|id| self.pages[*id].set_lsn(end));
        assert_eq!(self.log.commit().expect("durable"), end);
        assert!(self.log.is_lsn_durable(end), "strict");
        end
    }

    fn write(&mut self, id: usize) {
        self.file.grow(PAGES).expect("room");
        self.file.write_page(&mut self.pages[id]).expect("a healthy disk");
    }

    /// Everything into the page file; then the log is not needed.
    fn checkpoint(&mut self) {
        (0..PAGES as usize).for_each(|id| self.write(id));
        self.file.sync().expect("a healthy disk");
        self.log.reset().expect("a healthy disk");
        self.has_image.fill(false);
    }
}

/// What the pages hold behind their headers after each step.
fn states() -> Vec<Vec<Vec<u8>>> {
    let disk = SimDisk::new(1);
    let mut engine = recover(&disk).expect("a new log").engine;
    let shown = |engine: &Engine| engine.pages.iter().map(|page| page.payload().to_vec()).collect();
    let mut states = vec![shown(&engine)];
    for step in 1..=STEPS {
        engine.step(step);
        states.push(shown(&engine));
    }
    states
}

/// Recovers and compares; gives which step it came back to.
fn check(disk: &SimDisk, states: &[Vec<Vec<u8>>], least: u64, why: &dyn Fn() -> String) -> (u64, Recovered) {
    let recovered = recover(disk).unwrap_or_else(|error| panic!("{error}\n{}", why()));
    let pages = &recovered.engine.pages;
    let step = u64::from_le_bytes(pages[0].payload()[..8].try_into().expect("eight bytes"));
    assert!(step >= least, "step {step} of {least}\n{}", why());
    for (page, expected) in pages.iter().zip(&states[step as usize]) {
        assert!(page.payload() == expected, "{} after step {step}\n{}", page.id(), why());
        assert!(page.lsn() <= recovered.report.end, "a page newer than its log\n{}", why());
    }
    if let Some(first) = recovered.notes.first() {
        assert!(recovered.notes.iter().copied().eq(*first..=step), "{:?}\n{}", recovered.notes, why());
    }
    (step, recovered)
}

#[test]
fn every_power_cut_leaves_a_prefix_of_its_commits() {
    let states = states();
    let disk = SimDisk::new(7);
    let mut engine = recover(&disk).expect("a new log").engine;
    let mut ends = vec![Lsn::ZERO];
    for step in 1..=STEPS {
        ends.push(engine.step(step));
        disk.note(step);
        match step % 9 {
            4 | 7 => engine.write(step as usize % 3), // stolen, and not synced
            0 => engine.checkpoint(),
            _ => {}
        }
    }
    drop(engine);

    let few =
        CrashOptions { exhaustive_max: 8, random: 3, pairs_max: 6, splits_max: 3, ..Default::default() };
    let fewer =
        CrashOptions { exhaustive_max: 2, random: 1, pairs_max: 1, splits_max: 1, ..Default::default() };
    let (mut images, mut again, mut reformatted, mut skipped) = (0, 0, 0, 0);
    for image in disk.crash_states(&few) {
        let least = image.acknowledged().last().copied().unwrap_or(0);
        let cut = image.disk();
        let (step, mut recovered) = check(&cut, &states, least, &|| image.explain());
        assert!(recovered.report.end >= ends[least as usize], "LSNs never fall\n{}", image.explain());
        reformatted += recovered.report.reformatted;
        skipped += recovered.report.skipped;
        images += 1;
        if images % 40 == 0 && step < STEPS {
            // It goes on, and whatever is cut from the recovery on gives the same.
            let end = recovered.engine.step(step + 1);
            assert!(end > recovered.report.end);
            cut.note(step + 1);
            drop(recovered);
            for second in cut.crash_states(&fewer) {
                let least = second.acknowledged().last().copied().unwrap_or(least);
                let why = || format!("{}\nthen {}", image.explain(), second.explain());
                check(&second.disk(), &states, least, &why);
                again += 1;
            }
        }
    }
    println!("{images} images, {again} of a second cut; {reformatted} reformatted, {skipped} skipped");
    assert!(images > 300 && again > 100 && reformatted > 100 && skipped > 100);
}

#[test]
fn what_recovery_cannot_apply_is_an_error_and_never_passed_over() {
    let fails = |push: &dyn Fn(&mut GroupBuilder)| {
        let disk = SimDisk::new(1);
        let open = || Wal::open_on(Arc::new(disk.clone()), Path::new("/log"), &options()).expect("opens");
        let log = open().start_alone().expect("a new log");
        let mut group = GroupBuilder::new();
        push(&mut group);
        let _ = log.append(log.reserve(group.encoded_len()).expect("room"), &mut group);
        log.commit().expect("durable");
        drop(log);
        let store = MemoryStore::new(DEFAULT_PAGE_SIZE);
        match open().recover(&store, Lsn::ZERO, |_, _| Ok(())) {
            Err(WalError::Page(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let page = PageId::new(1);
    let image = [0; 4096];
    assert!(matches!(fails(&|group| group.push_page_patch(page, 40, b"x")), PageError::BadMagic { .. }));
    assert!(matches!(fails(&|group| group.push_page_image(page, &image[1..])), PageError::Mismatch { .. }));
    let beyond = |group: &mut GroupBuilder| {
        group.push_page_image(page, &image);
        group.push_page_patch(page, 4090, b"beyond it");
    };
    assert!(matches!(fails(&beyond), PageError::Malformed { .. }));
    let far = |group: &mut GroupBuilder| group.push_page_image(PageId::new(u64::MAX), &image);
    assert!(matches!(fails(&far), PageError::InvalidPageId { .. }));
}

#[test]
fn recovery_from_a_checkpoint_of_the_engine_s_own() {
    let disk = SimDisk::new(1);
    let open = || Wal::open_on(Arc::new(disk.clone()), Path::new("/log"), &options()).expect("opens");
    let log = open().start_alone().expect("a new log");
    let ends: Vec<Lsn> = (0..5u8).map(|at| log.append_logical(NOTE, &[at]).expect("room")).collect();
    log.commit().expect("durable");
    drop(log);
    let store = MemoryStore::new(DEFAULT_PAGE_SIZE);
    let from = |from: Lsn| {
        let mut found = Vec::new();
        let report = open().recover(&store, from, |_, record| {
            found.push(record.payload[0]);
            Ok(())
        });
        report.map(|report| (report.groups, found))
    };
    assert_eq!(from(Lsn::ZERO).expect("all"), (5, vec![0, 1, 2, 3, 4]));
    assert_eq!(from(ends[2]).expect("behind the third"), (2, vec![3, 4]));
    assert_eq!(from(ends[4]).expect("nothing"), (0, vec![]));
    assert!(matches!(from(Lsn::new(ends[4].get() + 1)), Err(WalError::WalCorrupt { .. })));
    let log = open().start_alone().expect("opens");
    log.recycle_below(ends[2]).expect("recorded");
    drop(log);
    assert!(matches!(from(ends[1]), Err(WalError::Missing { lsn }) if lsn == ends[1]));
    assert_eq!(from(Lsn::ZERO).expect("what is left"), (2, vec![3, 4]));
}

#[test]
fn an_image_keeps_the_kind_and_a_patch_cannot_break_the_header() {
    let disk = SimDisk::new(1);
    let open = || Wal::open_on(Arc::new(disk.clone()), Path::new("/log"), &options()).expect("opens");
    let log = open().start_alone().expect("a new log");
    let id = PageId::new(2);
    let mut page = Page::new(DEFAULT_PAGE_SIZE, id);
    let mut header = page.header();
    header.kind = PageKind(200);
    header.encode(page.bytes_mut());
    log.append_page_image(id, page.bytes()).expect("room");
    let end = log.append_page_patch(id, 0, &[0xff; 40]).expect("room");
    log.commit().expect("durable");
    drop(log);
    let store = MemoryStore::new(DEFAULT_PAGE_SIZE);
    open().recover(&store, Lsn::ZERO, |_, _| Ok(())).expect("recovers");
    store.read_into(id, &mut page).expect("whole");
    assert_eq!((page.header().kind, page.lsn(), page.id()), (PageKind(200), end, id));
    assert_eq!(page.payload()[..9], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    let again = open().recover(&store, Lsn::ZERO, |_, _| Ok(())).expect("once more");
    assert_eq!((again.applied, again.skipped), (0, 2));
}
