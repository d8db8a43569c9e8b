//! Columns: from an encoder's schema to the table's, and a batch into the table's types.
//!
//! Knows the bookkeeping columns and `date`; of the others only names and types.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltalake::kernel::engine::arrow_conversion::{TryIntoArrow as _, TryIntoKernel as _};
use deltalake::kernel::{StructField, StructType};
use schemas::table::{DATE_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN};

use crate::error::{Error, Result};

/// The key of a field's metadata that becomes the column's comment.
pub const COMMENT: &str = "comment";

fn wrong(table: &str, column: &str, what: impl Into<String>) -> Error {
    Error::Schema { table: table.to_owned(), column: column.to_owned(), what: what.into() }
}

/// The columns as Delta's types, for a new table.
pub(crate) fn to_delta(table: &str, schema: &Schema) -> Result<StructType> {
    for (name, wanted) in [
        (PARTITION_COLUMN, DataType::Int32),
        (OFFSET_COLUMN, DataType::Int64),
        (DATE_COLUMN, DataType::Date32),
    ] {
        let field =
            schema.field_with_name(name).map_err(|_| wrong(table, name, "is missing: every table has it"))?;
        if *field.data_type() != wanted || field.is_nullable() {
            return Err(wrong(table, name, format!("must be {wanted} and not null")));
        }
    }
    schema.try_into_kernel().map_err(Error::arrow(table))
}

/// Delta's columns as arrow's: the types that a table's batches have, in and out.
pub(crate) fn to_arrow(table: &str, schema: &StructType) -> Result<SchemaRef> {
    let schema: Schema = schema.try_into_arrow().map_err(Error::arrow(table))?;
    Ok(Arc::new(schema))
}

/// Columns that the encoder has and the table lacks. They may be added if old rows can do
/// without them.
pub(crate) fn added(table: &str, have: &StructType, want: &StructType) -> Result<Vec<StructField>> {
    let mut added = Vec::new();
    for field in want.fields() {
        match have.field(field.name()) {
            None if field.is_nullable() => added.push(field.clone()),
            None => {
                let what = "is new and not null: rows of old would lack it";
                return Err(wrong(table, field.name(), what));
            }
            Some(old) if old.data_type() != field.data_type() => {
                let what =
                    format!("was {} and is now {}; use a new table", old.data_type(), field.data_type());
                return Err(wrong(table, field.name(), what));
            }
            Some(_) => {}
        }
    }
    for field in have.fields().filter(|field| !field.is_nullable()) {
        if want.field(field.name()).is_none() {
            return Err(wrong(table, field.name(), "is not null, and no longer written"));
        }
    }
    Ok(added)
}

/// The fields that lie in a data file: all but the partition column.
pub(crate) fn in_file(schema: &Schema) -> SchemaRef {
    let fields: Vec<_> =
        schema.fields().iter().filter(|field| field.name() != DATE_COLUMN).cloned().collect();
    Arc::new(Schema::new(fields))
}

/// The batch with the given columns in their types; columns that it lacks are null, `date` is
/// filled in where it is given.
pub(crate) fn conform(
    table: &str,
    batch: &RecordBatch,
    to: &SchemaRef,
    date: Option<i32>,
) -> Result<RecordBatch> {
    let columns = to
        .fields()
        .iter()
        .map(|field| column(table, batch, field, date))
        .collect::<Result<Vec<ArrayRef>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(to), columns, &options).map_err(Error::arrow(table))
}

fn column(table: &str, batch: &RecordBatch, field: &Field, date: Option<i32>) -> Result<ArrayRef> {
    if let (DATE_COLUMN, Some(days)) = (field.name().as_str(), date) {
        return Ok(Arc::new(Date32Array::from_value(days, batch.num_rows())));
    }
    match batch.column_by_name(field.name()) {
        Some(array) if array.data_type() == field.data_type() => Ok(Arc::clone(array)),
        Some(array) => arrow::compute::cast(array, field.data_type()).map_err(Error::arrow(table)),
        None if field.is_nullable() => Ok(new_null_array(field.data_type(), batch.num_rows())),
        None => Err(wrong(table, field.name(), "is not null, and missing")),
    }
}

/// The top-level columns whose least and greatest value a file's entry in the log carries, so
/// that readers can skip files: the bookkeeping and every time.
pub(crate) fn with_statistics(schema: &Schema) -> Vec<String> {
    let measured = |field: &Field| {
        field.name() == PARTITION_COLUMN
            || field.name() == OFFSET_COLUMN
            || matches!(field.data_type(), DataType::Timestamp(..))
    };
    schema.fields().iter().filter(|field| measured(field)).map(|field| field.name().clone()).collect()
}

/// Names of ids that do not say so.
const IDS: [&str; 3] = ["id", "user", "item"];

/// The columns that get a bloom filter: texts and bytes that are ids by their name.
pub(crate) fn ids(schema: &Schema) -> Vec<String> {
    let is_id = |field: &Field| {
        matches!(field.data_type(), DataType::Utf8 | DataType::Binary)
            && (IDS.contains(&field.name().as_str()) || field.name().ends_with("_id"))
    };
    schema.fields().iter().filter(|field| is_id(field)).map(|field| field.name().clone()).collect()
}

/// Properties that a table is created with.
pub(crate) fn properties(schema: &Schema, config: &crate::Config) -> HashMap<String, String> {
    let hours = (config.retention.0 / 3_600_000).max(1);
    [
        ("delta.enableDeletionVectors", "false".to_owned()),
        ("delta.dataSkippingStatsColumns", with_statistics(schema).join(",")),
        ("delta.checkpointInterval", config.checkpoint_every.to_string()),
        ("delta.deletedFileRetentionDuration", format!("interval {hours} hours")),
        // Versions that kept models name must stay readable: vacuum, which knows them, cleans up.
        ("delta.enableExpiredLogCleanup", "false".to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}
