//! Where tables live: `{root}/tables/{name}`, on a folder or in memory.

use std::sync::{Arc, Once};

use deltalake::logstore::{
    LogStoreRef, ObjectStoreFactory, ObjectStoreRef, StorageConfig, logstore_for, object_store_factories,
};
use deltalake::{DeltaResult, Path, ensure_table_uri};
use object_store::memory::InMemory;

use crate::error::{Error, Result};

/// The folder below a store's root that holds the tables.
pub const TABLES: &str = "tables";

/// The address of a table: for `DuckDB`, Polars and messages.
pub fn table_url(root: &str, table: &str) -> String {
    format!("{}/{TABLES}/{table}", root.trim_end_matches('/'))
}

/// Opens the log's store; the folder is made if it is missing.
pub(crate) fn log_store(root: &str, table: &str) -> Result<LogStoreRef> {
    if table.is_empty() || !table.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        let why = format!("{table:?} is no name for a table");
        return Err(Error::Location { url: root.to_owned(), why });
    }
    open(root, &table_url(root, table))
}

/// The store that holds all tables.
pub(crate) fn parent(root: &str) -> Result<ObjectStoreRef> {
    let all = format!("{}/{TABLES}", root.trim_end_matches('/'));
    Ok(open(root, &all)?.object_store(None))
}

fn open(root: &str, url: &str) -> Result<LogStoreRef> {
    let located = |why: String| Error::Location { url: root.to_owned(), why };
    if let Some((scheme, _)) = root.split_once("://") {
        match scheme {
            "file" => {}
            "memory" => share_memory(),
            _ => {
                return Err(located(format!(
                    "this build knows folders (file://) and memory://, not {scheme}://"
                )));
            }
        }
    }
    // Of a scheme that is known, it makes the folder: what fails then is the store.
    let away = |why| Error::Away { url: root.to_owned(), why: Box::new(why) };
    let url = ensure_table_uri(url).map_err(away)?;
    logstore_for(&url, StorageConfig::default()).map_err(away)
}

/// deltalake opens a new memory for every table object; tables in memory are only useful when
/// those who open the same address see the same table.
#[derive(Debug)]
struct SharedMemory(ObjectStoreRef);

impl ObjectStoreFactory for SharedMemory {
    fn parse_url_opts(&self, url: &url::Url, _config: &StorageConfig) -> DeltaResult<(ObjectStoreRef, Path)> {
        Ok((Arc::clone(&self.0), Path::from(url.path())))
    }
}

fn share_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let shared: Arc<dyn ObjectStoreFactory> = Arc::new(SharedMemory(Arc::new(InMemory::new())));
        for mut entry in object_store_factories().iter_mut() {
            if entry.key().scheme() == "memory" {
                *entry.value_mut() = Arc::clone(&shared);
            }
        }
    });
}
