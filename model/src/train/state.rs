//! All that changes while training: weights, moments, the best weights, where it is. What a
//! checkpoint holds.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use super::average::Average;
use super::checkpoint::{self, Array, Checkpoint, CheckpointError, Identity, Position};
use super::forward::Gradients;
use super::frozen::Frozen;
use super::keep::Kept;
use super::optimizer::{Optimizer, Settings};
use super::touched::Touched;
use super::workspace::Workspace;
use super::{History, batch::Batch};
use crate::config::TrainingConfig;
use crate::encode::Encoder;
use crate::network::layout::Start;
use crate::network::{Dense, HEADS, Layout, Weights};

/// A training between two steps.
pub(super) struct State<'a> {
    pub(super) encoder: &'a Encoder,
    pub(super) config: &'a TrainingConfig,
    pub(super) layout: Arc<Layout>,
    pub(super) frozen: Frozen,
    pub(super) identity: Identity,
    /// The last layer may have more outputs than the heads.
    pub(super) weights: Weights,
    pub(super) optimizer: Optimizer,
    pub(super) touched: Touched,
    /// Running average of all but the tables; none where nothing is averaged.
    pub(super) average: Option<Average>,
    pub(super) kept: Kept,
    pub(super) position: Position,
    pub(super) history: History,
}

impl State<'_> {
    /// Notes that a step is about to move the batch's rows; gives their slots.
    pub(super) fn touch(&mut self, batch: &Batch) -> Vec<u32> {
        let known = self.touched.rows().len();
        let slots = self.touched.name(&batch.unique);
        self.kept.before(&self.weights.tables, self.layout.width, &self.touched, &slots);
        let new = &self.touched.rows()[known..];
        self.weights.start_rows(self.layout.width, new, self.identity.seed);
        slots
    }

    /// Moves the weights against `gradients`; `share` is the schedule's.
    pub(super) fn update(
        &mut self,
        batch: &Batch,
        slots: &[u32],
        gradients: &Gradients,
        share: f32,
        workspace: &Workspace,
    ) {
        let training = self.config;
        let matrix =
            Settings { learning_rate: training.learning_rate * share, weight_decay: training.weight_decay };
        let vector = Settings { weight_decay: 0.0, ..matrix };
        let table = Settings {
            learning_rate: training.embedding_learning_rate * share,
            weight_decay: training.embedding_weight_decay,
        };
        let optimizer = &mut self.optimizer;
        optimizer.next_step();
        let width = self.layout.width;
        for segment in &self.layout.segments {
            if self.frozen.holds(&segment.name) {
                continue;
            }
            let range = rows(segment.first, segment.rows, width);
            let settings = if matches!(segment.start, Start::Matrix { .. }) { matrix } else { vector };
            let values = &mut self.weights.front[range.clone()];
            optimizer.update(&segment.name, values, &gradients.front[range], settings);
        }
        let moving = self.frozen.moving_rows(&batch.unique, slots, &gradients.rows, width);
        let (unique, slots, of_rows) = moving.as_ref().map_or(
            (batch.unique.as_slice(), slots, gradients.rows.as_slice()),
            |(unique, slots, of_rows)| (unique.as_slice(), slots.as_slice(), of_rows.as_slice()),
        );
        let tables = &mut self.weights.tables;
        optimizer.update_rows(tables, width, &self.touched, unique, slots, of_rows, table, workspace);
        let count = self.weights.layers.len();
        for (number, (layer, (weight, bias))) in
            self.weights.layers.iter_mut().zip(&gradients.layers).enumerate()
        {
            let name = self.layout.layer_name(number, count);
            if self.frozen.holds(&name) {
                continue;
            }
            optimizer.update(&format!("{name}.weight"), &mut layer.weight, weight, matrix);
            if !bias.is_empty() {
                optimizer.update(&format!("{name}.bias"), &mut layer.bias, bias, vector);
            }
        }
        if let Some(average) = &mut self.average {
            average.add(&self.weights, self.history.steps.saturating_sub(1), training.averaging);
        }
    }

    /// Puts the average in the weights' place, and back when called again.
    pub(super) const fn swap_average(&mut self) {
        if let Some(average) = &mut self.average {
            average.swap(&mut self.weights);
        }
    }

    /// Keeps the weights as the best.
    pub(super) fn keep(&mut self) {
        self.kept.keep(&self.weights, self.layout.width, &self.touched);
    }

    /// Goes back to the best weights, from which the average starts again too. The optimizer's moments
    /// stay: they are of gradients no further back than the patience.
    pub(super) fn go_back(&mut self) {
        self.kept.restore(&mut self.weights, self.layout.width, &self.touched);
        if self.average.is_some() {
            self.average = Average::new(&self.weights, self.config.averaging);
        }
    }

    /// Name, shape and values of the weights.
    pub(super) fn named(&self) -> Vec<(String, Vec<usize>, &[f32])> {
        let named = self.weights.named(&self.layout, self.encoder);
        named.into_iter().map(|(name, (shape, values))| (name, shape, values)).collect()
    }

    /// Writes all of it.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = self.layout.width;
        let rows = self.touched.rows();
        let (optimizer_step, moments) = self.optimizer.parts();
        let mut arrays: Vec<(String, Array<'_>)> = vec![
            ("touched".to_owned(), Array::Whole(rows)),
            ("weights.rows".to_owned(), Array::Rows(&self.weights.tables, width, rows)),
            ("weights.front".to_owned(), Array::Floats(&self.weights.front)),
            ("best.rows".to_owned(), Array::Floats(&self.kept.rows)),
        ];
        arrays.extend(layer_arrays("weights", &self.weights.layers));
        if let Some(average) = &self.average {
            arrays.push(("average.front".to_owned(), Array::Floats(&average.front)));
            arrays.extend(layer_arrays("average", &average.layers));
        }
        if let Some((front, layers)) = &self.kept.dense {
            arrays.push(("best.front".to_owned(), Array::Floats(front)));
            arrays.extend(layer_arrays("best", layers));
        }
        for (name, values) in moments {
            arrays.push((format!("moments.{name}"), Array::Floats(values)));
        }
        let described = (&self.identity, &self.position, &self.history);
        checkpoint::write(out, described, optimizer_step, &arrays)
    }

    /// Goes on where `checkpoint` was taken.
    pub(super) fn resume(&mut self, mut checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        if let Some(what) = checkpoint.identity().differs(&self.identity) {
            return Err(CheckpointError::Other { what });
        }
        let width = self.layout.width;
        let table_rows = self.weights.tables.len() / width;
        let rows = checkpoint.take("touched");
        if rows.iter().any(|&row| row as usize >= table_rows) {
            return Err(CheckpointError::Other { what: "table" });
        }
        let sized = |what: &'static str, values: Vec<f32>, length: usize| {
            if values.len() == length { Ok(values) } else { Err(CheckpointError::Other { what }) }
        };
        let values = sized("table", checkpoint.take_floats("weights.rows"), rows.len() * width)?;
        for (&row, values) in rows.iter().zip(values.chunks_exact(width)) {
            self.weights.tables[row as usize * width..(row as usize + 1) * width].copy_from_slice(values);
        }
        let front = self.weights.front.len();
        self.weights.front = sized("network", checkpoint.take_floats("weights.front"), front)?;
        let has_best = checkpoint.position().plateau.best.is_some();
        let shapes = self.weights.layers.clone();
        let mut read_layers = |prefix: &str| -> Result<Vec<Dense>, CheckpointError> {
            let mut layers = Vec::with_capacity(shapes.len());
            for (number, shape) in shapes.iter().enumerate() {
                let mut read = |part: &str, length: usize| {
                    let name = format!("{prefix}.layer.{number}.{part}");
                    sized("network", checkpoint.take_floats(&name), length)
                };
                let weight = read("weight", shape.weight.len())?;
                let bias = read("bias", shape.bias.len())?;
                layers.push(Dense { weight, bias, inputs: shape.inputs, outputs: shape.outputs });
            }
            Ok(layers)
        };
        self.weights.layers = read_layers("weights")?;
        if let Some(average) = &mut self.average {
            average.layers = read_layers("average")?;
        }
        let best = if has_best { Some(read_layers("best")?) } else { None };
        if let Some(average) = &mut self.average {
            average.front = sized("network", checkpoint.take_floats("average.front"), front)?;
        }
        let dense = match best {
            Some(layers) => Some((sized("network", checkpoint.take_floats("best.front"), front)?, layers)),
            None => None,
        };
        let best_rows = sized("table", checkpoint.take_floats("best.rows"), rows.len() * width)?;
        self.kept = Kept::restored(dense, best_rows, width);
        self.touched = Touched::of(table_rows, &rows);
        if self.touched.rows().len() != rows.len() {
            return Err(CheckpointError::Other { what: "table" });
        }
        self.optimizer.restore(checkpoint.optimizer_step(), checkpoint.take_all("moments."));
        let named = self.weights.named(&self.layout, self.encoder);
        let length = |name: &str| named.get(name).map(|(_, values)| values.len());
        if !self.optimizer.fits(rows.len() * width, length) {
            return Err(CheckpointError::Other { what: "optimizer" });
        }
        self.position = checkpoint.position().clone();
        self.history = checkpoint.history().clone();
        Ok(())
    }
}

fn layer_arrays<'a>(prefix: &str, layers: &'a [Dense]) -> impl Iterator<Item = (String, Array<'a>)> {
    layers.iter().enumerate().flat_map(move |(number, layer)| {
        [
            (format!("{prefix}.layer.{number}.weight"), Array::Floats(&layer.weight)),
            (format!("{prefix}.layer.{number}.bias"), Array::Floats(&layer.bias)),
        ]
    })
}

/// The floats of `count` rows from row `first` on.
pub(super) const fn rows(first: usize, count: usize, width: usize) -> Range<usize> {
    first * width..(first + count) * width
}

/// Gives a layer so many outputs: the last ones go, or more come that say 0.
fn resize(layer: &mut Dense, outputs: usize) {
    let columns = |row: &[f32]| {
        let mut out = row[..outputs.min(row.len())].to_vec();
        out.resize(outputs, 0.0);
        out
    };
    layer.weight = layer.weight.chunks_exact(layer.outputs).flat_map(columns).collect();
    layer.bias.resize(outputs, 0.0);
    layer.outputs = outputs;
}

/// The layers that serve: the first `outputs` of the last one, without what only training reads, and the
/// heads' biases moved by `shift`.
pub(super) fn served(layers: &[Dense], shift: [f64; HEADS], outputs: usize) -> Vec<Dense> {
    let mut served = layers.to_vec();
    if let Some(heads) = served.last_mut() {
        resize(heads, outputs);
        for (bias, shift) in heads.bias.iter_mut().zip(shift) {
            *bias = (f64::from(*bias) + shift) as f32;
        }
    }
    served
}

/// The other way round: layers to train, from layers that serve. `outputs` will serve, `extra` only train;
/// those that are added start at 0. `value` is where the output for values starts, if anew.
pub(super) fn trained(
    layers: &mut [Dense],
    shift: [f64; HEADS],
    (outputs, extra): (usize, usize),
    value: Option<f32>,
) {
    if let Some(heads) = layers.last_mut() {
        for (bias, shift) in heads.bias.iter_mut().zip(shift) {
            *bias = (f64::from(*bias) - shift) as f32;
        }
        resize(heads, if value.is_some() { HEADS } else { outputs.min(heads.outputs) });
        resize(heads, outputs + extra);
        if let (Some(value), Some(bias)) = (value, heads.bias[..outputs].get_mut(HEADS)) {
            *bias = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serves_and_what_is_trained_are_each_others_inverse() {
        let heads = Dense {
            weight: (0..12).map(|at| at as f32).collect(),
            bias: vec![0.5; 3],
            inputs: 4,
            outputs: 3,
        };
        let shift = [-1.0, 0.0, 0.25];
        let mut layers = vec![heads.clone()];
        trained(&mut layers, shift, (3, 2), None);
        assert_eq!(layers[0].outputs, 5);
        assert_eq!(layers[0].bias, [1.5, 0.5, 0.25, 0.0, 0.0]);
        assert_eq!(layers[0].weight[5..8], [3.0, 4.0, 5.0]);
        assert_eq!(served(&layers, shift, 3).first(), Some(&heads));

        // An output for values starts where it is told to, and goes on from where it was.
        let mut layers = vec![heads.clone()];
        trained(&mut layers, shift, (4, 2), Some(3.0));
        assert_eq!(layers[0].bias, [1.5, 0.5, 0.25, 3.0, 0.0, 0.0]);
        layers[0].weight[3] = 9.0;
        let mut layers = served(&layers, shift, 4);
        assert_eq!(layers[0].bias, [0.5, 0.5, 0.5, 3.0]);
        let mut anew = layers.clone();
        trained(&mut anew, shift, (4, 0), Some(2.0));
        assert_eq!((anew[0].bias[3], anew[0].weight[3]), (2.0, 0.0));
        trained(&mut layers, shift, (4, 2), None);
        assert_eq!((layers[0].bias[3], layers[0].weight[3]), (3.0, 9.0));
        // And goes where none is wanted.
        trained(&mut layers, [0.0; 3], (3, 2), None);
        assert_eq!(layers[0].bias, [1.5, 0.5, 0.25, 0.0, 0.0]);
    }
}
