//! Users leave the state when the longest window has passed them: nothing that comes out tells when, and
//! ever new ones do not make it grow.

use features::{Config, Core, Out, Window};
use proptest::prelude::*;
use schemas::duration::Millis;
use schemas::{Control, Entry, Kind};

use crate::common::*;
use crate::labels;
use crate::windows::check_exact;

const DAY: i64 = 86_400_000;

/// The stream of these moves, where all are away for days before each of the long gaps. Half of the users
/// come back, the others are new.
fn with_absences(moves: &[Move]) -> Vec<Entry> {
    let (mut absent_ms, mut absences) = (0, 0);
    let mut before_ms = START;
    let mut entries = stream(moves);
    for entry in &mut entries {
        match entry {
            Entry::Event(event) => {
                if event.event_time_ms - before_ms > 1_000_000 {
                    absences += 1;
                    // About as long as the longest window, or longer.
                    absent_ms += [DAY - 1_000_000, 2 * DAY, 1][absences % 3];
                }
                before_ms = before_ms.max(event.event_time_ms);
                event.event_time_ms += absent_ms;
                if event.user != "u0" {
                    event.user = format!("{}-{}", event.user, absences / 2);
                }
            }
            Entry::Control(Control::Ticks(ticks)) => ticks.ticks[0].watermark_ms += absent_ms,
            Entry::Control(_) => {}
        }
    }
    // Late ones that an absence has set apart from what they were late behind.
    let mut clock_ms = i64::MIN;
    entries.retain(|entry| match entry {
        Entry::Event(event) => event.event_time_ms >= clock_ms,
        Entry::Control(Control::Ticks(ticks)) => {
            clock_ms = clock_ms.max(ticks.ticks[0].watermark_ms);
            true
        }
        Entry::Control(_) => true,
    });
    entries
}

/// Few exact events, so that tiles are swept, too.
fn tiled() -> Config {
    Config { exact_events: 64, last_n: 16, dedupe_events: 8, ..config() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Against oracles that forget nothing.
    #[test]
    fn who_comes_back_is_known_as_far_as_windows_reach(moves in moves(120)) {
        let config = config();
        let mut entries = with_absences(&moves);
        check_exact(&config, &entries);
        labels::finish(&mut entries);
        let outputs = run(&mut Core::new(plan(&config), 3), &entries);
        let (kept, _) = without_repeats(&entries, config.dedupe_horizon.0);
        let want = labels::expected(&config, &kept);
        let got = labels::by_view(&config, &crate::common::labels(&outputs));
        prop_assert_eq!(got.len(), want.len());
        for (offset, labels) in &got {
            prop_assert_eq!(labels::plain(labels.last().unwrap()), want[offset].clone());
        }
    }

    /// Records that say nothing new move the sweep, and nothing else: one core sweeps a little with each
    /// record, the other all that there is.
    #[test]
    fn no_output_tells_when_a_user_was_swept(moves in moves(160), is_tiled in any::<bool>()) {
        let config = if is_tiled { tiled() } else { config() };
        let plan = plan(&config);
        let (mut slow, mut thorough) = (Core::new(plan.clone(), 3), Core::new(plan, 3));
        let mut last_tick = None;
        for (offset, entry) in with_absences(&moves).iter().enumerate() {
            let (mut a, mut b) = (Out::default(), Out::default());
            slow.step(entry, place(offset), &mut a);
            thorough.step(entry, place(offset), &mut b);
            prop_assert_eq!(a, b, "at {}", offset);
            if matches!(entry, Entry::Control(Control::Ticks(_))) {
                last_tick = Some(entry.clone());
            }
            for entry in last_tick.iter().cycle().take(thorough.users().div_ceil(2)) {
                let mut nothing = Out::default();
                thorough.step(entry, place(offset), &mut nothing);
                prop_assert!(nothing.records.is_empty());
            }
            prop_assert!(thorough.users() <= slow.users() && thorough.texts() <= slow.texts());
        }
    }
}

/// A name as ingest makes it.
fn name(number: usize) -> String {
    format!("k1-{:032x}", (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn month() -> Config {
    let windows = ["1h", "1d", "30d"].map(|window| Window::parse(window).unwrap()).to_vec();
    let mut config = Config { windows, purchase_window: Millis(7 * DAY), ..config() };
    config.dedupe_horizon = Millis(3_600_000);
    config.click_window = Millis(1_800_000);
    config
}

#[test]
fn a_year_of_ever_new_users_takes_the_memory_of_a_month() {
    const PER_DAY: usize = 200;
    let mut core = Core::new(plan(&month()), 3);
    let mut out = Out::default();
    core.step(&sources(), place(0), &mut out);
    let mut after_a_quarter = (0, 0);
    for number in 0..365 * PER_DAY {
        let at_ms = START + number as i64 * (DAY / PER_DAY as i64);
        let kind = [Kind::View, Kind::View, Kind::Click, Kind::Purchase][number % 4];
        // Nothing comes twice, neither user nor item nor campaign.
        let (item, campaign) = (format!("item-{number}"), format!("campaign-{number}"));
        let new = event(kind, &format!("e{number}"), at_ms, &name(number), &item, &campaign);
        core.step(&entry(new), place(2 * number), &mut out);
        if number % 10 == 0 {
            core.step(&tick(at_ms - LATENESS), place(2 * number + 1), &mut out);
        }
        out.records.clear();
        if number % 1_000 == 0 {
            let alive = 30 * PER_DAY;
            assert!(core.users() < alive * 3 / 2 + 64, "{} users on day {}", core.users(), number / PER_DAY);
            assert!(core.texts() < 3 * core.users() + 64, "{} texts of {}", core.texts(), core.users());
        }
        if number == 90 * PER_DAY {
            after_a_quarter = (core.state_bytes(), core.snapshot().len());
        }
    }
    let (bytes, snapshot) = after_a_quarter;
    assert!(core.state_bytes() < bytes * 5 / 4, "{} bytes, {bytes} after a quarter", core.state_bytes());
    assert!(core.snapshot().len() < snapshot * 5 / 4, "{} bytes written", core.snapshot().len());
}

#[test]
fn a_crowd_leaves_though_nothing_but_ticks_comes() {
    const CROWD: usize = 5_000;
    let mut core = Core::new(plan(&month()), 3);
    let mut out = Out::default();
    core.step(&sources(), place(0), &mut out);
    for number in 0..CROWD {
        let new = event(Kind::View, "", START + number as i64, &name(number), "i", "c");
        core.step(&entry(new), place(number), &mut out);
    }
    assert_eq!(core.users(), CROWD);
    core.step(&tick(START + 30 * DAY), place(CROWD), &mut out);
    let ticks = 2 * CROWD / 64;
    for late in 1..=ticks {
        core.step(&tick(START + 31 * DAY + late as i64 * 1_000), place(CROWD + late), &mut out);
    }
    assert_eq!((core.users(), core.texts(), core.timers()), (0, 0, 0), "after {ticks} ticks");
}
