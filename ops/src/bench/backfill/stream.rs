//! The stream beside the history: what the services make of it while it comes. So the log has versions of
//! shared entities, as a deployment's has, and vectors of a sample are there to be compared.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, ensure};
use features::{Core, Merge, Plan, Sink, VectorView};
use lake::{Order, ScanOptions, Table};
use schemas::{
    Codec as _, Duplicate, EntityTiles, EntityVersion, Entry, FeatureVector, Label, Place, Protobuf,
    VectorSchema, table,
};

use crate::context::Context;

/// Of so many offsets the first few are in the sample.
const SPACING: i64 = 100_000;

/// Folds the history as it is made.
pub(super) struct Stream {
    cores: Vec<Core>,
    merge: Merge,
    out: Collected,
    /// Versions that are still to be put into the log.
    versions: VecDeque<EntityVersion>,
}

/// What the cores put out.
struct Collected {
    /// Offsets of every [`SPACING`] that are in the sample.
    each: i64,
    tiles: Vec<EntityTiles>,
    vectors: Vec<Sampled>,
}

/// One vector of the sample.
pub(super) struct Sampled {
    place: Place,
    /// Hash of its record's bytes.
    hash: blake3::Hash,
}

impl Sink for Collected {
    fn vector(&mut self, vector: &VectorView<'_>) {
        if vector.place.offset % SPACING < self.each {
            let mut bytes = Vec::new();
            vector.encode(&mut bytes);
            self.vectors.push(Sampled { place: vector.place, hash: blake3::hash(&bytes) });
        }
    }

    fn tiles(&mut self, tiles: EntityTiles) {
        self.tiles.push(tiles);
    }

    fn label(&mut self, _: &Label) {}
    fn duplicate(&mut self, _: Duplicate) {}
    fn hours(&mut self, _: EntityTiles) {}
}

impl Stream {
    /// Over so many partitions, with so many offsets of every hundred thousand in the sample.
    pub(super) fn new(plan: &Arc<Plan>, partitions: i32, each: i64) -> Self {
        Self {
            cores: (0..partitions).map(|partition| Core::new(Arc::clone(plan), partition)).collect(),
            merge: Merge::new(Arc::clone(plan), partitions as usize),
            out: Collected { each, tiles: Vec::new(), vectors: Vec::new() },
            versions: VecDeque::new(),
        }
    }

    /// A record has come into the log.
    pub(super) fn step(&mut self, entry: &Entry, place: Place) {
        self.cores[place.partition as usize].step(entry, place, &mut self.out);
        for tiles in self.out.tiles.drain(..) {
            self.versions.extend(self.merge.step(&tiles));
        }
    }

    /// The next version that is to come into every partition.
    pub(super) fn next_version(&mut self) -> Option<EntityVersion> {
        self.versions.pop_front()
    }

    /// The sample, in the order in which it came.
    pub(super) fn sample(self) -> Vec<Sampled> {
        self.out.vectors
    }
}

/// How many vectors of the sample the table has, to the bit.
///
/// # Errors
/// A vector that the table has not, or has otherwise.
pub(super) fn compare(context: &Context, out: &str, mut sample: Vec<Sampled>) -> Result<u64> {
    let table = context.tokio.block_on(Table::open(context.store.root_url(), out))?;
    sample.sort_by_key(|one| (one.place.partition, one.place.offset));
    let near = |a: &Sampled, b: &Sampled| {
        a.place.partition == b.place.partition && a.place.offset / SPACING == b.place.offset / SPACING
    };
    for some in sample.chunk_by(near) {
        let (first, last) = (some[0].place, some[some.len() - 1].place);
        let there = vectors(&table, &context.vector_schema, first.partition, first.offset..last.offset + 1)?;
        ensure!(
            there.len() == some.len(),
            "offsets {} to {} of partition {}: {} vectors in the table, {} of the stream",
            first.offset,
            last.offset,
            first.partition,
            there.len(),
            some.len()
        );
        for (vector, sampled) in there.iter().zip(some) {
            let is_same =
                vector.place == sampled.place && blake3::hash(&Protobuf::to_vec(vector)) == sampled.hash;
            ensure!(is_same, "{}: the table's vector is not the stream's", sampled.place);
        }
    }
    Ok(sample.len() as u64)
}

fn vectors(
    table: &Table,
    schema: &VectorSchema,
    partition: i32,
    offsets: Range<i64>,
) -> Result<Vec<FeatureVector>> {
    let options = ScanOptions {
        partitions: Some(vec![partition]),
        offsets: Some(offsets),
        order: Order::Place,
        ..ScanOptions::default()
    };
    let mut vectors = Vec::new();
    for batch in table.scan_blocking(&options)? {
        vectors.extend(table::features::decode(&batch?, std::slice::from_ref(schema))?);
    }
    Ok(vectors)
}
