//! The benchmark's network and examples: 24 categorical fields over tables of a million rows, 26
//! numbers, one two-headed attention layer over these 50 tokens, an MLP of 256 and 128. Made by a seed;
//! written down for the peers.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use model::config::{BehaviourEncoder, NetworkKind};
use model::encode::Outcome;
use model::random::Random;
use model::{Config, EncodedSet, Encoder, Model};
use serde_json::json;

const FIELDS: [&str; 24] = [
    "field00", "field01", "field02", "field03", "field04", "field05", "field06", "field07", "field08",
    "field09", "field10", "field11", "field12", "field13", "field14", "field15", "field16", "field17",
    "field18", "field19", "field20", "field21", "field22", "field23",
];
/// Rows of a field's table: all together a little more than a million.
const ROWS: u32 = 41_667;
const NUMBERS: usize = 26;
/// Examples of a step.
pub(super) const BATCH: usize = 1024;
const SEED: u64 = 1;

/// Network and examples.
pub(super) struct Case {
    pub(super) config: Config,
    pub(super) set: EncodedSet,
    threads: usize,
}

impl Case {
    /// `examples` made by the seed: uniform ids, normal-like numbers, clicks that follow some of them.
    pub(super) fn new(examples: usize, threads: usize) -> Result<Self> {
        let mut config = defaults()?;
        let network = &mut config.network;
        (network.kind, network.behaviours) = (NetworkKind::AttentionMlp, BehaviourEncoder::None);
        (network.width, network.layers, network.heads) = (16, 1, 2);
        network.mlp = vec![256, 128];
        network.dropout = 0.5;
        let training = &mut config.training;
        (training.batch_size, training.min_steps_per_epoch) = (BATCH, 0);
        // The peers take no more than steps: no clipping, no averaging.
        training.clip_norm = 0.0;
        training.threads = threads;
        // What is measured is the second epoch: most rows have been named before, as in a long training.
        training.max_epochs = 2;
        training.validations_per_epoch = 1;
        let names: Vec<String> = (0..NUMBERS).map(|number| format!("number{number:02}")).collect();
        let fields = FIELDS.map(|name| (name, ROWS));
        let encoder = Encoder::of_rows(&fields, &names, &config.encoder);
        let mut set = EncodedSet::new(&encoder);
        let mut random = Random::new(SEED, "case");
        let (mut ids, mut numbers) = ([0; FIELDS.len()], [0.0; NUMBERS]);
        for _ in 0..examples {
            for (field, id) in ids.iter_mut().enumerate() {
                *id = field as u32 * ROWS + random.below(ROWS as usize) as u32;
            }
            // Sums of three uniform numbers, with deviation 1.
            numbers.fill_with(|| random.symmetric(1.0) + random.symmetric(1.0) + random.symmetric(1.0));
            let clicked = numbers[0] + numbers[1] * numbers[2] + random.symmetric(2.0) > 0.0;
            let outcome = Outcome { clicked, matured: true, ..Outcome::default() };
            ensure!(set.push_row(&ids, &numbers, outcome), "an example does not fit its encoder");
        }
        Ok(Self { config, set, threads })
    }

    /// Writes shape and examples down, numbers as the model standardises them, and its weights.
    pub(super) fn write(&self, folder: &Path, model: Option<&Model>) -> Result<()> {
        let network = &self.config.network;
        let about = json!({
            "fields": FIELDS.len(), "numbers": NUMBERS, "width": network.width, "heads": network.heads,
            "layers": network.layers, "mlp": network.mlp, "outputs": model::network::HEADS,
            "batch": BATCH, "dropout": network.dropout, "table_rows": self.set.encoder().table_rows(),
            "threads": self.threads, "tables": FIELDS.map(|name| format!("table.{name}")),
        });
        fs::write(folder.join("case.json"), serde_json::to_vec(&about)?)?;
        let (mut ids, mut numbers, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..self.set.len() {
            let row = self.set.row(index);
            ids.extend(row.ids.iter().flat_map(|id| id.to_le_bytes()));
            for (column, &value) in row.numbers.iter().enumerate() {
                let value = match model {
                    Some(model) => model.statistics().standardise(column, value).unwrap_or(0.0),
                    None => value,
                };
                numbers.extend(value.to_le_bytes());
            }
            targets.extend(f32::from(u8::from(self.set.outcomes()[index].clicked)).to_le_bytes());
        }
        fs::write(folder.join("ids.bin"), ids)?;
        fs::write(folder.join("numbers.bin"), numbers)?;
        fs::write(folder.join("targets.bin"), targets)?;
        if let Some(model) = model {
            fs::write(folder.join("weights.safetensors"), model.to_safetensors()?)?;
        }
        Ok(())
    }
}

/// The default model, whatever the user's config says: the peers compute this one.
fn defaults() -> Result<Config> {
    #[derive(serde::Deserialize)]
    struct File {
        model: Config,
    }
    let file: File = toml::from_str(model::DEFAULTS).context("the model's defaults")?;
    Ok(file.model)
}
