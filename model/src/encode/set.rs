//! Encoded examples in flat arrays: what training and judging read.

use schemas::{FeatureVector, Label};

use super::encoder::{EncodeError, EncodedBehaviour, Encoder, Row, RowBuffer};
use super::keyed::KeyedSet;

/// How many vectors are kept whole, for the artefact's golden batch.
const SAMPLES: usize = 8;

/// What came of an impression, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Outcome {
    /// A click answered it. Always final.
    pub clicked: bool,
    /// A purchase was credited to it, clicked or not.
    pub purchased: bool,
    /// No more purchase can come: only then is the absence (and, so that neither side of the
    /// scale is favoured, the presence) of a purchase learned from.
    pub matured: bool,
    /// How long the impression had been watched when this was known, s.
    pub elapsed_s: f32,
    /// How long after the impression the purchase came, s; 0 where none did.
    pub delay_s: f32,
    /// What the purchases credited to it come to, refunds not taken off; 0 where it is not known, or
    /// in another currency than the others'.
    pub value: f32,
}

impl Outcome {
    /// The value of its purchase, once that is final.
    pub fn final_value(&self) -> Option<f32> {
        (self.matured && self.purchased && self.value > 0.0).then_some(self.value)
    }
}

/// Seconds from one time to a later one, both in ms; 0 where it is not later.
pub fn seconds(from_ms: i64, to_ms: i64) -> f32 {
    to_ms.saturating_sub(from_ms).max(0) as f32 / 1000.0
}

impl From<&Label> for Outcome {
    fn from(label: &Label) -> Self {
        let purchased = if label.clicked { label.purchased_after_click } else { label.purchased_after_view };
        let worth = label.value as f32;
        Self {
            clicked: label.clicked,
            purchased,
            matured: label.matured,
            elapsed_s: seconds(label.event_time_ms, label.clock_ms),
            delay_s: if purchased { seconds(label.event_time_ms, label.purchase_time_ms) } else { 0.0 },
            value: if purchased && worth.is_finite() { worth.max(0.0) } else { 0.0 },
        }
    }
}

/// The vector without what could tell whose it is: an artefact's golden batch needs none of it.
pub fn without_person(vector: FeatureVector) -> FeatureVector {
    FeatureVector {
        user: String::new(),
        event_id: String::new(),
        request_id: String::new(),
        context: String::new(),
        ..vector
    }
}

/// Encoded examples, in the order in which they were pushed.
#[derive(Debug, Clone)]
pub struct EncodedSet {
    encoder: Encoder,
    numbers: Vec<f32>,
    ids: Vec<u32>,
    behaviours: Vec<EncodedBehaviour>,
    behaviour_ends: Vec<usize>,
    embeddings: Vec<f32>,
    embedding_ends: Vec<usize>,
    outcomes: Vec<Outcome>,
    weights: Vec<f32>,
    times: Vec<i64>,
    samples: Vec<FeatureVector>,
    buffer: RowBuffer,
}

impl EncodedSet {
    /// An empty set of rows that `encoder` makes.
    pub fn new(encoder: &Encoder) -> Self {
        Self {
            encoder: encoder.clone(),
            numbers: Vec::new(),
            ids: Vec::new(),
            behaviours: Vec::new(),
            behaviour_ends: Vec::new(),
            embeddings: Vec::new(),
            embedding_ends: Vec::new(),
            outcomes: Vec::new(),
            weights: Vec::new(),
            times: Vec::new(),
            samples: Vec::new(),
            buffer: RowBuffer::default(),
        }
    }

    /// Keyed examples with their rows. `ids` and `behaviours` are those of all examples.
    pub(super) fn from_keyed(
        encoder: &Encoder,
        keyed: &KeyedSet,
        ids: Vec<u32>,
        behaviours: Vec<EncodedBehaviour>,
    ) -> Self {
        let ends = |ends: &[u32]| ends.iter().map(|&end| end as usize).collect();
        Self {
            numbers: keyed.numbers.clone(),
            ids,
            behaviours,
            behaviour_ends: ends(&keyed.behaviour_ends),
            embeddings: keyed.embeddings.clone(),
            embedding_ends: ends(&keyed.embedding_ends),
            outcomes: keyed.outcomes.clone(),
            weights: keyed.weights.clone(),
            times: keyed.times.clone(),
            ..Self::new(encoder)
        }
    }

    /// Encodes and keeps one example; `weight` (1 where all count alike) must be finite and not
    /// negative, else it counts as 0.
    ///
    /// # Errors
    /// A vector that the encoder can't read; the set is unchanged then.
    pub fn push(&mut self, vector: &FeatureVector, label: &Label, weight: f32) -> Result<(), EncodeError> {
        self.push_outcome(vector, Outcome::from(label), weight)
    }

    /// As [`Self::push`], with the outcome already read from its label.
    ///
    /// # Errors
    /// A vector that the encoder can't read; the set is unchanged then.
    pub fn push_outcome(
        &mut self,
        vector: &FeatureVector,
        outcome: Outcome,
        weight: f32,
    ) -> Result<(), EncodeError> {
        self.encoder.encode(vector, &mut self.buffer)?;
        self.numbers.extend_from_slice(&self.buffer.numbers);
        self.ids.extend_from_slice(&self.buffer.ids);
        self.behaviours.extend_from_slice(&self.buffer.behaviours);
        self.behaviour_ends.push(self.behaviours.len());
        self.embeddings.extend_from_slice(&self.buffer.embedding);
        self.embedding_ends.push(self.embeddings.len());
        self.outcomes.push(outcome);
        self.weights.push(if weight.is_finite() { weight.max(0.0) } else { 0.0 });
        self.times.push(vector.event_time_ms);
        if self.samples.len() < SAMPLES {
            self.samples.push(without_person(vector.clone()));
        }
        Ok(())
    }

    /// Keeps an example whose row is already made, of an encoder of rows ([`Encoder::of_rows`]), with
    /// weight 1: `ids` count over all tables. Says whether it fits the encoder; else it is left out.
    pub fn push_row(&mut self, ids: &[u32], numbers: &[f32], outcome: Outcome) -> bool {
        let tables = self.encoder.tables();
        let fits = numbers.len() == self.encoder.number_names().len()
            && ids.len() == tables.len()
            && ids.iter().zip(tables).all(|(id, table)| (table.first..table.first + table.rows).contains(id));
        if fits {
            self.numbers.extend_from_slice(numbers);
            self.ids.extend_from_slice(ids);
            self.behaviour_ends.push(self.behaviours.len());
            self.embedding_ends.push(self.embeddings.len());
            self.outcomes.push(outcome);
            self.weights.push(1.0);
            self.times.push(0);
        }
        fits
    }

    /// How many examples it holds.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// What made its rows.
    pub const fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Event times of the examples, ms.
    pub fn times(&self) -> &[i64] {
        &self.times
    }

    /// Outcomes of the examples.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Weights of the examples.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The first few vectors, without the person's data.
    pub fn samples(&self) -> &[FeatureVector] {
        &self.samples
    }

    /// One example's row.
    pub fn row(&self, index: usize) -> Row<'_> {
        let width = self.encoder.number_names().len();
        let fields = self.encoder.tables().len();
        let start = |ends: &[usize]| if index == 0 { 0 } else { ends[index - 1] };
        Row {
            numbers: &self.numbers[index * width..(index + 1) * width],
            ids: &self.ids[index * fields..(index + 1) * fields],
            behaviours: &self.behaviours[start(&self.behaviour_ends)..self.behaviour_ends[index]],
            embedding: &self.embeddings[start(&self.embedding_ends)..self.embedding_ends[index]],
        }
    }

    /// All examples, in order.
    pub fn all(&self) -> Examples<'_> {
        Examples { set: self, indices: (0..self.len() as u32).collect() }
    }

    /// The examples of these positions, in this order. Positions beyond the end are left out.
    pub fn select(&self, indices: impl IntoIterator<Item = usize>) -> Examples<'_> {
        let length = self.len();
        Examples {
            set: self,
            indices: indices.into_iter().filter(|&index| index < length).map(|index| index as u32).collect(),
        }
    }
}

/// Some examples of a set, in a fixed order.
#[derive(Debug, Clone)]
pub struct Examples<'a> {
    set: &'a EncodedSet,
    indices: Vec<u32>,
}

impl<'a> Examples<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The set they are of.
    pub const fn set(&self) -> &'a EncodedSet {
        self.set
    }

    /// Positions in the set.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// Their rows.
    pub fn rows(&self) -> impl Iterator<Item = Row<'a>> + '_ {
        self.indices.iter().map(|&index| self.set.row(index as usize))
    }

    /// The row at `position` of these examples.
    pub fn row(&self, position: usize) -> Row<'a> {
        self.set.row(self.indices[position] as usize)
    }

    /// The outcome at `position` of these examples.
    pub fn outcome(&self, position: usize) -> Outcome {
        self.set.outcomes[self.indices[position] as usize]
    }

    /// Their outcomes and weights.
    pub fn outcomes(&self) -> impl Iterator<Item = (Outcome, f32)> + '_ {
        (0..self.len()).map(|position| (self.outcome(position), self.weight(position)))
    }

    /// The weight at `position` of these examples.
    pub fn weight(&self, position: usize) -> f32 {
        self.set.weights[self.indices[position] as usize]
    }
}
