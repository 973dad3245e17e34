//! The stores of feature `peers`, each with its own default but that a put is durable.

use std::path::Path;

use fjall::{KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use super::Peer;
use super::lmdb::Lmdb;
use crate::BenchResult;
use crate::scans::{Direction, Seen};

type Rows<'r> = &'r mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>;

pub(super) fn create(dir: &Path) -> BenchResult<Vec<Box<dyn Peer>>> {
    Ok(vec![
        Box::new(Redb(redb::Database::create(dir.join("redb"))?)),
        Box::new(Lmdb::create(&dir.join("lmdb"))?),
        Box::new(Fjall::create(&dir.join("fjall"))?),
        Box::new(Sled(sled::open(dir.join("sled"))?)),
    ])
}

struct Redb(redb::Database);

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

impl Peer for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn put(&self, key: &[u8], value: &[u8]) -> BenchResult<()> {
        let writing = self.0.begin_write()?;
        writing.open_table(ROWS)?.insert(key, value)?;
        Ok(writing.commit()?)
    }

    fn fill(&self, rows: Rows<'_>) -> BenchResult<()> {
        let writing = self.0.begin_write()?;
        let mut table = writing.open_table(ROWS)?;
        for (key, value) in rows {
            table.insert(&*key, &*value)?;
        }
        drop(table);
        Ok(writing.commit()?)
    }

    fn get(&self, key: &[u8]) -> BenchResult<Option<Vec<u8>>> {
        let table = self.0.begin_read()?.open_table(ROWS)?;
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    fn scan(&self, direction: Direction) -> BenchResult<Option<Seen>> {
        let (table, mut seen) = (self.0.begin_read()?.open_table(ROWS)?, Seen::new(direction));
        let mut rows = table.iter()?;
        let mut step = || if direction == Direction::Forward { rows.next() } else { rows.next_back() };
        while let Some(row) = step() {
            let (key, value) = row?;
            seen.see(key.value(), value.value());
        }
        Ok(Some(seen))
    }
}

struct Fjall {
    database: fjall::Database,
    rows: fjall::Keyspace,
}

impl Fjall {
    fn create(dir: &Path) -> BenchResult<Self> {
        let database = fjall::Database::builder(dir).open()?;
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default)?;
        Ok(Self { database, rows })
    }
}

impl Peer for Fjall {
    fn name(&self) -> &'static str {
        "fjall"
    }

    fn put(&self, key: &[u8], value: &[u8]) -> BenchResult<()> {
        self.rows.insert(key, value)?;
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn fill(&self, rows: Rows<'_>) -> BenchResult<()> {
        for (key, value) in rows {
            self.rows.insert(key, value)?;
        }
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn get(&self, key: &[u8]) -> BenchResult<Option<Vec<u8>>> {
        Ok(self.rows.get(key)?.map(|value| value.to_vec()))
    }
}

struct Sled(sled::Db);

impl Peer for Sled {
    fn name(&self) -> &'static str {
        "sled (no barrier)"
    }

    /// Its log is written by `sync_file_range` on Linux, which neither writes metadata nor empties the device's cache.
    fn is_durable(&self) -> bool {
        cfg!(not(target_os = "linux"))
    }

    fn put(&self, key: &[u8], value: &[u8]) -> BenchResult<()> {
        self.0.insert(key, value)?;
        self.0.flush()?;
        Ok(())
    }

    fn fill(&self, rows: Rows<'_>) -> BenchResult<()> {
        for (key, value) in rows {
            self.0.insert(key, value)?;
        }
        self.0.flush()?;
        Ok(())
    }

    fn get(&self, key: &[u8]) -> BenchResult<Option<Vec<u8>>> {
        Ok(self.0.get(key)?.map(|value| value.to_vec()))
    }
}
