//! The processor fed from small logs, with restarts at any point: what is out must account for
//! every raw record once, and promise nothing that it does not keep.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use runtime::processor::{Positions, ProcessorFactory, TopicRecord, UnitId};
use schemas::duration::Millis;
use schemas::topic::Names;
use schemas::{DeadLetter, EventClock, Origin, Reason, Source};

use super::*;
use crate::catalogue::{Catalogue, SharedCatalogue};
use crate::config::{ClockSource, Config};
use crate::decode::EARLIEST_MS;
use crate::pseudonym::PseudonymKey;

const T: i64 = EARLIEST_MS + 1_000_000_000;
const HOUR: i64 = 3_600_000;
const EVENTS_PARTITIONS: i32 = 3;

fn config() -> Config {
    Config {
        clock: ClockSource::Data,
        allowed_lateness: Millis(10_000),
        tick_interval: Millis(0),
        idle_polls: 2,
        merge_records: 4,
        ..Config::default()
    }
}

fn make(config: &Config) -> Factory {
    let key = PseudonymKey::new("k1", vec![7; 32]).unwrap();
    let partitions = RawPartitions { views: 2, clicks: 1, purchases: 1 };
    let catalogue = SharedCatalogue::new(Catalogue::new(config));
    factory(config, Names::new("x."), partitions, EVENTS_PARTITIONS, &key, catalogue).unwrap()
}

fn sources() -> Vec<TopicPartition> {
    [("x.views", 0), ("x.views", 1), ("x.clicks", 0), ("x.purchases", 0)]
        .map(|(topic, partition)| TopicPartition { topic: topic.into(), partition })
        .to_vec()
}

fn raw(source: &TopicPartition, offset: i64, value: &str) -> InRecord {
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

fn event(time_ms: i64, user: u8) -> String {
    format!(r#"{{"event_time":{time_ms},"user_id":"u{user}","item_id":"i","price":1}}"#)
}

/// A processor on a cluster of its own: what it puts out is kept once committed.
struct Bench {
    factory: Factory,
    processor: Box<dyn Processor>,
    logs: Vec<Vec<InRecord>>,
    /// Next index into each log.
    read: Vec<usize>,
    committed: BTreeMap<TopicPartition, Position>,
    /// Committed records.
    out: Vec<OutRecord>,
    open: Outputs,
    paused: Vec<TopicPartition>,
    now_ms: i64,
}

impl Bench {
    fn new(config: &Config, logs: Vec<Vec<InRecord>>) -> Self {
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
    fn restart(&mut self) {
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

    fn step(&mut self, input: Input<'_>) {
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
    fn feed(&mut self, source: usize, count: usize) {
        let from = self.read[source];
        let to = (from + count).min(self.logs[source].len());
        if from < to && !self.paused.contains(&sources()[source]) {
            self.read[source] = to;
            let records = self.logs[source][from..to].to_vec();
            self.step(Input::Records { records: &records, now_ms: self.now_ms });
        }
    }

    fn drain(&mut self) {
        let at_end: Vec<TopicPartition> = sources()
            .into_iter()
            .enumerate()
            .filter(|(at, source)| self.read[*at] == self.logs[*at].len() && !self.paused.contains(source))
            .map(|(_, source)| source)
            .collect();
        self.step(Input::Drained { at_end: &at_end, now_ms: self.now_ms });
    }

    fn commit(&mut self) {
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
    fn finish(&mut self) {
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

    fn of(&self, topic: &str) -> impl Iterator<Item = &OutRecord> {
        let name = format!("x.{topic}");
        self.out.iter().filter(move |record| *record.topic == *name)
    }

    fn entries(&self, partition: i32) -> Vec<Entry> {
        self.of("events")
            .filter(|record| record.partition == Some(partition))
            .map(|record| Protobuf::decode(record.value.as_ref().unwrap()).unwrap())
            .collect()
    }

    fn events(&self) -> Vec<Event> {
        self.of("events")
            .filter_map(|record| match Protobuf::decode(record.value.as_ref().unwrap()).unwrap() {
                Entry::Event(event) => Some(*event),
                Entry::Control(_) => None,
            })
            .collect()
    }

    fn late(&self) -> Vec<LateEvent> {
        self.of("late-events")
            .map(|record| Protobuf::decode(record.value.as_ref().unwrap()).unwrap())
            .collect()
    }

    fn dead(&self) -> Vec<DeadLetter> {
        self.of("dead-letters")
            .map(|r| DeadLetter::from_parts(r.key.as_ref(), r.value.as_ref(), &r.headers).unwrap())
            .collect()
    }

    /// All that must hold of what is out, whatever went in.
    fn check(&self) {
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

fn log(source: usize, values: &[String]) -> Vec<InRecord> {
    let source = &sources()[source];
    // Gaps, as transactional producers leave them.
    (0..).step_by(2).zip(values).map(|(offset, value)| raw(source, offset, value)).collect()
}

#[test]
fn takes_sources_in_order_of_time() {
    let logs = vec![
        log(0, &[event(T, 1), event(T + 2, 2), event(T + 9, 3)]),
        log(1, &[event(T + 1, 4)]),
        log(2, &[event(T + 2, 5), event(T + 8, 6)]),
        log(3, &[]),
    ];
    let mut bench = Bench::new(&config(), logs);
    bench.finish();
    bench.check();
    let times: Vec<_> =
        bench.events().iter().map(|e| (e.event_time_ms - T, e.origin.topic.clone())).collect();
    let (views, clicks) = ("x.views".to_owned(), "x.clicks".to_owned());
    assert_eq!(
        times,
        [
            (0, views.clone()),
            (1, views.clone()),
            (2, views.clone()),
            (2, clicks.clone()),
            (8, clicks),
            (9, views)
        ]
    );
}

#[test]
fn a_wild_time_moves_nothing() {
    let wild = event(T + 6 * HOUR + 1, 1);
    let logs = vec![
        log(0, &[event(T, 1), wild.clone(), event(T + 1, 1), event(T + 6 * HOUR, 1), event(T + 2, 1)]),
        log(1, &[]),
        log(2, &[event(T, 2), event(T + 3, 2)]),
        log(3, &[]),
    ];
    let mut bench = Bench::new(&config(), logs);
    bench.feed(0, 1);
    bench.feed(2, 1);
    bench.feed(0, 1);
    bench.finish();
    bench.check();
    let dead = bench.dead();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].reason, dead[0].offset), (Reason::FutureTime, 2));
    assert_eq!(dead[0].value.as_deref(), Some(wild.as_bytes()));
    let late = bench.late();
    assert_eq!(late.len(), 1, "what follows a jump of exactly the limit is late, in that source only");
    assert_eq!((late[0].event.event_time_ms, late[0].late_by_ms), (T + 2, 6 * HOUR - 10_000 - 2));
}

#[test]
fn a_frozen_ingest_wakes_with_only_ticks_to_write() {
    let mut bench =
        Bench::new(&config(), vec![log(0, &[event(T, 1)]), log(1, &[]), log(2, &[]), log(3, &[])]);
    bench.feed(0, 1);
    bench.drain();
    bench.commit();
    let before = bench.out.len();
    bench.now_ms += 6 * HOUR;
    bench.drain();
    bench.drain();
    let ticks = bench.open.records.len();
    assert!(ticks > 0 && bench.open.records.iter().all(|record| record.key.is_none()));
    let offsets: BTreeMap<_, _> =
        bench.open.positions.iter().map(|p| (p.partition.clone(), (p.offset, p.metadata.clone()))).collect();
    assert_eq!(offsets.len(), 4, "a tick alone carries the offsets, so that a fenced worker cannot pass");
    assert_eq!(offsets[&sources()[0]].0, 1);
    bench.commit();
    assert_eq!(bench.out.len(), before + ticks);
    bench.check();
}

#[test]
fn sleep_alone_makes_nothing_idle() {
    let mut config = config();
    config.tick_interval = Millis(100);
    let mut bench = Bench::new(&config, vec![log(0, &[event(T, 1)]), log(1, &[]), log(2, &[]), log(3, &[])]);
    bench.feed(0, 1);
    for _ in 0..10 {
        bench.drain();
    }
    let idle = |bench: &Bench| {
        bench.open.records.iter().any(|record| {
            let Ok(Entry::Control(Control::Ticks(ticks))) = Protobuf::decode(record.value.as_ref().unwrap())
            else {
                return false;
            };
            ticks.ticks.iter().any(|tick| tick.idle)
        })
    };
    assert!(!idle(&bench), "ten polls at one time count once");
    bench.now_ms += 6 * HOUR;
    bench.step(Input::Drained { at_end: &[], now_ms: bench.now_ms });
    assert!(!idle(&bench), "a poll that does not find the end does not count");
    for _ in 0..2 {
        assert!(!idle(&bench));
        bench.now_ms += 100;
        bench.drain();
    }
    assert!(idle(&bench));
}

#[test]
fn the_clock_may_jump() {
    let mut config = config();
    config.clock = ClockSource::Wall;
    config.max_future = Millis(1_000);
    let times: Vec<String> = (0..6).map(|n| event(T + n, 1)).collect();
    let mut bench = Bench::new(&config, vec![log(0, &times), log(1, &[]), log(2, &[]), log(3, &[])]);
    for jump in [0, 6 * HOUR, -12 * HOUR, 6 * HOUR, 0, 0] {
        bench.now_ms += jump;
        bench.feed(0, 1);
        bench.drain();
    }
    bench.now_ms += 6 * HOUR;
    bench.finish();
    bench.check();
    assert_eq!((bench.events().len(), bench.late().len()), (5, 0));
    assert_eq!(bench.dead()[0].reason, Reason::FutureTime, "while the clock stood 6 hours behind");
}

#[test]
fn full_lanes_pause_and_an_unreadable_source_is_given_up() {
    let times: Vec<String> = (0..20).map(|n| event(T + n, 1)).collect();
    let mut bench = Bench::new(&config(), vec![log(0, &times), log(1, &[]), log(2, &[]), log(3, &[])]);
    // Source 1 never answers; the others stand at their end.
    let at_end: Vec<TopicPartition> = [2, 3].map(|at| sources()[at].clone()).to_vec();
    bench.feed(0, 4);
    assert_eq!(bench.paused, [sources()[0].clone()]);
    bench.feed(0, 4);
    assert_eq!(bench.read[0], 4, "a paused source is not read");
    for _ in 0..5 {
        assert!(bench.open.records.iter().all(|record| record.key.is_none()), "no event is out");
        bench.now_ms += 250;
        bench.step(Input::Drained { at_end: &at_end, now_ms: bench.now_ms });
    }
    assert_eq!(bench.open.records.iter().filter(|record| record.key.is_some()).count(), 4);
    assert!(bench.paused.is_empty());
    bench.finish();
    bench.check();
}

#[test]
fn wrong_positions_are_refused() {
    let bench = |position: Position| {
        let mut processor = make(&config()).create(UnitId(0), None).unwrap();
        let input = Input::Assigned { positions: &[position], now_ms: 0 };
        processor.step(input, &mut Outputs::default()).unwrap_err().to_string()
    };
    let position = |topic: &str, partition, metadata: &str| Position {
        partition: TopicPartition { topic: topic.into(), partition },
        offset: 5,
        metadata: metadata.into(),
    };
    assert!(bench(position("x.views", 0, "garbage")).contains("x.views[0]"));
    assert!(bench(position("x.views", 2, "")).contains("restart every ingest"));
    assert!(bench(position("views", 0, "")).contains("no partition of a raw topic"));
}

#[test]
fn the_factory_names_its_topics() {
    let factory = make(&config());
    let names = |topics: Vec<Arc<str>>| topics.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(factory.inputs()), ["x.views", "x.clicks", "x.purchases"]);
    assert_eq!(names(factory.outputs()), ["x.events", "x.late-events", "x.dead-letters"]);
    assert_eq!(factory.positions(), Positions::Reported);
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0_i64..60_000, 0_u8..5).prop_map(|(time, user)| event(T + time, user)),
        1 => Just(event(T + 100 * 24 * HOUR, 1)),
        1 => "[ -~]{0,12}",
        1 => (0_i64..60_000, 1_usize..4).prop_map(|(time, lines)| {
            let lines = vec![r#"{"item_id":"i","price":2}"#; lines].join(",");
            format!(r#"{{"event_time":{},"user_id":"u1","lines":[{lines}]}}"#, T + time)
        }),
    ]
}

#[derive(Debug, Clone)]
enum Act {
    Feed(usize, usize),
    Drain,
    Commit,
    Restart,
    Pass(i64),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_usize..4, 1_usize..6).prop_map(|(source, count)| Act::Feed(source, count)),
        3 => Just(Act::Drain),
        2 => Just(Act::Commit),
        1 => Just(Act::Restart),
        1 => (0_i64..1_000).prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn accounts_for_everything_over_restarts(
        values in proptest::collection::vec(proptest::collection::vec(any_value(), 0..15), 4),
        acts in proptest::collection::vec(any_act(), 0..60),
        tick_interval in prop_oneof![Just(0_i64), Just(100)],
    ) {
        let config = Config { tick_interval: Millis(tick_interval), ..config() };
        let logs = values.iter().enumerate().map(|(source, values)| log(source, values)).collect();
        let mut bench = Bench::new(&config, logs);
        for act in acts {
            match act {
                Act::Feed(source, count) => bench.feed(source, count),
                Act::Drain => bench.drain(),
                Act::Commit => bench.commit(),
                Act::Restart => bench.restart(),
                Act::Pass(ms) => bench.now_ms += ms,
            }
        }
        bench.finish();
        bench.check();
    }
}
