//! How the step size changes over a training: a function of the step alone.

use crate::config::ScheduleKind;

/// Share of the configured step size, step by step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Schedule {
    /// After the warm-up.
    pub(crate) kind: ScheduleKind,
    /// Steps over which it rises linearly to the whole (Goyal et al. 2017).
    pub(crate) warmup: u64,
    /// Steps of the training if nothing ends it early.
    pub(crate) total: u64,
    /// Where the cosine ends.
    pub(crate) last: f32,
}

impl Schedule {
    /// The share for step `step`, from 0. The cosine is that of Loshchilov and Hutter 2017, without
    /// restarts.
    pub(crate) fn share(&self, step: u64) -> f32 {
        if step < self.warmup {
            return ((step + 1) as f64 / self.warmup as f64) as f32;
        }
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine => {
                let length = self.total.saturating_sub(self.warmup).max(1) as f64;
                let way = ((step - self.warmup) as f64 / length).min(1.0);
                let last = f64::from(self.last);
                (last + (1.0 - last) * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * way))) as f32
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Reference {
        schedules: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        warmup: u64,
        total: u64,
        r#final: f32,
        factors: Vec<f32>,
    }

    #[test]
    fn warm_up_and_cosine_are_those_of_pytorch() {
        let reference: Reference =
            serde_json::from_str(include_str!("../../tests/reference/optimizers.json")).unwrap();
        for case in reference.schedules {
            let schedule = Schedule {
                kind: ScheduleKind::Cosine,
                warmup: case.warmup,
                total: case.total,
                last: case.r#final,
            };
            for (step, factor) in case.factors.iter().enumerate() {
                let ours = schedule.share(step as u64);
                assert!((ours - factor).abs() < 1e-6, "{schedule:?} step {step}: {ours} {factor}");
            }
        }
    }

    #[test]
    fn a_constant_rate_is_one_after_its_warm_up() {
        let schedule = Schedule { kind: ScheduleKind::Constant, warmup: 4, total: 10, last: 0.0 };
        let shares: Vec<f32> = (0..6).map(|step| schedule.share(step)).collect();
        assert_eq!(shares, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        let past = Schedule { kind: ScheduleKind::Cosine, ..schedule };
        assert_eq!(past.share(1_000), 0.0);
    }
}
