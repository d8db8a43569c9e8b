//! A small model for the scorer: what it has learned does not matter here, what it costs does.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use model::{Artefact, Job};
use runtime::kafka::Sender;
use runtime::processor::OutRecord;
use schemas::{Codec, Json, ModelAnnouncement};
use trainer::split::Parts;

use crate::bench::quality::encoded::Encoded;
use crate::bench::quality::sets::Set;
use crate::config::Config;
use crate::context::Context;

/// Impressions that it is trained on, once.
const IMPRESSIONS: usize = 3_000;
/// Its version.
pub(super) const VERSION: &str = "v000001";

/// The network of the configuration, trained on a few impressions of its market.
///
/// # Errors
/// Settings that make no market or no network.
pub(super) fn train(config: &Config, seed: u64) -> Result<Artefact> {
    let rows = Set::Market(config.market.kind).rows(config, IMPRESSIONS as u64, seed, None)?;
    let (learned, all) = (IMPRESSIONS * 4 / 5, rows.impressions.len());
    let parts = Parts { train: 0..learned, validation: learned..all, test: all..all };
    let Encoded { training, validation, .. } = Encoded::new(&rows, &parts, &config.model)?;
    let mut settings = config.model.clone();
    settings.training.max_epochs = 1;
    let (training, validation) = (training.all(), validation.all());
    let trained = model::train(Job::new(&training, &validation, &settings).with_seed(seed), &mut ())?;
    Ok(trained.artefact(&serde_json::json!({}))?)
}

/// Puts it into the deployment's store and announces it.
///
/// # Errors
/// A store or a broker that does not take it.
pub(super) fn publish(context: &Context, artefact: &Artefact) -> Result<()> {
    let uri = context.registry().uri(VERSION);
    for (name, bytes) in artefact.files() {
        context.store.put_blocking(&format!("{uri}/{name}"), bytes.clone())?;
    }
    let announcement = ModelAnnouncement {
        version: ModelAnnouncement::VERSION,
        name: context.config.trainer.model.clone(),
        model_version: VERSION.to_owned(),
        uri,
        checksum: artefact.checksum(),
        fingerprint: format!("{:016x}", context.vector_schema.fingerprint()),
        announced_ms: crate::clock::wall_ms(),
    };
    let sender = Sender::new(&context.config.kafka)?;
    sender.send(&OutRecord {
        topic: Arc::clone(&context.names.models),
        partition: None,
        key: Some(Bytes::copy_from_slice(announcement.name.as_bytes())),
        value: Some(Json::to_vec(&announcement).into()),
        headers: Vec::new(),
    })?;
    sender.flush(Duration::from_secs(30)).context("announcing the benchmark's model")
}
