//! The writer of one table: records in, commits out, its position in the table itself.
//!
//! Holds at most a commit's worth of rows. What it is handed may repeat or overlap with what is
//! committed: that is dropped by its place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use schemas::table::{RowEncoder, TopicRecord};
use schemas::{DecodeError, Place};

use crate::append::{Appended, Progress};
use crate::clock::instant;
use crate::encode::places;
use crate::error::{Error, Result};
use crate::ledger::{Ledger, Move};
use crate::table::{Table, app_id};
use crate::{Config, telemetry};

/// Times that a batch meets another writer of the same partitions before that is an error.
const RIVALS: usize = 16;

/// Writes one table, its rows made by an encoder.
pub struct Writer<E: RowEncoder + ?Sized = dyn RowEncoder> {
    table: Table,
    topic: Arc<str>,
    encoder: Box<E>,
    config: Config,
    ledger: Ledger,
    /// Rows that left the encoder and are not known to be committed.
    batch: Option<RecordBatch>,
    bytes: u64,
    /// When the first row of the batch came.
    rows_since: Option<Instant>,
    /// When a position first moved beyond what is committed.
    moved_since: Option<Instant>,
}

impl<E: RowEncoder + ?Sized> Writer<E> {
    /// Opens or creates the table.
    ///
    /// # Errors
    /// As [`Table::open_or_create`].
    pub async fn open(
        root: &str,
        name: &str,
        topic: Arc<str>,
        encoder: Box<E>,
        config: &Config,
    ) -> Result<Self> {
        let table = Table::open_or_create(root, name, &encoder.schema(), config).await?;
        Ok(Self {
            table,
            topic,
            encoder,
            config: config.clone(),
            ledger: Ledger::default(),
            batch: None,
            bytes: 0,
            rows_since: None,
            moved_since: None,
        })
    }

    /// The table, at the version of the last commit.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The table, to compact it. Positions and rows at hand stay as they are.
    pub fn table_mut(&mut self) -> &mut Table {
        &mut self.table
    }

    /// Reads from the table where each partition stands, and returns the next offsets to read;
    /// `None`: nothing of it has been committed yet.
    ///
    /// # Errors
    /// What the store says.
    pub async fn restore(&mut self, partitions: i32) -> Result<Vec<Option<i64>>> {
        let committed = self.table.positions(&self.topic, partitions).await?;
        for (partition, committed) in (0..).zip(&committed) {
            self.ledger.restore(partition, *committed);
        }
        Ok(committed)
    }

    /// The offset that a partition is read from, where nothing of it has been committed yet.
    pub fn begin(&mut self, partition: i32, offset: i64) {
        self.ledger.begin(partition, offset);
    }

    /// Takes a record. One that is in already is dropped.
    ///
    /// # Errors
    /// [`Error::Record`]: the encoder cannot read it. What came before it can still be committed.
    pub fn push(&mut self, record: &TopicRecord) -> Result<()> {
        let place = Place { partition: record.partition, offset: record.offset };
        let size = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let bytes = size(&record.key) + size(&record.value);
        self.push_with(place, bytes, |encoder| encoder.append(record))
    }

    /// Takes what stands at a place and is about so large, in bytes: `append` hands it to the encoder, and
    /// says whether it belongs in the table. What is in already is dropped.
    ///
    /// # Errors
    /// [`Error::Record`]: the encoder cannot take it. What came before it can still be committed.
    pub fn push_with(
        &mut self,
        place: Place,
        bytes: u64,
        append: impl FnOnce(&mut E) -> std::result::Result<bool, DecodeError>,
    ) -> Result<()> {
        if !self.ledger.is_new(place) {
            return Ok(());
        }
        let taken = append(&mut self.encoder).map_err(|source| Error::Record {
            table: self.table.name().to_owned(),
            topic: self.topic.to_string(),
            partition: place.partition,
            offset: place.offset,
            source,
        })?;
        self.ledger.take(place);
        if taken {
            self.bytes += bytes;
            self.rows_since.get_or_insert_with(instant);
        }
        self.moved_since.get_or_insert_with(instant);
        Ok(())
    }

    /// Everything before the offset was pushed; what lies between is no record.
    pub fn advance(&mut self, partition: i32, offset: i64) {
        if self.ledger.advance(partition, offset) {
            self.moved_since.get_or_insert_with(instant);
        }
    }

    /// Rows that wait for a commit.
    pub fn waiting(&self) -> usize {
        self.encoder.len() + self.batch.as_ref().map_or(0, RecordBatch::num_rows)
    }

    /// Whether the batch is large enough, or has waited long enough, to be committed.
    pub fn due(&self) -> bool {
        let passed = |since: Option<Instant>, interval: Duration| {
            since.is_some_and(|since| instant().saturating_duration_since(since) >= interval)
        };
        self.full()
            || passed(self.rows_since, self.config.commit_interval.as_duration())
            || passed(self.moved_since, self.config.idle_commit_interval.as_duration())
    }

    /// Whether the batch is as large as a commit may be.
    pub fn full(&self) -> bool {
        self.waiting() >= self.config.max_rows || self.bytes >= self.config.max_bytes
    }

    /// Whether there is anything to commit.
    pub fn dirty(&self) -> bool {
        self.moved_since.is_some()
    }

    /// Per partition, the offset before which everything that belongs in the table is in it.
    pub fn reached(&self) -> BTreeMap<i32, i64> {
        self.ledger.reached(self.waiting() == 0)
    }

    /// Commits what waits and the positions. On an error nothing is lost: call it again.
    ///
    /// # Errors
    /// What the store says; [`Error::Moved`] if other writers of the same partitions are faster
    /// all the time.
    pub async fn commit(&mut self) -> Result<Appended> {
        let started = instant();
        self.collect()?;
        for _ in 0..RIVALS {
            let progress = self.progress();
            let schema = self.encoder.schema();
            let rows = self.batch.clone().unwrap_or_else(|| RecordBatch::new_empty(schema));
            if progress.is_empty() && rows.num_rows() == 0 {
                self.settle(&[]);
                return Ok(Appended { version: self.table.version(), ..Appended::default() });
            }
            match self.table.append(rows, &progress, self.config.zstd_level).await {
                Ok(appended) => {
                    self.settle(&progress);
                    let took = instant().saturating_duration_since(started);
                    telemetry::committed(self.table.name(), &appended, took);
                    return Ok(appended);
                }
                Err(Error::Moved { app, found, .. }) => {
                    tracing::warn!(table = self.table.name(), app, ?found, "the table has moved on");
                    self.reload().await?;
                }
                Err(error) => {
                    // The commit may have been made: the positions will say so next time.
                    if let Err(error) = self.reload().await {
                        tracing::debug!(table = self.table.name(), %error, "cannot look at the table either");
                    }
                    return Err(error);
                }
            }
        }
        Err(Error::Moved {
            table: self.table.name().to_owned(),
            app: self.topic.to_string(),
            expected: None,
            found: None,
        })
    }

    fn collect(&mut self) -> Result<()> {
        if self.encoder.is_empty() {
            return Ok(());
        }
        let new = self.encoder.finish();
        self.batch = Some(match self.batch.take() {
            None => new,
            Some(old) => arrow::compute::concat_batches(&new.schema(), [&old, &new])
                .map_err(Error::arrow(self.table.name()))?,
        });
        Ok(())
    }

    fn progress(&self) -> Vec<Progress> {
        let app = |partition| app_id(&self.topic, partition);
        let moves = self.ledger.moves();
        moves.map(|Move { partition, from, next }| Progress { app: app(partition), from, next }).collect()
    }

    fn settle(&mut self, progress: &[Progress]) {
        if !progress.is_empty() {
            self.ledger.settle();
        }
        self.batch = None;
        self.bytes = 0;
        self.rows_since = None;
        self.moved_since = None;
    }

    /// Takes the positions from the table and drops the rows that are in: both or, on an error, neither. Rows that
    /// were kept beside positions that are newer would be added once more.
    async fn reload(&mut self) -> Result<()> {
        self.table.refresh().await?;
        let mut ledger = self.ledger.clone();
        for partition in self.ledger.partitions() {
            let committed = self.table.committed(&app_id(&self.topic, partition)).await?;
            ledger.reload(partition, committed);
        }
        let batch = self.batch.as_ref().map(|batch| self.rest(batch, &ledger)).transpose()?;
        self.batch = batch.filter(|rest| rest.num_rows() > 0);
        self.ledger = ledger;
        Ok(())
    }

    /// The rows that are not in.
    fn rest(&self, batch: &RecordBatch, ledger: &Ledger) -> Result<RecordBatch> {
        let (partitions, offsets) = places(self.table.name(), batch)?;
        let keep: BooleanArray = partitions
            .iter()
            .zip(offsets)
            .map(|(&partition, &offset)| Some(!ledger.is_in(Place { partition, offset })))
            .collect();
        filter_record_batch(batch, &keep).map_err(Error::arrow(self.table.name()))
    }
}
