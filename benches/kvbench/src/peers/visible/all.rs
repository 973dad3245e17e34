//! The stores of feature `peers`.

use std::path::Path;

use fjall::KeyspaceCreateOptions;
use redb::{Durability, ReadableDatabase, TableDefinition};

use super::{EachRow, Rows, Visible};
use crate::BenchResult;
use crate::peers::Each;
use crate::peers::lmdb::Lmdb;

/// `memtable`: what fjall gathers before it writes, out of its cache's bytes twice; none: its default.
pub(super) fn create(dir: &Path, cache: u64, memtable: Option<u64>) -> BenchResult<Vec<Box<dyn Visible>>> {
    Ok(vec![
        Box::new(Unsynced(Lmdb::create_unsynced(&dir.join("lmdb"))?)),
        Box::new(Redb::create(&dir.join("redb"), cache)?),
        Box::new(Fjall::create(&dir.join("fjall"), cache, memtable)?),
        Box::new(Sled(
            sled::Config::new().path(dir.join("sled")).cache_capacity(cache).flush_every_ms(None).open()?,
        )),
    ])
}

struct Unsynced(Lmdb);

impl Visible for Unsynced {
    fn name(&self) -> &'static str {
        "LMDB (heed), NO_SYNC, WRITE_MAP"
    }

    fn put(&self, key: &[u8], value: &[u8]) -> BenchResult<()> {
        self.0.put_one(key, value)
    }

    fn get(&self, key: &[u8], _: &mut Vec<u8>, each: Each<'_>) -> BenchResult<()> {
        self.0.get_one(key, each)
    }

    fn scan(&self, from: &[u8], each: EachRow<'_>) -> BenchResult<()> {
        self.0.rows_from(from, each)
    }

    fn fill(&self, rows: Rows<'_>) -> BenchResult<()> {
        self.0.fill_with(&mut rows.map(|(key, value)| (key.to_vec(), value)))
    }
}

struct Redb(redb::Database);

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

impl Redb {
    fn create(file: &Path, cache: u64) -> BenchResult<Self> {
        Ok(Self(redb::Builder::new().set_cache_size(cache as usize).create(file)?))
    }
}

impl Visible for Redb {
    fn name(&self) -> &'static str {
        "redb, Durability::None"
    }

    fn files(&self) -> Option<&'static str> {
        Some("redb")
    }

    fn put(&self, key: &[u8], value: &[u8]) -> BenchResult<()> {
        let mut writing = self.0.begin_write()?;
        writing.set_durability(Durability::None)?;
        writing.open_table(ROWS)?.insert(key, value)?;
        Ok(writing.commit()?)
    }

    fn get(&self, key: &[u8], _: &mut Vec<u8>, each: Each<'_>) -> BenchResult<()> {
        let table = self.0.begin_read()?.open_table(ROWS)?;
        each(table.get(key)?.as_ref().map(|value| value.value()))
    }

    fn scan(&self, from: &[u8], each: EachRow<'_>) -> BenchResult<()> {
        let table = self.0.begin_read()?.open_table(ROWS)?;
        for row in table.range(from..)? {
            let (key, value) = row?;
            if !each(key.value(), value.value())? {
                break;
            }
        }
        Ok(())
    }

    fn fill(&self, rows: Rows<'_>) -> BenchResult<()> {
        let writing = self.0.begin_write()?;
        let mut table = writing.open_table(ROWS)?;
        for (key, value) in rows {
            table.insert(key, &*value)?;
        }
        drop(table);
        Ok(writing.commit()?)
    }

    fn settle(&self) -> BenchResult<()> {
        Ok(self.0.begin_write()?.commit()?)
    }
}

struct Fjall {
    /// Kept open: the keyspace is a part of it.
    _database: fjall::Database,
    rows: fjall::Keyspace,
}

impl Fjall {
    fn create(dir: &Path, cache: u64, memtable: Option<u64>) -> BenchResult<Self> {
        let mut options = KeyspaceCreateOptions::default();
        if let Some(bytes) = memtable {
            options = options.max_memtable_size(bytes);
        }
        let blocks = cache - 2 * memtable.unwrap_or(0);
        let database = fjall::Database::builder(dir).cache_size(blocks).open()?;
        let rows = database.keyspace("rows", || options)?;
        Ok(Self { _database: database, rows })
    }
}

impl Visible for Fjall {
    fn name(&self) -> &'static str {
        "fjall"
    }

    fn files(&self) -> Option<&'static str> {
        Some("fjall")
    }

    fn put(&self, key: &[u8], value: &[u8]) -> BenchResult<()> {
        Ok(self.rows.insert(key, value)?)
    }

    fn get(&self, key: &[u8], _: &mut Vec<u8>, each: Each<'_>) -> BenchResult<()> {
        each(self.rows.get(key)?.as_deref())
    }

    fn scan(&self, from: &[u8], each: EachRow<'_>) -> BenchResult<()> {
        for row in self.rows.range(from..) {
            let (key, value) = row.into_inner()?;
            if !each(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    fn fill(&self, rows: Rows<'_>) -> BenchResult<()> {
        for (key, value) in rows {
            self.rows.insert(key, value)?;
        }
        Ok(())
    }
}

struct Sled(sled::Db);

impl Visible for Sled {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn files(&self) -> Option<&'static str> {
        Some("sled")
    }

    fn put(&self, key: &[u8], value: &[u8]) -> BenchResult<()> {
        self.0.insert(key, value)?;
        Ok(())
    }

    fn get(&self, key: &[u8], _: &mut Vec<u8>, each: Each<'_>) -> BenchResult<()> {
        each(self.0.get(key)?.as_deref())
    }

    fn scan(&self, from: &[u8], each: EachRow<'_>) -> BenchResult<()> {
        for row in self.0.range(from..) {
            let (key, value) = row?;
            if !each(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    fn fill(&self, rows: Rows<'_>) -> BenchResult<()> {
        for (key, value) in rows {
            self.0.insert(key, value)?;
        }
        self.0.flush()?;
        Ok(())
    }
}
