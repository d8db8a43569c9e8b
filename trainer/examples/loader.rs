//! Whether the data loader keeps a trainer fed: `cargo run --release -p trainer --example loader --
//! [examples] [folder]`.
//!
//! Spills encoded examples, reads them back, then trains on the blocks from disk and on the same
//! blocks held in memory: what the first takes longer is what training waits
//! for data.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![expect(clippy::disallowed_methods, reason = "it measures time and decides nothing by it")]

#[path = "../../model/tests/synthetic/mod.rs"]
mod synthetic;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use model::encode::{KeyedSet, Outcome, VocabularyFit};
use model::{Block, Config, EncodedSet, Encoder, Job, Source, SourceError};
use schemas::FeatureVector;
use trainer::dataset::Training;
use trainer::spill::Writer;

const BLOCK_ROWS: usize = 16_384;

/// The same blocks, all in memory.
struct Held<'a> {
    blocks: Vec<Arc<EncodedSet>>,
    encoder: &'a Encoder,
}

impl Source for Held<'_> {
    fn encoder(&self) -> &Encoder {
        self.encoder
    }

    fn blocks(&self) -> usize {
        self.blocks.len()
    }

    fn block(&self, number: usize) -> Result<Block<'_>, SourceError> {
        Ok(Block::from(Arc::clone(&self.blocks[number])))
    }

    fn samples(&self) -> &[FeatureVector] {
        &[]
    }
}

fn main() {
    #[derive(serde::Deserialize)]
    struct File {
        model: Config,
    }
    let mut arguments = std::env::args().skip(1);
    let rows: usize = arguments.next().map_or(200_000, |text| text.parse().unwrap());
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let mut config = toml::from_str::<File>(model::DEFAULTS).unwrap().model;
    config.encoder.dictionaries = vec!["item".into()];
    // 98 numbers, 7 ids, 6 behaviours on average.
    let schema = synthetic::schema(16);
    let encoder = Encoder::new(&schema, &config.encoder);
    let mut writer = Writer::scattered(&folder, KeyedSet::new(&encoder), BLOCK_ROWS, rows, 1).unwrap();
    let mut spent = 0.0;
    for part in 0..rows.div_ceil(10_000) {
        let made = synthetic::make(&schema, 10_000.min(rows - part * 10_000), 0, part as u64);
        let start = Instant::now();
        for made in &made {
            let outcome = Outcome::from(&made.label);
            writer.push(|set| Ok(set.push(&encoder, &made.vector, outcome, 1.0)?)).unwrap();
        }
        spent += start.elapsed().as_secs_f64();
    }
    let most = writer.most_bytes();
    let start = Instant::now();
    let blocks = writer.finish().unwrap();
    spent += start.elapsed().as_secs_f64();
    println!(
        "encode and spill: {:.0} examples/s, {:.0} B each, at most {:.0} MB held",
        rows as f64 / spent,
        blocks.bytes() as f64 / rows as f64,
        most as f64 / 1e6
    );
    let start = Instant::now();
    let mut fit = VocabularyFit::new(&encoder);
    for block in blocks.all() {
        fit.add(&block.unwrap());
    }
    let (encoder, ids) = fit.finish();
    println!(
        "fit ids: {:.0} examples/s ({} items)",
        rows as f64 / start.elapsed().as_secs_f64(),
        ids[0].distinct
    );
    let start = Instant::now();
    for number in 0..blocks.len() {
        assert_eq!(blocks.read(number).unwrap().resolve(&encoder).len(), blocks.block_rows(number));
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "load: {:.1} blocks/s, {:.0} examples/s, {:.0} MB/s, one thread",
        blocks.len() as f64 / seconds,
        rows as f64 / seconds,
        blocks.bytes() as f64 / seconds / 1e6
    );
    config.training.max_epochs = 2;
    config.training.validations_per_epoch = 1;
    let held = Held {
        blocks: blocks.all().map(|block| Arc::new(block.unwrap().resolve(&encoder))).collect(),
        encoder: &encoder,
    };
    let validation = held.blocks[0].select(0..1_000);
    let disk = Training::new(&blocks, &encoder, &[]);
    let mut spent = [f64::INFINITY; 2];
    let mut weights = Vec::new();
    // In turns, and the best of each: other work on the machine must not decide.
    for _ in 0..3 {
        for (which, source) in [&disk as &dyn Source, &held].into_iter().enumerate() {
            let start = Instant::now();
            let trained = model::train(Job::new(source, &validation, &config), &mut ()).unwrap();
            spent[which] = start.elapsed().as_secs_f64().min(spent[which]);
            weights.push(trained.model.weights_checksum().unwrap());
        }
    }
    weights.dedup();
    assert_eq!(weights.len(), 1, "the same training, whatever the source");
    let [from_disk, from_memory] = spent;
    println!(
        "train, 2 epochs: {:.0} examples/s from disk, {:.0} from memory: {:.1} % of the time is waiting for data",
        2.0 * rows as f64 / from_disk,
        2.0 * rows as f64 / from_memory,
        100.0 * (1.0 - from_memory / from_disk).max(0.0),
    );
}
