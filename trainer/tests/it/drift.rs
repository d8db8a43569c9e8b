//! Drift in real tables, runs that learn on, and one at a time.

use std::sync::{Arc, Mutex};

use runtime::shutdown::Shutdown;
use schemas::duration::Millis;
use trainer::{Error, InForce, Mode, Planner, Status, Trainer, Trigger, retrain};

use crate::common::{MINUTE, World, always, config, folder, network, schema, schema_of};

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_found_and_a_run_learns_on_from_the_latest_hours() {
    let (_folder, store) = folder();
    let (stop, status) = (Shutdown::new(), Status::new());
    let mut config = config();
    config.drift.window = Millis(1_000 * MINUTE);
    config.drift.min_rows = 500;
    config.incremental.window = Millis(2_000 * MINUTE);
    config.retrain.drift = Mode::Incremental;
    let trainer = Trainer::new(config.clone(), network(), schema(), store.clone()).unwrap();
    let mut world = World::new(5);
    world.grow(4_000);
    world.write(&store, 1, |_| false).await;
    // No champion yet: nothing to compare with.
    assert_eq!(trainer.drift(&stop).await.unwrap(), None);
    let first = trainer.train(Trigger::Asked, &status, &stop).await.unwrap();
    assert!(first.published.is_some(), "{}", first.run.gate.reason);
    assert_eq!(first.run.mode(), Mode::Full);
    // Its explanations were measured, and the artefact explains by what the run says.
    let explanation = first.run.explanation.as_ref().unwrap();
    assert_eq!(explanation.methods.len(), 4);
    let registry = trainer.registry();
    let files = registry.artefact("v000001").await.unwrap().into_iter().collect();
    let model = model::Model::load(&model::Artefact::from_files(files), Some(&first.run.checksum)).unwrap();
    assert_eq!(model.explanation(), explanation.published);
    assert!(model.card()["attention"].as_str().unwrap().contains("Predictions are explained by"));

    world.grow(1_000);
    world.write(&store, 1, |_| false).await;
    let same = trainer.drift(&stop).await.unwrap().unwrap();
    assert_eq!((same.champion.as_str(), same.found.as_slice()), ("v000001", &[][..]), "{same:?}");
    assert!(same.rows >= 900 && same.scores.psi < 0.1 && same.clicks.error() < 0.2, "{same:?}");

    world.drifted = true;
    world.grow(2_000);
    world.write(&store, 1, |_| false).await;
    let moved = trainer.drift(&stop).await.unwrap().unwrap();
    assert_eq!(moved.inputs[0].name, "taste", "{moved:?}");
    assert!(moved.inputs[0].psi > 1.0 && moved.scores.psi > 0.25);
    assert!(moved.found.iter().any(|what| what.contains("taste")) && moved.found.len() >= 2, "{moved:?}");
    assert!(!moved.found.iter().any(|what| what.contains("noise")), "{moved:?}");

    // Drift alone starts a run that learns on; it is made again from its record like any other.
    let mut sensitive = config.clone();
    sensitive.min_new_labels = 0;
    let trainer = Trainer::new(sensitive.clone(), network(), schema(), store.clone()).unwrap();
    let hourly = Planner::new(trainer, always(schema()), status.clone()).unwrap();
    // The hours are counted from the first look.
    assert_eq!(hourly.look(&stop).await.unwrap(), None);
    sensitive.drift.interval = Millis(1);
    let trainer = Trainer::new(sensitive, network(), schema(), store.clone()).unwrap();
    let planner = Planner::new(trainer.clone(), always(schema()), status.clone()).unwrap();
    let run = planner.look(&stop).await.unwrap().unwrap().run;
    assert_eq!((run.trigger, run.mode()), (Trigger::Drift, Mode::Incremental));
    assert_eq!(run.due.as_ref().unwrap().drift.as_ref().unwrap().found, moved.found);
    assert_eq!(run.parent.as_ref().unwrap().model_version, "v000001");
    assert!(run.parts.train.start > 0 && run.parts.test.end == run.data.rows, "{:?}", run.parts);
    assert!(run.network.training.learning_rate < network().training.learning_rate);
    assert_eq!(run.network.training.max_epochs, 2);
    assert_eq!(run.drift_reference.as_ref().unwrap().rows, run.parts.train.len() as u64);
    let again =
        retrain(&trainer.registry().run(&run.model_version).await.unwrap(), &store, &stop).await.unwrap();
    assert_eq!(
        (again.weights_checksum, again.checksum),
        (run.weights_checksum.clone(), run.checksum.clone())
    );
    // Nothing new since: no second run.
    assert_eq!(planner.look(&stop).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_make_one_run() {
    let (_folder, store) = folder();
    let stop = Shutdown::new();
    let mut world = World::new(8);
    world.grow(3_000);
    world.write(&store, 1, |_| false).await;
    let mut planners = Vec::new();
    for _ in 0..3 {
        let trainer = Trainer::new(config(), network(), schema(), store.clone()).unwrap();
        planners.push(Planner::new(trainer, always(schema()), Status::new()).unwrap());
    }
    let looks = planners.iter().map(|planner| planner.look(&stop));
    let first = futures::future::join_all(looks).await;
    assert_eq!(first.iter().filter(|look| look.as_ref().unwrap().is_some()).count(), 1);
    // Its run counts for all of them; and a restarted instance does not run it again.
    for planner in &planners {
        assert!(planner.look(&stop).await.unwrap().is_none());
    }
    let trainer = Trainer::new(config(), network(), schema(), store.clone()).unwrap();
    let restarted = Planner::new(trainer.clone(), always(schema()), Status::new()).unwrap();
    assert!(restarted.look(&stop).await.unwrap().is_none());
    assert_eq!(trainer.registry().versions().await.unwrap(), ["v000001"]);
    // While another trains, a run that somebody asks for is refused too.
    let leases = trainer.registry().leases(60_000);
    let lease = leases.take("elsewhere", i64::MAX / 2).await.unwrap();
    let busy = trainer.train(Trigger::Asked, &Status::new(), &stop).await.unwrap_err();
    assert!(matches!(&busy, Error::Busy { holder, .. } if holder == "elsewhere"), "{busy}");
    leases.give_back(&lease, "elsewhere").await.unwrap();
    trainer.train(Trigger::Asked, &Status::new(), &stop).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_reads_the_vectors_whose_schema_is_in_force_when_it_is_due() {
    let (_folder, store) = folder();
    let stop = Shutdown::new();
    let in_force = Arc::new(Mutex::new(Ok(schema())));
    let asked = Arc::clone(&in_force);
    let lookup: InForce = Arc::new(move || asked.lock().unwrap().clone());
    let trainer = Trainer::new(config(), network(), schema(), store.clone()).unwrap();
    let planner = Planner::new(trainer, lookup, Status::new()).unwrap();
    let mut world = World::new(11);
    world.grow(3_000);
    world.write(&store, 1, |_| false).await;
    let first = planner.look(&stop).await.unwrap().unwrap().run;
    assert_eq!(first.schema, schema());

    let wider = schema_of(&["taste", "noise", "calm"]);
    world.schemas.push(wider.clone());
    world.grow(3_000);
    world.write(&store, 1, |_| false).await;
    // While nobody can say what is in force nothing is trained, and the run stays due.
    *in_force.lock().unwrap() = Err("no broker answers (retry)".to_owned());
    let error = planner.look(&stop).await.unwrap_err();
    assert!(matches!(error, Error::InForce(_)) && error.is_transient(), "{error}");
    *in_force.lock().unwrap() = Ok(wider.clone());
    let second = planner.look(&stop).await.unwrap().unwrap().run;
    assert_eq!(second.fingerprint, format!("{:016x}", wider.fingerprint()));
    assert_eq!((second.schema, second.data.rows), (wider, 3_000));
}
