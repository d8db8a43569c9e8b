//! Sequence encoders in candle's own operations: the reference of [`crate::network::sequence`], and
//! what CUDA trains with.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::{sigmoid, softmax};

use crate::network::front::NORM_FLOOR;
use crate::network::sequence::{Sequence, attention, convolution, recurrent};

/// States of behaviours that are `vectors` (rows, longest, width), newest first; `there` (rows,
/// longest) is 1 where there is one, else 0. States where there is none mean nothing.
pub(super) fn states(
    sequence: Sequence,
    parameters: &Tensor,
    vectors: &Tensor,
    there: &Tensor,
) -> Result<Tensor> {
    match sequence {
        Sequence::Plain => Ok(vectors.clone()),
        Sequence::Attention(at) => attended(at, parameters, vectors, there),
        Sequence::Recurrent(at) => recurred(at, parameters, vectors, there),
        Sequence::Convolution(at) => convolved(at, parameters, vectors, there),
    }
}

/// `width` rows of the parameters, as a matrix.
fn matrix(parameters: &Tensor, first: usize) -> Result<Tensor> {
    parameters.narrow(0, first, parameters.dim(1)?)?.contiguous()
}

fn attended(at: attention::At, parameters: &Tensor, vectors: &Tensor, there: &Tensor) -> Result<Tensor> {
    let (count, longest, width) = vectors.dims3()?;
    let head_width = width / at.heads;
    let square = (vectors.sqr()?.mean_keepdim(D::Minus1)? + f64::from(NORM_FLOOR))?.sqrt()?;
    let normed = vectors.broadcast_div(&square)?.broadcast_mul(&parameters.narrow(0, at.norm, 1)?)?;
    let flat = normed.reshape((count * longest, width))?;
    let project = |first: usize| -> Result<Tensor> {
        flat.matmul(&matrix(parameters, first)?)?
            .reshape((count, longest, at.heads, head_width))?
            .transpose(1, 2)?
            .contiguous()
    };
    let (query, key, value) = (project(at.query)?, project(at.key)?, project(at.value)?);
    let scores = (query.matmul(&key.transpose(2, 3)?.contiguous()?)? / (head_width as f64).sqrt())?;
    // Places without a behaviour get a score that no exponential survives.
    let hidden = ((1.0 - there)? * -1e9)?.reshape((count, 1, 1, longest))?;
    let mixed = softmax(&scores.broadcast_add(&hidden)?, D::Minus1)?.matmul(&value)?;
    let mixed = mixed.transpose(1, 2)?.contiguous()?.reshape((count * longest, width))?;
    vectors + mixed.matmul(&matrix(parameters, at.output)?)?.reshape((count, longest, width))?
}

fn recurred(at: recurrent::At, parameters: &Tensor, vectors: &Tensor, there: &Tensor) -> Result<Tensor> {
    let (count, longest, width) = vectors.dims3()?;
    let bias = |row: usize| parameters.narrow(0, at.bias + row, 1);
    let mut state = Tensor::zeros((count, width), vectors.dtype(), vectors.device())?;
    let mut states = Vec::with_capacity(longest);
    for position in (0..longest).rev() {
        let x = vectors.narrow(1, position, 1)?.squeeze(1)?.contiguous()?;
        let part = |of: &Tensor, first: usize| of.matmul(&matrix(parameters, first)?);
        let gate = |gate: usize| -> Result<Tensor> {
            let sum = (part(&x, at.input[gate])? + part(&state, at.hidden[gate])?)?;
            sigmoid(&sum.broadcast_add(&bias(gate)?)?)
        };
        let (reset, update) = (gate(0)?, gate(1)?);
        let inner = part(&state, at.hidden[2])?.broadcast_add(&bias(3)?)?;
        let candidate = part(&x, at.input[2])?.broadcast_add(&bias(2)?)?;
        let candidate = (candidate + (reset * inner)?)?.tanh()?;
        let next = (((1.0 - &update)? * candidate)? + (update * &state)?)?;
        // What is older than the oldest behaviour leaves the state at zero.
        state = next.broadcast_mul(&there.narrow(1, position, 1)?)?;
        states.push(state.clone());
    }
    states.reverse();
    Tensor::stack(&states, 1)
}

fn convolved(at: convolution::At, parameters: &Tensor, vectors: &Tensor, there: &Tensor) -> Result<Tensor> {
    let (count, longest, width) = vectors.dims3()?;
    let around = at.kernel / 2;
    let shown = vectors.broadcast_mul(&there.unsqueeze(2)?)?.pad_with_zeros(1, around, around)?;
    let mut sum = parameters.narrow(0, at.bias, 1)?.broadcast_as((count * longest, width))?;
    for place in 0..at.kernel {
        let neighbours = shown.narrow(1, place, longest)?.contiguous()?.reshape((count * longest, width))?;
        sum = (sum + neighbours.matmul(&matrix(parameters, at.weight + place * width)?)?)?;
    }
    vectors + sum.relu()?.reshape((count, longest, width))?
}
