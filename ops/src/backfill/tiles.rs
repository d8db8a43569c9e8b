//! Tiles of shared entities of one partition, where the log's versions are of other declarations.
//!
//! A fold with little state: of the declarations only what users share, so that a user is a few ids to
//! find repeats by. Its outputs are objects in the store, named by the offset that they reach.

use anyhow::Result;
use features::{Config, Sink, VectorView};
use runtime::store::Store;
use schemas::duration::Millis;
use schemas::{Duplicate, EntityTiles, Label, SharedEntity};

use super::fold::Target;
use super::objects::{FULL, put};

/// The least that a window or a horizon may be.
const LEAST: Millis = Millis(1_000);

/// Declarations that make the same tiles, and nothing else that costs anything.
pub(super) fn declarations(config: &Config) -> Config {
    let mut only = config.clone();
    only.entities.retain(|name, _| SharedEntity::parse(name).is_some());
    for entity in only.entities.values_mut() {
        if entity.windows.is_empty() {
            entity.windows.clone_from(&config.windows);
        }
        // It may be one of the user's, and no tile depends on it.
        entity.rate_parent.clear();
    }
    only.windows = vec![LEAST.into()];
    (only.last_n, only.exact_events) = (0, 64);
    (only.click_window, only.purchase_window, only.aggregate_horizon) = (LEAST, LEAST, LEAST);
    only
}

/// The folder of a partition's objects.
pub(super) fn folder(job: &str, partition: i32) -> String {
    format!("{job}/tiles/{partition}")
}

/// The objects of a partition, in order, each with the offset that it reaches.
pub(super) fn objects(store: &Store, job: &str, partition: i32) -> Result<Vec<(i64, String)>> {
    let paths = store.list_blocking(&folder(job, partition))?.into_iter();
    let reached = |path: &str| path.rsplit('/').next()?.strip_suffix(".tiles")?.parse().ok();
    // Sorted by path, and so by offset: names are as long as the largest.
    Ok(paths.filter_map(|path| Some((reached(&path)?, path))).collect())
}

/// A sink that keeps tiles.
pub(super) struct Tiles {
    store: Store,
    folder: String,
    committed: i64,
    next: i64,
    /// Whether what is folded now is in the objects: it is folded again on the way to where they end.
    again: bool,
    bytes: Vec<u8>,
}

impl Tiles {
    /// Of one partition.
    pub(super) fn open(store: &Store, job: &str, partition: i32) -> Result<Self> {
        let committed = objects(store, job, partition)?.last().map_or(0, |(reached, _)| *reached);
        let folder = folder(job, partition);
        Ok(Self { store: store.clone(), folder, committed, next: committed, again: false, bytes: Vec::new() })
    }
}

impl Target for Tiles {
    fn committed(&self) -> i64 {
        self.committed
    }

    fn at(&mut self, offset: i64) {
        self.again = offset < self.committed;
    }

    fn full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    fn advance(&mut self, offset: i64) -> Result<()> {
        self.next = self.next.max(offset);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        if self.next > self.committed {
            let path = format!("{}/{:020}.tiles", self.folder, self.next);
            self.store.put_blocking(&path, std::mem::take(&mut self.bytes).into())?;
            self.committed = self.next;
        }
        Ok(())
    }
}

impl Sink for Tiles {
    fn tiles(&mut self, tiles: EntityTiles) {
        if !self.again {
            put(&tiles, &mut self.bytes);
        }
    }

    fn vector(&mut self, _: &VectorView<'_>) {}
    fn label(&mut self, _: &Label) {}
    fn duplicate(&mut self, _: Duplicate) {}
    fn hours(&mut self, _: EntityTiles) {}
}
