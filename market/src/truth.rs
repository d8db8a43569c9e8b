//! The true probabilities of an impression.

use crate::drivers::{Driver, Drivers};
use crate::habit::Habits;
use crate::kind::{Leanings, MarketKind};
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

/// Logits without intercepts, and what makes the click's. `drift` scales the campaigns' swing.
pub(crate) fn logits(world: &World, habits: &Habits, drift: f64, seen: &Impression) -> (Outcome, Drivers) {
    let user = &world.users[seen.user];
    let item = &world.items[seen.item];
    let liking = user.liking[item.category];
    let habit = libm::log1p(habits.habit(seen.user, item.category, seen.at_ms));
    let fatigue = libm::log1p(habits.fatigue(seen.user, seen.campaign, seen.at_ms));
    let drivers = match &world.leanings {
        None => by_default(world, drift, seen, habit, fatigue),
        Some(leanings) => by_kind(world, leanings, drift, seen, habit, fatigue),
    };
    // Tastes of many dimensions matter in the default market alone.
    let taste = if world.leanings.is_none() { agree(&user.taste, &item.taste) } else { 0.0 };
    let conversion =
        0.6 * user.buys + 0.5 * taste + 0.3 * liking + 0.3 * habit - (0.3 + 0.3 * user.thrift) * item.dear;
    let view_through = 0.6 * user.buys + 0.6 * taste + 0.4 * liking + 0.2 * habit - 0.3 * item.dear;
    (Outcome { click: drivers.sum(), conversion, view_through }, drivers)
}

fn by_default(world: &World, drift: f64, seen: &Impression, habit: f64, fatigue: f64) -> Drivers {
    let user = &world.users[seen.user];
    let item = &world.items[seen.item];
    let campaign = &world.campaigns[seen.campaign];
    let swing =
        drift * libm::sin(seen.at_ms as f64 / campaign.period_ms * std::f64::consts::TAU + campaign.phase);
    Drivers::from_pairs(&[
        (Driver::User, 0.75 * user.clicks),
        (Driver::Taste, 0.65 * agree(&user.taste, &item.taste)),
        (Driver::Liking, 0.55 * user.liking[item.category]),
        (Driver::Campaign, 0.45 * campaign.appeal),
        (Driver::Style, 0.35 * agree(&user.taste, &campaign.style)),
        (Driver::Item, 0.30 * item.appeal),
        (Driver::Habit, 0.40 * habit),
        (Driver::Fatigue, -0.35 * fatigue),
        (Driver::Hour, 0.15 * evening(seen.at_ms)),
        (Driver::Swing, swing),
        (Driver::Placement, PLACEMENTS[seen.placement].1),
        (Driver::Device, DEVICES[seen.device].1),
        (Driver::Channel, CHANNELS[seen.channel].1),
    ])
}

/// The other kinds. Their weights give the click's logit a standard deviation of about 1.4, as in
/// the default market.
fn by_kind(
    world: &World,
    leanings: &Leanings,
    drift: f64,
    seen: &Impression,
    habit: f64,
    fatigue: f64,
) -> Drivers {
    let user = &world.users[seen.user];
    let item = &world.items[seen.item];
    let campaign = &world.campaigns[seen.campaign];
    let place = [
        (Driver::Placement, PLACEMENTS[seen.placement].1),
        (Driver::Device, DEVICES[seen.device].1),
        (Driver::Channel, CHANNELS[seen.channel].1),
    ];
    let own = match world.kind {
        MarketKind::Default | MarketKind::Linear => vec![
            (Driver::User, 0.75 * user.clicks),
            (Driver::Campaign, 0.45 * campaign.appeal),
            (Driver::Item, 0.55 * item.appeal),
            (Driver::Category, 0.45 * leanings.appeal[item.category]),
            (Driver::Price, -0.30 * item.dear),
            (Driver::Habit, 0.20 * habit),
            (Driver::Fatigue, -0.25 * fatigue),
            (Driver::Hour, 0.40 * evening(seen.at_ms)),
        ],
        MarketKind::Crossed => {
            let from_best = (hour(seen.at_ms) - leanings.best_hour[seen.campaign]) / 24.0;
            vec![
                (Driver::User, 0.50 * user.clicks),
                (Driver::Campaign, 0.35 * campaign.appeal),
                (Driver::Item, 0.35 * item.appeal),
                (Driver::Liking, 0.90 * user.liking[item.category]),
                (Driver::CategoryDevice, 0.50 * leanings.devices[item.category][seen.device]),
                (Driver::CampaignHour, 0.60 * libm::cos(from_best * std::f64::consts::TAU)),
                (Driver::Price, -0.35 * user.thrift * item.dear),
                (Driver::Habit, 0.10 * habit),
                (Driver::Fatigue, -0.15 * fatigue),
            ]
        }
        MarketKind::Drifting => {
            let passing = leanings.passing(seen.user, item.category, seen.at_ms);
            vec![
                (Driver::User, 0.65 * user.clicks),
                (Driver::Campaign, 0.45 * campaign.appeal),
                (Driver::Item, 0.45 * item.appeal),
                (Driver::Liking, 0.55 * user.liking[item.category]),
                (Driver::Drift, 0.35 * passing),
                (Driver::Swing, drift * leanings.swing(seen.campaign, seen.at_ms)),
                (Driver::Habit, 0.20 * habit),
                (Driver::Fatigue, -0.20 * fatigue),
                (Driver::Hour, 0.30 * evening(seen.at_ms)),
            ]
        }
    };
    Drivers::from_pairs(&[own.as_slice(), &place].concat())
}

/// Probabilities from logits.
pub(crate) fn outcome(logits: Outcome, levels: &Levels) -> Outcome {
    Outcome {
        click: logistic(logits.click + levels.click),
        conversion: logistic(logits.conversion + levels.conversion),
        view_through: logistic(logits.view_through + levels.view_through),
    }
}
