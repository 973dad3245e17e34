//! A log's first directory and segment.
//!
//! Invariant: a directory that has the first segment under its name is a whole, empty log; everything short of that is
//! either nothing or half made, and making it again finishes it. What holds a block is never touched.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pagestone_direct_io::{Disk, DurableBy, OpenHow, PathKind};
use pagestone_page_format::AlignedBuf;

use crate::block::{BLOCK, BlockHeader, FIRST_BLOCK, NotABlock};
use crate::error::{WalError, WalResult};
use crate::options::WalOptions;
use crate::segment::{self, Segment, SegmentMaker};

/// Makes the directory and the first segment, or finishes an interrupted attempt.
pub(crate) fn create(disk: Arc<dyn Disk>, dir: PathBuf, options: &WalOptions) -> WalResult<()> {
    options.check()?;
    match disk.kind(&dir).map_err(WalError::io("look at the log's directory"))? {
        None => disk.create_dir(&dir).map_err(WalError::io("creation of the log's directory"))?,
        Some(PathKind::Directory) => {}
        Some(_) => {
            return Err(WalError::Mismatch {
                expected: "the log's directory".into(),
                found: "something that is no directory".into(),
            });
        }
    }
    let maker = SegmentMaker {
        disk,
        dir,
        direct: options.direct,
        bytes: options.segment_bytes,
        durable_by: DurableBy::default(),
    };
    let leftovers = leftovers(&maker)?;
    for path in &leftovers {
        maker.remove(path)?;
    }
    maker.make(FIRST_BLOCK)?;
    maker.sync_dir()?;
    let parent = match maker.dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    maker.disk.sync_dir(parent).map_err(WalError::io("sync of the directory that holds the log"))
}

/// What an interrupted attempt left; an error if there is a block among it.
fn leftovers(maker: &SegmentMaker) -> WalResult<Vec<PathBuf>> {
    let names = maker.disk.list(&maker.dir).map_err(WalError::io("listing of the log's directory"))?;
    let mut paths = Vec::new();
    for name in names {
        let path = maker.dir.join(&name);
        if let Some(first) = segment::parse_name(&name) {
            let segment = Segment::open(&*maker.disk, path.clone(), first, &OpenHow::read(maker.direct))?;
            if holds_a_block(&segment)? {
                return Err(WalError::AlreadyExists);
            }
        } else if !segment::is_unfinished(&name) {
            continue;
        }
        paths.push(path);
    }
    Ok(paths)
}

fn holds_a_block(segment: &Segment) -> WalResult<bool> {
    const CHUNK: u64 = 256;
    let mut chunk = AlignedBuf::zeroed(CHUNK as usize * BLOCK);
    let all = segment.bytes() / BLOCK as u64;
    for at in (0..all).step_by(CHUNK as usize) {
        let chunk = &mut chunk[..CHUNK.min(all - at) as usize * BLOCK];
        segment.read(chunk, at * BLOCK as u64)?;
        let is_block = |bytes| matches!(BlockHeader::decode(bytes), Ok(_) | Err(NotABlock::Version(_)));
        if chunk.chunks(BLOCK).any(is_block) {
            return Ok(true);
        }
    }
    Ok(false)
}
