//! Older events of a user with many, added up by parts: tiles of the widths that the plan has for its
//! windows, and the events of the last run of each session.
//!
//! What is in a window is decided as in [`crate::tiles`]. Events come from the oldest on, so that the run
//! that the next event may continue is known whole.

use crate::block::Logged;
use crate::history::{Ids, NEVER, Read};
use crate::interner::Interner;
use crate::plan::Plan;
use crate::subjects::Subjects;
use crate::window::Window;
use crate::wire::{Reader, SnapshotError, Writer};

use super::plan::{Range, Summaries, What};
use super::read::sets_of;
use super::{One, Order, Part};

/// Tiles of one size held at most: a window's 64, and as many again while the clock stands.
const MOST_TILES: usize = 160;
/// Keys of one entity of one user at most; that of the oldest last event makes room.
pub(crate) const MOST_KEYS: usize = 64;

#[derive(Debug, Clone)]
struct Tile {
    start_ms: i64,
    last_ms: i64,
    /// One per cell of the entity.
    parts: Vec<Part>,
}

/// The last run of a user's events without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "a time says its unit")]
struct Run {
    /// Its name: when its first event happened that came.
    id_ms: i64,
    first_ms: i64,
    last_ms: i64,
}

/// What is kept of one key.
#[derive(Debug, Clone)]
struct Key {
    entity: usize,
    /// Hash of its text; 0 for the user.
    hash: u64,
    newest_ms: i64,
    /// Per level of the plan, by time; of those that no number reads empty.
    levels: Vec<Vec<Tile>>,
    /// Per session of the plan: the run that its parts are of.
    runs: Vec<Option<(i64, Vec<Part>)>>,
}

/// All tiles of one user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tiles {
    /// Per session of the plan.
    runs: Vec<Option<Run>>,
    keys: Vec<Key>,
}

/// Hash of a text; of none it is 0.
pub(crate) fn hash(text: &str) -> u64 {
    if text.is_empty() { 0 } else { xxhash_rust::xxh3::xxh3_64(text.as_bytes()).max(1) }
}

/// Sessions are behind the other windows: their gaps, ms.
pub(crate) fn gaps(plan: &Plan) -> impl Iterator<Item = i64> {
    plan.windows[plan.level_of.len()..].iter().map(|window| match window {
        Window::Session(gap) => gap.0,
        _ => 0,
    })
}

/// Whether any number reads tiles of that level.
pub(crate) fn reads(plan: &Plan, level: usize) -> bool {
    plan.summaries.numbers.iter().any(|number| match number.range {
        Range::Window(window) => plan.level_of.get(window) == Some(&level),
        Range::All => level + 1 == plan.levels.len(),
    })
}

impl Tiles {
    /// Adds an event, which is behind those before it unless it came behind the clock.
    pub(crate) fn add(&mut self, event: &Logged, clock_ms: i64, plan: &Plan, ids: &Ids<'_>) {
        let in_run = self.extend_runs(event.time_ms, plan);
        let sets = sets_of(event, ids.subjects);
        for entity in plan.summaries.entities() {
            if !plan.summaries.of(entity).any(|(_, cell)| sets >> cell.set & 1 == 1) {
                continue;
            }
            let hash = match Summaries::key(entity) {
                None => 0,
                Some(of) => match hash(ids.texts.text(ids.subjects.text(event.number, of))) {
                    0 => continue,
                    hash => hash,
                },
            };
            let key = self.key(entity, hash, plan);
            key.newest_ms = key.newest_ms.max(event.time_ms);
            let add = |parts: &mut Vec<Part>| {
                for ((_, cell), part) in plan.summaries.of(entity).zip(parts) {
                    if sets >> cell.set & 1 == 1 {
                        part.add(&one(event, cell.what, ids.subjects, ids.texts), Order::Behind);
                        part.bound();
                    }
                }
            };
            let parts = || plan.summaries.of(entity).map(|(_, cell)| Part::new(cell.what, NEVER)).collect();
            for (at, level) in plan.levels.iter().enumerate().filter(|(at, _)| reads(plan, *at)) {
                if event.time_ms <= clock_ms.saturating_sub(level.span_ms) {
                    continue;
                }
                let tiles = &mut key.levels[at];
                let start_ms = event.time_ms.div_euclid(level.size_ms) * level.size_ms;
                let at = tiles.partition_point(|tile| tile.start_ms < start_ms);
                if tiles.get(at).is_none_or(|tile| tile.start_ms != start_ms) {
                    tiles.insert(at, Tile { start_ms, last_ms: event.time_ms, parts: parts() });
                }
                tiles[at].last_ms = tiles[at].last_ms.max(event.time_ms);
                add(&mut tiles[at].parts);
                if tiles.len() > MOST_TILES {
                    tiles.remove(0);
                }
            }
            for (run, id_ms) in key.runs.iter_mut().zip(&in_run) {
                let Some(id_ms) = id_ms else { continue };
                let (_, parts) = match run {
                    Some(run) if run.0 == *id_ms => run,
                    _ => run.insert((*id_ms, parts())),
                };
                add(parts);
            }
        }
    }

    /// Continues or begins runs with an event; per session the run that it is in, if it is the last.
    fn extend_runs(&mut self, time_ms: i64, plan: &Plan) -> Vec<Option<i64>> {
        let (mut in_run, mut has_new) = (Vec::new(), false);
        self.runs.resize(gaps(plan).count(), None);
        for (run, gap_ms) in self.runs.iter_mut().zip(gaps(plan)) {
            match run {
                Some(run) if time_ms < run.first_ms.saturating_sub(gap_ms) => {
                    in_run.push(None);
                    continue;
                }
                Some(run) if time_ms <= run.last_ms.saturating_add(gap_ms) => {
                    run.first_ms = run.first_ms.min(time_ms);
                    run.last_ms = run.last_ms.max(time_ms);
                }
                _ => {
                    has_new |= run.is_some();
                    *run = Some(Run { id_ms: time_ms, first_ms: time_ms, last_ms: time_ms });
                }
            }
            in_run.push(run.map(|run| run.id_ms));
        }
        if has_new {
            self.drop_empty();
        }
        in_run
    }

    fn key(&mut self, entity: usize, hash: u64, plan: &Plan) -> &mut Key {
        let at = self.keys.iter().position(|key| (key.entity, key.hash) == (entity, hash));
        let at = at.unwrap_or_else(|| {
            let of_entity = || self.keys.iter().enumerate().filter(|(_, key)| key.entity == entity);
            if of_entity().count() == MOST_KEYS {
                let coldest = of_entity().min_by_key(|(_, key)| (key.newest_ms, key.hash));
                if let Some((coldest, _)) = coldest {
                    self.keys.remove(coldest);
                }
            }
            self.keys.push(Key {
                entity,
                hash,
                newest_ms: NEVER,
                levels: vec![Vec::new(); plan.levels.len()],
                runs: vec![None; gaps(plan).count()],
            });
            self.keys.len() - 1
        });
        &mut self.keys[at]
    }

    /// Drops keys of which nothing is left.
    fn drop_empty(&mut self) {
        let runs = &self.runs;
        self.keys.retain_mut(|key| {
            for (of, run) in key.runs.iter_mut().zip(runs) {
                let id_ms = run.map(|run| run.id_ms);
                of.take_if(|(of_ms, _)| Some(*of_ms) != id_ms);
            }
            key.levels.iter().any(|tiles| !tiles.is_empty()) || key.runs.iter().any(Option::is_some)
        });
    }

    /// Drops what has expired; whether nothing is left.
    pub(crate) fn purge(&mut self, clock_ms: i64, plan: &Plan) -> bool {
        for key in &mut self.keys {
            for (tiles, level) in key.levels.iter_mut().zip(&plan.levels) {
                let horizon = clock_ms.saturating_sub(level.span_ms);
                tiles.retain(|tile| tile.last_ms > horizon);
            }
        }
        let horizon = clock_ms.saturating_sub(plan.retention_ms());
        for run in &mut self.runs {
            run.take_if(|run| run.last_ms <= horizon);
        }
        self.drop_empty();
        self.keys.is_empty()
    }

    /// Up to this time of the clock there is nothing to forget.
    pub(crate) fn quiet_until_ms(&self, plan: &Plan) -> i64 {
        let of_key = |key: &Key| {
            let expires = |(tiles, span_ms): (&Vec<Tile>, i64)| {
                tiles.iter().map(|tile| tile.last_ms.saturating_add(span_ms - 1)).min()
            };
            let spans = plan.levels.iter().map(|level| level.span_ms);
            key.levels.iter().zip(spans).filter_map(expires).min().unwrap_or(i64::MAX)
        };
        let runs = self.runs.iter().flatten();
        let runs = runs.map(|run| run.last_ms.saturating_add(plan.retention_ms() - 1));
        self.keys.iter().map(of_key).chain(runs).min().unwrap_or(i64::MAX)
    }

    /// Adds to a part of a cell what older events of a key are in a range that begins after `after_ms`.
    pub(crate) fn read(
        &self,
        (entity, hash): (usize, u64),
        (local, range): (usize, Range),
        (read, after_ms): (&Read, i64),
        plan: &Plan,
        part: &mut Part,
    ) {
        let key = self.keys.iter().find(|key| (key.entity, key.hash) == (entity, hash));
        let Some(key) = key else { return };
        let level = match range {
            Range::All => Some(plan.levels.len() - 1),
            Range::Window(window) => plan.level_of.get(window).copied(),
        };
        let Some(level) = level else { return };
        // The clock cuts the tiles of a level at its longest window, as a sweep would.
        let after_ms = after_ms.max(read.horizon(plan.levels[level].span_ms));
        let tiles = key.levels[level].iter().rev();
        for tile in tiles.filter(|tile| tile.last_ms > after_ms && tile.last_ms <= read.at_ms) {
            part.merge(&tile.parts[local], Order::Before);
        }
    }

    /// As [`Self::read`], of a session that reaches back to `edge_ms` without a gap.
    pub(crate) fn read_session(
        &self,
        (entity, hash): (usize, u64),
        (local, session): (usize, usize),
        (edge_ms, oldest_ms): (i64, i64),
        plan: &Plan,
        part: &mut Part,
    ) {
        let gap_ms = gaps(plan).nth(session).unwrap_or(0);
        let Some(run) = self.runs.get(session).copied().flatten() else { return };
        let continues = run.last_ms <= edge_ms
            && run.last_ms > oldest_ms
            && edge_ms.saturating_sub(run.last_ms) <= gap_ms;
        let key = self.keys.iter().find(|key| (key.entity, key.hash) == (entity, hash));
        if continues
            && let Some((id_ms, parts)) = key.and_then(|key| key.runs[session].as_ref())
            && *id_ms == run.id_ms
        {
            part.merge(&parts[local], Order::Before);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let parts = |parts: &Vec<Part>| parts.iter().map(Part::bytes).sum::<usize>();
        let of_key = |key: &Key| {
            let tiles = key.levels.iter().flatten().map(|tile| size_of::<Tile>() + parts(&tile.parts));
            let runs = key.runs.iter().flatten().map(|(_, of)| parts(of));
            size_of::<Key>() + tiles.chain(runs).sum::<usize>()
        };
        size_of::<Self>() + self.keys.iter().map(of_key).sum::<usize>()
    }

    pub(crate) fn write(&self, plan: &Plan, out: &mut Writer) {
        for at in 0..gaps(plan).count() {
            let run = self.runs.get(at).copied().flatten();
            out.bool(run.is_some());
            if let Some(Run { id_ms, first_ms, last_ms }) = run {
                for time_ms in [id_ms, first_ms, last_ms] {
                    out.int(time_ms);
                }
            }
        }
        out.len(self.keys.len());
        for key in &self.keys {
            out.len(key.entity);
            out.fixed(key.hash);
            out.int(key.newest_ms);
            for tiles in &key.levels {
                out.len(tiles.len());
                for tile in tiles {
                    out.int(tile.start_ms);
                    out.int(tile.last_ms - tile.start_ms);
                    tile.parts.iter().for_each(|part| part.write(out));
                }
            }
            for run in &key.runs {
                out.bool(run.is_some());
                if let Some((id_ms, parts)) = run {
                    out.int(*id_ms);
                    for part in parts {
                        part.write(out);
                    }
                }
            }
        }
    }

    pub(crate) fn read_from(input: &mut Reader<'_>, plan: &Plan) -> Result<Self, SnapshotError> {
        let mut all = Self::default();
        for _ in gaps(plan) {
            let times = |input: &mut Reader<'_>| Ok([input.time()?, input.time()?, input.time()?]);
            let run = if input.bool()? { Some(times(input)?) } else { None };
            all.runs.push(run.map(|[id_ms, first_ms, last_ms]| Run { id_ms, first_ms, last_ms }));
        }
        for _ in 0..input.len()? {
            let (entity, hash, newest_ms) = (input.id()? as usize, input.fixed()?, input.time()?);
            if !plan.summaries.entities().any(|known| known == entity) {
                return Err(input.damaged());
            }
            let parts = |input: &mut Reader<'_>| {
                let cells = plan.summaries.of(entity);
                cells.map(|(_, cell)| Part::read_from(cell.what, input)).collect::<Result<Vec<_>, _>>()
            };
            let mut levels = Vec::new();
            for level in &plan.levels {
                let mut tiles: Vec<Tile> = Vec::new();
                for _ in 0..input.len()? {
                    let start_ms = input.time()?;
                    let last_ms = input.time_from(start_ms)?;
                    let before_ms = tiles.last().map(|before| before.start_ms);
                    if !level.is_next(before_ms, start_ms, last_ms) {
                        return Err(input.damaged());
                    }
                    tiles.push(Tile { start_ms, last_ms, parts: parts(input)? });
                }
                levels.push(tiles);
            }
            let mut runs = Vec::new();
            for _ in gaps(plan) {
                let run = if input.bool()? { Some((input.time()?, parts(input)?)) } else { None };
                runs.push(run);
            }
            all.keys.push(Key { entity, hash, newest_ms, levels, runs });
            if all.keys.iter().filter(|key| key.entity == entity).count() > MOST_KEYS {
                return Err(input.damaged());
            }
        }
        Ok(all)
    }
}

/// An event as a cell's parts take it.
pub(crate) fn one(event: &Logged, what: What, subjects: &Subjects, texts: &Interner) -> One {
    let hash = match what {
        What::Distinct(of) | What::Top(of) => hash(texts.text(subjects.text(event.number, of))),
        _ => 0,
    };
    One { time_ms: event.time_ms, value: f64::from(event.value), hash }
}
