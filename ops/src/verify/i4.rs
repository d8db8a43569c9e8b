//! I4: every table is the image of its topic.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, anyhow};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt as _;
use lake::{Batches, Order, ScanOptions, Table};
use schemas::table::{OFFSET_COLUMN, PARTITION_COLUMN, RowEncoder};

use super::{Options, Outcome};
use crate::context::Context;
use crate::log::{Cursor, Range};

/// Rows compared at once.
const BLOCK: usize = 8192;

pub(super) fn check(context: &Context, options: Options) -> Result<Outcome> {
    let mut outcome =
        Outcome::new("I4", "every table is the image of its topic: each record once, none missing");
    for spec in crate::tables::specs(context) {
        let opened = context.tokio.block_on(Table::try_open(context.store.root_url(), &spec.table, None));
        let table = match opened {
            Ok(Some(table)) => table,
            Ok(None) => {
                outcome.out_of_scope(format!("{}: there is no such table yet", spec.table));
                continue;
            }
            Err(error) => {
                outcome.differs(format!("{}: {error}", spec.table));
                continue;
            }
        };
        if options.recompute {
            let checked = context.tokio.block_on(table.check_files())?;
            for damaged in &checked.damaged {
                outcome.differs(damaged.to_string());
            }
            if !checked.damaged.is_empty() {
                // Decoding what is known to be damaged would tell nothing more.
                continue;
            }
        }
        image(context, &spec, table, options, &mut outcome)?;
    }
    Ok(outcome)
}

fn image(
    context: &Context,
    spec: &lake::TableSpec,
    mut table: Table,
    options: Options,
    outcome: &mut Outcome,
) -> Result<()> {
    let reader = context.reader()?;
    let partitions = reader.end_offsets(&spec.topic)?.len();
    let positions = context.tokio.block_on(table.positions(&spec.topic, partitions as i32))?;
    let end: Vec<i64> = positions.iter().map(|p| p.unwrap_or(0)).collect();
    let range = Range::to(context, &spec.topic, &end)?;
    let mut encoder =
        (spec.encoder)().map_err(|error| anyhow!("table {}: its columns: {error}", spec.table))?;
    // A column that is declared and has no value yet may be none of the table's.
    let has = |name: &String| table.schema().field_with_name(name).is_ok();
    let stored_columns: Vec<String> = columns(&encoder.schema(), options).into_iter().filter(has).collect();
    let mut rows = 0;
    for partition in 0..partitions {
        let (begin, end) = (range.begin[partition], range.end[partition]);
        if begin > 0 {
            outcome.out_of_scope(format!(
                "{}: {}[{partition}] below offset {begin}: cut by retention",
                spec.table, spec.topic
            ));
        }
        if begin >= end {
            continue;
        }
        let mut log = Cursor::new(context, &range, partition)?;
        let at = format!("{} of {}[{partition}]", spec.table, spec.topic);
        match rows_of(context, &table, &stored_columns, partition, begin..end) {
            Ok(mut stored) => {
                rows += compare(encoder.as_mut(), &mut log, &mut stored, &at, options, outcome)?;
            }
            Err(error) => outcome.differs(format!("{at}: {error:#}")),
        }
    }
    let what = if options.recompute { "column by column" } else { "by place" };
    if range.begin.iter().zip(&range.end).any(|(begin, end)| begin < end) {
        outcome.checked(format!("{}: {rows} rows against {}, {what}", spec.table, spec.topic));
    }
    Ok(())
}

fn columns(schema: &SchemaRef, options: Options) -> Vec<String> {
    if options.recompute {
        schema.fields().iter().map(|field| field.name().clone()).collect()
    } else {
        vec![PARTITION_COLUMN.to_owned(), OFFSET_COLUMN.to_owned()]
    }
}

fn rows_of(
    context: &Context,
    table: &Table,
    columns: &[String],
    partition: usize,
    offsets: std::ops::Range<i64>,
) -> Result<Stored> {
    let scan = ScanOptions {
        columns: Some(columns.to_vec()),
        partitions: Some(vec![partition as i32]),
        offsets: Some(offsets),
        order: Order::Place,
        batch_rows: BLOCK,
        ..ScanOptions::default()
    };
    let handle = context.tokio.handle().clone();
    Ok(Stored { batches: table.scan(&scan)?, handle, ready: VecDeque::new(), rows: 0 })
}

/// The rows of a scan, in blocks of any size.
struct Stored {
    batches: Batches,
    handle: tokio::runtime::Handle,
    ready: VecDeque<RecordBatch>,
    rows: usize,
}

impl Stored {
    /// The next `count` rows; fewer at the end, `None` where there are none.
    fn take(&mut self, count: usize) -> Result<Option<RecordBatch>> {
        while self.rows < count {
            let Some(batch) = self.handle.block_on(self.batches.next()) else { break };
            let batch = batch?;
            self.rows += batch.num_rows();
            self.ready.push_back(batch);
        }
        let mut parts = Vec::new();
        let mut wanted = count.min(self.rows);
        self.rows -= wanted;
        while wanted > 0 {
            let Some(batch) = self.ready.pop_front() else { break };
            let here = wanted.min(batch.num_rows());
            parts.push(batch.slice(0, here));
            if here < batch.num_rows() {
                self.ready.push_front(batch.slice(here, batch.num_rows() - here));
            }
            wanted -= here;
        }
        let Some(schema) = parts.first().map(RecordBatch::schema) else { return Ok(None) };
        Ok(Some(concat_batches(&schema, &parts)?))
    }
}

/// Compares the partition's records, encoded again, with the table's rows, in order; how many rows.
fn compare(
    encoder: &mut dyn RowEncoder,
    log: &mut Cursor<'_>,
    stored: &mut Stored,
    at: &str,
    options: Options,
    outcome: &mut Outcome,
) -> Result<u64> {
    let wanted = columns(&encoder.schema(), options);
    let mut rows = 0;
    loop {
        let mut end = true;
        while let Some(record) = log.next()? {
            let place = record.record.offset;
            encoder.append(&record.record).with_context(|| format!("{at} offset {place}"))?;
            if encoder.len() == BLOCK {
                end = false;
                break;
            }
        }
        let expected = encoder.finish();
        let count = expected.num_rows();
        let found = match stored.take(if end { count + 1 } else { count }) {
            Ok(found) => found,
            Err(error) => {
                outcome.differs(format!("{at}: {error:#}"));
                return Ok(rows);
            }
        };
        rows += count as u64;
        let nothing = found.is_none() && count == 0;
        if !nothing && !block(&expected, found.as_ref(), &wanted, at, outcome)? {
            return Ok(rows);
        }
        if end {
            return Ok(rows);
        }
    }
}

/// Compares one block; whether the next one may be compared.
fn block(
    expected: &RecordBatch,
    found: Option<&RecordBatch>,
    wanted: &[String],
    at: &str,
    outcome: &mut Outcome,
) -> Result<bool> {
    let in_topic = offsets(expected)?;
    let in_table = found.map(offsets).transpose()?.unwrap_or_default();
    if in_topic != in_table {
        let same = in_topic.iter().zip(&in_table).take_while(|(a, b)| a == b).count();
        let (topic, table) = (in_topic.get(same), in_table.get(same));
        let what = match (topic, table) {
            (Some(t), Some(row)) if row < t && same > 0 && in_table[same - 1] == *row => {
                format!("offset {row} is in the table more than once")
            }
            (Some(t), Some(row)) if row < t => format!("offset {row} is in the table, not in the topic"),
            (Some(t), _) => format!("offset {t} is in the topic, not in the table"),
            (None, Some(row)) if same > 0 && in_table[same - 1] == *row => {
                format!("offset {row} is in the table more than once")
            }
            (None, Some(row)) => format!("offset {row} is in the table, not in the topic"),
            (None, None) => "lengths differ".to_owned(),
        };
        outcome.differs(format!("{at}: {what}"));
        return Ok(false);
    }
    let Some(found) = found else { return Ok(true) };
    for name in wanted {
        let column = |batch: &RecordBatch| batch.column_by_name(name).cloned();
        let a = column(expected).ok_or_else(|| anyhow!("{at}: no column {name}"))?;
        let Some(b) = column(found) else {
            // Nothing is the same as nothing.
            if a.null_count() < a.len() {
                outcome.differs(format!("{at}: no column {name}, and there are values for it"));
            }
            continue;
        };
        if a.as_ref() != b.as_ref() {
            let row =
                (0..a.len()).find(|row| a.slice(*row, 1).as_ref() != b.slice(*row, 1).as_ref()).unwrap_or(0);
            outcome.differs(format!(
                "{at} offset {}: {name}: stored {}, recomputed {}",
                in_topic[row],
                shown(&b, row)?,
                shown(&a, row)?
            ));
        }
    }
    Ok(true)
}

fn offsets(batch: &RecordBatch) -> Result<Vec<i64>> {
    let column = batch.column_by_name(OFFSET_COLUMN).context("no column of offsets")?;
    let column = column.as_primitive_opt::<Int64Type>().context("offsets are not Int64")?;
    Ok(column.values().to_vec())
}

fn shown(column: &ArrayRef, row: usize) -> Result<String> {
    let options = FormatOptions::default().with_null("null");
    Ok(ArrayFormatter::try_new(column, &options)?.value(row).to_string())
}
