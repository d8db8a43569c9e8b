//! Simulated viewings of an advertisement: 50 numbers that a laboratory would measure, and whether
//! the viewer clicked, by drivers that cross.
//!
//! Six groups of eight measures (two sites of EEG, gaze, skin, heart, face), each a common level of
//! its group and noise of its own in equal parts, then exposure and price; all of mean 0 and
//! variance 1. With a group's name for the mean of its measures (again of variance 1), so that the
//! numbers tell all that can be known, the log odds of a click are
//!
//! ```text
//! -1 + 0.9 gaze - 0.5 price                       what counts by itself
//!    + 1.0 frontal * face                         approach only where the face agrees
//!    + 0.9 (skin if gaze > 0, else heart)         where one looks decides which arousal counts
//!    + 0.7 exposure * parietal                    recognition grows with exposure
//! ```

use bytes::Bytes;
use model::random::Random;
use schemas::vector::{Scale, VectorField};
use schemas::{FeatureVector, Place, VectorSchema};

/// Numbers of a viewing.
pub const INPUTS: usize = 50;

const GROUPS: [&str; 6] = ["frontal", "parietal", "gaze", "skin", "heart", "face"];
const MEASURES: usize = 8;

/// One viewing.
#[derive(Debug, Clone)]
pub struct Viewing {
    /// The measures, as [`schema`] names them.
    pub numbers: [f32; INPUTS],
    /// Its true probability of a click.
    pub truth: f64,
    /// Whether it came.
    pub clicked: bool,
}

impl Viewing {
    /// As the model's encoder reads it.
    pub fn vector(&self, schema: &VectorSchema) -> FeatureVector {
        FeatureVector {
            place: Place { partition: 0, offset: 0 },
            fingerprint: schema.fingerprint(),
            values: self.numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Bytes>(),
            ..FeatureVector::default()
        }
    }
}

/// Names of the numbers.
pub fn schema() -> VectorSchema {
    let measures = GROUPS.iter().flat_map(|group| (1..=MEASURES).map(move |at| format!("{group}_{at}")));
    let names = measures.chain(["exposure".to_owned(), "price".to_owned()]);
    let doc = || "simulated".to_owned();
    VectorSchema {
        fields: names.map(|name| VectorField { name, scale: Scale::Linear, doc: doc() }).collect(),
    }
}

/// `count` viewings; equal seeds give equal ones.
pub fn make(count: usize, seed: u64) -> Vec<Viewing> {
    let mut random = Random::new(seed, "viewings");
    // Sum of twelve uniforms: mean 0, variance 1.
    let mut normal = move || (0..12).map(|_| f64::from(random.unit())).sum::<f64>() - 6.0;
    let mut coin = Random::new(seed, "clicks");
    (0..count)
        .map(|_| {
            let level: [f64; GROUPS.len()] = std::array::from_fn(|_| normal());
            let (exposure, price) = (normal(), normal());
            let mut numbers = [0.0; INPUTS];
            for (at, number) in numbers.iter_mut().enumerate() {
                *number = match at {
                    48 => exposure,
                    49 => price,
                    _ => (level[at / MEASURES] + normal()) * std::f64::consts::FRAC_1_SQRT_2,
                } as f32;
            }
            let mean = |group: usize| {
                let measures = &numbers[group * MEASURES..(group + 1) * MEASURES];
                // The variance of a mean of eight such measures is (1 + 1/8) / 2.
                measures.iter().map(|&number| f64::from(number)).sum::<f64>() / MEASURES as f64 / 0.75
            };
            let [frontal, parietal, gaze, skin, heart, face] = std::array::from_fn(mean);
            let arousal = if gaze > 0.0 { skin } else { heart };
            let logit = -1.0 + 0.9 * gaze - 0.5 * price
                + 1.0 * frontal * face
                + 0.9 * arousal
                + 0.7 * exposure * parietal;
            let truth = 1.0 / (1.0 + (-logit).exp());
            Viewing { numbers, truth, clicked: f64::from(coin.unit()) < truth }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewings_repeat_and_are_standardised() {
        let made = make(4_000, 3);
        assert_eq!(made[7].numbers, make(8, 3)[7].numbers);
        assert_ne!(made[7].numbers, make(8, 4)[7].numbers);
        assert_eq!(schema().fields.len(), INPUTS);
        for at in 0..INPUTS {
            let mean = made.iter().map(|v| f64::from(v.numbers[at])).sum::<f64>() / 4_000.0;
            let square = made.iter().map(|v| f64::from(v.numbers[at]).powi(2)).sum::<f64>() / 4_000.0;
            assert!(mean.abs() < 0.08 && (square - 1.0).abs() < 0.12, "{at}: {mean} {square}");
        }
        let rate = made.iter().filter(|v| v.clicked).count() as f64 / 4_000.0;
        let expected = made.iter().map(|v| v.truth).sum::<f64>() / 4_000.0;
        assert!((rate - expected).abs() < 0.03 && (0.25..0.5).contains(&rate), "{rate} {expected}");
    }
}
