//! Which law makes people click: the kinds of market, and what some of them draw beside the world.
//!
//! All kinds share the world, its visits and its records; they differ in the click's logit (and
//! with it in which of a pipeline's means it takes to learn it). What a kind draws of its own
//! comes from a stream of its own, so that no other kind's bytes change.

use serde::{Deserialize, Serialize};

use crate::dice::{Dice, running};
use crate::world::{DEVICES, User};

/// The laws of a click.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarketKind {
    /// A little of everything, tastes of many dimensions: hard to learn whole.
    #[default]
    Default,
    /// Drivers add up: who, what, where, when, and what was done lately.
    Linear,
    /// Drivers depend on one another: taste by category, category by device, campaign by hour,
    /// thrift by price.
    Crossed,
    /// Tastes and the appeal of campaigns move while one learns.
    Drifting,
}

/// Dimensions of what consumers lean to, in kinds other than the default: few enough that a
/// thousand impressions of a consumer tell them.
const LEAN: usize = 3;
/// A point in that space.
type Lean = [f64; LEAN];

/// How well two points agree: standard normal over random pairs.
fn agree(a: &Lean, b: &Lean) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>() / libm::sqrt(LEAN as f64)
}

fn lean(dice: &mut Dice) -> Lean {
    std::array::from_fn(|_| dice.normal())
}

/// A wave through time: cosine and sine of its angle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wave {
    period_ms: f64,
    phase: f64,
}

impl Wave {
    /// A wave whose period is uniform in that many days.
    fn new(from_days: f64, to_days: f64, dice: &mut Dice) -> Self {
        let period_ms = (from_days + (to_days - from_days) * dice.unit()) * 86_400_000.0;
        Self { period_ms, phase: dice.unit() * std::f64::consts::TAU }
    }

    fn angle(&self, at_ms: i64) -> f64 {
        at_ms as f64 / self.period_ms * std::f64::consts::TAU + self.phase
    }
}

/// What the kinds other than the default draw: of each consumer, category and campaign.
#[derive(Debug)]
pub(crate) struct Leanings {
    users: Vec<(Lean, Lean, Wave)>,
    categories: Vec<Lean>,
    /// How much a category appeals to everybody.
    pub(crate) appeal: Vec<f64>,
    /// How well a category goes with each device.
    pub(crate) devices: Vec<[f64; DEVICES.len()]>,
    /// The hour at which a campaign does best.
    pub(crate) best_hour: Vec<f64>,
    /// How a campaign's appeal moves.
    swings: Vec<Wave>,
}

impl Leanings {
    pub(crate) fn new(users: usize, categories: usize, campaigns: usize, dice: &mut Dice) -> Self {
        Self {
            categories: (0..categories).map(|_| lean(dice)).collect(),
            appeal: (0..categories).map(|_| dice.normal()).collect(),
            devices: (0..categories).map(|_| std::array::from_fn(|_| dice.normal())).collect(),
            best_hour: (0..campaigns).map(|_| 24.0 * dice.unit()).collect(),
            swings: (0..campaigns).map(|_| Wave::new(40.0, 80.0, dice)).collect(),
            users: (0..users).map(|_| (lean(dice), lean(dice), Wave::new(60.0, 180.0, dice))).collect(),
        }
    }

    /// How much the consumer likes the category, whenever.
    pub(crate) fn lasting(&self, user: usize, category: usize) -> f64 {
        agree(&self.users[user].0, &self.categories[category])
    }

    /// How much the consumer likes the category now, beside that: turns from one taste to another.
    pub(crate) fn passing(&self, user: usize, category: usize, at_ms: i64) -> f64 {
        let (from, to, wave) = &self.users[user];
        let angle = wave.angle(at_ms);
        let (cos, sin) = (libm::cos(angle), libm::sin(angle));
        let now: Lean = std::array::from_fn(|d| cos * to[d] + sin * from[(d + 1) % LEAN]);
        agree(&now, &self.categories[category])
    }

    /// How far the campaign's appeal has moved, -1 to 1.
    pub(crate) fn swing(&self, campaign: usize, at_ms: i64) -> f64 {
        libm::sin(self.swings[campaign].angle(at_ms))
    }

    /// Consumers like and are shown what they lean to.
    pub(crate) fn teach(&self, users: &mut [User]) {
        for (number, user) in users.iter_mut().enumerate() {
            for (category, liking) in user.liking.iter_mut().enumerate() {
                *liking = self.lasting(number, category);
            }
            user.shown = running(user.liking.iter().map(|liking| libm::exp(0.5 * liking)));
        }
    }
}
