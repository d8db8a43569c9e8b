//! The simulated market against a cluster: raw records only.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use market::Market;
use runtime::kafka::Sender;
use runtime::processor::OutRecord;
use runtime::shutdown::Shutdown;

use crate::context::Context;
use crate::feed::FeedRecord;
use crate::feeder::{Fed, Feeder, Pace};
use crate::stages::Backlog;

/// The market's catalogue as records of `items`: key and JSON.
///
/// # Errors
/// None in practice: catalogue items always serialise.
pub fn catalogue(market: &Market) -> Result<Vec<(String, Vec<u8>)>> {
    let items = market.catalogue().into_iter();
    items.map(|item| Ok((item.item_id.clone(), serde_json::to_vec(&item)?))).collect()
}

/// What the command line says.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Market time that passes in a second of the wall clock; `None`: full speed.
    pub speed: Option<f64>,
    /// Seed of the market.
    pub seed: u64,
    /// Raw records to send; `None`: until a signal.
    pub records: Option<u64>,
}

/// Sends the market's catalogue, then its records. What it sent, by kind and fault.
///
/// # Errors
/// A cluster that cannot be written to.
pub fn run(context: &Context, options: Options, shutdown: &Shutdown) -> Result<market::Counts> {
    let mut market = Market::new(&context.config.market, options.seed)?;
    let sender = Sender::new(&context.config.kafka)?;
    for (key, value) in catalogue(&market)? {
        sender.send(&OutRecord {
            topic: Arc::clone(&context.names.items),
            partition: None,
            key: Some(key.into()),
            value: Some(value.into()),
            headers: Vec::new(),
        })?;
    }
    sender.flush(Duration::from_secs(30))?;
    let fed = Arc::new(Fed::default());
    let pace = Pace { speed: options.speed, max_backlog: i64::MAX };
    let prefix = &context.config.kafka.prefix;
    let feeder =
        Feeder::new(&sender, prefix, pace, Backlog::new(context)?, Arc::clone(&fed), shutdown.clone());
    let most = options.records.map_or(usize::MAX, |n| n as usize);
    let feed = market.by_ref().take(most).map(|emission| {
        Ok(FeedRecord {
            topic: emission.topic,
            key: emission.key,
            value: emission.value,
            at_ms: emission.arrival_ms,
        })
    });
    feeder.run(feed, None, shutdown, |_| {})?;
    Ok(market.counts())
}
