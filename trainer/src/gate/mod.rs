//! Whether a challenger is published: a pure function of predictions on one later slice.

mod campaigns;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::config::Gate;
use crate::random::SplitMix;

pub use campaigns::{MiscalibratedCampaign, WorseCampaign};

/// One test example: what came of it, and what it belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome<'a> {
    /// Campaign.
    pub campaign: &'a str,
    /// A click came.
    pub clicked: bool,
    /// A purchase came; `None` while its label has not matured.
    pub purchased: Option<bool>,
}

/// What a model said of the test examples, in their order.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// Click probabilities.
    pub p_click: &'a [f32],
    /// Purchase probabilities.
    pub p_purchase: &'a [f32],
}

/// What the challenger is measured against.
#[derive(Debug, Clone, Copy)]
pub enum Rival<'a> {
    /// The training examples' share of clicks, said of every impression.
    BaseRate {
        /// Share of clicks.
        click: f64,
    },
    /// The champion, on the same examples.
    Champion(Said<'a>),
}

/// The verdict, with what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Publish it.
    pub publish: bool,
    /// One sentence for people.
    pub reason: String,
    /// `base_rate` or `champion`.
    pub rival: String,
    /// Mean log loss of the clicks, challenger.
    pub challenger_log_loss: f64,
    /// Mean log loss of the clicks, rival.
    pub rival_log_loss: f64,
    /// Share of the resamples in which the challenger's was lower.
    pub wins: f64,
    /// Interval of the rival's log loss less the challenger's, over the resamples, at the
    /// confidence of the config: what the challenger gains.
    pub gain: (f64, f64),
    /// The same of purchases, over the examples whose label has matured; `None` where there are none.
    pub purchase_gain: Option<(f64, f64)>,
    /// Campaigns whose expected clicks are further off than allowed, worst first.
    pub worse_campaigns: Vec<WorseCampaign>,
    /// Campaigns whose calibration error rose by more than allowed, worst first; none in records of
    /// earlier versions.
    #[serde(default)]
    pub miscalibrated_campaigns: Vec<MiscalibratedCampaign>,
    /// Test examples.
    pub rows: usize,
}

/// Log loss of one probability, natural logarithm, clamped as scikit-learn does for f32.
pub(crate) fn log_loss(p: f64, y: bool) -> f64 {
    const EPSILON: f64 = f32::EPSILON as f64;
    let p = p.clamp(EPSILON, 1.0 - EPSILON);
    if y { -p.ln() } else { -(-p).ln_1p() }
}

/// Decides. `outcomes` and both models' probabilities are of one length.
pub fn decide(
    outcomes: &[Outcome<'_>],
    challenger: Said<'_>,
    rival: Rival<'_>,
    config: &Gate,
    seed: u64,
) -> Decision {
    let losses = |p: &dyn Fn(usize) -> f64| -> Vec<f64> {
        outcomes.iter().enumerate().map(|(i, o)| log_loss(p(i), o.clicked)).collect()
    };
    let ours = losses(&|i| f64::from(challenger.p_click[i]));
    let (name, theirs) = match rival {
        Rival::BaseRate { click } => ("base_rate", losses(&|_| click)),
        Rival::Champion(said) => ("champion", losses(&|i| f64::from(said.p_click[i]))),
    };
    let gains: Vec<f64> = theirs.iter().zip(&ours).map(|(theirs, ours)| theirs - ours).collect();
    let bootstrap = Bootstrap::new(&gains, config, seed);
    let purchase = match rival {
        Rival::BaseRate { .. } => None,
        Rival::Champion(said) => {
            let gains: Vec<f64> = outcomes
                .iter()
                .enumerate()
                .filter_map(|(i, o)| {
                    let came = o.purchased?;
                    Some(
                        log_loss(f64::from(said.p_purchase[i]), came)
                            - log_loss(f64::from(challenger.p_purchase[i]), came),
                    )
                })
                .collect();
            (!gains.is_empty()).then(|| Bootstrap::new(&gains, config, seed ^ 1))
        }
    };
    let (worse_campaigns, miscalibrated_campaigns) = match rival {
        Rival::BaseRate { .. } => (Vec::new(), Vec::new()),
        Rival::Champion(said) => (
            campaigns::worse(outcomes, challenger.p_click, said.p_click, config),
            campaigns::miscalibrated(outcomes, challenger.p_click, said.p_click, config, seed),
        ),
    };

    let finite = ours.iter().all(|loss| loss.is_finite());
    let (publish, reason) = if outcomes.is_empty() {
        (false, "there is nothing to judge it on".to_owned())
    } else if !finite {
        (false, "it says probabilities that are no numbers".to_owned())
    } else if bootstrap.wins < config.confidence {
        let against = if name == "champion" { "the champion" } else { "the base rate" };
        (
            false,
            format!(
                "its log loss {:.5} is below that of {against}, {:.5}, in {:.1} % of the resamples; {:.1} % are asked for",
                mean(&ours),
                mean(&theirs),
                100.0 * bootstrap.wins,
                100.0 * config.confidence
            ),
        )
    } else if let Some(purchase) = purchase.as_ref().filter(|p| p.high < 0.0) {
        (
            false,
            format!(
                "its purchases are worse than the champion's by {:.5} of log loss, beyond noise",
                -purchase.mean
            ),
        )
    } else if let Some(worst) = worse_campaigns.first() {
        (
            false,
            format!(
                "campaign {} got {} clicks; it expected {:.1}, the champion {:.1} ({} such campaigns)",
                worst.campaign,
                worst.clicks,
                worst.challenger,
                worst.champion,
                worse_campaigns.len()
            ),
        )
    } else if let Some(worst) = miscalibrated_campaigns.first() {
        (false, worst.reason(miscalibrated_campaigns.len(), config))
    } else {
        let against = if name == "champion" { "the champion's" } else { "the base rate's" };
        (
            true,
            format!(
                "its log loss {:.5} beats {against} {:.5} in {:.1} % of the resamples",
                mean(&ours),
                mean(&theirs),
                100.0 * bootstrap.wins
            ),
        )
    };
    Decision {
        publish,
        reason,
        rival: name.to_owned(),
        challenger_log_loss: mean(&ours),
        rival_log_loss: mean(&theirs),
        wins: bootstrap.wins,
        gain: (bootstrap.low, bootstrap.high),
        purchase_gain: purchase.map(|p| (p.low, p.high)),
        worse_campaigns,
        miscalibrated_campaigns,
        rows: outcomes.len(),
    }
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

struct Bootstrap {
    mean: f64,
    wins: f64,
    low: f64,
    high: f64,
}

impl Bootstrap {
    /// Resamples paired differences with replacement.
    fn new(gains: &[f64], config: &Gate, seed: u64) -> Self {
        if gains.is_empty() {
            return Self { mean: 0.0, wins: 0.0, low: 0.0, high: 0.0 };
        }
        let mut random = SplitMix::new(seed ^ 0x00B0_0757_4A9B);
        let mut means: Vec<f64> = (0..config.resamples.max(1))
            .map(|_| {
                (0..gains.len()).map(|_| gains[random.below(gains.len())]).sum::<f64>() / gains.len() as f64
            })
            .collect();
        means.sort_by(f64::total_cmp);
        let wins = means.iter().filter(|gain| **gain > 0.0).count() as f64 / means.len() as f64;
        let at = |share: f64| means[((means.len() - 1) as f64 * share).round() as usize];
        let tail = (1.0 - config.confidence) / 2.0;
        Self { mean: mean(gains), wins, low: at(tail), high: at(1.0 - tail) }
    }
}
