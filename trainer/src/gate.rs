//! Whether a challenger is published: a pure function of predictions on one later slice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Gate;
use crate::random::SplitMix;

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
    /// Campaigns whose calibration got worse than allowed.
    pub worse_campaigns: Vec<WorseCampaign>,
    /// Test examples.
    pub rows: usize,
}

/// A campaign that the challenger calibrates worse than the champion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorseCampaign {
    /// Campaign.
    pub campaign: String,
    /// Clicks that came.
    pub clicks: u64,
    /// Clicks that the challenger expected.
    pub challenger: f64,
    /// Clicks that the champion expected.
    pub champion: f64,
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
    let worse_campaigns = match rival {
        Rival::BaseRate { .. } => Vec::new(),
        Rival::Champion(said) => worse_campaigns(outcomes, challenger.p_click, said.p_click, config),
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

/// Campaigns whose expected clicks are further off than the champion's by more than the bound, and
/// further than chance alone explains (2.58 standard deviations, 1 in 100); worst first.
fn worse_campaigns(
    outcomes: &[Outcome<'_>],
    challenger: &[f32],
    champion: &[f32],
    config: &Gate,
) -> Vec<WorseCampaign> {
    #[derive(Default)]
    struct Sums {
        clicks: u64,
        challenger: f64,
        champion: f64,
        variance: f64,
    }
    let mut by_campaign: BTreeMap<&str, Sums> = BTreeMap::new();
    for ((outcome, &ours), &theirs) in outcomes.iter().zip(challenger).zip(champion) {
        let sums = by_campaign.entry(outcome.campaign).or_default();
        let (ours, theirs) = (f64::from(ours), f64::from(theirs));
        sums.clicks += u64::from(outcome.clicked);
        sums.challenger += ours;
        sums.champion += theirs;
        sums.variance += ours * (1.0 - ours);
    }
    let mut worse: Vec<(f64, WorseCampaign)> = by_campaign
        .into_iter()
        .filter(|(_, sums)| sums.clicks >= config.min_campaign_clicks.max(1))
        .filter_map(|(campaign, sums)| {
            let clicks = sums.clicks as f64;
            let ours = (sums.challenger - clicks).abs();
            let worsening = (ours - (sums.champion - clicks).abs()) / clicks;
            let beyond_chance = ours > 2.58 * sums.variance.sqrt();
            (worsening > config.max_calibration_worsening && beyond_chance).then(|| {
                let found = WorseCampaign {
                    campaign: campaign.to_owned(),
                    clicks: sums.clicks,
                    challenger: sums.challenger,
                    champion: sums.champion,
                };
                (worsening, found)
            })
        })
        .collect();
    worse.sort_by(|a, b| b.0.total_cmp(&a.0));
    worse.into_iter().map(|(_, found)| found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATE: Gate =
        Gate { resamples: 300, confidence: 0.95, max_calibration_worsening: 0.1, min_campaign_clicks: 20 };

    struct World {
        truth: Vec<f32>,
        clicked: Vec<bool>,
        campaigns: Vec<&'static str>,
    }

    /// Examples whose probabilities are known.
    fn world(rows: usize) -> World {
        let mut random = SplitMix::new(3);
        let mut unit = move || (random.next() >> 40) as f32 / (1 << 24) as f32;
        let truth: Vec<f32> = (0..rows).map(|_| 0.02 + 0.5 * unit() * unit()).collect();
        let clicked = truth.iter().map(|p| unit() < *p).collect();
        let campaigns = (0..rows).map(|i| ["a", "b", "c"][i % 3]).collect();
        World { truth, clicked, campaigns }
    }

    impl World {
        fn outcomes(&self) -> Vec<Outcome<'static>> {
            self.clicked
                .iter()
                .zip(&self.campaigns)
                .map(|(&clicked, &campaign)| Outcome { campaign, clicked, purchased: Some(clicked) })
                .collect()
        }

        fn rate(&self) -> f64 {
            self.clicked.iter().filter(|c| **c).count() as f64 / self.clicked.len() as f64
        }
    }

    fn said(p: &[f32]) -> Said<'_> {
        Said { p_click: p, p_purchase: p }
    }

    #[test]
    fn the_first_model_must_beat_the_base_rate() {
        let world = world(4_000);
        let rival = Rival::BaseRate { click: world.rate() };
        let truth = decide(&world.outcomes(), said(&world.truth), rival, &GATE, 1);
        assert!(truth.publish, "{}", truth.reason);
        assert!(truth.gain.0 > 0.0);
        let flat = vec![world.rate() as f32 * 1.3; 4_000];
        let flat = decide(&world.outcomes(), said(&flat), rival, &GATE, 1);
        assert!(!flat.publish && flat.reason.contains("the base rate"), "{}", flat.reason);
    }

    #[test]
    fn a_copy_of_the_champion_is_not_published() {
        let world = world(4_000);
        let decision =
            decide(&world.outcomes(), said(&world.truth), Rival::Champion(said(&world.truth)), &GATE, 1);
        assert!(!decision.publish);
        assert_eq!(decision.wins, 0.0);
    }

    #[test]
    fn a_better_one_is_and_a_worse_one_is_not() {
        let world = world(6_000);
        let blurred: Vec<f32> =
            world.truth.iter().map(|p| (0.5 * p + 0.5 * world.rate() as f32).clamp(0.0, 1.0)).collect();
        let better = decide(&world.outcomes(), said(&world.truth), Rival::Champion(said(&blurred)), &GATE, 1);
        assert!(better.publish, "{}", better.reason);
        let worse = decide(&world.outcomes(), said(&blurred), Rival::Champion(said(&world.truth)), &GATE, 1);
        assert!(!worse.publish);
    }

    #[test]
    fn one_campaign_broken_keeps_it_back() {
        let world = world(9_000);
        // Sharper for a and b than the champion, but campaign c is expected twice what comes.
        let champion = vec![world.rate() as f32; 9_000];
        let challenger: Vec<f32> = world
            .truth
            .iter()
            .zip(&world.clicked)
            .zip(&world.campaigns)
            .map(|((p, clicked), campaign)| match *campaign {
                "c" => 2.0 * world.rate() as f32,
                _ => 0.7 * p + 0.3 * f32::from(u8::from(*clicked)),
            })
            .collect();
        let decision =
            decide(&world.outcomes(), said(&challenger), Rival::Champion(said(&champion)), &GATE, 1);
        assert!(decision.wins > 0.95, "{decision:?}");
        assert!(!decision.publish);
        assert_eq!(decision.worse_campaigns.iter().map(|w| w.campaign.as_str()).collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn worse_purchases_keep_it_back() {
        let world = world(6_000);
        let blurred = vec![world.rate() as f32; 6_000];
        let bad = vec![0.9_f32; 6_000];
        let challenger = Said { p_click: &world.truth, p_purchase: &bad };
        let decision = decide(&world.outcomes(), challenger, Rival::Champion(said(&blurred)), &GATE, 1);
        assert!(!decision.publish && decision.reason.contains("purchases"), "{}", decision.reason);
        // Immature labels are no evidence.
        let immature: Vec<_> =
            world.outcomes().into_iter().map(|o| Outcome { purchased: None, ..o }).collect();
        let decision = decide(&immature, challenger, Rival::Champion(said(&blurred)), &GATE, 1);
        assert!(decision.publish && decision.purchase_gain.is_none(), "{}", decision.reason);
    }

    #[test]
    fn nonsense_is_refused_and_equal_seeds_agree() {
        let world = world(500);
        let nan = vec![f32::NAN; 500];
        let rival = Rival::BaseRate { click: world.rate() };
        assert!(!decide(&world.outcomes(), said(&nan), rival, &GATE, 1).publish);
        assert!(!decide(&[], said(&[]), rival, &GATE, 1).publish);
        let once = decide(&world.outcomes(), said(&world.truth), rival, &GATE, 9);
        assert_eq!(once, decide(&world.outcomes(), said(&world.truth), rival, &GATE, 9));
    }
}
