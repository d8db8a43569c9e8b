//! An object store in memory that fails at a step, once, now and then from there on, or for good.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, Once};

use async_trait::async_trait;
use deltalake::logstore::{ObjectStoreFactory, ObjectStoreRef, StorageConfig, object_store_factories};
use deltalake::{DeltaResult, Path};
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// At which step, counted from 0.
    pub(crate) at: u64,
    /// Once it has been done, or instead.
    pub(crate) after: bool,
    /// Which of the steps after it fail as well, before they are done: the lowest bit is the next one's.
    pub(crate) then: u32,
    /// Everything after it fails, too: whoever used the store is dead.
    pub(crate) fatal: bool,
}

#[derive(Debug, Default)]
struct Plan {
    steps: u64,
    fault: Option<Fault>,
    dead: bool,
}

impl Plan {
    /// Counts a step; whether it fails once it is done.
    fn begin(&mut self) -> Result<bool> {
        if self.dead {
            return Err(cut_off());
        }
        let at = self.steps;
        self.steps += 1;
        match self.fault {
            Some(fault) if fault.at == at => {
                self.dead = fault.fatal;
                if fault.after { Ok(true) } else { Err(cut_off()) }
            }
            Some(fault)
                if fault.at < at && at - fault.at <= 32 && fault.then >> (at - fault.at - 1) & 1 == 1 =>
            {
                Err(cut_off())
            }
            _ => Ok(false),
        }
    }
}

fn cut_off() -> Error {
    Error::Generic { store: "mortal", source: "cut off, as planned".into() }
}

/// The store. Each root has one of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mortal {
    inner: Arc<InMemory>,
    plan: Arc<Mutex<Plan>>,
}

impl Mortal {
    pub(crate) fn plan(&self, fault: Fault) {
        *self.plan.lock().unwrap() = Plan { fault: Some(fault), ..Plan::default() };
    }

    /// Somebody else uses the store now, and nothing goes wrong any more.
    pub(crate) fn revive(&self) {
        *self.plan.lock().unwrap() = Plan::default();
    }

    pub(crate) fn steps(&self) -> u64 {
        self.plan.lock().unwrap().steps
    }

    /// Paths that contain the text.
    pub(crate) async fn files(&self, text: &str) -> Vec<String> {
        let all: Vec<ObjectMeta> = self.inner.list(None).try_collect().await.unwrap();
        let paths = all.into_iter().map(|file| file.location.to_string());
        paths.filter(|path| path.contains(text)).collect()
    }

    fn begin(&self) -> Result<bool> {
        self.plan.lock().unwrap().begin()
    }
}

fn end<T>(fails: bool, done: T) -> Result<T> {
    if fails { Err(cut_off()) } else { Ok(done) }
}

impl fmt::Display for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mortal")
    }
}

#[async_trait]
impl ObjectStore for Mortal {
    async fn put_opts(&self, to: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fails = self.begin()?;
        end(fails, self.inner.put_opts(to, payload, options).await?)
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let fails = self.begin()?;
        end(fails, self.inner.put_multipart_opts(to, options).await?)
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        let fails = self.begin()?;
        end(fails, self.inner.get_opts(from, options).await?)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, plan) = (Arc::clone(&self.inner), Arc::clone(&self.plan));
        let deleted = paths.then(move |path| {
            let (inner, plan) = (Arc::clone(&inner), Arc::clone(&plan));
            async move {
                let path = path?;
                let fails = plan.lock().unwrap().begin()?;
                let one = stream::once(async { Ok(path) }).boxed();
                let mut done: Vec<Path> = inner.delete_stream(one).try_collect().await?;
                end(fails, done.remove(0))
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.begin() {
            Ok(false) => self.inner.list(prefix),
            Ok(true) => stream::once(async { Err(cut_off()) }).boxed(),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let fails = self.begin()?;
        end(fails, self.inner.list_with_delimiter(prefix).await?)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let fails = self.begin()?;
        end(fails, self.inner.copy_opts(from, to, options).await?)
    }
}

static STORES: LazyLock<Mutex<HashMap<String, Mortal>>> = LazyLock::new(Mutex::default);

/// Finds a root's store by the first part of the address.
#[derive(Debug)]
struct Stores;

impl ObjectStoreFactory for Stores {
    fn parse_url_opts(&self, url: &url::Url, _config: &StorageConfig) -> DeltaResult<(ObjectStoreRef, Path)> {
        let name = url.path().trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
        let store = STORES.lock().unwrap().entry(name).or_default().clone();
        Ok((Arc::new(store), Path::from(url.path())))
    }
}

/// A root of that name, and its store.
pub(crate) fn root(name: &str) -> (String, Mortal) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The first use of a memory root registers the crate's own store; ours comes after it.
        let _memory = futures::executor::block_on(lake::tables("memory:///first"));
        let stores: Arc<dyn ObjectStoreFactory> = Arc::new(Stores);
        for mut entry in object_store_factories().iter_mut() {
            if entry.key().scheme() == "memory" {
                *entry.value_mut() = Arc::clone(&stores);
            }
        }
    });
    let store = STORES.lock().unwrap().entry(name.to_owned()).or_default().clone();
    (format!("memory:///{name}"), store)
}
