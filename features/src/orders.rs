//! Purchases find their views, refunds their purchases, when the clock has passed them.

use schemas::Label;

use crate::answers::Order;
use crate::by_item::ByItem;
use crate::history::{Ids, NEVER};
use crate::labels::{Context, Labels};
use crate::outcomes::Bought;
use crate::timers::{Rank, Timer};
use crate::users::Users;
use crate::views::OpenView;

/// Views that a purchase goes through before the user's are kept by item.
const FEW_VIEWS: usize = 128;

impl Labels {
    /// A purchase finds its view, or a refund its purchase. `None` where no label follows.
    pub(crate) fn settle(
        &mut self,
        timer: Timer,
        context: &Context<'_>,
        users: &mut Users,
        ids: &mut Ids<'_>,
        label: &mut Label,
    ) -> Option<()> {
        self.timers.pop();
        let user = timer.user;
        let order = users.extra_mut(user)?.answers.take_order(timer.offset)?;
        let written = if timer.rank == Rank::Purchase {
            self.nearest_view(user, &order, users, ids, context).and_then(|(number, view)| {
                self.credit(number, &view, &order, users, ids);
                view.decided.then(|| {
                    let view = self.views.get(number).unwrap_or(view);
                    self.write_label(number, &view, false, context, ids, label);
                })
            })
        } else {
            // It stands in the view's next label: at the latest when its window closes.
            self.refund(user, &order, users, ids);
            None
        };
        order.release(ids);
        written
    }

    fn refund(&mut self, user: u32, order: &Order, users: &mut Users, ids: &Ids<'_>) {
        let item = ids.subjects.get(order.subject).item;
        let bought = |(number, view): (u64, OpenView)| {
            let bought = self.outcomes.get(view.outcome)?.bought.as_ref()?;
            (bought.last.0 <= order.time_ms).then_some((bought.last, number, view.outcome))
        };
        let mut looked = 0;
        let last = if let Some(by_item) = self.by_item(user, users, ids) {
            by_item.bought(item, &self.views).inspect(|_| looked += 1).find_map(bought)
        } else {
            let chain = self.views.chain(users.head(user).views).inspect(|_| looked += 1);
            chain.filter(|(_, view)| ids.subjects.get(view.subject).item == item).filter_map(bought).max()
        };
        self.looked += looked;
        let last = last.and_then(|(_, number, outcome)| {
            self.touch_outcome(number);
            self.outcomes.get_mut(outcome)?.bought.as_mut()
        });
        if let Some(last) = last.filter(|last| last.currency == order.currency) {
            last.refunded += order.value;
        }
    }

    /// Time and offset of the last purchase that was credited to a view.
    fn last_bought(&self, view: &OpenView) -> Option<(i64, i64)> {
        Some(self.outcomes.get(view.outcome)?.bought.as_ref()?.last)
    }

    /// The user's open views by item, made if there are many.
    fn by_item<'a>(&self, user: u32, users: &'a mut Users, ids: &Ids<'_>) -> Option<&'a ByItem> {
        let newest = users.head(user).views;
        if users.extra(user).is_none_or(|extra| extra.by_item.is_none()) {
            self.views.chain(newest).nth(FEW_VIEWS)?;
            let item_of = |view: &OpenView| ids.subjects.get(view.subject).item;
            let items = self.views.chain(newest);
            let items = items.map(|(number, view)| (number, item_of(&view), self.last_bought(&view)));
            users.extra_or_new(user).by_item = Some(Box::new(ByItem::of(items)));
        }
        users.extra(user)?.by_item.as_deref()
    }

    fn nearest_view(
        &mut self,
        user: u32,
        order: &Order,
        users: &mut Users,
        ids: &Ids<'_>,
        context: &Context<'_>,
    ) -> Option<(u64, OpenView)> {
        let plan = context.plan;
        let oldest = order.time_ms.saturating_sub(plan.config.purchase_window.0);
        let item_of = |view: &OpenView| ids.subjects.get(view.subject).item;
        let item = ids.subjects.get(order.subject).item;
        // Most have not seen what they buy, or not lately: the history tells so in one place, where a way through
        // the open views goes all over the queue.
        let is_it = |number: u32| number == order.subject || ids.subjects.get(number).item == item;
        let within = (oldest, order.time_ms);
        if users.has_viewed(user, within, context.clock_ms, plan, is_it) == Some(false) {
            return None;
        }
        let is_before = |view: &OpenView| view.time_ms <= order.time_ms;
        let newest = users.head(user).views;
        let mut looked = 0;
        let found = if users.extra(user).is_none_or(|extra| extra.by_item.is_none()) {
            let mut few = self.views.chain(newest).inspect(|_| looked += 1).take(FEW_VIEWS);
            few.find(|(_, view)| {
                view.time_ms < oldest
                    || is_before(view) && (view.subject == order.subject || item_of(view) == item)
            })
        } else {
            None
        };
        let found = found.or_else(|| {
            let by_item = self.by_item(user, users, ids)?;
            let mut views = by_item.views(item, &self.views).inspect(|_| looked += 1);
            views.find(|(_, view)| is_before(view))
        });
        self.looked += looked;
        found.filter(|(_, view)| view.time_ms >= oldest)
    }

    fn credit(&mut self, number: u64, view: &OpenView, order: &Order, users: &mut Users, ids: &mut Ids<'_>) {
        self.touch_outcome(number);
        let outcome = self.outcomes.get_or_new(view.outcome);
        self.views.set_outcome(number, outcome);
        let Some(outcome) = self.outcomes.get_mut(outcome) else { return };
        let clicked = outcome.click_ms != NEVER && outcome.click_ms <= order.time_ms;
        let bought = outcome.bought.get_or_insert_with(|| {
            ids.texts.retain(order.currency);
            Box::new(Bought { first_ms: order.time_ms, currency: order.currency, ..Bought::default() })
        });
        // Money of two currencies does not add up: that of the first purchase counts.
        if bought.currency == order.currency {
            bought.value += order.value;
        }
        bought.first_ms = bought.first_ms.min(order.time_ms);
        bought.last = bought.last.max((order.time_ms, order.offset));
        if view.decided {
            bought.after_click |= clicked;
            bought.after_view |= !clicked;
        } else {
            bought.undecided_ms.push(order.time_ms);
        }
        let last = bought.last;
        if let Some(extra) = users.extra_mut(view.user)
            && let Some(by_item) = &mut extra.by_item
        {
            let is_later = |link| {
                let other = self.views.at(link).and_then(|(_, other)| self.last_bought(&other));
                other.is_some_and(|other| other > last)
            };
            by_item.buy(number, ids.subjects.get(view.subject).item, is_later);
        }
    }
}
