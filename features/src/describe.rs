//! What the columns of a vector are made of, for documents and for explanations of values.
//!
//! Knows no state. What it says follows from the plan alone.

use schemas::duration::Millis;
use schemas::vector::VectorField;
use schemas::{Event, Kind};

use crate::config::Config;
use crate::plan::{Counted, ENTITIES, Field, KINDS, KindSet, Plan, SHARED, VIEW};
use crate::shared::plan::SharedPlan;
use crate::summary::plan::{Cell, Range, Reading, What};
use crate::window::Window;

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
    /// (events + 1) / (events of a longer window, for as long, + 1).
    Trend {
        /// The longer window.
        against: Window,
    },
    /// The least of their values.
    Min,
    /// The greatest of their values.
    Max,
    /// The variance of their values.
    Variance,
    /// The value of the first.
    First,
    /// The value of the last.
    Last,
    /// The mean time from one to the next.
    MeanGap,
    /// How many different texts they have.
    Distinct {
        /// Which text.
        of: &'static str,
    },
    /// A quantile of their values.
    Quantile {
        /// The share of the values that do not exceed it.
        level: f64,
    },
    /// What the most frequent texts are, or where the view's own stands among them.
    Top {
        /// Which text.
        of: &'static str,
    },
}

impl Aggregation {
    /// Its key in the config.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Rate { .. } => "rate",
            Self::Trend { .. } => "trend",
            Self::Min => "min",
            Self::Max => "max",
            Self::Variance => "variance",
            Self::First => "first",
            Self::Last => "last",
            Self::MeanGap => "mean_gap",
            Self::Distinct { .. } => "distinct",
            Self::Quantile { .. } => "quantile",
            Self::Top { .. } => "top",
        }
    }
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
        /// The filter that they pass.
        filter: Option<String>,
        /// Which window.
        window: Window,
        /// Width of the tiles that older events are added up in.
        tile: Millis,
        /// Whether the window holds less than one of them more at its tail.
        rounded: bool,
    },
    /// Of the last event of some kinds within the longest window: its age.
    Last {
        /// Its name in the config.
        entity: &'static str,
        /// As for a window.
        shared: bool,
        /// Which events.
        kinds: Vec<Kind>,
        /// The filter that they pass.
        filter: Option<String>,
        /// The longest window: what is older is forgotten.
        within: Millis,
    },
    /// Of all events within the longest window, weighed by age.
    Decayed {
        /// Its name in the config.
        entity: &'static str,
        /// As for a window.
        shared: bool,
        /// Which events.
        kinds: Vec<Kind>,
        /// The filter that they pass.
        filter: Option<String>,
        /// After how long an event counts half.
        half_life: Millis,
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
                filter: None,
                within: self.longest_of(entity),
            },
            Field::Trend { entity, short, long, .. } => {
                let window = |counted| match counted {
                    Counted::Kinds(_, window) => window,
                    Counted::Summary(at) => match self.numbers_of(entity).numbers[at].range {
                        Range::Window(window) => window,
                        Range::All => 0,
                    },
                };
                let trend = Aggregation::Trend { against: self.kept(entity, window(long)).0 };
                match short {
                    Counted::Kinds(kinds, short) => self.window(entity, short, trend, kinds),
                    Counted::Summary(at) => self.summary((entity, at), Some(trend)),
                }
            }
            Field::Summary { entity, at } => self.summary((entity, at), None),
            Field::Context(_) | Field::Number(_) => Made::View,
        };
        let fields = self.vector_schema().fields;
        fields.into_iter().zip(&self.fields).map(|(field, of)| Column { field, made: made(of) }).collect()
    }

    /// How far back what is kept of an entity reaches.
    pub(crate) fn longest_of(&self, entity: usize) -> Millis {
        let Some(at) = entity.checked_sub(SHARED) else { return self.retention() };
        let windows = self.shared[at].iter().flat_map(|kept| &kept.declared);
        Millis(windows.filter_map(|window| window.span_ms()).max().unwrap_or(0))
    }

    /// Width of the tiles at the tail of what is kept of a shared entity; a user's are few.
    pub(crate) fn widest_of(&self, entity: usize) -> Millis {
        let kept = entity.checked_sub(SHARED).into_iter().flat_map(|at| &self.shared[at]);
        Millis(kept.flat_map(|kept| kept.sizes.iter().map(|size| size * kept.tile_ms)).max().unwrap_or(0))
    }

    /// A window that is kept of an entity, with its tiles' width.
    pub(crate) fn kept(&self, entity: usize, window: usize) -> (Window, Millis) {
        let Some(at) = entity.checked_sub(SHARED) else {
            let level = self.level_of.get(window).map_or(0, |level| self.levels[*level].size_ms);
            return (self.windows[window], Millis(level));
        };
        let of = |kept: &SharedPlan| {
            let sizes = kept.sizes.iter().map(|size| Millis(size * kept.tile_ms));
            kept.declared.iter().copied().zip(sizes).collect::<Vec<_>>()
        };
        self.shared[at].iter().flat_map(of).nth(window).unwrap_or((Window::Trailing(Millis(0)), Millis(0)))
    }

    fn window(&self, entity: usize, window: usize, aggregation: Aggregation, kinds: KindSet) -> Made {
        let (window, tile) = self.kept(entity, window);
        Made::Window {
            entity: ENTITIES[entity],
            shared: entity >= SHARED,
            aggregation,
            kinds: kinds_of(kinds),
            filter: None,
            window,
            tile,
            rounded: !window.begins_with_a_tile(tile.0.max(1)),
        }
    }
}

impl Plan {
    /// What a number of the summaries is made of, or what is made of it.
    fn summary(&self, (entity, at): (usize, usize), other: Option<Aggregation>) -> Made {
        let (all, shared) = (self.numbers_of(entity), entity >= SHARED);
        let number = all.numbers[at];
        let Cell { set, what, .. } = all.cells[number.cell];
        let (kinds, filter) = match set.checked_sub(KINDS) {
            None => (KindSet::ALL[set].1.bits(), None),
            Some(at) => (self.filters.kinds(at), Some(self.filters.name(at).to_owned())),
        };
        let kinds = (0..KINDS).filter(|at| kinds >> at & 1 == 1).map(kind).collect();
        let name = ENTITIES[entity];
        let of = match what {
            What::Distinct(of) | What::Top(of) => of.name(),
            What::Stat | What::Decayed { .. } | What::Values => "",
        };
        let aggregation = match number.reading {
            _ if let Some(other) = other => other,
            Reading::Count | Reading::Age | Reading::Decayed => Aggregation::Count,
            Reading::Sum => Aggregation::Sum,
            Reading::Mean => Aggregation::Mean,
            Reading::Min => Aggregation::Min,
            Reading::Max => Aggregation::Max,
            Reading::Variance => Aggregation::Variance,
            Reading::First => Aggregation::First,
            Reading::Last => Aggregation::Last,
            Reading::Gap => Aggregation::MeanGap,
            Reading::Distinct => Aggregation::Distinct { of },
            Reading::Quantile(level) => Aggregation::Quantile { level },
            Reading::Share(_) | Reading::Rank(_) => Aggregation::Top { of },
        };
        match (number.range, what) {
            (Range::Window(window), _) => {
                let (window, tile) = self.kept(entity, window);
                let rounded = window.span_ms().is_some() && !window.begins_with_a_tile(tile.0.max(1));
                Made::Window { entity: name, shared, aggregation, kinds, filter, window, tile, rounded }
            }
            (Range::All, What::Decayed { half_life_ms }) => {
                Made::Decayed { entity: name, shared, kinds, filter, half_life: Millis(half_life_ms) }
            }
            (Range::All, _) => {
                Made::Last { entity: name, shared, kinds, filter, within: self.longest_of(entity) }
            }
        }
    }

    /// A bit for each filter that takes the event, in the order of [`Plan::filter`].
    pub fn filters_of(&self, event: &Event) -> u32 {
        self.filters.of(event)
    }

    /// The bit of a filter.
    pub fn filter(&self, name: &str) -> u32 {
        self.filters.taken(name).map_or(0, |taken| 1 << taken.set.saturating_sub(KINDS))
    }
}

/// The kind of an index of the state.
fn kind(index: usize) -> Kind {
    Kind::try_from(index as i32 + 1).unwrap_or(Kind::Unknown)
}

fn kinds_of(kinds: KindSet) -> Vec<Kind> {
    kinds.indices().iter().map(|index| kind(*index)).collect()
}
