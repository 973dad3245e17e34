//! LMDB, through heed.
//!
//! # Safety
//!
//! The file is mapped: cut by somebody else, it would end this process. It lies in a directory that this process has made for itself.
#![allow(unsafe_code)]

use std::ops::Bound;
use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};

use super::visible::EachRow;
use super::{Each, Keys, Peer};
use crate::BenchResult;
use crate::scans::{Direction, Seen};

/// The environment stays open until the process ends: its table borrows it.
pub(super) struct Lmdb {
    env: &'static Env,
    rows: Database<'static, Bytes, Bytes>,
}

impl Lmdb {
    pub(super) fn create(dir: &Path) -> BenchResult<Self> {
        Self::create_with(dir, EnvFlags::empty())
    }

    /// Its puts reach the disk when the system writes the map: atomic for whoever outlives a process that is killed, and no more.
    pub(super) fn create_unsynced(dir: &Path) -> BenchResult<Self> {
        Self::create_with(dir, EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP)
    }

    fn create_with(dir: &Path, flags: EnvFlags) -> BenchResult<Self> {
        std::fs::create_dir(dir)?;
        let mut options = EnvOpenOptions::new();
        options.map_size(8 << 30).max_readers(200);
        // SAFETY: the flags give up durability, and that stray stores of this process hit no page; none gives up a lock.
        unsafe { options.flags(flags) };
        // SAFETY: the directory is new and this process's own; nobody else opens the file, and it is opened once.
        let env: &'static Env = Box::leak(Box::new(unsafe { options.open(dir) }?));
        let created = env.create_databases_and_commit(env.write_txn()?, |opener, writing| {
            let rows = opener.create_database::<Bytes, Bytes>(writing, None)?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(rows))
        })?;
        Ok(Self { env, rows: created.unwrap_commit() })
    }

    pub(super) fn put_one(&self, key: &[u8], value: &[u8]) -> BenchResult<()> {
        let mut writing = self.env.write_txn()?;
        self.rows.put(&mut writing, key, value)?;
        Ok(writing.commit()?)
    }

    /// Lends the value.
    pub(super) fn get_one(&self, key: &[u8], each: Each<'_>) -> BenchResult<()> {
        let reading = self.env.read_txn()?;
        each(self.rows.get(&reading, key)?)
    }

    /// Lends rows from this key on, until `each` has enough.
    pub(super) fn rows_from(&self, from: &[u8], each: EachRow<'_>) -> BenchResult<()> {
        let reading = self.env.read_txn()?;
        for row in self.rows.range(&reading, &(Bound::Included(from), Bound::Unbounded))? {
            let (key, value) = row?;
            if !each(key, value)? {
                break;
            }
        }
        Ok(())
    }

    /// Puts many, by one transaction.
    pub(super) fn fill_with(&self, rows: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> BenchResult<()> {
        let mut writing = self.env.write_txn()?;
        for (key, value) in rows {
            self.rows.put(&mut writing, &key, &value)?;
        }
        Ok(writing.commit()?)
    }
}

impl Peer for Lmdb {
    fn name(&self) -> &'static str {
        "LMDB (heed)"
    }

    fn put(&self, key: &[u8], value: &[u8]) -> BenchResult<()> {
        self.put_one(key, value)
    }

    fn fill(&self, rows: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> BenchResult<()> {
        self.fill_with(rows)
    }

    fn get(&self, key: &[u8]) -> BenchResult<Option<Vec<u8>>> {
        let reading = self.env.read_txn()?;
        Ok(self.rows.get(&reading, key)?.map(<[u8]>::to_vec))
    }

    fn get_many(&self, keys: Keys<'_>, each: Each<'_>) -> BenchResult<()> {
        let reading = self.env.read_txn()?;
        for key in keys {
            each(self.rows.get(&reading, key)?)?;
        }
        Ok(())
    }

    fn scan(&self, direction: Direction) -> BenchResult<Option<Seen>> {
        let (reading, mut seen) = (self.env.read_txn()?, Seen::new(direction));
        let mut see = |row: heed::Result<(&[u8], &[u8])>| row.map(|(key, value)| seen.see(key, value));
        match direction {
            Direction::Forward => self.rows.iter(&reading)?.try_for_each(&mut see)?,
            Direction::Backward => self.rows.rev_iter(&reading)?.try_for_each(&mut see)?,
        }
        Ok(Some(seen))
    }
}
