//! The model that is served: read by every batch, swapped by one thread.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::loaded::Loaded;

/// A shared slot for the model served. Clones are one slot.
#[derive(Debug, Clone, Default)]
pub struct Slot(Arc<ArcSwapOption<Loaded>>);

impl Slot {
    /// An empty slot: base rates serve.
    pub fn new() -> Self {
        Self::default()
    }

    /// The model served now, if any. A batch takes it once.
    pub fn get(&self) -> Option<Arc<Loaded>> {
        self.0.load_full()
    }

    /// Serves `loaded` from the next batch on; gives back the one before.
    pub fn put(&self, loaded: Arc<Loaded>) -> Option<Arc<Loaded>> {
        self.0.swap(Some(loaded))
    }
}
