//! `TensorBoard` event files: what `tensorboard --logdir` shows of a training, and a reader of the
//! same. Knows no model and no clock: times are given.
//!
//! The few crates that write such files bring another protobuf library and an image decoder; the
//! format itself is small: records framed as `TFRecord` ([`record`]) of protobuf messages
//! ([`proto`]).

mod histogram;
mod pr_curve;
mod proto;
mod reader;
mod record;
mod writer;

pub use pr_curve::{PrCurve, THRESHOLDS};
pub use reader::{Curve, ReadError, Series, read};
pub use writer::Events;

/// The name of an event file: `TensorBoard` reads files whose names hold `tfevents`.
pub fn file_name(started_ms: i64) -> String {
    format!("events.out.tfevents.{}.salience", started_ms.max(0) / 1_000)
}
