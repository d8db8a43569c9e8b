//! REES46 multi-category store (Open CDP / REES46 Marketing Platform, published on Kaggle).

use std::io::Read;
use std::path::Path;

use chrono::NaiveDateTime;
use schemas::RawEvent;

use super::{Columns, ReplayError, Rows, record, unreadable};
use crate::feed::topic_of;

const COLUMNS: [&str; 8] =
    ["event_time", "event_type", "product_id", "category_code", "brand", "price", "user_id", "user_session"];

/// Its rows: view to view, cart to a click named cart, purchase to purchase; the campaign is the
/// first level of `category_code`, else the brand, else `none`.
pub(super) fn rows(path: &Path, reader: Box<dyn Read + Send>) -> Result<Rows, ReplayError> {
    let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
    let columns = Columns::read(path, &mut csv)?;
    let mut at = [0usize; COLUMNS.len()];
    for (slot, name) in at.iter_mut().zip(COLUMNS) {
        *slot = columns.require(path, name)?;
    }
    let path = path.to_owned();
    let mut last_ms = 0;
    Ok(Box::new(csv.into_records().map(move |row| {
        let row = match row {
            Ok(row) => row,
            Err(error) => match error.into_kind() {
                csv::ErrorKind::Io(source) => return Err(ReplayError::Io { path: path.clone(), source }),
                other => return Ok(unreadable(&format!("{other:?}"), last_ms)),
            },
        };
        let event = event(&row, &at);
        Ok(match event {
            Some(event) => {
                last_ms = event.event_time;
                record(&event, topic_of(&event.kind))
            }
            None => unreadable(&row.iter().collect::<Vec<_>>().join(","), last_ms),
        })
    })))
}

fn event(row: &csv::StringRecord, at: &[usize; COLUMNS.len()]) -> Option<RawEvent> {
    let [time, kind, product, category, brand, price, user, session] = at.map(|i| row.get(i));
    let time = time?.strip_suffix(" UTC")?;
    let event_time = NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S").ok()?.and_utc();
    let text = |value: Option<&str>| value.filter(|v| !v.is_empty()).map(str::to_owned);
    let first_level = text(category).and_then(|code| code.split('.').next().map(str::to_owned));
    Some(RawEvent {
        kind: kind?.to_owned(),
        event_time: event_time.timestamp_millis(),
        user_id: user?.to_owned(),
        item_id: text(product),
        campaign_id: first_level.or_else(|| text(brand)).or_else(|| Some("none".to_owned())),
        category: text(category),
        brand: text(brand),
        request_id: text(session),
        price: Some(price?.parse().ok()?),
        // The shop's prices are in US dollars, says its publisher.
        currency: Some("USD".to_owned()),
        ..RawEvent::default()
    })
}
