//! Small models, trained here, and a checkpoint of one that is not.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use model::config::OptimizerKind;
use model::encode::{Dictionary, Outcome};
use model::{
    Artefact, Checkpoint, Config, EncodedSet, Encoder, Examples, Job, Observer, Progress, Snapshot,
    TrainError,
};
use schemas::VectorSchema;
use schemas::vector::{Scale, VectorField};
use serde::Deserialize;

use crate::records;

/// A network with all that an artefact may hold, and what it learns from.
pub struct Lesson {
    config: Config,
    /// What turns vectors into what it learns from.
    pub encoder: Encoder,
    training: EncodedSet,
    validation: EncodedSet,
}

/// Schema of the vectors that the models read.
pub fn schema() -> VectorSchema {
    let field = |name: &str, scale| VectorField { name: name.to_owned(), scale, doc: String::new() };
    VectorSchema {
        fields: vec![
            field("user_views_1h", Scale::Log),
            field("user_views_1d", Scale::Log),
            field("rate", Scale::Linear),
        ],
    }
}

fn config() -> Config {
    #[derive(Deserialize)]
    struct File {
        model: Config,
    }
    let mut config = toml::from_str::<File>(model::DEFAULTS).unwrap().model;
    config.network.width = 8;
    config.network.heads = 1;
    config.network.layers = 1;
    config.network.mlp = vec![4];
    (config.network.cross_layers, config.network.cross_rank) = (1, 2);
    config.encoder.max_behaviours = 3;
    config.encoder.content_embedding = 2;
    config.encoder.dictionaries = vec!["item".to_owned(), "campaign".to_owned()];
    config.encoder.user_buckets = 4;
    for buckets in [
        &mut config.encoder.item_buckets,
        &mut config.encoder.campaign_buckets,
        &mut config.encoder.category_buckets,
        &mut config.encoder.brand_buckets,
        &mut config.encoder.placement_buckets,
        &mut config.encoder.device_buckets,
        &mut config.encoder.channel_buckets,
    ] {
        *buckets = 6;
    }
    config.training.optimizer = OptimizerKind::AdamW;
    config.training.averaging = 0.5;
    config.training.value_weight = 0.5;
    config.training.batch_size = 16;
    config.training.max_epochs = 2;
    config.training.threads = 1;
    config
}

impl Lesson {
    fn new(config: Config) -> Self {
        let schema = schema();
        let ids = |keys: &[u64]| Dictionary::new(keys.to_vec());
        let encoder = Encoder::new(&schema, &config.encoder).with_dictionaries(&[ids(&[5, 6, 9]), ids(&[7])]);
        let set = |from: usize, to: usize| {
            let mut set = EncodedSet::new(&encoder);
            for n in from..to {
                let mut vector = records::vector(&schema, &[(n % 7) as f32, (n % 5) as f32, 0.25]);
                vector.item = format!("i-{}", n % 5);
                let outcome = Outcome {
                    clicked: n % 3 == 0,
                    purchased: n % 9 == 0,
                    matured: true,
                    value: 5.0 + (n % 46) as f32,
                    ..Outcome::default()
                };
                set.push_outcome(&vector, outcome, 1.0).unwrap();
            }
            set
        };
        Self { training: set(0, 48), validation: set(48, 64), config, encoder: encoder.clone() }
    }

    /// Trains, from a checkpoint if there is one, for so many steps.
    pub fn learn(
        &self,
        resume: Option<Checkpoint>,
        steps: u64,
    ) -> (Result<model::Trained, TrainError>, Option<Vec<u8>>) {
        let mut stopper = Stopper { left: steps, bytes: None };
        let all: Examples<'_> = self.training.all();
        let validation = self.validation.all();
        let job = Job::new(&all, &validation, &self.config).with_resume(resume);
        (model::train(job, &mut stopper), stopper.bytes)
    }
}

/// Takes a checkpoint after so many steps, and stops.
struct Stopper {
    left: u64,
    bytes: Option<Vec<u8>>,
}

impl Observer for Stopper {
    fn step(&mut self, _: &Progress, state: &Snapshot<'_>) -> ControlFlow<()> {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return ControlFlow::Continue(());
        }
        self.bytes = Some(state.to_bytes());
        ControlFlow::Break(())
    }
}

/// What all targets learn from.
pub static LESSON: LazyLock<Lesson> = LazyLock::new(|| Lesson::new(config()));

/// A whole training of it, as files.
pub static ARTEFACT: LazyLock<Artefact> = LazyLock::new(|| {
    let (trained, _) = LESSON.learn(None, u64::MAX);
    trained.unwrap().artefact(&serde_json::json!({ "name": "small" })).unwrap()
});
