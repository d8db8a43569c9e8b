//! Which tokens a network has and where each parameter of its front lies in one flat array.
//!
//! The front is all before the MLP. Its parameters are rows of the token width, so that every
//! kernel reads them as fixed-size arrays; the few that are shorter are padded to whole rows.

use super::sequence::Sequence;
use crate::config::{BehaviourEncoder, Config, NetworkKind};
use crate::encode::Encoder;

/// Features of a past behaviour beside its ids: age, three "same as the impression" flags, and
/// its kind (six) one-hot.
pub(crate) const AUXILIARY: usize = 10;

/// A named run of rows of the front's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Name in the artefact.
    pub(crate) name: String,
    /// First row.
    pub(crate) first: usize,
    /// Rows.
    pub(crate) rows: usize,
    /// How it starts.
    pub(crate) start: Start,
}

/// How a segment is initialised, and whether weight decay applies (to matrices only).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// A matrix with that many inputs: uniform, Glorot.
    Matrix {
        /// Inputs of an output.
        inputs: usize,
    },
    /// Zeros.
    Zero,
    /// Ones.
    One,
}

/// First rows of an attention layer's parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer {
    pub(crate) norm: usize,
    pub(crate) query: usize,
    pub(crate) key: usize,
    pub(crate) value: usize,
    pub(crate) output: usize,
}

/// The shape of a network's front.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    /// Names of the tokens.
    pub(crate) tokens: Vec<String>,
    /// Token of each number.
    pub(crate) token_of_number: Vec<usize>,
    pub(crate) behaviours: BehaviourEncoder,
    /// What behaviours go through before they are pooled.
    pub(crate) sequence: Sequence,
    /// Token of the past behaviours, if they are read.
    pub(crate) behaviour_token: Option<usize>,
    /// Token of the content embedding, if it is read.
    pub(crate) content_token: Option<usize>,
    /// Length of the content embedding.
    pub(crate) content: usize,
    /// Whether tokens attend to one another and are weighted before the MLP.
    pub(crate) attention: bool,
    /// Cross layers between the tokens and the MLP.
    pub(crate) crosses: usize,
    pub(crate) segments: Vec<Segment>,
    /// Rows of all segments.
    pub(crate) rows: usize,
    // First rows of the segments.
    pub(crate) number_value: usize,
    pub(crate) number_missing: usize,
    pub(crate) number_bias: usize,
    pub(crate) behaviour_auxiliary: usize,
    pub(crate) behaviour_target: usize,
    pub(crate) behaviour_score: usize,
    pub(crate) behaviour_empty: usize,
    pub(crate) content_weight: usize,
    pub(crate) content_bias: usize,
    pub(crate) content_missing: usize,
    pub(crate) layers: Vec<Layer>,
    pub(crate) pool_query: usize,
    pub(crate) pool_bias: usize,
}

/// Hands out rows.
pub(crate) struct Rows {
    segments: Vec<Segment>,
    next: usize,
}

impl Rows {
    /// The first of `rows` more rows.
    pub(crate) fn take(&mut self, name: impl Into<String>, rows: usize, start: Start) -> usize {
        let first = self.next;
        if rows > 0 {
            self.segments.push(Segment { name: name.into(), first, rows, start });
        }
        self.next += rows;
        first
    }
}

impl Layout {
    pub(crate) fn new(encoder: &Encoder, config: &Config) -> Self {
        let network = &config.network;
        let width = network.width;
        let numbers = encoder.number_names().len();
        let mut tokens: Vec<String> = encoder.tables().iter().map(|table| table.name.to_owned()).collect();
        let mut token_of_number = vec![0; numbers];
        for group in encoder.groups() {
            for &column in &group.columns {
                token_of_number[column] = tokens.len();
            }
            tokens.push(group.name.clone());
        }
        let behaviours =
            if encoder.config().max_behaviours == 0 { BehaviourEncoder::None } else { network.behaviours };
        let mut extra = |present: bool, name: &str| {
            present.then(|| {
                tokens.push(name.to_owned());
                tokens.len() - 1
            })
        };
        let content = encoder.config().content_embedding;
        let behaviour_token = extra(behaviours != BehaviourEncoder::None, "behaviours");
        let content_token = extra(content > 0, "embedding");
        let attention = network.kind == NetworkKind::AttentionMlp;

        let matrix = |inputs| Start::Matrix { inputs };
        let when = |present: bool, rows: usize| if present { rows } else { 0 };
        let mut rows = Rows { segments: Vec::new(), next: 0 };
        let number_value = rows.take("number.value", numbers, matrix(4));
        let number_missing = rows.take("number.missing", numbers, Start::Zero);
        let number_bias = rows.take("number.bias", encoder.groups().len(), Start::Zero);
        let some = behaviour_token.is_some();
        let target = behaviours.attends();
        let behaviour_auxiliary = rows.take("behaviour.auxiliary", when(some, AUXILIARY), matrix(AUXILIARY));
        let behaviour_empty = rows.take("behaviour.empty", when(some, 1), Start::Zero);
        let behaviour_target = rows.take("behaviour.target", when(target, width), matrix(width));
        let behaviour_score =
            rows.take("behaviour.score", when(target, AUXILIARY.div_ceil(width)), Start::Zero);
        let sequence = Sequence::new(&mut rows, network, behaviours);
        let content_weight = rows.take("content.weight", content, matrix(content));
        let content_bias = rows.take("content.bias", when(content > 0, 1), Start::Zero);
        let content_missing = rows.take("content.missing", when(content > 0, 1), Start::Zero);
        let layers = (0..when(attention, network.layers))
            .map(|layer| Layer {
                norm: rows.take(format!("attention.{layer}.norm"), 1, Start::One),
                query: rows.take(format!("attention.{layer}.query"), width, matrix(width)),
                key: rows.take(format!("attention.{layer}.key"), width, matrix(width)),
                value: rows.take(format!("attention.{layer}.value"), width, matrix(width)),
                output: rows.take(format!("attention.{layer}.output"), width, matrix(width)),
            })
            .collect();
        let pool_query = rows.take("pool.query", when(attention, 1), Start::Zero);
        let pool_bias = rows.take("pool.bias", when(attention, tokens.len().div_ceil(width)), Start::Zero);
        Self {
            width,
            heads: network.heads,
            tokens,
            token_of_number,
            behaviours,
            sequence,
            behaviour_token,
            content_token,
            content,
            attention,
            crosses: network.cross_layers,
            segments: rows.segments,
            rows: rows.next,
            number_value,
            number_missing,
            number_bias,
            behaviour_auxiliary,
            behaviour_target,
            behaviour_score,
            behaviour_empty,
            content_weight,
            content_bias,
            content_missing,
            layers,
            pool_query,
            pool_bias,
        }
    }

    /// Categorical fields: they are the first tokens.
    pub(crate) fn fields(&self) -> usize {
        let groups = self.behaviour_auxiliary - self.number_bias;
        let others = [self.behaviour_token, self.content_token].into_iter().flatten().count();
        self.tokens.len() - groups - others
    }

    /// Floats of the front's output, which the cross layers or the MLP read.
    pub(crate) fn outputs(&self) -> usize {
        self.tokens.len() * self.width
    }

    /// Layers before the MLP's: two of each cross.
    pub(crate) const fn cross_layers(&self) -> usize {
        2 * self.crosses
    }

    /// The name of layer `number` of `layers`: crosses, the MLP's hidden layers, the heads.
    pub(crate) fn layer_name(&self, number: usize, layers: usize) -> String {
        match number.checked_sub(self.cross_layers()) {
            None => format!("cross.{}.{}", number / 2, if number.is_multiple_of(2) { "down" } else { "up" }),
            Some(_) if number + 1 == layers => "heads".to_owned(),
            Some(hidden) => format!("mlp.{hidden}"),
        }
    }
}
