//! The market's people and things: drawn once from the seed, then fixed.

use crate::config::Config;
use crate::dice::{Dice, running};
use crate::kind::{Leanings, MarketKind};

/// Dimensions of tastes.
pub(crate) const DIM: usize = 8;
/// A point in the space of tastes; coordinates are standard normal.
pub(crate) type Taste = [f64; DIM];

/// Slots, best first, and how much each draws clicks, in logits.
pub(crate) const PLACEMENTS: [(&str, f64); 5] =
    [("top", 0.7), ("feed_1", 0.3), ("feed_2", 0.0), ("side", -0.5), ("footer", -1.0)];
/// Device classes.
pub(crate) const DEVICES: [(&str, f64); 3] = [("mobile", 0.1), ("desktop", 0.0), ("tablet", -0.2)];
/// Channels.
pub(crate) const CHANNELS: [(&str, f64); 3] = [("web", 0.0), ("app", 0.15), ("mail", -0.35)];

/// A consumer.
#[derive(Debug)]
pub(crate) struct User {
    /// How readily they click.
    pub(crate) clicks: f64,
    /// How readily they buy.
    pub(crate) buys: f64,
    /// How much a high price deters them.
    pub(crate) thrift: f64,
    pub(crate) taste: Taste,
    /// Liking of each category.
    pub(crate) liking: Vec<f64>,
    /// What they are shown, by category: running sums of weights.
    pub(crate) shown: Vec<f64>,
    pub(crate) device: usize,
    pub(crate) channel: usize,
}

/// An item.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) category: usize,
    pub(crate) brand: usize,
    /// Price in cents.
    pub(crate) cents: u32,
    /// Price against others': standardised logarithm.
    pub(crate) dear: f64,
    /// Campaign of its own; none: any may show it.
    pub(crate) campaign: Option<usize>,
    /// How much it appeals to everybody.
    pub(crate) appeal: f64,
    pub(crate) taste: Taste,
    pub(crate) embedding: Vec<f32>,
}

impl Item {
    /// Price in units of the currency.
    pub(crate) fn price(&self) -> f64 {
        f64::from(self.cents) / 100.0
    }
}

/// A campaign.
#[derive(Debug)]
pub(crate) struct Campaign {
    pub(crate) appeal: f64,
    pub(crate) style: Taste,
    /// Its appeal swings with this period, ms, from this phase.
    pub(crate) period_ms: f64,
    pub(crate) phase: f64,
}

/// Everything that does not change.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) kind: MarketKind,
    pub(crate) users: Vec<User>,
    pub(crate) items: Vec<Item>,
    pub(crate) campaigns: Vec<Campaign>,
    /// How active users are: running sums of weights.
    pub(crate) activity: Vec<f64>,
    /// Items of a category.
    pub(crate) by_category: Vec<Vec<usize>>,
    /// Their popularity: running sums of weights.
    pub(crate) popularity: Vec<Vec<f64>>,
    /// What kinds other than the default go by.
    pub(crate) leanings: Option<Leanings>,
}

fn taste(dice: &mut Dice) -> Taste {
    std::array::from_fn(|_| dice.normal())
}

/// How well two tastes agree: standard normal over random pairs.
pub(crate) fn agree(a: &Taste, b: &Taste) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>() / libm::sqrt(DIM as f64)
}

impl World {
    /// `own` is for what a kind other than the default draws beside.
    pub(crate) fn new(config: &Config, dice: &mut Dice, own: &mut Dice) -> Self {
        let categories = config.categories as usize;
        let campaigns: Vec<Campaign> = (0..config.campaigns)
            .map(|_| Campaign {
                appeal: dice.normal(),
                style: taste(dice),
                period_ms: (2.0 + 4.0 * dice.unit()) * 86_400_000.0,
                phase: dice.unit() * std::f64::consts::TAU,
            })
            .collect();
        let items = items(config, dice);
        let mut users: Vec<User> = (0..config.users).map(|_| user(categories, dice)).collect();
        let activity = running(users.iter().map(|_| dice.lognormal(1.0, 0.8)));
        let by_category: Vec<Vec<usize>> = (0..categories)
            .map(|category| (0..items.len()).filter(|item| items[*item].category == category).collect())
            .collect();
        let popularity = by_category
            .iter()
            .map(|members| running(members.iter().map(|_| dice.lognormal(1.0, 0.9))))
            .collect();
        let leanings = (config.kind != MarketKind::Default)
            .then(|| Leanings::new(users.len(), categories, campaigns.len(), own));
        if let Some(leanings) = &leanings {
            leanings.teach(&mut users);
        }
        Self { kind: config.kind, users, items, campaigns, activity, by_category, popularity, leanings }
    }
}

fn user(categories: usize, dice: &mut Dice) -> User {
    let liking: Vec<f64> = (0..categories).map(|_| dice.normal()).collect();
    // Shops show what is liked more often, but not only that.
    let shown = running(liking.iter().map(|liking| libm::exp(0.9 * liking)));
    User {
        clicks: dice.normal(),
        buys: dice.normal(),
        thrift: dice.normal(),
        taste: taste(dice),
        liking,
        shown,
        device: dice.weighted(&[0.6, 0.9, 1.0]),
        channel: dice.weighted(&[0.5, 0.85, 1.0]),
    }
}

fn items(config: &Config, dice: &mut Dice) -> Vec<Item> {
    let categories = config.categories as usize;
    let centres: Vec<Taste> = (0..categories).map(|_| taste(dice)).collect();
    // Embeddings are a fixed random view of tastes, blurred: content tells much, not all.
    let view: Vec<Taste> = (0..config.embedding).map(|_| taste(dice)).collect();
    (0..config.items as usize)
        .map(|index| {
            // The first items fill all categories, so that none is empty.
            let category = if index < categories { index } else { dice.below(categories) };
            let own = taste(dice);
            let taste: Taste = std::array::from_fn(|d| 0.6 * centres[category][d] + 0.8 * own[d]);
            let dear = dice.normal();
            let embedding =
                view.iter().map(|row| (agree(row, &taste) + 0.2 * dice.normal()) as f32).collect();
            Item {
                category,
                brand: dice.below(config.brands as usize),
                cents: (2_500.0 * libm::exp(0.8 * dear)).clamp(99.0, 1e7) as u32,
                dear,
                campaign: (index % 10 != 9).then(|| campaign_of(category, config, dice)),
                appeal: dice.normal(),
                taste,
                embedding,
            }
        })
        .collect()
}

/// A campaign keeps to categories that leave one remainder, as far as there are enough of each.
fn campaign_of(category: usize, config: &Config, dice: &mut Dice) -> usize {
    let (campaigns, categories) = (config.campaigns as usize, config.categories as usize);
    if campaigns <= categories {
        return category % campaigns;
    }
    let own = (campaigns - category).div_ceil(categories);
    category + categories * dice.below(own)
}
