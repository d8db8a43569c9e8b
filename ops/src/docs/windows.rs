//! Which windows there are, what of them is exact, and by how much the rest is rounded.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use features::{Column, Made, Plan};
use schemas::duration::Millis;

/// The section.
pub(super) fn write(out: &mut String, plan: &Plan, columns: &[Column]) -> fmt::Result {
    let config = plan.config();
    writeln!(
        out,
        "## Windows\n\nA window of length `w` of a user's entity holds the events in `(t - w, t]`. It is exact \
         while the user has at most {} events in the longest window: then every event is held by itself. \
         Of a user with more, older events are added up in tiles, at most about 64 to a window. A tile is \
         inside a window if its newest event is: the window then holds all of `(t - w, t]` and less than \
         one tile more at its tail, never anything later than `t`. Ages and behaviours are exact.\n\n\
         | window | tile | rounded up at the tail by |\n|---|---|---|",
        config.exact_events
    )?;
    for (window, tile) in plan.tiles() {
        writeln!(out, "| {window} | {tile} | less than {tile} |")?;
    }
    writeln!(out)?;
    let shared = shared(columns);
    if shared.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "Windows of entities that users share end at the version `B` that the vector names (`entity_version`), \
         a multiple of {tile} that all partitions of `events` had passed: a window of length `w` holds all of \
         `[B - w, B)` and less than one tile more at its tail. Counts are exact; a value counts in \
         ten-thousandths. Ages are those of the end of the last {tile} with such an event.\n\n\
         | entity | window | tile | rounded up at the tail by |\n|---|---|---|---|",
        tile = config.shared_tile
    )?;
    for ((_, window), (entity, tile)) in shared {
        writeln!(out, "| {entity} | {window} | {tile} | less than {tile} |")?;
    }
    writeln!(out)
}

/// Windows of shared entities by the entity's place and their length, each with its tile.
fn shared(columns: &[Column]) -> BTreeMap<(usize, Millis), (&'static str, Millis)> {
    let mut windows = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for column in columns {
        if let Made::Window { entity, shared: true, window, tile, .. } = column.made {
            let at = order.iter().position(|known| *known == entity).unwrap_or_else(|| {
                order.push(entity);
                order.len() - 1
            });
            windows.insert((at, window), (entity, tile));
        }
    }
    windows
}
