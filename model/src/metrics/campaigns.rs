//! Figures campaign by campaign: what the mean over all can hide.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ordered::Ordered;
use super::{Bootstrap, Interval, Judged};

/// How good the predictions are for one campaign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CampaignMetrics {
    /// Campaign.
    pub campaign: String,
    /// Examples.
    pub examples: u64,
    /// Those with a positive outcome.
    pub positives: u64,
    /// Weighted share of positives.
    pub base_rate: Option<f64>,
    /// Weighted mean of the predictions.
    pub mean_prediction: Option<f64>,
    /// Log loss.
    pub log_loss: Option<f64>,
    /// Its bootstrap interval.
    #[serde(default)]
    pub log_loss_interval: Option<Interval>,
    /// Area under the ROC curve among the campaign's own examples; none with one class only.
    pub auc: Option<f64>,
    /// Its bootstrap interval.
    pub auc_interval: Option<Interval>,
    /// Expected calibration error, buckets of equal weight (see
    /// [`HeadMetrics::calibration_error_equal_mass`](super::HeadMetrics)).
    pub calibration_error: Option<f64>,
    /// Its bootstrap interval. A calibration error can't be negative, so noise makes it larger: the
    /// interval of few examples lies above what is true.
    pub calibration_interval: Option<Interval>,
}

/// How good the predictions are within campaigns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CampaignsMetrics {
    /// Campaigns with examples.
    pub campaigns: u64,
    /// Mean AUC within campaigns, weighted by their examples' weights, over those with both classes
    /// (GAUC, Zhu et al. 2017).
    pub auc: Option<f64>,
    /// Its bootstrap interval, examples drawn within each campaign.
    pub auc_interval: Option<Interval>,
    /// Mean calibration error of the campaigns, weighted likewise.
    pub calibration_error: Option<f64>,
    /// Its bootstrap interval.
    pub calibration_interval: Option<Interval>,
    /// The campaigns with the most examples, most first; of equal ones by name.
    pub largest: Vec<CampaignMetrics>,
}

/// Judges campaign by campaign; `listed` of them are kept one by one.
pub fn by_campaign<'a>(
    judged: impl IntoIterator<Item = (&'a str, Judged)>,
    listed: usize,
    bootstrap: &Bootstrap,
) -> CampaignsMetrics {
    let mut of: BTreeMap<&str, Vec<Judged>> = BTreeMap::new();
    for (campaign, one) in judged {
        of.entry(campaign).or_default().push(one);
    }
    let mut means = [Mean::default(), Mean::default()];
    let mut largest: Vec<CampaignMetrics> = Vec::with_capacity(of.len());
    for (campaign, judged) in &of {
        let ordered = Ordered::new(judged);
        let threshold = 0.5;
        let figures = ordered.figures(threshold, |_| 1.0);
        let weight: f64 = judged.iter().map(|one| f64::from(one.weight)).sum();
        let resampled: Vec<[Option<f64>; 3]> = bootstrap.resample(ordered.len(), |times| {
            let figures = ordered.figures(threshold, |at| f64::from(times[at]));
            [figures.auc, figures.calibration_error_equal_mass, figures.log_loss]
        });
        let interval = |at: usize| bootstrap.interval(resampled.iter().filter_map(|one| one[at]));
        for (at, value) in [figures.auc, figures.calibration_error_equal_mass].into_iter().enumerate() {
            means[at].add(weight, value, resampled.iter().map(|one| one[at]));
        }
        largest.push(CampaignMetrics {
            campaign: (*campaign).to_owned(),
            examples: judged.len() as u64,
            positives: judged.iter().filter(|one| one.positive).count() as u64,
            base_rate: figures.base_rate,
            mean_prediction: figures.mean_prediction,
            log_loss: figures.log_loss,
            log_loss_interval: interval(2),
            auc: figures.auc,
            auc_interval: interval(0).filter(|_| figures.auc.is_some()),
            calibration_error: figures.calibration_error_equal_mass,
            calibration_interval: interval(1),
        });
    }
    largest.sort_by(|a, b| b.examples.cmp(&a.examples).then_with(|| a.campaign.cmp(&b.campaign)));
    largest.truncate(listed);
    let [auc, calibration] = means;
    CampaignsMetrics {
        campaigns: of.len() as u64,
        auc: auc.value(),
        auc_interval: auc.interval(bootstrap),
        calibration_error: calibration.value(),
        calibration_interval: calibration.interval(bootstrap),
        largest,
    }
}

/// A weighted mean over campaigns, and the same of each resample.
#[derive(Default)]
struct Mean {
    sum: f64,
    weight: f64,
    resampled: Vec<(f64, f64)>,
}

impl Mean {
    fn add(
        &mut self,
        weight: f64,
        value: Option<f64>,
        resampled: impl ExactSizeIterator<Item = Option<f64>>,
    ) {
        let Some(value) = value else { return };
        self.sum += weight * value;
        self.weight += weight;
        self.resampled.resize(resampled.len(), (0.0, 0.0));
        for (mean, value) in self.resampled.iter_mut().zip(resampled) {
            if let Some(value) = value {
                mean.0 += weight * value;
                mean.1 += weight;
            }
        }
    }

    fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }

    fn interval(&self, bootstrap: &Bootstrap) -> Option<Interval> {
        bootstrap.interval(self.resampled.iter().filter(|mean| mean.1 > 0.0).map(|mean| mean.0 / mean.1))
    }
}
