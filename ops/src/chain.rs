//! Features and the scorer in one worker and one transaction: `run.chain`.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use runtime::chain::ChainFactory;
use runtime::processor::{InRecord, StandIn, StepError};
use runtime::shutdown::Shutdown;
use runtime::worker::{self, is_stood_in};
use schemas::{Codec, FeatureVector, Protobuf};
use scorer::{Served, Slot};

use crate::context::Context;
use crate::declared;
use crate::log::{Cursor, Range};

/// How often to look whether the scorer has read everything.
const LOOK: Duration = Duration::from_millis(200);

/// Runs both until they are asked to stop: as the service `features`, whose vectors are scored before they are
/// sent.
///
/// # Errors
/// What stops either of them.
pub(crate) fn run(context: &Context, shutdown: Shutdown) -> Result<()> {
    finish_scorer(context, &shutdown)?;
    let settings = context.settings();
    let lookup = declared::lookup(context);
    let served = Served::start(&context.config.scorer, lookup, &context.names, &settings, Slot::new())?;
    let topic = Arc::clone(&context.names.feature_vectors);
    let stand_in = StandIn { service: "scorer".into(), topic, made_of: view_of };
    let chain = ChainFactory::new(context.spilling_features()?, served.factory(), stand_in)?;
    Ok(worker::run("features", Arc::new(chain), &settings, shutdown)?)
}

/// The offset of the view that a vector is of.
fn view_of(record: &InRecord) -> Result<i64, StepError> {
    let value = record.record.value.clone().unwrap_or_default();
    let vector: FeatureVector = Protobuf::decode(&value).map_err(|error| {
        let (at, offset) = (record.topic_partition(), record.record.offset);
        StepError::new(format_args!("{at} offset {offset}: {error}"))
    })?;
    Ok(vector.place.offset)
}

/// Lets a scorer by itself read what features by themselves have left to it. It leaves its group then.
fn finish_scorer(context: &Context, shutdown: &Shutdown) -> Result<()> {
    let committed = context.admin.committed(&context.group("scorer"), &context.names.feature_vectors)?;
    let is_chained = |at: &Option<(i64, String)>| at.as_ref().is_some_and(|(_, text)| is_stood_in(text));
    if committed.iter().all(is_chained) || !is_unread(context)? {
        return Ok(());
    }
    tracing::info!("scoring the vectors that features by themselves have left, before they are chained");
    let ending = Shutdown::new();
    thread::scope(|scope| {
        let scoring = scope.spawn(|| {
            let lookup = declared::lookup(context);
            let (settings, slot) = (context.settings(), Slot::new());
            scorer::run(&context.config.scorer, lookup, &context.names, &settings, slot, ending.clone())
        });
        let mut waited = Ok(());
        while !scoring.is_finished() && !shutdown.sleep(LOOK) {
            match is_unread(context) {
                Ok(true) => {}
                done => {
                    waited = done.map(drop);
                    break;
                }
            }
        }
        ending.drain();
        scoring.join().map_err(|_| anyhow!("the scorer panicked"))??;
        waited
    })
}

/// Whether there is a vector that the scorer's group has not read, and that features will not make again.
fn is_unread(context: &Context) -> Result<bool> {
    let vectors = &context.names.feature_vectors;
    let mut range = Range::whole(context, vectors)?;
    let read = context.admin.committed(&context.group("scorer"), vectors)?;
    let made = context.admin.committed(&context.group("features"), &context.names.events)?;
    for (begin, read) in range.begin.iter_mut().zip(read) {
        *begin = read.map_or(*begin, |(offset, _)| offset.max(*begin));
    }
    for (partition, made) in made.into_iter().enumerate() {
        // The first one tells: those behind it were made of later views.
        let first = Cursor::new(context, &range, partition)?.next()?;
        if let (Some(record), Some((made, _))) = (first, made)
            && view_of(&record)? < made
        {
            return Ok(true);
        }
    }
    Ok(false)
}
