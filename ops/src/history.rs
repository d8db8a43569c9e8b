//! The history of `events` in the lake: the entries of one partition as the log had them, from the
//! tables `events` and `control`.
//!
//! A batch of each open file is in memory, whatever the size of the tables.

use std::iter::{Fuse, Peekable};
use std::ops::Range;
use std::vec;

use anyhow::{Context as _, Result};
use arrow::array::{BooleanArray, StringArray};
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use lake::blocking::BlockingBatches;
use lake::{Order, ScanOptions, Table};
use schemas::table;
use schemas::{Control, Entry, Event, Place};

use crate::context::Context;

/// Rows of a batch that is decoded at once.
const BATCH_ROWS: usize = 4_096;

/// Which events are read; control records always are.
#[derive(Debug, Clone)]
pub(crate) enum Events {
    /// None.
    None,
    /// Those of one user.
    Of(String),
    /// Those from an offset on.
    From(i64),
}

/// How many partitions `events` has: as was recorded when the topic was made, else as the cluster says.
pub(crate) fn partitions_of_events(context: &Context) -> Result<i32> {
    let topic = &context.names.events;
    if let Some(recorded) = runtime::kafka::recorded_topic(&context.store, topic)? {
        return Ok(recorded.partitions);
    }
    let there = context.admin.partitions(topic)?;
    there.with_context(|| format!("there is no topic {topic}; `salience topics create` makes it"))
}

/// The tables that together hold each record of `events` once, at one version each.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Customers' events.
    pub(crate) events: Table,
    control: Table,
    /// Per partition, the offset before which both tables have everything.
    pub(crate) ends: Vec<i64>,
}

impl Stored {
    /// At their newest versions, over so many partitions of `events`; `None` where the lake has not
    /// made them.
    pub(crate) fn open(context: &Context, partitions: i32) -> Result<Option<Self>> {
        context.tokio.block_on(async {
            let root = context.store.root_url();
            let events = Table::try_open(root, table::events::NAME, None).await?;
            let control = Table::try_open(root, table::control::NAME, None).await?;
            let (Some(mut events), Some(mut control)) = (events, control) else { return Ok(None) };
            let topic = &context.names.events;
            let both =
                [events.positions(topic, partitions).await?, control.positions(topic, partitions).await?];
            let [ends, others] = both;
            let ends = ends.into_iter().zip(others).map(|(a, b)| a.min(b).unwrap_or(0)).collect();
            Ok(Some(Self { events, control, ends }))
        })
    }

    /// The entries of one partition at these offsets, in order.
    pub(crate) fn read(&self, partition: i32, offsets: Range<i64>, events: &Events) -> Result<History> {
        let scan = |table: &Table, offsets: Range<i64>| -> Result<Fuse<BlockingBatches>> {
            let options = ScanOptions {
                partitions: Some(vec![partition]),
                offsets: Some(offsets),
                order: Order::Place,
                batch_rows: BATCH_ROWS,
                ..ScanOptions::default()
            };
            Ok(table.scan_blocking(&options)?.fuse())
        };
        let user = match events {
            Events::Of(user) => Some(user.clone()),
            _ => None,
        };
        let customers = match events {
            Events::None => None,
            Events::Of(_) => Some(scan(&self.events, offsets.clone())?),
            Events::From(begin) => Some(scan(&self.events, offsets.start.max(*begin)..offsets.end)?),
        };
        let decode = move |batch: &RecordBatch| {
            let rows = match &user {
                Some(user) => table::events::decode(&of_user(batch, user)?)?,
                None => table::events::decode(batch)?,
            };
            Ok(rows.into_iter().map(|row| (row.place, row.event)).collect())
        };
        Ok(History {
            events: customers.map(|batches| Lane::new(batches, Box::new(decode))),
            control: Lane::new(
                scan(&self.control, offsets)?,
                Box::new(|batch| Ok(table::control::decode(batch)?)),
            ),
        })
    }
}

impl Stored {
    /// Where the history of a partition begins, unless that is its beginning: each partition of `events`
    /// begins with the set of sources.
    pub(crate) fn cut(&self, partition: i32) -> Result<Option<i64>> {
        let end = self.ends.get(partition as usize).copied().unwrap_or(0);
        Ok(match self.read(partition, 0..end, &Events::From(0))?.next()? {
            None | Some((_, Entry::Control(Control::Sources(_)))) => None,
            Some((place, _)) => Some(place.offset),
        })
    }
}

/// The rows of one user.
fn of_user(batch: &RecordBatch, user: &str) -> Result<RecordBatch> {
    let users = batch.column_by_name("user").and_then(|column| column.as_any().downcast_ref::<StringArray>());
    let users = users.context("table events, column user: is absent or no text")?;
    let keep: BooleanArray = users.iter().map(|name| Some(name == Some(user))).collect();
    Ok(filter_record_batch(batch, &keep)?)
}

/// Entries of one partition, in order.
pub(crate) struct History {
    events: Option<Lane<Event>>,
    control: Lane<Control>,
}

impl History {
    /// The next entry.
    pub(crate) fn next(&mut self) -> Result<Option<(Place, Entry)>> {
        let control = self.control.front()?;
        let event = match &mut self.events {
            Some(events) => events.front()?,
            None => None,
        };
        let event_first = match (event, control) {
            (Some(event), Some(control)) => event.offset < control.offset,
            (event, _) => event.is_some(),
        };
        Ok(match &mut self.events {
            Some(events) if event_first => {
                events.ready.next().map(|(place, event)| (place, Entry::Event(Box::new(event))))
            }
            _ => self.control.ready.next().map(|(place, control)| (place, Entry::Control(control))),
        })
    }
}

type Decode<T> = Box<dyn Fn(&RecordBatch) -> Result<Vec<(Place, T)>> + Send>;

/// The rows of one table.
struct Lane<T> {
    batches: Fuse<BlockingBatches>,
    decode: Decode<T>,
    ready: Peekable<vec::IntoIter<(Place, T)>>,
}

impl<T> Lane<T> {
    fn new(batches: Fuse<BlockingBatches>, decode: Decode<T>) -> Self {
        Self { batches, decode, ready: Vec::new().into_iter().peekable() }
    }

    /// Where the next row's record stands.
    fn front(&mut self) -> Result<Option<Place>> {
        while self.ready.peek().is_none() {
            let Some(batch) = self.batches.next() else { return Ok(None) };
            self.ready = (self.decode)(&batch?)?.into_iter().peekable();
        }
        Ok(self.ready.peek().map(|(place, _)| *place))
    }
}
