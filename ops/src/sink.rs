//! Reads predictions as an optimizer would: counts them, measures their latency, and judges them
//! by what came of the impressions where somebody knows.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use runtime::processor::TopicPartition;
use runtime::shutdown::Shutdown;
use schemas::prediction::Status;
use schemas::{Codec, Json, Prediction};
use serde::Serialize;

use crate::clock::wall_ms;
use crate::context::Context;
use crate::quality::Quality;

/// Impressions whose truth is remembered until their prediction comes; more are forgotten, oldest
/// first is not worth an index: the newest are dropped.
const MOST_TRUTHS: usize = 500_000;

/// The truth of an impression, as the market knows it.
#[derive(Debug, Clone, Copy)]
pub struct Truth {
    /// True probability of a click.
    pub p_click: f64,
    /// What came of it.
    pub clicked: bool,
}

/// What the sink has seen.
#[derive(Debug)]
pub struct Seen {
    /// By the kind of prediction.
    pub fallback: u64,
    /// By the kind of prediction.
    pub scored: u64,
    /// By model version.
    pub by_model: BTreeMap<String, u64>,
    /// From the raw record's Kafka timestamp to the reading of the prediction, ms, wall clock.
    pub latency: Histogram<u64>,
    /// Quality of the scored ones whose truth is known.
    pub quality: Quality,
    truths: HashMap<String, Truth>,
}

/// Latency in the report.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Median, ms.
    pub p50: f64,
    /// 99th percentile, ms.
    pub p99: f64,
}

impl Seen {
    /// Predictions of any kind.
    pub fn predictions(&self) -> u64 {
        self.fallback + self.scored
    }

    /// Percentiles of the latency.
    pub fn latency(&self) -> Latency {
        let at = |q| self.latency.value_at_quantile(q) as f64;
        Latency { p50: at(0.50), p99: at(0.99) }
    }
}

/// A shared view of a running sink.
#[derive(Debug, Clone)]
pub struct Sink {
    seen: Arc<Mutex<Seen>>,
}

impl Sink {
    /// A sink that has seen nothing.
    ///
    /// # Errors
    /// None in practice: the histogram's bounds are constant.
    pub fn new() -> Result<Self> {
        let latency = Histogram::new_with_bounds(1, 3_600_000, 3)?;
        Ok(Self {
            seen: Arc::new(Mutex::new(Seen {
                fallback: 0,
                scored: 0,
                by_model: BTreeMap::new(),
                latency,
                quality: Quality::default(),
                truths: HashMap::new(),
            })),
        })
    }

    /// Looks at what has been seen.
    pub fn look<T>(&self, see: impl FnOnce(&Seen) -> T) -> T {
        see(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the truth of an impression before it is sent.
    pub fn know(&self, event_id: &str, truth: Truth) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.truths.len() < MOST_TRUTHS {
            seen.truths.insert(event_id.to_owned(), truth);
        }
    }

    /// Reads until the shutdown is set. Starts where the topic ends now.
    ///
    /// # Errors
    /// A topic that cannot be read, a record that is no prediction.
    pub fn run(&self, context: &Context, shutdown: &Shutdown) -> Result<()> {
        let topic = &context.names.predictions;
        let mut reader = context.reader()?;
        let ends = reader.end_offsets(topic)?;
        let starts: Vec<_> = ends
            .iter()
            .enumerate()
            .map(|(at, end)| (TopicPartition { topic: Arc::clone(topic), partition: at as i32 }, *end))
            .collect();
        reader.assign(&starts)?;
        while !shutdown.is_set() {
            let records = reader.poll(5_000, Duration::from_millis(50))?;
            let now_ms = wall_ms();
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            for record in records {
                let prediction: Prediction = Json::decode(&record.record.value.unwrap_or_default())?;
                seen.take(&prediction, now_ms);
            }
        }
        Ok(())
    }
}

impl Seen {
    fn take(&mut self, prediction: &Prediction, now_ms: i64) {
        *self.by_model.entry(prediction.model_version.clone()).or_default() += 1;
        self.latency.saturating_record((now_ms - prediction.received_ms).max(1).unsigned_abs());
        let truth = self.truths.remove(&prediction.event_id);
        match prediction.status {
            Status::Fallback => self.fallback += 1,
            Status::Scored => {
                self.scored += 1;
                if let Some(truth) = truth {
                    self.quality.add(f64::from(prediction.p_click), truth.p_click, truth.clicked);
                }
            }
        }
    }
}
