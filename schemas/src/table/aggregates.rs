//! Table `aggregates`: hourly sums by campaign, category, item and currency; of several of one key and hour the
//! highest revision counts.

use arrow::record_batch::RecordBatch;

use super::column::{Column, columns};
use super::form::{Parts, Plain, Time};
use super::rows::{self, Rows};
use super::{RowEncoder, TableError};
use crate::{Aggregate, Codec, Protobuf, Record};

/// Name of the table.
pub const NAME: &str = "aggregates";

fn table() -> Vec<Column<Aggregate>> {
    columns![Aggregate;
        "campaign" Plain = campaign, "the campaign";
        "category" Plain = category, "the item's category";
        "item" Plain = item, "the item";
        "currency" Plain = currency, "ISO 4217 code of revenue";
        "hour" Time = hour_ms, "start of the hour";
        "revision" Plain = revision, "0 when all had passed the hour; the highest of a key and hour counts";
        "impressions" Plain = impressions, "views";
        "clicks" Plain = clicks, "clicks, carts too";
        "carts" Plain = carts, "carts";
        "purchases" Plain = purchases, "purchase lines";
        "refunds" Plain = refunds, "refund lines";
        "revenue" Parts = revenue, "value of purchases less value of refunds";
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
