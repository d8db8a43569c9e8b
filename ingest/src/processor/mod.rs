//! The core of ingest as a [`Processor`]: one over all sources of a worker.
//!
//! Knows no Kafka client and no clock but the time that is part of its input.

mod factory;
mod lane;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use runtime::pages::Pages;
use runtime::processor::{
    InRecord, Input, OutRecord, Outputs, Position, Processor, StepError, TopicPartition,
};
use schemas::{Codec, Control, Entry, Event, LateEvent, Protobuf, Source, Ticks};

use crate::dead_letter::dead_letter;
use crate::decode::{Events, RawPlace, RawTopic, Refusal};
use crate::horizon::Horizon;
use crate::merge::{Bounds, Merge};
use crate::partitioner::partition_of;
use crate::skew::Skew;
use crate::telemetry::{self, Counts, MAX_LABELLED_SOURCES};

use factory::Shared;
use lane::Lane;

pub use factory::{Factory, RawPartitions, factory};

/// What a held record takes beside its bytes, roughly.
const HELD_OVERHEAD_BYTES: usize = 640;

/// What the merge holds of a raw record.
#[derive(Debug)]
struct Taken {
    offset: i64,
    what: What,
}

#[derive(Debug)]
enum What {
    Events(Events),
    Refused(Box<(InRecord, Refusal)>),
}

/// The fold.
#[derive(Debug)]
struct Ingest {
    shared: Arc<Shared>,
    /// In the order of [`RawTopic::ALL`], then of partitions.
    lanes: Vec<Lane>,
    /// For each of [`RawTopic::ALL`], by partition: which lane.
    lane_of: [Vec<Option<usize>>; 3],
    merge: Merge<Taken>,
    horizon: Horizon,
    /// How far the sources of others have come.
    skew: Skew,
    /// Own sources.
    own: BTreeSet<Source>,
    /// Whether it waits for others.
    waits: bool,
    /// Whether the set of sources has been written.
    announced: bool,
    last_tick_ms: Option<i64>,
    last_counted_poll_ms: Option<i64>,
    counts: Counts,
    /// Where events lie until they are sent.
    pages: Pages,
}

impl Ingest {
    fn new(shared: Arc<Shared>) -> Self {
        let bounds = Bounds {
            lane_items: shared.config.merge_records,
            total_bytes: shared.config.merge_bytes,
            wait_ms: shared.config.merge_wait.0,
        };
        Self {
            horizon: Horizon::new(&shared.config, None),
            lanes: Vec::new(),
            lane_of: [Vec::new(), Vec::new(), Vec::new()],
            merge: Merge::new(0, bounds),
            skew: Skew::default(),
            own: BTreeSet::new(),
            waits: false,
            announced: false,
            last_tick_ms: None,
            last_counted_poll_ms: None,
            counts: Counts::default(),
            pages: Pages::default(),
            shared,
        }
    }

    fn topic(&self, name: &Arc<str>) -> Option<RawTopic> {
        RawTopic::ALL.into_iter().find(|topic| {
            let known = self.shared.name(*topic);
            Arc::ptr_eq(known, name) || known == name
        })
    }

    fn lane(&self, topic: &Arc<str>, partition: i32) -> Option<usize> {
        let kind = self.topic(topic)?;
        *self.lane_of[kind as usize].get(usize::try_from(partition).ok()?)?
    }

    /// Takes up the partitions.
    fn assign(&mut self, positions: &[Position]) -> Result<(), StepError> {
        let mut lanes = Vec::with_capacity(positions.len());
        for position in positions {
            let partition = &position.partition;
            let kind = self
                .topic(&partition.topic)
                .ok_or_else(|| StepError::new(format_args!("{partition} is no partition of a raw topic")))?;
            let known = self.shared.raw_partitions.of(kind);
            if !(0..known).contains(&partition.partition) {
                return Err(StepError::new(format_args!(
                    "{partition} is new: the topic had {known} partitions when ingest started; restart every \
                     ingest so that the new sources are announced"
                )));
            }
            lanes.push(
                Lane::new(kind, position)
                    .map_err(|bad| StepError::new(format_args!("{partition}: {bad}")))?,
            );
        }
        lanes.sort_by_key(|lane| (lane.kind, lane.partition.partition));
        for kind in RawTopic::ALL {
            self.lane_of[kind as usize] = vec![None; self.shared.raw_partitions.of(kind) as usize];
        }
        for (at, lane) in lanes.iter().enumerate() {
            self.lane_of[lane.kind as usize][lane.partition.partition as usize] = Some(at);
        }
        self.merge = Merge::new(lanes.len(), self.merge.bounds());
        let greatest_ms = lanes.iter().filter_map(|lane| lane.watermark.greatest_ms()).max();
        self.horizon = Horizon::new(&self.shared.config, greatest_ms);
        self.own = lanes.iter().map(Lane::source).collect();
        self.lanes = lanes;
        let all: i32 = RawTopic::ALL.iter().map(|topic| self.shared.raw_partitions.of(*topic)).sum();
        self.shared.told.assigned(self.lanes.len() == all as usize);
        telemetry::assigned(self.lanes.len(), all as usize);
        Ok(())
    }

    /// Decodes records and puts them into the merge.
    fn take(&mut self, records: &[InRecord], now_ms: i64) -> Result<(), StepError> {
        let shared = Arc::clone(&self.shared);
        let mut decoded = Vec::with_capacity(records.len());
        {
            let catalogue = shared.catalogue.read();
            for record in records {
                let lane = self.lane(&record.topic, record.record.partition).ok_or_else(|| {
                    StepError::new(format_args!(
                        "a record of {}, which is not ours",
                        record.topic_partition()
                    ))
                })?;
                let place = RawPlace {
                    kind: self.lanes[lane].kind,
                    topic: &record.topic,
                    partition: record.record.partition,
                    offset: record.record.offset,
                    timestamp_ms: record.record.timestamp_ms,
                };
                // A record that was read before is in the merge or out already.
                if place.offset >= self.lanes[lane].read {
                    self.lanes[lane].read = place.offset + 1;
                    self.lanes[lane].quiet_polls = 0;
                    let events = shared.decoder.decode(place, record.record.value.as_deref(), &catalogue);
                    decoded.push((lane, record, events));
                }
            }
        }
        self.horizon.look(decoded.iter().filter_map(|(_, _, events)| Some(events.as_ref().ok()?.time_ms())));
        for (lane, record, events) in decoded {
            let events = events.and_then(|events| {
                self.horizon.admit(events.time_ms(), now_ms)?;
                Ok(events)
            });
            let offset = record.record.offset;
            let value_bytes = record.record.value.as_ref().map_or(0, Bytes::len);
            let (time_ms, events_held, what) = match events {
                Ok(events) => (Some(events.time_ms()), events.count(), What::Events(events)),
                Err(refusal) => (None, 1, What::Refused(Box::new((apart(record), refusal)))),
            };
            let bytes = value_bytes + events_held * HELD_OVERHEAD_BYTES;
            self.merge.push(lane, time_ms, bytes, Taken { offset, what });
        }
        Ok(())
    }

    /// A poll that succeeded and gave nothing more.
    fn drained(&mut self, at_end: &[TopicPartition], now_ms: i64) {
        let mut ends = vec![false; self.lanes.len()];
        for partition in at_end {
            if let Some(lane) = self.lane(&partition.topic, partition.partition) {
                ends[lane] = true;
            }
        }
        self.merge.drained(&ends, now_ms);
        let counts = passed(self.last_counted_poll_ms, now_ms, self.shared.config.tick_interval.0);
        if counts {
            self.last_counted_poll_ms = Some(now_ms);
        }
        for (lane, at_end) in self.lanes.iter_mut().zip(ends) {
            if !at_end {
                lane.quiet_polls = 0;
            } else if counts {
                lane.quiet_polls = lane.quiet_polls.saturating_add(1);
            }
        }
    }

    /// The greatest time that may go out, ms, by how far the sources of others have come.
    fn limit_ms(&mut self, now_ms: i64) -> i64 {
        let shared = Arc::clone(&self.shared);
        let (max_skew_ms, lateness_ms) = (shared.config.max_skew.0, shared.config.allowed_lateness.0);
        if max_skew_ms == 0 || self.lanes.is_empty() {
            return i64::MAX;
        }
        let (told, own) = (shared.told.read(), &self.own);
        let is_own = |source: &Source| own.contains(source);
        let slowest = self.skew.slowest(&told, is_own, now_ms, shared.config.skew_wait.0);
        let Some((source, watermark_ms)) = slowest else { return i64::MAX };
        let limit_ms = watermark_ms.saturating_add(max_skew_ms).saturating_add(lateness_ms);
        let waits = self.merge.next_ms().is_some_and(|next| next > limit_ms);
        if waits && !self.waits {
            telemetry::waits(source, watermark_ms);
        }
        limit_ms
    }

    /// Every lane's first item has to wait for others. They must know how far this one has come: what
    /// a lane will put out next moves its watermark, since nothing of it lies before that. Else two
    /// that wait for each other behind a gap in the data would wait for ever.
    fn tell_of_held(&mut self) {
        for (at, time_ms) in self.merge.heads().filter(|(_, time_ms)| *time_ms != i64::MIN) {
            let lane = &mut self.lanes[at];
            lane.idle = false;
            lane.watermark.observe(time_ms, self.shared.config.allowed_lateness.0);
        }
    }

    /// Puts out what the merge lets go, and others.
    fn put_out(&mut self, now_ms: i64, out: &mut Outputs) {
        let limit_ms = self.limit_ms(now_ms);
        self.waits = false;
        while let Some(next_ms) = self.merge.next_ms() {
            if next_ms > limit_ms {
                self.waits = true;
                self.tell_of_held();
                break;
            }
            let Some((at, taken)) = self.merge.pop() else { break };
            let lane = &mut self.lanes[at];
            lane.done = taken.offset + 1;
            lane.moved = true;
            match taken.what {
                What::Refused(refused) => {
                    let (record, refusal) = *refused;
                    telemetry::refused(&lane.partition, taken.offset, refusal.reason, &refusal.message);
                    out.records.push(dead_letter(&self.shared.names.dead_letters, &record, &refusal));
                }
                What::Events(events) => {
                    lane.idle = false;
                    let time_ms = events.time_ms();
                    let late = lane.watermark.late_by_ms(time_ms).zip(lane.watermark.mark_ms());
                    lane.watermark.observe(time_ms, self.shared.config.allowed_lateness.0);
                    let mut send = |event: Box<Event>| {
                        if let Some((late_by_ms, watermark_ms)) = late {
                            self.counts.late += 1;
                            let late = LateEvent { event: *event, watermark_ms, late_by_ms };
                            out.records.push(late_record(&self.shared, &late));
                        } else {
                            self.counts.events += 1;
                            out.records.push(event_record(&self.shared, &mut self.pages, event));
                        }
                    };
                    match events {
                        Events::One(event) => send(event),
                        Events::Lines(events) => events.into_iter().map(Box::new).for_each(send),
                    }
                }
            }
        }
    }

    /// Writes a tick to every partition of `events` if one is due. What it promises is already
    /// out, or the next to go: watermarks move only in [`Self::put_out`].
    fn tick(&mut self, now_ms: i64, out: &mut Outputs) {
        let config = &self.shared.config;
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            if !lane.idle && lane.quiet_polls >= config.idle_polls && self.merge.is_empty(at) {
                lane.idle = true;
            }
        }
        if !passed(self.last_tick_ms, now_ms, config.tick_interval.0)
            || !self.lanes.iter().any(|lane| lane.is_due(config.tick_every.0))
        {
            return;
        }
        self.last_tick_ms = Some(now_ms);
        let label = self.lanes.len() <= MAX_LABELLED_SOURCES;
        let mut ticks = Vec::new();
        for lane in &mut self.lanes {
            if let Some(tick) = lane.tick() {
                telemetry::ticked(&lane.partition, tick.watermark_ms, tick.idle, label);
                ticks.push(tick);
            }
        }
        let value = Protobuf::to_vec(&Entry::Control(Control::Ticks(Ticks { ticks }))).into();
        self.to_all_partitions(&value, &mut out.records);
        self.counts.ticks += 1;
    }

    /// A control record for every partition of `events`.
    fn to_all_partitions(&self, value: &Bytes, records: &mut Vec<OutRecord>) {
        records.extend((0..self.shared.events_partitions).map(|partition| OutRecord {
            topic: Arc::clone(&self.shared.names.events),
            partition: Some(partition),
            key: None,
            value: Some(value.clone()),
            headers: Vec::new(),
        }));
    }

    /// Says what to commit. Every output goes with an offset, that of a tick alone too, so that a
    /// transaction of a fenced worker cannot pass; the first goes with all of them.
    fn report(&mut self, first: bool, out: &mut Outputs) {
        let all = first || !self.lanes.iter().any(|lane| lane.moved);
        out.positions.extend(self.lanes.iter_mut().filter(|lane| all || lane.moved).map(Lane::position));
    }
}

impl Processor for Ingest {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let now_ms = match input {
            Input::Assigned { positions, .. } => return self.assign(positions),
            Input::Records { records, now_ms } => {
                self.take(records, now_ms)?;
                now_ms
            }
            Input::Drained { at_end, now_ms } => {
                self.drained(at_end, now_ms);
                now_ms
            }
        };
        let before = out.records.len();
        self.put_out(now_ms, out);
        self.tick(now_ms, out);
        if out.records.len() > before {
            let first = !self.announced;
            if first {
                self.announced = true;
                let mut set = Vec::new();
                self.to_all_partitions(&self.shared.source_set, &mut set);
                out.records.splice(before..before, set);
            }
            self.report(first, out);
        }
        let paused = self.merge.paused().map(|lane| self.lanes[lane].partition.clone());
        out.pause.extend(paused);
        let counts = std::mem::take(&mut self.counts);
        telemetry::stepped(counts, self.merge.held(), self.merge.held_bytes(), self.waits);
        Ok(())
    }
}

/// Whether the interval has passed since `last`. A clock that went back counts as passed: waiting
/// for it to come back would silence the ticks for as long as it was wrong.
fn passed(last_ms: Option<i64>, now_ms: i64, interval_ms: i64) -> bool {
    last_ms.is_none_or(|last| !(0..interval_ms).contains(&now_ms.saturating_sub(last)))
}

/// The record in memory of its own: it may be held for long, and not all that came with it.
fn apart(record: &InRecord) -> InRecord {
    let mut record = record.clone();
    for bytes in [&mut record.record.key, &mut record.record.value].into_iter().flatten() {
        *bytes = Bytes::copy_from_slice(bytes);
    }
    record
}

fn event_record(shared: &Shared, pages: &mut Pages, event: Box<Event>) -> OutRecord {
    let key = pages.put(event.user.as_bytes());
    OutRecord {
        topic: Arc::clone(&shared.names.events),
        partition: Some(partition_of(&key, shared.events_partitions)),
        key: Some(key),
        value: Some(pages.write(|out| Protobuf::encode(&Entry::Event(event), out))),
        headers: Vec::new(),
    }
}

fn late_record(shared: &Shared, late: &LateEvent) -> OutRecord {
    OutRecord {
        topic: Arc::clone(&shared.names.late_events),
        partition: None,
        key: Some(Bytes::copy_from_slice(late.event.user.as_bytes())),
        value: Some(Protobuf::to_vec(late).into()),
        headers: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
