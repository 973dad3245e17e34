//! The maps of a simulated disk, as the disk sees them.
//!
//! Invariant: `seen` is what a map held when it was looked at last; what differs from it at the next look was changed
//! through the map since, and nothing else is. A look is taken whenever anybody looks at the disk, so at every instant at which a
//! crash can be told from another the journal knows what each mapped sector held (C10).
//!
//! The memory of a map is a map of a real file, one real file for each file of the disk: the disk reads it through the system while
//! the map's owner has a `&mut` of it, which no safe code could do in one process's memory.
//!
//! ```text
//!   owner ──► real map ═ real file ──read──► what is there ≠ seen?  ──► live bytes, one more write of the journal
//!   live bytes changed behind the map (a failed sync shows the old ones)  ──► `behind`, and the map shows them when asked next
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pagestone_direct_io::{
    DirectIo, Disk, File, FileMap, MapAccess, OpenHow, RealDisk, read_exact_at, write_all_at,
};
use tempfile::TempDir;

use super::content::{CHUNK, Content, SECTOR};
use super::model::Medium;
use super::names::FileId;

/// All maps of a disk.
#[derive(Default)]
pub(super) struct Maps {
    live: Vec<LiveMap>,
    next: u64,
    /// Where the memory of maps is; made for the first one.
    scratch: Option<TempDir>,
    /// The real files of each simulated one: a second where two maps to read are of the same bytes.
    memory: BTreeMap<FileId, Vec<Arc<dyn File>>>,
}

/// One map, as the disk sees it.
struct LiveMap {
    id: u64,
    handle: u64,
    file: FileId,
    range: Range<u64>,
    access: MapAccess,
    memory: Arc<dyn File>,
    seen: Vec<u8>,
    shared: Arc<Shared>,
}

/// What the disk and the owner of a map tell each other without the disk's lock. Relaxed would do: both decide nothing but
/// whether to take the lock and look.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// A `&mut` of the bytes was given and may still be there.
    pub(super) writing: AtomicBool,
    /// How often the live bytes were changed behind the map.
    pub(super) behind: AtomicU64,
}

/// A map that was made, for its owner.
pub(super) struct Made {
    pub(super) id: u64,
    pub(super) real: FileMap,
    pub(super) file: FileId,
    pub(super) range: Range<u64>,
    pub(super) access: MapAccess,
    pub(super) shared: Arc<Shared>,
}

impl Maps {
    /// The first map that meets these bytes of a file: its handle and its bytes.
    pub(super) fn meets(&self, file: FileId, bytes: &Range<u64>) -> Option<(u64, Range<u64>)> {
        self.meeting(file, bytes).next().map(|map| (map.handle, map.range.clone()))
    }

    /// Whether a handle has any.
    pub(super) fn any_of(&self, handle: u64) -> bool {
        self.live.iter().any(|map| map.handle == handle)
    }

    /// Whether a map of these bytes is kept out by others.
    pub(super) fn excludes(&self, file: FileId, bytes: &Range<u64>, access: MapAccess) -> bool {
        let reads = MapAccess::Read;
        self.meeting(file, bytes).any(|map| (map.access, access) != (reads, reads))
    }

    fn meeting(&self, file: FileId, bytes: &Range<u64>) -> impl Iterator<Item = &LiveMap> {
        let meets = move |there: &Range<u64>| there.start < bytes.end && bytes.start < there.end;
        self.live.iter().filter(move |map| map.file == file && meets(&map.range))
    }

    /// Makes a map of bytes that are there and free. Errors are those of the real system.
    pub(super) fn make(
        &mut self,
        handle: u64,
        file: FileId,
        range: Range<u64>,
        access: MapAccess,
        live: &Medium,
    ) -> io::Result<Made> {
        let mut seen = vec![0; (range.end - range.start) as usize];
        live.files[&file].bytes.content.read(range.start as usize, &mut seen);
        let memory = self.memory_for(file, &range, &seen)?;
        let real = memory.map(range.clone(), access)?;
        let (id, shared) = (self.next, Arc::new(Shared::default()));
        self.next += 1;
        self.live.push(LiveMap {
            id,
            handle,
            file,
            range: range.clone(),
            access,
            memory,
            seen,
            shared: Arc::clone(&shared),
        });
        Ok(Made { id, real, file, range, access, shared })
    }

    /// A real file whose bytes of the range are these.
    fn memory_for(&mut self, file: FileId, range: &Range<u64>, bytes: &[u8]) -> io::Result<Arc<dyn File>> {
        let known = self.memory.entry(file).or_default();
        let free = |memory: &&Arc<dyn File>| {
            let of_memory = |map: &&LiveMap| Arc::ptr_eq(&map.memory, memory);
            let meets = |map: &LiveMap| map.range.start < range.end && range.start < map.range.end;
            !self.live.iter().filter(of_memory).any(meets)
        };
        let memory = match known.iter().find(free) {
            Some(memory) => Arc::clone(memory),
            None => {
                let dir = match &mut self.scratch {
                    Some(dir) => dir,
                    none => none.insert(tempfile::tempdir()?),
                };
                let path = dir.path().join(format!("{}-{}", file.0, known.len()));
                let memory = RealDisk.open(&path, &OpenHow::create_new(DirectIo::Off))?;
                assert!(memory.try_lock()?, "nobody else knows of the file");
                known.push(Arc::clone(&memory));
                memory
            }
        };
        if memory.len()? < range.end {
            memory.set_len(range.end)?;
        }
        write_all_at(&*memory, bytes, range.start)?;
        Ok(memory)
    }

    /// Looks at the maps that may have been written, or at this one, and takes what changed into the live bytes. Gives the changed
    /// sectors of each file.
    pub(super) fn see(&mut self, only: Option<u64>, live: &mut Medium) -> Vec<(FileId, Vec<usize>)> {
        let mut changed = Vec::new();
        for map in &mut self.live {
            let wanted = only.is_none_or(|only| only == map.id);
            if wanted && map.shared.writing.load(Ordering::Acquire) {
                let sectors = map.see(live);
                if !sectors.is_empty() {
                    changed.push((map.file, sectors));
                }
            }
        }
        changed
    }

    /// The live bytes of this file were changed by no map: its maps shall show them.
    pub(super) fn changed_behind(&self, file: FileId) {
        for map in self.live.iter().filter(|map| map.file == file) {
            map.shared.behind.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Puts the mapped bytes of `from` into `into`.
    pub(super) fn keep_mapped(&self, file: FileId, from: &Content, into: &mut Content) {
        for map in self.live.iter().filter(|map| map.file == file) {
            let mut bytes = vec![0; map.seen.len()];
            from.read(map.range.start as usize, &mut bytes);
            into.write(map.range.start as usize, &bytes);
        }
    }

    /// Puts the live bytes into a map that its owner has for itself now.
    pub(super) fn show_live(&mut self, id: u64, live: &Medium, bytes: &mut [u8]) {
        let map = self.live.iter_mut().find(|map| map.id == id).expect("a map is known until it is dropped");
        live.files[&map.file].bytes.content.read(map.range.start as usize, &mut map.seen);
        bytes.copy_from_slice(&map.seen);
    }

    /// The owner has dropped it.
    pub(super) fn remove(&mut self, id: u64) {
        self.live.retain(|map| map.id != id);
    }
}

impl LiveMap {
    /// Takes what changed since the last look into the live bytes, and gives the changed sectors of the file.
    fn see(&mut self, live: &mut Medium) -> Vec<usize> {
        let mut now = vec![0; self.seen.len()];
        let got = read_exact_at(&*self.memory, &mut now, self.range.start).expect("the memory of a map");
        assert_eq!(got, now.len(), "the memory of a map");
        if now == self.seen {
            return Vec::new();
        }
        let content = &mut live.bytes_mut(self.file).content;
        let mut sectors = Vec::new();
        let mut at = 0;
        while at < now.len() {
            let place = self.range.start as usize + at;
            let end = (at + SECTOR - place % SECTOR).min(now.len());
            if now[at..end] != self.seen[at..end] {
                content.write(place, &now[at..end]);
                sectors.push(place / SECTOR);
            }
            at = end;
        }
        self.seen = now;
        sectors
    }
}

/// The chunks of a file in which some bytes of a map lie.
pub(super) fn chunks(map: &Range<u64>, bytes: &Range<usize>) -> Range<usize> {
    let start = map.start as usize;
    (start + bytes.start) / CHUNK..(start + bytes.end).div_ceil(CHUNK)
}

impl fmt::Debug for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.live.iter().map(|map| (map.file, &map.range, map.access))).finish()
    }
}
