//! What a mean over all impressions can hide: a campaign that the challenger serves worse.

use std::collections::BTreeMap;

use model::metrics::{Bootstrap, Difference, Figures, Judged, figures_at, less};
use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::config::Gate;

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

/// A campaign whose clicks the challenger calibrates worse than the champion, beyond noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MiscalibratedCampaign {
    /// Campaign.
    pub campaign: String,
    /// Its impressions.
    pub rows: u64,
    /// Expected calibration error of the challenger, buckets of equal weight.
    pub challenger: f64,
    /// The same of the champion.
    pub champion: f64,
    /// How much higher the challenger's is, by the paired bootstrap.
    pub increase: Difference,
}

impl MiscalibratedCampaign {
    /// Why a challenger is kept back by it and `all - 1` others.
    pub(super) fn reason(&self, all: usize, config: &Gate) -> String {
        format!(
            "the calibration error of campaign {} rose from {:.4} to {:.4} over {} impressions: by {:.4} to {:.4} in {:.0} % of the resamples, {:.4} is allowed ({all} such campaigns)",
            self.campaign,
            self.champion,
            self.challenger,
            self.rows,
            self.increase.low,
            self.increase.high,
            100.0 * config.confidence,
            config.max_campaign_ece_increase
        )
    }
}

/// Campaigns whose expected clicks are further off than the champion's by more than the bound, and
/// further than chance alone explains (2.58 standard deviations, 1 in 100); worst first.
pub(super) fn worse(
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

/// Campaigns with enough impressions whose calibration error rose by more than the bound: the whole
/// interval of the rise lies above it, so that noise alone keeps nothing back; worst first.
pub(super) fn miscalibrated(
    outcomes: &[Outcome<'_>],
    challenger: &[f32],
    champion: &[f32],
    config: &Gate,
    seed: u64,
) -> Vec<MiscalibratedCampaign> {
    let mut by_campaign: BTreeMap<&str, [Vec<Judged>; 2]> = BTreeMap::new();
    for ((outcome, &ours), &theirs) in outcomes.iter().zip(challenger).zip(champion) {
        let judged = |probability| Judged { probability, positive: outcome.clicked, weight: 1.0 };
        let [all_ours, all_theirs] = by_campaign.entry(outcome.campaign).or_default();
        all_ours.push(judged(ours));
        all_theirs.push(judged(theirs));
    }
    let Gate { resamples, confidence, .. } = *config;
    let bootstrap = Bootstrap { resamples, confidence, seed };
    let error = |figures: Figures| figures.calibration_error_equal_mass;
    let mut found: Vec<MiscalibratedCampaign> = by_campaign
        .into_iter()
        .filter(|(_, [ours, _])| ours.len() >= config.min_campaign_rows.max(1))
        .filter_map(|(campaign, [ours, theirs])| {
            let increase = less(&ours, &theirs, &bootstrap).calibration_error_equal_mass?;
            let [challenger, champion] = [&ours, &theirs].map(|judged| error(figures_at(judged, 0.5)));
            (increase.low > config.max_campaign_ece_increase).then_some(MiscalibratedCampaign {
                campaign: campaign.to_owned(),
                rows: ours.len() as u64,
                challenger: challenger?,
                champion: champion?,
                increase,
            })
        })
        .collect();
    found.sort_by(|a, b| b.increase.mean.total_cmp(&a.increase.mean));
    found
}
