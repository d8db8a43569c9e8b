//! The stores, each told that what it holds need not outlive the process, with 64 MiB of memory to cache in.

use std::error::Error;
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CACHE: usize = 64 << 20;

pub trait Store {
    fn put(&mut self, key: u64, value: &[u8]) -> Result<()>;
    /// Reads a block and removes it.
    fn take(&mut self, key: u64) -> Result<Vec<u8>>;
}

pub struct Fjall {
    _database: fjall::Database,
    blocks: fjall::Keyspace,
}

impl Fjall {
    pub fn open(folder: &Path) -> Result<Self> {
        let database =
            fjall::Database::builder(folder).cache_size(CACHE as u64).manual_journal_persist(true).open()?;
        let blocks = database.keyspace("blocks", fjall::KeyspaceCreateOptions::default)?;
        Ok(Self { _database: database, blocks })
    }
}

impl Store for Fjall {
    fn put(&mut self, key: u64, value: &[u8]) -> Result<()> {
        Ok(self.blocks.insert(key.to_be_bytes(), value)?)
    }

    fn take(&mut self, key: u64) -> Result<Vec<u8>> {
        let key = key.to_be_bytes();
        let value = self.blocks.get(key)?.ok_or("no block")?;
        self.blocks.remove(key)?;
        Ok(value.to_vec())
    }
}

const BLOCKS: redb::TableDefinition<'static, u64, &[u8]> = redb::TableDefinition::new("blocks");
/// Calls to a transaction: one each would be ten times as slow.
const CALLS: usize = 1_000;
/// Transactions without a sync between two with one: pages are free only after such a one.
const UNSYNCED: usize = 20;

pub struct Redb {
    open: Option<redb::WriteTransaction>,
    database: redb::Database,
    calls: usize,
}

impl Redb {
    pub fn open(folder: &Path) -> Result<Self> {
        let database = redb::Database::builder().set_cache_size(CACHE).create(folder.join("blocks"))?;
        Ok(Self { open: None, database, calls: 0 })
    }

    fn transaction(&mut self) -> Result<&redb::WriteTransaction> {
        self.calls += 1;
        if self.calls.is_multiple_of(CALLS) {
            self.open.take().map(|open| open.commit()).transpose()?;
        }
        if self.open.is_none() {
            let mut open = self.database.begin_write()?;
            if !(self.calls / CALLS).is_multiple_of(UNSYNCED) {
                open.set_durability(redb::Durability::None)?;
            }
            self.open = Some(open);
        }
        Ok(self.open.as_ref().ok_or("no transaction")?)
    }
}

impl Store for Redb {
    fn put(&mut self, key: u64, value: &[u8]) -> Result<()> {
        self.transaction()?.open_table(BLOCKS)?.insert(key, value)?;
        Ok(())
    }

    fn take(&mut self, key: u64) -> Result<Vec<u8>> {
        let mut table = self.transaction()?.open_table(BLOCKS)?;
        let value = table.remove(key)?.ok_or("no block")?.value().to_vec();
        Ok(value)
    }
}

#[cfg(feature = "rocksdb")]
pub struct Rocks {
    database: rocksdb::DB,
    write: rocksdb::WriteOptions,
}

#[cfg(feature = "rocksdb")]
impl Rocks {
    pub fn open(folder: &Path) -> Result<Self> {
        let mut table = rocksdb::BlockBasedOptions::default();
        table.set_block_cache(&rocksdb::Cache::new_lru_cache(CACHE));
        table.set_bloom_filter(10.0, false);
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&table);
        options.optimize_for_point_lookup(0);
        options.set_block_based_table_factory(&table);
        let mut write = rocksdb::WriteOptions::default();
        write.disable_wal(true);
        Ok(Self { database: rocksdb::DB::open(&options, folder)?, write })
    }
}

#[cfg(feature = "rocksdb")]
impl Store for Rocks {
    fn put(&mut self, key: u64, value: &[u8]) -> Result<()> {
        Ok(self.database.put_opt(key.to_be_bytes(), value, &self.write)?)
    }

    fn take(&mut self, key: u64) -> Result<Vec<u8>> {
        let value = self.database.get(key.to_be_bytes())?.ok_or("no block")?;
        self.database.delete_opt(key.to_be_bytes(), &self.write)?;
        Ok(value)
    }
}
