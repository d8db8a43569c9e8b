#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde::Deserialize;

use super::*;
use crate::random::Random;

#[derive(Deserialize)]
struct Reference {
    asked: Vec<f32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    logits: Vec<f32>,
    probabilities: Vec<f64>,
    positives: Vec<bool>,
    weights: Vec<f32>,
    platt: Platt,
    isotonic: Vec<f64>,
}

#[derive(Deserialize)]
struct Platt {
    sklearn: [f64; 2],
    exact: [f64; 2],
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../tests/reference/calibration.json")).unwrap()
}

fn said(case: &Case) -> Vec<Said> {
    let rows = case.logits.iter().zip(&case.positives).zip(&case.weights);
    rows.map(|((&logit, &positive), &weight)| Said { logit, positive, weight }).collect()
}

#[test]
fn platts_scaling_is_scikit_learns() {
    for case in reference().cases {
        let (slope, intercept) = platt(&said(&case)).unwrap();
        let [exact_slope, exact_intercept] = case.platt.exact;
        assert!((slope - exact_slope).abs() < 1e-9, "{}: {slope} {exact_slope}", case.name);
        assert!((intercept - exact_intercept).abs() < 1e-9, "{}: {intercept}", case.name);
        // scikit-learn stops where its loss hardly falls any more.
        let [sklearn_slope, sklearn_intercept] = case.platt.sklearn;
        assert!((slope - sklearn_slope).abs() < 1e-2 * slope.max(1.0), "{}: {sklearn_slope}", case.name);
        assert!((intercept - sklearn_intercept).abs() < 1e-2, "{}: {sklearn_intercept}", case.name);
    }
}

#[test]
fn isotonic_regression_is_scikit_learns() {
    let reference = reference();
    for case in &reference.cases {
        let rows = case.probabilities.iter().zip(&case.positives).zip(&case.weights);
        let (knots, means) = isotonic(rows.map(|((&x, &positive), &weight)| Point {
            x,
            y: f64::from(u8::from(positive)),
            weight: f64::from(weight),
        }));
        assert!(knots.is_sorted_by(|a, b| a < b) && means.is_sorted_by(|a, b| a <= b));
        let knots: Vec<f32> = knots.into_iter().map(|x| x as f32).collect();
        let means: Vec<f32> = means.into_iter().map(|y| y as f32).collect();
        for (&x, &theirs) in reference.asked.iter().zip(&case.isotonic) {
            // Served in single precision.
            let ours = f64::from(interpolate(&knots, &means, x));
            assert!((ours - theirs).abs() < 1e-6, "{}: {x} {ours} {theirs}", case.name);
        }
    }
}

/// Logits whose true ones are `slope * logit + intercept`.
fn world(rows: usize, slope: f32, intercept: f32, seed: u64) -> Vec<Said> {
    let mut random = Random::new(seed, "calibration");
    (0..rows)
        .map(|_| {
            let logit = random.symmetric(3.0) - 1.0;
            let positive = random.unit() < sigmoid(slope * logit + intercept);
            Said { logit, positive, weight: 1.0 }
        })
        .collect()
}

fn mean_loss(calibrator: &Calibrator, said: &[Said]) -> f64 {
    let losses = said.iter().map(|one| log_loss(calibrator.probability(one.logit), one.positive));
    losses.sum::<f64>() / said.len() as f64
}

#[test]
fn what_is_off_is_put_right_on_new_examples() {
    let (fitted_on, new) = (world(6_000, 0.5, -0.6, 1), world(6_000, 0.5, -0.6, 2));
    let before = mean_loss(&Calibrator::None, &new);
    for method in [Calibrate::Platt, Calibrate::Isotonic] {
        let calibrator = Calibrator::fit(method, &fitted_on);
        assert_ne!(calibrator, Calibrator::None);
        assert!(mean_loss(&calibrator, &new) < before - 0.02, "{calibrator:?}");
    }
    let Calibrator::Platt { slope, intercept } = Calibrator::fit(Calibrate::Platt, &fitted_on) else {
        panic!("no scaling")
    };
    assert!((slope - 0.5).abs() < 0.05 && (intercept + 0.6).abs() < 0.1, "{slope} {intercept}");
}

#[test]
fn what_is_right_stays_as_it_is_or_nearly() {
    let mut kept = 0;
    for seed in 0..20 {
        for method in [Calibrate::Platt, Calibrate::Isotonic] {
            let calibrator = Calibrator::fit(method, &world(3_000, 1.0, 0.0, 10 + seed));
            kept += usize::from(calibrator == Calibrator::None);
            let new = world(20_000, 1.0, 0.0, 100 + seed);
            assert!(mean_loss(&calibrator, &new) < mean_loss(&Calibrator::None, &new) + 0.002);
        }
    }
    assert!(kept >= 28, "{kept} of 40");
}

#[test]
fn too_little_to_learn_from_and_upside_down_heads_stay() {
    assert_eq!(Calibrator::fit(Calibrate::Platt, &[]), Calibrator::None);
    let few = world(15, 0.3, 0.0, 1);
    assert_eq!(Calibrator::fit(Calibrate::Isotonic, &few), Calibrator::None);
    let upside_down = world(4_000, -1.0, 0.0, 1);
    assert_eq!(Calibrator::fit(Calibrate::Platt, &upside_down), Calibrator::None);
    let never: Vec<Said> =
        world(500, 1.0, 0.0, 1).into_iter().map(|one| Said { positive: false, ..one }).collect();
    assert_eq!(Calibrator::fit(Calibrate::Isotonic, &never), Calibrator::None);
}

#[test]
fn probabilities_never_fall_as_logits_rise() {
    let fitted_on = world(3_000, 0.5, -0.6, 1);
    for method in [Calibrate::None, Calibrate::Platt, Calibrate::Isotonic] {
        let calibrator = Calibrator::fit(method, &fitted_on);
        let all: Vec<f32> =
            (-40_000_i32..40_000).map(|at| calibrator.probability(at as f32 / 4_000.0)).collect();
        assert!(all.is_sorted() && all.iter().all(|p| (0.0..=1.0).contains(p)), "{method:?}");
        assert!(calibrator.is_sound());
        let json = serde_json::to_string(&calibrator).unwrap();
        assert_eq!(serde_json::from_str::<Calibrator>(&json).unwrap(), calibrator);
    }
    let falling = Calibrator::Isotonic { said: vec![0.1, 0.2], means: vec![0.3, 0.2] };
    assert!(!falling.is_sound());
    assert!(!Calibrator::Platt { slope: f32::NAN, intercept: 0.0 }.is_sound());
}
