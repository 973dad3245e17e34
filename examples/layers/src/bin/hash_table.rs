//! A small persistent hash table over mapped pages: extendible hashing (Fagin and others, *Extendible hashing: a fast access method for
//! dynamic files*, TODS 1979), with the directory and each bucket in a protected page.
//!
//! ```text
//! 300 stones in 16 buckets of 4096 bytes, the directory is of depth 4
//! stone 7 weighs 49 kg
//! stone 7 again: 50 kg
//! opened anew: stone 7 weighs 50 kg, stone 8 is gone
//! a cut between two commits of a split leaked 1 page, 1 was taken back
//! all 299 stones are there
//! ```
//!
//! A put is one commit of one bucket: durable and whole when it returns. A split makes three, in an order in which a cut after any leaves a
//! table that answers right: the new bucket, then the directory that names it, then the old bucket without what was moved.
#![forbid(unsafe_code)]

use std::path::Path;

use pagestone::mapped::{MappedPageError, Pager, ProtectedPageId};

type Id = ProtectedPageId<4096>;
type Entry = (Vec<u8>, Vec<u8>);

/// The first protected page of a file.
const DIRECTORY: Id = ProtectedPageId(0);
/// The directory holds so many bits of a hash at most: 256 ids of 8 bytes, behind one byte.
const DEPTH_MAX: u8 = 8;

#[derive(Debug, thiserror::Error)]
enum TableError {
    #[error(transparent)]
    Pages(#[from] MappedPageError),
    #[error("the table is full: all its buckets are as deep as the directory")]
    Full,
    #[error("page {0} holds no bucket")]
    Malformed(u64),
}

struct Table {
    pager: Pager<4096>,
    /// Ids of buckets by the lowest bits of a hash; as many as there are values of `depth` bits.
    buckets: Vec<Id>,
    depth: u8,
}

struct Bucket {
    depth: u8,
    entries: Vec<Entry>,
}

impl Bucket {
    fn decode(id: Id, bytes: &[u8]) -> Result<Self, TableError> {
        let malformed = || TableError::Malformed(id.0);
        let (mut entries, mut at) = (Vec::new(), 3);
        for _ in 0..u16::from_le_bytes([bytes[1], bytes[2]]) {
            let take = |at: usize, len: usize| bytes.get(at..at + len).ok_or_else(malformed);
            let lens = take(at, 2)?;
            let key = take(at + 2, lens[0].into())?;
            let value = take(at + 2 + key.len(), lens[1].into())?;
            at += 2 + key.len() + value.len();
            entries.push((key.to_vec(), value.to_vec()));
        }
        Ok(Self { depth: bytes[0], entries })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.depth];
        bytes.extend((self.entries.len() as u16).to_le_bytes());
        for (key, value) in &self.entries {
            bytes.extend([key.len() as u8, value.len() as u8]);
            bytes.extend(key.iter().chain(value));
        }
        bytes
    }
}

/// FNV-1a, which needs no crate.
fn hash(key: &[u8]) -> usize {
    key.iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
        as usize
}

impl Table {
    fn create(path: &Path) -> Result<Self, TableError> {
        let mut pager = Pager::create(path)?;
        let ids = pager.alloc_protected_bulk(2)?;
        assert_eq!(ids[0], DIRECTORY, "the first protected page of a file");
        let mut table = Self { pager, buckets: vec![ids[1]], depth: 0 };
        table.write_directory()?;
        Ok(table)
    }

    /// Opens a table, and takes back the bucket that a cut split made and did not name.
    fn open(path: &Path) -> Result<(Self, usize), TableError> {
        let mut pager = Pager::open(path)?;
        let bytes = DIRECTORY.get(&pager)?.as_bytes();
        let depth = bytes[0].min(DEPTH_MAX);
        let id = |at: &[u8]| ProtectedPageId(u64::from_le_bytes(at.try_into().expect("eight bytes")));
        let buckets: Vec<Id> = bytes[1..].chunks_exact(8).take(1 << depth).map(id).collect();
        let is_lost = |id: &Id| *id != DIRECTORY && !buckets.contains(id);
        let lost: Vec<Id> = pager.iter_allocated_protected_pages().filter(is_lost).collect();
        pager.free_protected_bulk(&lost)?;
        Ok((Self { pager, buckets, depth }, lost.len()))
    }

    fn bucket_of(&self, key: &[u8]) -> Id {
        self.buckets[hash(key) & ((1 << self.depth) - 1)]
    }

    fn read(&self, id: Id) -> Result<Bucket, TableError> {
        Bucket::decode(id, id.get(&self.pager)?.as_bytes())
    }

    fn write(&mut self, id: Id, bytes: &[u8]) -> Result<(), TableError> {
        let mut writer = id.get_mut(&mut self.pager)?;
        writer.page_mut().as_bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        Ok(writer.commit()?)
    }

    fn write_directory(&mut self) -> Result<(), TableError> {
        let ids = self.buckets.iter().flat_map(|id| id.0.to_le_bytes());
        let bytes: Vec<u8> = [self.depth].into_iter().chain(ids).collect();
        self.write(DIRECTORY, &bytes)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let entries = self.read(self.bucket_of(key))?.entries;
        Ok(entries.into_iter().find(|entry| entry.0 == key).map(|entry| entry.1))
    }

    /// Keys and values are up to 255 bytes long.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), TableError> {
        loop {
            let id = self.bucket_of(key);
            let mut bucket = self.read(id)?;
            bucket.entries.retain(|entry| entry.0 != key);
            bucket.entries.push((key.to_vec(), value.to_vec()));
            let bytes = bucket.bytes();
            if bytes.len() <= 4096 {
                return self.write(id, &bytes);
            }
            let old = self.split(id)?;
            self.write(old.0, &old.1)?;
        }
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), TableError> {
        let id = self.bucket_of(key);
        let mut bucket = self.read(id)?;
        bucket.entries.retain(|entry| entry.0 != key);
        self.write(id, &bucket.bytes())
    }

    /// The first two commits of a split; gives the third, the old bucket without what was moved.
    fn split(&mut self, id: Id) -> Result<(Id, Vec<u8>), TableError> {
        let bucket = self.read(id)?;
        if bucket.depth == DEPTH_MAX {
            return Err(TableError::Full);
        }
        let new = self.write_new(&bucket)?;
        if bucket.depth == self.depth {
            self.buckets.extend_from_within(..);
            self.depth += 1;
        }
        for at in (0..self.buckets.len()).filter(|at| at >> bucket.depth & 1 == 1) {
            if self.buckets[at] == id {
                self.buckets[at] = new;
            }
        }
        self.write_directory()?;
        let (_, stay) = moved(bucket);
        Ok((id, stay.bytes()))
    }

    /// A bucket with those of another that go into it; nobody names it yet.
    fn write_new(&mut self, bucket: &Bucket) -> Result<Id, TableError> {
        let new = self.pager.alloc_protected()?;
        let (go, _) = moved(Bucket { depth: bucket.depth, entries: bucket.entries.clone() });
        self.write(new, &go.bytes())?;
        Ok(new)
    }

    fn entries(&self) -> Result<usize, TableError> {
        let mut ids = self.buckets.clone();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().map(|id| Ok(self.read(id)?.entries.len())).sum()
    }
}

/// The entries whose next bit is one, and the others, one deeper.
fn moved(bucket: Bucket) -> (Bucket, Bucket) {
    let depth = bucket.depth;
    let (go, stay) = bucket.entries.into_iter().partition(|entry: &Entry| hash(&entry.0) >> depth & 1 == 1);
    (Bucket { depth: depth + 1, entries: go }, Bucket { depth: depth + 1, entries: stay })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("stones");
    let mut table = Table::create(&path)?;
    let key = |stone: u32| format!("stone {stone}, from the quarry on the hill").into_bytes();
    let value = |weight: u32| format!("{weight:>120} kg").into_bytes();
    let weight =
        |value: Option<Vec<u8>>| value.map(|value| String::from_utf8_lossy(&value).trim().to_owned());
    for stone in 0..300 {
        table.put(&key(stone), &value(stone * stone))?;
    }
    let mut buckets = table.buckets.clone();
    buckets.sort_unstable();
    buckets.dedup();
    let (count, depth) = (table.entries()?, table.depth);
    println!("{count} stones in {} buckets of 4096 bytes, the directory is of depth {depth}", buckets.len());
    println!("stone 7 weighs {}", weight(table.get(&key(7))?).ok_or("it was put")?);
    table.put(&key(7), &value(50))?;
    println!("stone 7 again: {}", weight(table.get(&key(7))?).ok_or("it was put")?);
    table.remove(&key(8))?;
    drop(table);

    let (mut table, _) = Table::open(&path)?;
    let gone = if table.get(&key(8))?.is_none() { "gone" } else { "there" };
    println!(
        "opened anew: stone 7 weighs {}, stone 8 is {gone}",
        weight(table.get(&key(7))?).ok_or("it was put")?
    );

    // As if the power had failed behind the first commit of a split.
    let bucket = table.read(table.bucket_of(&key(7)))?;
    table.write_new(&bucket)?;
    let leaked = table.pager.iter_allocated_protected_pages().count() - 1 - buckets.len();
    drop(table);
    let (table, taken_back) = Table::open(&path)?;
    println!("a cut between two commits of a split leaked {leaked} page, {taken_back} was taken back");
    let found = (0..300).filter(|stone| table.get(&key(*stone)).is_ok_and(|value| value.is_some())).count();
    println!("all {found} stones are there");
    Ok(())
}
