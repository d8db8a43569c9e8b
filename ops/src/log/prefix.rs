//! What retention has cut from a log, read from the lake: the rows as the records that they were.

use std::collections::VecDeque;
use std::iter::Fuse;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use lake::blocking::BlockingBatches;
use lake::{Order, ScanOptions, Table};
use runtime::processor::InRecord;
use schemas::table::{self, TopicRecord};
use schemas::{Codec, Entry, Json, Protobuf, VectorSchema};

use crate::context::Context;

/// The bytes of a batch's records, in the order of its rows.
type Decode = fn(&RecordBatch, &[VectorSchema]) -> Result<Vec<Vec<u8>>>;

/// The tables that together hold each record of a topic once.
fn tables(context: &Context, topic: &str) -> Vec<(&'static str, Decode)> {
    let n = &context.names;
    let events: Decode = |batch, _| {
        let rows = table::events::decode(batch)?.into_iter();
        Ok(rows.map(|row| Protobuf::to_vec(&Entry::Event(Box::new(row.event)))).collect())
    };
    let control: Decode = |batch, _| {
        let rows = table::control::decode(batch)?.into_iter();
        Ok(rows.map(|(_, control)| Protobuf::to_vec(&Entry::Control(control))).collect())
    };
    let features: Decode =
        |batch, schemas| Ok(table::features::decode(batch, schemas)?.iter().map(Protobuf::to_vec).collect());
    let labels: Decode = |batch, _| Ok(table::labels::decode(batch)?.iter().map(Protobuf::to_vec).collect());
    let duplicates: Decode =
        |batch, _| Ok(table::duplicates::decode(batch)?.iter().map(Protobuf::to_vec).collect());
    let aggregates: Decode =
        |batch, _| Ok(table::aggregates::decode(batch)?.iter().map(Protobuf::to_vec).collect());
    let entity_tiles: Decode =
        |batch, _| Ok(table::entity_tiles::decode(batch)?.iter().map(Protobuf::to_vec).collect());
    let predictions: Decode =
        |batch, _| Ok(table::predictions::decode(batch)?.iter().map(Json::to_vec).collect());
    let all = [
        (&n.events, table::events::NAME, events),
        (&n.events, table::control::NAME, control),
        (&n.feature_vectors, table::features::NAME, features),
        (&n.labels, table::labels::NAME, labels),
        (&n.duplicates, table::duplicates::NAME, duplicates),
        (&n.aggregates, table::aggregates::NAME, aggregates),
        (&n.entity_tiles, table::entity_tiles::NAME, entity_tiles),
        (&n.predictions, table::predictions::NAME, predictions),
    ];
    all.into_iter().filter(|(of, _, _)| &***of == topic).map(|(_, name, decode)| (name, decode)).collect()
}

/// The records of one partition below an offset, in order, from tables. They have no keys.
pub(crate) struct Prefix {
    topic: Arc<str>,
    partition: i32,
    schemas: Vec<VectorSchema>,
    lanes: Vec<Lane>,
}

struct Lane {
    batches: Fuse<BlockingBatches>,
    decode: Decode,
    ready: VecDeque<(i64, Bytes)>,
}

impl Prefix {
    /// Over the records below `below`; where the tables do not have all of them, why not.
    pub(crate) fn open(
        context: &Context,
        topic: &Arc<str>,
        partition: usize,
        below: i64,
    ) -> Result<Result<Self, String>> {
        let partition = partition as i32;
        let mut lanes = Vec::new();
        for (name, decode) in tables(context, topic) {
            let opened = context.tokio.block_on(Table::try_open(context.store.root_url(), name, None))?;
            let Some(mut table) = opened else { return Ok(Err(format!("there is no table {name}"))) };
            let positions = context.tokio.block_on(table.positions(topic, partition + 1))?;
            let reached = positions.get(partition as usize).copied().flatten().unwrap_or(0);
            if reached < below {
                return Ok(Err(format!("table {name} has reached offset {reached} only")));
            }
            let options = ScanOptions {
                partitions: Some(vec![partition]),
                offsets: Some(0..below),
                order: Order::Place,
                ..ScanOptions::default()
            };
            lanes.push(Lane {
                batches: table.scan_blocking(&options)?.fuse(),
                decode,
                ready: VecDeque::new(),
            });
        }
        let schemas = context.vector_schemas()?;
        let mut prefix = Self { topic: Arc::clone(topic), partition, schemas, lanes };
        match prefix.first_offset()? {
            Some(0) => Ok(Ok(prefix)),
            Some(first) => Ok(Err(format!("its tables begin at offset {first}"))),
            None => Ok(Err("its tables have no row of it".to_owned())),
        }
    }

    /// The lane whose next record comes first, with that record's offset.
    fn front(&mut self) -> Result<Option<(usize, i64)>> {
        let mut front: Option<(usize, i64)> = None;
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            lane.fill(&self.schemas)?;
            if let Some((offset, _)) = lane.ready.front()
                && front.is_none_or(|(_, first)| *offset < first)
            {
                front = Some((at, *offset));
            }
        }
        Ok(front)
    }

    fn first_offset(&mut self) -> Result<Option<i64>> {
        Ok(self.front()?.map(|(_, offset)| offset))
    }

    /// The next record.
    pub(crate) fn next(&mut self) -> Result<Option<InRecord>> {
        let Some((at, _)) = self.front()? else { return Ok(None) };
        let Some((offset, value)) = self.lanes[at].ready.pop_front() else { return Ok(None) };
        let record = TopicRecord {
            partition: self.partition,
            offset,
            timestamp_ms: 0,
            key: None,
            value: Some(value),
            headers: Vec::new(),
        };
        Ok(Some(InRecord { topic: Arc::clone(&self.topic), record }))
    }
}

impl Lane {
    fn fill(&mut self, schemas: &[VectorSchema]) -> Result<()> {
        while self.ready.is_empty() {
            let Some(batch) = self.batches.next() else { return Ok(()) };
            let batch = batch?;
            let places = table::positions(&batch).context("bookkeeping columns")?;
            let values = (self.decode)(&batch, schemas)?;
            self.ready
                .extend(places.iter().map(|place| place.offset).zip(values.into_iter().map(Bytes::from)));
        }
        Ok(())
    }
}
