//! Table `entity_tiles`: what each partition of events counted of shared entities, tile by tile.

use arrow::record_batch::RecordBatch;

use super::column::{Column, columns};
use super::form::{EntityName, Plain, Time};
use super::rows::{self, Rows};
use super::{RowEncoder, TableError};
use crate::{Codec, EntityTile, Protobuf, Record};

/// Name of the table.
pub const NAME: &str = "entity_tiles";

fn table() -> Vec<Column<EntityTile>> {
    columns![EntityTile;
        "events_partition" Plain = partition, "partition of events that was summed; sums of all add up";
        "tile" Time = tile_ms, "start of the tile; of a closed mark, the time before which all is closed";
        "entity" EntityName = entity, "item, campaign, category, brand or placement; none for a closed mark";
        "key" Plain = key, "which of them";
        "views" Plain = views, "views";
        "clicks" Plain = clicks, "clicks that are no carts";
        "carts" Plain = carts, "carts";
        "purchases" Plain = purchases, "purchase lines";
        "refunds" Plain = refunds, "refund lines";
        "view_value" Plain = view_value, "prices shown, in ten-thousandths";
        "purchase_value" Plain = purchase_value, "value of purchases, in ten-thousandths";
        "refund_value" Plain = refund_value, "value of refunds, in ten-thousandths";
    ]
}

/// An empty encoder.
pub fn encoder() -> Box<dyn RowEncoder> {
    Rows::boxed(
        EntityTile::NAME,
        table(),
        |row| Some(row.tile_ms),
        |record| Protobuf::decode(&record.value::<EntityTile>()?).map(Some),
    )
}

/// The records.
///
/// # Errors
/// Rows that no encoder of this table wrote.
pub fn decode(batch: &RecordBatch) -> Result<Vec<EntityTile>, TableError> {
    rows::decode(NAME, batch, &table(), EntityTile::default)
}
