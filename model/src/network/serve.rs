//! The forward pass that serves: rows to logits, on packed weights and memory that is kept.
//!
//! A row's bits depend on the row, the weights and the kernel class alone: a row goes through the
//! attention block alone or with fifteen others, and through crosses and MLP in blocks of any size, by the
//! same operations in the same order.

use std::sync::{Mutex, PoisonError};

use super::block::{GROUP, Prepared, Values, forward, forward_single, gather_rows};
use super::cross::Cross;
use super::front::{Front, Trace, embed_row};
use super::{Dense, KernelClass, Layout, Packed};
use crate::encode::Row;

/// Rows that go through the network together, on one thread.
pub(crate) const ROWS: usize = 64;
/// Fewer rows than this go through the attention block one by one: sixteen lanes cost as much as
/// about this many rows alone.
const TOGETHER: usize = 7;

/// What a caller is shown of a row on its way.
pub(crate) enum Seen<'a, const D: usize> {
    /// After its tokens are made: the weights of its behaviours.
    Embedded(&'a Trace<D>),
    /// After the attention block: weights of its tokens, which sum to 1.
    Pooled(&'a [f32]),
}

/// Is shown each row, by its number.
pub(crate) type See<'a, const D: usize> = dyn FnMut(usize, Seen<'_, D>) + 'a;

/// The weights as the kernels read them, and memory for the passes.
#[derive(Debug)]
pub(crate) struct Engine {
    prepared: Prepared,
    crosses: Vec<Cross>,
    layers: Vec<Packed>,
    spare: Mutex<Vec<Memory>>,
}

#[derive(Debug)]
struct Memory {
    values: Values,
    /// Tokens of a group.
    tokens: Vec<f32>,
    /// Input and output of a layer of the MLP.
    inputs: Vec<f32>,
    outputs: Vec<f32>,
    /// What a cross gives, and between its halves.
    crossed: Vec<f32>,
    hidden: Vec<f32>,
    pooling: Vec<f32>,
}

impl Engine {
    /// From the front's parameters and the layers: the MLP's hidden ones clamp, the last one does not.
    pub(crate) fn new(layout: &Layout, front: &[f32], layers: &[Dense]) -> Self {
        let (crosses, layers) = layers.split_at(layout.cross_layers());
        let hidden = layers.len() - 1;
        let pack = |(number, layer): (usize, &Dense)| Packed::new(layer, number < hidden);
        Self {
            prepared: Prepared::new(layout, front),
            crosses: Cross::all(crosses),
            layers: layers.iter().enumerate().map(pack).collect(),
            spare: Mutex::default(),
        }
    }

    /// Logits of a row.
    pub(crate) fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.outputs)
    }

    /// The logits of some rows, on this thread. `see` is shown each row by its number.
    pub(crate) fn run<'r, const D: usize>(
        &self,
        class: KernelClass,
        front: Front<'_, D>,
        row: impl Fn(usize) -> Row<'r>,
        out: &mut [f32],
        mut see: Option<&mut See<'_, D>>,
    ) {
        let lock = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = lock().pop();
        let mut memory = spare.unwrap_or_else(|| self.memory(front.layout));
        let mut trace = Trace::new(front.layout);
        for (number, out) in out.chunks_mut(ROWS * self.outputs()).enumerate() {
            let count = out.len() / self.outputs();
            let first = number * ROWS;
            self.tokens(class, front, (first, count), &row, &mut memory, &mut trace, &mut see);
            let mut inputs = count * front.layout.outputs();
            self.cross(class, count, inputs, &mut memory);
            for layer in &self.layers {
                let outputs = count * layer.outputs;
                layer.forward(class, &memory.inputs[..inputs], &mut memory.outputs[..outputs]);
                std::mem::swap(&mut memory.inputs, &mut memory.outputs);
                inputs = outputs;
            }
            out.copy_from_slice(&memory.inputs[..inputs]);
        }
        lock().push(memory);
    }

    /// `count` rows of tokens, in `wide` floats of `memory.inputs`, through the crosses.
    fn cross(&self, class: KernelClass, count: usize, wide: usize, memory: &mut Memory) {
        if self.crosses.is_empty() {
            return;
        }
        let Memory { inputs, outputs, crossed, hidden, .. } = memory;
        crossed[..wide].copy_from_slice(&inputs[..wide]);
        for cross in &self.crosses {
            let hidden = &mut hidden[..count * cross.down.outputs];
            cross.forward(class, &inputs[..wide], hidden, &mut outputs[..wide], &mut crossed[..wide]);
        }
        std::mem::swap(inputs, crossed);
    }

    fn memory(&self, layout: &Layout) -> Memory {
        let widest = self.layers.iter().map(|layer| layer.outputs).chain([layout.outputs()]).max();
        let wide = || vec![0.0; ROWS * widest.unwrap_or(0)];
        let rank = self.crosses.first().map(|cross| cross.down.outputs);
        Memory {
            values: Values::new(layout),
            tokens: vec![0.0; GROUP * layout.outputs()],
            inputs: wide(),
            outputs: wide(),
            crossed: if rank.is_some() { wide() } else { Vec::new() },
            hidden: vec![0.0; ROWS * rank.unwrap_or(0)],
            pooling: vec![0.0; layout.tokens.len()],
        }
    }

    /// From rows to weighted tokens, in `memory.inputs`.
    #[expect(clippy::too_many_arguments, reason = "one pass in two halves")]
    fn tokens<'r, const D: usize>(
        &self,
        class: KernelClass,
        front: Front<'_, D>,
        (first, count): (usize, usize),
        row: &impl Fn(usize) -> Row<'r>,
        memory: &mut Memory,
        trace: &mut Trace<D>,
        see: &mut Option<&mut See<'_, D>>,
    ) {
        let width = front.layout.outputs();
        let share = 1.0 / front.layout.tokens.len() as f32;
        let Memory { values, tokens, inputs, pooling, .. } = memory;
        let groups = inputs[..count * width].chunks_mut(GROUP * width);
        for (first, out) in (first..).step_by(GROUP).zip(groups) {
            let present = out.len() / width;
            for (position, tokens) in tokens.chunks_exact_mut(width).take(present).enumerate() {
                embed_row::<D>(class, front, row(first + position), trace);
                tokens.copy_from_slice(trace.tokens.as_flattened());
                if let Some(see) = see {
                    see(first + position, Seen::Embedded(trace));
                }
            }
            let tokens = &tokens[..present * width];
            if present >= TOGETHER {
                gather_rows(class, values.shape, tokens, &mut values.tokens[0]);
                forward(class, &self.prepared, values, out);
            }
            for (position, (tokens, out)) in
                tokens.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate()
            {
                let alone = present < TOGETHER;
                if alone {
                    forward_single(class, &self.prepared, values, tokens, out);
                }
                let Some(see) = see else { continue };
                for (token, weight) in pooling.iter_mut().enumerate() {
                    *weight = if !front.layout.attention {
                        share
                    } else if alone {
                        values.pooling[token / GROUP].0[token % GROUP] * share
                    } else {
                        values.pooling[token].0[position] * share
                    };
                }
                see(first + position, Seen::Pooled(pooling));
            }
        }
    }
}
