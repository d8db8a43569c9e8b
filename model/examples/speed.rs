//! How fast this machine trains and predicts: `cargo run --release -p model --example speed`; with
//! feature crosses: `... --example speed -- 2`.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![expect(clippy::disallowed_methods, reason = "it measures time and decides nothing by it")]

#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

use std::ops::ControlFlow;
use std::time::Instant;

use model::{Config, EncodedSet, Encoder, Explain, Job, Progress};
use schemas::FeatureVector;

fn main() {
    let mut config: Config = synthetic::defaults(model::DEFAULTS);
    config.training.min_steps_per_epoch = 0;
    if let Some(crosses) = std::env::args().nth(1) {
        config.network.cross_layers = crosses.parse().unwrap();
    }
    let schema = synthetic::schema(16);
    let made = synthetic::make(&schema, 50_000, 0, 1);
    let mut set = EncodedSet::new(&Encoder::new(&schema, &config.encoder));
    let start = Instant::now();
    for made in &made {
        set.push(&made.vector, &made.label, 1.0).unwrap();
    }
    println!("encode: {:.0} vectors/s", made.len() as f64 / start.elapsed().as_secs_f64());
    let (training, validation) = (set.select(0..42_000), set.select(42_000..50_000));
    let start = Instant::now();
    let trained = model::train(Job::new(&training, &validation, &config), &mut |progress: &Progress| {
        if let Some(loss) = progress.validation_loss {
            println!("epoch {} step {}: {:.4} {loss:.4}", progress.epoch, progress.step, progress.loss);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let samples = trained.history.steps as f64 * config.training.batch_size as f64;
    let click = &trained.validation.click;
    println!(
        "train: {} tokens, {:.0} samples/s with validation, {seconds:.1} s; log loss {:.4} (base {:.4}), AUC {:.4}",
        trained.model.tokens().len(),
        samples / seconds,
        click.log_loss.unwrap(),
        click.base_log_loss.unwrap(),
        click.auc.unwrap(),
    );
    let vectors: Vec<FeatureVector> = made.into_iter().map(|made| made.vector).collect();
    let explain = Explain { fields: 5, behaviours: 3 };
    for class in model::KernelClass::available() {
        let model = trained.model.clone().with_kernel_class(class);
        for batch in [1, 32, 256, 1024] {
            let mut times: Vec<f64> = vectors
                .chunks_exact(batch)
                .take((20_000 / batch).max(20))
                .map(|vectors| {
                    let start = Instant::now();
                    model.predict(vectors, explain).unwrap();
                    start.elapsed().as_secs_f64() * 1e6
                })
                .collect();
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            println!("predict {class} batch {batch}: {median:.0} us, {:.2} us a row", median / batch as f64);
        }
    }
}
