//! Past behaviours as a sequence: what each is in the light of the others, before they are pooled
//! into one token. One row at a time, forward and backward.
//!
//! Behaviours come newest first; time runs against the positions. How long ago each was is part of
//! its vector, so time gaps reach every encoder. Every encoder keeps one vector per behaviour, and
//! attention pools them (`super::recall`), so that what was attended to can be told whichever it is.

pub(crate) mod attention;
pub(crate) mod convolution;
pub(crate) mod recurrent;

use super::layout::Rows;
use crate::config::{BehaviourEncoder, NetworkConfig};

/// Which encoder, and where its parameters begin.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sequence {
    /// Behaviours stand as they are.
    Plain,
    /// Self-attention with residual and norm.
    Attention(attention::At),
    /// Gated recurrent unit, oldest to newest.
    Recurrent(recurrent::At),
    /// Convolution over neighbours with residual.
    Convolution(convolution::At),
}

impl Sequence {
    /// Takes the rows of its parameters.
    pub(crate) fn new(rows: &mut Rows, config: &NetworkConfig, behaviours: BehaviourEncoder) -> Self {
        match behaviours {
            BehaviourEncoder::SelfAttention => Self::Attention(attention::At::new(rows, config)),
            BehaviourEncoder::Gru => Self::Recurrent(recurrent::At::new(rows, config.width)),
            BehaviourEncoder::Cnn => Self::Convolution(convolution::At::new(rows, config)),
            BehaviourEncoder::None | BehaviourEncoder::Mean | BehaviourEncoder::TargetAttention => {
                Self::Plain
            }
        }
    }
}

/// What the forward pass leaves for the backward pass.
#[derive(Debug, Clone)]
pub(crate) struct Memory<const D: usize> {
    /// Behaviours after the encoder; empty if it is none.
    pub(crate) states: Vec<[f32; D]>,
    attention: attention::Memory<D>,
    recurrent: recurrent::Memory<D>,
    convolution: convolution::Memory<D>,
}

impl<const D: usize> Default for Memory<D> {
    fn default() -> Self {
        Self {
            states: Vec::new(),
            attention: attention::Memory::default(),
            recurrent: recurrent::Memory::default(),
            convolution: convolution::Memory::default(),
        }
    }
}

impl<const D: usize> Memory<D> {
    /// What is pooled: the encoder's states, or `vectors` where there is no encoder.
    #[inline(always)]
    pub(crate) fn states<'a>(&'a self, sequence: Sequence, vectors: &'a [[f32; D]]) -> &'a [[f32; D]] {
        if matches!(sequence, Sequence::Plain) { vectors } else { &self.states }
    }

    /// Computes the states of behaviours that are `vectors`, newest first.
    #[inline(always)]
    pub(crate) fn forward(&mut self, sequence: Sequence, parameters: &[[f32; D]], vectors: &[[f32; D]]) {
        let Self { states, attention, recurrent, convolution } = self;
        states.clear();
        match sequence {
            Sequence::Plain => {}
            Sequence::Attention(at) => attention.forward(at, parameters, vectors, states),
            Sequence::Recurrent(at) => recurrent.forward(at, parameters, vectors, states),
            Sequence::Convolution(at) => convolution.forward(at, parameters, vectors, states),
        }
    }

    /// Turns the gradient of the states, in `of_states`, into that of the vectors, in its place;
    /// adds to the parameters' gradients.
    #[inline(always)]
    pub(crate) fn backward(
        &self,
        sequence: Sequence,
        parameters: &[[f32; D]],
        vectors: &[[f32; D]],
        of_states: &mut [[f32; D]],
        of_parameters: &mut [[f32; D]],
    ) {
        match sequence {
            Sequence::Plain => {}
            Sequence::Attention(at) => {
                self.attention.backward(at, parameters, vectors, of_states, of_parameters);
            }
            Sequence::Recurrent(at) => {
                self.recurrent.backward(at, parameters, vectors, &self.states, of_states, of_parameters);
            }
            Sequence::Convolution(at) => {
                self.convolution.backward(at, parameters, vectors, of_states, of_parameters);
            }
        }
    }
}
