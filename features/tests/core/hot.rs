//! A key that takes half of the traffic: what it costs is counted, not timed.

use features::{Config, Core, Out};
use schemas::duration::Millis;
use schemas::{Codec, Control, Entry, Kind, Protobuf};

use crate::cluster::*;
use crate::common::*;
use crate::shared_cases::zipf;

/// Every other event is of one user; items go by Zipf's law. Half of the clicks name a view, of those in the
/// last thousand events. All of it lies within one click window.
fn half_of_one_user(count: usize) -> Vec<Entry> {
    let items = zipf(1.5, 200, count);
    let mut entries = vec![sources()];
    for (index, item) in items.iter().enumerate() {
        let at = START + index as i64 * 30;
        // Of the others each has eight.
        let user = if index % 2 == 0 { "bot".to_owned() } else { format!("u{}", index % (count / 8)) };
        let kind = match index / 2 % 20 {
            0..14 => Kind::View,
            14..18 => Kind::Click,
            18 => Kind::Purchase,
            _ => Kind::Refund,
        };
        let mut new = event(kind, &format!("e{index}"), at, &user, &format!("i{item}"), "c");
        if kind == Kind::Click && index % 4 < 2 {
            // Of the same user, and of the item's or not.
            new.view_id = format!("e{}", index.saturating_sub(2 * (1 + index * 7 % 500)));
        }
        entries.push(entry(new));
        if index % 50 == 0 {
            entries.push(tick(at - LATENESS));
        }
    }
    // Both windows close, with records enough for all that falls due.
    for later in 0..2_000 {
        entries.push(tick(START + 604_800_000 + 3_600_000 + later));
    }
    entries
}

fn looked_at(count: usize) -> u64 {
    let config = Config {
        click_window: Millis(1_800_000),
        purchase_window: Millis(604_800_000),
        exact_events: 64,
        last_n: 16,
        ..config()
    };
    let mut core = Core::new(plan(&config), 3);
    let mut out = Out::default();
    for (offset, entry) in half_of_one_user(count).iter().enumerate() {
        out.records.clear();
        core.step(entry, place(offset), &mut out);
    }
    assert_eq!(core.timers(), 0, "all is decided");
    assert!(core.counts().labels > count as u64 / 2);
    core.counts().looked_at
}

#[test]
fn what_is_looked_at_for_an_event_does_not_grow_with_its_users_events() {
    let counts = [4_000, 8_000, 16_000];
    let looks = counts.map(|count| looked_at(count) as f64 / count as f64);
    assert!(looks.iter().all(|looks| *looks < 20.0), "{looks:?} an event");
    assert!(looks[2] < 1.5 * looks[0], "{looks:?} an event");
}

/// A user's windows are read in blocks of at most so many events and in tiles of which there are at most so
/// many: what a read goes through is what is held, and that is bounded.
#[test]
fn what_a_read_goes_through_does_not_grow_with_a_users_events() {
    let bytes = |count: usize| {
        let mut config = config();
        (config.exact_events, config.last_n) = (256, 20);
        let mut core = Core::new(plan(&config), 3);
        let mut out = Out::default();
        core.step(&sources(), place(0), &mut out);
        for index in 0..count {
            // Views that are decided and gone: no label waits.
            let at = START + index as i64 * 6_000;
            out.records.clear();
            let view = event(Kind::View, "", at, "bot", &format!("i{}", index % 9), "c");
            core.step(&entry(view), place(2 * index + 1), &mut out);
            core.step(&tick(at), place(2 * index + 2), &mut out);
        }
        for later in 0..200 {
            let end = START + count as i64 * 6_000 + 3_700_000;
            core.step(&tick(end + later), place(2 * count + 1 + later as usize), &mut out);
        }
        assert_eq!(core.timers(), 0);
        core.state_bytes()
    };
    // A day and a half, and three days: the longest window is full in both.
    let (some, many) = (bytes(21_500), bytes(43_000));
    assert!(many < some + some / 10, "{some} bytes, then {many}");
}

/// Bytes that the stage after a partition, and every partition after the merge, get to read.
fn exchanged(hot: bool) -> (usize, usize) {
    let config = Config { shared_tile: Millis(60_000), ..Config::default() };
    let mut cluster = Cluster::new(&config);
    cluster.write(&sources());
    let start = START.div_euclid(60_000) * 60_000;
    for (index, rank) in zipf(1.5, 500, 12_000).iter().enumerate() {
        let at = start + index as i64 * 60;
        let item = if hot && index % 2 == 0 { "hot".to_owned() } else { format!("i{rank}") };
        let view = event(Kind::View, &format!("v{index}"), at, &format!("u{}", index % 997), &item, "c");
        cluster.write(&entry(view));
        if index % 100 == 99 {
            cluster.write(&tick(at));
            cluster.take_all();
        }
    }
    cluster.write(&tick(start + 10_000_000));
    cluster.take_all();
    let tiles = cluster.tiles.iter().map(|tiles| Protobuf::to_vec(tiles).len()).sum();
    let versions = cluster.versions.iter().cloned().map(|version| Entry::Control(Control::Entities(version)));
    (tiles, versions.map(|version| Protobuf::to_vec(&version).len()).sum())
}

#[test]
fn a_key_that_takes_half_of_the_traffic_makes_fewer_bytes_and_not_more() {
    let (even, hot) = (exchanged(false), exchanged(true));
    assert!(hot.0 < even.0 && hot.1 < even.1, "tiles and versions: {hot:?} bytes, without it {even:?}");
    assert!(hot.0 / 12_000 < 60, "{} bytes of tiles an event", hot.0 / 12_000);
}
