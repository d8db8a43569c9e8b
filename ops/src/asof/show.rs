//! A vector of the past as people read it.

use std::fmt;

use super::{Maker, Of, Report, Value};
use crate::time;

/// Events named of a value; the others are counted.
const NAMED: usize = 5;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = &self.view;
        let shown = format!(
            "item {}, campaign {}, category {}",
            or_none(&view.item),
            or_none(&view.campaign),
            or_none(&view.category)
        );
        match &view.place {
            Some(place) => {
                let behind = match self.at_ms - view.event_time_ms {
                    0 => String::new(),
                    behind => format!(", {} before {}", time::span(behind), time::show(self.at_ms)),
                };
                let at = time::show(view.event_time_ms);
                writeln!(f, "{}: the view at {place}, {at}{behind} ({shown})", self.user)?;
            }
            None => writeln!(
                f,
                "{}: as if at {} there were a view of {shown}",
                self.user,
                time::show(self.at_ms)
            )?,
        }
        let clock = self.clock_ms.map_or_else(|| "not started".to_owned(), time::show);
        let version = match (self.entity_version_ms, &self.entity_version_place) {
            (Some(version), Some(place)) => format!("as of {} ({place})", time::show(version)),
            _ => "no version".to_owned(),
        };
        writeln!(f, "events[{}], clock {clock}; shared entities: {version}\n", self.partition)?;
        let width = self.values.iter().map(|value| value.column.len()).max().unwrap_or(0);
        for value in &self.values {
            line(f, value, width)?;
        }
        writeln!(f, "\n{} behaviours before it, newest first", self.behaviours.len())?;
        for past in &self.behaviours {
            event(f, past)?;
        }
        Ok(())
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn line(f: &mut fmt::Formatter<'_>, value: &Value, width: usize) -> fmt::Result {
    let number = value.value.map_or_else(|| "missing".to_owned(), |number| number.to_string());
    let of = match (value.of, value.events.len()) {
        (Of::View, _) => "of the view".to_owned(),
        (Of::Version, _) => "of all users, as of the version".to_owned(),
        (Of::Nothing, _) => "of nothing: the view has no such key, or there is no version".to_owned(),
        (Of::Events, 1) => "1 event".to_owned(),
        (Of::Events, events) => format!("{events} events"),
    };
    let rounded = if value.rounded { ", the window rounded up at its tail" } else { "" };
    writeln!(f, "{:<width$}  {number:<12}  {of}{rounded}", value.column)?;
    for past in value.events.iter().take(NAMED) {
        event(f, past)?;
    }
    match value.events.len().saturating_sub(NAMED) {
        0 => Ok(()),
        more => writeln!(f, "    and {more} before (all with --json)"),
    }
}

fn event(f: &mut fmt::Formatter<'_>, event: &Maker) -> fmt::Result {
    let Maker { place, kind, item, .. } = event;
    writeln!(f, "    {place:<12}  {}  {kind:<8}  {item}", time::show(event.event_time_ms))
}
