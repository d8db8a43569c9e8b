//! What the columns of a vector are made of, for documents and for explanations of values.
//!
//! Knows no state. What it says follows from the plan alone.

use schemas::Kind;
use schemas::duration::Millis;
use schemas::vector::VectorField;

use crate::config::Config;
use crate::plan::{ENTITIES, Field, KindSet, Plan, SHARED, VIEW};

/// What is made of the events of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregation {
    /// How many there are.
    Count,
    /// The sum of their values.
    Sum,
    /// The mean of their values.
    Mean,
    /// (clicks + prior x weight) / (views + weight).
    Rate {
        /// The rate without views; none where that is a parent entity's rate.
        prior: Option<f64>,
        /// Views that it weighs.
        weight: f64,
    },
}

/// What a column is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Made {
    /// Of the events in a window that ends with the view.
    Window {
        /// Its name in the config.
        entity: &'static str,
        /// Whether all users share it: then the window ends at the version that the vector names.
        shared: bool,
        /// What is made of the events.
        aggregation: Aggregation,
        /// Which events.
        kinds: Vec<Kind>,
        /// How long the window is.
        window: Millis,
        /// Width of the tiles that older events are added up in; the window holds less than one of
        /// them more at its tail.
        tile: Millis,
    },
    /// Of the last event of some kinds within the longest window: its age.
    Last {
        /// Its name in the config.
        entity: &'static str,
        /// As for a window.
        shared: bool,
        /// Which events.
        kinds: Vec<Kind>,
        /// The longest window: what is older is forgotten.
        within: Millis,
    },
    /// Of the view itself.
    View,
}

/// One number of a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Name, scale, a sentence.
    pub field: VectorField,
    /// What it is made of.
    pub made: Made,
}

impl Plan {
    /// The declarations that it was compiled from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the numbers of a vector are made of, in the schema's order.
    pub fn columns(&self) -> Vec<Column> {
        let made = |field: &Field| match *field {
            Field::Count { entity, kinds, window } => self.window(entity, window, Aggregation::Count, kinds),
            Field::Sum { entity, kinds, window } => self.window(entity, window, Aggregation::Sum, kinds),
            Field::Mean { entity, kinds, window } => self.window(entity, window, Aggregation::Mean, kinds),
            Field::Rate { entity, rate } => {
                let (window, prior, weight) = self.rates.made(rate);
                let rate = Aggregation::Rate { prior, weight };
                let mut made = self.window(entity, window, rate, KindSet::Click);
                if let Made::Window { kinds, .. } = &mut made {
                    kinds.insert(0, kind(VIEW));
                }
                made
            }
            Field::Since { entity, kinds } => Made::Last {
                entity: ENTITIES[entity],
                shared: entity >= SHARED,
                kinds: kinds_of(kinds),
                within: Millis(self.windows_of(entity).last().copied().unwrap_or(0)),
            },
            Field::Context(_) | Field::Number(_) => Made::View,
        };
        let fields = self.vector_schema().fields;
        fields.into_iter().zip(&self.fields).map(|(field, of)| Column { field, made: made(of) }).collect()
    }

    /// The windows that are kept of an entity, ms, ascending.
    fn windows_of(&self, entity: usize) -> &[i64] {
        match entity.checked_sub(SHARED) {
            None => &self.windows,
            Some(at) => self.shared[at].as_ref().map_or(&[], |kept| &kept.windows_ms),
        }
    }

    fn window(&self, entity: usize, window: usize, aggregation: Aggregation, kinds: KindSet) -> Made {
        let tile = match entity.checked_sub(SHARED).map(|at| &self.shared[at]) {
            None => Millis(self.levels[self.level_of[window]].size_ms),
            Some(kept) => Millis(kept.as_ref().map_or(0, |kept| kept.sizes[window] * kept.tile_ms)),
        };
        Made::Window {
            entity: ENTITIES[entity],
            shared: entity >= SHARED,
            aggregation,
            kinds: kinds_of(kinds),
            window: Millis(self.windows_of(entity)[window]),
            tile,
        }
    }
}

/// The kind of an index of the state.
fn kind(index: usize) -> Kind {
    Kind::try_from(index as i32 + 1).unwrap_or(Kind::Unknown)
}

fn kinds_of(kinds: KindSet) -> Vec<Kind> {
    kinds.indices().iter().map(|index| kind(*index)).collect()
}
