//! The front and the layers after it in candle's own operations: what CUDA trains with, and what the
//! fused operations are compared with, values and gradients.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::ops::softmax;

use super::batch::Batch;
use super::stock_sequence;
use crate::encode::Statistics;
use crate::network::Layout;
use crate::network::front::{NORM_FLOOR, auxiliary};
use crate::network::layout::AUXILIARY;

/// The batch's weighted tokens, as [`super::operation::FrontOperation`] gives them, from the flat
/// parameters and the embeddings that the batch reads.
pub(crate) fn front(
    batch: &Batch,
    layout: &Layout,
    statistics: &Statistics,
    parameters: &Tensor,
    embeddings: &Tensor,
) -> Result<Tensor> {
    let device = parameters.device();
    let width = layout.width;
    let count = batch.len();
    let parameters = parameters.reshape((layout.rows, width))?;
    let rows = |first: usize, rows: usize| parameters.narrow(0, first, rows);
    let ids: Vec<u32> = (0..count).flat_map(|row| batch.row(row).ids.to_vec()).collect();
    let ids = Tensor::from_vec(ids, count * batch.fields(), device)?;
    let fields = embeddings.index_select(&ids, 0)?.reshape((count, batch.fields(), width))?;
    let mut tokens = vec![fields.clone(), numbers(batch, layout, statistics, &parameters, device)?];
    if layout.behaviour_token.is_some() {
        tokens.push(behaviours(batch, layout, &parameters, embeddings, &fields)?.unsqueeze(1)?);
    }
    if layout.content_token.is_some() {
        let mut present = Vec::with_capacity(count);
        let mut values = Vec::with_capacity(count * layout.content);
        for row in 0..count {
            let embedding = batch.row(row).embedding;
            present.push(f32::from(u8::from(!embedding.is_empty())));
            values.extend_from_slice(embedding);
            values.resize((row + 1) * layout.content, 0.0);
        }
        let present = Tensor::from_vec(present, (count, 1), device)?;
        let values = Tensor::from_vec(values, (count, layout.content), device)?;
        let some = values.matmul(&rows(layout.content_weight, layout.content)?)?;
        let some = (some + present.matmul(&rows(layout.content_bias, 1)?)?)?;
        let none = (1.0 - present)?.matmul(&rows(layout.content_missing, 1)?)?;
        tokens.push((some + none)?.unsqueeze(1)?);
    }
    let mut tokens = Tensor::cat(&tokens, 1)?;
    let length = layout.tokens.len();
    let heads = layout.heads;
    let head_width = width / heads;
    for at in &layout.layers {
        let square = (tokens.sqr()?.mean_keepdim(D::Minus1)? + f64::from(NORM_FLOOR))?.sqrt()?;
        let normed = tokens.broadcast_div(&square)?.broadcast_mul(&rows(at.norm, 1)?)?;
        let flat = normed.reshape((count * length, width))?;
        let project = |first: usize| -> Result<Tensor> {
            flat.matmul(&rows(first, width)?.contiguous()?)?
                .reshape((count, length, heads, head_width))?
                .transpose(1, 2)?
                .contiguous()
        };
        let (query, key, value) = (project(at.query)?, project(at.key)?, project(at.value)?);
        let scores = (query.matmul(&key.transpose(2, 3)?.contiguous()?)? / (head_width as f64).sqrt())?;
        let mixed = softmax(&scores, D::Minus1)?.matmul(&value)?;
        let mixed = mixed.transpose(1, 2)?.contiguous()?.reshape((count * length, width))?;
        let output = mixed.matmul(&rows(at.output, width)?.contiguous()?)?;
        tokens = (tokens + output.reshape((count, length, width))?)?;
    }
    if layout.attention {
        let query = rows(layout.pool_query, 1)?;
        let bias = rows(layout.pool_bias, length.div_ceil(width))?.flatten_all()?.narrow(0, 0, length)?;
        let scores = tokens.broadcast_mul(&query)?.sum(D::Minus1)?.broadcast_add(&bias)?;
        let weights = (softmax(&scores, D::Minus1)? * length as f64)?;
        tokens = tokens.broadcast_mul(&weights.unsqueeze(2)?)?;
    }
    tokens.reshape((count, length * width))
}

/// A layer's weight, and its bias if it has one.
pub(crate) type Layer = (Tensor, Option<Tensor>);

/// A layer without what follows it.
pub(crate) fn dense(values: &Tensor, (weight, bias): &Layer) -> Result<Tensor> {
    let product = values.matmul(weight)?;
    bias.as_ref().map_or(Ok(product.clone()), |bias| product.broadcast_add(bias))
}

/// The cross layers, of pairs of `layers`.
pub(crate) fn crosses(start: &Tensor, layers: &[Layer]) -> Result<Tensor> {
    let mut values = start.clone();
    for [down, up] in layers.as_chunks::<2>().0 {
        let change = dense(&dense(&values, down)?, up)?;
        values = (values + (start * change)?)?;
    }
    Ok(values)
}

/// Tokens of the numbers: one matrix holds each number's vector in the columns of its token.
fn numbers(
    batch: &Batch,
    layout: &Layout,
    statistics: &Statistics,
    parameters: &Tensor,
    device: &Device,
) -> Result<Tensor> {
    let width = layout.width;
    let count = batch.len();
    let numbers = layout.token_of_number.len();
    let groups = layout.behaviour_auxiliary - layout.number_bias;
    let mut present = vec![0.0_f32; count * numbers];
    let mut missing = vec![0.0_f32; count * numbers];
    for row in 0..count {
        for (column, &value) in batch.row(row).numbers.iter().enumerate() {
            match statistics.standardise(column, value) {
                Some(value) => present[row * numbers + column] = value,
                None => missing[row * numbers + column] = 1.0,
            }
        }
    }
    let mut member = vec![0.0_f32; numbers * groups];
    for (column, token) in layout.token_of_number.iter().enumerate() {
        member[column * groups + token - batch.fields()] = 1.0;
    }
    let member = Tensor::from_vec(member, (numbers, groups, 1), device)?;
    let spread = |first: usize| -> Result<Tensor> {
        parameters
            .narrow(0, first, numbers)?
            .unsqueeze(1)?
            .broadcast_mul(&member)?
            .reshape((numbers, groups * width))
    };
    let present = Tensor::from_vec(present, (count, numbers), device)?;
    let missing = Tensor::from_vec(missing, (count, numbers), device)?;
    let sum = (present.matmul(&spread(layout.number_value)?)?
        + missing.matmul(&spread(layout.number_missing)?)?)?;
    sum.reshape((count, groups, width))?.broadcast_add(&parameters.narrow(0, layout.number_bias, groups)?)
}

/// The token of past behaviours.
fn behaviours(
    batch: &Batch,
    layout: &Layout,
    parameters: &Tensor,
    embeddings: &Tensor,
    fields: &Tensor,
) -> Result<Tensor> {
    let device = parameters.device();
    let width = layout.width;
    let count = batch.len();
    let longest = (0..count).map(|row| batch.row(row).behaviours.len()).max().unwrap_or(0);
    let empty = parameters.narrow(0, layout.behaviour_empty, 1)?;
    if longest == 0 {
        return empty.broadcast_as((count, width))?.contiguous();
    }
    let mut ids = vec![0_u32; 3 * count * longest];
    let mut there = vec![0.0_f32; count * longest];
    let mut features = vec![0.0_f32; count * longest * AUXILIARY];
    for row in 0..count {
        for (position, behaviour) in batch.row(row).behaviours.iter().enumerate() {
            let at = row * longest + position;
            there[at] = 1.0;
            features[at * AUXILIARY..(at + 1) * AUXILIARY].copy_from_slice(&auxiliary(behaviour));
            for (field, id) in behaviour.rows.into_iter().enumerate() {
                ids[field * count * longest + at] = id;
            }
        }
    }
    let some: Vec<f32> =
        (0..count).map(|row| f32::from(u8::from(!batch.row(row).behaviours.is_empty()))).collect();
    let ids = Tensor::from_vec(ids, 3 * count * longest, device)?;
    let there = Tensor::from_vec(there, (count, longest), device)?;
    let some = Tensor::from_vec(some, (count, 1), device)?;
    let features = Tensor::from_vec(features, (count * longest, AUXILIARY), device)?;
    let vectors = embeddings.index_select(&ids, 0)?.reshape((3, count * longest, width))?.sum(0)?;
    let auxiliary_rows = parameters.narrow(0, layout.behaviour_auxiliary, AUXILIARY)?.contiguous()?;
    let vectors = (vectors + features.matmul(&auxiliary_rows)?)?.reshape((count, longest, width))?;
    let vectors = stock_sequence::states(layout.sequence, parameters, &vectors, &there)?;
    let weights = if layout.behaviours.attends() {
        let target = fields.narrow(1, 0, 3)?.sum(1)?;
        let matrix = parameters.narrow(0, layout.behaviour_target, width)?.contiguous()?;
        let probe = target.matmul(&matrix)?.unsqueeze(1)?;
        let scores = vectors.broadcast_mul(&probe)?.sum(D::Minus1)?;
        let feature_weights = parameters
            .narrow(0, layout.behaviour_score, AUXILIARY.div_ceil(width))?
            .flatten_all()?
            .narrow(0, 0, AUXILIARY)?
            .unsqueeze(1)?
            .contiguous()?;
        let scores = (scores + features.matmul(&feature_weights)?.reshape((count, longest))?)?;
        // Places without a behaviour get a score that no exponential survives.
        let hidden = ((1.0 - &there)? * -1e9)?;
        let weights = softmax(&(scores + hidden)?, D::Minus1)?;
        weights.broadcast_mul(&some)?
    } else {
        let lengths = (there.sum_keepdim(1)? + (1.0 - &some)?)?;
        there.broadcast_div(&lengths)?
    };
    let pooled = vectors.broadcast_mul(&weights.unsqueeze(2)?)?.sum(1)?;
    pooled + (1.0 - some)?.matmul(&empty)?
}
