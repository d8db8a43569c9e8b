//! I1: every raw record is in exactly one of `events`, `late-events` and `dead-letters`, once.

use std::collections::BTreeMap;

use runtime::processor::TopicRecord;
use schemas::{DeadLetter, Entry, LateEvent, Origin};
use simulation::Broker;

use super::{Checked, decode};
use crate::pipeline::PARTS;

/// How often each line of a raw record was seen, and in which topics.
#[derive(Debug, Default)]
struct Fate {
    lines: Vec<u32>,
    places: Vec<&'static str>,
}

pub(super) fn check(broker: &Broker, checked: &mut Checked) -> Result<(), String> {
    let names = &PARTS.names;
    let mut fates: BTreeMap<(String, i32, i64), Fate> = BTreeMap::new();
    for of in [&names.views, &names.clicks, &names.purchases].into_iter().flat_map(|t| broker.partitions(t)) {
        for record in broker.all(&of) {
            fates.insert((of.topic.to_string(), of.partition, record.offset), Fate::default());
        }
    }
    let places = [
        ("events", &names.events, &mut checked.events),
        ("late-events", &names.late_events, &mut checked.late),
        ("dead-letters", &names.dead_letters, &mut checked.dead),
    ];
    for (place, topic, count) in places {
        for of in broker.partitions(topic) {
            for record in broker.all(&of) {
                let Some(origin) = origin(place, &record) else { continue };
                *count += 1;
                let key = (origin.topic.clone(), origin.partition, origin.offset);
                let fate = fates.get_mut(&key).ok_or_else(|| format!("{of}: {origin:?} is no raw record"))?;
                fate.lines.resize(origin.lines.max(1) as usize, 0);
                fate.lines[origin.line as usize] += 1;
                if !fate.places.contains(&place) {
                    fate.places.push(place);
                }
            }
        }
    }
    for (raw, fate) in &fates {
        if fate.places.len() != 1 || fate.lines.iter().any(|count| *count != 1) {
            return Err(format!("I1: {raw:?}: {fate:?}"));
        }
    }
    checked.raw += fates.len() as u64;
    Ok(())
}

/// Where a record came from; `None` for a control record.
fn origin(place: &str, record: &TopicRecord) -> Option<Origin> {
    match place {
        "events" => match decode(record) {
            Entry::Event(event) => Some(event.origin),
            Entry::Control(_) => None,
        },
        "late-events" => Some(decode::<LateEvent>(record).event.origin),
        _ => {
            let (key, value) = (record.key.as_ref(), record.value.as_ref());
            let dead = DeadLetter::from_parts(key, value, &record.headers).unwrap();
            let DeadLetter { topic, partition, offset, .. } = dead;
            Some(Origin { topic, partition, offset, line: 0, lines: 1 })
        }
    }
}
