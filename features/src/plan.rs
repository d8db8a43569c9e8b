//! Checked declarations: what the state keeps, what a vector holds and in which order.
//!
//! Knows no state. Two plans of one fingerprint make the same outputs of the same log.

use schemas::duration::Millis;
use schemas::{SharedEntity, VectorSchema};

use crate::config::Config;
use crate::declare::{Layout, check_limits, check_tile, check_windows, windows_of};
use crate::evaluate::{Group, groups, needs};
use crate::rates::{Declared, Rates};
use crate::scan::Needs;
use crate::shared::plan::SharedPlan;

/// A declaration that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}; {cure} (fatal: mend the config)")]
pub struct DeclarationError {
    /// The config key.
    pub key: String,
    /// What is wrong, with the value.
    pub what: String,
    /// What to write instead.
    pub cure: String,
}

impl DeclarationError {
    pub(crate) fn new(key: impl Into<String>, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { key: key.into(), what: what.into(), cure: cure.into() }
    }
}

/// Kinds of events as the state tells them apart: view, click, cart, purchase, refund.
pub(crate) const KINDS: usize = 5;
/// Index of views.
pub(crate) const VIEW: usize = 0;
/// Index of clicks that are no carts.
pub(crate) const CLICK: usize = 1;
/// Index of carts.
pub(crate) const CART: usize = 2;
/// Index of purchases.
pub(crate) const PURCHASE: usize = 3;
/// Index of refunds.
pub(crate) const REFUND: usize = 4;

/// Entities, in the order of the schema: those of one user, then those that users share.
pub(crate) const ENTITIES: [&str; SHARED + SHARED_ENTITIES] = [
    "user",
    "user_campaign",
    "user_category",
    SharedEntity::Item.as_str(),
    SharedEntity::Campaign.as_str(),
    SharedEntity::Category.as_str(),
    SharedEntity::Brand.as_str(),
    SharedEntity::Placement.as_str(),
];
/// Index of the user.
pub(crate) const USER: usize = 0;
/// Index of the user under one campaign.
pub(crate) const USER_CAMPAIGN: usize = 1;
/// Index of the user on one category.
pub(crate) const USER_CATEGORY: usize = 2;
/// Index of the first entity that users share; the others follow as [`SharedEntity::ALL`] has them.
pub(crate) const SHARED: usize = 3;
/// How many of them there are.
pub(crate) const SHARED_ENTITIES: usize = SharedEntity::ALL.len();

/// What an aggregation ranges over: one kind, or clicks with carts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KindSet {
    /// Views.
    View,
    /// Clicks and carts.
    Click,
    /// Carts.
    Cart,
    /// Purchases.
    Purchase,
    /// Refunds.
    Refund,
}

impl KindSet {
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("view", Self::View),
        ("click", Self::Click),
        ("cart", Self::Cart),
        ("purchase", Self::Purchase),
        ("refund", Self::Refund),
    ];

    /// The kinds' indices.
    pub(crate) const fn indices(self) -> &'static [usize] {
        match self {
            Self::View => &[VIEW],
            Self::Click => &[CLICK, CART],
            Self::Cart => &[CART],
            Self::Purchase => &[PURCHASE],
            Self::Refund => &[REFUND],
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    pub(crate) const fn has_value(self) -> bool {
        matches!(self, Self::View | Self::Purchase | Self::Refund)
    }
}

/// A number that depends on nothing but the view itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    Hour,
    HourSin,
    HourCos,
    Weekday,
    Price,
}

impl Context {
    pub(crate) const ALL: [(&'static str, Self, &'static str); 5] = [
        ("hour", Self::Hour, "hour of the day, UTC, 0 to 23"),
        ("hour_sin", Self::HourSin, "sine of the time of day, UTC"),
        ("hour_cos", Self::HourCos, "cosine of the time of day, UTC"),
        ("weekday", Self::Weekday, "day of the week, UTC, 0 Monday to 6 Sunday"),
        ("price", Self::Price, "price of the item shown; missing where unknown"),
    ];
}

/// How one number of a vector is made. `entity` and `window` are indices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Field {
    Count {
        entity: usize,
        kinds: KindSet,
        window: usize,
    },
    Sum {
        entity: usize,
        kinds: KindSet,
        window: usize,
    },
    Mean {
        entity: usize,
        kinds: KindSet,
        window: usize,
    },
    /// `rate` is a place in the plan's rates.
    Rate {
        entity: usize,
        rate: usize,
    },
    Since {
        entity: usize,
        kinds: KindSet,
    },
    Context(Context),
    Number(usize),
}

/// Tiles of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    /// Width of a tile, ms; tiles begin at its multiples.
    pub(crate) size_ms: i64,
    /// The longest window that reads them, ms.
    pub(crate) span_ms: i64,
}

/// Compiled declarations.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) config: Config,
    pub(crate) rates: Rates,
    /// The numbers of a vector, in order.
    pub(crate) fields: Vec<Field>,
    /// The same, as they are made.
    pub(crate) groups: Vec<Group>,
    /// What they read of the user's entities.
    pub(crate) needs: Needs,
    /// Nothing of an event is forgotten before it is so old, ms.
    pub(crate) forgets_first_ms: i64,
    /// All windows of the user's entities, ms, ascending.
    pub(crate) windows: Vec<i64>,
    pub(crate) levels: Vec<Level>,
    /// Per window: the level that it reads.
    pub(crate) level_of: Vec<usize>,
    /// Per entity of the user: whether anything is declared of it.
    pub(crate) used: [bool; SHARED],
    /// Per shared entity: what is kept of it, where anything is declared.
    pub(crate) shared: [Option<SharedPlan>; SHARED_ENTITIES],
    shared_layout: u64,
    schema: VectorSchema,
    schema_fingerprint: u64,
    fingerprint: u64,
}

/// Tile widths to choose from, ms: each divides the next, so that tiles nest.
const TILES: [i64; 15] = {
    const S: i64 = 1_000;
    const M: i64 = 60 * S;
    const H: i64 = 60 * M;
    [S, 5 * S, 10 * S, 30 * S, M, 5 * M, 10 * M, 30 * M, H, 3 * H, 6 * H, 12 * H, 24 * H, 48 * H, 192 * H]
};
/// Tiles of a window, at most.
const TILES_PER_WINDOW: i64 = 64;

impl Plan {
    /// Checks declarations and lays out the vector.
    ///
    /// # Errors
    /// The first declaration that cannot be meant, with its key and the cure.
    pub fn compile(config: &Config) -> Result<Self, DeclarationError> {
        check_limits(config)?;
        let mut declared = Vec::new();
        for (name, entity) in &config.entities {
            let Some(index) = ENTITIES.iter().position(|known| known == name) else {
                return Err(DeclarationError::new(
                    format!("features.entities.{name}"),
                    "there is no such entity",
                    format!("write one of {}", ENTITIES.join(", ")),
                ));
            };
            declared.push((index, entity, windows_of(config, name, entity)?));
        }
        declared.sort_by_key(|(index, ..)| *index);
        let users = declared.iter().filter(|(index, ..)| *index < SHARED);
        let mut windows: Vec<i64> = users.flat_map(|(.., windows)| windows.iter().copied()).collect();
        windows.extend(check_windows("features.windows", &config.windows)?);
        windows.sort_unstable();
        windows.dedup();

        let of_all = |index: usize, own| if index < SHARED { &windows } else { own };
        let rated = declared.iter().map(|(entity, config, own)| Declared {
            entity: *entity,
            config,
            own,
            kept: of_all(*entity, own),
        });
        let rates = Rates::compile(&rated.collect::<Vec<_>>())?;
        let mut layout = Layout { fields: Vec::new(), columns: Vec::new() };
        let mut used = [false; SHARED];
        let mut shared: [Option<SharedPlan>; SHARED_ENTITIES] = [const { None }; SHARED_ENTITIES];
        let tile_ms = check_tile(config, &TILES)?;
        for (index, entity, own) in &declared {
            let before = layout.fields.len();
            layout.entity(*index, entity, own, of_all(*index, own), &rates)?;
            let is_used = layout.fields.len() > before;
            match index.checked_sub(SHARED) {
                None => used[*index] = is_used,
                Some(at) if is_used => {
                    let fields = &layout.fields[before..];
                    shared[at] = Some(SharedPlan::new(fields, rates.reads(*index), own, tile_ms));
                }
                Some(_) => {}
            }
        }
        layout.context(config)?;
        let Layout { fields, columns, .. } = layout;
        if columns.is_empty() {
            return Err(DeclarationError::new(
                "features.entities",
                "nothing is declared, a vector would be empty",
                "declare at least one count, as in [features.entities.user] count = [\"view\"]",
            ));
        }
        let (levels, level_of) = levels_of(&windows, 0);
        let groups = groups(&fields);
        let counted = format!("{tile_ms} {:?}", shared.each_ref().map(Option::is_some));
        let schema = VectorSchema { fields: columns };
        let text = serde_json::to_string(config).map_err(|error| {
            DeclarationError::new("features", error.to_string(), "write finite numbers only")
        })?;
        Ok(Self {
            config: config.clone(),
            fields,
            needs: needs(&groups, &rates),
            rates,
            forgets_first_ms: [
                config.dedupe_horizon.0,
                config.click_window.0,
                windows.last().map_or(i64::MAX, |longest| longest - 1),
            ]
            .into_iter()
            .min()
            .unwrap_or(0),
            groups,
            levels,
            level_of,
            used,
            shared,
            shared_layout: xxhash_rust::xxh3::xxh3_64(counted.as_bytes()),
            schema_fingerprint: schema.fingerprint(),
            schema,
            fingerprint: xxhash_rust::xxh3::xxh3_64(text.as_bytes()),
            windows,
        })
    }

    /// What the numbers of a vector are, in order.
    pub fn vector_schema(&self) -> VectorSchema {
        self.schema.clone()
    }

    /// Fingerprint of [`Plan::vector_schema`], as vectors carry it.
    pub fn schema_fingerprint(&self) -> u64 {
        self.schema_fingerprint
    }

    /// Fingerprint of everything that the state and the outputs depend on.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Per window, ascending: its length and the width of its tiles, ms. A user with more than
    /// `exact_events` has the window rounded up by less than one tile at its tail.
    pub fn tiles(&self) -> Vec<(Millis, Millis)> {
        let tile = |&level: &usize| Millis(self.levels[level].size_ms);
        self.windows.iter().map(|&w| Millis(w)).zip(self.level_of.iter().map(tile)).collect()
    }

    /// The longest of all windows, those of shared entities too.
    pub fn longest_window(&self) -> Millis {
        let shared = self.shared.iter().flatten().flat_map(|kept| &kept.windows_ms);
        Millis(self.windows.iter().chain(shared).copied().max().unwrap_or(0))
    }

    /// Fingerprint of what is counted of shared entities: tiles and versions of another one are not read.
    pub fn shared_layout(&self) -> u64 {
        self.shared_layout
    }

    /// Width of the tiles of shared entities, ms.
    pub(crate) fn shared_tile_ms(&self) -> i64 {
        self.config.shared_tile.0
    }

    /// Whether anything is declared of any shared entity.
    pub fn shares(&self) -> bool {
        self.shared.iter().any(Option::is_some)
    }

    /// How long a behaviour is remembered, ms: the longest window.
    pub(crate) fn retention_ms(&self) -> i64 {
        self.windows.last().copied().unwrap_or(0)
    }
}

/// The sizes of tiles that these windows read, none smaller than `least_ms`, and the place of each
/// window's. Windows ascend.
pub(crate) fn levels_of(windows: &[i64], least_ms: i64) -> (Vec<Level>, Vec<usize>) {
    let mut levels: Vec<Level> = Vec::new();
    let mut level_of = Vec::new();
    for &window in windows {
        let size_ms = tile_of(window).max(least_ms);
        // Equal sizes are neighbours, and the last span is the longest.
        match levels.last_mut() {
            Some(last) if last.size_ms == size_ms => last.span_ms = window,
            _ => levels.push(Level { size_ms, span_ms: window }),
        }
        level_of.push(levels.len() - 1);
    }
    (levels, level_of)
}

fn tile_of(window_ms: i64) -> i64 {
    let fits = |size: &&i64| **size * TILES_PER_WINDOW >= window_ms;
    TILES.iter().find(fits).copied().unwrap_or(TILES[TILES.len() - 1])
}
