//! Both networks side by side, as the page that a training leaves behind.

use model::metrics::{Difference, MetricsLess};
use trainer::report::{self, Comparison, HeadCurves, Losses, Page, Shown, Verdict};

use super::fitted::Fitted;
use super::{CONFIDENCE, Report};

const NAMES: [&str; 2] = ["with attention", "without attention"];

/// The page: self-contained HTML.
pub(super) fn html(
    report: &Report,
    [with, without]: [&Fitted; 2],
    less: &MetricsLess,
    config: &model::Config,
    seed: u64,
) -> String {
    let curves = [with, without].map(|fitted| HeadCurves::each(&fitted.heads));
    report::html(&Page {
        title: "The classic network, with attention and without".to_owned(),
        verdict: verdict(less.click.log_loss),
        grounds: Vec::new(),
        facts: facts(report, with, config, seed),
        models: Comparison {
            first: Shown { name: NAMES[0], metrics: &with.metrics, curves: &curves[0] },
            second: Some(Shown { name: NAMES[1], metrics: &without.metrics, curves: &curves[1] }),
            less: Some(less),
            confidence: CONFIDENCE,
        },
        losses: vec![
            (NAMES[0], Losses::new(&with.history, &[])),
            (NAMES[1], Losses::new(&without.history, &[])),
        ],
        importance: Some(&with.importance),
        explanation: Some(&with.explanation),
    })
}

/// Whether attention lowers the log loss by more than noise.
fn verdict(less: Option<Difference>) -> Verdict {
    let Some(Difference { mean, low, high }) = less else {
        return Verdict {
            good: false,
            word: "Nothing to judge".to_owned(),
            reason: "no viewings".to_owned(),
        };
    };
    let word = match (low <= 0.0, high >= 0.0) {
        (_, false) => "Attention helps",
        (false, _) => "Attention harms",
        _ => "Attention changes nothing beyond noise",
    };
    let reason = format!(
        "the log loss with it less that without it is {mean:+.5}, between {low:+.5} and {high:+.5} in {:.0} % of the resamples of the test viewings (one training each: another seed may say otherwise)",
        100.0 * CONFIDENCE
    );
    Verdict { good: high < 0.0, word: word.to_owned(), reason }
}

fn facts(report: &Report, with: &Fitted, config: &model::Config, seed: u64) -> Vec<(String, String)> {
    let (network, training) = (&config.network, &config.training);
    let widths: Vec<String> = network.mlp.iter().map(ToString::to_string).collect();
    let figure = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.5}"));
    let share = |network: &super::Network| {
        let share = network.information_gain_share;
        format!("{:.1} % ({:.1} to {:.1})", 100.0 * share.value, 100.0 * share.low, 100.0 * share.high)
    };
    [
        ("data", format!("simulated viewings, seed {seed}: {} inputs", report.inputs)),
        ("training", format!("{} viewings", report.train)),
        ("validation", format!("{} viewings, which chose the pass that was kept", report.validation)),
        ("test", format!("{} viewings", report.test)),
        (
            "attention",
            format!(
                "each input is a token of width {}; {} layer of {} heads over them, then pooling by attention",
                network.width, network.layers, network.heads
            ),
        ),
        (
            "layers",
            format!("{}, ReLU, dropout {}; one sigmoid", widths.join(" and "), network.dropout),
        ),
        (
            "training by",
            format!(
                "{:?}, step size {}, batches of {}, {} passes",
                training.optimizer, training.learning_rate, training.batch_size, training.max_epochs
            ),
        ),
        ("seed of training", training.seed.to_string()),
        ("base rate's log loss", figure(report.truth.base_log_loss)),
        (
            "true probabilities",
            format!("log loss {}, AUC {}", figure(report.truth.log_loss), figure(report.truth.auc)),
        ),
        ("of what can be known, with attention", share(&report.with_attention)),
        ("of what can be known, without", share(&report.without_attention)),
        (
            "took",
            format!(
                "{:.1} s with attention, {:.1} s without; best after pass {} and {}",
                report.with_attention.seconds,
                report.without_attention.seconds,
                report.with_attention.best_epoch,
                report.without_attention.best_epoch
            ),
        ),
        ("git revision", trainer::REVISION.unwrap_or("not known to the build").to_owned()),
        ("kernel class", with.kernel.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
