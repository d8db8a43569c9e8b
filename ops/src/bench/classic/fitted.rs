//! One network trained on viewings and judged on the last of them.

use std::time::Instant;

use anyhow::Result;
use model::encode::Outcome;
use model::explain::{self, Faithfulness, Importance};
use model::metrics::{Bootstrap, Head, Heads};
use model::{EncodedSet, Encoder, History, Job, Metrics, Progress};

use super::viewings::{self, Viewing};

/// What became of it.
pub(super) struct Fitted {
    /// Test predictions with what came of them.
    pub(super) heads: Heads,
    /// The same, measured.
    pub(super) metrics: Metrics,
    pub(super) history: History,
    pub(super) importance: Importance,
    pub(super) explanation: Faithfulness,
    /// Kernel class that trained.
    pub(super) kernel: &'static str,
    /// Training, seconds.
    pub(super) seconds: f64,
}

impl Fitted {
    /// Click probabilities of the test viewings.
    pub(super) fn predictions(&self) -> Vec<f32> {
        self.heads.of(Head::Click).iter().map(|one| one.probability).collect()
    }

    /// The pass whose weights were kept, from 1.
    pub(super) fn best_epoch(&self) -> usize {
        self.history.validations.get(self.history.best).map_or(0, |best| best.epoch + 1)
    }
}

/// Trains on all but the last `2 * held` viewings, stops by the first half of these, and judges on the
/// second.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
pub(super) fn fit(
    viewings: &[Viewing],
    held: usize,
    config: &model::Config,
    explanation: explain::Options,
    bootstrap: &Bootstrap,
) -> Result<Fitted> {
    let schema = viewings::schema();
    let mut set = EncodedSet::new(&Encoder::new(&schema, &config.encoder));
    for viewing in viewings {
        // Only clicks are asked for: no purchase is ever decided.
        let outcome = Outcome { clicked: viewing.clicked, ..Outcome::default() };
        set.push_outcome(&viewing.vector(&schema), outcome, 1.0)?;
    }
    let count = viewings.len();
    let part = |from: usize, to: usize| set.select(from..to);
    let (training, validation) = (part(0, count - 2 * held), part(count - 2 * held, count - held));
    let began = Instant::now();
    let trained = model::train(Job::new(&training, &validation, config), &mut |progress: &Progress| {
        if let Some(loss) = progress.validation_loss {
            eprintln!("  {:?}, epoch {}: validation loss {loss:.5}", config.network.kind, progress.epoch + 1);
        }
        std::ops::ControlFlow::Continue(())
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let test = part(count - held, count);
    let heads = Heads::new(&trained.model.predict_examples(&test)?, test.outcomes());
    Ok(Fitted {
        metrics: Metrics::judge(&heads, &[], 0, bootstrap),
        heads,
        importance: explain::importance(&trained.model, &validation, explanation.rows)?,
        explanation: explain::measure(&trained.model, &validation, explanation)?,
        kernel: trained.model.kernel_class().as_str(),
        history: trained.history,
        seconds,
    })
}
