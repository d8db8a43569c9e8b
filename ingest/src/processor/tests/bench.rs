//! A processor on a cluster of its own, and what must hold of all that it puts out.

use std::collections::{BTreeMap, BTreeSet};

use runtime::processor::{ProcessorFactory, TopicRecord, UnitId};
use schemas::duration::Millis;
use schemas::topic::Names;
use schemas::{DeadLetter, EventClock, Origin, Source};

use crate::catalogue::{Catalogue, SharedCatalogue};
use crate::config::{ClockSource, Config};
use crate::decode::EARLIEST_MS;
use crate::processor::*;
use crate::pseudonym::PseudonymKey;

pub(super) const T: i64 = EARLIEST_MS + 1_000_000_000;
pub(super) const HOUR: i64 = 3_600_000;
pub(super) const EVENTS_PARTITIONS: i32 = 3;

pub(super) fn config() -> Config {
    Config {
        clock: ClockSource::Data,
        allowed_lateness: Millis(10_000),
        tick_interval: Millis(0),
        idle_polls: 2,
        merge_records: 4,
        ..Config::default()
    }
}

pub(super) fn make(config: &Config) -> Factory {
    let key = PseudonymKey::new("k1", vec![7; 32]).unwrap();
    let partitions = RawPartitions { views: 2, clicks: 1, purchases: 1 };
    let catalogue = SharedCatalogue::new(Catalogue::new(config));
    factory(config, Names::new("x."), partitions, EVENTS_PARTITIONS, &key, catalogue).unwrap()
}

pub(super) fn sources() -> Vec<TopicPartition> {
    [("x.views", 0), ("x.views", 1), ("x.clicks", 0), ("x.purchases", 0)]
        .map(|(topic, partition)| TopicPartition { topic: topic.into(), partition })
        .to_vec()
}

pub(super) fn raw(source: &TopicPartition, offset: i64, value: &str) -> InRecord {
    InRecord {
        topic: Arc::clone(&source.topic),
        record: TopicRecord {
            partition: source.partition,
            offset,
            timestamp_ms: 1,
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Vec::new(),
        },
    }
}

pub(super) fn event(time_ms: i64, user: u8) -> String {
    format!(r#"{{"event_time":{time_ms},"user_id":"u{user}","item_id":"i","price":1}}"#)
}

/// A processor on a cluster of its own: what it puts out is kept once committed.
pub(super) struct Bench {
    factory: Factory,
    processor: Box<dyn Processor>,
    logs: Vec<Vec<InRecord>>,
    /// Next index into each log.
    pub(super) read: Vec<usize>,
    committed: BTreeMap<TopicPartition, Position>,
    /// Committed records.
    pub(super) out: Vec<OutRecord>,
    pub(super) open: Outputs,
    pub(super) paused: Vec<TopicPartition>,
    pub(super) now_ms: i64,
}

impl Bench {
    pub(super) fn new(config: &Config, logs: Vec<Vec<InRecord>>) -> Self {
        let factory = make(config);
        let processor = factory.create(UnitId(0), None).unwrap();
        let mut bench = Self {
            factory,
            processor,
            read: vec![0; logs.len()],
            logs,
            committed: BTreeMap::new(),
            out: Vec::new(),
            open: Outputs::default(),
            paused: Vec::new(),
            now_ms: T,
        };
        bench.restart();
        bench
    }

    /// Everything since the last commit is gone.
    pub(super) fn restart(&mut self) {
        self.open = Outputs::default();
        self.paused.clear();
        let positions: Vec<Position> = sources()
            .into_iter()
            .map(|partition| {
                let fresh = Position { partition: partition.clone(), offset: 0, metadata: String::new() };
                self.committed.get(&partition).cloned().unwrap_or(fresh)
            })
            .collect();
        for ((read, log), position) in self.read.iter_mut().zip(&self.logs).zip(&positions) {
            *read = log.iter().take_while(|record| record.record.offset < position.offset).count();
        }
        self.processor = self.factory.create(UnitId(0), None).unwrap();
        let input = Input::Assigned { positions: &positions, now_ms: self.now_ms };
        self.processor.step(input, &mut self.open).unwrap();
        assert!(self.open.records.is_empty() && self.open.positions.is_empty());
    }

    pub(super) fn step(&mut self, input: Input<'_>) {
        self.open.pause.clear();
        let before = (self.open.records.len(), self.open.positions.len());
        self.processor.step(input, &mut self.open).unwrap();
        assert_eq!(
            self.open.records.len() > before.0,
            self.open.positions.len() > before.1,
            "records and positions go together"
        );
        self.paused = self.open.pause.clone();
    }

    /// Reads up to `count` records of one source; nothing of a paused one.
    pub(super) fn feed(&mut self, source: usize, count: usize) {
        let from = self.read[source];
        let to = (from + count).min(self.logs[source].len());
        if from < to && !self.paused.contains(&sources()[source]) {
            self.read[source] = to;
            let records = self.logs[source][from..to].to_vec();
            self.step(Input::Records { records: &records, now_ms: self.now_ms });
        }
    }

    pub(super) fn drain(&mut self) {
        let at_end: Vec<TopicPartition> = sources()
            .into_iter()
            .enumerate()
            .filter(|(at, source)| self.read[*at] == self.logs[*at].len() && !self.paused.contains(source))
            .map(|(_, source)| source)
            .collect();
        self.step(Input::Drained { at_end: &at_end, now_ms: self.now_ms });
    }

    pub(super) fn commit(&mut self) {
        for position in self.open.positions.drain(..) {
            if let Some(before) = self.committed.get(&position.partition) {
                assert!(position.offset >= before.offset, "offsets never go back");
                let mark = |position: &Position| {
                    crate::watermark::Watermark::from_metadata(&position.metadata).unwrap().mark_ms()
                };
                assert!(mark(&position) >= mark(before), "watermarks never go back");
            }
            self.committed.insert(position.partition.clone(), position);
        }
        self.out.append(&mut self.open.records);
    }

    /// Reads everything, then polls until all are idle.
    pub(super) fn finish(&mut self) {
        for _ in 0..200 {
            for source in 0..self.logs.len() {
                self.feed(source, 3);
            }
            self.now_ms += 1_000;
            self.drain();
        }
        self.commit();
        for (at, source) in sources().iter().enumerate() {
            let end = self.logs[at].last().map_or(0, |record| record.record.offset + 1);
            assert_eq!(self.committed.get(source).map_or(0, |position| position.offset), end, "{source}");
        }
    }

    pub(super) fn of(&self, topic: &str) -> impl Iterator<Item = &OutRecord> {
        let name = format!("x.{topic}");
        self.out.iter().filter(move |record| *record.topic == *name)
    }

    pub(super) fn entries(&self, partition: i32) -> Vec<Entry> {
        self.of("events")
            .filter(|record| record.partition == Some(partition))
            .map(|record| Protobuf::decode(record.value.as_ref().unwrap()).unwrap())
            .collect()
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.of("events")
            .filter_map(|record| match Protobuf::decode(record.value.as_ref().unwrap()).unwrap() {
                Entry::Event(event) => Some(*event),
                Entry::Control(_) => None,
            })
            .collect()
    }

    pub(super) fn late(&self) -> Vec<LateEvent> {
        self.of("late-events")
            .map(|record| Protobuf::decode(record.value.as_ref().unwrap()).unwrap())
            .collect()
    }

    pub(super) fn dead(&self) -> Vec<DeadLetter> {
        self.of("dead-letters")
            .map(|r| DeadLetter::from_parts(r.key.as_ref(), r.value.as_ref(), &r.headers).unwrap())
            .collect()
    }

    /// All that must hold of what is out, whatever went in.
    pub(super) fn check(&self) {
        // Each raw record in exactly one place, with all its lines.
        let mut places: BTreeMap<(String, i32, i64), BTreeSet<(u32, u32)>> = BTreeMap::new();
        let (events, late) = (self.events(), self.late());
        let origins: Vec<&Origin> =
            events.iter().map(|e| &e.origin).chain(late.iter().map(|l| &l.event.origin)).collect();
        for origin in origins {
            let place = (origin.topic.clone(), origin.partition, origin.offset);
            assert!(
                places.entry(place).or_default().insert((origin.line, origin.lines)),
                "twice: {origin:?}"
            );
        }
        for (place, lines) in &places {
            let count = lines.first().unwrap().1;
            assert_eq!(*lines, (0..count).map(|line| (line, count)).collect(), "{place:?}");
        }
        for dead in self.dead() {
            let fresh = places.insert((dead.topic, dead.partition, dead.offset), BTreeSet::new());
            assert!(fresh.is_none(), "in two places");
        }
        let expected: BTreeSet<(String, i32, i64)> = self
            .logs
            .iter()
            .flatten()
            .map(|record| (record.topic.to_string(), record.record.partition, record.record.offset))
            .collect();
        assert_eq!(places.keys().cloned().collect::<BTreeSet<_>>(), expected);
        for late in late {
            assert!(late.late_by_ms > 0);
            assert_eq!(late.watermark_ms - late.event.event_time_ms, late.late_by_ms);
        }
        // All of one user's events meet, and ticks promise nothing that is not kept.
        let mut home: BTreeMap<String, i32> = BTreeMap::new();
        let mut clocks = Vec::new();
        for partition in 0..EVENTS_PARTITIONS {
            let entries = self.entries(partition);
            assert!(entries.is_empty() || matches!(entries[0], Entry::Control(Control::Sources(_))));
            let mut promised: BTreeMap<Source, i64> = BTreeMap::new();
            let mut clock = EventClock::default();
            for entry in entries {
                match entry {
                    Entry::Event(event) => {
                        let source = Source { topic: event.origin.topic, partition: event.origin.partition };
                        assert!(promised.get(&source).is_none_or(|mark| event.event_time_ms >= *mark));
                        assert_eq!(*home.entry(event.user).or_insert(partition), partition);
                    }
                    Entry::Control(control) => {
                        clock.fold(&control);
                        let Control::Ticks(ticks) = control else { continue };
                        assert!(!ticks.ticks.is_empty());
                        for tick in ticks.ticks {
                            let mark = promised.entry(tick.source).or_insert(tick.watermark_ms);
                            assert!(tick.watermark_ms >= *mark, "watermarks never go back");
                            *mark = tick.watermark_ms;
                        }
                    }
                }
            }
            clocks.push(clock.now_ms());
        }
        assert!(clocks.windows(2).all(|pair| pair[0] == pair[1]), "{clocks:?}");
        let greatest = events.iter().map(|event| event.event_time_ms - 10_000).max();
        assert_eq!(clocks[0], greatest.or(clocks[0].and(Some(0))), "all idle: the greatest watermark");
    }
}

pub(super) fn log(source: usize, values: &[String]) -> Vec<InRecord> {
    let source = &sources()[source];
    // Gaps, as transactional producers leave them.
    (0..).step_by(2).zip(values).map(|(offset, value)| raw(source, offset, value)).collect()
}
