//! Logs that declare: what is made at an offset is what the declarations in force there make of the log.

use std::collections::{BTreeMap, BTreeSet};

use features::{
    Config, Core, Declarations, Declared, EntityConfig, NotFollowed, Out, Output, Window, factory,
};
use proptest::prelude::*;
use runtime::processor::{InRecord, Input, Outputs, Processor, ProcessorFactory, UnitId};
use schemas::duration::Millis;
use schemas::entity::HourRows;
use schemas::topic::Names;
use schemas::{Control, Declaration, EntitySums, Entry, Kind};

use crate::changes::declared;
use crate::common::*;
use crate::shell::records;
use crate::summaries::{everything, with_texts};

fn declares(config: &Config) -> Entry {
    let declarations = Declarations::of(config).unwrap();
    Entry::Control(Control::Declared(declarations.record()))
}

/// The stream, with these declarations at these shares of it; and where they stand then.
fn declaring(moves: &[Move], declared: &[(f64, Config)]) -> (Vec<Entry>, Vec<usize>) {
    let mut entries = with_texts(stream(moves));
    let mut at: Vec<usize> =
        declared.iter().map(|(share, _)| (share * entries.len() as f64) as usize).collect();
    at.sort_unstable();
    for (inserted, (offset, (_, config))) in at.iter_mut().zip(declared).enumerate() {
        *offset += inserted;
        entries.insert(*offset, declares(config));
    }
    // All that is due falls due.
    for late in 0..20 {
        entries.push(tick(START + 500_000_000_000 + late));
    }
    (entries, at)
}

/// Outputs by offset, and how often the fold began anew.
fn follow(first: &Config, entries: &[Entry], restarts: bool) -> (Vec<Vec<Output>>, usize) {
    let first = Declarations::of(first).unwrap();
    let mut coming = BTreeMap::new();
    'anew: loop {
        let mut fold = Declared::new(&first, &coming, 3, None).unwrap();
        let mut outputs = Vec::new();
        for (offset, entry) in entries.iter().enumerate() {
            let mut out = Out::default();
            if let Some(unknown) = fold.step(entry, place(offset), &mut out).unwrap() {
                assert!(out.records.is_empty(), "nothing was changed");
                assert!(coming.insert(offset as i64, unknown).is_none(), "heard of once");
                continue 'anew;
            }
            if let Some(snapshot) = fold.snapshot().filter(|_| restarts) {
                fold = Declared::restore(3, &snapshot, None).unwrap();
                assert!(fold.snapshot() == Some(snapshot), "one state, one snapshot, at {offset}");
            }
            outputs.push(out.records);
        }
        assert!(!fold.awaits(), "all has come");
        return (outputs, coming.len());
    }
}

/// What one set of declarations makes of the whole log, by offset.
fn alone(config: &Config, entries: &[Entry]) -> Vec<Vec<Output>> {
    let mut core = Core::new(plan(config), 3);
    let step = |(offset, entry): (usize, &Entry)| {
        let mut out = Out::default();
        core.step(entry, place(offset), &mut out);
        out.records
    };
    entries.iter().enumerate().map(step).collect()
}

/// Of one hour: campaign, category, item and currency.
type Hourly = BTreeMap<(i64, [String; 4]), EntitySums>;

/// All but the vectors, by offset. What was counted by the hour is added up by key: which rows it stands in
/// depends on how much is kept of an event.
fn decided(outputs: &[Vec<Output>]) -> Vec<(Vec<&Output>, Hourly)> {
    fn hourly(outputs: &[Output]) -> Hourly {
        let mut hourly = Hourly::new();
        for output in outputs {
            let Output::Hours(record) = output else { continue };
            for (block, (key, sums)) in
                record.hours.iter().flat_map(|block| HourRows::new(&block.rows).map(move |row| (block, row)))
            {
                let key = [key.campaign, key.category, key.item, key.currency].map(str::to_owned);
                hourly.entry((block.hour_ms, key)).or_default().merge(&sums);
            }
        }
        hourly
    }
    fn others(outputs: &[Output]) -> Vec<&Output> {
        outputs.iter().filter(|output| !matches!(output, Output::Vector(_) | Output::Hours(_))).collect()
    }
    outputs.iter().map(|outputs| (others(outputs), hourly(outputs))).collect()
}

fn changes(most: usize) -> impl Strategy<Value = Vec<(f64, Config)>> {
    proptest::collection::vec((0.0..1.0_f64, declared()), 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn each_vector_is_made_by_what_is_declared_there_and_nothing_else_changes(
        first in declared(), changes in changes(4), moves in moves(120), restarts in any::<bool>()
    ) {
        let (entries, at) = declaring(&moves, &changes);
        let (outputs, _) = follow(&first, &entries, restarts);
        let mut want = alone(&first, &entries);
        for (offset, (_, config)) in at.iter().zip(&changes) {
            want.splice(offset.., alone(config, &entries).split_off(*offset));
        }
        prop_assert!(outputs == want, "some output is another");
        let all = alone(&first, &entries);
        prop_assert_eq!(decided(&outputs), decided(&all));
    }

    #[test]
    fn a_view_has_one_vector_and_its_labels_whatever_is_declared_meanwhile(
        first in declared(), changes in changes(4), moves in moves(120),
        settings in proptest::collection::vec((1..200_i64, 200..5_000_i64, 1..60_i64, 1..9_usize, 1..300_usize), 4),
    ) {
        let decide = |config: Config, at: usize| {
            let (click, purchase, dedupe, ids, timers) = settings[at];
            Config {
                click_window: Millis(click * 1_000),
                purchase_window: Millis(purchase * 1_000),
                dedupe_horizon: Millis(dedupe * 1_000),
                dedupe_events: ids,
                timers_per_record: timers,
                ..config
            }
        };
        let changes: Vec<_> =
            changes.into_iter().enumerate().map(|(at, (share, config))| (share, decide(config, at + 1))).collect();
        let (mut entries, _) = declaring(&moves, &changes);
        for late in 0..300 {
            entries.push(tick(START + 600_000_000_000 + late));
        }
        let (outputs, _) = follow(&decide(first, 0), &entries, true);
        let all: Vec<Output> = outputs.into_iter().flatten().collect();
        let made: Vec<i64> = vectors(&all).iter().map(|vector| vector.place.offset).collect();
        let dropped: Vec<i64> = duplicates(&all).iter().map(|duplicate| duplicate.place.offset).collect();
        let is_view = |entry: &Entry| matches!(entry, Entry::Event(event) if event.kind == Kind::View as i32);
        let views: Vec<i64> =
            (0..).zip(&entries).filter(|(_, entry)| is_view(entry)).map(|(offset, _)| offset).collect();
        let mut once: Vec<i64> =
            made.iter().chain(dropped.iter().filter(|offset| views.contains(offset))).copied().collect();
        once.sort_unstable();
        prop_assert_eq!(once, views, "each view is in one place");
        let labelled: BTreeSet<i64> = labels(&all).iter().map(|label| label.place.offset).collect();
        prop_assert_eq!(labelled, made.iter().copied().collect::<BTreeSet<_>>());
        let matured = labels(&all).iter().filter(|label| label.matured).map(|label| label.place.offset).collect::<Vec<_>>();
        let each: BTreeSet<i64> = matured.iter().copied().collect();
        prop_assert_eq!(each.len(), matured.len(), "no purchase window closes twice");
        prop_assert_eq!(each.len(), made.len(), "and each does");
    }
}

#[test]
fn what_comes_back_is_folded_for_each_time_that_it_comes() {
    let (first, second) = (config(), everything());
    let moves = [0, 1, 2, 0, 1, 2].map(|user| Move::Event {
        kind: Kind::View,
        user,
        item: user,
        campaign: 0,
        gap: 1_000,
        late: 0,
        value: 8,
        names: None,
    });
    let changes = [0.2, 0.4, 0.6, 0.8]
        .map(|share| (share, if share == 0.2 || share == 0.6 { second.clone() } else { first.clone() }));
    let (entries, at) = declaring(&moves, &changes);
    let (outputs, anew) = follow(&first, &entries, false);
    assert_eq!(anew, 4);
    let mut want = alone(&first, &entries);
    want[at[0]..at[1]].clone_from_slice(&alone(&second, &entries)[at[0]..at[1]]);
    want[at[2]..at[3]].clone_from_slice(&alone(&second, &entries)[at[2]..at[3]]);
    assert!(outputs == want);
    // What evaluates the same state otherwise needs no other fold.
    let mut drawn = first.clone();
    drawn.entities.get_mut("user").unwrap().rate_prior = 0.4;
    let (entries, _) = declaring(&moves, &[(0.3, drawn.clone()), (0.3, drawn), (0.7, first.clone())]);
    assert_eq!(follow(&first, &entries, false).1, 0);
}

#[test]
fn what_the_log_is_written_by_cannot_change_in_it() {
    let first = Declarations::of(&Config::default()).unwrap();
    let refused = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        let mut fold = Declared::new(&first, &BTreeMap::new(), 3, None).unwrap();
        let error = fold.step(&declares(&config), place(0), &mut Out::default()).unwrap_err();
        assert!(matches!(error, NotFollowed::Fixed(..)), "{error}");
        error.to_string()
    };
    assert!(refused(|c| c.aggregate_horizon = Millis(1)).contains("features.aggregate_horizon"));
    let numbers = |c: &mut Config| c.numbers = vec!["discount".into()];
    let mut named = Config::default();
    numbers(&mut named);
    let named = Declarations::of(&named).unwrap();
    assert!(
        named.may_follow(&first).is_ok()
            && matches!(first.may_follow(&named), Err(NotFollowed::Fixed("numbers", _)))
    );
    assert!(refused(|c| c.shared_tile = Millis(30_000)).contains("features.shared_tile"));
    let brand = |c: &mut Config| {
        let count = vec!["view".into()];
        let windows = vec![Window::parse("1h").unwrap()];
        c.entities.insert("brand".into(), EntityConfig { count, windows, ..EntityConfig::default() });
    };
    assert!(refused(brand).contains("features.entities"));
    let nonsense = |text: &str| {
        let (fingerprint, text) = (Declaration::fingerprint_of(text), text.to_owned());
        let entry = Entry::Control(Control::Declared(Declaration { fingerprint, text }));
        Declared::new(&first, &BTreeMap::new(), 3, None)
            .unwrap()
            .step(&entry, place(0), &mut Out::default())
            .unwrap_err()
    };
    assert!(matches!(nonsense("declare"), NotFollowed::Text(_)));
    assert!(matches!(nonsense(r#"{"last_n": 9999}"#), NotFollowed::Meaning(_)));
}

#[test]
fn the_service_asks_to_be_built_anew_and_then_follows() {
    let (first, second) = (config(), everything());
    let view = |id: &str, at: i64| entry(event(Kind::View, id, START + at, "u", "i", "c"));
    let entries =
        [sources(), view("a", 0), view("b", 10), declares(&second), view("c", 20), tick(START + 90_000_000)];
    let all = records(&entries);
    let factory = factory(&first, &Names::new("t-")).unwrap();
    let step = |records: &[InRecord], snapshot: Option<&[u8]>| {
        let mut processor = factory.create(UnitId(3), snapshot).unwrap();
        let mut out = Outputs::default();
        processor.step(Input::Records { records, now_ms: 1 }, &mut out).unwrap();
        (out, state(processor.as_mut()))
    };
    let (before, snapshot) = step(&all[..3], None);
    assert!(!before.rebuild);
    let snapshot = snapshot.unwrap();
    let (asked, _) = step(&all[3..], Some(&snapshot));
    assert!(asked.rebuild);
    let refused = factory.create(UnitId(3), Some(&snapshot)).err().unwrap();
    assert!(refused.what.contains("from its beginning"), "{refused}");
    assert!(factory.create(UnitId(4), None).is_ok(), "others have heard nothing");
    let (whole, snapshot) = step(&all, None);
    assert!(!whole.rebuild);
    assert_eq!(whole.records[..before.records.len()], before.records);
    let by_codec: usize = follow(&first, &entries, false).0.iter().map(Vec::len).sum();
    assert_eq!(whole.records.len(), by_codec);
    // It goes on from what follows, and no longer waits for anything.
    let (more, _) = step(&records(&[tick(START + 90_000_001)]), snapshot.as_deref());
    assert!(!more.rebuild);
    assert!(factory.create(UnitId(3), Some(&before_declared(&factory, &all))).is_ok());
}

fn before_declared(factory: &features::Factory, all: &[InRecord]) -> Vec<u8> {
    let mut processor = factory.create(UnitId(3), None).unwrap();
    processor.step(Input::Records { records: &all[..2], now_ms: 1 }, &mut Outputs::default()).unwrap();
    state(processor.as_mut()).unwrap()
}

/// A whole image, unless the state is made for declarations that are still to come.
fn state(processor: &mut dyn Processor) -> Option<Vec<u8>> {
    let image = processor.image()?;
    image.begin(true);
    Some(std::iter::from_fn(|| image.next_part(1_000).unwrap()).flatten().collect())
}
