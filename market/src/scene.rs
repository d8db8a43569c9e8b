//! Who visits, and what they are shown.

use crate::dice::Dice;
use crate::habit::Habits;
use crate::record::Visit;
use crate::truth::Impression;
use crate::world::{CHANNELS, DEVICES, PLACEMENTS, World};

/// Mean impressions of a visit.
pub(crate) const VISIT_VIEWS: f64 = 5.0;
/// Tries to find an item that the consumer has not seen lately.
const TRIES: usize = 12;

/// A visit by one of the first `users` consumers.
pub(crate) fn visit(world: &World, users: usize, number: u64, dice: &mut Dice) -> Visit {
    let user = dice.weighted(&world.activity[..users]);
    let usual = &world.users[user];
    let (other_device, other_channel) = (dice.below(DEVICES.len()), dice.below(CHANNELS.len()));
    Visit {
        number,
        user,
        device: if dice.chance(0.8) { usual.device } else { other_device },
        channel: if dice.chance(0.7) { usual.channel } else { other_channel },
        shown: 0,
    }
}

/// Whether a visit goes on after an impression.
pub(crate) fn goes_on(dice: &mut Dice) -> bool {
    dice.chance(1.0 - 1.0 / VISIT_VIEWS)
}

/// Time between two impressions of a visit, ms.
pub(crate) fn pause_ms(dice: &mut Dice) -> i64 {
    2_000 + dice.exponential(15_000.0) as i64
}

/// The next impression of the visit.
pub(crate) fn impression(
    world: &World,
    habits: &Habits,
    visit: &Visit,
    at_ms: i64,
    dice: &mut Dice,
) -> Impression {
    let mut item = 0;
    for attempt in 0..TRIES {
        item = if attempt < TRIES / 2 {
            let category = dice.weighted(&world.users[visit.user].shown);
            world.by_category[category][dice.weighted(&world.popularity[category])]
        } else {
            dice.below(world.items.len())
        };
        if !habits.seen(visit.user, item, at_ms) {
            break;
        }
    }
    let any = dice.below(world.campaigns.len());
    Impression {
        user: visit.user,
        item,
        campaign: world.items[item].campaign.unwrap_or(any),
        placement: dice.below(PLACEMENTS.len()),
        device: visit.device,
        channel: visit.channel,
        at_ms,
    }
}
