//! Examples from the lake: `labels` joined to `features` by place, at pinned table versions, as
//! streams. In memory are the label of each example (48 bytes), the validation examples (as
//! many as the config allows) and a few blocks; vectors only as they stream by.

mod sink;
mod training;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::slice;

use arrow::compute::filter_record_batch;
use lake::{Order, ScanOptions, Table};
use model::encode::{FieldIds, KeyedSet, Outcome, VocabularyFit};
use model::{EncodedSet, Encoder, Model, Probabilities};
use runtime::shutdown::Shutdown;
use schemas::table::{features, labels};
use schemas::{FeatureVector, VectorSchema};
use tokio::runtime::Handle;

use crate::config::Config;
use crate::draw::{Chosen, Drawn, Present, Role, draw, present, scan};
use crate::run::Data;
use crate::spill::{Blocks, Writer};
use crate::split::{Boundaries, Parts};
use crate::{Error, gate};
use sink::Sink;

pub use training::Training;

/// Table versions that a run reads: by table name.
pub type Pins = BTreeMap<String, u64>;

/// The tables that training reads.
pub const TABLES: [&str; 2] = [labels::NAME, features::NAME];

/// All examples count alike.
const WEIGHT: f32 = 1.0;

/// The current versions of the tables that training reads, and the label records in them.
/// Labels are pinned first: the vectors of a label are written before it.
///
/// # Errors
/// [`Error::NoTable`] while one is not there yet; what the lake says.
pub async fn pin(root: &str) -> Result<(Pins, u64), Error> {
    let mut pins = Pins::new();
    let mut records = 0;
    for name in TABLES {
        let table = Table::try_open(root, name, None)
            .await?
            .ok_or_else(|| Error::NoTable { table: name.to_owned() })?;
        if name == labels::NAME {
            records = table.row_count()?;
        }
        pins.insert(name.to_owned(), table.version());
    }
    Ok((pins, records))
}

/// Which examples, read how.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Where the tables are.
    pub root: &'a str,
    /// Their versions.
    pub pins: &'a Pins,
    /// The vectors' schema.
    pub schema: &'a VectorSchema,
    /// How vectors are encoded.
    pub encoder: &'a Encoder,
    /// Whether its dictionaries are fitted to the training examples; else they stay.
    pub fit: bool,
    /// Event time before the latest example that counts, ms; all where none.
    pub window_ms: Option<i64>,
    /// How many examples, how they are split, where they are spilled.
    pub config: &'a Config,
    /// The test part begins no earlier, ms.
    pub judged_after_ms: Option<i64>,
    /// Seed of the order of the training examples.
    pub seed: u64,
}

/// The examples of a run, encoded. Training and test examples are on disk, in blocks.
#[derive(Debug)]
pub struct Dataset {
    encoder: Encoder,
    ids: Vec<FieldIds>,
    training: Blocks,
    validation: EncodedSet,
    validation_campaigns: Vec<u32>,
    test: Blocks,
    test_outcomes: Vec<Outcome>,
    test_campaigns: Vec<u32>,
    campaigns: Vec<String>,
    samples: Vec<FeatureVector>,
    currency: String,
    boundaries: Boundaries,
    parts: Parts,
    data: Data,
    click_rate: f64,
}

impl Dataset {
    /// Reads the examples. Blocks its thread: for threads of their own, never a runtime's.
    ///
    /// # Errors
    /// Too few examples, what the lake says, rows that are no records, a disk that is full,
    /// [`Error::Stopped`] when asked to stop.
    pub fn read(want: &Request<'_>, handle: &Handle, stop: &Shutdown) -> Result<Self, Error> {
        let mut drawn = draw(want, handle, stop)?;
        let encoder = want.encoder;
        let mut sink = Sink::new(want, encoder, &drawn)?;
        let wanted = |role| matches!(role, Role::Train | Role::Validation | Role::Test);
        read_vectors(want, &mut drawn.chosen, wanted, handle, stop, |vector, role, outcome| {
            sink.take(vector, role, outcome)
        })?;
        let Sink {
            training,
            validation,
            validation_campaigns,
            test,
            test_outcomes,
            test_campaigns,
            campaigns,
            samples,
            ..
        } = sink;
        let (training, test) = (training.finish()?, test.finish()?);
        let mut fit = VocabularyFit::new(encoder);
        for block in training.all() {
            if stop.is_set() {
                return Err(Error::Stopped);
            }
            fit.add(&block?);
        }
        let (fitted, mut ids) = fit.finish();
        let encoder = if want.fit {
            fitted
        } else {
            // What new dictionaries would have held is nobody's business.
            ids.retain(|ids| ids.dictionary.is_none());
            encoder.clone()
        };
        let Drawn { chosen, boundaries, parts, data, click_rate } = drawn;
        let validation = validation.resolve(&encoder);
        Ok(Self {
            encoder,
            ids,
            training,
            validation,
            validation_campaigns,
            test,
            test_outcomes,
            test_campaigns,
            campaigns: campaigns.names,
            samples,
            currency: chosen.selection.currency,
            boundaries,
            parts,
            data,
            click_rate,
        })
    }

    /// What was read, in numbers.
    pub const fn data(&self) -> Data {
        self.data
    }

    /// The encoder, fitted to the training examples.
    pub const fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// What the training examples tell of the ids of each field.
    pub fn ids(&self) -> &[FieldIds] {
        &self.ids
    }

    /// How the examples were split, in event time.
    pub const fn boundaries(&self) -> Boundaries {
        self.boundaries
    }

    /// The same as positions in the order of event time.
    pub const fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The training examples, as training reads them: a block at a time.
    pub fn training(&self) -> Training<'_> {
        Training::new(&self.training, &self.encoder, &self.samples).in_currency(&self.currency)
    }

    /// The validation examples, by place: all of them, or an even sample of as many as
    /// `split.max_validation_rows`.
    pub const fn validation(&self) -> &EncodedSet {
        &self.validation
    }

    /// What came of the validation examples.
    pub fn validation_outcomes(&self) -> Vec<gate::Outcome<'_>> {
        self.judged(self.validation.outcomes(), &self.validation_campaigns)
    }

    /// The test examples by place, a block at a time, with the ids' rows of `encoder`.
    pub fn test<'a>(&'a self, encoder: &'a Encoder) -> impl Iterator<Item = Result<EncodedSet, Error>> + 'a {
        self.test.all().map(|block| Ok(block?.resolve(encoder)))
    }

    /// What came of the test examples and how much each counts, in the order of [`Self::test`].
    pub fn test_judged(&self) -> impl Iterator<Item = (Outcome, f32)> + '_ {
        self.test_outcomes.iter().map(|&outcome| (outcome, WEIGHT))
    }

    /// The same for the gate.
    pub fn test_outcomes(&self) -> Vec<gate::Outcome<'_>> {
        self.judged(&self.test_outcomes, &self.test_campaigns)
    }

    fn judged(&self, outcomes: &[Outcome], campaigns: &[u32]) -> Vec<gate::Outcome<'_>> {
        let judged = |(outcome, campaign): (&Outcome, &u32)| gate::Outcome {
            campaign: &self.campaigns[*campaign as usize],
            clicked: outcome.clicked,
            purchased: outcome.matured.then_some(outcome.purchased),
        };
        outcomes.iter().zip(campaigns).map(judged).collect()
    }

    /// The share of the training examples that were clicked.
    pub const fn click_rate(&self) -> f64 {
        self.click_rate
    }

    /// What a model says of the test examples, in the order of [`Self::test`]. Its encoder must
    /// read vectors as this one's does ([`Encoder::reads_as`]).
    ///
    /// # Errors
    /// A disk that fails, a model of other vectors.
    pub fn predict_test(&self, model: &Model) -> Result<Vec<Probabilities>, Error> {
        predict(self.test(model.encoder()), model)
    }
}

/// What a model whose encoder reads vectors in another way than the run's says of the same test
/// examples, in the same order: they are read again.
///
/// # Errors
/// As of [`Dataset::read`].
pub fn predict_test_again(
    want: &Request<'_>,
    model: &Model,
    handle: &Handle,
    stop: &Shutdown,
) -> Result<Vec<Probabilities>, Error> {
    let mut drawn = draw(want, handle, stop)?;
    let empty = KeyedSet::new(want.encoder);
    let mut test = Writer::in_order(&spill_folder(want.config)?, empty, want.config.block_rows)?;
    read_vectors(
        want,
        &mut drawn.chosen,
        |role| role == Role::Test,
        handle,
        stop,
        |vector, _, outcome| test.push(|set| Ok(set.push(model.encoder(), &vector, outcome, WEIGHT)?)),
    )?;
    let test = test.finish()?;
    predict(test.all().map(|block| Ok(block?.resolve(model.encoder()))), model)
}

/// The latest examples, at most `max_rows`, in order of place. All in memory.
///
/// # Errors
/// As of [`Dataset::read`], but for too few examples.
pub fn latest(want: &Request<'_>, handle: &Handle, stop: &Shutdown) -> Result<EncodedSet, Error> {
    let Present { selection, mut roles, times, .. } = present(want, handle, stop)?;
    let from_ms = want.window_ms.zip(times.last()).map_or(i64::MIN, |(window, last)| last - window);
    for (target, role) in selection.targets.iter().zip(&mut roles) {
        if *role != Role::Absent && target.event_time_ms >= from_ms {
            *role = Role::Test;
        }
    }
    let mut drawn = Chosen { selection, roles };
    let mut set = KeyedSet::new(want.encoder);
    read_vectors(
        want,
        &mut drawn,
        |role| role == Role::Test,
        handle,
        stop,
        |vector, _, outcome| Ok(set.push(want.encoder, &vector, outcome, WEIGHT)?),
    )?;
    Ok(set.resolve(want.encoder))
}

fn predict(
    blocks: impl Iterator<Item = Result<EncodedSet, Error>>,
    model: &Model,
) -> Result<Vec<Probabilities>, Error> {
    let mut said = Vec::new();
    for block in blocks {
        let block = block?;
        said.extend(model.predict_examples(&block.all()).map_err(|error| Error::Model(error.to_string()))?);
    }
    Ok(said)
}

/// Where blocks are spilled; made if it is not there.
fn spill_folder(config: &Config) -> Result<PathBuf, Error> {
    let folder = match config.spill_folder.as_str() {
        "" => std::env::temp_dir(),
        folder => PathBuf::from(folder),
    };
    std::fs::create_dir_all(&folder).map_err(|error| Error::Config {
        key: "trainer.spill_folder".into(),
        what: format!("{}: {error}", folder.display()),
    })?;
    Ok(folder)
}

/// Hands every wanted vector of the pinned table to `take`, by place.
fn read_vectors(
    want: &Request<'_>,
    drawn: &mut Chosen,
    wanted: impl Fn(Role) -> bool,
    handle: &Handle,
    stop: &Shutdown,
    mut take: impl FnMut(FeatureVector, Role, Outcome) -> Result<(), Error>,
) -> Result<(), Error> {
    let fingerprint = want.schema.fingerprint();
    // The topic's order, whatever the files: compaction changes no training.
    let options = ScanOptions { order: Order::Place, ..ScanOptions::default() };
    scan(want.root, features::NAME, want.pins, &options, handle, stop, |batch| {
        let keep = drawn.rows_of(&batch, fingerprint, &wanted)?;
        if keep.true_count() == 0 {
            return Ok(());
        }
        let batch = filter_record_batch(&batch, &keep).map_err(|error| Error::Damaged {
            path: format!("table {}", features::NAME),
            what: error.to_string(),
        })?;
        for vector in features::decode(&batch, slice::from_ref(want.schema))? {
            let Some(index) = drawn.selection.find(vector.place) else { continue };
            let outcome = drawn.selection.targets[index].outcome(drawn.selection.clock_ms);
            take(vector, drawn.roles[index], outcome)?;
        }
        Ok(())
    })
}
