//! I1: every raw record is in exactly one place.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use runtime::processor::InRecord;
use schemas::dead_letter::{HEADER_OFFSET, HEADER_PARTITION, HEADER_TOPIC};
use schemas::{Codec, Entry, LateEvent, Origin, Protobuf};

use super::{Outcome, Verdict};
use crate::context::Context;
use crate::log::{Cut, Range, scan};

/// What became of the records of one raw partition.
#[derive(Debug, Default)]
struct Fate {
    begin: i64,
    /// By offset less `begin`.
    records: Vec<Record>,
}

#[derive(Debug, Default, Clone)]
struct Record {
    /// It is in the raw log (offsets of transaction markers are not).
    raw: bool,
    /// Which of its lines were seen, and how often; most records have one.
    lines: Vec<u16>,
    /// In which logs it was seen, a bit each.
    places: u8,
}

const PLACES: [&str; 3] = ["events", "late-events", "dead-letters"];

pub(super) fn check(context: &Context, cut: &Cut) -> Result<Outcome> {
    let mut outcome =
        Outcome::new("I1", "every raw record is in exactly one of events, late-events, dead-letters");
    let names = &context.names;
    let mut fates: BTreeMap<(Arc<str>, i32), Fate> = BTreeMap::new();
    for topic in [&names.views, &names.clicks, &names.purchases] {
        let range = Range::to(context, topic, cut.of(topic))?;
        for (partition, (begin, end)) in range.begin.iter().zip(&range.end).enumerate() {
            if *begin > 0 {
                outcome.out_of_scope(format!("{topic}[{partition}] below offset {begin}: cut by retention"));
            }
            let records = vec![Record::default(); (end - begin).max(0) as usize];
            fates.insert((Arc::clone(topic), partition as i32), Fate { begin: *begin, records });
        }
        scan(context, &range, |record| {
            if let Some(slot) = slot(&mut fates, topic, record.record.partition, record.record.offset) {
                slot.raw = true;
            }
            Ok(())
        })?;
    }
    // A record whose place has been cut away is not lost: then only repeats can be found.
    let mut cut_away = false;
    for (place, topic) in [&names.events, &names.late_events, &names.dead_letters].into_iter().enumerate() {
        let range = Range::whole(context, topic)?;
        for (partition, begin) in range.begin.iter().enumerate().filter(|(_, begin)| **begin > 0) {
            cut_away = true;
            outcome.out_of_scope(format!(
                "raw records in no place: {topic}[{partition}] below offset {begin} is cut by retention"
            ));
        }
        scan(context, &range, |record| {
            if let Some(origin) = origin(place, &record)?
                && let Some(slot) =
                    slot(&mut fates, &origin.topic.as_str().into(), origin.partition, origin.offset)
            {
                slot.places |= 1 << place;
                let lines = origin.lines.max(1) as usize;
                if slot.lines.len() < lines {
                    slot.lines.resize(lines, 0);
                }
                match slot.lines.get_mut(origin.line as usize) {
                    Some(count) => *count = count.saturating_add(1),
                    None => slot.lines.push(2),
                }
            }
            Ok(())
        })?;
    }
    judge(&fates, Lenience { repeats: context.at_least_once(), absence: cut_away }, &mut outcome);
    Ok(outcome)
}

fn slot<'a>(
    fates: &'a mut BTreeMap<(Arc<str>, i32), Fate>,
    topic: &Arc<str>,
    partition: i32,
    offset: i64,
) -> Option<&'a mut Record> {
    let fate = fates.get_mut(&(Arc::clone(topic), partition))?;
    let at = usize::try_from(offset - fate.begin).ok()?;
    fate.records.get_mut(at)
}

fn origin(place: usize, record: &InRecord) -> Result<Option<Origin>> {
    let at = || format!("{} offset {}", record.topic_partition(), record.record.offset);
    let value = record.record.value.clone().unwrap_or_default();
    Ok(match place {
        0 => match Protobuf::decode(&value).with_context(at)? {
            Entry::Event(event) => Some(event.origin),
            Entry::Control(_) => None,
        },
        1 => {
            let late: LateEvent = Protobuf::decode(&value).with_context(at)?;
            Some(late.event.origin)
        }
        _ => {
            let header = |name: &str| {
                // A dead letter that was sent in again has two origins: the last is this one's.
                let found = record.record.headers.iter().rev().find(|(n, _)| n == name);
                found.and_then(|(_, v)| v.as_ref()).and_then(|v| std::str::from_utf8(v).ok())
            };
            let origin = || {
                Some(Origin {
                    topic: header(HEADER_TOPIC)?.to_owned(),
                    partition: header(HEADER_PARTITION)?.parse().ok()?,
                    offset: header(HEADER_OFFSET)?.parse().ok()?,
                    line: 0,
                    lines: 1,
                })
            };
            Some(origin().with_context(|| format!("{}: no origin in its headers", at()))?)
        }
    })
}

/// What is no difference.
#[derive(Debug, Clone, Copy, Default)]
struct Lenience {
    /// Delivery is at-least-once.
    repeats: bool,
    /// A log of places has been cut.
    absence: bool,
}

fn judge(fates: &BTreeMap<(Arc<str>, i32), Fate>, lenience: Lenience, outcome: &mut Outcome) {
    let (mut checked, mut repeats) = (0u64, 0u64);
    for ((topic, partition), fate) in fates {
        for (at, record) in fate.records.iter().enumerate() {
            let place = || format!("{topic}[{partition}] offset {}", fate.begin + at as i64);
            if !record.raw {
                if record.places != 0 {
                    outcome.differs(format!("{}: in {} but not in the raw log", place(), seen(record)));
                }
                continue;
            }
            if record.places == 0 && lenience.absence {
                continue;
            }
            checked += 1;
            if record.places == 0 {
                outcome.differs(format!("{}: in none of {}", place(), PLACES.join(", ")));
            } else if record.places.count_ones() > 1 {
                outcome.differs(format!("{}: in {}", place(), seen(record)));
            }
            for (line, count) in record.lines.iter().enumerate() {
                match count {
                    0 if lenience.absence => {}
                    0 => outcome.differs(format!("{} line {line}: missing in {}", place(), seen(record))),
                    1 => {}
                    _ if lenience.repeats => repeats += 1,
                    n => outcome.differs(format!("{} line {line}: {n} times in {}", place(), seen(record))),
                }
            }
        }
    }
    if checked > 0 || outcome.verdict == Verdict::Broken {
        outcome.checked(format!("{checked} raw records in {} partitions", fates.len()));
    }
    if repeats > 0 {
        outcome.checked(format!("{repeats} repeats (delivery is at-least-once)"));
    }
}

fn seen(record: &Record) -> String {
    let names = PLACES.iter().enumerate().filter(|(bit, _)| record.places & (1 << bit) != 0);
    names.map(|(_, name)| *name).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(records: Vec<Record>) -> BTreeMap<(Arc<str>, i32), Fate> {
        BTreeMap::from([(("views".into(), 0), Fate { begin: 10, records })])
    }

    fn judged(record: Record, repeats: bool) -> Outcome {
        let mut outcome = Outcome::new("I1", "");
        judge(&fates(vec![record]), Lenience { repeats, absence: false }, &mut outcome);
        outcome
    }

    #[test]
    fn one_place_holds() {
        let outcome = judged(Record { raw: true, lines: vec![1, 1], places: 1 }, false);
        assert_eq!(outcome.verdict, Verdict::Holds);
    }

    #[test]
    fn lost_doubled_and_invented_records_are_named() {
        let lost = judged(Record { raw: true, lines: vec![], places: 0 }, false);
        assert_eq!(lost.differences, ["views[0] offset 10: in none of events, late-events, dead-letters"]);
        let doubled = judged(Record { raw: true, lines: vec![2], places: 4 }, false);
        assert_eq!(doubled.differences, ["views[0] offset 10 line 0: 2 times in dead-letters"]);
        let split = judged(Record { raw: true, lines: vec![1], places: 3 }, false);
        assert_eq!(split.differences, ["views[0] offset 10: in events and late-events"]);
        let invented = judged(Record { raw: false, lines: vec![1], places: 1 }, false);
        assert_eq!(invented.differences, ["views[0] offset 10: in events but not in the raw log"]);
        let line = judged(Record { raw: true, lines: vec![1, 0], places: 1 }, false);
        assert_eq!(line.differences, ["views[0] offset 10 line 1: missing in events"]);
    }

    #[test]
    fn repeats_are_counted_at_least_once() {
        let outcome = judged(Record { raw: true, lines: vec![3], places: 1 }, true);
        assert_eq!((outcome.verdict, outcome.checked.len()), (Verdict::Holds, 2));
    }
}
