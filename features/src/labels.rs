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

use std::collections::VecDeque;

use schemas::{Event, Label, Place};

use crate::dedupe::id_hash;
use crate::history::NEVER;
use crate::interner::Interner;
use crate::plan::Plan;
use crate::timers::{Rank, Timer, Timers};

/// What was bought after a view.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Bought {
    /// Times of purchases credited before the click was decided.
    pub(crate) undecided_ms: Vec<i64>,
    pub(crate) after_click: bool,
    pub(crate) after_view: bool,
    pub(crate) first_ms: i64,
    /// Time and offset of the last.
    pub(crate) last: (i64, i64),
    pub(crate) value: f64,
    pub(crate) refunded: f64,
    pub(crate) currency: u32,
}

/// A view whose purchase window is open.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OpenView {
    pub(crate) time_ms: i64,
    pub(crate) offset: i64,
    /// Hash of its event id, 0 if it has none.
    pub(crate) id: u64,
    pub(crate) item: u32,
    pub(crate) campaign: u32,
    /// Labels written so far; none before the click window has closed.
    pub(crate) written: u32,
    /// Time of the first click; [`NEVER`] where none.
    pub(crate) click_ms: i64,
    pub(crate) bought: Option<Box<Bought>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Click {
    pub(crate) time_ms: i64,
    pub(crate) offset: i64,
    /// Hash of the view's id that it names, 0 if it names none.
    pub(crate) view: u64,
    pub(crate) item: u32,
    pub(crate) campaign: u32,
    /// The view that it names has been found.
    pub(crate) taken: bool,
}

/// A purchase or refund that the clock has not passed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Order {
    pub(crate) time_ms: i64,
    pub(crate) offset: i64,
    pub(crate) item: u32,
    pub(crate) currency: u32,
    pub(crate) value: f64,
}

impl Order {
    fn release(&self, texts: &mut Interner) {
        texts.release(self.item);
        texts.release(self.currency);
    }
}

/// What is open of one user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    /// By time, then place.
    pub(crate) views: VecDeque<OpenView>,
    /// By time, then place.
    pub(crate) clicks: VecDeque<Click>,
    /// In order of arrival; few.
    pub(crate) orders: Vec<Order>,
    /// Where the next view to be decided is, if views are decided in their order: a place to look first.
    next: u32,
}

/// What a decision needs to know besides the user's own state.
pub(crate) struct Context<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) partition: i32,
    pub(crate) clock_ms: i64,
    pub(crate) user: &'a str,
}

impl Pending {
    pub(crate) fn new(views: VecDeque<OpenView>, clicks: VecDeque<Click>, orders: Vec<Order>) -> Self {
        Self { views, clicks, orders, next: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.views.is_empty() && self.clicks.is_empty() && self.orders.is_empty()
    }

    /// Reads where the next view will go, and the next that will be decided.
    pub(crate) fn look_ahead(&self) -> (Option<i64>, Option<i64>) {
        let time = |view: &OpenView| view.time_ms;
        (self.views.back().map(time), self.views.get(self.next as usize).map(time))
    }

    /// Takes up a view, click, purchase or refund and sets its timers. `item` and `campaign` get
    /// uses of their own.
    pub(crate) fn add(
        &mut self,
        event: &Event,
        offset: i64,
        (user, item, campaign): (u32, u32, u32),
        plan: &Plan,
        timers: &mut Timers,
        texts: &mut Interner,
    ) {
        let time_ms = event.event_time_ms;
        let kind = event.kind_or_unknown();
        let mut set = |due_ms: i64, rank: Rank| timers.push(Timer { due_ms, rank, offset, user });
        texts.retain(item);
        match kind {
            schemas::Kind::View => {
                texts.retain(campaign);
                let id = id_hash(&event.event_id);
                let view = OpenView {
                    time_ms,
                    offset,
                    id,
                    item,
                    campaign,
                    written: 0,
                    click_ms: NEVER,
                    bought: None,
                };
                let at = position(&self.views, (time_ms, offset));
                if self.views.len() == self.views.capacity() {
                    // By a quarter, as the history: all users have some.
                    self.views.reserve_exact((self.views.len() / 4).max(2));
                }
                self.views.insert(at, view);
                set(time_ms.saturating_add(plan.config.click_window.0), Rank::ClickWindow);
            }
            schemas::Kind::Click | schemas::Kind::Cart => {
                texts.retain(campaign);
                let view = id_hash(&event.view_id);
                let at =
                    self.clicks.partition_point(|click| (click.time_ms, click.offset) < (time_ms, offset));
                self.clicks.insert(at, Click { time_ms, offset, view, item, campaign, taken: false });
            }
            schemas::Kind::Purchase | schemas::Kind::Refund => {
                let currency = texts.intern(&event.currency);
                self.orders.push(Order { time_ms, offset, item, currency, value: event.value });
                let rank = if kind == schemas::Kind::Purchase { Rank::Purchase } else { Rank::Refund };
                set(time_ms, rank);
            }
            schemas::Kind::Unknown => {
                texts.release(item);
            }
        }
    }

    /// Up to this time of the clock there is nothing to forget.
    pub(crate) fn quiet_until_ms(&self, plan: &Plan) -> i64 {
        let expires = |click: &Click| click.time_ms.saturating_add(plan.config.click_window.0);
        self.clicks.front().map_or(i64::MAX, expires)
    }

    /// Forgets clicks that no undecided view can reach.
    pub(crate) fn purge(&mut self, decided_to_ms: i64, plan: &Plan, texts: &mut Interner) {
        let horizon = decided_to_ms.saturating_sub(plan.config.click_window.0);
        while self.clicks.front().is_some_and(|click| click.time_ms < horizon) {
            if let Some(click) = self.clicks.pop_front() {
                texts.release(click.item);
                texts.release(click.campaign);
            }
        }
        if self.clicks.is_empty() && self.clicks.capacity() > 0 {
            self.clicks = VecDeque::new();
        }
    }

    /// Decides what a timer of this user stands for; whether a label follows, and which.
    pub(crate) fn fire(
        &mut self,
        timer: Timer,
        context: &Context<'_>,
        timers: &mut Timers,
        texts: &mut Interner,
        label: &mut Label,
    ) -> bool {
        self.decide(timer, context, timers, texts, label).is_some()
    }

    /// `None` where no label follows.
    fn decide(
        &mut self,
        timer: Timer,
        context: &Context<'_>,
        timers: &mut Timers,
        texts: &mut Interner,
        label: &mut Label,
    ) -> Option<()> {
        match timer.rank {
            Rank::ClickWindow => {
                let time_ms = timer.due_ms - context.plan.config.click_window.0;
                let at = self.find(time_ms, timer.offset)?;
                self.match_click(at, context.plan);
                let due_ms = time_ms.saturating_add(context.plan.config.purchase_window.0);
                timers.push(Timer { due_ms, rank: Rank::PurchaseWindow, ..timer });
                write(&mut self.views[at], false, context, texts, label);
                self.next = at as u32 + 1;
                Some(())
            }
            Rank::PurchaseWindow => {
                let time_ms = timer.due_ms - context.plan.config.purchase_window.0;
                let at = self.find(time_ms, timer.offset)?;
                let mut view = self.views.remove(at)?;
                self.next = self.next.saturating_sub(1);
                write(&mut view, true, context, texts, label);
                release(&view, texts);
                if self.views.capacity() > 2 * self.views.len() + 4 {
                    self.views.shrink_to_fit();
                }
                Some(())
            }
            Rank::Purchase => {
                let order = self.take_order(timer.offset)?;
                let written = self.nearest_view(&order, context.plan).and_then(|at| {
                    let view = &mut self.views[at];
                    credit(view, &order, texts);
                    (view.written > 0).then(|| write(view, false, context, texts, label))
                });
                order.release(texts);
                written
            }
            Rank::Refund => {
                let order = self.take_order(timer.offset)?;
                let bought = self.views.iter_mut().filter(|view| view.item == order.item);
                let last = bought
                    .filter_map(|view| view.bought.as_deref_mut())
                    .filter(|bought| bought.last.0 <= order.time_ms)
                    .max_by_key(|bought| bought.last);
                // It stands in the view's next label: at the latest when its window closes.
                if let Some(last) = last.filter(|last| last.currency == order.currency) {
                    last.refunded += order.value;
                }
                order.release(texts);
                None
            }
        }
    }

    fn find(&self, time_ms: i64, offset: i64) -> Option<usize> {
        let is_it = |at: &usize| {
            self.views.get(*at).is_some_and(|view| (view.time_ms, view.offset) == (time_ms, offset))
        };
        if let Some(at) = [0, self.next as usize].into_iter().find(is_it) {
            return Some(at);
        }
        let at = position(&self.views, (time_ms, offset));
        is_it(&at).then_some(at)
    }

    /// Finds the first click that answers the view whose click window closes.
    fn match_click(&mut self, at: usize, plan: &Plan) {
        let (time_ms, id, item, campaign) = {
            let view = &self.views[at];
            (view.time_ms, view.id, view.item, view.campaign)
        };
        let window = plan.config.click_window.0;
        let from = self.clicks.partition_point(|click| click.time_ms < time_ms);
        let mut first = NEVER;
        for index in from..self.clicks.len() {
            let click = &self.clicks[index];
            if click.time_ms > time_ms.saturating_add(window) {
                break;
            }
            let named = click.view != 0 && click.view == id;
            // Only the first answer counts: looking for more would make a busy user's clicks cubic.
            let answers = named
                || (first == NEVER
                    && click.item == item
                    && click.campaign == campaign
                    && (click.view == 0 || !(click.taken || self.is_known(click, window))));
            if answers && first == NEVER {
                first = click.time_ms;
            }
            if named {
                self.clicks[index].taken = true;
            }
        }
        let view = &mut self.views[at];
        view.click_ms = first;
        if let Some(bought) = &mut view.bought {
            for purchase_ms in std::mem::take(&mut bought.undecided_ms) {
                let clicked = first != NEVER && first <= purchase_ms;
                bought.after_click |= clicked;
                bought.after_view |= !clicked;
            }
        }
    }

    /// Whether the view that a click names is here, and within reach of it.
    fn is_known(&self, click: &Click, window: i64) -> bool {
        let from = self.views.partition_point(|view| view.time_ms < click.time_ms.saturating_sub(window));
        self.views
            .range(from..)
            .take_while(|view| view.time_ms <= click.time_ms)
            .any(|view| view.id == click.view)
    }

    fn take_order(&mut self, offset: i64) -> Option<Order> {
        let at = self.orders.iter().position(|order| order.offset == offset)?;
        let order = self.orders.remove(at);
        if self.orders.is_empty() {
            self.orders = Vec::new();
        }
        Some(order)
    }

    fn nearest_view(&self, order: &Order, plan: &Plan) -> Option<usize> {
        let end = self.views.partition_point(|view| view.time_ms <= order.time_ms);
        let oldest = order.time_ms.saturating_sub(plan.config.purchase_window.0);
        let before = self.views.range(..end).enumerate().rev();
        let mut within = before.take_while(|(_, view)| view.time_ms >= oldest);
        within.find(|(_, view)| view.item == order.item).map(|(at, _)| at)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.views.capacity() * size_of::<OpenView>()
            + self.clicks.capacity() * size_of::<Click>()
            + self.orders.capacity() * size_of::<Order>()
    }
}

fn position(views: &VecDeque<OpenView>, key: (i64, i64)) -> usize {
    match views.back() {
        Some(last) if (last.time_ms, last.offset) >= key => {
            views.partition_point(|view| (view.time_ms, view.offset) < key)
        }
        _ => views.len(),
    }
}

fn credit(view: &mut OpenView, order: &Order, texts: &mut Interner) {
    let decided = view.written > 0;
    let clicked = view.click_ms != NEVER && view.click_ms <= order.time_ms;
    let bought = view.bought.get_or_insert_with(|| {
        texts.retain(order.currency);
        Box::new(Bought { first_ms: order.time_ms, currency: order.currency, ..Bought::default() })
    });
    // Money of two currencies does not add up: that of the first purchase counts.
    if bought.currency == order.currency {
        bought.value += order.value;
    }
    bought.first_ms = bought.first_ms.min(order.time_ms);
    bought.last = bought.last.max((order.time_ms, order.offset));
    if decided {
        bought.after_click |= clicked;
        bought.after_view |= !clicked;
    } else {
        bought.undecided_ms.push(order.time_ms);
    }
}

/// Gives back what a view has used.
fn release(view: &OpenView, texts: &mut Interner) {
    texts.release(view.item);
    texts.release(view.campaign);
    if let Some(bought) = &view.bought {
        texts.release(bought.currency);
    }
}

fn write(view: &mut OpenView, matured: bool, context: &Context<'_>, texts: &Interner, label: &mut Label) {
    let clicked = view.click_ms != NEVER;
    let bought = view.bought.as_deref();
    // Into the texts that are there: one label is made over and over, without allocating.
    let fill = |to: &mut String, text: &str| {
        to.clear();
        to.push_str(text);
    };
    fill(&mut label.user, context.user);
    fill(&mut label.item, texts.text(view.item));
    fill(&mut label.campaign, texts.text(view.campaign));
    fill(&mut label.currency, bought.map_or("", |b| texts.text(b.currency)));
    label.place = Place { partition: context.partition, offset: view.offset };
    label.event_time_ms = view.time_ms;
    label.revision = view.written;
    label.clock_ms = context.clock_ms;
    label.clicked = clicked;
    label.click_time_ms = if clicked { view.click_ms } else { 0 };
    label.purchased_after_click = bought.is_some_and(|b| b.after_click);
    label.purchased_after_view = bought.is_some_and(|b| b.after_view);
    label.purchase_time_ms = bought.map_or(0, |b| b.first_ms);
    label.value = bought.map_or(0.0, |b| b.value);
    label.refunded = bought.map_or(0.0, |b| b.refunded);
    label.matured = matured;
    view.written += 1;
}
