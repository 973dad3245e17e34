//! What happened on a simulated disk, in order.
//!
//! Invariant: from the state at the start and the journal everything else follows: what is live, what is durable, and
//! every state that a power cut after any operation can leave.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::content::{Bytes, CHUNK, Chunk, Content, SECTOR};
use super::names::{DirId, Entry, FileId, Node};

/// One operation that changed something, or was told to the disk by its user.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Create {
        file: FileId,
        at: Entry,
        path: Arc<Path>,
    },
    CreateDir {
        dir: DirId,
        at: Entry,
    },
    Rename {
        from: Entry,
        to: Entry,
        node: Node,
    },
    Remove {
        at: Entry,
        node: Node,
    },
    Write(Write),
    Length {
        file: FileId,
        change: LengthChange,
    },
    Sync {
        file: FileId,
        outcome: SyncOutcome,
        /// The chunks that it was of; `None` is the whole file.
        chunks: Option<Range<usize>>,
    },
    SyncDir {
        dir: DirId,
    },
    /// Bytes changed behind everybody's back: on the medium, at once.
    Media {
        file: FileId,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    /// A number that the user of the disk wanted to remember here.
    Note(u64),
}

/// Bytes that were written.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) file: FileId,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) pieces: Arc<[Piece]>,
    /// The file's new length if it grew.
    pub(crate) extend: Option<u64>,
    /// It reaches the medium whole or not at all. It lies in one chunk.
    pub(crate) atomic: bool,
    /// It was seen in a map: offset and length span the changed sectors, which need not be all between.
    pub(crate) mapped: bool,
}

/// The part of a write that lies in one chunk: sectors `from..to` of it, as they were in the cache after the write.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) index: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) chunk: Arc<Chunk>,
}

/// A change of a file's length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LengthChange {
    /// At least this long.
    Extend(u64),
    /// This long; what lay behind is gone.
    Truncate(u64),
}

/// What a sync did to the file's pending writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SyncOutcome {
    /// All are durable.
    Done,
    /// None is, and none will be: the cache took them for clean.
    Lost,
    /// Some sectors are, by this seed; the others are lost.
    Partly { seed: u64 },
}

impl LengthChange {
    pub(crate) fn apply(self, bytes: &mut Bytes) {
        match self {
            Self::Extend(to) => bytes.extend(to),
            Self::Truncate(to) => bytes.set_len(to),
        }
    }
}

impl Write {
    /// What of it lies in these chunks, with its length, and what does not.
    pub(crate) fn split(&self, chunks: &Range<usize>) -> (Write, Option<Write>) {
        let (inside, outside): (Vec<Piece>, Vec<Piece>) =
            self.pieces.iter().cloned().partition(|piece| chunks.contains(&piece.index));
        let rest = (!outside.is_empty()).then(|| Write {
            pieces: outside.into(),
            extend: None,
            mapped: true,
            ..self.clone()
        });
        (Write { pieces: inside.into(), ..self.clone() }, rest)
    }

    /// The bytes that were written.
    pub(crate) fn ranges(&self) -> Vec<Range<u64>> {
        let range = |piece: &Piece| {
            let at = |sector: usize| (piece.index * CHUNK + sector * SECTOR) as u64;
            at(piece.from)..at(piece.to)
        };
        let whole = (!self.mapped).then_some(self.offset..self.offset + self.len);
        let pieces = if self.mapped { &*self.pieces } else { &[] };
        whole.into_iter().chain(pieces.iter().map(range)).collect()
    }

    pub(crate) fn apply(&self, bytes: &mut Bytes) {
        for piece in &*self.pieces {
            bytes.content.put_sectors(piece.index, &piece.chunk, piece.from, piece.to);
        }
        bytes.extend(self.extend.unwrap_or(0));
    }

    /// The change of these sectors of a file, which are in order; `content` is the file after it.
    pub(crate) fn of_sectors(file: FileId, content: &Content, sectors: &[usize]) -> Self {
        let (first, last) = (sectors[0], sectors[sectors.len() - 1]);
        let mut pieces: Vec<Piece> = Vec::new();
        for sector in sectors {
            let (index, from) = (sector * SECTOR / CHUNK, sector % (CHUNK / SECTOR));
            match pieces.last_mut() {
                Some(piece) if piece.index == index && piece.to == from => piece.to += 1,
                _ => {
                    let chunk = Arc::clone(content.chunk(index).expect("a chunk that was written is there"));
                    pieces.push(Piece { index, from, to: from + 1, chunk });
                }
            }
        }
        let (offset, end) = ((first * SECTOR) as u64, ((last + 1) * SECTOR) as u64);
        Self {
            file,
            offset,
            len: end - offset,
            pieces: pieces.into(),
            extend: None,
            atomic: false,
            mapped: true,
        }
    }

    /// Cuts a write into pieces; `content` is the file after it.
    pub(crate) fn pieces(content: &Content, offset: u64, len: u64) -> Arc<[Piece]> {
        let (start, end) = (offset as usize, (offset + len) as usize);
        let piece = |index: usize| {
            let first = index * CHUNK;
            let from = (start.max(first) - first) / SECTOR;
            let to = (end.min(first + CHUNK) - first).div_ceil(SECTOR);
            let chunk = Arc::clone(content.chunk(index).expect("a chunk that was written is there"));
            Piece { index, from, to, chunk }
        };
        (start / CHUNK..end.div_ceil(CHUNK)).map(piece).collect()
    }
}
