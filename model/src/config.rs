//! The `[model]` section: network, encoder, training. Knows no file and no environment.

use schemas::duration::Millis;
use serde::{Deserialize, Serialize};

use crate::network::HEADS;

mod check;

pub use check::ConfigError;

/// Every key of the section with its default and its meaning, as TOML.
pub const DEFAULTS: &str = include_str!("default.toml");

/// `[model]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[model.network]`.
    pub network: NetworkConfig,
    /// `[model.encoder]`.
    pub encoder: EncoderConfig,
    /// `[model.training]`.
    pub training: TrainingConfig,
    /// `[model.calibration]`; none in configs of earlier versions.
    #[serde(default)]
    pub calibration: CalibrationConfig,
}

/// How what the heads say is made to come true as often as they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calibrate {
    /// Not at all.
    #[default]
    None,
    /// Platt's scaling: a line through the logits.
    Platt,
    /// Isotonic regression of the probabilities.
    Isotonic,
}

/// `[model.calibration]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationConfig {
    /// How.
    pub method: Calibrate,
}

/// Which network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkKind {
    /// Self-attention over field tokens, attention pooling, MLP.
    AttentionMlp,
    /// Field tokens straight into the MLP.
    Mlp,
}

/// What the network's outputs stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadKind {
    /// A click. Purchases keep their base rates, given a click and given none.
    Binary,
    /// A click, a purchase given a click, a purchase given none: three logits (ESMM, Ma et al. 2018,
    /// and purchases without a click). With `value_weight`, the value of a purchase too.
    #[default]
    MultiTask,
    /// One softmax over nothing, a click alone, a click and a purchase, a purchase without a click.
    Softmax,
}

/// How past behaviours become one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BehaviourEncoder {
    /// They are not read.
    None,
    /// Their mean.
    Mean,
    /// Their sum, weighted by a softmax over how well each goes with the impression.
    TargetAttention,
    /// As `target_attention`, after a layer of self-attention over them.
    SelfAttention,
    /// As `target_attention`, over the states of a gated recurrent unit.
    Gru,
    /// As `target_attention`, after a convolution over neighbours.
    Cnn,
}

impl BehaviourEncoder {
    /// Whether behaviours are weighted by how well they go with the impression.
    pub(crate) const fn attends(self) -> bool {
        !matches!(self, Self::None | Self::Mean)
    }
}

/// `[model.network]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Which network.
    pub kind: NetworkKind,
    /// Width of a token: 8, 16, 32 or 64.
    pub width: usize,
    /// Self-attention layers.
    pub layers: usize,
    /// Heads of each layer; `width / heads` is a multiple of 8.
    pub heads: usize,
    /// How past behaviours become one token.
    pub behaviours: BehaviourEncoder,
    /// Behaviours that the `cnn` sees at once; odd.
    #[serde(default = "cnn_kernel")]
    pub cnn_kernel: usize,
    /// Cross layers between the tokens and the MLP.
    #[serde(default)]
    pub cross_layers: usize,
    /// Rank of each cross layer's matrix.
    #[serde(default = "cross_rank")]
    pub cross_rank: usize,
    /// Widths of the MLP's hidden layers.
    pub mlp: Vec<usize>,
    /// Share of hidden units dropped while training.
    pub dropout: f32,
    /// What the outputs stand for.
    #[serde(default)]
    pub head: HeadKind,
}

/// What models had that were trained before there was a choice.
const fn cnn_kernel() -> usize {
    3
}

// What networks without crosses recorded as little as the above.
const fn cross_rank() -> usize {
    32
}

/// `[model.encoder]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// Hash buckets of item ids.
    pub item_buckets: u32,
    /// Hash buckets of campaign ids.
    pub campaign_buckets: u32,
    /// Hash buckets of categories.
    pub category_buckets: u32,
    /// Hash buckets of brands.
    pub brand_buckets: u32,
    /// Hash buckets of placements.
    pub placement_buckets: u32,
    /// Hash buckets of devices.
    pub device_buckets: u32,
    /// Hash buckets of channels.
    pub channel_buckets: u32,
    /// Hash buckets of consumers' pseudonyms; 0: they are not read.
    #[serde(default)]
    pub user_buckets: u32,
    /// Fields whose ids get rows of their own from a dictionary fitted to the training examples.
    #[serde(default)]
    pub dictionaries: Vec<String>,
    /// Times that training examples must name an id before a dictionary admits it.
    #[serde(default = "min_count")]
    pub min_count: u32,
    /// Event time after which a dictionary forgets an id that is no longer named; 0: never.
    #[serde(default)]
    pub expiry: Millis,
    /// Past behaviours read, newest first.
    pub max_behaviours: usize,
    /// Length of the content embedding; 0 reads none.
    pub content_embedding: usize,
    /// Most numbers that share one token.
    pub max_fields_per_token: usize,
}

// What models recorded before the key existed.
const fn min_count() -> u32 {
    4
}

/// Which optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay.
    AdamW,
    /// Steps divided by a running root mean square of the gradient.
    RmsProp,
    /// Steps divided by the root of the sum of all squared gradients.
    Adagrad,
    /// Stochastic gradient descent, with momentum.
    Sgd,
}

/// How the step size changes after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// It stays.
    #[default]
    Constant,
    /// It falls along half a cosine, over all `max_epochs`.
    Cosine,
}

/// What is learned from impressions whose purchase window is still open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unmatured {
    /// Nothing of purchases.
    #[default]
    Mask,
    /// No purchase yet counts as none.
    Naive,
    /// The likelihood of "not yet" under an exponential delay (Chapelle 2014).
    Delayed,
    /// Each is a negative first and a positive when its purchase comes, weighted so that the
    /// true rate is learned (Ktena et al. 2019).
    FakeNegativeWeighted,
}

/// What early stopping compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopMetric {
    /// The loss of all heads, weighted as in training.
    #[default]
    Loss,
    /// Log loss of one head.
    LogLoss,
    /// Area under the ROC curve of one head.
    Auc,
    /// Log loss of one head beside that of its base rate.
    NormalisedEntropy,
}

/// Whose metric early stopping compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopHead {
    /// Clicks.
    #[default]
    Click,
    /// Purchases given a click.
    Conversion,
    /// Purchases given no click.
    ViewThrough,
    /// Purchases.
    Purchase,
}

/// Where training computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Bit for bit reproducible.
    Cpu,
    /// Needs a build with the feature `cuda`.
    Cuda,
}

/// `[model.training]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Which optimizer.
    pub optimizer: OptimizerKind,
    /// Step size of the dense weights.
    pub learning_rate: f32,
    /// Step size of the embedding rows.
    pub embedding_learning_rate: f32,
    /// What SGD keeps of its last step.
    #[serde(default)]
    pub momentum: f32,
    /// How the step size changes after its warm-up.
    #[serde(default)]
    pub schedule: ScheduleKind,
    /// Steps over which the step size rises to the whole.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Share of the step size that a cosine ends at.
    #[serde(default)]
    pub final_rate_share: f32,
    /// How much of itself the running average of the weights keeps in a step; 0 averages nothing.
    #[serde(default)]
    pub averaging: f32,
    /// Decoupled weight decay of weight matrices.
    pub weight_decay: f32,
    /// Decoupled weight decay of the embedding rows that a step reads.
    pub embedding_weight_decay: f32,
    /// Examples a step, where an epoch has steps enough.
    pub batch_size: usize,
    /// Steps of an epoch, at least: of few examples each step gets fewer. 0 in configs of earlier versions.
    #[serde(default)]
    pub min_steps_per_epoch: u64,
    /// Passes over the training examples, at most.
    pub max_epochs: usize,
    /// Validations an epoch.
    pub validations_per_epoch: usize,
    /// Validations in a row without a better loss after which the step sizes fall, or training ends.
    pub patience: usize,
    /// Times that the step sizes fall.
    #[serde(default)]
    pub plateau_decays: usize,
    /// What is left of the step sizes each time.
    #[serde(default = "tenth")]
    pub plateau_factor: f32,
    /// Longest gradient, L2 norm over everything; 0 is no limit.
    pub clip_norm: f32,
    /// Weight of the loss of a purchase given a click.
    pub conversion_weight: f32,
    /// Weight of the loss of a purchase given no click.
    pub view_through_weight: f32,
    /// Weight of the loss of the value of a purchase; 0 does not predict it.
    #[serde(default)]
    pub value_weight: f32,
    /// How far targets are drawn towards one half.
    #[serde(default)]
    pub label_smoothing: f32,
    /// How much a positive counts beside a negative.
    #[serde(default = "one")]
    pub positive_weight: f32,
    /// Share of the impressions without a click that are learned from.
    #[serde(default = "one")]
    pub negative_rate: f32,
    /// What is learned from impressions whose purchase window is still open.
    #[serde(default)]
    pub unmatured: Unmatured,
    /// Names of weights that stay as they are.
    #[serde(default)]
    pub frozen: Vec<String>,
    /// Parameter of the distribution of mixing shares; 0 mixes nothing.
    #[serde(default)]
    pub mixup: f32,
    /// Share of field tokens that an example is shown without.
    #[serde(default)]
    pub feature_dropout: f32,
    /// Share of the ids of fields with a dictionary that an example shows as unknown.
    #[serde(default)]
    pub id_dropout: f32,
    /// Share of examples of whose behaviours only a run is shown.
    #[serde(default)]
    pub behaviour_crop: f32,
    /// What early stopping compares.
    #[serde(default)]
    pub stop_metric: StopMetric,
    /// Whose metric, where it is one head's.
    #[serde(default)]
    pub stop_head: StopHead,
    /// Blocks of examples that are shuffled together.
    #[serde(default = "four")]
    pub shuffle_blocks: usize,
    /// Seed of initial weights, dropout and shuffling.
    pub seed: u64,
    /// Threads; 0 uses all cores. Never changes the result.
    pub threads: usize,
    /// Where training computes.
    pub device: DeviceKind,
}

const fn one() -> f32 {
    1.0
}

const fn tenth() -> f32 {
    0.1
}

const fn four() -> usize {
    4
}

/// Few examples are not divided further.
const LEAST_BATCH: usize = 32;

impl TrainingConfig {
    /// Examples a step where an epoch has so many: `batch_size`, halved until it has its least steps.
    pub(crate) fn batch_size_of(&self, examples: u64) -> usize {
        let mut size = self.batch_size;
        while size / 2 >= LEAST_BATCH && examples.div_ceil(size as u64) < self.min_steps_per_epoch {
            size /= 2;
        }
        size
    }
}

impl Config {
    /// Whether there is an output for the value of a purchase.
    pub(crate) fn predicts_values(&self) -> bool {
        self.training.value_weight > 0.0
    }

    /// Outputs of the network: the heads, and the logarithm of a purchase's mean value where it is
    /// predicted.
    pub(crate) fn outputs(&self) -> usize {
        HEADS + usize::from(self.predicts_values())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[derive(Deserialize)]
    struct File {
        model: Config,
    }

    #[test]
    fn the_defaults_are_complete_and_valid() {
        let file: File = toml::from_str(DEFAULTS).unwrap();
        file.model.validate().unwrap();
    }

    #[test]
    fn few_examples_make_smaller_batches_and_no_fewer_steps() {
        let mut training = toml::from_str::<File>(DEFAULTS).unwrap().model.training;
        let mut size = |batch, steps, examples| {
            (training.batch_size, training.min_steps_per_epoch) = (batch, steps);
            training.batch_size_of(examples)
        };
        assert_eq!(
            [1_000_000, 131_072, 130_049].map(|examples| size(1024, 128, examples)),
            [1024, 1024, 1024]
        );
        assert_eq!([100_000, 8_557, 1_000, 0].map(|examples| size(1024, 128, examples)), [512, 64, 32, 32]);
        assert_eq!((size(1024, 0, 10), size(20, 128, 10), size(100, 128, 900)), (1024, 20, 50));
    }

    #[test]
    fn an_error_names_the_key_and_the_value() {
        let mut config = toml::from_str::<File>(DEFAULTS).unwrap().model;
        config.network.heads = 3;
        let text = config.validate().unwrap_err().to_string();
        assert_eq!(
            text,
            "model.network.heads = 3: must divide network.width into heads whose width is a multiple of 8"
        );
        // Eight times this is eight, where the product wraps.
        config.network.heads = (1 << 61) + 1;
        assert!(config.validate().is_err());
    }
}
