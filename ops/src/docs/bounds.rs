//! Which aggregations there are, and by how much each is off once a user's older events are in tiles.

use std::fmt::{self, Write as _};

use features::{Aggregation, Column, Made};

/// What is said of an aggregation beside its window's rounding, and in which order.
const BOUNDS: [(&str, &str); 8] = [
    ("counts, sums, means, rates, trends", "as the window; sums to the last bits of an `f64`"),
    ("min, max, first, last, mean gap", "as the window"),
    (
        "variance",
        "as the window; values count in ten-thousandths, each off by at most half of one, also while events are \
         held one by one",
    ),
    (
        "ages",
        "exact; a view before the user's last event of the kind in a tile reads the last event of an older one",
    ),
    ("decayed counts", "events in less than a tile before the longest window count, too; to 1e-12"),
    (
        "distinct",
        "exact up to 128 different texts in a tile, then by HyperLogLog: standard error 3.3 %, and nearly always \
         within 10 %",
    ),
    ("quantiles", "exact up to 32 values in a tile, then off by less than 1/128 of the value"),
    (
        "top",
        "counts of a tile with more than 64 different texts are too small by at most a 65th of its events",
    ),
];

/// The same of what users share.
const SHARED: [(&str, &str); 8] = [
    (
        "counts, sums, means, rates, trends",
        "as the window; values count in ten-thousandths, each off by at most half of one",
    ),
    (
        "min, max, first, last, mean gap",
        "as the window; of events at one time that of the least value is the first, that of the greatest the last",
    ),
    ("variance", "as the window; values count in ten-thousandths, each off by at most half of one"),
    (
        "ages",
        "of the last event of a filter nothing; of a kind, it is the age of the end of the event's tile",
    ),
    (
        "decayed counts",
        "events in less than a tile before the longest window count, too; weights are added up in 2^-32 of an event",
    ),
    (
        "distinct",
        "exact up to 128 different texts in the window, then by HyperLogLog: standard error 3.3 %, and nearly always \
         within 10 %",
    ),
    ("quantiles", "exact up to 32 values in the window, then off by less than 1/128 of the value"),
    (
        "top",
        "counts of a window with more than 64 different texts are too small by at most a 65th of its events",
    ),
];

/// The place of a column's bound, and whether users share what it is of.
fn place(made: &Made) -> Option<(bool, usize)> {
    let shared = match made {
        Made::Window { shared, .. } | Made::Last { shared, .. } | Made::Decayed { shared, .. } => *shared,
        Made::View => return None,
    };
    let at = match made {
        Made::View => return None,
        Made::Last { .. } => 3,
        Made::Decayed { .. } => 4,
        Made::Window { aggregation, .. } => match aggregation {
            Aggregation::Count
            | Aggregation::Sum
            | Aggregation::Mean
            | Aggregation::Rate { .. }
            | Aggregation::Trend { .. } => 0,
            Aggregation::Min
            | Aggregation::Max
            | Aggregation::First
            | Aggregation::Last
            | Aggregation::MeanGap => 1,
            Aggregation::Variance => 2,
            Aggregation::Distinct { .. } => 5,
            Aggregation::Quantile { .. } => 6,
            Aggregation::Top { .. } => 7,
        },
    };
    Some((shared, at))
}

fn rows(out: &mut String, columns: &[Column], shared: bool, bounds: &[(&str, &str)]) -> fmt::Result {
    for (at, (what, bound)) in bounds.iter().enumerate() {
        if columns.iter().any(|column| place(&column.made) == Some((shared, at))) {
            writeln!(out, "| {what} | {bound} |")?;
        }
    }
    Ok(())
}

/// The section: what is declared, and its bound.
pub(super) fn write(out: &mut String, columns: &[Column]) -> fmt::Result {
    writeln!(
        out,
        "## Bounds\n\nOf a user's entities everything is exact while the user's events are held one by one. Of a \
         user with more, of whom some are in tiles:\n\n| what | is off by |\n|---|---|"
    )?;
    rows(out, columns, false, &BOUNDS)?;
    let has_sessions = columns
        .iter()
        .any(|column| matches!(column.made, Made::Window { window: features::Window::Session(_), .. }));
    if has_sessions {
        writeln!(
            out,
            "\nA session is a run of the user's events, whatever the entity, and ends at the longest window. It \
             is exact in tiles, too, unless an event that came behind the clock joins two runs in tiles."
        )?;
    }
    writeln!(
        out,
        "\nOf a user's campaigns, categories, items, brands and placements, at most 64 each are kept in tiles: \
         those of the newest events.\n"
    )?;
    if columns.iter().any(|column| matches!(place(&column.made), Some((true, _)))) {
        writeln!(
            out,
            "Of what users share, up to the version that the vector names:\n\n| what | is off by |\n|---|---|"
        )?;
        rows(out, columns, true, &SHARED)?;
        writeln!(out)?;
    }
    Ok(())
}
