//! A log for models under `--cfg loom`: the production type on a disk in memory that checks what is done to it.
//!
//! Invariant: the disk knows what was written and what was synced, and panics where the log breaks a rule of its own: two batches
//! in flight, a block in a file that is not its segment's, two segments of one name, a sync in a file whose name is not durable.
//!
//! Replaced is the disk alone. What it remembers is no part of the model; three atomics let other threads run during I/O.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pagestone_direct_io::{DirectIo, Disk, DurableBy, File, OpenHow, PathKind};
use pagestone_page_format::{Lsn, Poison, StoreUuid};
use pagestone_sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::block::{BLOCK, BlockHeader, FIRST_BLOCK, block_lsn};
use crate::buffer::Identity;
use crate::options::WalOptions;
use crate::segment::{Segment, SegmentMaker, blocks_of, name, parse_name};
use crate::wal::{Beginning, Wal};

/// A disk with one directory in which segments lie.
#[derive(Debug)]
pub struct Medium {
    /// Ends of the stream: what was written, what was synced.
    written: AtomicU64,
    synced: AtomicU64,
    in_flight: AtomicBool,
    broken: bool,
    contents: Mutex<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    /// Newest version of each block.
    blocks: BTreeMap<u64, Vec<u8>>,
    /// Names, each with the file's number.
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    files: u64,
}

impl Medium {
    /// Everything before this LSN was synced.
    pub fn synced(&self) -> Lsn {
        Lsn::new(self.synced.load(Ordering::Relaxed))
    }

    /// The bytes of the stream from `start` to before `end`, which lie in one block. None if they were not written.
    pub fn written(&self, start: Lsn, end: Lsn) -> Option<Vec<u8>> {
        let (number, at) = (start.get() / BLOCK as u64, start.get() as usize % BLOCK);
        let contents = self.contents();
        let block = contents.blocks.get(&number)?;
        (BlockHeader::decode(block).ok()?.end() >= end)
            .then(|| block[at..at + (end.get() - start.get()) as usize].to_vec())
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.contents().names.len()
    }

    fn contents(&self) -> std::sync::MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_block(&self, file: u64, block: &[u8], offset: u64) -> u64 {
        let header = BlockHeader::decode(block).expect("a sealed block");
        let mut contents = self.contents();
        let names = contents.names.iter().filter(|(_, other)| **other == file);
        let firsts: Vec<_> =
            names.filter_map(|(path, _)| parse_name(path.file_name().unwrap_or_default())).collect();
        let blocks = u64::from(header.segment_blocks);
        let slots = file_blocks(blocks) - blocks;
        let home = |first: u64| (header.number - first + slots) * BLOCK as u64;
        let belongs = firsts.iter().any(|first| {
            (*first..first + blocks).contains(&header.number)
                && (offset < slots * BLOCK as u64 || offset == home(*first))
        });
        assert!(belongs, "block {} is written to a file that is not its segment's", header.number);
        contents.blocks.insert(header.number, block.to_vec());
        header.end().get()
    }
}

/// A file of it.
#[derive(Debug)]
struct ModelFile {
    medium: Arc<Medium>,
    number: u64,
}

impl File for ModelFile {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        unreachable!("commits read nothing")
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        if buf.iter().all(|byte| *byte == 0) {
            return Ok(buf.len()); // a segment in the making
        }
        let medium = &self.medium;
        assert!(!medium.in_flight.swap(true, Ordering::Relaxed), "two batches in flight");
        for (index, block) in buf.chunks_exact(BLOCK).enumerate() {
            let end = medium.take_block(self.number, block, offset + (index * BLOCK) as u64);
            medium.written.fetch_max(end, Ordering::Relaxed);
        }
        medium.in_flight.store(false, Ordering::Relaxed);
        Ok(buf.len())
    }

    fn sync(&self) -> io::Result<()> {
        let medium = &self.medium;
        if medium.broken {
            medium.synced.fetch_max(0, Ordering::Relaxed); // what the model's waiters look at first
            return Err(io::Error::other("broken"));
        }
        let contents = medium.contents();
        let named = |names: &BTreeMap<PathBuf, u64>| {
            let mut of_file = names.iter().filter(|(_, number)| **number == self.number);
            of_file.find_map(|(path, _)| parse_name(path.file_name().unwrap_or_default()))
        };
        let (now, durable) = (named(&contents.names), named(&contents.durable_names));
        drop(contents);
        if now.is_none() {
            return Ok(()); // a segment in the making
        }
        assert_eq!(now, durable, "a batch is synced in a file whose name could still vanish");
        medium.synced.fetch_max(medium.written.load(Ordering::Relaxed), Ordering::Relaxed);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        unreachable!("commits ask for no length")
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn reserve(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        unreachable!("commits drop no cache")
    }

    fn try_lock(&self) -> io::Result<bool> {
        unreachable!("commits lock no file")
    }

    fn is_direct(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct ModelDisk(Arc<Medium>);

impl Disk for ModelDisk {
    fn open(&self, path: &Path, _: &OpenHow) -> io::Result<Arc<dyn File>> {
        let mut contents = self.0.contents();
        contents.files += 1;
        let number = contents.files;
        contents.names.insert(path.into(), number);
        Ok(Arc::new(ModelFile { medium: Arc::clone(&self.0), number }))
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("no directory is made")
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.written.load(Ordering::Relaxed); // others may run before it
        let mut contents = self.0.contents();
        let file = contents.names.remove(from).ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        let before = contents.names.insert(to.into(), file);
        assert_eq!(before, None, "two segments of one name");
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.written.load(Ordering::Relaxed); // others may run before it
        self.0.contents().names.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
        unreachable!("nothing is listed")
    }

    fn kind(&self, _: &Path) -> io::Result<Option<PathKind>> {
        unreachable!("nothing is looked at")
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut contents = self.0.contents();
        contents.durable_names = contents.names.clone();
        Ok(())
    }
}

/// Blocks of the file of a segment that has homes for so many.
fn file_blocks(blocks: u64) -> u64 {
    let fits = |all: &u64| blocks_of(all * BLOCK as u64) == blocks;
    (blocks + 3..).find(fits).expect("files of every length")
}

/// How a model's log is made.
#[derive(Debug, Clone, Copy)]
pub struct ModelLog {
    /// Every sync fails.
    pub broken: bool,
    /// Bytes of each of the two buffers.
    pub buffer_bytes: usize,
    /// Segments that are ready at the beginning.
    pub segments: u64,
    /// Blocks of each.
    pub segment_blocks: u64,
}

impl ModelLog {
    /// One segment that is large enough for every model, buffers of two blocks.
    pub const LARGE: Self =
        Self { broken: false, buffer_bytes: 2 * BLOCK, segments: 1, segment_blocks: 1000 };

    /// A log as recovery begins it, empty.
    pub fn begin(self) -> (Arc<Medium>, Wal) {
        let medium = Arc::new(Medium {
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            in_flight: AtomicBool::new(false),
            broken: self.broken,
            contents: Mutex::default(),
        });
        let bytes = file_blocks(self.segment_blocks) * BLOCK as u64;
        let disk = Arc::new(ModelDisk(Arc::clone(&medium)));
        let segments = (0..self.segments)
            .map(|index| {
                let first = FIRST_BLOCK + index * self.segment_blocks;
                let path = Path::new("/log").join(name(first));
                let file = disk.open(&path, &OpenHow::write(DirectIo::Off)).expect("a disk in memory");
                Segment::of(first, bytes / BLOCK as u64, file, path, DirectIo::Off)
            })
            .collect::<VecDeque<_>>();
        disk.sync_dir(Path::new("/log")).expect("a disk in memory");
        let wal = Wal::begin(Beginning {
            identity: Identity {
                uuid: StoreUuid::new([1; 16]),
                generation: 1,
                first: FIRST_BLOCK,
                prev_end: block_lsn(FIRST_BLOCK),
            },
            options: WalOptions {
                segment_bytes: bytes,
                log_bytes: (self.segments + 8) * bytes,
                buffer_bytes: self.buffer_bytes,
                ..WalOptions::default()
            },
            poison: Poison::new(),
            keep: block_lsn(FIRST_BLOCK),
            segments,
            maker: SegmentMaker {
                disk,
                dir: "/log".into(),
                direct: DirectIo::Off,
                bytes,
                durable_by: DurableBy::default(),
            },
        });
        (medium, wal)
    }
}
