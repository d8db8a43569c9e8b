//! A fold whose outputs are dropped, as after a restart without a snapshot, against one whose outputs are taken.

use features::{Config, Core, Declarations, EntityConfig, Out, Silent, factory};
use proptest::prelude::*;
use runtime::processor::{InRecord, Input, OutRecord, Outputs, ProcessorFactory, UnitId};
use schemas::topic::Names;
use schemas::{Control, Entry, Place};

use crate::cluster::{Cluster, PARTITIONS, shared_config};
use crate::common::*;
use crate::shared::all_of_it;
use crate::shell::record;
use crate::state::hot;
use crate::summaries::with_texts;

/// Few exact events and timers, so that tiles and backlogs are part of the state.
pub(crate) fn declared(all: bool) -> Config {
    let config = if all { all_of_it() } else { shared_config() };
    Config { exact_events: 64, last_n: 16, timers_per_record: 3, dedupe_events: 8, ..config }
}

/// The moves' stream, most of it one user's, with some events from far behind the clock; and what falls due at the
/// end.
pub(crate) fn entries(moves: &[Move], behind: &[i64]) -> Vec<Entry> {
    let mut entries = with_texts(stream(moves));
    hot(&mut entries);
    for (entry, behind) in entries.iter_mut().zip(behind.iter().cycle()) {
        if let Entry::Event(event) = entry {
            event.event_time_ms -= behind;
        }
    }
    entries.extend((0..20).map(|late| tick(START + 500_000_000_000 + late)));
    entries
}

fn behind() -> impl Strategy<Value = Vec<i64>> {
    let one = prop_oneof![8 => Just(0_i64), 1 => 0..200_000_i64, 1 => 0..200_000_000_i64];
    proptest::collection::vec(one, 20)
}

/// The logs of all partitions; the merge reads so much of each behind an entry. `declares` stands at a share of them.
pub(crate) fn logs(
    config: &Config,
    entries: &[Entry],
    takes: &[usize],
    declares: Option<(f64, Entry)>,
) -> Cluster {
    let mut cluster = Cluster::new(config);
    let (share, declares) = declares.map_or((1.0, None), |(share, entry)| (share, Some(entry)));
    let at = (share * entries.len() as f64) as usize;
    for (index, (entry, take)) in entries.iter().zip(takes.iter().cycle()).enumerate() {
        declares.iter().filter(|_| index == at).for_each(|entry| cluster.write(entry));
        cluster.write(entry);
        for turn in 0..*take {
            cluster.take((take + turn) % PARTITIONS);
        }
    }
    cluster
}

/// What a processor puts out behind the cut, and its state in the end. Up to the cut outputs are dropped: made
/// and dropped, or, where it is `silent`, not made.
fn folded(config: &Config, log: &[InRecord], cut: usize, silent: bool) -> (Vec<OutRecord>, Vec<u8>) {
    let factory = factory(config, &Names::new("t-")).unwrap();
    let unit = UnitId(log[0].record.partition as u32);
    let (before, after) = log.split_at(cut);
    'anew: loop {
        let mut processor = factory.create(unit, None).unwrap();
        let mut out = Outputs::default();
        for records in before.chunks(20) {
            let input = Input::Records { records, now_ms: 1 };
            if silent {
                processor.replay(input, &mut out).unwrap();
                assert!(out.records.is_empty(), "nobody sees it");
            } else {
                processor.step(input, &mut out).unwrap();
            }
            if out.rebuild {
                continue 'anew;
            }
            out.records.clear();
        }
        for records in after.chunks(20) {
            processor.step(Input::Records { records, now_ms: 1 }, &mut out).unwrap();
            if out.rebuild {
                continue 'anew;
            }
        }
        let image = processor.image().unwrap();
        image.begin(true);
        return (out.records, std::iter::from_fn(|| image.next_part(1_000).unwrap()).flatten().collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_replayed_core_goes_on_as_one_that_was_stepped(
        moves in moves(250), behind in behind(), takes in proptest::collection::vec(0..9_usize, 150),
        all in prop::bool::weighted(0.3), cut in any::<prop::sample::Index>(),
    ) {
        let cluster = logs(&declared(all), &entries(&moves, &behind), &takes, None);
        for (partition, log) in (0..).zip(&cluster.logs) {
            let place = |offset: i64| Place { partition, offset };
            let [mut stepped, mut replayed] = [0, 1].map(|_| Core::new(cluster.plan.clone(), partition));
            let (before, after) = log.split_at(cut.index(log.len()));
            for (offset, entry) in before {
                stepped.step(entry, place(*offset), &mut Out::default());
                replayed.step(entry, place(*offset), &mut Silent);
            }
            prop_assert!(replayed.snapshot() == stepped.snapshot(), "one log, one state");
            prop_assert_eq!(replayed.counts().vectors, 0);
            prop_assert_eq!(replayed.counts().events, stepped.counts().events);
            for (offset, entry) in after {
                let (mut a, mut b) = (Out::default(), Out::default());
                stepped.step(entry, place(*offset), &mut a);
                replayed.step(entry, place(*offset), &mut b);
                prop_assert_eq!(a, b, "at {}", offset);
            }
            prop_assert!(replayed.snapshot() == stepped.snapshot(), "and so in the end");
        }
    }

    /// Behind the loop's border, where the log declares something else on the way.
    #[test]
    fn a_replayed_processor_goes_on_as_one_that_was_stepped(
        moves in moves(120), behind in behind(), takes in proptest::collection::vec(0..9_usize, 150),
        at in 0.0..1.0_f64, cut in any::<prop::sample::Index>(),
    ) {
        let config = declared(false);
        let mut other = config.clone();
        let user = EntityConfig { distinct: vec!["view.item".into()], ..config.entities["user"].clone() };
        other.entities.insert("user".into(), user);
        let declares = Entry::Control(Control::Declared(Declarations::of(&other).unwrap().record()));
        let cluster = logs(&config, &entries(&moves, &behind), &takes, Some((at, declares)));
        for (partition, log) in (0..).zip(&cluster.logs) {
            let log: Vec<InRecord> =
                log.iter().map(|(offset, entry)| record(partition, *offset, entry)).collect();
            let cut = cut.index(log.len());
            let [stepped, replayed] = [false, true].map(|silent| folded(&config, &log, cut, silent));
            prop_assert_eq!(replayed.0, stepped.0);
            prop_assert!(replayed.1 == stepped.1, "one log, one state");
        }
    }
}
