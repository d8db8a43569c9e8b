//! The weights of a network as plain arrays: initial values, safetensors, checksum.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::HEADS;
use super::layout::{Layout, Start};
use crate::config::Config;
use crate::encode::{Dictionary, Encoder};
use crate::random::Random;

/// Largest initial value of an embedding: small, so that an id never seen says next to nothing.
const EMBEDDING_LIMIT: f32 = 0.02;

/// A layer of the MLP, or half of a cross: `y = x W + b`, `W` with one row per input.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// `inputs` rows of `outputs`.
    pub weight: Vec<f32>,
    /// One per output; none where the layer has no bias.
    pub bias: Vec<f32>,
    /// Floats read.
    pub inputs: usize,
    /// Floats given.
    pub outputs: usize,
}

/// All weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// All before the MLP but the embeddings; rows of the token width, as the layout says.
    pub front: Vec<f32>,
    /// Embedding tables, one after the other; rows of the token width.
    pub tables: Vec<f32>,
    /// `down` and `up` of each cross, hidden layers, then the heads.
    pub layers: Vec<Dense>,
}

/// Weights that don't fit the network that they are said to be of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// Not a safetensors file.
    #[error("weights: {0}")]
    Format(String),
    /// A tensor is missing, or has another shape or type.
    #[error("weights: tensor {name} is {found}, the network needs {expected}")]
    Tensor {
        /// Name.
        name: String,
        /// Shape found, or `missing`.
        found: String,
        /// Shape needed.
        expected: String,
    },
    /// Keys that are no dictionary's.
    #[error("weights: tensor {name} holds a key twice, or the key 0")]
    Dictionary {
        /// Name.
        name: String,
    },
    /// A number that is none.
    #[error("weights: tensor {name} holds a number that is not finite")]
    NotFinite {
        /// Name.
        name: String,
    },
}

/// Name of the tensor with the keys of a field's dictionary, in the order of their rows.
fn dictionary_name(field: &str) -> String {
    format!("dictionary.{field}")
}

/// The encoder with the dictionaries that a safetensors file holds beside the weights.
pub(crate) fn with_dictionaries(encoder: Encoder, bytes: &[u8]) -> Result<Encoder, WeightsError> {
    if encoder.tables().iter().all(|table| table.dictionary.is_none()) {
        return Ok(encoder);
    }
    let file = SafeTensors::deserialize(bytes).map_err(|error| WeightsError::Format(error.to_string()))?;
    let read = |field: &str| -> Result<Dictionary, WeightsError> {
        let name = dictionary_name(field);
        let expected = "U64 [ids]".to_owned();
        let Ok(tensor) = file.tensor(&name) else {
            return Err(WeightsError::Tensor { name, found: "missing".to_owned(), expected });
        };
        if tensor.dtype() != Dtype::U64 || tensor.shape().len() != 1 {
            let found = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
            return Err(WeightsError::Tensor { name, found, expected });
        }
        let keys = tensor.data().as_chunks::<8>().0.iter().map(|key| u64::from_le_bytes(*key)).collect();
        Dictionary::new(keys).ok_or(WeightsError::Dictionary { name })
    };
    let dictionaries = encoder
        .tables()
        .iter()
        .map(|table| table.dictionary.as_ref().map(|_| read(table.name)).transpose())
        .collect::<Result<Vec<_>, _>>()?;
    Ok(encoder.with_dictionaries(&dictionaries))
}

impl Dense {
    fn zeros(inputs: usize, outputs: usize) -> Self {
        Self { weight: vec![0.0; inputs * outputs], bias: vec![0.0; outputs], inputs, outputs }
    }
}

/// Inputs and outputs of a layer, and whether it has a bias.
type Shape = (usize, usize, bool);

/// The network's layers.
fn shapes(layout: &Layout, config: &Config) -> Vec<Shape> {
    let (wide, rank) = (layout.outputs(), config.network.cross_rank);
    let mut layers = Vec::new();
    for _ in 0..layout.crosses {
        // What a bias between the two halves would add, the second one's bias can.
        layers.push((wide, rank, false));
        layers.push((rank, wide, true));
    }
    let mut inputs = wide;
    for &outputs in config.network.mlp.iter().chain([&config.outputs()]) {
        layers.push((inputs, outputs, true));
        inputs = outputs;
    }
    layers
}

/// The network's layers, all zeros.
fn blank(layout: &Layout, config: &Config) -> Vec<Dense> {
    let zeros = |(inputs, outputs, has_bias)| {
        let layer = Dense::zeros(inputs, outputs);
        if has_bias { layer } else { Dense { bias: Vec::new(), ..layer } }
    };
    shapes(layout, config).into_iter().map(zeros).collect()
}

impl Weights {
    /// Initial weights; the heads start at `head_bias`, so that training starts from base rates.
    pub(crate) fn initial(
        layout: &Layout,
        encoder: &Encoder,
        config: &Config,
        head_bias: [f32; HEADS],
        seed: u64,
    ) -> Self {
        let width = layout.width;
        let mut front = vec![0.0; layout.rows * width];
        for segment in &layout.segments {
            let values = &mut front[segment.first * width..(segment.first + segment.rows) * width];
            match segment.start {
                Start::Zero => {}
                Start::One => values.fill(1.0),
                Start::Matrix { inputs } => {
                    let mut random = Random::new(seed, &segment.name);
                    let limit = (6.0 / (inputs + width) as f32).sqrt();
                    values.fill_with(|| random.symmetric(limit));
                }
            }
        }
        // Zeros that nobody has written take up no memory: see `start_rows`.
        let tables = vec![0.0; encoder.table_rows() * width];
        let mut layers = blank(layout, config);
        let (count, crosses) = (layers.len(), layout.cross_layers());
        for (number, layer) in layers.iter_mut().enumerate() {
            let squares = if number < crosses {
                // A cross starts as the identity, by its second half; the first one has to differ from
                // 0, or neither would ever move.
                if number.is_multiple_of(2) { 3.0 } else { continue }
            } else if number + 1 < count {
                // He: the layers are followed by ReLU.
                6.0
            } else {
                layer.bias[..HEADS].copy_from_slice(&head_bias);
                continue;
            };
            let mut random = Random::new(seed, &layout.layer_name(number, count));
            let limit = (squares / layer.inputs as f32).sqrt();
            layer.weight.fill_with(|| random.symmetric(limit));
        }
        Self { front, tables, layers }
    }

    /// Gives rows that no batch has named before (they are all zeros) their initial values, which
    /// depend on the seed and the row alone. Rows that none ever names stay zero: they say nothing.
    pub(crate) fn start_rows(&mut self, width: usize, rows: &[u32], seed: u64) {
        for &row in rows {
            let values = &mut self.tables[row as usize * width..(row as usize + 1) * width];
            if values.iter().all(|&value| value == 0.0) {
                let mut random = Random::numbered(seed, "tables", u64::from(row));
                values.fill_with(|| random.symmetric(EMBEDDING_LIMIT));
            }
        }
    }

    /// Name, shape and values of every tensor, by name.
    pub(crate) fn named<'a>(
        &'a self,
        layout: &Layout,
        encoder: &Encoder,
    ) -> BTreeMap<String, (Vec<usize>, &'a [f32])> {
        let width = layout.width;
        let mut named = BTreeMap::new();
        for segment in &layout.segments {
            let values = &self.front[segment.first * width..(segment.first + segment.rows) * width];
            named.insert(segment.name.clone(), (vec![segment.rows, width], values));
        }
        for table in encoder.tables() {
            let (field, first, rows) = (table.name, table.first as usize, table.rows as usize);
            let values = &self.tables[first * width..(first + rows) * width];
            named.insert(format!("table.{field}"), (vec![rows, width], values));
        }
        for (number, layer) in self.layers.iter().enumerate() {
            let name = layout.layer_name(number, self.layers.len());
            named.insert(
                format!("{name}.weight"),
                (vec![layer.inputs, layer.outputs], layer.weight.as_slice()),
            );
            if !layer.bias.is_empty() {
                named.insert(format!("{name}.bias"), (vec![layer.outputs], layer.bias.as_slice()));
            }
        }
        named
    }

    /// The weights as a safetensors file; equal weights give equal bytes.
    pub(crate) fn to_safetensors(&self, layout: &Layout, encoder: &Encoder) -> Result<Vec<u8>, WeightsError> {
        let named = self.named(layout, encoder);
        let bytes: BTreeMap<&str, (Vec<usize>, Vec<u8>)> = named
            .iter()
            .map(|(name, (shape, values))| {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                (name.as_str(), (shape.clone(), bytes))
            })
            .collect();
        let mut views = Vec::with_capacity(bytes.len());
        let view = |kind, shape, bytes| {
            TensorView::new(kind, shape, bytes).map_err(|error| WeightsError::Format(error.to_string()))
        };
        for (name, (shape, bytes)) in &bytes {
            views.push(((*name).to_owned(), view(Dtype::F32, shape.clone(), bytes)?));
        }
        let dictionaries: Vec<(String, usize, Vec<u8>)> = encoder
            .tables()
            .iter()
            .filter_map(|table| {
                let keys = table.dictionary.as_ref()?.keys();
                let bytes = keys.iter().flat_map(|key| key.to_le_bytes()).collect();
                Some((dictionary_name(table.name), keys.len(), bytes))
            })
            .collect();
        for (name, length, bytes) in &dictionaries {
            views.push((name.clone(), view(Dtype::U64, vec![*length], bytes)?));
        }
        safetensors::serialize(views, None).map_err(|error| WeightsError::Format(error.to_string()))
    }

    /// Weights of that network from a safetensors file.
    pub(crate) fn from_safetensors(
        bytes: &[u8],
        layout: &Layout,
        encoder: &Encoder,
        config: &Config,
    ) -> Result<Self, WeightsError> {
        let file =
            SafeTensors::deserialize(bytes).map_err(|error| WeightsError::Format(error.to_string()))?;
        let tensor = |name: &str, shape: &[usize]| -> Result<TensorView<'_>, WeightsError> {
            let wrong = |found: String| WeightsError::Tensor {
                name: name.to_owned(),
                found,
                expected: format!("F32 {shape:?}"),
            };
            let tensor = file.tensor(name).map_err(|_| wrong("missing".to_owned()))?;
            if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
                return Err(wrong(format!("{:?} {:?}", tensor.dtype(), tensor.shape())));
            }
            Ok(tensor)
        };
        let width = layout.width;
        // All are there, and of their shapes, before any memory is taken for them: what a config asks for
        // may be more than a machine has.
        for segment in &layout.segments {
            tensor(&segment.name, &[segment.rows, width])?;
        }
        for table in encoder.tables() {
            tensor(&format!("table.{}", table.name), &[table.rows as usize, width])?;
        }
        let shapes = shapes(layout, config);
        for (number, (inputs, outputs, has_bias)) in shapes.iter().enumerate() {
            let name = layout.layer_name(number, shapes.len());
            tensor(&format!("{name}.weight"), &[*inputs, *outputs])?;
            if *has_bias {
                tensor(&format!("{name}.bias"), &[*outputs])?;
            }
        }
        let read = |name: String, shape: &[usize], out: &mut [f32]| -> Result<(), WeightsError> {
            let tensor = tensor(&name, shape)?;
            for (out, value) in out.iter_mut().zip(schemas::vector::floats(tensor.data())) {
                if !value.is_finite() {
                    return Err(WeightsError::NotFinite { name });
                }
                *out = value;
            }
            Ok(())
        };
        let mut front = vec![0.0; layout.rows * width];
        for segment in &layout.segments {
            let values = &mut front[segment.first * width..(segment.first + segment.rows) * width];
            read(segment.name.clone(), &[segment.rows, width], values)?;
        }
        let mut tables = vec![0.0; encoder.table_rows() * width];
        for table in encoder.tables() {
            let (field, first, rows) = (table.name, table.first as usize, table.rows as usize);
            let values = &mut tables[first * width..(first + rows) * width];
            read(format!("table.{field}"), &[rows, width], values)?;
        }
        let mut layers = blank(layout, config);
        let count = layers.len();
        for (number, layer) in layers.iter_mut().enumerate() {
            let name = layout.layer_name(number, count);
            read(format!("{name}.weight"), &[layer.inputs, layer.outputs], &mut layer.weight)?;
            if !layer.bias.is_empty() {
                read(format!("{name}.bias"), &[layer.outputs], &mut layer.bias)?;
            }
        }
        Ok(Self { front, tables, layers })
    }
}
