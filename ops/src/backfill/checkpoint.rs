//! States of one partition's core in the store, each at an offset before which all is in the table.
//!
//! Files are the services' own snapshots: checksummed, versioned, refused when damaged.

use std::sync::Arc;

use anyhow::Result;
use features::{Config, Core, Plan};
use runtime::processor::{Position, ProcessorFactory as _, TopicPartition, UnitId};
use runtime::snapshot::{self, Bounds, Snapshot, Wanted};
use runtime::store::Store;

use crate::context::Context;

/// Files kept: the newest, and the one before in case that one is damaged.
const KEPT: usize = 2;

/// The checkpoints of one partition.
pub(super) struct Checkpoints {
    store: Store,
    folder: String,
    at: TopicPartition,
    fingerprint: u64,
}

impl Checkpoints {
    /// In a folder of the store; those of another plan or another version of the core are passed over.
    pub(super) fn new(context: &Context, folder: String, config: &Config, partition: i32) -> Result<Self> {
        let factory = features::factory(config, &context.names)?;
        Ok(Self {
            store: context.store.clone(),
            folder,
            at: TopicPartition { topic: Arc::clone(&context.names.events), partition },
            fingerprint: factory.state_fingerprint().unwrap_or_default(),
        })
    }

    fn unit(&self) -> UnitId {
        UnitId(self.at.partition.unsigned_abs())
    }

    /// The newest good state not beyond what is committed, and the offset to go on from; the fold of
    /// nothing where there is none.
    pub(super) fn newest(&self, plan: &Arc<Plan>, committed: i64) -> Result<(Core, i64)> {
        let wanted = Wanted {
            unit: self.unit(),
            fingerprint: self.fingerprint,
            bounds: vec![Bounds { partition: self.at.clone(), low: 0, committed }],
            below: None,
        };
        for path in snapshot::newest_first(self.store.list_blocking(&self.folder)?, None) {
            let Some(bytes) = self.store.get_blocking(&path)? else { continue };
            let restored =
                snapshot::open(&bytes, &wanted).map_err(|refused| refused.to_string()).and_then(|found| {
                    let core = Core::restore(Arc::clone(plan), self.at.partition, &found.payload());
                    Ok((core.map_err(|error| error.to_string())?, found.key() as i64))
                });
            match restored {
                Ok(restored) => return Ok(restored),
                Err(why) => tracing::warn!(path, why, "a checkpoint is not restored, trying the one before"),
            }
        }
        Ok((Core::new(Arc::clone(plan), self.at.partition), 0))
    }

    /// Keeps a state; everything before `offset` is folded and in the table.
    pub(super) fn keep(&self, core: &Core, offset: i64) -> Result<()> {
        let position = Position { partition: self.at.clone(), offset, metadata: String::new() };
        let snapshot = Snapshot {
            unit: self.unit(),
            fingerprint: self.fingerprint,
            positions: vec![position],
            base: None,
            parts: vec![core.snapshot()],
        };
        let path = format!("{}/{offset:020}.snap", self.folder);
        self.store.put_blocking(&path, snapshot.encode().into())?;
        let all = snapshot::newest_first(self.store.list_blocking(&self.folder)?, None);
        for old in all.into_iter().skip(KEPT) {
            self.store.delete_blocking(&old)?;
        }
        Ok(())
    }
}
