//! Gated recurrent unit (Cho et al. 2014, in the variant of cuDNN and `PyTorch`, where the reset gate
//! applies after the hidden matrix), from the oldest behaviour to the newest.

use crate::network::kernel::{axpy, back, outer, sigmoid, tanh, times};
use crate::network::layout::{Rows, Start};

/// First rows of the parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    /// Matrices of the input: of the reset gate, of the update gate, of the candidate.
    pub(crate) input: [usize; 3],
    /// The same of the hidden state.
    pub(crate) hidden: [usize; 3],
    /// Biases: reset, update, candidate's input, candidate's hidden part.
    pub(crate) bias: usize,
}

impl At {
    pub(super) fn new(rows: &mut Rows, width: usize) -> Self {
        let mut matrices = |of: &str| {
            ["reset", "update", "candidate"]
                .map(|gate| rows.take(format!("gru.{of}.{gate}"), width, Start::Matrix { inputs: width }))
        };
        Self {
            input: matrices("input"),
            hidden: matrices("hidden"),
            bias: rows.take("gru.bias", 4, Start::Zero),
        }
    }
}

/// A step's intermediate values.
#[derive(Debug, Clone, Copy)]
struct Step<const D: usize> {
    reset: [f32; D],
    update: [f32; D],
    candidate: [f32; D],
    /// The candidate's hidden part, before the reset gate.
    inner: [f32; D],
}

/// By position.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory<const D: usize> {
    steps: Vec<Step<D>>,
}

/// The state before the one at `position`, in time.
#[inline(always)]
fn before<const D: usize>(states: &[[f32; D]], position: usize) -> [f32; D] {
    states.get(position + 1).copied().unwrap_or([0.0; D])
}

impl<const D: usize> Memory<D> {
    #[inline(always)]
    pub(super) fn forward(
        &mut self,
        at: At,
        parameters: &[[f32; D]],
        vectors: &[[f32; D]],
        states: &mut Vec<[f32; D]>,
    ) {
        let zero = Step { reset: [0.0; D], update: [0.0; D], candidate: [0.0; D], inner: [0.0; D] };
        self.steps.clear();
        self.steps.resize(vectors.len(), zero);
        states.resize(vectors.len(), [0.0; D]);
        for position in (0..vectors.len()).rev() {
            let x = &vectors[position];
            let past = before(states, position);
            let [mut reset, mut update, mut candidate, mut inner] =
                std::array::from_fn(|row| parameters[at.bias + row]);
            times(&mut reset, x, &parameters[at.input[0]..]);
            times(&mut reset, &past, &parameters[at.hidden[0]..]);
            times(&mut update, x, &parameters[at.input[1]..]);
            times(&mut update, &past, &parameters[at.hidden[1]..]);
            times(&mut candidate, x, &parameters[at.input[2]..]);
            times(&mut inner, &past, &parameters[at.hidden[2]..]);
            let state = &mut states[position];
            for lane in 0..D {
                reset[lane] = sigmoid(reset[lane]);
                update[lane] = sigmoid(update[lane]);
                candidate[lane] = tanh(candidate[lane] + reset[lane] * inner[lane]);
                state[lane] = (1.0 - update[lane]) * candidate[lane] + update[lane] * past[lane];
            }
            self.steps[position] = Step { reset, update, candidate, inner };
        }
    }

    #[inline(always)]
    pub(super) fn backward(
        &self,
        at: At,
        parameters: &[[f32; D]],
        vectors: &[[f32; D]],
        states: &[[f32; D]],
        of_states: &mut [[f32; D]],
        of_parameters: &mut [[f32; D]],
    ) {
        let mut carried = [0.0; D];
        for (position, step) in self.steps.iter().enumerate() {
            let past = before(states, position);
            let mut of_state = of_states[position];
            axpy(&mut of_state, 1.0, &carried);
            let (mut of_reset, mut of_update, mut of_candidate, mut of_inner) =
                ([0.0; D], [0.0; D], [0.0; D], [0.0; D]);
            for lane in 0..D {
                let Step { reset, update, candidate, inner } = step;
                let (reset, update, candidate) = (reset[lane], update[lane], candidate[lane]);
                of_update[lane] = of_state[lane] * (past[lane] - candidate) * update * (1.0 - update);
                of_candidate[lane] = of_state[lane] * (1.0 - update) * (1.0 - candidate * candidate);
                of_reset[lane] = of_candidate[lane] * inner[lane] * reset * (1.0 - reset);
                of_inner[lane] = of_candidate[lane] * reset;
                carried[lane] = of_state[lane] * update;
            }
            let x = &vectors[position];
            let mut of_x = [0.0; D];
            let sides = [(&of_reset, &of_reset), (&of_update, &of_update), (&of_candidate, &of_inner)];
            for (gate, (of_input, of_hidden)) in sides.into_iter().enumerate() {
                let (input, hidden) = (at.input[gate], at.hidden[gate]);
                outer(&mut of_parameters[input..input + D], x, of_input);
                outer(&mut of_parameters[hidden..hidden + D], &past, of_hidden);
                back(&mut of_x, of_input, &parameters[input..input + D]);
                back(&mut carried, of_hidden, &parameters[hidden..hidden + D]);
            }
            for (row, of_bias) in [of_reset, of_update, of_candidate, of_inner].iter().enumerate() {
                axpy(&mut of_parameters[at.bias + row], 1.0, of_bias);
            }
            of_states[position] = of_x;
        }
    }
}
