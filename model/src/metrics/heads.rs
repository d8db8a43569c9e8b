//! What each head is judged on, and all of them together.

use serde::{Deserialize, Serialize};

use super::{Bootstrap, Differences, HeadMetrics, Judged, ValueMetrics, by_campaign, less};
use crate::encode::Outcome;
use crate::predict::Probabilities;

/// A head: what a probability is given of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// Clicks, over all examples.
    Click,
    /// Purchases given a click, over clicked examples whose label has matured.
    Conversion,
    /// Purchases given no click, over the other examples whose label has matured.
    ViewThrough,
    /// Purchases, over all examples whose label has matured.
    Purchase,
}

impl Head {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Click, Self::Conversion, Self::ViewThrough, Self::Purchase];

    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Click => "click",
            Self::Conversion => "conversion",
            Self::ViewThrough => "view_through",
            Self::Purchase => "purchase",
        }
    }

    /// Whether it is judged on examples of which this came.
    const fn judges(self, outcome: &Outcome) -> bool {
        match self {
            Self::Click => true,
            Self::Conversion => outcome.matured && outcome.clicked,
            Self::ViewThrough => outcome.matured && !outcome.clicked,
            Self::Purchase => outcome.matured,
        }
    }

    const fn judged(self, said: &Probabilities, outcome: &Outcome, weight: f32) -> Judged {
        let (probability, positive) = match self {
            Self::Click => (said.p_click, outcome.clicked),
            Self::Conversion => (said.p_conversion, outcome.purchased),
            Self::ViewThrough => (said.p_view_through, outcome.purchased),
            Self::Purchase => (said.p_purchase, outcome.purchased),
        };
        Judged { probability, positive, weight }
    }
}

/// Predictions with their outcomes, head by head.
#[derive(Debug, Clone, Default)]
pub struct Heads {
    /// In the order of [`Head::ALL`].
    judged: [Vec<Judged>; Head::ALL.len()],
    /// Which of the examples they are of.
    examples: [Vec<u32>; Head::ALL.len()],
    /// How good the values are that were predicted.
    value: Option<ValueMetrics>,
}

impl Heads {
    /// Of predictions and, in the same order, what came of their examples and how much each counts.
    pub fn new(predictions: &[Probabilities], outcomes: impl IntoIterator<Item = (Outcome, f32)>) -> Self {
        let outcomes: Vec<(Outcome, f32)> = outcomes.into_iter().collect();
        let value = ValueMetrics::measure(predictions, outcomes.iter().copied());
        let mut heads = Self { value, ..Self::default() };
        for (example, (said, (outcome, weight))) in (0..).zip(predictions.iter().zip(outcomes)) {
            for head in Head::ALL {
                if head.judges(&outcome) {
                    heads.judged[head as usize].push(head.judged(said, &outcome, weight));
                    heads.examples[head as usize].push(example);
                }
            }
        }
        heads
    }

    /// What one head is judged on.
    pub fn of(&self, head: Head) -> &[Judged] {
        &self.judged[head as usize]
    }

    /// The same with the campaign of each; `campaigns` are those of all examples.
    fn with_campaigns<'a>(&self, head: Head, campaigns: &[&'a str]) -> Vec<(&'a str, Judged)> {
        let campaigns = self.examples[head as usize].iter().map(|&example| campaigns[example as usize]);
        campaigns.zip(self.of(head).iter().copied()).collect()
    }
}

/// How good each head is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Clicks, over all examples.
    pub click: HeadMetrics,
    /// Purchases given a click, over clicked examples whose label has matured.
    pub conversion: HeadMetrics,
    /// Purchases given no click, over the other examples whose label has matured.
    pub view_through: HeadMetrics,
    /// Purchases, over all examples whose label has matured.
    pub purchase: HeadMetrics,
    /// Values of purchases; none where none are predicted, or none came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<ValueMetrics>,
}

/// How much larger each figure of each head is than another model's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricsLess {
    /// Clicks.
    pub click: Differences,
    /// Purchases given a click.
    pub conversion: Differences,
    /// Purchases given no click.
    pub view_through: Differences,
    /// Purchases.
    pub purchase: Differences,
}

impl Metrics {
    /// Measures predictions by what came of their examples and how much each counts, in the same
    /// order (see [`Examples::outcomes`](crate::Examples::outcomes)).
    pub fn measure(
        predictions: &[Probabilities],
        outcomes: impl IntoIterator<Item = (Outcome, f32)>,
    ) -> Self {
        let heads = Heads::new(predictions, outcomes);
        Self::each(&heads, |head| HeadMetrics::measure(heads.of(head)))
    }

    /// Measures with bootstrap intervals, and within campaigns: `campaigns` are those of the examples
    /// that `heads` are of (with none, none are told apart), and `listed` of them are kept one by one.
    pub fn judge(heads: &Heads, campaigns: &[&str], listed: usize, bootstrap: &Bootstrap) -> Self {
        Self::each(heads, |head| {
            let mut metrics = HeadMetrics::measure_with_intervals(heads.of(head), bootstrap);
            if !campaigns.is_empty() {
                let named = heads.with_campaigns(head, campaigns);
                metrics.campaigns = Some(Box::new(by_campaign(named, listed, bootstrap)));
            }
            metrics
        })
    }

    /// One head's.
    pub const fn of(&self, head: Head) -> &HeadMetrics {
        match head {
            Head::Click => &self.click,
            Head::Conversion => &self.conversion,
            Head::ViewThrough => &self.view_through,
            Head::Purchase => &self.purchase,
        }
    }

    fn each(heads: &Heads, of: impl Fn(Head) -> HeadMetrics) -> Self {
        Self {
            click: of(Head::Click),
            conversion: of(Head::Conversion),
            view_through: of(Head::ViewThrough),
            purchase: of(Head::Purchase),
            value: heads.value,
        }
    }
}

impl MetricsLess {
    /// Figures of `a` less those of `b`, two models' predictions of the same examples.
    pub fn of(a: &Heads, b: &Heads, bootstrap: &Bootstrap) -> Self {
        let of = |head: Head| less(a.of(head), b.of(head), bootstrap);
        Self {
            click: of(Head::Click),
            conversion: of(Head::Conversion),
            view_through: of(Head::ViewThrough),
            purchase: of(Head::Purchase),
        }
    }

    /// One head's.
    pub const fn head(&self, head: Head) -> &Differences {
        match head {
            Head::Click => &self.click,
            Head::Conversion => &self.conversion,
            Head::ViewThrough => &self.view_through,
            Head::Purchase => &self.purchase,
        }
    }
}
