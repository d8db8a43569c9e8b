//! A history made by a seed, record by record, straight into the tables `events` and `control`.

use std::sync::Arc;

use anyhow::{Result, bail};
use features::Plan;
use lake::Writer;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Zipf};
use schemas::table::{self, TopicRecord};
use schemas::{
    Codec as _, Control, Entry, Event, Kind, Origin, Place, Protobuf, Source, SourceSet, Tick, Ticks,
};

use super::Options;
use super::stream::{Sampled, Stream};
use crate::context::Context;

/// When the history begins, ms.
const START_MS: i64 = 1_760_000_000_000;
const DAY_MS: i64 = 86_400_000;
/// Nothing comes later than this, ms.
const LATENESS_MS: i64 = 60_000;
const ITEMS: u32 = 20_000;
const CAMPAIGNS: u32 = 200;
const EVENTS_PER_USER: u64 = 20;
/// Events between two ticks.
const TICK_EVERY: u64 = 1_000;

/// The history's tables while they are written.
struct History<'a> {
    context: &'a Context,
    tables: [Writer; 2],
    /// Next offset of each partition.
    next: Vec<i64>,
    /// What the services make of it, where that is asked for.
    stream: Option<Stream>,
}

impl History<'_> {
    fn push(&mut self, partition: i32, entry: &Entry) -> Result<()> {
        let offset = &mut self.next[partition as usize];
        let value = Some(Protobuf::to_vec(entry).into());
        let record = TopicRecord {
            partition,
            offset: *offset,
            timestamp_ms: START_MS,
            key: None,
            value,
            headers: Vec::new(),
        };
        if let Some(stream) = &mut self.stream {
            stream.step(entry, Place { partition, offset: *offset });
        }
        *offset += 1;
        for writer in &mut self.tables {
            writer.push(&record)?;
            if writer.full() {
                self.context.tokio.block_on(writer.commit())?;
            }
        }
        Ok(())
    }

    fn push_all(&mut self, control: Control) -> Result<()> {
        let entry = Entry::Control(control);
        (0..self.next.len() as i32).try_for_each(|partition| self.push(partition, &entry))
    }

    /// Puts versions of shared entities into the log that have become ready.
    fn push_versions(&mut self) -> Result<()> {
        while let Some(version) = self.stream.as_mut().and_then(Stream::next_version) {
            self.push_all(Control::Entities(version))?;
        }
        Ok(())
    }
}

/// What was made.
pub(super) struct Made {
    pub(super) views: u64,
    pub(super) sample: Vec<Sampled>,
}

/// Writes the history.
pub(super) fn make(context: &Context, options: &Options) -> Result<Made> {
    let mut tables = Vec::new();
    for (name, encoder) in
        [(table::events::NAME, table::events::encoder()), (table::control::NAME, table::control::encoder())]
    {
        let (root, topic) = (context.store.root_url(), Arc::clone(&context.names.events));
        tables.push(context.tokio.block_on(Writer::open(
            root,
            name,
            topic,
            encoder,
            &context.config.lake,
        ))?);
    }
    let Ok(tables) = <[Writer; 2]>::try_from(tables) else { bail!("two tables hold a history") };
    let stream = if options.sample > 0 {
        let plan = Arc::new(Plan::compile(&context.config.features)?);
        Some(Stream::new(&plan, options.partitions, options.sample))
    } else {
        None
    };
    let mut history = History { context, tables, next: vec![0; options.partitions as usize], stream };
    for partition in 0..options.partitions {
        history.tables.iter_mut().for_each(|writer| writer.begin(partition, 0));
    }
    let source = Source { topic: "views".to_owned(), partition: 0 };
    history.push_all(Control::Sources(SourceSet { sources: vec![source.clone()] }))?;

    let mut random = ChaCha8Rng::seed_from_u64(42);
    let users = Zipf::new((options.events / EVENTS_PER_USER).max(1) as f64, 0.8)?;
    let items = Zipf::new(f64::from(ITEMS), 1.1)?;
    let span_ms = i64::from(options.days.max(1)) * DAY_MS;
    let mut views = 0;
    for number in 0..options.events {
        let arrives_ms = START_MS + (span_ms as f64 * (number as f64 / options.events as f64)) as i64;
        if number.is_multiple_of(TICK_EVERY) {
            let tick = Tick { source: source.clone(), watermark_ms: arrives_ms - LATENESS_MS, idle: false };
            history.push_all(Control::Ticks(Ticks { ticks: vec![tick] }))?;
            history.push_versions()?;
        }
        let late_ms = if random.random::<f64>() < 0.02 { random.random_range(0..LATENESS_MS) } else { 0 };
        let kind = match random.random::<f64>() {
            share if share < 0.80 => Kind::View,
            share if share < 0.97 => Kind::Click,
            _ => Kind::Purchase,
        };
        views += u64::from(kind == Kind::View);
        let (user, item) = (users.sample(&mut random) as u64, items.sample(&mut random) as u32);
        let event = Event {
            origin: Origin {
                topic: "views".to_owned(),
                partition: 0,
                offset: number as i64,
                line: 0,
                lines: 1,
            },
            kind: kind as i32,
            event_id: format!("event-{number:012}"),
            event_time_ms: arrives_ms - late_ms,
            // As long as what ingest makes of a user's name.
            user: format!("k1-{user:032x}"),
            item: format!("item-{item}"),
            campaign: format!("campaign-{}", item % CAMPAIGNS),
            category: format!("category-{}", item % 20),
            value: if kind == Kind::Click { 0.0 } else { f64::from(item % 100) },
            quantity: 1,
            ..Event::default()
        };
        let partition = ingest::partitioner::partition_of(event.user.as_bytes(), options.partitions);
        history.push(partition, &Entry::Event(Box::new(event)))?;
    }
    for writer in &mut history.tables {
        context.tokio.block_on(writer.commit())?;
    }
    Ok(Made { views, sample: history.stream.map_or_else(Vec::new, Stream::sample) })
}
