//! The true probabilities of an impression.

use crate::habit::Habits;
use crate::world::{CHANNELS, DEVICES, PLACEMENTS, World, agree};

/// One impression as the world sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Impression {
    pub(crate) user: usize,
    pub(crate) item: usize,
    pub(crate) campaign: usize,
    pub(crate) placement: usize,
    pub(crate) device: usize,
    pub(crate) channel: usize,
    pub(crate) at_ms: i64,
}

/// Intercepts that make the rates come out as the config asks.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Levels {
    pub(crate) click: f64,
    pub(crate) conversion: f64,
    pub(crate) view_through: f64,
}

/// Logits, or probabilities, of the three things that can come of an impression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outcome {
    /// A click.
    pub(crate) click: f64,
    /// A purchase, given a click.
    pub(crate) conversion: f64,
    /// A purchase, given none.
    pub(crate) view_through: f64,
}

impl Outcome {
    /// A purchase at all.
    pub(crate) fn purchase(&self) -> f64 {
        self.click * self.conversion + (1.0 - self.click) * self.view_through
    }
}

/// The logistic function.
pub(crate) fn logistic(logit: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-logit))
}

/// The hour of the day with its fraction, UTC.
pub(crate) fn hour(at_ms: i64) -> f64 {
    at_ms.rem_euclid(86_400_000) as f64 / 3_600_000.0
}

/// A wave over the day that peaks at 20 h with 1 and is deepest at 8 h with -1.
pub(crate) fn evening(at_ms: i64) -> f64 {
    libm::cos((hour(at_ms) - 20.0) / 24.0 * std::f64::consts::TAU)
}

/// Logits without intercepts. `drift` scales the campaigns' swing.
pub(crate) fn logits(world: &World, habits: &Habits, drift: f64, seen: &Impression) -> Outcome {
    let user = &world.users[seen.user];
    let item = &world.items[seen.item];
    let campaign = &world.campaigns[seen.campaign];
    let taste = agree(&user.taste, &item.taste);
    let liking = user.liking[item.category];
    let habit = libm::log1p(habits.habit(seen.user, item.category, seen.at_ms));
    let fatigue = libm::log1p(habits.fatigue(seen.user, seen.campaign, seen.at_ms));
    let swing =
        drift * libm::sin(seen.at_ms as f64 / campaign.period_ms * std::f64::consts::TAU + campaign.phase);
    let click = 0.75 * user.clicks
        + 0.65 * taste
        + 0.55 * liking
        + 0.45 * campaign.appeal
        + 0.35 * agree(&user.taste, &campaign.style)
        + 0.30 * item.appeal
        + 0.40 * habit
        - 0.35 * fatigue
        + 0.15 * evening(seen.at_ms)
        + swing
        + PLACEMENTS[seen.placement].1
        + DEVICES[seen.device].1
        + CHANNELS[seen.channel].1;
    let conversion =
        0.6 * user.buys + 0.5 * taste + 0.3 * liking + 0.3 * habit - (0.3 + 0.3 * user.thrift) * item.dear;
    let view_through = 0.6 * user.buys + 0.6 * taste + 0.4 * liking + 0.2 * habit - 0.3 * item.dear;
    Outcome { click, conversion, view_through }
}

/// Probabilities from logits.
pub(crate) fn outcome(logits: Outcome, levels: &Levels) -> Outcome {
    Outcome {
        click: logistic(logits.click + levels.click),
        conversion: logistic(logits.conversion + levels.conversion),
        view_through: logistic(logits.view_through + levels.view_through),
    }
}
