//! An event file in the making.

use prost::Message as _;

use super::proto::{
    Content, Dimension, Event, Metadata, Plugin, PrCurveData, Shape, Summary, Tensor, Value, What,
};
use super::{PrCurve, THRESHOLDS, histogram, record};

/// Events as they will stand in the file; `take` what is new from time to time.
#[derive(Debug)]
pub struct Events {
    bytes: Vec<u8>,
}

impl Events {
    /// Begins a file at this wall clock, ms since 1970 UTC.
    pub fn new(wall_ms: i64) -> Self {
        let mut events = Self { bytes: Vec::new() };
        events.push(&Event {
            wall_time: seconds(wall_ms),
            step: 0,
            what: Some(What::FileVersion("brain.Event:2".to_owned())),
        });
        events
    }

    /// Goes on with a file after `step`: what it has beyond that is cut, as is a record that was not
    /// finished.
    pub fn resume(bytes: &[u8], step: u64, wall_ms: i64) -> Self {
        let mut kept = Vec::new();
        let mut rest = bytes;
        while let Some((payload, after)) = record::split(rest) {
            if Event::decode(payload).is_ok_and(|event| event.step <= step as i64) {
                kept.extend_from_slice(&rest[..rest.len() - after.len()]);
            }
            rest = after;
        }
        if kept.is_empty() { Self::new(wall_ms) } else { Self { bytes: kept } }
    }

    /// What was written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn push(&mut self, event: &Event) {
        record::append(&mut self.bytes, &event.encode_to_vec());
    }

    fn values(&mut self, wall_ms: i64, step: u64, value: Vec<Value>) {
        self.push(&Event {
            wall_time: seconds(wall_ms),
            step: step as i64,
            what: Some(What::Summary(Summary { value })),
        });
    }

    /// Numbers of a step, by tag.
    pub fn scalars<'a>(
        &mut self,
        wall_ms: i64,
        step: u64,
        scalars: impl IntoIterator<Item = (&'a str, f64)>,
    ) {
        let value = |(tag, value): (&str, f64)| Value {
            tag: tag.to_owned(),
            metadata: None,
            content: Some(Content::Simple(value as f32)),
        };
        self.values(wall_ms, step, scalars.into_iter().map(value).collect());
    }

    /// How a tensor's values are spread.
    pub fn histogram(&mut self, wall_ms: i64, step: u64, tag: &str, values: &[f32]) {
        let content = Some(Content::Histogram(histogram::of(values)));
        self.values(wall_ms, step, vec![Value { tag: tag.to_owned(), metadata: None, content }]);
    }

    /// A PR curve.
    pub fn pr_curve(&mut self, wall_ms: i64, step: u64, tag: &str, curve: &PrCurve) {
        let data = PrCurveData { version: 0, thresholds: THRESHOLDS as u32 };
        let plugin = Plugin { name: "pr_curves".to_owned(), content: data.encode_to_vec() };
        let dim = [curve.rows.len(), THRESHOLDS].map(|size| Dimension { size: size as i64 });
        let tensor = Tensor {
            dtype: 1,
            shape: Some(Shape { dim: dim.to_vec() }),
            float_val: curve.rows.iter().flatten().copied().collect(),
        };
        let value = Value {
            tag: tag.to_owned(),
            metadata: Some(Metadata { plugin: Some(plugin), display_name: String::new() }),
            content: Some(Content::Tensor(tensor)),
        };
        self.values(wall_ms, step, vec![value]);
    }
}

fn seconds(wall_ms: i64) -> f64 {
    wall_ms as f64 / 1_000.0
}
