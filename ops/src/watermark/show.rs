//! A look at event time as people read it.

use std::fmt;

use super::{EntityState, PartitionState, Report, SourceState};
use crate::time;

impl fmt::Display for Report {
    /// Partitions that say the same of clock and sources are shown together.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: Vec<Vec<&PartitionState>> = Vec::new();
        for partition in &self.partitions {
            match groups.iter_mut().find(|group| alike(group[0], partition)) {
                Some(group) => group.push(partition),
                None => groups.push(vec![partition]),
            }
        }
        for group in groups {
            let numbers: Vec<i32> = group.iter().map(|partition| partition.partition).collect();
            writeln!(f, "{}", headline(&numbers, group[0]))?;
            table(f, &group[0].sources)?;
        }
        match &self.entities {
            Some(entities) => shared(f, entities, &self.partitions),
            None => writeln!(f, "shared entities: no tile is closed yet, or none is declared"),
        }
    }
}

fn alike(a: &PartitionState, b: &PartitionState) -> bool {
    (a.clock_ms, a.known_from, &a.sources) == (b.clock_ms, b.known_from, &b.sources)
}

/// `0, 1, 2`
fn list(numbers: &[i32]) -> String {
    numbers.iter().map(i32::to_string).collect::<Vec<_>>().join(", ")
}

fn headline(numbers: &[i32], state: &PartitionState) -> String {
    let clock = match (state.clock_ms, state.behind_ms) {
        (None, _) => "has not started".to_owned(),
        (Some(clock), Some(behind)) if behind > 0 => {
            format!("{}, {} behind the furthest partition", time::show(clock), time::span(behind))
        }
        (Some(clock), _) => time::show(clock),
    };
    let holders: Vec<String> = state.sources.iter().filter(|source| source.holds).map(name).collect();
    let held = match (&*holders, state.sources.is_empty()) {
        ([], true) => "no set of sources yet: ingest has not begun".to_owned(),
        ([], false) => "all sources are idle: nobody holds it".to_owned(),
        (holders, _) => format!("held by {}", holders.join(", ")),
    };
    let cut = match state.known_from {
        0 => String::new(),
        from => format!(" (known from offset {from} on: the log is cut, and the lake has no more)"),
    };
    format!("events[{}]: clock {clock}; {held}{cut}", list(numbers))
}

fn name(source: &SourceState) -> String {
    format!("{}[{}]", source.topic, source.partition)
}

fn table(f: &mut fmt::Formatter<'_>, sources: &[SourceState]) -> fmt::Result {
    let width = sources.iter().map(|source| name(source).len()).max().unwrap_or(0).max("source".len());
    if !sources.is_empty() {
        writeln!(f, "  {:<width$}  {:<24}  {:>9}  {:>9}  state", "source", "watermark", "behind", "unread")?;
    }
    for source in sources {
        let state = match (source.watermark_ms, source.idle, source.holds) {
            (None, ..) => "silent: has had no event, holds the clock",
            (_, true, _) => "idle: holds nothing",
            (_, _, true) => "holds the clock",
            _ => "",
        };
        let line = format!(
            "  {:<width$}  {:<24}  {:>9}  {:>9}  {state}",
            name(source),
            source.watermark_ms.map_or_else(|| "-".to_owned(), time::show),
            source.behind_ms.map_or_else(|| "-".to_owned(), time::span),
            source.unread.map_or_else(|| "-".to_owned(), |unread| unread.to_string()),
        );
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

fn shared(f: &mut fmt::Formatter<'_>, entities: &EntityState, partitions: &[PartitionState]) -> fmt::Result {
    let held = match entities.held_by.as_slice() {
        all if all.len() == partitions.len() => "all partitions have closed the same".to_owned(),
        [one] => format!("held by events[{one}]"),
        some => format!("held by events[{}]", list(some)),
    };
    match (entities.closed_ms, entities.behind_ms) {
        (Some(closed), Some(behind)) if behind > 0 => writeln!(
            f,
            "shared entities: closed up to {}, {held}, {} behind the furthest",
            time::show(closed),
            time::span(behind)
        )?,
        (Some(closed), _) => writeln!(f, "shared entities: closed up to {}, {held}", time::show(closed))?,
        (None, _) => writeln!(f, "shared entities: {held}, which has closed no tile yet")?,
    }
    writeln!(f, "  {:<9}  {:<24}  {:<24}  {:>9}", "partition", "closed", "version in force", "unread")?;
    let moment = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), time::show);
    for partition in partitions {
        writeln!(
            f,
            "  {:<9}  {:<24}  {:<24}  {:>9}",
            partition.partition,
            moment(partition.closed_ms),
            moment(partition.entity_version_ms),
            partition.unread.map_or_else(|| "-".to_owned(), |unread| unread.to_string())
        )?;
    }
    Ok(())
}
