//! The fused front against the same in candle's own operations: values, gradients, and the whole
//! network as it serves.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};

use super::batch::Gatherer;
use super::forward::{Gradients, Pass};
use super::mixture::Mixture;
use super::objective::Mixing;
use super::operation::FrontOperation;
use super::stock;
use crate::config::{BehaviourEncoder, Config, DeviceKind, NetworkKind};
use crate::device;
use crate::encode::{EncodedSet, Encoder, Statistics};
use crate::network::{KernelClass, Layout, Weights};
use crate::predict::Model;
use crate::random::Random;
use crate::synthetic;

fn defaults() -> Config {
    #[derive(serde::Deserialize)]
    struct File {
        model: Config,
    }
    let mut config = toml::from_str::<File>(crate::DEFAULTS).unwrap().model;
    // Nothing here fits any.
    config.encoder.dictionaries.clear();
    config
}

/// A set, and a model with random weights everywhere, zeros included.
fn prepare(config: &Config, count: usize) -> (EncodedSet, Model) {
    let schema = synthetic::schema(3);
    let encoder = Encoder::new(&schema, &config.encoder);
    let mut set = EncodedSet::new(&encoder);
    for made in synthetic::make(&schema, count, config.encoder.content_embedding, 11) {
        set.push(&made.vector, &made.label, 1.0).unwrap();
    }
    let statistics = Statistics::fit(&set.all());
    let layout = Layout::new(&encoder, config);
    let mut weights = Weights::initial(&layout, &encoder, config, [0.1, -0.2, 0.3], 5);
    let mut random = Random::new(5, "test");
    weights.front.iter_mut().for_each(|value| *value += random.symmetric(0.3));
    weights.tables.iter_mut().for_each(|value| *value = random.symmetric(0.5));
    for layer in &mut weights.layers {
        layer.weight.iter_mut().for_each(|value| *value += random.symmetric(0.05));
    }
    (set, Model::new(encoder, config.clone(), statistics, weights))
}

fn variants() -> Vec<Config> {
    let base = defaults();
    let mut all = vec![base.clone()];
    let mut with = |change: &dyn Fn(&mut Config)| {
        let mut config = base.clone();
        change(&mut config);
        config.validate().unwrap();
        all.push(config);
    };
    with(&|config| config.network.layers = 2);
    with(&|config| config.network.layers = 0);
    with(&|config| (config.network.width, config.network.heads) = (8, 1));
    with(&|config| (config.network.width, config.network.heads) = (32, 2));
    with(&|config| config.network.behaviours = BehaviourEncoder::Mean);
    with(&|config| config.network.behaviours = BehaviourEncoder::None);
    with(&|config| config.network.behaviours = BehaviourEncoder::SelfAttention);
    with(&|config| config.network.behaviours = BehaviourEncoder::Gru);
    with(&|config| {
        (config.network.behaviours, config.network.cnn_kernel) = (BehaviourEncoder::Cnn, 5);
    });
    with(&|config| config.encoder.content_embedding = 5);
    with(&|config| config.network.kind = NetworkKind::Mlp);
    with(&|config| (config.network.cross_layers, config.network.cross_rank) = (1, 5));
    with(&|config| config.network.cross_layers = 3);
    with(&|config| {
        config.network.kind = NetworkKind::Mlp;
        (config.network.cross_layers, config.network.cross_rank) = (2, 70);
    });
    with(&|config| config.encoder.max_fields_per_token = 1);
    with(&|config| config.training.value_weight = 1.0);
    all
}

/// The largest difference, beside the largest value (or 1, where that is smaller).
fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(1.0_f32, |most, b| most.max(b.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max)
}

#[test]
fn the_fused_front_agrees_with_candle_in_values_and_gradients() {
    for config in variants() {
        let (set, model) = prepare(&config, 70);
        let examples = set.all();
        let batch = Arc::new(Gatherer::new(set.encoder()).gather(&examples, 0..70));
        let layout = Arc::new(model.layout.clone());
        let statistics = Arc::new(model.statistics.clone());
        let width = layout.width;
        let front = Var::from_slice(&model.weights.front, model.weights.front.len(), &Device::Cpu).unwrap();
        let gathered: Vec<f32> = batch
            .unique
            .iter()
            .flat_map(|&row| model.weights.tables[row as usize * width..(row as usize + 1) * width].to_vec())
            .collect();
        let rows = Var::from_vec(gathered, (batch.unique.len(), width), &Device::Cpu).unwrap();
        let mut random = Random::new(1, "upstream");
        let upstream: Vec<f32> = (0..70 * layout.outputs()).map(|_| random.symmetric(1.0)).collect();
        let upstream = Tensor::from_vec(upstream, (70, layout.outputs()), &Device::Cpu).unwrap();
        let measure = |out: &Tensor| -> [Vec<f32>; 3] {
            let store = (out * &upstream).unwrap().sum_all().unwrap().backward().unwrap();
            let gradient = |var: &Var| {
                store.get(var.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            [out.flatten_all().unwrap().to_vec1().unwrap(), gradient(&front), gradient(&rows)]
        };
        let reference = measure(
            &stock::front(&batch, &layout, &statistics, front.as_tensor(), rows.as_tensor()).unwrap(),
        );
        for class in KernelClass::available() {
            let operation = FrontOperation {
                batch: Arc::clone(&batch),
                layout: Arc::clone(&layout),
                statistics: Arc::clone(&statistics),
                class,
                workspace: Arc::default(),
            };
            let fused = measure(&front.apply_op2(&rows, operation).unwrap());
            for (what, (ours, theirs)) in
                ["values", "parameters", "embeddings"].iter().zip(fused.iter().zip(&reference))
            {
                let off = furthest(ours, theirs);
                assert!(off < 1e-5, "{what} differ by {off} ({class}, {:?})", config.network);
            }
        }
    }
}

#[test]
fn a_fused_step_agrees_with_candle_in_all_gradients() {
    for (number, config) in variants().into_iter().enumerate() {
        let (set, model) = prepare(&config, 130);
        let batch = Arc::new(Gatherer::new(set.encoder()).gather(&set.all(), 0..130));
        let mut random = Random::new(2, "shares");
        let mixing = Mixing { shift: 7, shares: (0..130).map(|_| 0.75 + random.symmetric(0.25)).collect() };
        let mixing = (number % 2 == 1).then_some(mixing);
        for class in KernelClass::available() {
            let pass = Pass {
                device: Device::Cpu,
                class,
                layout: Arc::new(model.layout.clone()),
                statistics: Arc::new(model.statistics.clone()),
                dropout: 0.3,
                seed: 1,
                workspace: Arc::default(),
            };
            let judge = |logits: &[f32]| -> Result<_, candle_core::Error> {
                Ok(Some(logits.iter().map(|logit| logit * 0.1 + 0.02).collect()))
            };
            let flat = |found: Gradients| {
                let layers = found.layers.into_iter().flat_map(|(weight, bias)| [weight, bias]);
                [found.front, found.rows].into_iter().chain(layers).collect::<Vec<_>>()
            };
            let ours = flat(pass.run(&model.weights, &batch, 3, mixing.as_ref(), judge).unwrap().unwrap());
            let width = model.layout.width;
            let tables = &model.weights.tables;
            let rows = batch.unique.iter().flat_map(|&row| &tables[row as usize * width..][..width]);
            let rows = rows.copied().collect();
            let mixture = mixing.clone().map(Mixture);
            let theirs = pass.stock(&model.weights, &batch, 3, mixture.as_ref(), rows, judge);
            for (part, (ours, theirs)) in ours.iter().zip(flat(theirs.unwrap().unwrap())).enumerate() {
                let off = furthest(ours, &theirs);
                assert!(off < 1e-5, "gradients {part} differ by {off} ({class}, {:?})", config.network);
            }
        }
    }
}

#[test]
fn serving_agrees_with_candle_over_the_whole_network() {
    for config in variants() {
        let (set, model) = prepare(&config, 50);
        let examples = set.all();
        let theirs = model.logits_on(&Device::Cpu, &examples).unwrap();
        let ours = model.logits(&examples);
        let off = furthest(&ours, &theirs);
        assert!(off < 1e-5, "logits differ by {off} ({:?})", config.network);
    }
}

/// Where there is a CUDA device, networks infer and learn on it as on the processor.
#[test]
fn cuda_agrees_with_the_processor() {
    let cuda = match device::open(DeviceKind::Cuda) {
        Ok(cuda) => cuda,
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            return;
        }
    };
    for config in variants() {
        let (set, model) = prepare(&config, 200);
        let examples = set.all();
        let ours = model.logits(&examples);
        let off = furthest(&model.logits_on(&cuda, &examples).unwrap(), &ours);
        assert!(off < 1e-3, "logits differ by {off} ({:?})", config.network);

        let batch = Arc::new(Gatherer::new(set.encoder()).gather(&examples, 0..200));
        let gradients = |device: &Device| {
            let pass = Pass {
                device: device.clone(),
                class: KernelClass::detect(),
                layout: Arc::new(model.layout.clone()),
                statistics: Arc::new(model.statistics.clone()),
                dropout: 0.2,
                seed: 1,
                workspace: Arc::default(),
            };
            let slopes = |logits: &[f32]| -> Result<_, candle_core::Error> {
                Ok(Some(logits.iter().map(|logit| logit * 0.01 + 0.002).collect()))
            };
            let found = pass.run(&model.weights, &batch, 3, None, slopes).unwrap().unwrap();
            let layers = found.layers.into_iter().flat_map(|(weight, bias)| [weight, bias]);
            [found.front, found.rows].into_iter().chain(layers).collect::<Vec<_>>()
        };
        for (part, (theirs, ours)) in gradients(&cuda).iter().zip(gradients(&Device::Cpu)).enumerate() {
            let off = furthest(theirs, &ours);
            assert!(off < 1e-3, "gradients {part} differ by {off} ({:?})", config.network);
        }
    }
}
