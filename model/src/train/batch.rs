//! A batch of examples with its own numbering of the embedding rows that it reads, so that a step
//! touches these alone.

use std::ops::Range;

use crate::encode::{EncodedBehaviour, Encoder, Examples, Row};

/// A batch that owns its rows; ids count into `unique`.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Rows of the matrix of embeddings that the batch reads, in order of first use.
    pub(crate) unique: Vec<u32>,
    numbers: Vec<f32>,
    width: usize,
    ids: Vec<u32>,
    fields: usize,
    behaviours: Vec<EncodedBehaviour>,
    behaviour_ends: Vec<usize>,
    embeddings: Vec<f32>,
    embedding_ends: Vec<usize>,
}

impl Batch {
    /// Examples in it.
    pub(crate) fn len(&self) -> usize {
        self.behaviour_ends.len()
    }

    /// Ids of an example.
    pub(crate) const fn fields(&self) -> usize {
        self.fields
    }

    /// Where each example's behaviours end among all of the batch.
    pub(crate) fn behaviour_ends(&self) -> &[usize] {
        &self.behaviour_ends
    }

    /// One example.
    pub(crate) fn row(&self, index: usize) -> Row<'_> {
        let start = |ends: &[usize]| if index == 0 { 0 } else { ends[index - 1] };
        Row {
            numbers: &self.numbers[index * self.width..(index + 1) * self.width],
            ids: &self.ids[index * self.fields..(index + 1) * self.fields],
            behaviours: &self.behaviours[start(&self.behaviour_ends)..self.behaviour_ends[index]],
            embedding: &self.embeddings[start(&self.embedding_ends)..self.embedding_ends[index]],
        }
    }
}

/// Makes batches; remembers which rows a batch has numbered.
pub(crate) struct Gatherer {
    fields: usize,
    width: usize,
    seen_in: Vec<u32>,
    number: Vec<u32>,
    batch: u32,
}

impl Gatherer {
    /// For the rows of `encoder`.
    pub(crate) fn new(encoder: &Encoder) -> Self {
        let rows = encoder.table_rows();
        let width = encoder.number_names().len();
        let fields = encoder.tables().len();
        Self { fields, width, seen_in: vec![0; rows], number: vec![0; rows], batch: 0 }
    }

    fn renumber(&mut self, row: u32, unique: &mut Vec<u32>) -> u32 {
        let at = row as usize;
        if self.seen_in[at] != self.batch {
            self.seen_in[at] = self.batch;
            self.number[at] = unique.len() as u32;
            unique.push(row);
        }
        self.number[at]
    }

    /// An empty batch, to be filled by [`Self::add`].
    pub(crate) fn start(&mut self) -> Batch {
        // 2^32 batches of one run are out of reach; a wrap would only mix up one batch.
        self.batch = self.batch.wrapping_add(1).max(1);
        Batch {
            unique: Vec::new(),
            numbers: Vec::new(),
            width: self.width,
            ids: Vec::new(),
            fields: self.fields,
            behaviours: Vec::new(),
            behaviour_ends: Vec::new(),
            embeddings: Vec::new(),
            embedding_ends: Vec::new(),
        }
    }

    /// Appends an example to the batch that was started last.
    pub(crate) fn add(&mut self, batch: &mut Batch, row: &Row<'_>) {
        batch.numbers.extend_from_slice(row.numbers);
        for &id in row.ids {
            batch.ids.push(self.renumber(id, &mut batch.unique));
        }
        for behaviour in row.behaviours {
            let rows = behaviour.rows.map(|id| self.renumber(id, &mut batch.unique));
            batch.behaviours.push(EncodedBehaviour { rows, ..*behaviour });
        }
        batch.behaviour_ends.push(batch.behaviours.len());
        batch.embeddings.extend_from_slice(row.embedding);
        batch.embedding_ends.push(batch.embeddings.len());
    }

    /// The examples at `positions`, in that order.
    pub(crate) fn gather(&mut self, examples: &Examples<'_>, positions: Range<usize>) -> Batch {
        let mut batch = self.start();
        for position in positions {
            self.add(&mut batch, &examples.row(position));
        }
        batch
    }
}
