//! What an event file holds.

use std::collections::BTreeMap;

use prost::Message as _;

use super::proto::{Content, Event, What};
use super::record;

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {number}, at byte {offset}, is damaged or cut off (fatal: restore the file from a copy)")]
pub struct ReadError {
    /// Which record, from 0.
    pub number: usize,
    /// Where it begins.
    pub offset: usize,
}

/// One tag's values, in the file's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Numbers, by step.
    pub scalars: Vec<(i64, f32)>,
    /// Histograms: step, values counted, least, greatest.
    pub histograms: Vec<(i64, f64, f64, f64)>,
    /// Curves, by step.
    pub curves: Vec<(i64, Curve)>,
}

/// A tensor of a plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// The plugin (`pr_curves`).
    pub plugin: String,
    /// Extents.
    pub shape: Vec<i64>,
    /// Values, row by row.
    pub values: Vec<f32>,
}

impl Series {
    /// One line: what it is, how many, the last value.
    pub fn describe(&self) -> String {
        if let Some((step, value)) = self.scalars.last() {
            format!("scalar     {:>5} values, {value} at step {step}", self.scalars.len())
        } else if let Some((step, count, min, max)) = self.histograms.last() {
            format!(
                "histogram  {:>5} values, {count} numbers from {min:.4} to {max:.4} at step {step}",
                self.histograms.len()
            )
        } else if let Some((step, curve)) = self.curves.last() {
            format!("{:<10} {:>5} values, {:?} at step {step}", curve.plugin, self.curves.len(), curve.shape)
        } else {
            "nothing".to_owned()
        }
    }
}

/// The tags of a file with their values.
///
/// # Errors
/// The first record that is damaged, or that a writer did not finish.
pub fn read(bytes: &[u8]) -> Result<BTreeMap<String, Series>, ReadError> {
    let mut tags: BTreeMap<String, Series> = BTreeMap::new();
    let mut rest = bytes;
    let mut number = 0;
    while !rest.is_empty() {
        let wrong = ReadError { number, offset: bytes.len() - rest.len() };
        let (payload, after) = record::split(rest).ok_or_else(|| wrong.clone())?;
        let event = Event::decode(payload).map_err(|_| wrong)?;
        if let Some(What::Summary(summary)) = event.what {
            for value in summary.value {
                let plugin =
                    value.metadata.and_then(|metadata| metadata.plugin).map_or_else(String::new, |p| p.name);
                let series = tags.entry(value.tag).or_default();
                match value.content {
                    Some(Content::Simple(value)) => series.scalars.push((event.step, value)),
                    Some(Content::Histogram(h)) => {
                        series.histograms.push((event.step, h.num, h.min, h.max));
                    }
                    Some(Content::Tensor(tensor)) => {
                        let shape =
                            tensor.shape.unwrap_or_default().dim.into_iter().map(|dim| dim.size).collect();
                        series.curves.push((event.step, Curve { plugin, shape, values: tensor.float_val }));
                    }
                    None => {}
                }
            }
        }
        rest = after;
        number += 1;
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Events, PrCurve, THRESHOLDS};
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut events = Events::new(1_700_000_000_000);
        for step in 0..3_u64 {
            events.scalars(1_700_000_000_000, step, [("loss", 1.0 / (step + 1) as f64), ("rate", 0.5)]);
        }
        events.histogram(1_700_000_000_500, 2, "weights/a", &[-1.0, 0.5, 2.0]);
        let curve = PrCurve::of([(0.9, true), (0.1, false)]);
        events.pr_curve(1_700_000_000_500, 2, "click", &curve);
        let tags = read(events.bytes()).unwrap();
        assert_eq!(tags.keys().collect::<Vec<_>>(), ["click", "loss", "rate", "weights/a"]);
        assert_eq!(tags["loss"].scalars, [(0, 1.0), (1, 0.5), (2, 1.0 / 3.0)]);
        assert_eq!(tags["weights/a"].histograms, [(2, 3.0, -1.0, 2.0)]);
        let (step, read) = &tags["click"].curves[0];
        assert_eq!(
            (*step, read.plugin.as_str(), &read.shape[..]),
            (2, "pr_curves", &[6, THRESHOLDS as i64][..])
        );
        assert_eq!(read.values, curve.rows.concat());
        let resumed = Events::resume(&events.bytes()[..events.bytes().len() - 3], 1, 0);
        let tags = super::read(resumed.bytes()).unwrap();
        assert_eq!(tags.keys().collect::<Vec<_>>(), ["loss", "rate"]);
        assert_eq!(tags["loss"].scalars, [(0, 1.0), (1, 0.5)]);
        let cut = &events.bytes()[..events.bytes().len() - 1];
        assert_eq!(super::read(cut).unwrap_err().number, 5);
    }
}
