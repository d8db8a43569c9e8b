//! Made-up impressions with known probabilities, for tests and the speed example.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use schemas::vector::{Scale, VectorField};
use schemas::{Behaviour, FeatureVector, Kind, Label, Origin, Place, VectorSchema};
use serde::de::DeserializeOwned;

/// The section `[model]` of `text`, with ids hashed: most tests fit no dictionary.
pub fn defaults<Config: DeserializeOwned>(text: &str) -> Config {
    let mut table: toml::Table = toml::from_str(text).unwrap();
    table["model"]["encoder"]["dictionaries"] = toml::Value::Array(Vec::new());
    table["model"].clone().try_into().unwrap()
}

/// `SplitMix64`.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// One example with the probabilities behind it.
#[derive(Clone)]
pub struct Made {
    pub vector: FeatureVector,
    pub label: Label,
    pub p_click: f64,
}

/// `features` counts of six windows each, and two rates.
pub fn schema(features: usize) -> VectorSchema {
    let mut fields = Vec::new();
    for feature in 0..features {
        for window in ["1m", "10m", "1h", "1d", "7d", "30d"] {
            fields.push(VectorField {
                name: format!("user_count{feature}_{window}"),
                scale: Scale::Log,
                doc: String::new(),
            });
        }
    }
    for name in ["user_rate", "hour_of_day"] {
        fields.push(VectorField { name: name.to_owned(), scale: Scale::Linear, doc: String::new() });
    }
    VectorSchema { fields }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// `count` impressions: clicks follow the category's being among recent behaviours, the user's
/// rate, the item, and a crossing of device and placement.
pub fn make(schema: &VectorSchema, count: usize, embedding: usize, seed: u64) -> Vec<Made> {
    let mut dice = Dice(seed);
    let fingerprint = schema.fingerprint();
    let numbers = schema.fields.len();
    (0..count)
        .map(|index| {
            let item = dice.below(500);
            let category = item % 20;
            let (device, placement) = (dice.below(3), dice.below(4));
            let rate = dice.unit() * 2.0 - 1.0;
            let length = dice.below(13) as usize;
            let behaviours: Vec<Behaviour> = (0..length)
                .map(|position| {
                    let past =
                        if dice.unit() < 0.15 { item % 20 + 20 * dice.below(25) } else { dice.below(500) };
                    Behaviour {
                        item: format!("i{past}"),
                        campaign: format!("c{}", past % 30),
                        category: format!("k{}", past % 20),
                        kind: if dice.unit() < 0.3 { Kind::Click as i32 } else { Kind::View as i32 },
                        age_ms: (position as i64 + 1) * 60_000 + dice.below(60_000) as i64,
                    }
                })
                .collect();
            let same = behaviours.iter().filter(|past| past.category == format!("k{category}")).count();
            let values: Vec<f32> = (0..numbers)
                .map(|column| {
                    if column == numbers - 2 {
                        rate as f32
                    } else if column == numbers - 1 {
                        dice.below(24) as f32
                    } else if dice.unit() < 0.1 {
                        f32::NAN
                    } else {
                        libm::exp(dice.unit() * 5.0) as f32 - 1.0
                    }
                })
                .collect();
            let crossed = if (device + placement) % 2 == 0 { 0.8 } else { -0.8 };
            let taste = ((item * 7919) % 101) as f64 / 50.0 - 1.0;
            let p_click = sigmoid(-1.2 + 1.3 * (same.min(2) as f64) + 0.9 * rate + taste + crossed);
            let clicked = dice.unit() < p_click;
            let price = 1.0 + (item % 50) as f64;
            let p_purchase = if clicked { sigmoid(0.5 - price / 25.0) } else { 0.02 };
            let matured = dice.unit() < 0.8;
            let purchased = matured && dice.unit() < p_purchase;
            let place = Place { offset: index as i64, ..Place::default() };
            let vector = FeatureVector {
                place,
                origin: Origin::default(),
                event_id: format!("e{index}"),
                event_time_ms: index as i64 * 1_000,
                user: format!("u{}", dice.below(1_000)),
                item: format!("i{item}"),
                campaign: format!("c{}", item % 30),
                category: format!("k{category}"),
                brand: if item.is_multiple_of(3) { String::new() } else { format!("b{}", item % 12) },
                placement: format!("p{placement}"),
                device: format!("d{device}"),
                channel: "web".to_owned(),
                price,
                currency: "EUR".to_owned(),
                fingerprint,
                values: values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into(),
                embedding: if index % 5 == 0 {
                    Bytes::new()
                } else {
                    (0..embedding)
                        .flat_map(|_| (dice.unit() as f32 - 0.5).to_le_bytes())
                        .collect::<Vec<u8>>()
                        .into()
                },
                behaviours,
                ..FeatureVector::default()
            };
            let label = Label {
                place,
                event_time_ms: vector.event_time_ms,
                clicked,
                purchased_after_click: purchased && clicked,
                purchased_after_view: purchased && !clicked,
                matured,
                value: if purchased { price } else { 0.0 },
                currency: if purchased { "EUR".to_owned() } else { String::new() },
                ..Label::default()
            };
            Made { vector, label, p_click }
        })
        .collect()
}
