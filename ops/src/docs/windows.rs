//! Which windows there are, what of them is exact, and by how much the rest is rounded.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use features::{Column, Made, Plan, Window};
use schemas::duration::Millis;

/// The section.
pub(super) fn write(out: &mut String, plan: &Plan, columns: &[Column]) -> fmt::Result {
    let config = plan.config();
    writeln!(
        out,
        "## Windows\n\nA window holds events up to the view's time `t`: a trailing one of length `w` those in \
         `(t - w, t]`; `tumbling:w` those since the `w` that `t` is in began; `hopping:w/h` those since the \
         `w` began that ends with the `h` that `t` is in; `session:g` the user's run of events that reaches to \
         `t` without a gap of more than `g`. Tumbling and hopping windows begin at fixed times (UTC; days at \
         midnight, weeks on Mondays). A window of a user's entity is exact \
         while the user has at most {} events in the longest window: then every event is held by itself. \
         Of a user with more, older events are added up in tiles, at most about 64 to a window. A tile is \
         inside a window if its newest event is: the window then holds all that it should and less than \
         one tile more at its tail, never anything later than `t`. A window that always begins where a tile \
         does stays exact. Ages and behaviours are exact.\n\n\
         | window | tile | rounded up at the tail by |\n|---|---|---|",
        config.exact_events
    )?;
    for (window, tile, rounds) in plan.tiles() {
        writeln!(out, "| {window} | {tile} | {} |", rounded(tile, rounds))?;
    }
    for session in sessions(columns) {
        writeln!(out, "| {session} | none | nothing |")?;
    }
    writeln!(out)?;
    let shared = shared(columns);
    if shared.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "Windows of entities that users share end at the version `B` that the vector names (`entity_version`), \
         a multiple of {tile} that all partitions of `events` had passed: a trailing window of length `w` holds \
         all of `[B - w, B)` and less than one tile more at its tail; one that begins at fixed times holds \
         what happened from its beginning as of `B` until `B`. Counts are exact; a value counts in \
         ten-thousandths. Ages are those of the end of the last {tile} with such an event.\n\n\
         | entity | window | tile | rounded up at the tail by |\n|---|---|---|---|",
        tile = config.shared_tile
    )?;
    for ((_, window), (entity, tile, rounds)) in shared {
        writeln!(out, "| {entity} | {window} | {tile} | {} |", rounded(tile, rounds))?;
    }
    writeln!(out)
}

/// Sessions that anything is declared of.
fn sessions(columns: &[Column]) -> std::collections::BTreeSet<Window> {
    let session = |column: &Column| match column.made {
        Made::Window { window: window @ Window::Session(_), .. } => Some(window),
        _ => None,
    };
    columns.iter().filter_map(session).collect()
}

/// By how much a window is rounded.
fn rounded(tile: Millis, rounds: bool) -> String {
    if rounds { format!("less than {tile}") } else { "nothing".to_owned() }
}

/// Windows of shared entities by the entity's place, each with its tile and whether it rounds.
fn shared(columns: &[Column]) -> BTreeMap<(usize, Window), (&'static str, Millis, bool)> {
    let mut windows = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for column in columns {
        if let Made::Window { entity, shared: true, window, tile, rounded, .. } = column.made {
            let at = order.iter().position(|known| *known == entity).unwrap_or_else(|| {
                order.push(entity);
                order.len() - 1
            });
            windows.insert((at, window), (entity, tile, rounded));
        }
    }
    windows
}
