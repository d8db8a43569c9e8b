//! From `storage.root` to a store: folders, URLs, and what this binary was built without.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::{Result, Store, StoreError};
use crate::config::Storage;

/// Stores in memory that have a name, so that several parts of a test can meet in one.
static NAMED: LazyLock<Mutex<BTreeMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);

/// Schemes that a feature brings.
const CLOUD: [(&str, &str); 8] = [
    ("s3", "s3"),
    ("s3a", "s3"),
    ("gs", "gcs"),
    ("az", "azure"),
    ("azure", "azure"),
    ("abfs", "azure"),
    ("abfss", "azure"),
    ("adl", "azure"),
];

impl Store {
    /// Opens a store; a folder is made if it is not there.
    ///
    /// # Errors
    /// A root that cannot be opened, or that needs a feature this binary lacks.
    pub fn open(root: &str) -> Result<Self> {
        Self::open_with(root, &BTreeMap::new())
    }

    /// Opens the store that the configuration names.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn from_config(storage: &Storage) -> Result<Self> {
        Self::open_with(&storage.root, &storage.options)
    }

    fn open_with(root: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let Some((scheme, rest)) = root.split_once("://") else {
            return open_folder(root, FilePath::new(root));
        };
        match scheme {
            "file" => {
                let folder =
                    url_to_folder(root).ok_or_else(|| refused(root, &"not a file URL with a path"))?;
                open_folder(root, &folder)
            }
            "memory" => Ok(open_memory(rest.trim_matches('/'))),
            _ => match CLOUD.iter().find(|(known, _)| *known == scheme) {
                Some((_, feature)) => open_cloud(root, feature, options),
                None => Err(refused(root, &"the schemes are file, memory, s3, gs and az")),
            },
        }
    }
}

fn refused(root: &str, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Root { root: without_credentials(root), why: why.to_string() }
}

/// A URL as it may be shown: no `user:password@`.
fn without_credentials(root: &str) -> String {
    match root.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?.1))) {
        Some((scheme, rest)) => format!("{scheme}://{rest}"),
        None => root.to_owned(),
    }
}

fn open_folder(root: &str, folder: &FilePath) -> Result<Store> {
    if root.is_empty() {
        return Err(refused(root, &"it is empty"));
    }
    std::fs::create_dir_all(folder).map_err(|error| refused(root, &error))?;
    let folder = folder.canonicalize().map_err(|error| refused(root, &error))?;
    let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| refused(root, &error))?;
    let root_url = folder_to_url(&folder).ok_or_else(|| refused(root, &"its path is not UTF-8"))?;
    Ok(Store { inner: Arc::new(store), prefix: Path::default(), root_url })
}

fn open_memory(name: &str) -> Store {
    let store = if name.is_empty() {
        Arc::default()
    } else {
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(named.entry(name.to_owned()).or_default())
    };
    Store { inner: store, prefix: Path::default(), root_url: format!("memory:///{name}") }
}

#[cfg(not(any(feature = "s3", feature = "gcs", feature = "azure")))]
fn open_cloud(root: &str, feature: &'static str, _: &BTreeMap<String, String>) -> Result<Store> {
    Err(StoreError::Feature { root: without_credentials(root), feature })
}

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn open_cloud(root: &str, feature: &'static str, options: &BTreeMap<String, String>) -> Result<Store> {
    let built = (feature == "s3" && cfg!(feature = "s3"))
        || (feature == "gcs" && cfg!(feature = "gcs"))
        || (feature == "azure" && cfg!(feature = "azure"));
    if !built {
        return Err(StoreError::Feature { root: without_credentials(root), feature });
    }
    let url = url::Url::parse(root).map_err(|error| refused(root, &error))?;
    // The environment's usual names first (AWS_REGION, …); what the config says counts more.
    let environment = std::env::vars()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| ["aws_", "google_", "azure_"].iter().any(|prefix| name.starts_with(prefix)));
    let all = environment.chain(options.iter().map(|(name, value)| (name.clone(), value.clone())));
    let (store, prefix) = object_store::parse_url_opts(&url, all).map_err(|error| refused(root, &error))?;
    let root_url = without_credentials(root).trim_end_matches('/').to_owned();
    Ok(Store { inner: Arc::from(store), prefix, root_url })
}

/// A folder as a URL, with what a URL cannot hold in percent codes.
fn folder_to_url(folder: &FilePath) -> Option<String> {
    use std::fmt::Write as _;

    let mut url = String::from("file://");
    for byte in folder.to_str()?.trim_end_matches('/').bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~+=,@!$&'()*:;".contains(&byte) {
            url.push(char::from(byte));
        } else {
            write!(url, "%{byte:02X}").ok()?;
        }
    }
    Some(url)
}

/// The folder of a `file://` URL.
pub(super) fn url_to_folder(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("file://")?;
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let code =
            rest.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok())?;
        bytes.push(code);
        rest = rest.get(2..)?;
    }
    let path = String::from_utf8(bytes).ok()?;
    path.starts_with('/').then(|| PathBuf::from(path))
}
