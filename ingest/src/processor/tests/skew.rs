//! Several ingests that share the sources: none runs ahead of what the others have unread.

use proptest::prelude::*;
use runtime::processor::{ProcessorFactory, UnitId};
use schemas::Source;
use schemas::duration::Millis;

use super::bench::{HOUR, T, config, event, log, make, sources};
use crate::config::Config;
use crate::processor::*;

const MINUTE: i64 = 60_000;
const MAX_SKEW: i64 = 10 * MINUTE;
const LATENESS: i64 = 10_000;

/// An ingest of its own process, with the sources that it reads.
struct Instance {
    factory: Factory,
    processor: Box<dyn Processor>,
    /// Places in [`sources`].
    sources: Vec<usize>,
    paused: Vec<TopicPartition>,
    open: Outputs,
    alive: bool,
}

/// What all have put out, and the log of ticks that they hear each other by.
struct Fleet {
    instances: Vec<Instance>,
    logs: Vec<Vec<InRecord>>,
    read: Vec<usize>,
    /// Per source: events that are out.
    out: Vec<usize>,
    /// Greatest time that is out of each source.
    greatest: Vec<Option<i64>>,
    ticks: Vec<Control>,
    late: usize,
    now_ms: i64,
}

fn skewed(skew_wait: i64) -> Config {
    Config {
        allowed_lateness: Millis(LATENESS),
        max_skew: Millis(MAX_SKEW),
        skew_wait: Millis(skew_wait),
        // The gaps of these logs are believed.
        max_jump: Millis(1_000 * HOUR),
        merge_records: 1_000,
        ..config()
    }
}

impl Fleet {
    /// `of` says which instance reads which source.
    fn new(config: &Config, of: [usize; 4], times: &[Vec<i64>]) -> Self {
        let instances = (0..=of.into_iter().max().unwrap_or(0)).map(|instance| {
            let factory = make(config);
            let mut processor = factory.create(UnitId(0), None).unwrap();
            let sources: Vec<usize> = (0..4).filter(|source| of[*source] == instance).collect();
            let fresh = |source: &usize| Position {
                partition: super::bench::sources()[*source].clone(),
                offset: 0,
                metadata: String::new(),
            };
            let positions: Vec<Position> = sources.iter().map(fresh).collect();
            let mut open = Outputs::default();
            processor.step(Input::Assigned { positions: &positions, now_ms: T }, &mut open).unwrap();
            Instance { factory, processor, sources, paused: Vec::new(), open, alive: true }
        });
        let values = |times: &Vec<i64>| times.iter().map(|time| event(*time, 1)).collect::<Vec<_>>();
        Self {
            instances: instances.collect(),
            logs: times.iter().enumerate().map(|(source, times)| log(source, &values(times))).collect(),
            read: vec![0; 4],
            out: vec![0; 4],
            greatest: vec![None; 4],
            ticks: Vec::new(),
            late: 0,
            now_ms: T,
        }
    }

    /// An instance reads so many records of each of its sources, or finds nothing more.
    fn run(&mut self, at: usize, count: usize) {
        let instance = &mut self.instances[at];
        if !instance.alive {
            return;
        }
        let mut records = Vec::new();
        for source in &instance.sources {
            let (from, log) = (self.read[*source], &self.logs[*source]);
            if !instance.paused.contains(&sources()[*source]) {
                let to = (from + count).min(log.len());
                records.extend_from_slice(&log[from..to]);
                self.read[*source] = to;
            }
        }
        let at_end: Vec<TopicPartition> = instance
            .sources
            .iter()
            .filter(|source| self.read[**source] == self.logs[**source].len())
            .map(|source| sources()[*source].clone())
            .collect();
        let now_ms = self.now_ms;
        instance.open.pause.clear();
        if !records.is_empty() {
            instance
                .processor
                .step(Input::Records { records: &records, now_ms }, &mut instance.open)
                .unwrap();
            instance.open.pause.clear();
        }
        instance.processor.step(Input::Drained { at_end: &at_end, now_ms }, &mut instance.open).unwrap();
        instance.paused.clone_from(&instance.open.pause);
    }

    /// Commits what an instance has put out, and looks at each event; its ticks can be heard.
    fn commit(&mut self, at: usize, check: bool) {
        let instance = &mut self.instances[at];
        let records = std::mem::take(&mut instance.open.records);
        instance.open.positions.clear();
        for record in records {
            assert!(!record.topic.ends_with("dead-letters"), "none of these is refused");
            if record.topic.ends_with("late-events") {
                let late: LateEvent = Protobuf::decode(record.value.as_ref().unwrap()).unwrap();
                self.count(&late.event, None);
                self.late += 1;
                continue;
            }
            match Protobuf::decode(record.value.as_ref().unwrap()).unwrap() {
                Entry::Event(event) => self.count(&event, check.then_some(at)),
                Entry::Control(control) if record.partition == Some(0) => self.ticks.push(control),
                Entry::Control(_) => {}
            }
        }
    }

    fn count(&mut self, event: &Event, by: Option<usize>) {
        let source = sources()
            .iter()
            .position(|s| *s.topic == *event.origin.topic && s.partition == event.origin.partition)
            .unwrap();
        self.out[source] += 1;
        self.greatest[source] = self.greatest[source].max(Some(event.event_time_ms));
        let Some(by) = by else { return };
        for other in (0..4).filter(|other| !self.instances[by].sources.contains(other)) {
            // Where it stands: what it puts out next, at the latest.
            let Some(next) = self.logs[other].get(self.out[other]) else { continue };
            let next: serde_json::Value =
                serde_json::from_slice(next.record.value.as_ref().unwrap()).unwrap();
            let next = next["event_time"].as_i64().unwrap();
            let stands = self.greatest[other].map_or(next, |greatest| greatest.max(next));
            let ahead = event.event_time_ms - stands;
            assert!(ahead <= MAX_SKEW, "source {source} is {ahead} ms ahead of source {other}");
        }
    }

    /// An instance hears what has been told up to so long ago.
    fn hear(&mut self, at: usize, from: &mut usize) {
        let told = &self.ticks[(*from).min(self.ticks.len())..];
        self.instances[at].factory.told().fold(told);
        *from = self.ticks.len();
    }

    fn is_done(&self) -> bool {
        (0..4).all(|source| self.out[source] == self.logs[source].len())
    }
}

/// Times of one source: mostly on, with gaps far longer than the skew, a little out of order.
fn times() -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![6 => 0..MINUTE, 2 => 0..20 * MINUTE, 1 => 0..30 * HOUR];
    proptest::collection::vec((step, 0..2 * LATENESS), 0..25).prop_map(|steps| {
        let mut now = T;
        steps
            .into_iter()
            .map(|(step, late)| {
                now += step;
                now - late.min(LATENESS)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// However fast each reads, and however late it hears of the others; and all of it comes out, though
    /// each of them may stand before a gap.
    #[test]
    fn none_runs_more_than_the_skew_ahead_and_all_come_to_the_end(
        times in proptest::collection::vec(times(), 4),
        of in prop_oneof![Just([0, 0, 1, 1]), Just([0, 1, 2, 2]), Just([0, 1, 0, 1])],
        acts in proptest::collection::vec((0..3_usize, 0..4_u8, 1..6_usize), 0..80),
    ) {
        let mut fleet = Fleet::new(&skewed(1_000_000), of, &times);
        let count = fleet.instances.len();
        let mut heard = vec![0; count];
        // All say once where they stand: who has told nothing is not waited for.
        let first = |source: usize| times[source].first().map_or(0, |first| first - LATENESS);
        let greet: Vec<Control> = (0..4).map(|source| {
            let TopicPartition { topic, partition } = sources()[source].clone();
            let (watermark_ms, idle) = (first(source), times[source].is_empty());
            let source = Source { topic: topic.to_string(), partition };
            Control::Ticks(Ticks { ticks: vec![schemas::Tick { source, watermark_ms, idle }] })
        }).collect();
        fleet.ticks.extend(greet);
        for (at, heard) in heard.iter_mut().enumerate() {
            fleet.hear(at, heard);
        }
        for (at, act, size) in acts {
            let at = at % count;
            match act {
                0 | 1 => fleet.run(at, size),
                2 => fleet.commit(at, true),
                _ => fleet.hear(at, &mut heard[at]),
            }
        }
        let mut rounds = 0;
        while !fleet.is_done() {
            for (at, heard) in heard.iter_mut().enumerate() {
                fleet.hear(at, heard);
                fleet.run(at, 3);
                fleet.commit(at, true);
            }
            rounds += 1;
            prop_assert!(rounds < 500, "{:?} of {:?} are out", fleet.out, times);
        }
        prop_assert_eq!(fleet.late, 0, "waiting makes nothing late");
    }
}

#[test]
fn after_an_outage_the_fast_wait_for_the_slow_and_for_nobody_who_is_silent() {
    let minutes = |count: i64| (0..count).map(|minute| T + minute * MINUTE).collect::<Vec<_>>();
    let mut fleet = Fleet::new(&skewed(5_000), [0, 1, 0, 1], &[minutes(60), minutes(60), vec![], vec![]]);
    let mut heard = [0, 0];
    // The second reads a minute, the first all there is.
    fleet.run(1, 1);
    fleet.commit(1, true);
    fleet.hear(0, &mut heard[0]);
    for _ in 0..10 {
        fleet.run(0, 60);
        fleet.commit(0, true);
    }
    assert_eq!(fleet.out, [11, 1, 0, 0], "ten minutes ahead");
    for _ in 0..5 {
        fleet.run(1, 1);
    }
    fleet.commit(1, true);
    fleet.hear(0, &mut heard[0]);
    fleet.run(0, 60);
    fleet.commit(0, true);
    assert_eq!(fleet.out, [16, 6, 0, 0], "as far as the second has come on");
    // It stops. The first waits for as long as it is told to, and no longer.
    fleet.now_ms += 4_999;
    fleet.run(0, 60);
    fleet.commit(0, true);
    assert_eq!(fleet.out[0], 16);
    fleet.now_ms += 1;
    fleet.run(0, 60);
    fleet.commit(0, false);
    assert_eq!(fleet.out[0], 60, "nothing was heard of the second for 5 s");
    // What the second had not read is not late when it comes back: lateness is that of its own source.
    while !fleet.is_done() {
        fleet.run(1, 7);
        fleet.commit(1, true);
    }
    assert_eq!(fleet.late, 0);
}
