//! Reading a version of a table, file by file or in the order of its topic, in bounded memory.

use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use futures::stream::{self, BoxStream, StreamExt as _};
use schemas::table::{OFFSET_COLUMN, PARTITION_COLUMN};

use crate::Table;
use crate::error::{Error, Result};
use crate::file::DataFile;
use crate::merge::Merge;
use crate::read::{FileBatches, Want};

/// The order of a scan's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// One file after the other, by first place; each file in (partition, offset) order, or as it is
    /// clustered.
    #[default]
    Files,
    /// (partition, offset) over the whole table, as the topic had them: files of different dates
    /// are merged.
    Place,
}

/// What to read.
#[derive(Debug, Clone)]
pub struct ScanOptions {
    /// Columns, in this order; `None`: all, in the table's.
    pub columns: Option<Vec<String>>,
    /// Days since 1970 UTC, both ends included.
    pub dates: Option<RangeInclusive<i32>>,
    /// Partitions of the topic.
    pub partitions: Option<Vec<i32>>,
    /// Offsets of the topic, the same for every partition.
    pub offsets: Option<Range<i64>>,
    /// The order of the rows.
    pub order: Order,
    /// Rows that a batch has at most.
    pub batch_rows: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            columns: None,
            dates: None,
            partitions: None,
            offsets: None,
            order: Order::Files,
            batch_rows: 8_192,
        }
    }
}

/// Batches of a scan.
pub type Batches = BoxStream<'static, Result<RecordBatch>>;

impl Table {
    /// The rows of this version. Decoding happens where the stream is polled; a few files are
    /// open at a time, a batch of each in memory.
    ///
    /// # Errors
    /// A column that the table lacks, an entry of the log that says too little. The stream: a
    /// file that is missing or damaged, by name.
    pub fn scan(&self, options: &ScanOptions) -> Result<Batches> {
        let scan = Scan::new(self.clone(), self.files()?, options)?;
        Ok(stream::unfold(Some(scan), |scan| async {
            let mut scan = scan?;
            match scan.next().await {
                Ok(None) => None,
                Ok(Some(batch)) => Some((Ok(batch), Some(scan))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed())
    }
}

/// A scan under way.
pub(crate) struct Scan {
    table: Table,
    want: Want,
    order: Order,
    batch_rows: usize,
    /// Positions of the wanted columns in what is read, where more is read than wanted.
    project: Option<Vec<usize>>,
    steps: VecDeque<Step>,
    file: Option<FileBatches>,
    merge: Option<Merge>,
}

enum Step {
    File(Arc<DataFile>),
    Partition(i32, Vec<Arc<DataFile>>),
}

impl Scan {
    pub(crate) fn new(table: Table, files: Vec<DataFile>, options: &ScanOptions) -> Result<Self> {
        let (schema, project) = projection(&table, options)?;
        let files: Vec<Arc<DataFile>> =
            files.into_iter().filter(|file| wanted(file, options)).map(Arc::new).collect();
        let steps = match options.order {
            Order::Files => files.into_iter().map(Step::File).collect(),
            Order::Place => by_partition(&files, options),
        };
        let want = Want {
            schema,
            partitions: options.partitions.clone(),
            offsets: options.offsets.clone(),
            batch_rows: options.batch_rows,
            in_order: options.order == Order::Place,
        };
        let (order, batch_rows) = (options.order, options.batch_rows.max(1));
        Ok(Self { table, want, order, batch_rows, project, steps, file: None, merge: None })
    }

    /// The next rows; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let batch = match self.order {
            Order::Files => self.next_of_file().await?,
            Order::Place => self.next_in_order().await?,
        };
        match (batch, &self.project) {
            (Some(batch), Some(indices)) => {
                batch.project(indices).map(Some).map_err(Error::arrow(&self.table.name))
            }
            (batch, _) => Ok(batch),
        }
    }

    async fn next_of_file(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(file) = &mut self.file {
                if let Some(batch) = file.next().await? {
                    return Ok(Some(batch));
                }
                self.file = None;
            }
            let Some(Step::File(file)) = self.steps.pop_front() else { return Ok(None) };
            self.file = Some(FileBatches::open(&self.table, &file, &self.want).await?);
        }
    }

    /// Runs of rows from the merge, put together to batches of a fair size.
    async fn next_in_order(&mut self) -> Result<Option<RecordBatch>> {
        let mut runs: Vec<RecordBatch> = Vec::new();
        let mut rows = 0;
        while rows < self.batch_rows {
            if self.merge.is_none() {
                let Some(Step::Partition(partition, files)) = self.steps.pop_front() else { break };
                let want = Want { partitions: Some(vec![partition]), ..self.want.clone() };
                self.merge = Some(Merge::new(self.table.clone(), partition, files, want));
            }
            let Some(merge) = &mut self.merge else { break };
            match merge.next(self.batch_rows - rows).await? {
                Some(run) => {
                    rows += run.num_rows();
                    runs.push(run);
                }
                None => self.merge = None,
            }
        }
        match runs.len() {
            0 => Ok(None),
            1 => Ok(runs.pop()),
            _ => concat_batches(&self.want.schema, &runs).map(Some).map_err(Error::arrow(&self.table.name)),
        }
    }
}

/// The columns to read, and which of them to give.
fn projection(table: &Table, options: &ScanOptions) -> Result<(SchemaRef, Option<Vec<usize>>)> {
    let Some(columns) = &options.columns else { return Ok((table.schema(), None)) };
    let field = |name: &str| {
        table.schema.field_with_name(name).cloned().map_err(|_| Error::Schema {
            table: table.name.to_string(),
            column: name.to_owned(),
            what: "is not in the table".to_owned(),
        })
    };
    let mut fields = columns.iter().map(|name| field(name)).collect::<Result<Vec<_>>>()?;
    let given = fields.len();
    if options.order == Order::Place {
        for name in [PARTITION_COLUMN, OFFSET_COLUMN] {
            if !columns.iter().any(|column| column == name) {
                fields.push(field(name)?);
            }
        }
    }
    let project = (fields.len() > given).then(|| (0..given).collect());
    Ok((Arc::new(Schema::new(fields)), project))
}

fn wanted(file: &DataFile, options: &ScanOptions) -> bool {
    let date = options.dates.as_ref().is_none_or(|dates| dates.contains(&file.date));
    let place = file.places.iter().any(|(partition, (first, last))| {
        options.partitions.as_ref().is_none_or(|wanted| wanted.contains(partition))
            && options.offsets.as_ref().is_none_or(|wanted| *first < wanted.end && *last >= wanted.start)
    });
    date && place
}

fn by_partition(files: &[Arc<DataFile>], options: &ScanOptions) -> VecDeque<Step> {
    let mut partitions: std::collections::BTreeMap<i32, Vec<Arc<DataFile>>> =
        std::collections::BTreeMap::new();
    for file in files {
        for partition in file.places.keys() {
            if options.partitions.as_ref().is_none_or(|wanted| wanted.contains(partition)) {
                partitions.entry(*partition).or_default().push(Arc::clone(file));
            }
        }
    }
    partitions.into_iter().map(|(partition, files)| Step::Partition(partition, files)).collect()
}
