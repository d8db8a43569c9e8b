//! Our network on the rows: encoded, trained and asked as the trainer does it.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::Result;
use model::{History, Job, Progress};
use trainer::split::Parts;

use super::encoded::Encoded;
use super::rows::Rows;

/// What came out.
#[derive(Debug)]
pub struct Ours {
    /// Probability of a click for each test impression.
    pub predictions: Vec<f32>,
    /// How training went.
    pub history: History,
    /// Encoding and training, seconds.
    pub seconds: f64,
}

/// Trains on the first part, stops by the second, predicts the third.
///
/// # Errors
/// What training says.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
pub fn train(rows: &Rows, parts: &Parts, config: &model::Config, seed: u64) -> Result<Ours> {
    let began = Instant::now();
    let Encoded { training, validation, test } = Encoded::new(rows, parts, config)?;
    let (training, validation) = (training.all(), validation.all());
    let job = Job::new(&training, &validation, config).with_seed(seed);
    let trained = model::train(job, &mut |progress: &Progress| {
        if let Some(loss) = progress.validation_loss {
            eprintln!(
                "  epoch {} step {}/{}: validation loss {loss:.5}, {:.0} s",
                progress.epoch,
                progress.step + 1,
                progress.steps,
                began.elapsed().as_secs_f64()
            );
        }
        ControlFlow::Continue(())
    })?;
    let predictions = trained.model.predict_examples(&test.all())?.iter().map(|p| p.p_click).collect();
    Ok(Ours { predictions, history: trained.history, seconds: began.elapsed().as_secs_f64() })
}
