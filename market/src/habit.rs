//! What consumers have done lately, fading: what makes histories worth counting.

use std::collections::VecDeque;

use crate::truth::Impression;

/// A count that fades by half in its half-life.
#[derive(Debug, Clone, Copy, Default)]
struct Fading {
    count: f64,
    at_ms: i64,
}

impl Fading {
    fn now(&self, now_ms: i64, half_life_ms: f64) -> f64 {
        let age = now_ms.saturating_sub(self.at_ms).max(0) as f64;
        self.count * libm::exp2(-age / half_life_ms)
    }

    fn add(&mut self, now_ms: i64, half_life_ms: f64) {
        *self = Self { count: self.now(now_ms, half_life_ms) + 1.0, at_ms: now_ms.max(self.at_ms) };
    }
}

const HABIT_HALF_LIFE_MS: f64 = 2.0 * 86_400_000.0;
const FATIGUE_HALF_LIFE_MS: f64 = 12.0 * 3_600_000.0;
/// An item is not shown to a consumer again for this long (unless they have seen all of it):
/// longer than any purchase takes, so that each purchase has one impression that it came of.
const SHOWN_MS: i64 = 24 * 3_600_000;
const SHOWN: usize = 256;

/// The histories of all consumers.
#[derive(Debug)]
pub(crate) struct Habits {
    categories: usize,
    campaigns: usize,
    clicks: Vec<Fading>,
    ignored: Vec<Fading>,
    shown: Vec<VecDeque<(i64, usize)>>,
}

impl Habits {
    pub(crate) fn new(users: usize, categories: usize, campaigns: usize) -> Self {
        Self {
            categories,
            campaigns,
            clicks: vec![Fading::default(); users * categories],
            ignored: vec![Fading::default(); users * campaigns],
            shown: vec![VecDeque::new(); users],
        }
    }

    /// Recent clicks of the user in the category.
    pub(crate) fn habit(&self, user: usize, category: usize, now_ms: i64) -> f64 {
        self.clicks[user * self.categories + category].now(now_ms, HABIT_HALF_LIFE_MS)
    }

    /// Recent impressions of the campaign that the user did not click, since the last that they did.
    pub(crate) fn fatigue(&self, user: usize, campaign: usize, now_ms: i64) -> f64 {
        self.ignored[user * self.campaigns + campaign].now(now_ms, FATIGUE_HALF_LIFE_MS)
    }

    /// Whether the user has been shown the item within a day.
    pub(crate) fn seen(&self, user: usize, item: usize, now_ms: i64) -> bool {
        let recent = self.shown[user].iter().rev();
        recent.take_while(|(at, _)| now_ms - at < SHOWN_MS).any(|(_, shown)| *shown == item)
    }

    /// Notes an impression and whether it was clicked.
    pub(crate) fn note(&mut self, seen: &Impression, category: usize, clicked: bool) {
        let Impression { user, item, campaign, at_ms: now_ms, .. } = *seen;
        let shown = &mut self.shown[user];
        if shown.len() == SHOWN {
            shown.pop_front();
        }
        shown.push_back((now_ms, item));
        let ignored = &mut self.ignored[user * self.campaigns + campaign];
        if clicked {
            *ignored = Fading::default();
            self.clicks[user * self.categories + category].add(now_ms, HABIT_HALF_LIFE_MS);
        } else {
            ignored.add(now_ms, FATIGUE_HALF_LIFE_MS);
        }
    }
}
