//! How long a worker without a snapshot takes to come to its state.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use features::{Config, factory};
use runtime::processor::{InRecord, Input, Outputs, ProcessorFactory as _, TopicRecord, UnitId};
use schemas::topic::Names;
use schemas::{Codec as _, Entry, Protobuf};

use super::BATCH;
use super::workload::{self, Row};
use crate::bench::watch::Watch;

/// Seconds of replaying these rows' records, which must give the state that is in `snapshot`.
pub(super) fn replay(config: &Config, rows: &[Row], snapshot: &[u8]) -> Result<f64> {
    let factory = factory(config, &Names::new(""))?;
    let topic = factory.inputs().swap_remove(0);
    let mut processor = factory.create(UnitId(0), None)?;
    let (mut seconds, mut next, mut out) = (0.0, 0, Outputs::default());
    let mut replay = |entries: &[Entry]| -> Result<()> {
        let records: Vec<InRecord> =
            (next..).zip(entries).map(|(offset, entry)| record(&topic, offset, entry)).collect();
        next += records.len() as i64;
        let watch = Watch::start();
        processor.replay(Input::Records { records: &records, now_ms: 0 }, &mut out)?;
        seconds += watch.seconds();
        ensure!(out.records.is_empty() && !out.rebuild, "a replay puts nothing out");
        Ok(())
    };
    replay(&[workload::sources()])?;
    for (number, rows) in rows.chunks(BATCH).enumerate() {
        replay(&workload::entries(rows, number * BATCH, false))?;
    }
    let image = processor.image().context("a state that waits for nothing has an image")?;
    image.begin(true);
    let mut rest = snapshot;
    while let Some(part) = image.next_part(usize::MAX)? {
        let same = rest.strip_prefix(part.as_slice());
        rest =
            same.context("a replayed fold writes another snapshot than the one that was fed the stream")?;
    }
    ensure!(
        rest.is_empty(),
        "a replayed fold writes a shorter snapshot than the one that was fed the stream"
    );
    Ok(seconds)
}

fn record(topic: &Arc<str>, offset: i64, entry: &Entry) -> InRecord {
    let value = Some(Protobuf::to_vec(entry).into());
    let record = TopicRecord { partition: 0, offset, timestamp_ms: 0, key: None, value, headers: Vec::new() };
    InRecord { topic: Arc::clone(topic), record }
}
