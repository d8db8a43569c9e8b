//! What is hard about labels: answers that come before their views, nearer views that come later, ties of
//! all sorts, orders of several lines, refunds, two currencies, and what comes behind the clock.

use std::ops::Range;

use features::{Config, Core, Out};
use proptest::prelude::*;
use schemas::duration::Millis;
use schemas::{Entry, Event, Kind, Label};

use crate::common::*;
use crate::labels::{by_view, expected, finish, last_of, plain};

/// Times lie on a grid, so that most of them tie and many windows end on one.
const GRID: i64 = 500;
const CLICK_WINDOW: i64 = 10_000;
const PURCHASE_WINDOW: i64 = 30_000;

/// Windows that are shorter than lateness: what belongs to one arrives before, in and after another.
fn short(timers_per_record: usize) -> Config {
    Config {
        click_window: Millis(CLICK_WINDOW),
        purchase_window: Millis(PURCHASE_WINDOW),
        timers_per_record,
        ..config()
    }
}

/// What happened, and when it was heard of.
#[derive(Debug, Clone)]
struct Fact {
    kind: Kind,
    user: u8,
    item: u8,
    campaign: u8,
    /// When, and how much later it arrives, in steps of [`GRID`].
    at: i64,
    delay: i64,
    /// For an answer: which of the views it names, whenever and wherever that happens.
    names: Option<u8>,
    dollars: bool,
    value: u16,
    /// Lines of an order, each an event of its own.
    lines: u32,
    /// Steps after which it arrives once more.
    again: Option<i64>,
}

fn facts(most_delay: i64, counts: Range<usize>) -> impl Strategy<Value = Vec<Fact>> {
    let kind = prop_oneof![
        4 => Just(Kind::View), 3 => Just(Kind::Click), 1 => Just(Kind::Cart),
        3 => Just(Kind::Purchase), 2 => Just(Kind::Refund),
    ];
    let about = (0..2_u8, 0..2_u8, 0..2_u8);
    let when = (0..120_i64, 0..=most_delay, proptest::option::weighted(0.1, 0..8_i64));
    let of = (proptest::option::of(any::<u8>()), any::<bool>(), 0..40_u16, 1..4_u32);
    let fact = (kind, about, when, of).prop_map(
        |(kind, (user, item, campaign), (at, delay, again), (names, dollars, value, lines))| Fact {
            kind,
            user,
            item,
            campaign,
            at,
            delay,
            names,
            dollars,
            value,
            lines,
            again,
        },
    );
    proptest::collection::vec(fact, counts)
}

/// The facts in the order in which they arrive, with a clock that trusts in the lateness.
fn arrived(facts: &[Fact]) -> Vec<Entry> {
    let views: Vec<usize> = (0..facts.len()).filter(|at| facts[*at].kind == Kind::View).collect();
    let mut arrivals: Vec<(i64, Event)> = Vec::new();
    for (index, fact) in facts.iter().enumerate() {
        let is_order = matches!(fact.kind, Kind::Purchase | Kind::Refund);
        let lines = if is_order { fact.lines } else { 1 };
        for line in 0..lines {
            let time_ms = START + fact.at * GRID;
            // A line of an order may be of another item than the one before.
            let item = (u32::from(fact.item) + line * u32::from(fact.value % 2)) % 2;
            let campaign = ["c", ""][usize::from(fact.campaign)];
            let (id, user) = (format!("e{index}"), format!("u{}", fact.user));
            let mut new = event(fact.kind, &id, time_ms, &user, &format!("i{item}"), campaign);
            (new.origin.line, new.origin.lines) = (line, lines);
            if new.value > 0.0 {
                new.value = f64::from(fact.value) / 4.0;
            }
            if fact.dollars && is_order {
                new.currency = "USD".into();
            }
            if let (true, Some(names)) = (fact.kind.is_click(), fact.names) {
                let view = views.get(usize::from(names) % (views.len() + 1));
                new.view_id = view.map_or("nowhere".into(), |view| format!("e{view}"));
            }
            let arrives = time_ms + (fact.delay * GRID + i64::from(line) * GRID).min(LATENESS);
            if let Some(again) = fact.again {
                arrivals.push(((arrives + again * GRID).min(time_ms + LATENESS), new.clone()));
            }
            arrivals.push((arrives, new));
        }
    }
    arrivals.sort_by_key(|(arrives, _)| *arrives);
    let mut entries = vec![sources()];
    for (arrives, event) in arrivals {
        entries.push(entry(event));
        entries.push(tick(arrives - LATENESS));
    }
    finish(&mut entries);
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// In whatever order things arrive within the lateness, and however few decisions a record allows.
    #[test]
    fn hard_cases_are_decided_as_by_a_list_of_all(
        facts in facts(LATENESS / GRID, 1..70), timers_per_record in prop_oneof![Just(3_usize), Just(256)],
    ) {
        let config = short(timers_per_record);
        let mut entries = arrived(&facts);
        (0..5).for_each(|_| finish(&mut entries));
        let outputs = run(&mut Core::new(plan(&config), 3), &entries);
        let (kept, repeats) = without_repeats(&entries, config.dedupe_horizon.0);
        prop_assert_eq!(duplicates(&outputs).len(), repeats.len());
        let want = expected(&config, &kept);
        let got = by_view(&config, &labels(&outputs));
        prop_assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
        for (offset, labels) in &got {
            let last = labels.last().unwrap();
            prop_assert!(last.matured);
            prop_assert_eq!(plain(last), want[offset].clone());
        }
    }

    /// Behind the clock, as what an idle source had: nothing that was decided is taken back, and every view
    /// comes to its end.
    #[test]
    fn what_comes_behind_the_clock_takes_nothing_back(facts in facts(LATENESS / GRID, 1..70), late in any::<u64>()) {
        let config = short(256);
        let mut entries = arrived(&facts);
        let end = entries.len() - 20;
        // Some come a little later, some when all is decided of the time that they are of.
        for at in (1..end).rev().filter(|at| late >> (at % 61) & 1 == 1) {
            let moved = entries.remove(at);
            let to = at + (late >> (at % 53)) as usize % 50;
            entries.insert(to.min(entries.len()), moved);
        }
        finish(&mut entries);
        finish(&mut entries);
        let mut core = Core::new(plan(&config), 3);
        let outputs = run(&mut core, &entries);
        let (kept, _) = without_repeats(&entries, i64::MAX);
        let got = by_view(&config, &labels(&outputs));
        let views = kept.iter().filter(|(_, event)| event.kind == Kind::View as i32);
        for (offset, _) in views {
            let labels = &got[&(*offset as i64)];
            prop_assert!(labels.last().unwrap().matured);
            for pair in labels.windows(2) {
                let (was, is) = (&pair[0], &pair[1]);
                prop_assert!(was.purchased_after_click <= is.purchased_after_click);
                prop_assert!(was.purchased_after_view <= is.purchased_after_view);
                prop_assert!(was.refunded <= is.refunded && was.value <= is.value);
            }
        }
        prop_assert_eq!(core.timers(), 0);
    }
}

proptest! {
    // Each case goes through all views for every click, and again for every view.
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A user with so many clicks and open views that they are found by indexes; a restart forgets these.
    #[test]
    fn a_busy_users_labels_are_the_same_by_an_index_and_without(
        facts in facts(LATENESS / GRID, 450..600), every in 1..90_usize,
    ) {
        let config = Config { click_window: Millis(30_000), purchase_window: Millis(70_000), ..short(256) };
        let facts: Vec<Fact> = facts.into_iter().map(|fact| Fact { user: 0, ..fact }).collect();
        let entries = arrived(&facts);
        let plan = plan(&config);
        let (mut straight, mut restarted) = (Core::new(plan.clone(), 3), Core::new(plan.clone(), 3));
        let (mut out, mut other) = (Out::default(), Out::default());
        for (offset, entry) in entries.iter().enumerate() {
            straight.step(entry, place(offset), &mut out);
            restarted.step(entry, place(offset), &mut other);
            if offset % every == 0 {
                let bytes = restarted.snapshot();
                prop_assert!(bytes == straight.snapshot(), "one state, one snapshot, at {}", offset);
                restarted = Core::restore(plan.clone(), 3, &bytes).unwrap();
            }
        }
        prop_assert_eq!(&out, &other);
        let (kept, repeats) = without_repeats(&entries, config.dedupe_horizon.0);
        prop_assert_eq!(duplicates(&out.records).len(), repeats.len());
        let want = expected(&config, &kept);
        let got = by_view(&config, &labels(&out.records));
        prop_assert_eq!(got.len(), want.len());
        for (offset, labels) in &got {
            prop_assert_eq!(plain(labels.last().unwrap()), want[offset].clone());
        }
    }
}

/// The last label of the first view of these events, which arrive in this order.
fn label_of(events: &[Event]) -> Label {
    let mut entries = vec![sources()];
    entries.extend(events.iter().cloned().map(entry));
    finish(&mut entries);
    let outputs = run(&mut Core::new(plan(&config()), 3), &entries);
    let first = events.iter().position(|event| event.kind == Kind::View as i32).unwrap();
    last_of(&outputs, 1 + first)
}

fn at(kind: Kind, id: &str, after_ms: i64) -> Event {
    event(kind, id, START + after_ms, "u", "i", "c")
}

#[test]
fn both_ends_of_a_click_window_belong_to_it() {
    let window = config().click_window.0;
    for (after_ms, counts) in [(-1, false), (0, true), (window, true), (window + 1, false)] {
        let click = at(Kind::Click, "c", after_ms);
        let orders = [[at(Kind::View, "v", 0), click.clone()], [click, at(Kind::View, "v", 0)]];
        for events in orders {
            assert_eq!(label_of(&events).clicked, counts, "{after_ms} ms after the view");
        }
    }
}

#[test]
fn both_ends_of_a_purchase_window_belong_to_it() {
    let window = config().purchase_window.0;
    for (after_ms, counts) in [(-1, false), (0, true), (window, true), (window + 1, false)] {
        let label = label_of(&[at(Kind::View, "v", 0), at(Kind::Purchase, "p", after_ms)]);
        assert_eq!(label.purchased_after_view, counts, "{after_ms} ms after the view");
    }
}

#[test]
fn of_two_views_at_one_instant_the_one_that_stands_later_in_the_log_is_the_nearer() {
    let views = [at(Kind::View, "v1", 0), at(Kind::View, "v2", 0)];
    let purchase = at(Kind::Purchase, "p", 0);
    let orders = [
        [views[0].clone(), views[1].clone(), purchase.clone()],
        [purchase.clone(), views[0].clone(), views[1].clone()],
        [views[0].clone(), purchase, views[1].clone()],
    ];
    for events in orders {
        assert!(!label_of(&events).purchased_after_view);
    }
}

#[test]
fn a_click_at_the_instant_of_the_purchase_comes_before_it() {
    let label =
        label_of(&[at(Kind::View, "v", 0), at(Kind::Purchase, "p", 9_000), at(Kind::Click, "c", 9_000)]);
    assert!(label.purchased_after_click && !label.purchased_after_view);
    let label =
        label_of(&[at(Kind::View, "v", 0), at(Kind::Purchase, "p", 8_999), at(Kind::Click, "c", 9_000)]);
    assert!(label.clicked && label.purchased_after_view && !label.purchased_after_click);
}

#[test]
fn a_refund_before_its_purchase_or_in_other_money_counts_nowhere() {
    let bought = [at(Kind::View, "v", 0), at(Kind::Purchase, "p", 5_000)];
    let refunded = |refund: Event| {
        let label = label_of(&[bought[0].clone(), bought[1].clone(), refund]);
        (label.value.to_bits() == 2.5_f64.to_bits(), label.refunded > 0.0)
    };
    assert_eq!(refunded(at(Kind::Refund, "r", 5_000)), (true, true), "at the instant of the purchase");
    assert_eq!(refunded(at(Kind::Refund, "r", 4_999)), (true, false));
    let dollars = Event { currency: "USD".into(), ..at(Kind::Refund, "r", 6_000) };
    assert_eq!(refunded(dollars), (true, false));
    let other = Event { item: "other".into(), ..at(Kind::Refund, "r", 6_000) };
    assert_eq!(refunded(other), (true, false));
}

#[test]
fn money_is_that_of_the_first_purchase_by_event_time() {
    let euros = at(Kind::Purchase, "p1", 5_000);
    let dollars = Event { currency: "USD".into(), value: 100.0, ..at(Kind::Purchase, "p2", 4_000) };
    let label = label_of(&[at(Kind::View, "v", 0), euros, dollars]);
    assert_eq!((label.value, label.currency.as_str()), (100.0, "USD"));
    assert_eq!(label.purchase_time_ms, START + 4_000);
}
