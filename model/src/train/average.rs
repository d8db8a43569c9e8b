//! A running average of the weights beside those that are trained (Polyak and Juditsky, 1992, with
//! exponential weights): a step's noise is averaged away, so that large steps can be taken to the
//! end. Of all but the tables, whose rows are each read by few batches.

use crate::network::{Dense, Weights};

/// The average.
#[derive(Debug, Clone)]
pub(super) struct Average {
    pub(super) front: Vec<f32>,
    pub(super) layers: Vec<Dense>,
}

impl Average {
    /// Starts at `weights`; none where `averaging` is 0.
    pub(super) fn new(weights: &Weights, averaging: f32) -> Option<Self> {
        (averaging > 0.0).then(|| Self { front: weights.front.clone(), layers: weights.layers.clone() })
    }

    /// Takes in the weights after step `step`, from 0: the average keeps `averaging` of itself, of
    /// the first steps less, so that where training started is soon forgotten.
    pub(super) fn add(&mut self, weights: &Weights, step: u64, averaging: f32) {
        let early = (step as f32 + 1.0) / (step as f32 + 10.0);
        let take = 1.0 - averaging.min(early);
        let mix = |average: &mut [f32], values: &[f32]| {
            for (average, value) in average.iter_mut().zip(values) {
                *average += take * (value - *average);
            }
        };
        mix(&mut self.front, &weights.front);
        for (average, layer) in self.layers.iter_mut().zip(&weights.layers) {
            mix(&mut average.weight, &layer.weight);
            mix(&mut average.bias, &layer.bias);
        }
    }

    /// Changes places with the weights.
    pub(super) const fn swap(&mut self, weights: &mut Weights) {
        std::mem::swap(&mut self.front, &mut weights.front);
        std::mem::swap(&mut self.layers, &mut weights.layers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(value: f32) -> Weights {
        let layer = Dense { weight: vec![value; 2], bias: vec![value], inputs: 2, outputs: 1 };
        Weights { front: vec![value; 3], tables: vec![value], layers: vec![layer] }
    }

    #[test]
    fn it_forgets_its_start_and_follows_the_mean() {
        assert!(Average::new(&weights(1.0), 0.0).is_none());
        let Some(mut average) = Average::new(&weights(100.0), 0.9) else { return };
        // Weights that swing about 2.
        for step in 0..200 {
            average.add(&weights(if step % 2 == 0 { 1.0 } else { 3.0 }), step, 0.9);
        }
        assert!(average.front.iter().all(|value| (value - 2.0).abs() < 0.1), "{:?}", average.front);
        assert!((average.layers[0].bias[0] - 2.0).abs() < 0.1);
        let mut trained = weights(3.0);
        average.swap(&mut trained);
        assert_eq!((average.front[0], trained.tables[0]), (3.0, 3.0));
        assert!((trained.front[0] - 2.0).abs() < 0.1);
    }

    #[test]
    fn weights_that_stand_still_are_their_average() {
        let Some(mut average) = Average::new(&weights(0.7), 0.99) else { return };
        for step in 0..50 {
            average.add(&weights(0.7), step, 0.99);
        }
        assert_eq!(average.front, weights(0.7).front);
    }
}
