//! Which values a canonical event may have. Pure: the catalogue is part of the input.

use std::borrow::Cow;

use schemas::{Event, Kind, Origin, Reason};

use super::json::{self, Fields, Line, Lines, Value};
use super::mapping::{Mapping, line_slot, slot};
use super::refusal::Refusal;
use super::{EARLIEST_MS, LATEST_MS, rfc3339};
use crate::catalogue::Catalogue;
use crate::{Config, ConfigError, Pseudonymizer};

/// No price or value is larger: what is, is a mistake, and sums of it would lose the cents.
const MAX_MONEY: f64 = 1e12;
/// No line has more pieces.
const MAX_QUANTITY: u32 = 1_000_000;
/// What an extra number is where the record has none.
const MISSING_NUMBER: f32 = f32::from_bits(0x7fc0_0000);

/// What a raw topic holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RawTopic {
    /// Impressions.
    Views,
    /// Clicks and carts.
    Clicks,
    /// Orders and refunds.
    Purchases,
}

impl RawTopic {
    /// All of them, in the order in which events of one time are taken.
    pub const ALL: [Self; 3] = [Self::Views, Self::Clicks, Self::Purchases];

    /// The kind of a record that names none.
    const fn default_kind(self) -> Kind {
        match self {
            Self::Views => Kind::View,
            Self::Clicks => Kind::Click,
            Self::Purchases => Kind::Purchase,
        }
    }

    /// Whether records of that kind belong here.
    const fn takes(self, kind: Kind) -> bool {
        match self {
            Self::Views => matches!(kind, Kind::View),
            Self::Clicks => kind.is_click(),
            Self::Purchases => matches!(kind, Kind::Purchase | Kind::Refund),
        }
    }
}

/// Where a raw record stands.
#[derive(Debug, Clone, Copy)]
pub struct RawPlace<'a> {
    /// What its topic holds.
    pub kind: RawTopic,
    /// Its topic, as it is named on the cluster.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its Kafka timestamp, ms since 1970 UTC.
    pub timestamp_ms: i64,
}

/// The events of one raw record. They have one time and go one way.
#[derive(Debug, Clone, PartialEq)]
pub enum Events {
    /// One.
    One(Box<Event>),
    /// One per line of an order; not empty.
    Lines(Vec<Event>),
}

impl Events {
    /// Their time, ms since 1970 UTC.
    pub fn time_ms(&self) -> i64 {
        match self {
            Self::One(event) => event.event_time_ms,
            Self::Lines(events) => events.first().map_or(0, |event| event.event_time_ms),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Lines(events) => events.len(),
        }
    }
}

/// Turns raw records into canonical events, by the config.
#[derive(Debug)]
pub struct Decoder {
    mapping: Mapping,
    numbers: usize,
    max_record_bytes: usize,
    max_text_bytes: usize,
    max_context_bytes: usize,
    max_lines: usize,
    default_campaign: String,
    default_currency: String,
    pseudonymizer: Pseudonymizer,
}

impl Decoder {
    /// A decoder.
    ///
    /// # Errors
    /// A config that [`Config::check`] refuses.
    pub fn new(config: &Config, pseudonymizer: Pseudonymizer) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            mapping: Mapping::new(&config.fields, &config.numbers)?,
            numbers: config.numbers.len(),
            max_record_bytes: config.max_record_bytes,
            max_text_bytes: config.max_text_bytes,
            max_context_bytes: config.max_context_bytes,
            max_lines: config.max_lines,
            default_campaign: config.default_campaign.clone(),
            default_currency: config.default_currency.clone(),
            pseudonymizer,
        })
    }

    /// The events of a record.
    ///
    /// # Errors
    /// Why there are none.
    pub fn decode(
        &self,
        place: RawPlace<'_>,
        value: Option<&[u8]>,
        catalogue: &Catalogue,
    ) -> Result<Events, Refusal> {
        let bytes = value.unwrap_or_default();
        if bytes.is_empty() {
            return Err(Refusal::new(Reason::Empty, "the record has no value"));
        }
        if bytes.len() > self.max_record_bytes {
            return Err(Refusal::new(
                Reason::TooLarge,
                format_args!("{} bytes, at most {} are taken", bytes.len(), self.max_record_bytes),
            ));
        }
        let fields = json::read(bytes, &self.mapping, self.max_lines)?;
        self.validate(place, fields, catalogue)
    }

    fn validate(
        &self,
        place: RawPlace<'_>,
        fields: Fields<'_>,
        catalogue: &Catalogue,
    ) -> Result<Events, Refusal> {
        let Fields { mut values, lines } = fields;
        let called = |slot: usize| &*self.mapping.called[slot];
        let mut take = |slot: usize| (std::mem::take(&mut values[slot]), called(slot));

        let kind = kind(place.kind, &take(slot::KIND))?;
        let event_time_ms = time(&take(slot::EVENT_TIME))?;
        let user = required(self.text(take(slot::USER_ID))?, called(slot::USER_ID))?;
        let item = self.text(take(slot::ITEM_ID))?;
        let price = money(&take(slot::PRICE))?;
        let quantity = quantity(&take(slot::QUANTITY))?;
        let currency = match self.text(take(slot::CURRENCY))? {
            code if code.is_empty() => self.default_currency.clone(),
            code => currency(&code, called(slot::CURRENCY))?,
        };
        let campaign = match self.text(take(slot::CAMPAIGN_ID))? {
            campaign if campaign.is_empty() => self.default_campaign.clone(),
            campaign => campaign.into_owned(),
        };
        let mut event = Event {
            origin: Origin {
                topic: place.topic.to_owned(),
                partition: place.partition,
                offset: place.offset,
                line: 0,
                lines: 1,
            },
            kind: kind as i32,
            event_id: self.text(take(slot::EVENT_ID))?.into_owned(),
            event_time_ms,
            user: self.pseudonymizer.pseudonym(&user),
            item: String::new(),
            campaign,
            category: self.text(take(slot::CATEGORY))?.into_owned(),
            brand: self.text(take(slot::BRAND))?.into_owned(),
            placement: self.text(take(slot::PLACEMENT))?.into_owned(),
            device: self.text(take(slot::DEVICE))?.into_owned(),
            channel: self.text(take(slot::CHANNEL))?.into_owned(),
            view_id: self.text(take(slot::VIEW_ID))?.into_owned(),
            request_id: self.text(take(slot::REQUEST_ID))?.into_owned(),
            context: text(take(slot::CONTEXT), self.max_context_bytes)?.into_owned(),
            value: 0.0,
            currency,
            quantity: 1,
            numbers: Vec::new(),
            embedding: Vec::new(),
            received_ms: place.timestamp_ms,
        };
        if self.numbers > 0 {
            event.numbers =
                (0..self.numbers).map(|n| number(&take(slot::NUMBERS + n))).collect::<Result<_, _>>()?;
        }

        let lines_called = called(slot::LINES);
        let invalid = |what: &str| Refusal::new(Reason::InvalidLines, format_args!("{lines_called} {what}"));
        match lines {
            Lines::Malformed => Err(Refusal::wrong_type(lines_called, "a list of objects", "something else")),
            Lines::TooMany => Err(invalid(&format!("has more than {} lines", self.max_lines))),
            Lines::List(lines) if !lines.is_empty() => {
                if !matches!(kind, Kind::Purchase | Kind::Refund) {
                    return Err(invalid("belongs to purchases and refunds only"));
                }
                if !item.is_empty() || price.is_some() {
                    return Err(invalid("excludes an item or a price beside it"));
                }
                self.lines(&event, lines, catalogue)
            }
            Lines::List(_) if item.is_empty() => Err(invalid("is empty")),
            Lines::Absent | Lines::List(_) => {
                event.item = required(item, called(slot::ITEM_ID))?.into_owned();
                let item_price = catalogue.join(&mut event);
                let price = price.or(item_price);
                complete(&mut event, kind, price, quantity, called(slot::PRICE))?;
                Ok(Events::One(Box::new(event)))
            }
        }
    }

    /// An order's lines, each an event of its own.
    fn lines(&self, order: &Event, lines: Vec<Line<'_>>, catalogue: &Catalogue) -> Result<Events, Refusal> {
        let called = |slot: usize| &*self.mapping.line_called[slot];
        let kind = order.kind_or_unknown();
        let count = lines.len() as u32;
        let mut events = Vec::with_capacity(lines.len());
        for (line, mut values) in (0..).zip(lines) {
            let mut take = |slot: usize| (std::mem::take(&mut values[slot]), called(slot));
            let mut event = order.clone();
            event.origin.line = line;
            event.origin.lines = count;
            event.item =
                required(self.text(take(line_slot::ITEM_ID))?, called(line_slot::ITEM_ID))?.into_owned();
            for (slot, into) in [
                (line_slot::CAMPAIGN_ID, &mut event.campaign),
                (line_slot::CATEGORY, &mut event.category),
                (line_slot::BRAND, &mut event.brand),
            ] {
                let given = self.text(take(slot))?;
                if !given.is_empty() {
                    *into = given.into_owned();
                }
            }
            let price = money(&take(line_slot::PRICE))?;
            let quantity = quantity(&take(line_slot::QUANTITY))?;
            let item_price = catalogue.join(&mut event);
            complete(&mut event, kind, price.or(item_price), quantity, called(line_slot::PRICE))?;
            events.push(event);
        }
        Ok(Events::Lines(events))
    }

    fn text<'a>(&self, field: (Value<'a>, &str)) -> Result<Cow<'a, str>, Refusal> {
        text(field, self.max_text_bytes)
    }
}

/// Sets value and quantity.
fn complete(
    event: &mut Event,
    kind: Kind,
    price: Option<f64>,
    quantity: u32,
    price_called: &str,
) -> Result<(), Refusal> {
    match kind {
        Kind::View => event.value = price.unwrap_or(0.0),
        Kind::Purchase | Kind::Refund => {
            let price = price.ok_or_else(|| Refusal::missing(price_called))?;
            event.value = price * f64::from(quantity);
            event.quantity = quantity;
            if event.value > MAX_MONEY {
                return Err(Refusal::number(price_called, "at most 1e12 times the quantity"));
            }
        }
        Kind::Click | Kind::Cart | Kind::Unknown => {}
    }
    Ok(())
}

fn kind(topic: RawTopic, (value, called): &(Value<'_>, &str)) -> Result<Kind, Refusal> {
    let name = match value {
        Value::Absent | Value::Null => return Ok(topic.default_kind()),
        Value::Text(name) if name.is_empty() => return Ok(topic.default_kind()),
        Value::Text(name) => name,
        other => return Err(Refusal::wrong_type(called, "a text", other.type_name())),
    };
    let unknown = |what: &str| Refusal::new(Reason::UnknownKind, format_args!("{called} {what}"));
    match Kind::parse(name) {
        Some(kind) if topic.takes(kind) => Ok(kind),
        Some(_) => Err(unknown("is a kind that does not belong in this topic")),
        None => Err(unknown("is no kind; kinds are view, click, cart, purchase, refund")),
    }
}

fn time((value, called): &(Value<'_>, &str)) -> Result<i64, Refusal> {
    let invalid = |what: &str| Refusal::new(Reason::InvalidTime, format_args!("{called} {what}"));
    let ms = match value {
        Value::Absent | Value::Null => return Err(Refusal::missing(called)),
        Value::Text(text) if text.is_empty() => return Err(Refusal::missing(called)),
        Value::Text(text) => rfc3339::parse(text).ok_or_else(|| invalid("is no RFC 3339 time"))?,
        Value::Int(ms) => *ms,
        Value::Large(_) => i64::MAX,
        // JSON does not tell 1.5e12 from 1500000000000.
        Value::Float(ms) if ms.fract() == 0.0 => *ms as i64,
        Value::Float(_) => return Err(invalid("must be whole milliseconds since 1970 UTC")),
        other => {
            return Err(Refusal::wrong_type(called, "milliseconds or RFC 3339 text", other.type_name()));
        }
    };
    if (EARLIEST_MS..LATEST_MS).contains(&ms) {
        Ok(ms)
    } else {
        Err(invalid("is outside the years 2000 to 2099; were seconds sent for milliseconds?"))
    }
}

/// A text or a whole number; empty where absent.
fn text<'a>((value, called): (Value<'a>, &str), max_bytes: usize) -> Result<Cow<'a, str>, Refusal> {
    let text = match value {
        Value::Absent | Value::Null => Cow::Borrowed(""),
        Value::Text(text) => text,
        Value::Int(number) => Cow::Owned(number.to_string()),
        Value::Large(number) => Cow::Owned(number.to_string()),
        other => return Err(Refusal::wrong_type(called, "a text", other.type_name())),
    };
    if text.len() > max_bytes {
        return Err(Refusal::new(
            Reason::TooLong,
            format_args!("{called} has {} bytes, at most {max_bytes} are taken", text.len()),
        ));
    }
    Ok(text)
}

fn required<'a>(text: Cow<'a, str>, called: &str) -> Result<Cow<'a, str>, Refusal> {
    if text.is_empty() { Err(Refusal::missing(called)) } else { Ok(text) }
}

/// A number of any kind; `None` where absent.
fn numeric((value, called): &(Value<'_>, &str)) -> Result<Option<f64>, Refusal> {
    match value {
        Value::Absent | Value::Null => Ok(None),
        Value::Int(number) => Ok(Some(*number as f64)),
        Value::Large(number) => Ok(Some(*number as f64)),
        Value::Float(number) if number.is_finite() => Ok(Some(*number)),
        Value::Float(_) => Err(Refusal::number(called, "finite")),
        other => Err(Refusal::wrong_type(called, "a number", other.type_name())),
    }
}

fn money(field: &(Value<'_>, &str)) -> Result<Option<f64>, Refusal> {
    match numeric(field)? {
        Some(amount) if (0.0..=MAX_MONEY).contains(&amount) => Ok(Some(amount + 0.0)), // no -0
        Some(_) => Err(Refusal::number(field.1, "between 0 and 1e12")),
        None => Ok(None),
    }
}

fn quantity(field: &(Value<'_>, &str)) -> Result<u32, Refusal> {
    match numeric(field)? {
        Some(pieces) if pieces.fract() == 0.0 && (1.0..=f64::from(MAX_QUANTITY)).contains(&pieces) => {
            Ok(pieces as u32)
        }
        Some(_) => Err(Refusal::number(field.1, "a whole number between 1 and 1000000")),
        None => Ok(1),
    }
}

fn number(field: &(Value<'_>, &str)) -> Result<f32, Refusal> {
    match numeric(field)?.map(|number| number as f32) {
        Some(number) if number.is_finite() => Ok(number),
        Some(_) => Err(Refusal::number(field.1, "within the range of 32-bit floats")),
        None => Ok(MISSING_NUMBER),
    }
}

fn currency(code: &str, called: &str) -> Result<String, Refusal> {
    if code.len() == 3 && code.bytes().all(|b| b.is_ascii_alphabetic()) {
        Ok(code.to_ascii_uppercase())
    } else {
        Err(Refusal::wrong_type(called, "an ISO 4217 code of three letters", "another text"))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
