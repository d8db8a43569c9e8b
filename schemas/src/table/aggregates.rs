//! Table `aggregates`: hourly sums per partition of events; of several of one hour the highest revision counts.

use arrow::record_batch::RecordBatch;

use super::column::{Column, columns};
use super::form::{Plain, Time};
use super::rows::{self, Rows};
use super::{RowEncoder, TableError};
use crate::{Aggregate, Codec, Protobuf, Record};

/// Name of the table.
pub const NAME: &str = "aggregates";

fn table() -> Vec<Column<Aggregate>> {
    columns![Aggregate;
        "events_partition" Plain = partition, "partition of events that was summed; sums of all add up";
        "campaign" Plain = campaign, "the campaign";
        "hour" Time = hour_ms, "start of the hour";
        "revision" Plain = revision, "0 when the clock passed the hour; the highest counts";
        "impressions" Plain = impressions, "views";
        "clicks" Plain = clicks, "clicks and carts";
        "purchases" Plain = purchases, "purchase lines";
        "refunds" Plain = refunds, "refund lines";
        "revenue" Plain = revenue, "value of purchases less value of refunds";
        "currency" Plain = currency, "ISO 4217 code of revenue";
    ]
}

/// An empty encoder.
pub fn encoder() -> Box<dyn RowEncoder> {
    Rows::boxed(
        Aggregate::NAME,
        table(),
        |row| Some(row.hour_ms),
        |record| Protobuf::decode(&record.value::<Aggregate>()?).map(Some),
    )
}

/// The records.
///
/// # Errors
/// Rows that no encoder of this table wrote.
pub fn decode(batch: &RecordBatch) -> Result<Vec<Aggregate>, TableError> {
    rows::decode(NAME, batch, &table(), Aggregate::default)
}
