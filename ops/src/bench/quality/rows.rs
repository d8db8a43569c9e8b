//! Impressions with their features, outcomes and truths, as the pipeline would have made them: raw
//! records go through ingest's decoder and the features core, in this process.
//!
//! Kept compactly (texts by number), so that a million fit, and turned back into vectors one at a
//! time.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use features::{Core, Merge, Plan, Sink, VectorView};
use ingest::decode::{Decoder, Events, RawPlace, RawTopic};
use ingest::{Catalogue, PseudonymKey, Pseudonymizer};
use market::Driver;
use schemas::{
    Behaviour, Control, Duplicate, EntityTiles, Entry, Event, FeatureVector, Kind, Label, Origin, Place,
    Source, SourceSet, Tick, Ticks, VectorSchema,
};

/// The fields of an impression that are ids, in the order of [`Impression::ids`].
pub const IDS: [&str; 8] =
    ["user", "item", "campaign", "category", "brand", "placement", "device", "channel"];
const ITEM: usize = 1;

/// Something that the consumer did before.
#[derive(Debug, Clone, Copy)]
pub struct Past {
    /// Item, campaign, category: numbers of texts.
    pub ids: [u32; 3],
    /// What was done.
    pub kind: Kind,
    /// How long before, ms.
    pub age_ms: i64,
}

/// What a market knows of an impression.
#[derive(Debug, Clone, Copy)]
pub struct Truth {
    /// The true probability of a click.
    pub p_click: f64,
    /// What each driver adds to its logit.
    pub drivers: [f32; Driver::COUNT],
}

impl From<&market::Truth> for Truth {
    fn from(truth: &market::Truth) -> Self {
        Self { p_click: truth.p_click, drivers: truth.drivers.logits.map(|logit| logit as f32) }
    }
}

/// One impression.
#[derive(Debug, Clone)]
pub struct Impression {
    /// When, ms.
    pub at_ms: i64,
    /// Numbers of the texts of [`IDS`].
    pub ids: [u32; IDS.len()],
    /// Price of the item shown, 0 where unknown.
    pub price: f64,
    /// What came of it.
    pub label: Label,
    /// What the market knows of it, where there is one.
    pub truth: Option<Truth>,
    /// Place among the events, which is its order of arrival.
    offset: i64,
    numbers: usize,
    past: std::ops::Range<usize>,
}

/// Impressions in order of time.
#[derive(Debug)]
pub struct Rows {
    /// What the numbers are.
    pub schema: VectorSchema,
    /// The impressions.
    pub impressions: Vec<Impression>,
    /// Texts by number; the first is empty.
    pub texts: Vec<String>,
    /// Content embeddings of items, by the number of their text.
    pub embeddings: HashMap<u32, Vec<f32>>,
    fingerprint: u64,
    numbers: Vec<f32>,
    past: Vec<Past>,
}

impl Rows {
    /// The numbers of an impression, in the schema's order; NaN is missing.
    pub fn numbers(&self, row: &Impression) -> &[f32] {
        &self.numbers[row.numbers..row.numbers + self.schema.fields.len()]
    }

    /// What the consumer did before it, newest first.
    pub fn past(&self, row: &Impression) -> &[Past] {
        &self.past[row.past.clone()]
    }

    /// The impression as the feature vector that it was.
    pub fn vector(&self, row: &Impression) -> FeatureVector {
        let text = |id: u32| self.texts[id as usize].clone();
        let [user, item, campaign, category, brand, placement, device, channel] = row.ids.map(text);
        FeatureVector {
            place: Place { partition: 0, offset: row.offset },
            origin: Origin::default(),
            event_time_ms: row.at_ms,
            user,
            item,
            campaign,
            category,
            brand,
            placement,
            device,
            channel,
            price: row.price,
            fingerprint: self.fingerprint,
            values: self.numbers(row).iter().flat_map(|value| value.to_le_bytes()).collect(),
            embedding: self
                .embeddings
                .get(&row.ids[ITEM])
                .map(|values| values.iter().flat_map(|value| value.to_le_bytes()).collect())
                .unwrap_or_default(),
            behaviours: self
                .past(row)
                .iter()
                .map(|past| Behaviour {
                    item: text(past.ids[0]),
                    campaign: text(past.ids[1]),
                    category: text(past.ids[2]),
                    kind: past.kind as i32,
                    age_ms: past.age_ms,
                })
                .collect(),
            ..FeatureVector::default()
        }
    }
}

/// Makes rows of raw records, one after the other in their order of arrival.
pub struct Maker {
    core: Core,
    merge: Merge,
    decoder: Decoder,
    catalogue: Catalogue,
    offset: i64,
    allowed_lateness_ms: i64,
    click_window_ms: i64,
    /// Offset of the next record of each topic.
    sources: HashMap<&'static str, i64>,
    greatest_ms: i64,
    ticked_ms: i64,
    sink: Gather,
    refused: u64,
}

impl Maker {
    /// For these declarations; raw records come on these topics.
    ///
    /// # Errors
    /// Declarations that cannot be meant.
    pub fn new(
        features: &features::Config,
        ingest: &ingest::Config,
        catalogue: Catalogue,
        topics: &[&'static str],
    ) -> Result<Self> {
        let plan = Arc::new(Plan::compile(features)?);
        let key = PseudonymKey::new("k1", b"nobody here is a person: a benchmark".to_vec())?;
        let decoder = Decoder::new(ingest, Pseudonymizer::new(&key))?;
        let sink = Gather {
            rows: Rows {
                schema: plan.vector_schema(),
                impressions: Vec::new(),
                texts: vec![String::new()],
                embeddings: HashMap::new(),
                fingerprint: plan.schema_fingerprint(),
                numbers: Vec::new(),
                past: Vec::new(),
            },
            numbers_of: HashMap::from([(String::new(), 0)]),
            row_at: HashMap::new(),
            truth: None,
            tiles: Vec::new(),
        };
        let mut maker = Self {
            merge: Merge::new(Arc::clone(&plan), 1),
            core: Core::new(plan, 0),
            decoder,
            catalogue,
            offset: 0,
            allowed_lateness_ms: ingest.allowed_lateness.0,
            click_window_ms: features.click_window.0,
            sources: topics.iter().map(|topic| (*topic, 0)).collect(),
            greatest_ms: i64::MIN,
            ticked_ms: i64::MIN,
            sink,
            refused: 0,
        };
        let mut topics = topics.to_vec();
        topics.sort_unstable();
        let sources = topics.into_iter().map(source).collect();
        maker.step(&Entry::Control(Control::Sources(SourceSet { sources })));
        Ok(maker)
    }

    fn step(&mut self, entry: &Entry) {
        let place = Place { partition: 0, offset: self.offset };
        self.offset += 1;
        self.core.step(entry, place, &mut self.sink);
        // With one partition, a version is complete with its tiles, and marked at once.
        for tiles in std::mem::take(&mut self.sink.tiles) {
            for version in self.merge.step(&tiles) {
                self.step(&Entry::Control(Control::Entities(version)));
            }
        }
    }

    /// One raw record; `truth` is of the impression that it is.
    ///
    /// # Errors
    /// A topic that was not named.
    pub fn push(&mut self, topic: &'static str, value: &[u8], truth: Option<Truth>) -> Result<()> {
        let offset = self.sources.get_mut(topic).context("a record of an unnamed topic")?;
        let kind = match topic {
            schemas::topic::CLICKS => RawTopic::Clicks,
            schemas::topic::PURCHASES => RawTopic::Purchases,
            _ => RawTopic::Views,
        };
        let place = RawPlace { kind, topic, partition: 0, offset: *offset, timestamp_ms: 0 };
        *offset += 1;
        let Ok(events) = self.decoder.decode(place, Some(value), &self.catalogue) else {
            self.refused += 1;
            return Ok(());
        };
        self.greatest_ms = self.greatest_ms.max(events.time_ms());
        let events: Vec<Event> = match events {
            Events::One(event) => vec![*event],
            Events::Lines(events) => events,
        };
        for event in events {
            self.sink.truth = truth;
            self.step(&Entry::Event(Box::new(event)));
        }
        // As ingest: a tick when the watermark has moved by a second.
        if self.greatest_ms.saturating_sub(self.ticked_ms) >= 1_000 {
            self.tick(self.greatest_ms - self.allowed_lateness_ms);
        }
        Ok(())
    }

    /// One tick for all sources: their records come merged by time.
    fn tick(&mut self, watermark_ms: i64) {
        self.ticked_ms = self.greatest_ms;
        let mut topics: Vec<_> = self.sources.keys().copied().collect();
        topics.sort_unstable();
        let ticks = topics
            .into_iter()
            .map(|topic| Tick { source: source(topic), watermark_ms, idle: false })
            .collect();
        self.step(&Entry::Control(Control::Ticks(Ticks { ticks })));
    }

    /// The rows, once the click window of the last has passed; purchases are known as far as they
    /// have come by then, as a trainer that reads the tables at that moment would know them.
    pub fn finish(mut self) -> Rows {
        let until_ms = self.greatest_ms.saturating_add(self.click_window_ms + 1);
        loop {
            // A record fires only so many labels.
            let before = self.core.counts().labels;
            self.tick(until_ms);
            if self.core.counts().labels == before {
                break;
            }
        }
        if self.refused > 0 {
            tracing::warn!(records = self.refused, "refused by the decoder");
        }
        let mut rows = self.sink.rows;
        rows.impressions.retain(|row| row.label.clock_ms != i64::MIN);
        rows.impressions.sort_by_key(|row| (row.at_ms, row.offset));
        rows
    }
}

fn source(topic: &str) -> Source {
    Source { topic: topic.into(), partition: 0 }
}

/// Takes what the core puts out.
struct Gather {
    rows: Rows,
    numbers_of: HashMap<String, u32>,
    row_at: HashMap<i64, usize>,
    truth: Option<Truth>,
    tiles: Vec<EntityTiles>,
}

impl Gather {
    fn text(&mut self, text: &str) -> u32 {
        if let Some(&number) = self.numbers_of.get(text) {
            return number;
        }
        let number = self.rows.texts.len() as u32;
        self.rows.texts.push(text.to_owned());
        self.numbers_of.insert(text.to_owned(), number);
        number
    }
}

impl Sink for Gather {
    fn vector(&mut self, vector: &VectorView<'_>) {
        let event = vector.event;
        let ids = [
            &event.user,
            &event.item,
            &event.campaign,
            &event.category,
            &event.brand,
            &event.placement,
            &event.device,
            &event.channel,
        ]
        .map(|text| self.text(text));
        if !event.embedding.is_empty() {
            self.rows.embeddings.entry(ids[ITEM]).or_insert_with(|| event.embedding.clone());
        }
        let first = self.rows.past.len();
        for (item, campaign, category, kind, age_ms) in vector.behaviours() {
            let ids = [item, campaign, category].map(|text| self.text(text));
            self.rows.past.push(Past { ids, kind, age_ms });
        }
        let numbers = self.rows.numbers.len();
        self.rows.numbers.extend_from_slice(vector.values);
        self.row_at.insert(vector.place.offset, self.rows.impressions.len());
        self.rows.impressions.push(Impression {
            at_ms: event.event_time_ms,
            ids,
            price: event.value,
            // No label yet: its clock says so.
            label: Label { clock_ms: i64::MIN, ..Label::default() },
            truth: self.truth,
            offset: vector.place.offset,
            numbers,
            past: first..self.rows.past.len(),
        });
    }

    fn label(&mut self, label: &Label) {
        if let Some(&row) = self.row_at.get(&label.place.offset) {
            // The texts of a label repeat its impression's.
            let [user, item, campaign] = [String::new(), String::new(), String::new()];
            self.rows.impressions[row].label = Label { user, item, campaign, ..label.clone() };
        }
    }

    fn duplicate(&mut self, _: Duplicate) {}

    fn hours(&mut self, _: EntityTiles) {}

    fn tiles(&mut self, tiles: EntityTiles) {
        self.tiles.push(tiles);
    }
}
