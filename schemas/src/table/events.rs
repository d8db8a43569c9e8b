//! Table `events`: customers' events, in (partition, offset) order of the topic.

use arrow::record_batch::RecordBatch;

use super::column::{Column, columns};
use super::form::{Floats, KindName, Plain, Time};
use super::rows::{self, Rows};
use super::{RowEncoder, TableError, TopicRecord};
use crate::event::PlacedEvent;
use crate::{Codec, DecodeError, Entry, Event, LateEvent, Place, Protobuf, Record};

/// Name of the table.
pub const NAME: &str = "events";

/// The columns of an event, for any record with a field `event`.
macro_rules! event_columns {
    ($record:ty) => {
        columns![$record;
            "kind" KindName = event.kind, "view, click, cart, purchase or refund";
            "event_id" Plain = event.event_id, "the customer's id of the event";
            "event_time" Time = event.event_time_ms, "when it happened";
            "user" Plain = event.user, "pseudonym of the consumer";
            "item" Plain = event.item, "item shown, clicked or bought";
            "campaign" Plain = event.campaign, "campaign that it was shown for";
            "category" Plain = event.category, "category of the item";
            "brand" Plain = event.brand, "brand of the item";
            "placement" Plain = event.placement, "slot on the page or screen";
            "device" Plain = event.device, "device class of the consumer";
            "channel" Plain = event.channel, "channel, such as web, app or mail";
            "view_id" Plain = event.view_id, "for a click: event_id of the view that it answers";
            "request_id" Plain = event.request_id, "the customer's request id";
            "context" Plain = event.context, "the customer's own text, passed through";
            "value" Plain = event.value,
                "view: the item's price; purchase and refund: price times quantity; else 0";
            "currency" Plain = event.currency, "ISO 4217 code of value";
            "quantity" Plain = event.quantity, "pieces in this line";
            "numbers" Floats = event.numbers, "the extra numbers that ingest.numbers names, in that order";
            "embedding" Floats = event.embedding, "content embedding of the item";
            "received" Time = event.received_ms, "Kafka timestamp of the raw record";
            "source_topic" Plain = event.origin.topic, "raw topic";
            "source_partition" Plain = event.origin.partition, "partition of the raw topic";
            "source_offset" Plain = event.origin.offset, "offset of the raw record";
            "source_line" Plain = event.origin.line, "which of the raw record's events this is, from 0";
            "source_lines" Plain = event.origin.lines, "how many events the raw record became";
        ]
    };
}

/// The columns of a late event's event.
pub(super) fn late_event_columns() -> Vec<Column<LateEvent>> {
    event_columns!(LateEvent)
}

/// An empty encoder; takes records of `events`, leaves control records out.
pub fn encoder() -> Box<dyn RowEncoder> {
    Rows::boxed(Entry::NAME, event_columns!(PlacedEvent), |row| Some(row.event.event_time_ms), parse)
}

fn parse(record: &TopicRecord) -> Result<Option<PlacedEvent>, DecodeError> {
    Ok(match Protobuf::decode(&record.value::<Entry>()?)? {
        Entry::Event(event) => Some(PlacedEvent { place: record.place(), event: *event }),
        Entry::Control(_) => None,
    })
}

/// The events, each with its place.
///
/// # Errors
/// Rows that no encoder of this table wrote.
pub fn decode(batch: &RecordBatch) -> Result<Vec<PlacedEvent>, TableError> {
    let seed = || PlacedEvent { place: Place::default(), event: Event::default() };
    let mut rows = rows::decode(NAME, batch, &event_columns!(PlacedEvent), seed)?;
    for (row, place) in rows.iter_mut().zip(rows::positions(NAME, batch)?) {
        row.place = place;
    }
    Ok(rows)
}
