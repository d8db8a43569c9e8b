//! Labels against a list of all events, and what the clock, ties and lateness may do to them.

use std::collections::BTreeMap;

use features::{Config, Core};
use proptest::prelude::*;
use schemas::{Entry, Event, Kind, Label};

use crate::common::*;

/// The last label of every view, the slow way. `None` for the revision and the clock.
pub(crate) fn expected(config: &Config, kept: &[(usize, Event)]) -> BTreeMap<i64, Label> {
    let (click_window, purchase_window) = (config.click_window.0, config.purchase_window.0);
    let of = |kinds: &'static [Kind]| kept.iter().filter(move |(_, e)| kinds.contains(&e.kind_or_unknown()));
    let views: Vec<_> = of(&[Kind::View]).collect();
    let mut labels: BTreeMap<i64, Label> = BTreeMap::new();
    for (offset, view) in &views {
        let in_reach = |v: &Event, c: &Event| {
            v.user == c.user
                && c.event_time_ms >= v.event_time_ms
                && c.event_time_ms - v.event_time_ms <= click_window
        };
        let clicks = of(&[Kind::Click, Kind::Cart]).map(|(_, c)| c).filter(|c| in_reach(view, c));
        let click = clicks
            .filter(|c| {
                let names = |v: &Event| !c.view_id.is_empty() && v.event_id == c.view_id;
                let elsewhere = views.iter().any(|(_, v)| names(v) && in_reach(v, c));
                names(view) || (!elsewhere && c.item == view.item && c.campaign == view.campaign)
            })
            .map(|c| c.event_time_ms)
            .min();
        let label = Label {
            place: place(*offset),
            event_time_ms: view.event_time_ms,
            user: view.user.clone(),
            item: view.item.clone(),
            campaign: view.campaign.clone(),
            clicked: click.is_some(),
            click_time_ms: click.unwrap_or(0),
            matured: true,
            ..Label::default()
        };
        labels.insert(*offset as i64, label);
    }
    let mut orders: Vec<_> = of(&[Kind::Purchase, Kind::Refund]).collect();
    orders.sort_by_key(|(offset, e)| (e.event_time_ms, e.kind, *offset));
    // (time, offset) of the last purchase credited to a view.
    let mut last: BTreeMap<i64, (i64, usize)> = BTreeMap::new();
    for (offset, order) in orders {
        let open = views.iter().filter(|(_, v)| {
            let age = order.event_time_ms - v.event_time_ms;
            v.user == order.user && v.item == order.item && age >= 0 && age <= purchase_window
        });
        if order.kind == Kind::Purchase as i32 {
            let nearest = open.max_by_key(|(offset, v)| (v.event_time_ms, *offset));
            let Some((view, _)) = nearest else { continue };
            last.insert(*view as i64, (order.event_time_ms, *offset));
            let label = labels.get_mut(&(*view as i64)).unwrap();
            let clicked = label.clicked && label.click_time_ms <= order.event_time_ms;
            label.purchased_after_click |= clicked;
            label.purchased_after_view |= !clicked;
            if label.purchase_time_ms == 0 {
                label.purchase_time_ms = order.event_time_ms;
                label.currency.clone_from(&order.currency);
            }
            // Money of two currencies does not add up.
            label.value += if label.currency == order.currency { order.value } else { 0.0 };
        } else {
            let bought = open.filter_map(|(v, _)| Some((*last.get(&(*v as i64))?, *v as i64))).max();
            if let Some((_, view)) = bought {
                let label = labels.get_mut(&view).unwrap();
                label.refunded += if label.currency == order.currency { order.value } else { 0.0 };
            }
        }
    }
    labels
}

pub(crate) fn plain(label: &Label) -> Label {
    Label { revision: 0, clock_ms: 0, ..label.clone() }
}

/// The labels of each view, in order, checked for what holds of any.
pub(crate) fn by_view(config: &Config, written: &[&Label]) -> BTreeMap<i64, Vec<Label>> {
    let mut by_view: BTreeMap<i64, Vec<Label>> = BTreeMap::new();
    for label in written {
        by_view.entry(label.place.offset).or_default().push((*label).clone());
    }
    for labels in by_view.values() {
        for (revision, label) in labels.iter().enumerate() {
            assert_eq!(label.revision as usize, revision);
            assert!(label.clock_ms > label.event_time_ms + config.click_window.0, "before the click window");
            assert_eq!(
                (label.clicked, label.click_time_ms),
                (labels[0].clicked, labels[0].click_time_ms),
                "the click is final"
            );
            let last = revision + 1 == labels.len();
            assert!(last || !label.matured, "nothing follows the closing of the purchase window");
            assert!(
                !label.matured || label.clock_ms > label.event_time_ms + config.purchase_window.0,
                "matured before the purchase window"
            );
        }
    }
    by_view
}

/// Moves the clock past everything, with records enough for all timers.
pub(crate) fn finish(entries: &mut Vec<Entry>) {
    let last =
        entries.iter().filter_map(|e| if let Entry::Event(e) = e { Some(e.event_time_ms) } else { None });
    let end = last.max().unwrap_or(START) + 3_600_001;
    for step in 0..20 {
        entries.push(tick(end + 10_000 + step));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn labels_are_the_oracles(moves in moves(120)) {
        let config = config();
        let mut entries = stream(&moves);
        finish(&mut entries);
        let outputs = run(&mut Core::new(plan(&config), 3), &entries);
        let (kept, _) = without_repeats(&entries, config.dedupe_horizon.0);
        let want = expected(&config, &kept);
        let got = by_view(&config, &labels(&outputs));
        prop_assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
        for (offset, labels) in &got {
            let last = labels.last().unwrap();
            prop_assert!(last.matured);
            prop_assert_eq!(plain(last), want[offset].clone());
        }
    }

    #[test]
    fn labels_do_not_depend_on_the_order_of_arrival(moves in moves(100), seed in any::<u64>()) {
        let config = config();
        // One millisecond apart: a tie is decided by place, and place is what changes here.
        let mut entries = stream(&moves);
        let mut ids = std::collections::BTreeSet::new();
        for (index, entry) in entries.iter_mut().enumerate() {
            match entry {
                Entry::Event(event) => {
                    event.event_time_ms = event.event_time_ms / 1_000 * 1_000 + index as i64;
                    if !ids.insert(event.event_id.clone()) {
                        event.event_id = format!("again{index}");
                    }
                }
                Entry::Control(schemas::Control::Ticks(ticks)) => ticks.ticks[0].watermark_ms -= 1_000,
                Entry::Control(_) => {}
            }
        }
        // Where the clock stands now, all that is in time has arrived: shuffle between ticks.
        let mut shuffled = entries.clone();
        let mut state = seed | 1;
        let bounds: Vec<usize> = (0..=entries.len())
            .filter(|&at| at == entries.len() || matches!(entries[at], Entry::Control(_))).collect();
        for pair in bounds.windows(2) {
            for at in (pair[0] + 2..pair[1]).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let span = at - pair[0];
                shuffled.swap(at, pair[0] + 1 + (state >> 33) as usize % span);
            }
        }
        finish(&mut entries);
        finish(&mut shuffled);
        let last = |entries: &[Entry]| {
            let outputs = run(&mut Core::new(plan(&config), 3), entries);
            let mut last = BTreeMap::new();
            for labels in by_view(&config, &labels(&outputs)).into_values() {
                let label = labels.last().unwrap();
                let Entry::Event(event) = &entries[label.place.offset as usize] else { unreachable!() };
                let mut label = plain(label);
                label.place = place(0);
                last.insert(event.event_id.clone(), label);
            }
            last
        };
        prop_assert_eq!(last(&entries), last(&shuffled));
    }
}

pub(crate) fn last_of(outputs: &[features::Output], offset: usize) -> Label {
    (*labels(outputs).iter().rfind(|l| l.place == place(offset)).unwrap()).clone()
}

#[test]
fn a_click_may_come_before_its_view() {
    let config = config();
    let mut click = event(Kind::Click, "c1", START + 5_000, "u", "elsewhere", "");
    click.view_id = "v1".into();
    let mut entries = vec![
        sources(),
        entry(click),
        entry(event(Kind::View, "v1", START, "u", "i", "c")),
        tick(START + 60_000),
    ];
    let mut core = Core::new(plan(&config), 3);
    assert!(labels(&run(&mut core, &entries)).is_empty(), "a click at the very end could still come");
    entries.push(tick(START + 60_001));
    let outputs = run(&mut Core::new(plan(&config), 3), &entries);
    let label = last_of(&outputs, 2);
    assert!(label.clicked && !label.matured);
    assert_eq!(label.click_time_ms, START + 5_000);
    assert_eq!(label.clock_ms, START + 60_001);
}

#[test]
fn a_purchase_goes_to_the_nearer_view_that_arrives_later() {
    let config = config();
    let entries = [
        sources(),
        entry(event(Kind::View, "v1", START, "u", "i", "c")),
        entry(event(Kind::Purchase, "p1", START + 10_000, "u", "i", "")),
        entry(event(Kind::View, "v2", START + 8_000, "u", "i", "d")),
        tick(START + 70_000),
        tick(START + 4_000_000),
    ];
    let outputs = run(&mut Core::new(plan(&config), 3), &entries);
    assert!(!last_of(&outputs, 1).purchased_after_view);
    let label = last_of(&outputs, 3);
    assert!(label.purchased_after_view && !label.purchased_after_click && label.matured);
    assert_eq!((label.value, label.currency.as_str()), (2.5, "EUR"));
}

#[test]
fn each_line_of_an_order_finds_its_own_view() {
    let config = config();
    let line = |n: u32, item: &str| {
        let mut line = event(Kind::Purchase, "order", START + 5_000, "u", item, "");
        line.origin.line = n;
        line.origin.lines = 2;
        entry(line)
    };
    let entries = [
        sources(),
        entry(event(Kind::View, "v1", START, "u", "a", "c")),
        entry(event(Kind::View, "v2", START, "u", "b", "c")),
        line(0, "a"),
        line(1, "b"),
        line(1, "b"),
        entry(event(Kind::Refund, "r", START + 9_000, "u", "b", "")),
        tick(START + 4_000_000),
    ];
    let outputs = run(&mut Core::new(plan(&config), 3), &entries);
    assert_eq!(duplicates(&outputs).len(), 1, "the repeated line only");
    assert_eq!((last_of(&outputs, 1).value, last_of(&outputs, 1).refunded), (2.5, 0.0));
    assert_eq!((last_of(&outputs, 2).value, last_of(&outputs, 2).refunded), (2.5, 2.5));
}

#[test]
fn an_event_behind_the_clock_makes_its_vector_and_changes_nothing_closed() {
    let config = config();
    let entries = [
        sources(),
        tick(START),
        entry(event(Kind::View, "v1", START + 1_000, "u", "i", "c")),
        tick(START + 200_000),
        // Of a source that was idle.
        entry(event(Kind::Click, "c1", START + 2_000, "u", "i", "c")),
        entry(event(Kind::View, "v2", START + 3_000, "u", "i", "c")),
        tick(START + 4_000_000),
    ];
    let mut core = Core::new(plan(&config), 3);
    let outputs = run(&mut core, &entries);
    assert_eq!(vectors(&outputs).len(), 2);
    assert!(!last_of(&outputs, 2).clicked, "its click window had closed");
    assert_eq!(core.counts().behind_clock, 2);
    let clicks = core.plan().vector_schema().position("user_clicks_10s").unwrap();
    assert_eq!(vectors(&outputs)[1].numbers().nth(clicks), Some(1.0), "the user was updated");
}

#[test]
fn due_timers_fire_a_bounded_number_at_a_time_and_all_in_the_end() {
    let mut config = config();
    config.timers_per_record = 10;
    let mut core = Core::new(plan(&config), 3);
    let mut out = features::Out::default();
    core.step(&sources(), place(0), &mut out);
    for n in 1..=95 {
        let view = event(Kind::View, &format!("v{n}"), START - n as i64, &format!("u{}", n % 7), "i", "c");
        core.step(&entry(view), place(n), &mut out);
    }
    out.records.clear();
    let mut written = 0;
    for n in 0..40 {
        core.step(&tick(START + 100_000_000 + n), place(100 + n as usize), &mut out);
        assert!(labels(&out.records).len() <= 10);
        written += labels(&out.records).len();
        out.records.clear();
    }
    assert_eq!((written, core.timers()), (2 * 95, 0));
}
