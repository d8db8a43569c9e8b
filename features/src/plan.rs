//! Checked declarations: what the state keeps, what a vector holds and in which order.
//!
//! Knows no state. Two plans of one fingerprint make the same outputs of the same log.

use schemas::duration::Millis;
use schemas::{SharedEntity, VectorSchema};

use crate::config::Config;
use crate::declare::{check_all_windows, check_limits, check_tile, check_windows, order, windows_of};
use crate::evaluate::{Group, groups, needs};
use crate::filters::Filters;
pub(crate) use crate::kinds::{CART, CLICK, KINDS, KindSet, PURCHASE, REFUND, VIEW};
use crate::layout::Layout;
use crate::nearest::did_you_mean;
use crate::rates::{Declared, Rates};
use crate::scan::Needs;
use crate::shared::cells::AllCells;
use crate::shared::plan::SharedPlan;
use crate::summary::plan::{Of, Summaries};
use crate::window::Window;

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

/// Entities, in the order of the schema: those of one user, then those that users share.
pub(crate) const ENTITIES: [&str; SHARED + SHARED_ENTITIES] = [
    "user",
    "user_campaign",
    "user_category",
    "user_item",
    "user_brand",
    "user_placement",
    SharedEntity::Item.as_str(),
    SharedEntity::Campaign.as_str(),
    SharedEntity::Category.as_str(),
    SharedEntity::Brand.as_str(),
    SharedEntity::Placement.as_str(),
    SharedEntity::ItemPlacement.as_str(),
    SharedEntity::CampaignPlacement.as_str(),
];
/// Index of the user.
pub(crate) const USER: usize = 0;
/// Index of the user under one campaign.
pub(crate) const USER_CAMPAIGN: usize = 1;
/// Index of the user on one category.
pub(crate) const USER_CATEGORY: usize = 2;
/// Index of the first entity that users share; the others follow as [`SharedEntity::ALL`] has them.
pub(crate) const SHARED: usize = 6;
/// Index of the first entity of the user that is not counted by kind in every block.
pub(crate) const PLAIN: usize = 3;
/// How many of them there are.
pub(crate) const SHARED_ENTITIES: usize = SharedEntity::ALL.len();

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
    /// Counts of a short window against those of a longer one, of which it is this share.
    Trend {
        entity: usize,
        short: Counted,
        long: Counted,
        share: f64,
    },
    /// `at` is a place in the plan's summaries, or in its numbers of what users share.
    Summary {
        entity: usize,
        at: usize,
    },
    Context(Context),
    Number(usize),
}

/// Where a count is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Counted {
    /// Among those by kind of a window.
    Kinds(KindSet, usize),
    /// As of a [`Field::Summary`].
    Summary(usize),
}

/// Tiles of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    /// Width of a tile, ms; tiles begin at its multiples.
    pub(crate) size_ms: i64,
    /// The longest window that reads them, ms.
    pub(crate) span_ms: i64,
}

impl Level {
    /// Whether a tile with that start, whose newest event is of that time, can follow one with another start.
    pub(crate) fn is_next(&self, before_ms: Option<i64>, start_ms: i64, last_ms: i64) -> bool {
        before_ms.is_none_or(|before_ms| before_ms < start_ms)
            && start_ms.rem_euclid(self.size_ms) == 0
            && (start_ms..start_ms + self.size_ms).contains(&last_ms)
    }
}

/// Compiled declarations.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) config: Config,
    pub(crate) filters: Filters,
    pub(crate) rates: Rates,
    /// What is read of a user's events beyond counts and sums by kind.
    pub(crate) summaries: Summaries,
    /// What is read of shared entities beyond the same.
    pub(crate) numbers: Summaries,
    /// What is kept of them for that.
    pub(crate) cells: AllCells,
    /// Per text of an event: whether it is kept with the event.
    pub(crate) kept_texts: [bool; Of::KEPT],
    /// Whether more is kept of an event than item, campaign and category.
    pub(crate) is_wide: bool,
    /// The numbers of a vector, in order.
    pub(crate) fields: Vec<Field>,
    /// The same, as they are made.
    pub(crate) groups: Vec<Group>,
    /// How many numbers they make.
    pub(crate) numbers_of_groups: usize,
    /// What they read of the user's entities.
    pub(crate) needs: Needs,
    /// Nothing of an event is forgotten before it is so old, ms.
    pub(crate) forgets_first_ms: i64,
    /// All windows of the user's entities, by how far back they reach.
    pub(crate) windows: Vec<Window>,
    pub(crate) levels: Vec<Level>,
    /// Per window: the level that it reads.
    pub(crate) level_of: Vec<usize>,
    /// Per entity of the user: whether anything is declared of it.
    pub(crate) used: [bool; SHARED],
    /// Per shared entity: what is kept of it, where anything is declared; windows that nest together.
    pub(crate) shared: [Vec<SharedPlan>; SHARED_ENTITIES],
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
        let tile_ms = check_tile(config, &TILES)?;
        let filters = Filters::compile(config)?;
        let mut declared = Vec::new();
        for (name, entity) in &config.entities {
            let Some(index) = ENTITIES.iter().position(|known| known == name) else {
                return Err(DeclarationError::new(
                    format!("features.entities.{name}"),
                    "there is no such entity",
                    format!("{}write one of {}", did_you_mean(name, &ENTITIES), ENTITIES.join(", ")),
                ));
            };
            declared.push((index, entity, windows_of(config, name, entity)?));
        }
        declared.sort_by_key(|(index, ..)| *index);
        let users = declared.iter().filter(|(index, ..)| *index < SHARED);
        let mut windows: Vec<Window> = users.flat_map(|(.., windows)| windows.iter().copied()).collect();
        windows.extend(check_windows("features.windows", &config.windows)?);
        windows.sort_unstable_by_key(order);
        windows.dedup();
        check_all_windows(&windows)?;

        let of_all = |index: usize, own| if index < SHARED { &windows } else { own };
        let rated = declared.iter().map(|(entity, config, own)| Declared {
            entity: *entity,
            config,
            own,
            kept: of_all(*entity, own),
        });
        let rates = Rates::compile(&rated.collect::<Vec<_>>())?;
        let mut layout = Layout::default();
        let mut used = [false; SHARED];
        let mut shared: [Vec<SharedPlan>; SHARED_ENTITIES] = [const { Vec::new() }; SHARED_ENTITIES];
        for (index, entity, own) in &declared {
            let before = layout.fields.len();
            layout.entity(*index, (entity, &filters), own, of_all(*index, own), &rates)?;
            let is_used = layout.fields.len() > before;
            match index.checked_sub(SHARED) {
                None => used[*index] = is_used,
                Some(at) if is_used => {
                    let fields = &layout.fields[before..];
                    shared[at] = SharedPlan::all(fields, rates.reads(*index), own, tile_ms);
                }
                Some(_) => {}
            }
        }
        layout.context(config)?;
        let spans: Vec<i64> = windows.iter().filter_map(|window| window.span_ms()).collect();
        let Layout { fields, columns, mut summaries, numbers } = layout;
        summaries.add_rates(&rates, spans.len());
        let kept_texts = std::array::from_fn(|at| summaries.reads(Of::ALL[at].1));
        let cells = AllCells::new(&numbers, &shared);
        if columns.is_empty() {
            return Err(DeclarationError::new(
                "features.entities",
                "nothing is declared, a vector would be empty",
                "declare at least one count, as in [features.entities.user] count = [\"view\"]",
            ));
        }
        let (levels, level_of) = levels_of(&spans, 0);
        let groups = groups(&fields);
        let mut counted = layout_of(tile_ms, shared.each_ref().map(|kept| !kept.is_empty()));
        for (at, name) in ENTITIES[SHARED..].iter().enumerate().filter(|(at, _)| !cells.of(*at).is_empty()) {
            counted.extend([" ", name, ": ", &cells.of(at).text(&filters)]);
        }
        let schema = VectorSchema { fields: columns };
        let text = serde_json::to_string(config).map_err(|error| {
            DeclarationError::new("features", error.to_string(), "write finite numbers only")
        })?;
        Ok(Self {
            config: config.clone(),
            is_wide: !filters.is_empty() || kept_texts[Of::Brand as usize..].contains(&true),
            filters,
            summaries,
            numbers,
            cells,
            kept_texts,
            fields,
            needs: needs(&groups, &rates),
            rates,
            forgets_first_ms: [
                config.dedupe_horizon.0,
                config.click_window.0,
                spans.last().map_or(i64::MAX, |longest| longest - 1),
            ]
            .into_iter()
            .min()
            .unwrap_or(0),
            numbers_of_groups: groups.iter().map(Group::len).sum(),
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

    /// Fingerprint of everything that is declared: two plans of one make the same outputs of the same log.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Per window, by how far back it reaches: the width of its tiles, and whether a user with more than
    /// `exact_events` has the window rounded up by less than one tile at its tail.
    pub fn tiles(&self) -> Vec<(Window, Millis, bool)> {
        let tile = |&level: &usize| Millis(self.levels[level].size_ms);
        let tiled = self.windows.iter().zip(self.level_of.iter().map(tile));
        tiled.map(|(&window, tile)| (window, tile, !window.begins_with_a_tile(tile.0))).collect()
    }

    /// How far back the longest of all windows reaches, those of shared entities too.
    pub fn longest_window(&self) -> Millis {
        let shared = self.shared.iter().flatten().flat_map(|kept| &kept.declared);
        let spans = self.windows.iter().chain(shared).filter_map(|window| window.span_ms());
        Millis(spans.max().unwrap_or(0))
    }

    /// How long a user's behaviour is remembered: the longest window of the user's entities.
    pub fn retention(&self) -> Millis {
        Millis(self.retention_ms())
    }

    /// Fingerprint of what is counted of shared entities: tiles and versions of another one are not read.
    pub fn shared_layout(&self) -> u64 {
        self.shared_layout
    }

    /// Width of the tiles of shared entities, ms.
    pub(crate) fn shared_tile_ms(&self) -> i64 {
        self.config.shared_tile.0
    }

    /// Where the numbers of an entity's summaries stand.
    pub(crate) fn numbers_of(&self, entity: usize) -> &Summaries {
        if entity < SHARED { &self.summaries } else { &self.numbers }
    }

    /// Whether anything is declared of any shared entity.
    pub fn shares(&self) -> bool {
        self.shared.iter().any(|kept| !kept.is_empty())
    }

    /// How long a behaviour is remembered, ms: the longest window.
    pub(crate) fn retention_ms(&self) -> i64 {
        self.levels.last().map_or(0, |longest| longest.span_ms)
    }
}

/// What is counted of shared entities, as a text. Entities that there were not always are named where they
/// are counted: without them tiles are as they were.
fn layout_of(tile_ms: i64, counted: [bool; SHARED_ENTITIES]) -> String {
    let (always, later) = counted.split_at(5);
    let mut text = format!("{tile_ms} {always:?}");
    for (_, name) in later.iter().zip(&ENTITIES[SHARED + 5..]).filter(|(counted, _)| **counted) {
        text.push(' ');
        text.push_str(name);
    }
    text
}

/// The sizes of tiles that windows of these lengths read, none smaller than `least_ms`, and the place of
/// each window's. Lengths ascend.
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

pub(crate) fn tile_of(window_ms: i64) -> i64 {
    let fits = |size: &&i64| **size * TILES_PER_WINDOW >= window_ms;
    TILES.iter().find(fits).copied().unwrap_or(TILES[TILES.len() - 1])
}
