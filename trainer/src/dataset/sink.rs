//! Where vectors go as they stream by: to disk, or into memory, by the part that they are of.

use std::collections::HashMap;

use model::Encoder;
use model::encode::{KeyedSet, Outcome, without_person};
use schemas::FeatureVector;

use super::{Request, WEIGHT, spill_folder};
use crate::Error;
use crate::draw::{Drawn, Role};
use crate::random::SplitMix;
use crate::spill::Writer;

/// Vectors that are kept whole, for the artefact's golden batch.
const SAMPLES: usize = 8;

/// Numbers campaigns in order of appearance.
#[derive(Debug, Default)]
pub(super) struct Campaigns {
    numbers: HashMap<String, u32>,
    pub(super) names: Vec<String>,
}

impl Campaigns {
    fn number(&mut self, campaign: String) -> u32 {
        let next = self.names.len() as u32;
        *self.numbers.entry(campaign).or_insert_with_key(|campaign| {
            self.names.push(campaign.clone());
            next
        })
    }
}

/// Encodes vectors into the part that they are of.
pub(super) struct Sink<'a> {
    encoder: &'a Encoder,
    pub(super) training: Writer,
    pub(super) validation: KeyedSet,
    /// Validation examples still to come, and still to be taken.
    validation_left: (usize, usize),
    pub(super) validation_campaigns: Vec<u32>,
    draw: SplitMix,
    pub(super) test: Writer,
    pub(super) test_outcomes: Vec<Outcome>,
    pub(super) test_campaigns: Vec<u32>,
    pub(super) campaigns: Campaigns,
    pub(super) samples: Vec<FeatureVector>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(want: &Request<'_>, encoder: &'a Encoder, drawn: &Drawn) -> Result<Self, Error> {
        let folder = spill_folder(want.config)?;
        let block_rows = want.config.block_rows;
        let empty = KeyedSet::new(encoder);
        let training =
            Writer::scattered(&folder, empty.clone(), block_rows, drawn.parts.train.len(), want.seed)?;
        let rows = drawn.parts.validation.len();
        Ok(Self {
            encoder,
            training,
            validation: empty.clone(),
            validation_left: (rows, rows.min(want.config.split.max_validation_rows)),
            validation_campaigns: Vec::new(),
            draw: SplitMix::new(want.seed ^ 0x5641_4C49_4441_5445),
            test: Writer::in_order(&folder, empty, block_rows)?,
            test_outcomes: Vec::new(),
            test_campaigns: Vec::new(),
            campaigns: Campaigns::default(),
            samples: Vec::new(),
        })
    }

    pub(super) fn take(&mut self, vector: FeatureVector, role: Role, outcome: Outcome) -> Result<(), Error> {
        let encoder = self.encoder;
        match role {
            Role::Train => {
                self.training.push(|set| Ok(set.push(encoder, &vector, outcome, WEIGHT)?))?;
                if self.samples.len() < SAMPLES {
                    self.samples.push(without_person(vector));
                }
            }
            Role::Validation => {
                // Selection sampling (Knuth, algorithm 3.4.2 S): each with the same probability.
                let (left, wanted) = &mut self.validation_left;
                let taken = self.draw.below((*left).max(1)) < *wanted;
                *left = left.saturating_sub(1);
                if taken {
                    *wanted -= 1;
                    self.validation.push(encoder, &vector, outcome, WEIGHT)?;
                    self.validation_campaigns.push(self.campaigns.number(vector.campaign));
                }
            }
            Role::Test => {
                self.test.push(|set| Ok(set.push(encoder, &vector, outcome, WEIGHT)?))?;
                self.test_outcomes.push(outcome);
                self.test_campaigns.push(self.campaigns.number(vector.campaign));
            }
            Role::Absent | Role::Gap => {}
        }
        Ok(())
    }
}
