//! Prevents: half a group after a power cut: one page changed and another not, a page in use that nobody refers to, one that is
//! referred to and free (R1, R2, V1). The operations are an engine's own, of its own kinds.
//!
//! The engine is a purse: page 1 lists up to eight accounts, each a page with an amount. A payment takes from one page and gives to
//! another; opening an account takes a page, closing one frees it and pays out. Whatever is cut, the amounts add up.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use pagestone_allocator::{FormatMap, LoggedAllocator, MapSource, SetBits};
use pagestone_buffer_pool::{BufferPool, PoolOptions};
use pagestone_direct_io::{Create, DirectIo, Disk, DoubleWriteFile, DurableBy, OpenHow, PageFileOptions};
use pagestone_mini_txn::{LateLog, LoggedPool, MasterRecord, PageHandle, Redo, Reserve};
use pagestone_page_format::{
    DEFAULT_PAGE_SIZE, ENGINE_OP_KINDS, Lsn, OpKind, PAGE_HEADER_SIZE, PageId, PageKind, PageOp, PageResult,
    PageWriter, Poison, RedoRange, RedoTable, SpeculativePage,
};
use pagestone_swip::MAX_SWIP_PAGE;
use pagestone_testkit::{CrashOptions, SimDisk};
use pagestone_wal::{Recovery, Wal, WalOptions};

const KIND: OpKind = *ENGINE_OP_KINDS.end();
const LIST: PageId = PageId::new(1);
const FIRST_WORD: usize = PAGE_HEADER_SIZE / 8;
const ACCOUNTS: usize = 8;
const ALL: u64 = 1000;

/// Sets a word, from what it must be; `from` of `u64::MAX` formats the page first.
#[derive(Debug, Clone, Copy)]
struct Set {
    word: u64,
    from: u64,
    to: u64,
}

impl Set {
    fn fresh(word: usize, to: u64) -> Self {
        Self { word: word as u64, from: u64::MAX, to }
    }
}

impl PageOp for Set {
    fn kind(&self) -> OpKind {
        if self.from == u64::MAX { KIND } else { KIND - 1 }
    }

    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        let id = page.read().header().expect("a page has a header").page_id;
        let word = self.word as usize;
        if self.from == u64::MAX {
            page.format(PageKind(255), id);
        } else if page.read().word(word).map_err(|error| error.malformed(id))? != self.from {
            return Err(pagestone_page_format::PageError::Malformed {
                page_id: id,
                reason: "another amount",
            });
        }
        page.put_word(word, self.to).map_err(|error| error.malformed(id))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        [self.word, self.from, self.to].iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    }
}

fn redo_range() -> RedoRange {
    RedoRange {
        kinds: KIND - 1..=KIND,
        apply: |_, payload, page| {
            let (words, _) = payload.as_chunks::<8>();
            let [word, from, to] = [0, 1, 2].map(|at| u64::from_le_bytes(words[at]));
            Set { word, from, to }.apply(page)
        },
        formats: |kind| kind == KIND,
    }
}

struct Purse {
    env: LoggedPool,
    master: MasterRecord,
}

impl Purse {
    fn open(disk: &SimDisk) -> PageResult<Self> {
        let options = WalOptions {
            segment_bytes: 64 << 10,
            log_bytes: 128 << 10,
            durable_by: Some(DurableBy::Fdatasync),
            ..WalOptions::default()
        };
        let (poison, log_dir) = (Poison::new(), "/log");
        let pages = PageFileOptions::new().open_on(disk, Path::new("/pages"))?;
        let uuid = pages.uuid().expect("it describes itself");
        let mut master = MasterRecord::open(disk, Path::new("/master"), uuid)?;
        master.check_len(&pages)?;
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        if master.generation() == 0 {
            Wal::create(shared.clone(), log_dir.into(), &options, uuid)?;
        }
        let mut log = Recovery::open(shared, log_dir.into(), &options, master.log_start(&poison))?;
        let found = log.replay(|_| Ok(()))?;
        log.secure()?;
        let how = OpenHow { create: Create::OpenOrNew, write: true, direct: DirectIo::Prefer };
        let copies = disk.open(Path::new("/doublewrite"), &how).expect("a healthy disk");
        disk.sync_dir(Path::new("/")).expect("a healthy disk");
        let copies = DoubleWriteFile::read(copies, DEFAULT_PAGE_SIZE, uuid, pages.checksum().clone())?;
        let pages =
            copies.restore(&pages, master.checkpoint(), found.end)?.write_twice(pages, poison.clone());
        let late_log = Arc::new(LateLog::reading(found.end));
        let pool_options =
            PoolOptions { log: Some(late_log.clone()), poison: poison.clone(), ..PoolOptions::new(12) };
        let pool = Arc::new(BufferPool::with_options(Box::new(pages), pool_options)?);
        let table = RedoTable::new(vec![pagestone_allocator::redo_range(), redo_range()]);
        let mut redo = Redo::new(&pool, table);
        log.replay(|group| redo.group(&group))?;
        redo.finish()?;
        let log = Arc::new(log.start(master.next_generation(&found, &poison)?)?);
        late_log.open(log.clone());
        let allocator = LoggedAllocator::under_log(DEFAULT_PAGE_SIZE, MAX_SWIP_PAGE);
        let purse = Self { env: LoggedPool::new(pool, log, allocator, poison), master };
        if found.groups == 0 && purse.master.checkpoint() == Lsn::ZERO {
            purse.begin()?;
        }
        Ok(purse)
    }

    /// The list, with one account that has it all.
    fn begin(&self) -> PageResult<()> {
        let account = PageId::new(2);
        self.env.grow(3)?;
        let mut txn = self.env.begin(Reserve { log_bytes: 512, pins: 3, ..Reserve::default() })?;
        let pool = self.env.pool();
        let list = txn.latch(pool.adopt(LIST, PageKind::PLAIN)?.exclusive()?);
        let first = txn.latch(pool.adopt(account, PageKind::PLAIN)?.exclusive()?);
        let map = txn.latch(pool.adopt(PageId::new(0), PageKind::SPACE_MAP)?.exclusive()?);
        txn.change(list, &Set::fresh(FIRST_WORD, account.get()))?;
        txn.change(first, &Set::fresh(FIRST_WORD, ALL))?;
        txn.change(map, &FormatMap { region: 0 })?;
        txn.change(map, &SetBits { first: LIST, count: 2 })?;
        txn.commit().map(drop)
    }

    /// The accounts, by their place in the list: page and amount.
    fn accounts(&self) -> PageResult<BTreeMap<usize, (u64, u64)>> {
        let word = |id: PageId, word: usize| {
            let pin = self.env.pool().fault(id)?;
            let page = pin.shared()?;
            page.page().word(word).map_err(|error| error.malformed(id))
        };
        let mut accounts = BTreeMap::new();
        for place in 0..ACCOUNTS {
            let page = word(LIST, FIRST_WORD + place)?;
            if page != 0 {
                accounts.insert(place, (page, word(PageId::new(page), FIRST_WORD)?));
            }
        }
        Ok(accounts)
    }

    /// Pays `amount` from one place to another. A place without an account gets one; an account without money is closed.
    fn pay(&self, from: usize, to: usize, amount: u64) -> PageResult<()> {
        let accounts = self.accounts()?;
        let ((from_page, had), old) = (accounts[&from], accounts.get(&to).copied());
        let closes = had == amount;
        let frees = [(PageId::new(from_page), 1)];
        let mut txn = self.env.begin(Reserve {
            log_bytes: 1024,
            new_pages: old.is_none().into(),
            pins: 3,
            frees: if closes { &frees } else { &[] },
            ..Reserve::default()
        })?;
        let pins = [Some(LIST.get()), Some(from_page), old.map(|(page, _)| page)].into_iter().flatten();
        let pins: Vec<_> =
            pins.map(|id| self.env.pool().fault(PageId::new(id))).collect::<PageResult<_>>()?;
        let latched: Vec<PageHandle> =
            pins.iter().map(|pin| Ok(txn.latch(pin.exclusive()?))).collect::<PageResult<_>>()?;
        if closes {
            txn.free(PageId::new(from_page), 1)?;
            let word = (FIRST_WORD + from) as u64;
            txn.change(latched[0], &Set { word, from: from_page, to: 0 })?;
        }
        txn.change(latched[1], &Set { word: FIRST_WORD as u64, from: had, to: had - amount })?;
        match old {
            Some((_, has)) => {
                txn.change(latched[2], &Set { word: FIRST_WORD as u64, from: has, to: has + amount })?;
            }
            None => {
                let new = txn.allocate()?;
                txn.change(new, &Set::fresh(FIRST_WORD, amount))?;
                let word = (FIRST_WORD + to) as u64;
                txn.change(latched[0], &Set { word, from: 0, to: txn.id(new).get() })?;
            }
        }
        let lsn = txn.commit()?.lsn;
        Ok(self.env.log().wait_durable(lsn)?)
    }

    /// As [`Purse::pay`] between accounts that stay, but in two groups: what this test is there to catch.
    fn pay_in_two_groups(&self, from: usize, to: usize, amount: u64) -> PageResult<()> {
        let accounts = self.accounts()?;
        for (place, is_payer) in [(from, true), (to, false)] {
            let (page, has) = accounts[&place];
            let mut txn = self.env.begin(Reserve { log_bytes: 256, pins: 1, ..Reserve::default() })?;
            let page = txn.latch(self.env.pool().fault(PageId::new(page))?.exclusive()?);
            let to = if is_payer { has - amount } else { has + amount };
            txn.change(page, &Set { word: FIRST_WORD as u64, from: has, to })?;
            let lsn = txn.commit()?.lsn;
            self.env.log().wait_durable(lsn)?;
        }
        Ok(())
    }

    fn amounts(&self) -> PageResult<BTreeMap<usize, u64>> {
        Ok(self.accounts()?.into_iter().map(|(place, (_, amount))| (place, amount)).collect())
    }
}

/// Opens what a crash left, and proves that every group is whole: the money is there, and each page is used once or free.
fn recovered(disk: &SimDisk) -> Result<BTreeMap<usize, u64>, String> {
    let told = |error: pagestone_page_format::PageError| error.to_string();
    let purse = Purse::open(disk).map_err(told)?;
    let accounts = purse.accounts().map_err(told)?;
    let sum = accounts.values().map(|(_, amount)| amount).sum::<u64>();
    if sum != ALL {
        return Err(format!("{sum} of {ALL}: half a payment"));
    }
    let mut used: HashSet<u64> = accounts.values().map(|(page, _)| *page).collect();
    if used.len() != accounts.len() {
        return Err("two accounts have one page".into());
    }
    used.insert(LIST.get());
    let map = purse.env.load_region(0).map_err(told)?.expect("formatted");
    for id in 1..purse.env.file_pages().map_err(told)? {
        if map.is_allocated(PageId::new(id)).expect("of region 0") != used.contains(&id) {
            return Err(format!("page {id} is lost, or used and free"));
        }
    }
    purse.amounts().map_err(told)
}

/// Cuts the power everywhere in a run that went through these states, from this point of its journal on; how many images were
/// looked at, or what one of them lost.
fn cut_everywhere(disk: &SimDisk, from: usize, states: &[BTreeMap<usize, u64>]) -> Result<usize, String> {
    let mut images = 0;
    for image in disk.crash_states(&CrashOptions { cuts: from..usize::MAX, ..CrashOptions::default() }) {
        images += 1;
        let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
        let legal = &states[acknowledged..states.len().min(acknowledged + 2)];
        let crashed = image.disk();
        let check = |disk: &SimDisk| match recovered(disk) {
            Ok(found) if legal.contains(&found) => Ok(()),
            Ok(found) => Err(format!("after {acknowledged} payments {found:?}")),
            Err(lost) => Err(lost),
        };
        check(&crashed).map_err(|lost| format!("{lost}: {}", image.explain()))?;
        if images % 64 == 0 {
            let few = CrashOptions {
                exhaustive_max: 8,
                pairs_max: 0,
                splits_max: 2,
                random: 1,
                ..CrashOptions::default()
            };
            for again in crashed.crash_states(&few) {
                check(&again.disk()).map_err(|lost| format!("R6: {lost}: {}", again.explain()))?;
            }
        }
    }
    Ok(images)
}

#[test]
fn an_engine_s_own_operations_are_atomic_over_pages() {
    let disk = SimDisk::new(9);
    let mut purse = Purse::open(&disk).expect("a healthy disk");
    let mut states = vec![purse.amounts().expect("reads")];
    // Opened, paid, closed: an account's page is freed and is another account's in the next group.
    let round =
        [(0, 1, 300), (1, 2, 100), (2, 1, 50), (0, 3, 700), (3, 1, 1), (2, 4, 50), (1, 5, 251), (4, 3, 50)];
    let back = [(5, 0, 251), (3, 0, 749)];
    for (step, (from, to, amount)) in round.into_iter().chain(back).chain(round).enumerate() {
        purse.pay(from, to, amount).expect("a healthy disk");
        states.push(purse.amounts().expect("reads"));
        disk.note(states.len() as u64 - 1);
        if step % 3 == 2 {
            let Purse { env, master } = &mut purse;
            env.checkpoint(master).expect("a healthy disk");
        }
    }
    assert_eq!(disk.audit(), []);
    let images = cut_everywhere(&disk, 0, &states).unwrap_or_else(|lost| panic!("{lost}"));
    println!("{images} images");
    assert!(images > 500, "{images} images");
}

#[test]
fn a_payment_in_two_groups_is_caught() {
    let disk = SimDisk::new(9);
    let purse = Purse::open(&disk).expect("a healthy disk");
    purse.pay(0, 1, 300).expect("a healthy disk");
    let (from, mut states) = (disk.journal_len(), vec![purse.amounts().expect("reads")]);
    purse.pay_in_two_groups(0, 1, 10).expect("a healthy disk");
    states.push(purse.amounts().expect("reads"));
    disk.note(1);
    let lost = cut_everywhere(&disk, from, &states).expect_err("it is cut in the middle");
    assert!(lost.contains("half a payment"), "{lost}");
}

/// Redo believes nothing that an operation did not check.
#[test]
fn a_page_that_an_operation_does_not_fit_is_an_error() {
    let words: Vec<pagestone_sync::atomic::AtomicU64> = (0..512).map(|_| 0.into()).collect();
    let page = PageWriter::new(&words);
    Set::fresh(FIRST_WORD, 5).apply(&page).expect("formats");
    let table = RedoTable::new(vec![pagestone_allocator::redo_range(), redo_range()]);
    let mut payload = Vec::new();
    Set { word: FIRST_WORD as u64, from: 6, to: 7 }.encode(&mut payload);
    table.apply(KIND - 1, &payload, &page).expect_err("the amount is another");
    assert_eq!(SpeculativePage::new(&words).word(FIRST_WORD), Ok(5));
    table.apply(*ENGINE_OP_KINDS.start(), &payload, &page).expect_err("nobody's kind");
}
