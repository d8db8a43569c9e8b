//! Examples from the lake: `labels` joined to `features` by place, at pinned table versions, as
//! streams. One pass over each; in memory are the targets and the encoded examples, never vectors.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use arrow::array::{Array, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::DataType;
use futures::StreamExt as _;
use lake::{Order, ScanOptions, Table};
use model::encode::Outcome;
use model::{EncodedSet, Encoder, Examples};
use runtime::shutdown::Shutdown;
use schemas::VectorSchema;
use schemas::table::{features, labels};
use tokio::runtime::Handle;

use crate::Error;
use crate::gate;
use crate::join::{Labels, Selection};
use crate::run::Data;

/// Table versions that a run reads: by table name.
pub type Pins = BTreeMap<String, u64>;

/// The tables that training reads.
pub const TABLES: [&str; 2] = [labels::NAME, features::NAME];

/// The current versions of the tables that training reads, and the label records in them.
/// Labels are pinned first: the vectors of a label are written before it.
///
/// # Errors
/// [`Error::NoTable`] while one is not there yet; what the lake says.
pub async fn pin(root: &str) -> Result<(Pins, u64), Error> {
    let mut pins = Pins::new();
    let mut records = 0;
    for name in TABLES {
        let table = Table::try_open(root, name, None)
            .await?
            .ok_or_else(|| Error::NoTable { table: name.to_owned() })?;
        if name == labels::NAME {
            records = table.row_count()?;
        }
        pins.insert(name.to_owned(), table.version());
    }
    Ok((pins, records))
}

/// The examples of a run, in order of event time, then place.
#[derive(Debug)]
pub struct Dataset {
    set: EncodedSet,
    /// Positions in the set, in order of the examples.
    order: Vec<usize>,
    /// Event times, in that order.
    times: Vec<i64>,
    /// Campaign of each position in the set, as a position in `campaigns`.
    campaign: Vec<u32>,
    campaigns: Vec<String>,
    data: Data,
}

impl Dataset {
    /// Reads the examples. Blocks its thread: for threads of their own, never a runtime's.
    ///
    /// # Errors
    /// What the lake says, rows that are no records, [`Error::Stopped`] when asked to stop.
    pub fn read(
        root: &str,
        pins: &Pins,
        schema: &VectorSchema,
        encoder: &Encoder,
        max_rows: usize,
        handle: &Handle,
        stop: &Shutdown,
    ) -> Result<Self, Error> {
        let mut collected = Labels::new(max_rows);
        scan(root, labels::NAME, pins, handle, stop, |batch| {
            for label in labels::decode(&batch)? {
                collected.add(&label);
            }
            Ok(())
        })?;
        let labels_seen = collected.seen;
        let mut builder = Builder::new(collected.finish(), schema, encoder);
        scan(root, features::NAME, pins, handle, stop, |batch| builder.add(&batch))?;
        let version = pins.get(features::NAME).copied().unwrap_or_default();
        let dataset = builder.finish(labels_seen)?;
        if dataset.data.rows == 0 && dataset.data.skipped_vectors > 0 {
            return Err(Error::Fingerprint { version, fingerprint: schema.fingerprint() });
        }
        Ok(dataset)
    }

    /// What was read, in numbers.
    pub const fn data(&self) -> Data {
        self.data
    }

    /// Event times of the examples, ascending, ms.
    pub fn times(&self) -> &[i64] {
        &self.times
    }

    /// The examples at these positions of the order.
    pub fn part(&self, range: &Range<usize>) -> Examples<'_> {
        self.set.select(self.order[range.clone()].iter().copied())
    }

    /// What came of them, for the gate.
    pub fn outcomes(&self, range: &Range<usize>) -> Vec<gate::Outcome<'_>> {
        let outcomes = self.set.outcomes();
        self.order[range.clone()]
            .iter()
            .map(|&at| {
                let Outcome { clicked, purchased, matured, .. } = outcomes[at];
                gate::Outcome {
                    campaign: &self.campaigns[self.campaign[at] as usize],
                    clicked,
                    purchased: matured.then_some(purchased),
                }
            })
            .collect()
    }

    /// The share of these examples that were clicked.
    pub fn click_rate(&self, range: &Range<usize>) -> f64 {
        let clicked = self.order[range.clone()].iter().filter(|&&at| self.set.outcomes()[at].clicked).count();
        clicked as f64 / range.len().max(1) as f64
    }
}

/// Encodes the vectors of selected places as they stream by.
struct Builder<'a> {
    selection: Selection,
    schema: &'a VectorSchema,
    set: EncodedSet,
    /// Position in the order of each position in the set.
    rank: Vec<usize>,
    campaign: Vec<u32>,
    known: HashMap<String, u32>,
    skipped: u64,
}

impl<'a> Builder<'a> {
    fn new(selection: Selection, schema: &'a VectorSchema, encoder: &Encoder) -> Self {
        Self {
            selection,
            schema,
            set: EncodedSet::new(encoder),
            rank: Vec::new(),
            campaign: Vec::new(),
            known: HashMap::new(),
            skipped: 0,
        }
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let ours = of_schema(batch, self.schema)?;
        self.skipped += (batch.num_rows() - ours.num_rows()) as u64;
        if ours.num_rows() == 0 {
            return Ok(());
        }
        for vector in features::decode(&ours, self.schema)? {
            let Some(&rank) = self.selection.index.get(&vector.place) else { continue };
            let outcome = self.selection.targets[rank].outcome(self.selection.clock_ms);
            self.set.push_outcome(&vector, outcome, 1.0).map_err(|error| Error::Model(error.to_string()))?;
            self.rank.push(rank);
            let next = self.known.len() as u32;
            self.campaign.push(*self.known.entry(vector.campaign).or_insert(next));
        }
        Ok(())
    }

    fn finish(self, labels: u64) -> Result<Dataset, Error> {
        let mut order: Vec<usize> = (0..self.rank.len()).collect();
        order.sort_unstable_by_key(|&at| self.rank[at]);
        if let Some(twice) = order.windows(2).find(|pair| self.rank[pair[0]] == self.rank[pair[1]]) {
            let place = &self.selection.places[self.rank[twice[0]]];
            return Err(Error::Damaged {
                path: format!("table {}", features::NAME),
                what: format!("holds two vectors of the event at {place}"),
            });
        }
        let times = order.iter().map(|&at| self.set.times()[at]).collect();
        let mut campaigns = vec![String::new(); self.known.len()];
        for (name, at) in self.known {
            campaigns[at as usize] = name;
        }
        let outcomes = self.set.outcomes();
        let count = |of: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| of(outcome)).count();
        let data = Data {
            labels,
            rows: order.len(),
            without_vector: self.selection.places.len() - order.len(),
            skipped_vectors: self.skipped,
            clicked: count(|o| o.clicked),
            matured: count(|o| o.matured),
            purchased: count(|o| o.matured && o.purchased),
        };
        Ok(Dataset { set: self.set, order, times, campaign: self.campaign, campaigns, data })
    }
}

/// The rows whose numbers the schema names. A table that outlived a change of the declared features
/// holds others too.
fn of_schema(batch: &RecordBatch, schema: &VectorSchema) -> Result<RecordBatch, Error> {
    let wanted = format!("{:016x}", schema.fingerprint());
    let damaged = |what: String| Error::Damaged { path: format!("table {}", features::NAME), what };
    let column =
        batch.column_by_name("fingerprint").ok_or_else(|| damaged("has no column fingerprint".to_owned()))?;
    let column = cast(column, &DataType::Utf8).map_err(|error| damaged(error.to_string()))?;
    let Some(texts) = column.as_any().downcast_ref::<StringArray>() else {
        return Err(damaged("column fingerprint is no text".to_owned()));
    };
    let keep: BooleanArray = texts.iter().map(|text| Some(text == Some(wanted.as_str()))).collect();
    if keep.true_count() == batch.num_rows() {
        return Ok(batch.clone());
    }
    filter_record_batch(batch, &keep).map_err(|error| damaged(error.to_string()))
}

/// Hands the batches of a pinned table to `take`, in the order of its topic.
fn scan(
    root: &str,
    name: &str,
    pins: &Pins,
    handle: &Handle,
    stop: &Shutdown,
    mut take: impl FnMut(RecordBatch) -> Result<(), Error>,
) -> Result<(), Error> {
    let version = *pins.get(name).ok_or_else(|| Error::NoTable { table: name.to_owned() })?;
    let table = handle.block_on(Table::open_at(root, name, version))?;
    let options = ScanOptions { order: Order::Place, ..ScanOptions::default() };
    let mut batches = table.scan(&options)?;
    while let Some(batch) = handle.block_on(batches.next()) {
        if stop.is_set() {
            return Err(Error::Stopped);
        }
        take(batch?)?;
    }
    Ok(())
}
