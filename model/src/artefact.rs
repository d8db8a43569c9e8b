//! A model as files: what the registry keeps and scorers load. Knows no store: files are bytes by
//! name.
//!
//! `manifest.json` holds the BLAKE3 of every other file, and the artefact's checksum is that of
//! the manifest. Nothing in it but the card, which the trainer fills, depends on when or where it
//! was made: equal trainings give equal weights, and so an equal `weights_checksum`.

use std::collections::BTreeMap;

use bytes::Bytes;
use schemas::{Codec, FeatureVector, Protobuf};
use serde::{Deserialize, Serialize};

use crate::calibrate::Calibration;
use crate::config::{Config, ConfigError};
use crate::encode::{EncodeError, Encoder, Statistics};
use crate::explain::Method;
use crate::network::{Layout, Weights, WeightsError, with_dictionaries};
use crate::predict::{Explain, Model, Probabilities};
use crate::train::Smoothing;
use crate::values::Values;

/// Format of the artefact.
const FORMAT: u32 = 1;
/// How far a golden prediction may be off: kernels of another machine.
const TOLERANCE: f32 = 1e-5;

const MANIFEST: &str = "manifest.json";
const WEIGHTS: &str = "model.safetensors";
const ENCODER: &str = "encoder.json";
const CONFIG: &str = "config.json";
const CARD: &str = "card.json";
const GOLDEN: &str = "golden.json";

/// Why an artefact can't be made or is refused. None of them passes by itself: keep serving the
/// last good model.
#[derive(Debug, thiserror::Error)]
pub enum ArtefactError {
    /// A file is not there.
    #[error("artefact: {file} is missing")]
    Missing {
        /// The file.
        file: &'static str,
    },
    /// The manifest is not the one announced.
    #[error("artefact: checksum is {found}, expected {expected}")]
    Checksum {
        /// BLAKE3 of the manifest, hex.
        found: String,
        /// What was announced.
        expected: String,
    },
    /// A file is not the one that was written.
    #[error("artefact: {file} is damaged: its checksum is {found}, the manifest says {expected}")]
    Damaged {
        /// The file.
        file: String,
        /// BLAKE3 of the file, hex.
        found: String,
        /// What the manifest says.
        expected: String,
    },
    /// Written by a version that this code does not know.
    #[error("artefact: format {found} is unknown, this build reads {FORMAT}; upgrade it first")]
    Format {
        /// Format found.
        found: u32,
    },
    /// Not the JSON of that file.
    #[error("artefact: {file}: {source}")]
    Json {
        /// The file.
        file: &'static str,
        /// What serde says.
        source: serde_json::Error,
    },
    /// A config that no model can be built with.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Weights of another network.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Statistics of other numbers.
    #[error("artefact: statistics of {found} numbers, the encoder gives {expected}")]
    Statistics {
        /// Numbers in the statistics.
        found: usize,
        /// Numbers of a row.
        expected: usize,
    },
    /// Statistics that no number can be standardised by.
    #[error("artefact: statistics hold a number that is not finite")]
    NotFinite,
    /// A calibration that does not rise with the logits.
    #[error("artefact: the calibration is no rising function to probabilities")]
    Calibration,
    /// A range of values that is none.
    #[error("artefact: the range of values is none, or not above 0")]
    Values,
    /// A golden vector can't be read.
    #[error("artefact: golden vector: {0}")]
    GoldenVector(String),
    /// A golden vector can't be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The model does not predict what it predicted when it was made.
    #[error("artefact: golden vector {index} gives {found}, expected {expected}")]
    Golden {
        /// Which vector.
        index: usize,
        /// Prediction now.
        found: f32,
        /// Prediction when it was made.
        expected: f32,
    },
}

/// What `manifest.json` says, with its own checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// BLAKE3 of `manifest.json`, hex: the artefact's checksum.
    pub checksum: String,
    /// BLAKE3 of the weights' file, hex: equal trainings give equal ones.
    pub weights_checksum: String,
}

#[derive(Serialize, Deserialize)]
struct ManifestFile {
    format: u32,
    fingerprint: String,
    weights_checksum: String,
    /// How predictions are explained; attention in artefacts from before there was a choice.
    #[serde(default)]
    explanation: Method,
    /// Whether label smoothing is taken back; not in artefacts from before it was, whose calibration
    /// and golden batch have it in them.
    #[serde(default)]
    unsmoothed: bool,
    /// What makes probabilities of logits; nothing in artefacts from before there was any.
    #[serde(default)]
    calibration: Calibration,
    /// What it has learned of values; nothing in artefacts of models that predict none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<Values>,
    files: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct EncoderFile {
    encoder: Encoder,
    statistics: Statistics,
}

#[derive(Serialize, Deserialize)]
struct GoldenFile {
    /// Protobuf, hex.
    vectors: Vec<String>,
    /// Bits of `p_click`, `p_conversion`, `p_view_through`, `p_purchase`.
    expected: Vec<[u32; 4]>,
    /// Bits of the values of purchases; none of models that predict none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    values: Vec<u32>,
}

/// A model as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    files: BTreeMap<String, Bytes>,
}

fn checksum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn json<T: Serialize>(file: &'static str, value: &T) -> Result<Bytes, ArtefactError> {
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(|source| ArtefactError::Json { file, source })?;
    bytes.push(b'\n');
    Ok(bytes.into())
}

impl Artefact {
    /// Every file of an artefact; the manifest comes last, so that whoever writes in this order
    /// leaves no manifest without its files.
    pub const FILES: [&'static str; 6] = [WEIGHTS, ENCODER, CONFIG, CARD, GOLDEN, MANIFEST];

    /// Makes an artefact. `golden` are vectors that every load tries; `card` is the model card,
    /// any JSON.
    ///
    /// # Errors
    /// Golden vectors that the model can't read.
    pub fn build(
        model: &Model,
        golden: &[FeatureVector],
        card: &serde_json::Value,
    ) -> Result<Self, ArtefactError> {
        let mut files = BTreeMap::new();
        let weights: Bytes = model.weights.to_safetensors(&model.layout, &model.encoder)?.into();
        let weights_checksum = checksum(&weights);
        files.insert(WEIGHTS.to_owned(), weights);
        let encoder = EncoderFile { encoder: model.encoder.clone(), statistics: model.statistics.clone() };
        files.insert(ENCODER.to_owned(), json(ENCODER, &encoder)?);
        // How many threads trained it is no part of what it is.
        let mut config = model.config.clone();
        config.training.threads = 0;
        files.insert(CONFIG.to_owned(), json(CONFIG, &config)?);
        files.insert(CARD.to_owned(), json(CARD, card)?);
        let said = predicted(model, golden)?;
        let golden = GoldenFile {
            vectors: golden.iter().map(|vector| to_hex(&Protobuf::to_vec(vector))).collect(),
            expected: said.iter().map(|one| probabilities(one).map(f32::to_bits)).collect(),
            values: said.iter().filter_map(|one| Some(one.value?.to_bits())).collect(),
        };
        files.insert(GOLDEN.to_owned(), json(GOLDEN, &golden)?);
        let manifest = ManifestFile {
            format: FORMAT,
            fingerprint: format!("{:016x}", model.schema_fingerprint()),
            weights_checksum,
            explanation: model.explanation,
            unsmoothed: model.smoothing == Smoothing::of(&model.config),
            calibration: model.calibration.clone(),
            values: model.values.clone(),
            files: files.iter().map(|(name, bytes)| (name.clone(), checksum(bytes))).collect(),
        };
        files.insert(MANIFEST.to_owned(), json(MANIFEST, &manifest)?);
        Ok(Self { files })
    }

    /// An artefact of files that were read somewhere; checked when a model is loaded from it.
    pub const fn from_files(files: BTreeMap<String, Bytes>) -> Self {
        Self { files }
    }

    /// The files by name.
    pub const fn files(&self) -> &BTreeMap<String, Bytes> {
        &self.files
    }

    /// BLAKE3 of the manifest, hex; of nothing where there is no manifest.
    pub fn checksum(&self) -> String {
        checksum(self.files.get(MANIFEST).map_or(&[], |bytes| bytes))
    }

    fn file(&self, file: &'static str) -> Result<&Bytes, ArtefactError> {
        self.files.get(file).ok_or(ArtefactError::Missing { file })
    }

    fn parse<T: for<'a> Deserialize<'a>>(&self, file: &'static str) -> Result<T, ArtefactError> {
        serde_json::from_slice(self.file(file)?).map_err(|source| ArtefactError::Json { file, source })
    }
}

impl Model {
    /// Loads a model: checks every checksum, then that it predicts its golden batch.
    ///
    /// # Errors
    /// An artefact that is not whole, not the one expected, or of another version of this code.
    pub fn load(artefact: &Artefact, expected: Option<&str>) -> Result<Self, ArtefactError> {
        artefact.file(MANIFEST)?;
        let found = artefact.checksum();
        if let Some(expected) = expected
            && found != expected
        {
            return Err(ArtefactError::Checksum { found, expected: expected.to_owned() });
        }
        let manifest: ManifestFile = artefact.parse(MANIFEST)?;
        if manifest.format != FORMAT {
            return Err(ArtefactError::Format { found: manifest.format });
        }
        for file in Artefact::FILES.into_iter().filter(|&file| file != MANIFEST) {
            let found = checksum(artefact.file(file)?);
            let expected = manifest.files.get(file).map_or("", String::as_str);
            if found != expected {
                return Err(ArtefactError::Damaged {
                    file: file.to_owned(),
                    found,
                    expected: expected.to_owned(),
                });
            }
        }
        let config: Config = artefact.parse(CONFIG)?;
        config.validate()?;
        let EncoderFile { encoder, statistics } = artefact.parse(ENCODER)?;
        let numbers = encoder.number_names().len();
        if statistics.mean.len() != numbers || statistics.inverse_deviation.len() != numbers {
            return Err(ArtefactError::Statistics { found: statistics.mean.len(), expected: numbers });
        }
        if !statistics.mean.iter().chain(&statistics.inverse_deviation).all(|number| number.is_finite()) {
            return Err(ArtefactError::NotFinite);
        }
        let encoder = with_dictionaries(encoder, artefact.file(WEIGHTS)?)?;
        let layout = Layout::new(&encoder, &config);
        let weights = Weights::from_safetensors(artefact.file(WEIGHTS)?, &layout, &encoder, &config)?;
        let mut model = Self::new(encoder, config, statistics, weights);
        model.explanation = manifest.explanation;
        if !manifest.unsmoothed {
            model.smoothing = Smoothing::default();
        }
        if !manifest.calibration.is_sound() {
            return Err(ArtefactError::Calibration);
        }
        model.calibration = manifest.calibration;
        if manifest.values.as_ref().is_some_and(|values| !values.is_sound()) {
            return Err(ArtefactError::Values);
        }
        model.values = manifest.values;
        model.manifest =
            Some(Manifest { checksum: artefact.checksum(), weights_checksum: manifest.weights_checksum });
        model.card = artefact.parse(CARD)?;
        let golden: GoldenFile = artefact.parse(GOLDEN)?;
        let vectors = golden
            .vectors
            .iter()
            .map(|hex| {
                let bytes = from_hex(hex).ok_or_else(|| ArtefactError::GoldenVector("not hex".to_owned()))?;
                Protobuf::decode(&bytes).map_err(|error| ArtefactError::GoldenVector(error.to_string()))
            })
            .collect::<Result<Vec<FeatureVector>, _>>()?;
        let all = predicted(&model, &vectors)?;
        let check = |index: usize, found: f32, expected: f32, tolerance: f32| {
            // Written so that NaN fails.
            let close = (found - expected).abs() <= tolerance;
            if close { Ok(()) } else { Err(ArtefactError::Golden { index, found, expected }) }
        };
        for (index, (found, expected)) in all.iter().zip(&golden.expected).enumerate() {
            for (found, expected) in probabilities(found).into_iter().zip(expected.map(f32::from_bits)) {
                check(index, found, expected, TOLERANCE)?;
            }
        }
        for (index, (found, &expected)) in all.iter().zip(&golden.values).enumerate() {
            let expected = f32::from_bits(expected);
            // The output is the logarithm: what it is off by is a share of the value.
            check(index, found.value.unwrap_or(0.0), expected, expected * 10.0 * TOLERANCE)?;
        }
        Ok(model)
    }

    /// BLAKE3 of the weights as a file, hex: equal trainings give equal ones.
    ///
    /// # Errors
    /// None in practice: only if safetensors could not write plain arrays.
    pub fn weights_checksum(&self) -> Result<String, ArtefactError> {
        match &self.manifest {
            Some(manifest) => Ok(manifest.weights_checksum.clone()),
            None => Ok(checksum(&self.weights.to_safetensors(&self.layout, &self.encoder)?)),
        }
    }
}

fn predicted(model: &Model, vectors: &[FeatureVector]) -> Result<Vec<Probabilities>, EncodeError> {
    let scored = model.predict(vectors, Explain { fields: 0, behaviours: 0 })?;
    Ok(scored.into_iter().map(|one| one.probabilities).collect())
}

const fn probabilities(said: &Probabilities) -> [f32; 4] {
    [said.p_click, said.p_conversion, said.p_view_through, said.p_purchase]
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn from_hex(text: &str) -> Option<Bytes> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
