//! Table `entity_tiles`: what each partition of events counted of shared entities, tile by tile, and by the hour.

use arrow::record_batch::RecordBatch;

use super::column::{Column, columns};
use super::form::{EntityName, Hex, Parts, Plain, Time};
use super::rows::{self, Rows};
use super::{RowEncoder, TableError};
use crate::entity::{HourBlock, HourRow, HourRows, Rows as BlockRows};
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

/// What else is known of a block's keys.
#[derive(Default)]
struct Summarised {
    tile_ms: i64,
    entity: i32,
    summaries: Option<Vec<u8>>,
}

/// A key of an hour, with the hour.
#[derive(Default)]
struct Hourly {
    hour_ms: i64,
    row: HourRow,
}

#[derive(Default)]
struct Row {
    partition: i32,
    closed_ms: i64,
    layout: u64,
    part: u32,
    last: bool,
    counted: Vec<Counted>,
    hourly: Vec<Hourly>,
    summarised: Vec<Summarised>,
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
    let hourly = columns![Hourly;
        "hour" Time = hour_ms, "start of the hour";
        "campaign" Plain = row.campaign, "the campaign";
        "category" Plain = row.category, "the item's category";
        "item" Plain = row.item, "the item";
        "currency" Plain = row.currency, "ISO 4217 code of the values";
        "views" Plain = row.views, "views";
        "clicks" Plain = row.clicks, "clicks that are no carts";
        "carts" Plain = row.carts, "carts";
        "purchases" Plain = row.purchases, "purchase lines";
        "refunds" Plain = row.refunds, "refund lines";
        "purchase_value" Parts = row.purchase_value, "value of purchases";
        "refund_value" Parts = row.refund_value, "value of refunds";
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
    let get: fn(&Row) -> &Vec<Hourly> = |row| &row.hourly;
    table.push(
        Column::structs(
            "hours",
            "what was counted by the hour since the records with hours before; null in records with tiles",
            get,
            |row| &mut row.hourly,
            hourly,
        )
        .or_null(),
    );
    let summarised = columns![Summarised;
        "tile" Time = tile_ms, "start of the tile";
        "entity" EntityName = entity, "as in tiles";
        "summaries" Plain = summaries, "one for each key of the tile and entity, in their order";
    ];
    let get: fn(&Row) -> &Vec<Summarised> = |row| &row.summarised;
    table.push(
        Column::structs(
            "summaries",
            "what else is declared of the keys of tiles, as the features core keeps it; null where nothing is",
            get,
            |row| &mut row.summarised,
            summarised,
        )
        .or_null(),
    );
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
    let &EntityTiles { partition, closed_ms, layout, part, last, ref blocks, ref hours } = tiles;
    let of = |block: &TileBlock| {
        let (tile_ms, entity) = (block.tile_ms, block.entity);
        let counted = BlockRows::new(&block.rows).map(|row| Counted { tile_ms, entity, row: row.into() });
        counted.collect::<Vec<_>>()
    };
    let of_hour = |&HourBlock { hour_ms, ref rows }: &HourBlock| {
        HourRows::new(rows).map(|row| Hourly { hour_ms, row: row.into() }).collect::<Vec<_>>()
    };
    let (counted, hourly) = (blocks.iter().flat_map(of).collect(), hours.iter().flat_map(of_hour).collect());
    let summarised = blocks.iter().filter(|block| !block.summaries.is_empty()).map(|block| Summarised {
        tile_ms: block.tile_ms,
        entity: block.entity,
        summaries: Some(block.summaries.to_vec()),
    });
    Row { partition, closed_ms, layout, part, last, counted, hourly, summarised: summarised.collect() }
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
    let Row { partition, closed_ms, layout, part, last, counted, hourly, summarised } = row;
    let same = |a: &Counted, b: &Counted| (a.tile_ms, a.entity) == (b.tile_ms, b.entity);
    let block = |counted: &[Counted]| {
        let mut rows = Vec::new();
        for Counted { row, .. } in counted {
            BlockRows::push(&mut rows, &row.key, &row.sums());
        }
        let (tile_ms, entity) = (counted[0].tile_ms, counted[0].entity);
        let of = summarised.iter().find(|of| (of.tile_ms, of.entity) == (tile_ms, entity));
        let summaries = of.and_then(|of| of.summaries.clone()).unwrap_or_default().into();
        TileBlock { tile_ms, entity, rows: rows.into(), summaries }
    };
    let hour = |hourly: &[Hourly]| {
        let mut rows = Vec::new();
        for hourly in hourly {
            hourly.row.push_to(&mut rows);
        }
        HourBlock { hour_ms: hourly[0].hour_ms, rows: rows.into() }
    };
    let blocks = counted.chunk_by(same).map(block).collect();
    let hours = hourly.chunk_by(|a, b| a.hour_ms == b.hour_ms).map(hour).collect();
    EntityTiles { partition, closed_ms, layout, part, last, blocks, hours }
}
