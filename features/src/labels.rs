//! What came of impressions: views that wait for clicks and purchases, decided by the clock.
//!
//! Nothing is decided on arrival. A click is matched when the click window of the view closes, a
//! purchase is credited when the clock has passed it: then all that could matter is here, so the
//! order of arrival does not matter. Ties go by event time, then place.
//!
//! A click that names a view which there is (`view_id`) answers that view alone; any other click
//! answers every view of its item and campaign within the click window. A purchase is credited to
//! the nearest earlier view of its item within the purchase window, a refund to the view that the
//! last earlier purchase of the item was credited to. Knows nothing of features.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use schemas::{Event, Kind, Label, Place};

use crate::answers::{Click, Order};
use crate::dedupe::id_hash;
use crate::history::{Ids, NEVER};
use crate::image::{Chunks as _, Marks};
use crate::interner::EMPTY;
use crate::names::Names;
use crate::outcomes::Outcomes;
use crate::plan::Plan;
use crate::timers::{Rank, Timer, Timers};
use crate::users::Users;
use crate::views::{OpenView, Views};

/// What is open in a partition, but for clicks and purchases that are not decided, which lie with
/// their users.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels {
    pub(crate) views: Views,
    /// Of purchases and refunds.
    pub(crate) timers: Timers,
    /// Of late views, with their numbers. The other views' are the cursors of their queue.
    late: BinaryHeap<Reverse<(Timer, u64)>>,
    pub(crate) outcomes: Outcomes,
    /// The first timer of all, and the number of the view that it is about, if it is about one.
    next: Option<(Timer, Option<u64>)>,
    /// Clicks and views looked at one by one. Not part of the state.
    pub(crate) looked: u64,
    /// Of outcomes, by the chunks of their views.
    pub(crate) marks: Marks,
}

/// What a decision needs to know besides what is open.
pub(crate) struct Context<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) partition: i32,
    pub(crate) clock_ms: i64,
    pub(crate) names: &'a Names,
}

impl Labels {
    /// Takes up a view, click, purchase or refund and sets its timer. `subject` gets a use of its own.
    pub(crate) fn add(
        &mut self,
        event: &Event,
        offset: i64,
        (user, subject): (u32, u32),
        users: &mut Users,
        ids: &mut Ids<'_>,
        plan: &Plan,
    ) {
        let time_ms = event.event_time_ms;
        match event.kind_or_unknown() {
            Kind::View => {
                let id = id_hash(&event.event_id);
                let view =
                    OpenView { time_ms, offset, id, subject, user, decided: false, outcome: 0, late: false };
                self.open(&view, users, ids.subjects.get(subject).item, plan);
            }
            Kind::Click | Kind::Cart => {
                let view = id_hash(&event.view_id);
                let click = Click { time_ms, offset, view, subject, taken: false };
                users.extra_or_new(user).answers.add_click(click, ids.subjects);
            }
            kind @ (Kind::Purchase | Kind::Refund) => {
                let currency = ids.texts.intern(&event.currency);
                let refund = kind == Kind::Refund;
                let order = Order { time_ms, offset, subject, currency, value: event.value, refund };
                self.push_order(order.timer(user));
                users.extra_or_new(user).answers.orders.push(order);
            }
            Kind::Unknown => return,
        }
        ids.subjects.retain(subject);
    }

    /// Sets the timer of a purchase or refund. Not part of the state: it follows from the users' orders.
    pub(crate) fn push_order(&mut self, timer: Timer) {
        self.timers.push(timer);
        self.came(timer, None);
    }

    /// A timer has come.
    fn came(&mut self, timer: Timer, number: Option<u64>) {
        if self.next.is_none_or(|(next, _)| timer < next) {
            self.next = Some((timer, number));
        }
    }

    /// Puts a view in line, or gives it a timer of its own; its number.
    pub(crate) fn open(&mut self, view: &OpenView, users: &mut Users, item: u32, plan: &Plan) -> u64 {
        let head = users.head_mut(view.user);
        let (number, newest) = self.views.push(view, head.views);
        head.views = newest;
        // Of a new chunk of views what comes of them is new, too.
        self.touch_outcome(number);
        let Some(view) = self.views.get(number) else { return number };
        let timer = if view.decided { purchase_timer(&view, plan) } else { click_timer(&view, plan) };
        self.came(timer, Some(number));
        if view.late {
            self.late.push(Reverse((timer, number)));
        }
        if let Some(extra) = users.extra_mut(view.user) {
            if let Some(by_item) = &mut extra.by_item {
                by_item.add(number, &view, item, &self.views);
            }
            if let Some(by_click) = &mut extra.answers.by_click {
                by_click.open(&view);
            }
        }
        number
    }

    /// All decisions of times before this have been taken.
    pub(crate) fn decided_to(&self, clock_ms: i64) -> i64 {
        self.next.map_or(clock_ms, |(next, _)| next.due_ms.min(clock_ms))
    }

    /// The first timer, and the number of the view that it is about, if it is about one.
    fn first(&self, plan: &Plan) -> Option<(Timer, Option<u64>)> {
        let click = self.views.next_click().map(|(number, view)| (click_timer(&view, plan), Some(number)));
        let purchase = self.views.next_purchase().filter(|(_, view)| view.decided);
        let purchase = purchase.map(|(number, view)| (purchase_timer(&view, plan), Some(number)));
        let late = self.late.peek().map(|Reverse((timer, number))| (*timer, Some(*number)));
        let order = self.timers.first().map(|timer| (timer, None));
        [click, purchase, late, order].into_iter().flatten().min_by_key(|(timer, _)| *timer)
    }

    /// How many decisions are to come, but for those that follow from others.
    pub(crate) fn len(&self) -> usize {
        self.timers.len() + self.views.len()
    }

    /// Users of decisions that are due, some twice.
    pub(crate) fn due_users(&self, clock_ms: i64, plan: &Plan) -> impl Iterator<Item = u32> {
        let most = plan.config.timers_per_record;
        let click_to_ms = clock_ms.saturating_sub(plan.config.click_window.0);
        let purchase_to_ms = clock_ms.saturating_sub(plan.config.purchase_window.0);
        self.views.users_ahead(click_to_ms, purchase_to_ms, most).chain(self.timers.due_users(clock_ms, most))
    }

    /// The user of the first decision, if it is due.
    pub(crate) fn due_user(&self, clock_ms: i64) -> Option<u32> {
        self.next.filter(|(next, _)| next.due_ms < clock_ms).map(|(next, _)| next.user)
    }

    /// The outcome of a view is about to change.
    pub(crate) fn touch_outcome(&mut self, number: u64) {
        self.touch(Views::chunk_of(number));
    }

    /// Takes the first decision that is due; none if there is none, else whether a label follows, and which.
    pub(crate) fn fire(
        &mut self,
        context: &Context<'_>,
        users: &mut Users,
        ids: &mut Ids<'_>,
        label: &mut Label,
    ) -> Option<bool> {
        let (timer, number) = self.next.filter(|(next, _)| next.due_ms < context.clock_ms)?;
        let follows = match number {
            Some(number) => self.close(timer, number, context, users, ids, label),
            None => self.settle(timer, context, users, ids, label),
        };
        self.next = self.first(context.plan);
        Some(follows.is_some())
    }

    /// A window of a view closes. A label follows: `None` would be a view that is not there.
    fn close(
        &mut self,
        timer: Timer,
        number: u64,
        context: &Context<'_>,
        users: &mut Users,
        ids: &mut Ids<'_>,
        label: &mut Label,
    ) -> Option<()> {
        let view = self.views.get(number)?;
        if view.late {
            self.late.pop();
        }
        // With its last view a chunk goes, of which an image under way may still lack what came of them.
        if view.outcome > 0 || timer.rank == Rank::PurchaseWindow {
            self.touch_outcome(number);
        }
        if timer.rank == Rank::ClickWindow {
            self.match_click(number, &view, users, ids, context.plan);
            let view = self.views.get(number)?;
            if view.late {
                self.late.push(Reverse((purchase_timer(&view, context.plan), number)));
            }
            self.write_label(number, &view, false, context, ids, label);
            self.views.decide(number);
            return Some(());
        }
        self.write_label(number, &view, true, context, ids, label);
        let head = users.head_mut(view.user);
        head.views = self.views.remove(number, head.views);
        if let Some(extra) = users.extra_mut(view.user) {
            if let Some(by_item) = &mut extra.by_item {
                by_item.remove(number, ids.subjects.get(view.subject).item);
                if by_item.is_empty() {
                    extra.by_item = None;
                }
            }
            if let Some(by_click) = &mut extra.answers.by_click {
                by_click.close(&view);
            }
        }
        ids.release(view.subject);
        if let Some(bought) = self.outcomes.remove(view.outcome) {
            ids.texts.release(bought.currency);
        }
        Some(())
    }

    /// Finds the first click that answers the view whose click window closes.
    fn match_click(&mut self, number: u64, view: &OpenView, users: &mut Users, ids: &Ids<'_>, plan: &Plan) {
        let window = plan.config.click_window.0;
        let first = self.first_click(view, window, users, ids);
        if first != NEVER {
            self.touch_outcome(number);
            let outcome = self.outcomes.get_or_new(view.outcome);
            self.views.set_outcome(number, outcome);
        }
        let outcome = self.views.get(number).map_or(0, |view| view.outcome);
        let Some(outcome) = self.outcomes.get_mut(outcome) else { return };
        outcome.click_ms = first;
        if let Some(bought) = &mut outcome.bought {
            for purchase_ms in std::mem::take(&mut bought.undecided_ms) {
                let clicked = first != NEVER && first <= purchase_ms;
                bought.after_click |= clicked;
                bought.after_view |= !clicked;
            }
        }
    }

    /// Writes a view's label, and counts it.
    pub(crate) fn write_label(
        &mut self,
        number: u64,
        view: &OpenView,
        matured: bool,
        context: &Context<'_>,
        ids: &Ids<'_>,
        label: &mut Label,
    ) {
        let outcome = self.outcomes.get(view.outcome);
        let click_ms = outcome.map_or(NEVER, |outcome| outcome.click_ms);
        let bought = outcome.and_then(|outcome| outcome.bought.as_deref());
        let clicked = click_ms != NEVER;
        // Into the texts that are there: one label is made over and over, without allocating.
        let fill = |to: &mut String, id: u32| {
            to.clear();
            to.push_str(ids.texts.text(id));
        };
        let subject = ids.subjects.get(view.subject);
        label.user.clear();
        context.names.push_to(view.user, &mut label.user);
        fill(&mut label.item, subject.item);
        fill(&mut label.campaign, subject.campaign);
        fill(&mut label.currency, bought.map_or(EMPTY, |bought| bought.currency));
        label.place = Place { partition: context.partition, offset: view.offset };
        label.event_time_ms = view.time_ms;
        // The first label is that of the click window.
        label.revision = u32::from(view.decided) + outcome.map_or(0, |outcome| outcome.again);
        label.clock_ms = context.clock_ms;
        label.clicked = clicked;
        label.click_time_ms = if clicked { click_ms } else { 0 };
        label.purchased_after_click = bought.is_some_and(|b| b.after_click);
        label.purchased_after_view = bought.is_some_and(|b| b.after_view);
        label.purchase_time_ms = bought.map_or(0, |b| b.first_ms);
        label.value = bought.map_or(0.0, |b| b.value);
        label.refunded = bought.map_or(0.0, |b| b.refunded);
        label.matured = matured;
        if view.decided
            && let Some(view) = self.views.get(number)
            && let Some(outcome) = self.outcomes.get_mut(view.outcome)
        {
            outcome.again += 1;
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let late = self.late.capacity() * size_of::<(Timer, u64)>();
        self.views.bytes() + late + self.timers.bytes() + self.outcomes.bytes()
    }
}

fn click_timer(view: &OpenView, plan: &Plan) -> Timer {
    let due_ms = view.time_ms.saturating_add(plan.config.click_window.0);
    Timer { due_ms, rank: Rank::ClickWindow, offset: view.offset, user: view.user }
}

fn purchase_timer(view: &OpenView, plan: &Plan) -> Timer {
    let due_ms = view.time_ms.saturating_add(plan.config.purchase_window.0);
    Timer { due_ms, rank: Rank::PurchaseWindow, offset: view.offset, user: view.user }
}
