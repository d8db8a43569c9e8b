//! What is said of a change of the declarations, against what the two of them make of the same log.

use std::collections::{BTreeMap, BTreeSet};

use features::{Changes, Column, Config, Core, EntityConfig, Fate, Made, Out, Output, Part, Plan, Window};
use proptest::prelude::*;
use schemas::duration::Millis;
use schemas::{Entry, Event, FeatureVector, Kind};

use crate::common::*;
use crate::summaries::{everything, with_texts};

const H: i64 = 3_600_000;

fn between(old: &Config, new: &Config) -> Changes {
    Changes::between(Some(&Plan::compile(old).unwrap()), &Plan::compile(new).unwrap())
}

fn names(changes: &Changes, fate: Fate) -> Vec<&str> {
    let of = changes.columns.iter().filter(|change| change.fate == fate);
    of.map(|change| change.column.field.name.as_str()).collect()
}

fn fate_of(changes: &Changes, part: Part) -> Option<Fate> {
    changes.state.iter().find(|state| state.part == part).map(|state| state.fate)
}

fn reads_back(changes: &Changes, name: &str) -> Option<Millis> {
    changes.columns.iter().find(|change| change.column.field.name == name).unwrap().reads_back
}

/// Turns the declarations of an entity off, each that has its bit set.
fn without(entity: &mut EntityConfig, off: u32) {
    let lists = [
        &mut entity.count,
        &mut entity.sum,
        &mut entity.mean,
        &mut entity.seconds_since,
        &mut entity.min,
        &mut entity.max,
        &mut entity.variance,
        &mut entity.first,
        &mut entity.last,
        &mut entity.mean_gap,
        &mut entity.decayed,
        &mut entity.trend,
        &mut entity.distinct,
        &mut entity.quantile,
        &mut entity.top,
    ];
    let count = lists.len();
    lists.into_iter().enumerate().filter(|(at, _)| off >> at & 1 == 1).for_each(|(_, list)| list.clear());
    entity.rate &= off >> count & 1 == 0;
}

/// Some of everything that can be declared of users.
pub(crate) fn declared() -> impl Strategy<Value = Config> {
    let entities = proptest::collection::vec(any::<u32>(), 6);
    let other = (0..3_u8, 0..2_u8, 0..2_u8, prop_oneof![Just(0_usize), Just(20)], any::<bool>());
    (entities, other).prop_map(|(off, (windows, prior, bound, last_n, longer))| {
        let mut config = everything();
        for (off, (name, entity)) in off.iter().zip(&mut config.entities) {
            without(entity, *off);
            entity.rate_prior = [0.02, 0.3][usize::from(prior)];
            if name != "user" && entity.rate && *off & 1 << 20 > 0 {
                entity.rate_parent = "user".into();
            }
            // Trends name 10s, 1h and 1d.
            match windows {
                0 => {}
                1 => entity.windows.retain(|window| window.to_string() != "session:2m"),
                _ => entity.windows.push(Window::parse("2h").unwrap()),
            }
        }
        config.filters.get_mut("dear").unwrap().min = Some([4.0, 5.0][usize::from(bound)]);
        config.last_n = last_n;
        if longer {
            config.windows = vec![Window::parse("2d").unwrap()];
        }
        config
    })
}

/// The same, and how one thing is changed in it.
fn edited() -> impl Strategy<Value = (Config, Config)> {
    (declared(), 0..6_usize, 0..16_u32, any::<bool>()).prop_map(|(config, entity, off, prior)| {
        let mut other = config.clone();
        let entity = other.entities.values_mut().nth(entity).unwrap();
        if prior {
            entity.rate_prior = 0.7;
        } else {
            without(entity, 1 << off);
        }
        (config, other)
    })
}

fn folded(config: &Config, entries: &[Entry]) -> (Core, BTreeMap<i64, FeatureVector>) {
    let mut core = Core::new(plan(config), 3);
    let outputs = run(&mut core, entries);
    let vectors = vectors(&outputs).into_iter().map(|vector| (vector.place.offset, vector.clone())).collect();
    (core, vectors)
}

/// The bits of a vector's numbers.
fn bits(vector: &FeatureVector) -> Vec<u32> {
    vector.numbers().map(f32::to_bits).collect()
}

/// What one set of declarations makes of a log up to an offset, and what another, which goes on from its
/// snapshot, makes of the rest.
fn going_over(old: &Config, new: &Config, entries: &[Entry], at: usize) -> (Vec<Output>, Vec<Output>) {
    let fold = |core: &mut Core, offsets: std::ops::Range<usize>| {
        let mut out = Out::default();
        offsets.for_each(|offset| core.step(&entries[offset], place(offset), &mut out));
        out.records
    };
    let mut core = Core::new(plan(old), 3);
    let before = fold(&mut core, 0..at);
    let mut core = Core::restore(plan(new), 3, &core.snapshot()).unwrap();
    let after = fold(&mut core, at..entries.len());
    (before, after)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_number_is_named_once_and_the_way_back_mirrors_it(old in declared(), new in declared()) {
        let (there, back) = (between(&old, &new), between(&new, &old));
        let columns = |config: &Config| -> Vec<String> {
            Plan::compile(config).unwrap().vector_schema().fields.into_iter().map(|field| field.name).collect()
        };
        let is_new: Vec<_> = there.columns.iter().filter(|change| change.fate != Fate::Removed).collect();
        let named: Vec<_> = is_new.iter().map(|change| change.column.field.name.clone()).collect();
        prop_assert_eq!(named, columns(&new));
        let mut of_old = [names(&there, Fate::Kept), names(&there, Fate::Changed), names(&there, Fate::Removed)].concat();
        let mut want = columns(&old);
        of_old.sort_unstable();
        want.sort_unstable();
        prop_assert_eq!(of_old, want);
        let sorted = |mut names: Vec<&str>| { names.sort_unstable(); names.join(" ") };
        for (fate, other) in [
            (Fate::Kept, Fate::Kept), (Fate::Changed, Fate::Changed), (Fate::Added, Fate::Removed), (Fate::Removed, Fate::Added),
        ] {
            prop_assert_eq!(sorted(names(&there, fate)), sorted(names(&back, other)));
        }
        prop_assert_eq!(there.is_empty(), back.is_empty());
        let state = |config: &Config| Plan::compile(config).unwrap().state_fingerprint();
        prop_assert_eq!(there.keeps_state(), state(&old) == state(&new));
        prop_assert!(between(&old, &old).is_empty());
    }

    #[test]
    fn a_kept_number_is_the_same_in_every_vector((old, new) in edited(), moves in moves(120)) {
        let entries = with_texts(stream(&moves));
        let places = |config: &Config, kept: &[&str]| -> Vec<usize> {
            let schema = Plan::compile(config).unwrap().vector_schema();
            kept.iter().map(|name| schema.position(name).unwrap()).collect()
        };
        let changes = between(&old, &new);
        let kept = names(&changes, Fate::Kept);
        let (before, after) = (places(&old, &kept), places(&new, &kept));
        let (was, is) = (folded(&old, &entries).1, folded(&new, &entries).1);
        prop_assert!(was.keys().eq(is.keys()));
        for (was, is) in was.values().map(bits).zip(is.values().map(bits)) {
            let differs = before.iter().zip(&after).position(|(before, after)| was[*before] != is[*after]);
            prop_assert!(differs.is_none(), "{}", differs.map_or("", |at| kept[at]));
        }
    }

    #[test]
    fn state_that_is_kept_is_what_the_new_declarations_make_of_the_log((old, new) in edited(), moves in moves(200)) {
        let tight = |config: Config| Config { exact_events: 64, last_n: 16, ..config };
        let (old, new) = (tight(old), tight(new));
        let changes = between(&old, &new);
        prop_assume!(changes.state.iter().all(|state| state.fate == Fate::Kept));
        prop_assert!(changes.settings.is_empty() && changes.reads_back.is_none(), "{:?}", changes);
        let mut entries = with_texts(stream(&moves));
        for entry in &mut entries {
            if let Entry::Event(event) = entry {
                event.user = "bot".into();
            }
        }
        let (was, is) = (folded(&old, &entries).0.snapshot(), folded(&new, &entries).0.snapshot());
        prop_assert!(was == is, "the state is another");
    }

    #[test]
    fn declarations_that_keep_the_state_go_on_from_it_as_if_they_had_always_been(
        (old, new) in edited(), moves in moves(120), at in 0.0..1.0_f64
    ) {
        prop_assume!(between(&old, &new).keeps_state());
        let entries = with_texts(stream(&moves));
        let at = (entries.len() as f64 * at) as usize;
        let after = going_over(&old, &new, &entries, at).1;
        prop_assert!(after == going_over(&new, &new, &entries, at).1, "some output is another");
    }

    #[test]
    fn settings_that_change_lose_and_double_no_label(
        config in declared(), moves in moves(120), at in 0.0..1.0_f64,
        settings in proptest::collection::vec((1..200_i64, 200..5_000_i64, 1..60_i64, 1..9_usize, 1..300_usize), 2),
    ) {
        let decide = |at: usize| {
            let (click, purchase, dedupe, ids, timers) = settings[at];
            Config {
                click_window: Millis(click * 1_000),
                purchase_window: Millis(purchase * 1_000),
                dedupe_horizon: Millis(dedupe * 1_000),
                dedupe_events: ids,
                timers_per_record: timers,
                ..config.clone()
            }
        };
        let mut entries = with_texts(stream(&moves));
        let at = (entries.len() as f64 * at) as usize;
        // All that is due falls due.
        entries.extend((0..300).map(|late| tick(START + 600_000_000_000 + late)));
        let (before, after) = going_over(&decide(0), &decide(1), &entries, at);
        let all: Vec<Output> = before.into_iter().chain(after).collect();
        let made: BTreeSet<i64> = vectors(&all).iter().map(|vector| vector.place.offset).collect();
        let is_view = |entry: &Entry| matches!(entry, Entry::Event(event) if event.kind == Kind::View as i32);
        let views = (0..).zip(&entries).filter(|(_, entry)| is_view(entry)).map(|(offset, _)| offset);
        let dropped: BTreeSet<i64> = duplicates(&all).iter().map(|duplicate| duplicate.place.offset).collect();
        prop_assert_eq!(&made, &views.filter(|offset| !dropped.contains(offset)).collect::<BTreeSet<_>>());
        let labelled: BTreeSet<i64> = labels(&all).iter().map(|label| label.place.offset).collect();
        prop_assert_eq!(&labelled, &made);
        let matured: Vec<i64> =
            labels(&all).iter().filter(|label| label.matured).map(|label| label.place.offset).collect();
        prop_assert_eq!(matured.len(), made.len(), "each purchase window closes once");
        prop_assert_eq!(matured.into_iter().collect::<BTreeSet<_>>(), made);
    }

    #[test]
    fn the_log_must_be_read_no_farther_back(new in declared(), moves in moves(160), from in 0.0..1.0_f64) {
        let plan = Plan::compile(&new).unwrap();
        let entries = with_texts(stream(&moves));
        let whole = folded(&new, &entries).1;
        let begin = (entries.len() as f64 * from) as usize;
        let event = |entry: &Entry| if let Entry::Event(event) = entry { Some((**event).clone()) } else { None };
        let before: Vec<Event> = entries[..begin].iter().filter_map(event).collect();
        let unread_ms = before.iter().map(|event| event.event_time_ms).max().unwrap_or(i64::MIN);
        // What was not read leaves a gap of control records only.
        let mut read = entries.clone();
        for (at, entry) in read.iter_mut().enumerate() {
            if at < begin && matches!(entry, Entry::Event(_)) {
                *entry = sources();
            }
        }
        let part = folded(&new, &read).1;
        let columns = Changes::between(None, &plan).columns;
        for (offset, vector) in &part {
            let Some(want) = whole.get(offset) else { continue };
            for ((change, got), want) in columns.iter().zip(bits(vector)).zip(bits(want)) {
                let back = change.reads_back.map_or(0, |back| back.0);
                let is_far = vector.event_time_ms.saturating_sub(back) >= unread_ms;
                prop_assert!(!is_far || got == want, "{} of the view at {}", change.column.field.name, offset);
            }
        }
    }
}

#[test]
fn what_is_declared_anew_is_read_from_the_state_where_that_has_it() {
    let old = Config::default();
    let mut new = old.clone();
    // The category's windows have 3d: users' events lie in such tiles.
    let all = ["1m", "10m", "1h", "1d", "3d", "7d", "30d"].map(|window| Window::parse(window).unwrap());
    new.entities.get_mut("user").unwrap().windows = all.to_vec();
    let changes = between(&old, &new);
    assert!(names(&changes, Fate::Added).contains(&"user_views_3d"), "{changes:?}");
    assert_eq!((reads_back(&changes, "user_views_3d"), changes.reads_back), (None, None));
    assert!(changes.layout && !changes.is_empty());

    new.entities.get_mut("user").unwrap().windows.push(Window::parse("14d").unwrap());
    let changes = between(&old, &new);
    // A tile of 6h more at the tail, and an hour for repeats.
    assert_eq!(reads_back(&changes, "user_views_14d"), Some(Millis((14 * 24 + 6 + 1) * H)));
    assert_eq!(reads_back(&changes, "item_views_1h"), None);
    assert_eq!(fate_of(&changes, Part::Users), Some(Fate::Changed));
    assert_eq!(fate_of(&changes, Part::Shared("item")), Some(Fate::Kept));
    assert_eq!(changes.reads_back, Some(Millis((30 * 24 + 12 + 1) * H)));
}

#[test]
fn shared_entities_are_kept_one_by_one_and_lost_with_their_tiles() {
    let old = Config::default();
    let mut new = old.clone();
    new.entities.get_mut("item").unwrap().windows.push(Window::parse("14d").unwrap());
    let changes = between(&old, &new);
    assert_eq!(fate_of(&changes, Part::Shared("item")), Some(Fate::Changed));
    assert_eq!(fate_of(&changes, Part::Shared("campaign")), Some(Fate::Kept));
    assert_eq!(fate_of(&changes, Part::Tiles), Some(Fate::Kept));
    assert_eq!(fate_of(&changes, Part::Users), Some(Fate::Kept));
    assert_eq!(names(&changes, Fate::Added), ["item_views_14d", "item_clicks_14d", "item_ctr_14d"]);

    let mut brand = old.clone();
    let counted = EntityConfig {
        count: vec!["view".into()],
        windows: vec![Window::parse("1h").unwrap()],
        ..EntityConfig::default()
    };
    brand.entities.insert("brand".into(), counted);
    let changes = between(&old, &brand);
    assert_eq!(fate_of(&changes, Part::Shared("brand")), Some(Fate::Added));
    assert_eq!(fate_of(&changes, Part::Tiles), Some(Fate::Changed), "brands were in no tile");
    assert!(
        reads_back(&changes, "item_views_7d") > Some(Millis(7 * 24 * H)),
        "its versions are of other tiles"
    );
    let changes = between(&brand, &old);
    assert_eq!(fate_of(&changes, Part::Shared("brand")), Some(Fate::Removed));
}

#[test]
fn a_number_that_goes_by_the_same_name_and_is_another_is_named() {
    let mut old = Config::default();
    for (child, parent) in [("user_campaign", "user"), ("user", "campaign")] {
        old.entities.get_mut(child).unwrap().rate_parent = parent.into();
    }
    // The grandparent's weight is in the child's rate.
    let mut new = old.clone();
    new.entities.get_mut("campaign").unwrap().rate_weight = 5.0;
    let changes = between(&old, &new);
    let changed = names(&changes, Fate::Changed);
    for name in ["campaign_ctr_7d", "user_ctr_30d", "user_campaign_ctr_1h"] {
        assert!(changed.contains(&name), "{name}: {changed:?}");
    }
    assert!(changed.iter().all(|name| name.contains("_ctr_")), "{changed:?}");
    assert_eq!((changes.reads_back, changes.layout), (None, false), "evaluated anew from the same state");

    let old = everything();
    let mut new = old.clone();
    new.filters.get_mut("dear").unwrap().min = Some(5.0);
    let changes = between(&old, &new);
    let changed = names(&changes, Fate::Changed);
    assert!(changed.iter().all(|name| name.contains("dear")), "{changed:?}");
    assert!(changed.contains(&"user_dears_decayed_10s"), "{changed:?}");
    assert_eq!(fate_of(&changes, Part::Users), Some(Fate::Changed), "events carry the filter's bit");
}

#[test]
fn settings_are_named_with_both_values_and_change_no_state() {
    let old = Config::default();
    let new = Config { click_window: Millis(H), dedupe_by_content: true, ..old.clone() };
    let changes = between(&old, &new);
    let said: Vec<_> = changes.settings.iter().map(|s| (s.key, s.old.as_str(), s.new.as_str())).collect();
    assert_eq!(said, [("click_window", "30m", "1h"), ("dedupe_by_content", "false", "true")]);
    assert_eq!((changes.reads_back, changes.is_empty()), (None, false));
    // Written otherwise, and the same.
    let spelled = Config { numbers: Vec::new(), ..old.clone() };
    let mut renamed = spelled.clone();
    renamed.entities.get_mut("item").unwrap().half_lives = vec![Millis(H)];
    assert!(between(&old, &renamed).is_empty());
}

#[test]
fn without_declarations_before_everything_is_added() {
    let plan = Plan::compile(&Config::default()).unwrap();
    let changes = Changes::between(None, &plan);
    assert_eq!(changes.count(Fate::Added), plan.vector_schema().fields.len());
    assert!(changes.state.iter().all(|state| state.fate == Fate::Added && state.reads_back.is_some()));
    let is_view = |column: &Column| matches!(column.made, Made::View);
    assert!(changes.columns.iter().all(|change| change.reads_back.is_none() == is_view(&change.column)));
}
