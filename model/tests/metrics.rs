//! Every metric as scikit-learn computes it (`reference/metrics.py`), within 1e-9; bootstrap
//! intervals that hold what they should; curves thinned out along scikit-learn's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use model::metrics::{
    Bootstrap, Head, HeadMetrics, Heads, Interval, Judged, Metrics, MetricsLess, by_campaign, figures_at,
    less, pr_curve, roc_curve,
};
use model::random::Random;
use serde::Deserialize;
use serde_json::Value;

const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
    campaigns: Campaigns,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    probabilities: Vec<f32>,
    positives: Vec<bool>,
    weights: Vec<f32>,
    threshold: f64,
    figures: serde_json::Map<String, Value>,
    #[serde(default)]
    roc: Vec<(f64, f64)>,
    #[serde(default)]
    pr: Vec<(f64, f64)>,
}

#[derive(Deserialize)]
struct Campaigns {
    probabilities: Vec<f32>,
    positives: Vec<bool>,
    weights: Vec<f32>,
    of: Vec<String>,
    auc: Vec<Option<f64>>,
    gauc: f64,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("reference/metrics.json")).unwrap()
}

fn judged(probabilities: &[f32], positives: &[bool], weights: &[f32]) -> Vec<Judged> {
    let rows = probabilities.iter().zip(positives).zip(weights);
    rows.map(|((&probability, &positive), &weight)| Judged { probability, positive, weight }).collect()
}

impl Case {
    fn judged(&self) -> Vec<Judged> {
        judged(&self.probabilities, &self.positives, &self.weights)
    }
}

#[test]
fn figures_are_scikit_learns() {
    for case in reference().cases {
        let ours = serde_json::to_value(figures_at(&case.judged(), case.threshold)).unwrap();
        assert_eq!(ours.as_object().unwrap().len(), case.figures.len());
        for (name, theirs) in &case.figures {
            match (ours[name].as_f64(), theirs.as_f64()) {
                (Some(ours), Some(theirs)) => {
                    assert!((ours - theirs).abs() < TOLERANCE, "{}: {name} {ours} {theirs}", case.name);
                }
                (ours, theirs) => assert_eq!(ours, theirs, "{}: {name}", case.name),
            }
        }
    }
}

#[test]
fn curves_are_parts_of_scikit_learns() {
    for case in reference().cases {
        let judged = case.judged();
        for most in [10, 100_000] {
            let (roc, pr) = (roc_curve(&judged, most), pr_curve(&judged, most));
            assert_eq!((roc.is_empty(), pr.is_empty()), (case.roc.is_empty(), case.pr.is_empty()));
            for (ours, theirs) in [(&roc, &case.roc), (&pr, &case.pr)] {
                for point in ours {
                    let near = |(x, y): &(f64, f64)| (point.x - x).abs() + (point.y - y).abs() < TOLERANCE;
                    assert!(theirs.iter().any(near), "{}: {point:?}", case.name);
                }
                assert!(ours.len() <= most + 2 && ours.is_sorted_by(|a, b| a.x <= b.x));
                assert!(ours.is_sorted_by(|a, b| a.threshold >= b.threshold));
            }
            if most > 10 && !roc.is_empty() {
                assert_eq!(roc.len(), case.roc.len(), "{}", case.name);
                // scikit-learn ends the curve where recall is 1; ours goes on to the least likely.
                assert!(pr.len() >= case.pr.len(), "{}", case.name);
            }
            if let Some(last) = roc.last() {
                assert_eq!((last.x, last.y), (1.0, 1.0));
            }
        }
    }
}

#[test]
fn campaigns_are_judged_one_by_one() {
    let reference = reference().campaigns;
    let judged = judged(&reference.probabilities, &reference.positives, &reference.weights);
    let rows = || reference.of.iter().map(String::as_str).zip(judged.iter().copied());
    let bootstrap = Bootstrap { resamples: 200, confidence: 0.95, seed: 3 };
    let metrics = by_campaign(rows(), 10, &bootstrap);
    assert!((metrics.auc.unwrap() - reference.gauc).abs() < TOLERANCE);
    assert!(holds(metrics.auc_interval, reference.gauc));
    assert_eq!((metrics.campaigns, metrics.largest.len()), (5, 5));
    for campaign in &metrics.largest {
        let number: usize = campaign.campaign[1..].parse().unwrap();
        match (campaign.auc, reference.auc[number]) {
            (Some(ours), Some(theirs)) => {
                assert!((ours - theirs).abs() < TOLERANCE, "{campaign:?}");
                assert!(holds(campaign.auc_interval, theirs), "{campaign:?}");
            }
            (ours, theirs) => assert_eq!((ours, campaign.auc_interval), (theirs, None)),
        }
    }
    assert!(metrics.largest.is_sorted_by(|a, b| a.examples >= b.examples));
    let two = by_campaign(rows(), 2, &bootstrap);
    assert_eq!((two.campaigns, &two.largest[..], two.auc), (5, &metrics.largest[..2], metrics.auc));
    assert_eq!(by_campaign([], 2, &bootstrap).auc, None);
}

fn holds(interval: Option<Interval>, value: f64) -> bool {
    interval.is_some_and(|interval| interval.low <= value && value <= interval.high)
}

/// Predictions that are the true probabilities.
fn market(rows: usize, seed: u64) -> Vec<Judged> {
    let mut random = Random::new(seed, "market");
    (0..rows)
        .map(|_| {
            let probability = 0.02 + 0.5 * random.unit() * random.unit();
            Judged { probability, positive: random.unit() < probability, weight: 1.0 }
        })
        .collect()
}

#[test]
fn intervals_hold_the_truth_about_as_often_as_they_promise() {
    let truth = HeadMetrics::measure(&market(400_000, 1));
    let worlds = 150;
    let mut held = [0; 4];
    for seed in 0..worlds {
        let bootstrap = Bootstrap { resamples: 100, confidence: 0.9, seed };
        let metrics = HeadMetrics::measure_with_intervals(&market(800, 100 + seed), &bootstrap);
        let intervals = metrics.intervals.unwrap();
        let all = [
            (intervals.log_loss, truth.log_loss),
            (intervals.auc, truth.auc),
            (intervals.pr_auc, truth.pr_auc),
            (intervals.base_rate, truth.base_rate),
        ];
        for (held, (interval, truth)) in held.iter_mut().zip(all) {
            *held += usize::from(holds(interval, truth.unwrap()));
        }
    }
    for held in held {
        // 0.9 of them, give or take three standard errors and what the percentile method lacks.
        let share = held as f64 / worlds as f64;
        assert!((0.8..=0.98).contains(&share), "{share}");
    }
}

#[test]
fn threads_change_no_interval() {
    let judged = market(2_000, 5);
    let bootstrap = Bootstrap { resamples: 64, confidence: 0.95, seed: 11 };
    let with = |threads: usize| {
        let pool = pool_of(threads);
        pool.install(|| HeadMetrics::measure_with_intervals(&judged, &bootstrap))
    };
    assert_eq!(with(1), with(4));
    let other = Bootstrap { seed: 12, ..bootstrap };
    assert_ne!(with(1).intervals, HeadMetrics::measure_with_intervals(&judged, &other).intervals);
}

fn pool_of(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn what_was_written_before_is_read() {
    let before = r#"{"examples":4,"positives":2,"base_rate":0.5,"log_loss":0.6,"auc":0.75,"accuracy":0.5}"#;
    let metrics: HeadMetrics = serde_json::from_str(before).unwrap();
    assert_eq!((metrics.examples, metrics.auc, metrics.pr_auc), (4, Some(0.75), None));
    let now = HeadMetrics::measure_with_intervals(
        &market(300, 2),
        &Bootstrap { resamples: 20, confidence: 0.95, seed: 1 },
    );
    let again: HeadMetrics = serde_json::from_str(&serde_json::to_string(&now).unwrap()).unwrap();
    assert_eq!((again.examples, again.figures), (now.examples, now.figures));
    assert_eq!(again.intervals, now.intervals);
}

#[test]
fn differences_are_paired() {
    let bootstrap = Bootstrap { resamples: 300, confidence: 0.95, seed: 2 };
    let better = market(3_000, 5);
    let same = less(&better, &better, &bootstrap);
    let auc = same.auc.unwrap();
    assert_eq!((auc.mean, auc.low, auc.high), (0.0, 0.0, 0.0), "equal predictions, whatever the resample");
    // Ranks stay, probabilities are off by a little: far less than the noise of either log loss.
    let off: Vec<Judged> =
        better.iter().map(|one| Judged { probability: 0.97 * one.probability + 0.03, ..*one }).collect();
    let found = less(&off, &better, &bootstrap);
    let (worse, auc) = (found.log_loss.unwrap(), found.auc.unwrap());
    assert!(worse.low > 0.0 && auc.mean.abs() < 1e-9, "{found:?}");
    let alone = HeadMetrics::measure_with_intervals(&better, &bootstrap).intervals.unwrap().log_loss.unwrap();
    assert!(worse.high - worse.low < 0.2 * (alone.high - alone.low));
}

#[test]
fn heads_are_judged_on_what_decides_them() {
    use model::Probabilities;
    use model::encode::Outcome;

    let said =
        Probabilities { p_click: 0.3, p_conversion: 0.2, p_view_through: 0.1, p_purchase: 0.13, value: None };
    let outcome = |clicked, purchased, matured| Outcome { clicked, purchased, matured, ..Outcome::default() };
    let came = [
        outcome(true, true, true),
        outcome(true, false, true),
        outcome(false, false, true),
        outcome(false, false, false),
    ];
    let heads = Heads::new(&[said; 4], came.into_iter().map(|outcome| (outcome, 1.0)));
    let bootstrap = Bootstrap { resamples: 5, confidence: 0.95, seed: 2 };
    let metrics = Metrics::judge(&heads, &["a", "b", "a", "b"], 10, &bootstrap);
    let counts = Head::ALL.map(|head| (metrics.of(head).examples, metrics.of(head).positives));
    assert_eq!(counts, [(4, 2), (2, 1), (1, 0), (3, 1)]);
    let of = |head: Head| metrics.of(head).campaigns.as_ref().unwrap().largest.clone();
    let names =
        |head: Head| of(head).iter().map(|one| (one.campaign.clone(), one.examples)).collect::<Vec<_>>();
    assert_eq!(names(Head::ViewThrough), [("a".to_owned(), 1)]);
    assert_eq!(names(Head::Purchase), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert!(of(Head::Click)[0].log_loss_interval.is_some());
    let same = MetricsLess::of(&heads, &heads, &bootstrap);
    assert_eq!(same.head(Head::Purchase).log_loss.unwrap().mean, 0.0);
}
