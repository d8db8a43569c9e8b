//! Named scenarios: one fault each, at the worst moment.

use runtime::core::CoreError;
use runtime::processor::TopicPartition;
use scorer::Slot;
use simulation::{Cluster, CrashAt, Faults, Totals};

use crate::checks::check_logs;
use crate::feed::Feed;
use crate::pipeline::{PARTS, SERVICES, cluster, start};

/// Feeds a seed's records in small pieces and lets all workers take turns in between.
fn script(cluster: &mut Cluster, feed: &mut Feed, pieces: usize) {
    for _ in 0..pieces {
        feed.send(cluster, 10);
        for _ in 0..4 {
            for index in 0..cluster.workers.len() {
                cluster.turn_or_restart(index);
            }
            cluster.pass(10);
        }
    }
}

fn ran(seed: u64, change: impl FnOnce(&mut Cluster)) -> Totals {
    let mut cluster = cluster(seed, &Slot::new());
    start(&mut cluster);
    change(&mut cluster);
    script(&mut cluster, &mut Feed::new(seed), 16);
    cluster.settle();
    assert_eq!(check_logs(&cluster.broker).err(), None, "seed {seed}");
    cluster.finish()
}

#[test]
fn a_crash_of_every_worker_at_every_call_loses_and_repeats_nothing() {
    let calls = ran(1, |_| {}).calls / (SERVICES.len() as u64 * 2);
    assert!(calls > 40, "too few calls to be worth it: {calls}");
    let mut crashes = 0;
    for call in 0..calls {
        for after in [false, true] {
            crashes += ran(1, |cluster| cluster.crash_at = Some(CrashAt { call, after })).crashes;
        }
    }
    assert!(crashes > calls * SERVICES.len() as u64, "{crashes} crashes in {calls} calls");
}

#[test]
fn commits_that_succeeded_and_were_reported_failed_are_not_made_twice() {
    let faults = Faults { doubtful: 700, ..Faults::default() };
    let totals = ran(2, |cluster| cluster.faults = faults);
    assert!(totals.lost_responses > 50 && totals.aborts > 0, "{totals:?}");
}

#[test]
fn a_process_that_was_replaced_and_lives_on_writes_nothing() {
    for (index, service) in SERVICES.into_iter().enumerate() {
        let mut cluster = cluster(3, &Slot::new());
        let mut feed = Feed::new(3);
        start(&mut cluster);
        script(&mut cluster, &mut feed, 6);
        assert_eq!(*cluster.workers[index].service, *service);
        cluster.double(index);
        script(&mut cluster, &mut feed, 6);
        cluster.settle();
        assert_eq!(check_logs(&cluster.broker).err(), None, "{service}");
        assert!(cluster.finish().zombies == 1, "{service}");
    }
}

#[test]
fn committed_offsets_that_have_expired_stop_a_service_and_reset_nothing() {
    let names = &PARTS.names;
    let inputs = [&names.views, &names.events, &names.entity_tiles, &names.feature_vectors];
    for (index, (service, topic)) in SERVICES.into_iter().zip(inputs).enumerate() {
        let mut cluster = cluster(4, &Slot::new());
        // One worker each, so that it reads all of its topic.
        for service in SERVICES {
            cluster.start(service, service);
        }
        script(&mut cluster, &mut Feed::new(4), 20);
        cluster.settle();
        let of = TopicPartition { topic: topic.clone(), partition: 0 };
        let before = standing(&mut cluster, service);
        let committed = cluster.broker.group(service).committed(&of).expect("it has read").0;
        cluster.broker.cut(&of, committed + 1);
        cluster.crash(index);
        let error = (0..50).find_map(|_| cluster.turn(index).err()).expect("it must notice");
        match &error {
            CoreError::OutOfRange { partition, committed: found, low, .. } => {
                assert_eq!((partition, *found, *low), (&of, committed, committed + 1), "{service}");
            }
            _ => panic!("{service}: {error}"),
        }
        assert!(error.to_string().contains("expired"), "{service}: {error}");
        assert_eq!(standing(&mut cluster, service), before, "{service}");
    }
}

/// What a group has committed, and how many records all topics hold.
fn standing(cluster: &mut Cluster, service: &str) -> (Vec<Option<(i64, String)>>, usize) {
    let group = cluster.broker.group(service);
    let committed = group.inputs().iter().map(|of| group.committed(of).cloned()).collect();
    let partitions: Vec<_> = PARTS
        .names
        .all()
        .iter()
        .filter(|topic| **topic != PARTS.names.items && **topic != PARTS.names.models)
        .flat_map(|topic| cluster.broker.partitions(topic))
        .collect();
    (committed, partitions.iter().map(|of| cluster.broker.all(of).len()).sum())
}
