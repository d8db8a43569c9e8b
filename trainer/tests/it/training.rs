//! Runs from tables to champions: judged, published, made again.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{World, always, config, folder, network, schema};
use model::metrics::Head;
use runtime::config::Kafka;
use runtime::kafka::{Admin, Isolation, Reader, TopicSpec};
use runtime::processor::TopicPartition;
use runtime::shutdown::Shutdown;
use schemas::topic::Names;
use schemas::{Codec, Json, ModelAnnouncement};
use trainer::{Error, Phase, Status, Trainer, Trigger, retrain};

#[tokio::test(flavor = "multi_thread")]
async fn trains_judges_publishes_and_makes_it_again() {
    let (_folder, store) = folder();
    let stop = Shutdown::new();
    let status = Status::new();
    let trainer = Trainer::new(config(), network(), schema(), store.clone()).unwrap();
    let none = trainer.train(Trigger::Asked, &status, &stop).await.unwrap_err();
    assert!(matches!(none, Error::NoTable { .. }) && none.is_transient());

    let mut world = World::new(11);
    world.grow(300);
    world.write(&store, 1, |_| false).await;
    let few = trainer.train(Trigger::Asked, &status, &stop).await.unwrap_err();
    assert!(matches!(few, Error::TooFew(_)) && few.is_transient(), "{few}");
    assert!(trainer.registry().versions().await.unwrap().is_empty());
    assert!(status.get().last_failure.unwrap().contains("too few"));

    // The first must beat the base rate.
    world.grow(4_000);
    world.write(&store, 3, |_| false).await;
    let first = trainer.train(Trigger::NewLabels, &status, &stop).await.unwrap();
    let run = &first.run;
    assert!(run.gate.publish, "{}", run.gate.reason);
    assert_eq!((run.model_version.as_str(), run.gate.rival.as_str()), ("v000001", "base_rate"));
    assert_eq!((&run.parent, &run.champion, &run.champion_metrics), (&None, &None, &None));
    assert!(run.metrics.click.log_loss.unwrap() < run.metrics.click.base_log_loss.unwrap());
    assert!(run.metrics.click.auc.unwrap() > 0.75, "{:?}", run.metrics.click);
    let gap = run.config.split.gap.0;
    let bounds = run.boundaries;
    assert!(bounds.validation_from_ms - bounds.train_until_ms >= gap);
    assert!(bounds.test_from_ms - bounds.validation_until_ms >= gap);
    let registry = trainer.registry();
    let champion = registry.champion().await.unwrap().unwrap();
    assert_eq!(first.published.as_ref(), Some(&champion));
    assert_eq!(champion.checksum, run.checksum);
    assert_eq!(&registry.run("v000001").await.unwrap(), run);
    let report = store.get("models/default/versions/v000001/report.html").await.unwrap().unwrap();
    let report = String::from_utf8(report.to_vec()).unwrap();
    for part in [
        "Published",
        "ROC, clicks",
        "ROC, purchases after a click",
        "Attention by field token",
        "Clicks: AUC by campaign",
    ] {
        assert!(report.contains(part), "{part}");
    }
    let heads: Vec<Head> = run.curves.iter().map(|curves| curves.head).collect();
    assert_eq!(heads, [Head::Click, Head::Conversion, Head::Purchase], "none bought without a click");
    for curves in &run.curves {
        assert!((10..=200).contains(&curves.roc.len()) && (10..=200).contains(&curves.pr.len()));
    }
    let click = &run.metrics.click;
    assert!(click.intervals.as_ref().unwrap().auc.is_some());
    assert_eq!(click.campaigns.as_ref().unwrap().campaigns, 5);
    assert!(run.importance.as_ref().unwrap().rows > 0 && run.less_champion.is_none());
    let seen = status.get();
    assert_eq!((seen.phase, seen.runs, seen.published), (Phase::Waiting, 1, 1));
    assert!(!seen.validation_losses.is_empty());

    // The second is judged against the champion, on what came after the champion's validation.
    world.grow(1_500);
    world.write(&store, 2, |_| false).await;
    let second = trainer.train(Trigger::Asked, &status, &stop).await.unwrap().run;
    assert_eq!((second.model_version.as_str(), second.gate.rival.as_str()), ("v000002", "champion"));
    assert_eq!(second.champion.as_ref().unwrap().model_version, "v000001");
    assert_eq!(second.parent, second.champion);
    assert!(second.boundaries.test_from_ms >= run.boundaries.validation_until_ms);
    assert!(second.champion_metrics.as_ref().unwrap().click.intervals.is_some());
    assert!(second.less_champion.unwrap().click.log_loss.is_some());
    let champion = registry.champion().await.unwrap().unwrap().model_version;
    assert_eq!(champion, if second.gate.publish { "v000002" } else { "v000001" });

    // I5: both again, also after the tables have grown, from what is recorded alone.
    for run in [run, &second] {
        let recorded = registry.run(&run.model_version).await.unwrap();
        let again = retrain(&recorded, &store, &stop).await.unwrap();
        assert_eq!(again.weights_checksum, run.weights_checksum, "{}", run.model_version);
        assert_eq!(again.checksum, run.checksum, "{}", run.model_version);
    }
    let mut other = run.clone();
    other.network.training.seed += 1;
    assert_ne!(retrain(&other, &store, &stop).await.unwrap().weights_checksum, run.weights_checksum);

    let pinned = registry.pinned_versions().await.unwrap();
    assert_eq!(pinned["labels"], [run.tables["labels"], second.tables["labels"]]);

    // Asked to stop, it stops, and leaves no version.
    stop.set();
    let stopped = trainer.train(Trigger::Asked, &status, &stop).await.unwrap_err();
    assert!(matches!(stopped, Error::Stopped));
    assert_eq!(registry.versions().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_trains_by_schedule_and_announces_what_is_promoted() {
    let broker = runtime::embedded::spawn().unwrap();
    let kafka = Kafka::at(broker.bootstrap());
    let names = Names::new("");
    let spec = TopicSpec {
        name: Arc::clone(&names.models),
        partitions: 1,
        replication_factor: 1,
        config: vec![("cleanup.policy".into(), "compact".into())],
    };
    let admin = kafka.clone();
    tokio::task::spawn_blocking(move || Admin::new(&admin).unwrap().create_topics(&[spec]).unwrap())
        .await
        .unwrap();
    let (_folder, store) = folder();
    let mut world = World::new(23);
    world.grow(3_000);
    world.write(&store, 2, |_| false).await;

    let (shutdown, status) = (Shutdown::new(), Status::new());
    let service = {
        let (kafka, names) = (kafka.clone(), names.clone());
        let (store, status, shutdown) = (store.clone(), status.clone(), shutdown.clone());
        tokio::spawn(async move {
            let trainer = Trainer::new(config(), network(), schema(), store).unwrap();
            let run = trainer::run(trainer, always(schema()), &kafka, &names, status, shutdown);
            Box::pin(run).await
        })
    };
    let announcements = {
        let mut reader = Reader::new(&kafka, Isolation::ReadCommitted).unwrap();
        let models = TopicPartition { topic: Arc::clone(&names.models), partition: 0 };
        reader.assign(&[(models, 0)]).unwrap();
        let next = move || -> ModelAnnouncement {
            for _ in 0..600 {
                if let Some(record) = reader.poll(1, Duration::from_millis(100)).unwrap().pop() {
                    assert_eq!(record.record.key.as_deref(), Some(&b"default"[..]));
                    return Json::decode(record.record.value.as_ref().unwrap()).unwrap();
                }
            }
            panic!("nothing was announced")
        };
        Arc::new(std::sync::Mutex::new(next))
    };
    let next = async || {
        let announcements = Arc::clone(&announcements);
        tokio::task::spawn_blocking(move || announcements.lock().unwrap()()).await.unwrap()
    };
    let first = next().await;
    assert_eq!((first.name.as_str(), first.model_version.as_str()), ("default", "v000001"));
    assert!(store.get(&format!("{}/manifest.json", first.uri)).await.unwrap().is_some());

    // No new labels: no new run. Somebody else moves the pointer: announced.
    let registry = trainer::Registry::new(store.clone(), "default");
    let champion = registry.champion().await.unwrap().unwrap();
    registry.promote(Some(&champion), "v000001", "by hand", 4_711).await.unwrap();
    let second = next().await;
    assert_eq!((second.model_version.as_str(), second.announced_ms), ("v000001", 4_711));
    assert_eq!(registry.versions().await.unwrap(), ["v000001"]);
    assert_eq!(status.get().champion.as_deref(), Some("v000001"));

    shutdown.set();
    service.await.unwrap().unwrap();

    // A restart announces again, the same bytes, and trains only on new labels.
    let shutdown = Shutdown::new();
    let again = {
        let (kafka, names, store, shutdown) = (kafka.clone(), names.clone(), store.clone(), shutdown.clone());
        tokio::spawn(async move {
            let trainer = Trainer::new(config(), network(), schema(), store).unwrap();
            let run = trainer::run(trainer, always(schema()), &kafka, &names, Status::new(), shutdown);
            Box::pin(run).await
        })
    };
    assert_eq!(next().await, second);
    shutdown.set();
    again.await.unwrap().unwrap();
    assert_eq!(registry.versions().await.unwrap(), ["v000001"]);
}

/// Trains in a store of its own; stopped in the middle or not, the same comes of it.
async fn trained(stop_in_the_middle: bool) -> (trainer::Run, runtime::store::Store, tempfile::TempDir) {
    let (folder, store) = folder();
    let mut world = World::new(5);
    world.grow(3_000);
    world.write(&store, 1, |_| false).await;
    let mut network = network();
    (network.training.max_epochs, network.training.patience) = (30, 100);
    let mut config = config();
    config.gate.confidence = 0.5;
    let trainer = Trainer::new(config, network, schema(), store.clone()).unwrap();
    let status = Status::new();
    let nothing = trainer.resume(&status, &Shutdown::new()).await.unwrap_err();
    assert!(matches!(nothing, Error::NothingToResume { .. }), "{nothing}");
    if stop_in_the_middle {
        let stop = Shutdown::new();
        let (watched, stopper) = (status.clone(), stop.clone());
        let watcher = std::thread::spawn(move || {
            while watched.get().progress.is_none_or(|progress| progress.done < 100) {
                std::thread::sleep(Duration::from_millis(1));
            }
            stopper.set();
        });
        let stopped = trainer.train(Trigger::Asked, &status, &stop).await.unwrap_err();
        watcher.join().unwrap();
        assert!(matches!(stopped, Error::Stopped), "{stopped}");
        let done = status.get().progress.unwrap().done;
        assert!((100..500).contains(&done), "{done} steps");
        assert!(store.get("models/default/unfinished/state").await.unwrap().is_some());
        // What has come to the tables since is not what it began with.
        world.grow(500);
        world.write(&store, 1, |_| false).await;
        let ended = trainer.resume(&status, &Shutdown::new()).await.unwrap();
        assert!(store.list("models/default/unfinished/").await.unwrap().is_empty());
        return (ended.run, store, folder);
    }
    (trainer.train(Trigger::Asked, &status, &Shutdown::new()).await.unwrap().run, store, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_training_goes_on_to_the_same_model_and_leaves_one_event_file() {
    let (whole, _, _whole_folder) = trained(false).await;
    let (resumed, store, resumed_folder) = trained(true).await;
    assert_eq!(resumed.weights_checksum, whole.weights_checksum);
    assert_eq!(resumed.checksum, whole.checksum);
    assert_eq!((&resumed.history, &resumed.metrics), (&whole.history, &whole.metrics));
    let again = retrain(&resumed, &store, &Shutdown::new()).await.unwrap();
    assert_eq!(again.weights_checksum, whole.weights_checksum);

    let folder = resumed_folder.path().join("models/default/versions/v000001");
    let name = trainer::tensorboard::file_name(resumed.started_ms);
    let tags = trainer::tensorboard::read(&std::fs::read(folder.join(name)).unwrap()).unwrap();
    let steps: Vec<i64> = tags["training/loss"].scalars.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, (1..=resumed.history.steps as i64).collect::<Vec<_>>(), "no step twice, none lost");
    let validations = &tags["validation/loss"].scalars;
    assert_eq!(validations.len(), resumed.history.validations.len());
    assert_eq!(tags["validation/click"].curves.len(), validations.len());
    assert!(tags["weights/mlp.0.weight"].histograms.len() == validations.len(), "{:?}", tags.keys());
    assert!(tags.contains_key("test/click/auc") && tags.contains_key("training/gradient_norm"));
    let settings: toml::Table =
        toml::from_str(&std::fs::read_to_string(folder.join("config.toml")).unwrap()).unwrap();
    assert_eq!(settings["model"]["training"]["max_epochs"].as_integer(), Some(30));
    let Some(theirs) = crate::tensorboard::tensorboard(&folder) else { return };
    assert_eq!(theirs["scalars"]["training/loss"].as_array().unwrap().len(), steps.len());
    assert_eq!(
        theirs["pr_curves"]["validation/click"]["values"].as_array().unwrap().len(),
        validations.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn halving_keeps_the_settings_that_learn() {
    let (_folder, store) = folder();
    let mut world = World::new(5);
    world.grow(3_000);
    world.write(&store, 1, |_| false).await;
    let trainer = Trainer::new(config(), network(), schema(), store.clone()).unwrap();
    let text = "[tune]\ntrials = 8\neta = 2\nbudget = \"epochs\"\nmin = 1\nmax = 4\nseed = 3\n[tune.space]\n\
                \"training.learning_rate\" = [0.000001, 0.01]\n\"training.embedding_learning_rate\" = { log = [0.001, 0.01] }\n";
    let tune = trainer::tune::Tune::parse(text).unwrap();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let best = trainer
        .tune(tune, &Shutdown::new(), move |entry, events| {
            assert!(trainer::tensorboard::read(events).unwrap().contains_key("validation/loss"));
            log.lock().unwrap().push(entry.clone());
            Ok(())
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(best.config.training.learning_rate, 0.01);
    let seen = seen.lock().unwrap().clone();
    let rungs: Vec<usize> = seen.iter().map(|entry| entry.rung).collect();
    assert_eq!(rungs, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2]);
    assert!(best.entry.validation_loss < seen[0].validation_loss.or(Some(1.0)));
    assert!(trainer.registry().versions().await.unwrap().is_empty());
}
