//! Table `entity_tiles`: what each partition of events counted of shared entities, tile by tile.

use arrow::record_batch::RecordBatch;

use super::column::{Column, columns};
use super::form::{EntityName, Hex, Plain, Time};
use super::rows::{self, Rows};
use super::{RowEncoder, TableError};
use crate::entity::Rows as BlockRows;
use crate::{Codec, EntityRow, EntityTiles, Protobuf, Record, TileBlock};

/// Name of the table.
pub const NAME: &str = "entity_tiles";

/// A key of a block, with the block's own.
#[derive(Default)]
struct Counted {
    tile_ms: i64,
    entity: i32,
    row: EntityRow,
}

#[derive(Default)]
struct Row {
    partition: i32,
    closed_ms: i64,
    layout: u64,
    part: u32,
    last: bool,
    counted: Vec<Counted>,
}

fn table() -> Vec<Column<Row>> {
    let counted = columns![Counted;
        "tile" Time = tile_ms, "start of the tile";
        "entity" EntityName = entity, "item, campaign, category, brand, placement, item_placement or campaign_placement";
        "key" Plain = row.key, "which of them";
        "views" Plain = row.views, "views";
        "clicks" Plain = row.clicks, "clicks that are no carts";
        "carts" Plain = row.carts, "carts";
        "purchases" Plain = row.purchases, "purchase lines";
        "refunds" Plain = row.refunds, "refund lines";
        "view_value" Plain = row.view_value, "prices shown, in ten-thousandths";
        "purchase_value" Plain = row.purchase_value, "value of purchases, in ten-thousandths";
        "refund_value" Plain = row.refund_value, "value of refunds, in ten-thousandths";
    ];
    let mut table = columns![Row;
        "events_partition" Plain = partition, "partition of events that was summed; sums of all add up";
        "closed" Time = closed_ms, "every tile before this time is closed, with the last record of that time";
        "layout" Hex = layout, "fingerprint of the tiles' width and of which entities are counted";
        "part" Plain = part, "number of the record among those of that time, from 0";
        "last" Plain = last, "whether it is the last of them";
    ];
    let get: fn(&Row) -> &Vec<Counted> = |row| &row.counted;
    table.push(Column::structs(
        "tiles",
        "what was counted of each key, by tile, entity and key",
        get,
        |row| &mut row.counted,
        counted,
    ));
    table
}

/// An empty encoder.
pub fn encoder() -> Box<dyn RowEncoder> {
    Rows::boxed(
        EntityTiles::NAME,
        table(),
        |row| Some(row.closed_ms),
        |record| Protobuf::decode(&record.value::<EntityTiles>()?).map(|tiles| Some(row(&tiles))),
    )
}

fn row(tiles: &EntityTiles) -> Row {
    let &EntityTiles { partition, closed_ms, layout, part, last, ref blocks } = tiles;
    let of = |block: &TileBlock| {
        let (tile_ms, entity) = (block.tile_ms, block.entity);
        let counted = BlockRows::new(&block.rows).map(|row| Counted { tile_ms, entity, row: row.into() });
        counted.collect::<Vec<_>>()
    };
    Row { partition, closed_ms, layout, part, last, counted: blocks.iter().flat_map(of).collect() }
}

/// The records.
///
/// # Errors
/// Rows that no encoder of this table wrote.
pub fn decode(batch: &RecordBatch) -> Result<Vec<EntityTiles>, TableError> {
    let rows = rows::decode(NAME, batch, &table(), Row::default)?;
    Ok(rows.into_iter().map(record).collect())
}

fn record(row: Row) -> EntityTiles {
    let Row { partition, closed_ms, layout, part, last, counted } = row;
    let same = |a: &Counted, b: &Counted| (a.tile_ms, a.entity) == (b.tile_ms, b.entity);
    let block = |counted: &[Counted]| {
        let mut rows = Vec::new();
        for Counted { row, .. } in counted {
            BlockRows::push(&mut rows, &row.key, &row.sums());
        }
        TileBlock { tile_ms: counted[0].tile_ms, entity: counted[0].entity, rows: rows.into() }
    };
    let blocks = counted.chunk_by(same).map(block).collect();
    EntityTiles { partition, closed_ms, layout, part, last, blocks }
}
