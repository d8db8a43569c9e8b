//! Table `labels`: labels of impressions; of several of one place the highest revision counts.

use arrow::record_batch::RecordBatch;

use super::column::{Column, columns};
use super::form::{Plain, Time, TimeOrZero};
use super::rows::{self, Rows};
use super::{RowEncoder, TableError};
use crate::{Codec, Label, Protobuf, Record};

/// Name of the table.
pub const NAME: &str = "labels";

fn table() -> Vec<Column<Label>> {
    columns![Label;
        "place_partition" Plain = place.partition, "partition of the view in events";
        "place_offset" Plain = place.offset, "offset of the view in events";
        "revision" Plain = revision, "counts the labels of this place, from 0: the highest counts";
        "event_time" Time = event_time_ms, "when the view happened";
        "clock" Time = clock_ms, "event clock at which it was decided";
        "user" Plain = user, "pseudonym of the consumer";
        "item" Plain = item, "item shown";
        "campaign" Plain = campaign, "campaign that it was shown for";
        "clicked" Plain = clicked, "a click answered it within the click window";
        "click_time" TimeOrZero = click_time_ms, "first such click";
        "purchased_after_click" Plain = purchased_after_click, "a purchase was credited, and it had been clicked";
        "purchased_after_view" Plain = purchased_after_view, "a purchase was credited, and it had not been clicked";
        "purchase_time" TimeOrZero = purchase_time_ms, "first purchase credited";
        "value" Plain = value, "sum of the purchases credited";
        "refunded" Plain = refunded, "sum of the refunds of these purchases";
        "currency" Plain = currency, "ISO 4217 code of value";
        "matured" Plain = matured, "the purchase window has closed";
    ]
}

/// An empty encoder.
pub fn encoder() -> Box<dyn RowEncoder> {
    Rows::boxed(
        Label::NAME,
        table(),
        |row| Some(row.event_time_ms),
        |record| Protobuf::decode(&record.value::<Label>()?).map(Some),
    )
}

/// The records.
///
/// # Errors
/// Rows that no encoder of this table wrote.
pub fn decode(batch: &RecordBatch) -> Result<Vec<Label>, TableError> {
    rows::decode(NAME, batch, &table(), Label::default)
}
