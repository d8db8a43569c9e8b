//! Whole networks against `PyTorch`'s, and a step's gradients against differences of its loss.
//!
//! `tests/reference/networks.json` is made by `tests/reference/networks.py`, which builds each network in
//! plain `PyTorch`, in double precision, from weights that it draws by a seed: run it with `PyTorch` 2
//! installed and put what it prints there. Here the same weights are loaded by their names; logits, loss
//! and gradients may be off by [`TOLERANCE`] of the largest in their tensor (or of 1): ours are computed
//! in single precision.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Device;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;

use super::batch::{Batch, Gatherer};
use super::forward::{Gradients, Pass};
use super::objective::{Mixing, Objective};
use super::survey::Survey;
use crate::config::Config;
use crate::encode::{EncodedBehaviour, Encoder, Outcome, Row, RowBuffer, Statistics};
use crate::network::{Dense, HEADS, KernelClass, Layout, Weights};
use crate::predict::Model;

const TOLERANCE: f64 = 1e-5;
/// Logits that the reference has.
const LOGITS: usize = 3;

#[derive(Deserialize)]
struct Reference {
    tables: BTreeMap<String, u32>,
    numbers: Vec<String>,
    groups: Vec<Vec<usize>>,
    content: usize,
    conversion_weight: f32,
    view_through_weight: f32,
    mean: Vec<f32>,
    inverse_deviation: Vec<f32>,
    examples: Vec<Example>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Example {
    ids: Vec<u32>,
    numbers: Vec<Option<f32>>,
    behaviours: Vec<Past>,
    embedding: Vec<f32>,
    clicked: bool,
    purchased: bool,
    matured: bool,
}

#[derive(Deserialize)]
struct Past {
    rows: [u32; 3],
    age: f32,
    kind: u8,
    same: u8,
}

#[derive(Deserialize)]
struct Case {
    network: serde_json::Map<String, serde_json::Value>,
    weights: BTreeMap<String, Tensor>,
    logits: Vec<f32>,
    loss: f64,
    gradients: BTreeMap<String, Vec<f32>>,
}

#[derive(Deserialize)]
struct Tensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// A case's network and what it is given.
struct Prepared {
    model: Model,
    objective: Objective,
    rows: Vec<RowBuffer>,
    batch: Arc<Batch>,
    outcomes: Vec<(Outcome, f32)>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../tests/reference/networks.json")).unwrap()
}

fn config_of(reference: &Reference, case: &Case) -> Config {
    #[derive(Deserialize)]
    struct File {
        model: Config,
    }
    let mut config = toml::from_str::<File>(crate::DEFAULTS).unwrap().model;
    let mut network = serde_json::to_value(&config.network).unwrap();
    network.as_object_mut().unwrap().extend(case.network.clone());
    config.network = serde_json::from_value(network).unwrap();
    let encoder = &mut config.encoder;
    for (field, buckets) in [
        ("item", &mut encoder.item_buckets),
        ("campaign", &mut encoder.campaign_buckets),
        ("category", &mut encoder.category_buckets),
        ("brand", &mut encoder.brand_buckets),
        ("placement", &mut encoder.placement_buckets),
        ("device", &mut encoder.device_buckets),
        ("channel", &mut encoder.channel_buckets),
    ] {
        *buckets = reference.tables[field];
    }
    // The reference has no consumers, and rows are its ids.
    encoder.user_buckets = 0;
    encoder.dictionaries.clear();
    encoder.content_embedding = reference.content;
    config.training.conversion_weight = reference.conversion_weight;
    config.training.view_through_weight = reference.view_through_weight;
    config.validate().unwrap();
    config
}

/// The case's weights as a file, with zeros for heads that the reference has not.
fn file(case: &Case) -> Vec<u8> {
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = case
        .weights
        .iter()
        .map(|(name, Tensor { shape, values })| {
            let (mut shape, mut values) = (shape.clone(), values.clone());
            if name.starts_with("heads.") {
                *shape.last_mut().unwrap() = HEADS;
                let padded = |row: &[f32]| [row, &[0.0; HEADS - LOGITS]].concat();
                values = values.chunks_exact(LOGITS).flat_map(padded).collect();
            }
            (name.clone(), shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

fn prepare(reference: &Reference, case: &Case) -> Prepared {
    let config = config_of(reference, case);
    let field = |name: &String| schemas::vector::VectorField {
        name: name.clone(),
        scale: schemas::vector::Scale::Linear,
        doc: String::new(),
    };
    // The price is no field of the schema: the encoder adds it.
    let fields = reference.numbers.iter().filter(|name| *name != "price").map(field).collect();
    let encoder = Encoder::new(&schemas::VectorSchema { fields }, &config.encoder);
    assert_eq!(encoder.number_names(), reference.numbers);
    assert!(encoder.groups().iter().map(|group| &group.columns).eq(&reference.groups));
    let layout = Layout::new(&encoder, &config);
    let weights = Weights::from_safetensors(&file(case), &layout, &encoder, &config).unwrap();
    assert!(weights.named(&layout, &encoder).keys().eq(case.weights.keys()), "{:?}", case.network);
    let statistics = Statistics {
        mean: reference.mean.clone(),
        inverse_deviation: reference.inverse_deviation.clone(),
        examples: 1,
    };
    let rows: Vec<RowBuffer> = reference.examples.iter().map(Example::row).collect();
    let mut gatherer = Gatherer::new(&encoder);
    let mut batch = gatherer.start();
    for row in &rows {
        gatherer.add(&mut batch, &row.row());
    }
    let outcomes = reference.examples.iter().map(|example| {
        let &Example { clicked, purchased, matured, .. } = example;
        (Outcome { clicked, purchased, matured, ..Outcome::default() }, 1.0)
    });
    let survey = Survey {
        statistics: statistics.clone(),
        examples: 1,
        kept: 1,
        base: [0.0; HEADS],
        mean_delay_s: 1.0,
        window_s: 1.0,
        seen: None,
    };
    Prepared {
        objective: Objective::new(&config, &survey),
        outcomes: outcomes.collect(),
        batch: Arc::new(batch),
        rows,
        model: Model::new(encoder, config, statistics, weights),
    }
}

impl Example {
    fn row(&self) -> RowBuffer {
        let behaviours = self.behaviours.iter();
        RowBuffer {
            numbers: self.numbers.iter().map(|number| number.unwrap_or(f32::NAN)).collect(),
            ids: self.ids.clone(),
            behaviours: behaviours
                .map(|&Past { rows, age, kind, same }| EncodedBehaviour { rows, age, kind, same })
                .collect(),
            embedding: self.embedding.clone(),
        }
    }
}

impl Prepared {
    fn pass(&self, class: KernelClass, dropout: f32) -> Pass {
        Pass {
            device: Device::Cpu,
            class,
            layout: Arc::new(self.model.layout.clone()),
            statistics: Arc::new(self.model.statistics.clone()),
            dropout,
            seed: 1,
            workspace: Arc::default(),
        }
    }

    /// Gradients in the shape of the weights.
    fn shaped(&self, gradients: Gradients) -> Weights {
        let width = self.model.layout.width;
        let weights = &self.model.weights;
        let mut tables = vec![0.0; weights.tables.len()];
        for (&row, gradients) in self.batch.unique.iter().zip(gradients.rows.chunks_exact(width)) {
            tables[row as usize * width..(row as usize + 1) * width].copy_from_slice(gradients);
        }
        let layers = weights.layers.iter().zip(gradients.layers);
        let layers = layers.map(|(layer, (weight, bias))| Dense { weight, bias, ..*layer }).collect();
        Weights { front: gradients.front, tables, layers }
    }
}

/// The first [`LOGITS`] of each row of heads.
fn of_reference(values: &[f32]) -> Vec<f32> {
    values.chunks_exact(HEADS).flat_map(|row| row[..LOGITS].to_vec()).collect()
}

fn assert_close(ours: &[f32], theirs: &[f32], what: &dyn std::fmt::Display) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let most = theirs.iter().fold(1.0_f64, |most, value| most.max(f64::from(value.abs())));
    for (ours, theirs) in ours.iter().zip(theirs) {
        let off = f64::from(ours - theirs).abs();
        assert!(off <= TOLERANCE * most, "{what}: {ours}, PyTorch has {theirs}");
    }
}

#[test]
fn whole_networks_are_those_of_pytorch() {
    let reference = reference();
    for case in &reference.cases {
        let network = serde_json::to_string(&case.network).unwrap();
        let prepared = prepare(&reference, case);
        let rows: Vec<Row<'_>> = prepared.rows.iter().map(RowBuffer::row).collect();
        for class in KernelClass::available() {
            let what = |part: &str| format!("{part} ({class}, {network})");
            let model = prepared.model.clone().with_kernel_class(class);
            let mut served = vec![[0.0; HEADS]; rows.len()];
            model.infer(&rows, &mut served);
            assert_close(&of_reference(served.as_flattened()), &case.logits, &what("served"));
            let judge = |logits: &[f32]| -> Result<_, candle_core::Error> {
                assert_close(&of_reference(logits), &case.logits, &what("logits"));
                let judged = prepared.objective.judge(logits, &prepared.outcomes, None);
                let loss = judged.sum / judged.count;
                assert!((loss - case.loss).abs() < TOLERANCE, "loss {loss}, PyTorch has {}", case.loss);
                Ok(Some(judged.slopes))
            };
            let gradients = prepared.pass(class, 0.0).run(&model.weights, &prepared.batch, 0, None, judge);
            let gradients = prepared.shaped(gradients.unwrap().unwrap());
            for (name, (_, ours)) in gradients.named(&model.layout, &model.encoder) {
                let ours = if name.starts_with("heads.") { of_reference(ours) } else { ours.to_vec() };
                assert_close(&ours, &case.gradients[&name], &what(&name));
            }
        }
    }
}

/// The arrays of the weights, or of gradients in their shape.
fn parts(weights: &mut Weights) -> Vec<&mut Vec<f32>> {
    let layers = weights.layers.iter_mut().flat_map(|layer| [&mut layer.weight, &mut layer.bias]);
    [&mut weights.front, &mut weights.tables].into_iter().chain(layers).collect()
}

/// Central differences over a sample of all weights, with dropout and mixing on, whose masks and shares
/// don't change with the weights.
#[test]
fn gradients_are_differences_of_the_loss() {
    const STEP: f32 = 1e-3;
    let reference = reference();
    let (mut compared, mut moved) = (0, 0);
    for case in &reference.cases {
        let prepared = prepare(&reference, case);
        let mixing = Mixing { shift: 2, shares: vec![0.9, 0.6, 1.0, 0.75, 0.8, 0.55] };
        let pass = prepared.pass(KernelClass::detect(), 0.2);
        let mut loss = 0.0;
        let mut run = |weights: &Weights| {
            let judge = |logits: &[f32]| -> Result<_, candle_core::Error> {
                let judged = prepared.objective.judge(logits, &prepared.outcomes, Some(&mixing));
                loss = judged.sum / judged.count;
                Ok(Some(judged.slopes))
            };
            let gradients = pass.run(weights, &prepared.batch, 0, Some(&mixing), judge).unwrap().unwrap();
            (loss, gradients)
        };
        let mut weights = prepared.model.weights.clone();
        let mut gradients = prepared.shaped(run(&weights).1);
        for (part, gradients) in parts(&mut gradients).into_iter().enumerate() {
            let most = gradients.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            for at in (part..gradients.len()).step_by((gradients.len() / 40).max(1)) {
                let start = parts(&mut weights)[part][at];
                let mut shifted = |to: f32| {
                    parts(&mut weights)[part][at] = to;
                    run(&weights).0
                };
                let (up, down) = (shifted(start + STEP), shifted(start - STEP));
                shifted(start);
                let slope = (up - down) / f64::from((start + STEP) - (start - STEP));
                let off = (slope - f64::from(gradients[at])).abs();
                let allowed = 1e-2 * f64::from(most) + 2e-4;
                assert!(off < allowed, "{part} {at}: {slope} {} ({:?})", gradients[at], case.network);
                compared += 1;
                moved += usize::from(slope.abs() > allowed);
            }
        }
    }
    assert!(compared > 2_000 && moved > 700, "{moved} of {compared}");
}
