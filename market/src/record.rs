//! Raw records of the market, as customers would write them.

use schemas::RawEvent;
use schemas::raw::OrderLine;
use serde::Serialize;

use crate::catalogue::CatalogueItem;
use crate::config::Config;
use crate::truth::Impression;
use crate::world::{CHANNELS, DEVICES, PLACEMENTS, World};

/// A value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(384);
    // The market's own types serialise without error: text keys, finite numbers.
    let written = serde_json::to_writer(&mut out, value);
    debug_assert!(written.is_ok(), "the market's records must serialise");
    out
}

pub(crate) fn user_id(user: usize) -> String {
    format!("user-{user:06}")
}

fn item_id(item: usize) -> String {
    format!("item-{item:05}")
}

fn category(category: usize) -> String {
    format!("category-{category:02}")
}

fn campaign_id(campaign: usize) -> String {
    format!("campaign-{campaign:03}")
}

/// The item as its catalogue record has it.
pub(crate) fn catalogue_item(world: &World, config: &Config, item: usize) -> CatalogueItem {
    let it = &world.items[item];
    CatalogueItem {
        item_id: item_id(item),
        category: category(it.category),
        brand: format!("brand-{:02}", it.brand),
        price: it.price(),
        currency: config.currency.clone(),
        campaign_id: it.campaign.map(campaign_id),
        embedding: it.embedding.clone(),
    }
}

/// A visit: one consumer on one device, a few impressions one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visit {
    pub(crate) number: u64,
    pub(crate) user: usize,
    pub(crate) device: usize,
    pub(crate) channel: usize,
    /// Impressions so far.
    pub(crate) shown: u32,
}

/// The impression, as the record in `views`.
pub(crate) fn view(
    world: &World,
    config: &Config,
    visit: &Visit,
    seen: &Impression,
    event_id: String,
) -> RawEvent {
    let item = &world.items[seen.item];
    RawEvent {
        kind: "view".into(),
        event_id: Some(event_id),
        event_time: seen.at_ms,
        user_id: user_id(seen.user),
        item_id: Some(item_id(seen.item)),
        campaign_id: Some(campaign_id(seen.campaign)),
        category: config.describe_items.then(|| category(item.category)),
        placement: Some(PLACEMENTS[seen.placement].0.into()),
        device: Some(DEVICES[seen.device].0.into()),
        channel: Some(CHANNELS[seen.channel].0.into()),
        request_id: Some(format!("r-{:08}-{}", visit.number, visit.shown)),
        context: Some(format!("visit={};slot={}", visit.number, PLACEMENTS[seen.placement].0)),
        price: config.describe_items.then(|| item.price()),
        currency: config.describe_items.then(|| config.currency.clone()),
        ..RawEvent::default()
    }
}

/// An answer to the view: a click or a cart.
pub(crate) fn answer(view: &RawEvent, kind: &str, event_id: String, at_ms: i64) -> RawEvent {
    RawEvent {
        kind: kind.into(),
        event_id: Some(event_id),
        event_time: at_ms,
        user_id: view.user_id.clone(),
        item_id: view.item_id.clone(),
        campaign_id: view.campaign_id.clone(),
        category: view.category.clone(),
        placement: view.placement.clone(),
        device: view.device.clone(),
        channel: view.channel.clone(),
        view_id: view.event_id.clone(),
        ..RawEvent::default()
    }
}

/// One piece of an order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) item: usize,
    pub(crate) quantity: u32,
}

/// What was bought of an impression.
#[derive(Debug)]
pub(crate) struct Basket<'a> {
    /// The impression that it came of.
    pub(crate) seen: &'a Impression,
    /// The item seen, and what went with it.
    pub(crate) pieces: &'a [Piece],
    /// Whether a single piece is written as a line, too.
    pub(crate) lines: bool,
}

/// An order or its refund: of one item as a plain record, of more (or where the basket says so)
/// with lines.
pub(crate) fn order(
    world: &World,
    config: &Config,
    kind: &str,
    event_id: String,
    at_ms: i64,
    basket: &Basket<'_>,
) -> RawEvent {
    let Basket { seen, pieces, lines } = *basket;
    let described = |item: usize| config.describe_items.then(|| category(world.items[item].category));
    let base = RawEvent {
        kind: kind.into(),
        event_id: Some(event_id),
        event_time: at_ms,
        user_id: user_id(seen.user),
        campaign_id: Some(campaign_id(seen.campaign)),
        device: Some(DEVICES[seen.device].0.into()),
        channel: Some(CHANNELS[seen.channel].0.into()),
        currency: Some(config.currency.clone()),
        ..RawEvent::default()
    };
    match pieces {
        [only] if !lines => RawEvent {
            item_id: Some(item_id(only.item)),
            category: described(only.item),
            price: Some(world.items[only.item].price()),
            quantity: Some(only.quantity),
            ..base
        },
        _ => RawEvent {
            lines: pieces
                .iter()
                .map(|piece| OrderLine {
                    item_id: item_id(piece.item),
                    price: world.items[piece.item].price(),
                    quantity: Some(piece.quantity),
                    // What was not advertised was bought for no campaign's sake, but the item's own.
                    campaign_id: (piece.item != seen.item)
                        .then(|| world.items[piece.item].campaign.map(campaign_id))
                        .flatten(),
                    category: described(piece.item),
                    brand: None,
                })
                .collect(),
            ..base
        },
    }
}
