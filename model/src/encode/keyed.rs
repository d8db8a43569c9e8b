//! Encoded examples whose ids are still keys (hashes), not rows of tables: what streams from the
//! lake to the disk before the dictionaries are known, and back in blocks.

use schemas::FeatureVector;

use super::encoder::{EncodeError, EncodedBehaviour, Encoder, Seen};
use super::set::{EncodedSet, Outcome};

/// Examples in flat arrays, in the order in which they were pushed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeyedSet {
    /// Numbers of an example.
    pub(super) width: usize,
    /// Ids of an example.
    pub(super) fields: usize,
    pub(super) numbers: Vec<f32>,
    pub(super) keys: Vec<u64>,
    /// Item, campaign, category of each behaviour.
    pub(super) behaviour_keys: Vec<u64>,
    pub(super) behaviour_ages: Vec<f32>,
    /// Kind and "same as the impression" of each behaviour.
    pub(super) behaviour_flags: Vec<u8>,
    pub(super) behaviour_ends: Vec<u32>,
    pub(super) embeddings: Vec<f32>,
    pub(super) embedding_ends: Vec<u32>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) weights: Vec<f32>,
    pub(super) times: Vec<i64>,
}

impl KeyedSet {
    /// An empty set of what `encoder` reads.
    pub fn new(encoder: &Encoder) -> Self {
        Self { width: encoder.number_names().len(), fields: encoder.tables().len(), ..Self::default() }
    }

    /// How many examples it holds.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Memory of what it holds, bytes.
    pub fn bytes(&self) -> usize {
        4 * (self.numbers.len() + self.embeddings.len() + self.behaviour_ages.len() + self.weights.len())
            + 8 * (self.keys.len() + self.behaviour_keys.len() + self.times.len())
            + 4 * (self.behaviour_ends.len() + self.embedding_ends.len())
            + self.behaviour_flags.len()
            + std::mem::size_of::<Outcome>() * self.outcomes.len()
    }

    /// Forgets the examples, keeps the memory.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.keys.clear();
        self.behaviour_keys.clear();
        self.behaviour_ages.clear();
        self.behaviour_flags.clear();
        self.behaviour_ends.clear();
        self.embeddings.clear();
        self.embedding_ends.clear();
        self.outcomes.clear();
        self.weights.clear();
        self.times.clear();
    }

    /// Encodes and keeps one example; `weight` must be finite and not negative, else it counts as 0.
    ///
    /// # Errors
    /// A vector that the encoder can't read; the set is unchanged then.
    pub fn push(
        &mut self,
        encoder: &Encoder,
        vector: &FeatureVector,
        outcome: Outcome,
        weight: f32,
    ) -> Result<(), EncodeError> {
        let Self { numbers, keys, behaviour_keys, behaviour_ages, behaviour_flags, embeddings, .. } = self;
        encoder.read(vector, numbers, embeddings, |seen| match seen {
            Seen::Id { key, .. } => keys.push(key),
            Seen::Behaviour { keys, age, kind, same } => {
                behaviour_keys.extend_from_slice(&keys);
                behaviour_ages.push(age);
                behaviour_flags.extend_from_slice(&[kind, same]);
            }
        })?;
        self.behaviour_ends.push(self.behaviour_ages.len() as u32);
        self.embedding_ends.push(self.embeddings.len() as u32);
        self.outcomes.push(outcome);
        self.weights.push(if weight.is_finite() { weight.max(0.0) } else { 0.0 });
        self.times.push(vector.event_time_ms);
        Ok(())
    }

    /// Event times, ms.
    pub fn times(&self) -> &[i64] {
        &self.times
    }

    /// What came of the examples.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Every id that example `index` names, with its field and how long before the example it was
    /// met, ms: its own, then its behaviours'.
    pub(super) fn mentions(&self, index: usize) -> impl Iterator<Item = (usize, u64, i64)> + '_ {
        let start = if index == 0 { 0 } else { self.behaviour_ends[index - 1] as usize };
        let end = self.behaviour_ends[index] as usize;
        let own = self.keys[index * self.fields..(index + 1) * self.fields].iter();
        let own = own.enumerate().map(|(field, &key)| (field, key, 0));
        own.chain((start..end).flat_map(move |at| {
            // The inverse of how an age is encoded, to a few seconds.
            let before = (f64::from(libm::expm1f(self.behaviour_ages[at] * 10.0)) * 1_000.0) as i64;
            (0..3).map(move |field| (field, self.behaviour_keys[at * 3 + field], before))
        }))
    }

    /// `share.0` of every `share.1` of the examples, evenly spaced.
    #[must_use]
    pub fn thinned(&self, share: (usize, usize)) -> Self {
        let (kept, of) = (share.0.min(share.1) as u128, share.1.max(1) as u128);
        let before = |index: usize| (index as u128 * kept / of) as usize;
        let start = |ends: &[u32], index: usize| if index == 0 { 0 } else { ends[index - 1] as usize };
        let mut set = Self { width: self.width, fields: self.fields, ..Self::default() };
        for index in (0..self.len()).filter(|&index| before(index + 1) > before(index)) {
            let behaviours = start(&self.behaviour_ends, index)..self.behaviour_ends[index] as usize;
            let floats = start(&self.embedding_ends, index)..self.embedding_ends[index] as usize;
            let columns = |width: usize| index * width..(index + 1) * width;
            set.numbers.extend_from_slice(&self.numbers[columns(self.width)]);
            set.keys.extend_from_slice(&self.keys[columns(self.fields)]);
            let keys = behaviours.start * 3..behaviours.end * 3;
            set.behaviour_keys.extend_from_slice(&self.behaviour_keys[keys]);
            let flags = behaviours.start * 2..behaviours.end * 2;
            set.behaviour_flags.extend_from_slice(&self.behaviour_flags[flags]);
            set.behaviour_ages.extend_from_slice(&self.behaviour_ages[behaviours]);
            set.behaviour_ends.push(set.behaviour_ages.len() as u32);
            set.embeddings.extend_from_slice(&self.embeddings[floats]);
            set.embedding_ends.push(set.embeddings.len() as u32);
            set.outcomes.push(self.outcomes[index]);
            set.weights.push(self.weights[index]);
            set.times.push(self.times[index]);
        }
        set
    }

    /// The examples with the rows that `encoder` gives to their ids. The encoder must read the same
    /// vectors in the same way as the set's, dictionaries and buckets aside
    /// ([`Encoder::reads_as`]).
    pub fn resolve(&self, encoder: &Encoder) -> EncodedSet {
        let fields = self.fields;
        let ids = self.keys.iter().enumerate().map(|(at, &key)| encoder.row_of(at % fields, key)).collect();
        let behaviours = self
            .behaviour_ages
            .iter()
            .zip(self.behaviour_keys.as_chunks::<3>().0)
            .zip(self.behaviour_flags.as_chunks::<2>().0)
            .map(|((&age, keys), &[kind, same])| EncodedBehaviour {
                rows: [0, 1, 2].map(|field| encoder.row_of(field, keys[field])),
                age,
                kind,
                same,
            })
            .collect();
        EncodedSet::from_keyed(encoder, self, ids, behaviours)
    }
}
