//! Named scenarios: one fault each, at the worst moment.

use runtime::core::CoreError;
use runtime::processor::TopicPartition;
use scorer::Slot;
use simulation::{Cluster, CrashAt, Faults, Totals};

use crate::checks::check_logs;
use crate::feed::Feed;
use crate::pipeline::{Deployed, PARTS, SERVICES, cluster, scorer, start};

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

fn ran(seed: u64, deployed: Deployed, change: impl FnOnce(&mut Cluster)) -> Totals {
    let mut cluster = cluster(seed, deployed, &Slot::new());
    start(&mut cluster, deployed);
    change(&mut cluster);
    script(&mut cluster, &mut Feed::new(seed), 16);
    cluster.settle();
    assert_eq!(check_logs(&cluster.broker).err(), None, "seed {seed}");
    cluster.finish()
}

#[test]
fn a_crash_of_every_worker_at_every_call_loses_and_repeats_nothing() {
    for deployed in Deployed::ALL {
        let services = deployed.services().len() as u64;
        let calls = ran(1, deployed, |_| {}).calls / (services * 2);
        assert!(calls > 40, "too few calls to be worth it: {calls}");
        let mut crashes = 0;
        for call in 0..calls {
            for after in [false, true] {
                let crash = |cluster: &mut Cluster| cluster.crash_at = Some(CrashAt { call, after });
                crashes += ran(1, deployed, crash).crashes;
            }
        }
        assert!(crashes > calls * services, "{crashes} crashes in {calls} calls, {deployed:?}");
    }
}

#[test]
fn commits_that_succeeded_and_were_reported_failed_are_not_made_twice() {
    let faults = Faults { doubtful: 700, ..Faults::default() };
    for deployed in Deployed::ALL {
        let totals = ran(2, deployed, |cluster| cluster.faults = faults);
        assert!(totals.lost_responses > 50 && totals.aborts > 0, "{deployed:?}: {totals:?}");
    }
}

#[test]
fn a_process_that_was_replaced_and_lives_on_writes_nothing() {
    let deployments = Deployed::ALL.into_iter();
    let each = |deployed: Deployed| deployed.services().iter().enumerate().map(move |at| (deployed, at));
    for (deployed, (index, service)) in deployments.flat_map(each) {
        let mut cluster = cluster(3, deployed, &Slot::new());
        let mut feed = Feed::new(3);
        start(&mut cluster, deployed);
        script(&mut cluster, &mut feed, 6);
        assert_eq!(*cluster.workers[index].service, **service);
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
        let mut cluster = cluster(4, Deployed::Apart, &Slot::new());
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

/// Stops the workers of a service for good, after all that is there has been read by those that still run.
fn stop(cluster: &mut Cluster, service: &str) {
    cluster.settle();
    cluster.stop(service);
}

/// Runs what `features` are from now on.
fn deploy(cluster: &mut Cluster, deployed: Deployed) {
    cluster.redeploy("features", deployed.features(&Slot::new()));
    for worker in 0..2 {
        cluster.start("features", &format!("features-{deployed:?}-{worker}"));
    }
}

#[test]
fn a_scorer_is_chained_and_taken_apart_again_while_events_come() {
    let (seed, slot) = (5, Slot::new());
    let mut cluster = cluster(seed, Deployed::Apart, &slot);
    let mut feed = Feed::new(seed);
    start(&mut cluster, Deployed::Apart);
    script(&mut cluster, &mut feed, 6);
    for _ in 0..2 {
        // Features first: what the scorer has not read then, it still reads.
        stop(&mut cluster, "features");
        script(&mut cluster, &mut feed, 2);
        stop(&mut cluster, "scorer");
        deploy(&mut cluster, Deployed::Chained);
        script(&mut cluster, &mut feed, 4);
        stop(&mut cluster, "features");
        script(&mut cluster, &mut feed, 2);
        deploy(&mut cluster, Deployed::Apart);
        cluster.start("scorer", "scorer-again");
        script(&mut cluster, &mut feed, 4);
    }
    cluster.settle();
    assert_eq!(check_logs(&cluster.broker).err(), None);
}

#[test]
fn a_chain_takes_over_only_what_the_scorer_has_read() {
    let (seed, slot) = (6, Slot::new());
    let mut cluster = cluster(seed, Deployed::Apart, &slot);
    let mut feed = Feed::new(seed);
    start(&mut cluster, Deployed::Apart);
    script(&mut cluster, &mut feed, 4);
    stop(&mut cluster, "scorer");
    script(&mut cluster, &mut feed, 4);
    stop(&mut cluster, "features");
    deploy(&mut cluster, Deployed::Chained);
    let chained = (0..cluster.workers.len()).find(|at| &*cluster.workers[*at].service == "features").unwrap();
    let error = (0..50).find_map(|_| cluster.turn(chained).err()).expect("it must notice");
    assert!(matches!(&error, CoreError::Refused { .. }), "{error}");
    // What mends it: the scorer by itself, to the end.
    cluster.stop("features");
    cluster.redeploy("scorer", scorer(&slot));
    cluster.start("scorer", "scorer-again");
    stop(&mut cluster, "scorer");
    deploy(&mut cluster, Deployed::Chained);
    script(&mut cluster, &mut feed, 4);
    cluster.settle();
    assert_eq!(check_logs(&cluster.broker).err(), None);
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
