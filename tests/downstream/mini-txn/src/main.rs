//! Pool, log and allocator put together by hand: two pages of an engine's own kind change at once, and redo into an empty
//! pool brings both back.

use std::sync::Arc;

use pagestone_allocator::{LoggedAllocator, MapSource, redo_range};
use pagestone_buffer_pool::{BufferPool, PoolOptions};
use pagestone_direct_io::{DirectIo, Disk, OpenHow, PageFile, RealDisk};
use pagestone_mini_txn::{LoggedPool, Redo, Reserve};
use pagestone_page_format::{
    ChecksumKind, DEFAULT_PAGE_SIZE, Lsn, MemoryStore, OpKind, PageChecksum, PageId, PageKind, PageOp,
    PageResult, PageWriter, Poison, RedoRange, RedoTable, StoreUuid,
};
use pagestone_wal::{Recovery, Wal, WalOptions, WalStart};

const SET_COUNTER: OpKind = 0x7000;

/// Makes a page a counter with this value.
struct SetCounter(u64);

impl PageOp for SetCounter {
    fn kind(&self) -> OpKind {
        SET_COUNTER
    }
    fn apply(&self, page: &PageWriter<'_>) -> PageResult<()> {
        let id = page.read().header().map_err(|error| error.malformed(PageId::new(0)))?.page_id;
        page.set_kind(PageKind(200))
            .and_then(|()| page.put_word(4, self.0))
            .map_err(|error| error.malformed(id))
    }
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }
}

fn counters() -> RedoRange {
    RedoRange {
        kinds: SET_COUNTER..=SET_COUNTER,
        apply: |_, payload, page| {
            SetCounter(u64::from_le_bytes(payload.try_into().expect("eight bytes"))).apply(page)
        },
        formats: |_| true,
    }
}

fn open_log(dir: &std::path::Path, generation: u64) -> Result<Recovery, Box<dyn std::error::Error>> {
    let options = WalOptions { segment_bytes: 64 << 10, log_bytes: 1 << 20, ..WalOptions::default() };
    let uuid = StoreUuid::new([4; 16]);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    if generation == 0 {
        Wal::create(disk.clone(), dir.into(), &options, uuid)?;
    }
    let (checkpoint, keep_from) = (Lsn::ZERO, Lsn::ZERO);
    let start =
        WalStart { uuid, generation, checkpoint, keep_from, newest_copy_lost: false, poison: Poison::new() };
    Ok(Recovery::open(disk, dir.into(), &options, start)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("pagestone-downstream-mini-txn-{}", std::process::id()));
    let mut recovery = open_log(&dir, 0)?;
    recovery.replay(|_| panic!("a new log is empty"))?;
    let log = Arc::new(recovery.start(1)?);

    let mut options = PoolOptions::new(64);
    options.log = Some(log.clone());
    let pool = BufferPool::with_options(Box::new(MemoryStore::new(DEFAULT_PAGE_SIZE)), options)?;
    let allocator = LoggedAllocator::under_log(DEFAULT_PAGE_SIZE, PageId::MAX);
    let env = LoggedPool::new(Arc::new(pool), log.clone(), allocator, Poison::new());
    env.grow(1)?;
    env.format_region(0)?;

    let mut txn = env.begin(Reserve { log_bytes: 256, new_pages: 2, pins: 0, ..Reserve::default() })?;
    for value in [11, 22] {
        let page = txn.allocate()?;
        txn.change(page, &SetCounter(value))?;
    }
    let committed = txn.commit()?;
    log.wait_durable(committed.lsn)?;
    assert_eq!(env.allocator().high_water(), Some(3));
    drop((env, log));

    let file = RealDisk.open(&dir.join("pages"), &OpenHow::create_new(DirectIo::Prefer))?;
    let checksum = PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::new([4; 16]));
    let fresh = BufferPool::new(PageFile::new(file, 0, DEFAULT_PAGE_SIZE, checksum), 64);
    let mut redo = Redo::new(&fresh, RedoTable::new(vec![redo_range(), counters()]));
    open_log(&dir, 1)?.replay(|group| redo.group(&group))?;
    redo.finish()?;
    for (page, value) in [(1, 11), (2, 22)] {
        let pin = fresh.fault(PageId::new(page))?;
        let page = pin.exclusive()?;
        assert_eq!(page.page().word(4), Ok(value));
        assert_eq!(page.lsn(), committed.lsn);
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
