//! The registry: races, rollback, pruning, pins, damage.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::{config, folder, network, schema};
use bytes::Bytes;
use runtime::store::Store;
use trainer::split::{Boundaries, Parts};
use trainer::{Claim, Data, Decision, Due, Error, Registry, Run, Trigger};

fn run(claim: &Claim, labels_version: u64) -> Run {
    Run {
        version: Run::VERSION,
        model: "default".into(),
        model_version: claim.version().to_owned(),
        code_version: Run::current_code_version(),
        git_revision: None,
        kernel: "portable".into(),
        trigger: Trigger::Asked,
        due: Some(Due::full(Trigger::Asked)),
        started_ms: 1,
        finished_ms: 2,
        config: config(),
        network: network(),
        schema: schema(),
        fingerprint: format!("{:016x}", schema().fingerprint()),
        tables: BTreeMap::from([("labels".to_owned(), labels_version), ("features".to_owned(), 3)]),
        parent: None,
        champion: None,
        judged_after_ms: None,
        data: Data {
            labels: 10,
            rows: 9,
            without_vector: 1,
            skipped_vectors: 0,
            clicked: 2,
            matured: 3,
            purchased: 1,
        },
        ids: Vec::new(),
        boundaries: Boundaries {
            train_until_ms: 1,
            validation_from_ms: 2,
            validation_until_ms: 3,
            test_from_ms: 4,
        },
        parts: Parts { train: 0..5, validation: 6..7, test: 8..9 },
        history: model::History::default(),
        metrics: model::Metrics::default(),
        champion_metrics: None,
        gate: Decision {
            publish: true,
            reason: "test".into(),
            rival: "base_rate".into(),
            challenger_log_loss: 0.1,
            rival_log_loss: 0.2,
            wins: 1.0,
            gain: (0.05, 0.15),
            purchase_gain: None,
            worse_campaigns: Vec::new(),
            miscalibrated_campaigns: Vec::new(),
            rows: 1,
        },
        less_champion: None,
        reliability: Vec::new(),
        curves: Vec::new(),
        importance: None,
        drift_reference: None,
        explanation: None,
        checksum: format!("checksum of {}", claim.version()),
        weights_checksum: "w".into(),
    }
}

async fn version(registry: &Registry, labels_version: u64) -> String {
    let claim = registry.claim("test").await.unwrap();
    let files = [("a.bin".to_owned(), Bytes::from_static(b"weights")), ("b.json".to_owned(), "{}".into())];
    registry.save(&claim, &files, &run(&claim, labels_version)).await.unwrap();
    claim.version().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_race_get_numbers_of_their_own() {
    let (_folder, local) = folder();
    for store in [local, Store::open("memory://").unwrap()] {
        let tasks: Vec<_> = (0..12)
            .map(|_| {
                let registry = Registry::new(store.clone(), "default");
                tokio::spawn(async move { version(&registry, 1).await })
            })
            .collect();
        let mut got = BTreeSet::new();
        for task in tasks {
            got.insert(task.await.unwrap());
        }
        assert_eq!(got.len(), 12);
        let registry = Registry::new(store, "default");
        assert_eq!(registry.versions().await.unwrap(), got.into_iter().collect::<Vec<_>>());
        assert_eq!(registry.artefact("v000012").await.unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_saw_the_same_champion_one_moves_it() {
    let (_folder, store) = folder();
    let registry = Registry::new(store.clone(), "default");
    for at in 1..=3 {
        version(&registry, at).await;
    }
    assert_eq!(registry.champion().await.unwrap(), None);
    let seen = registry.promote(None, "v000001", "first", 1).await.unwrap();
    assert_eq!(seen.sequence, 1);
    for round in 0..5 {
        let seen = registry.champion().await.unwrap().unwrap();
        let tasks: Vec<_> = ["v000002", "v000003"]
            .map(|version| {
                let (registry, seen) = (registry.clone(), seen.clone());
                tokio::spawn(async move { registry.promote(Some(&seen), version, "race", round).await })
            })
            .into();
        let mut won = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(champion) => won.push(champion),
                Err(Error::Raced { sequence, .. }) => assert_eq!(sequence, seen.sequence + 1),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(won.len(), 1);
        assert_eq!(registry.champion().await.unwrap().as_ref(), won.first());
    }
    assert!(matches!(
        registry.promote(None, "v000009", "no such", 1).await,
        Err(Error::NoVersion { version, .. }) if version == "v000009"
    ));
}

#[tokio::test]
async fn rolls_back_step_by_step() {
    let store = Store::open("memory://").unwrap();
    let registry = Registry::new(store, "default");
    assert!(matches!(registry.rollback(0).await, Err(Error::NothingBefore { .. })));
    for at in 1..=3 {
        let version = version(&registry, at).await;
        let seen = registry.champion().await.unwrap();
        registry.promote(seen.as_ref(), &version, "better", 10).await.unwrap();
    }
    let back = registry.rollback(20).await.unwrap();
    assert_eq!((back.model_version.as_str(), back.sequence, back.restores), ("v000002", 4, Some(2)));
    assert_eq!(back.reason, "rolled back from v000003");
    assert_eq!(registry.rollback(30).await.unwrap().model_version, "v000001");
    assert!(matches!(registry.rollback(40).await, Err(Error::NothingBefore { .. })));
    // Forward again by hand, and back from there.
    let seen = registry.champion().await.unwrap();
    registry.promote(seen.as_ref(), "v000003", "by hand", 50).await.unwrap();
    assert_eq!(registry.rollback(60).await.unwrap().model_version, "v000002");
    assert_eq!(registry.history().await.unwrap().len(), 7);

    let announced = registry.announcement(&registry.champion().await.unwrap().unwrap());
    assert_eq!(announced.uri, "models/default/versions/v000002/artefact");
    assert_eq!((announced.checksum.as_str(), announced.announced_ms), ("checksum of v000002", 60));
}

#[tokio::test]
async fn versions_are_immutable_and_pins_are_listed() {
    let store = Store::open("memory://").unwrap();
    let registry = Registry::new(store.clone(), "default");
    for at in [7, 5, 7] {
        version(&registry, at).await;
    }
    let claim = registry.claim("again").await.unwrap();
    assert_eq!(claim.version(), "v000004");
    registry.save(&claim, &[], &run(&claim, 9)).await.unwrap();
    assert!(matches!(registry.save(&claim, &[], &run(&claim, 1)).await, Err(Error::Damaged { .. })));
    let pinned = registry.pinned_versions().await.unwrap();
    assert_eq!((&pinned["labels"][..], &pinned["features"][..]), (&[5, 7, 9][..], &[3][..]));
    // A claim without a record is no version; its number is not given again.
    registry.claim("crashed").await.unwrap();
    assert_eq!(registry.versions().await.unwrap().len(), 4);
    assert_eq!(registry.claim("next").await.unwrap().version(), "v000006");
    // What cannot be read says where.
    store.put("models/default/versions/v000002/run.json", "{".into()).await.unwrap();
    let error = registry.run("v000002").await.unwrap_err().to_string();
    assert!(error.contains("models/default/versions/v000002/run.json"), "{error}");
    // Another model's versions are its own.
    assert!(Registry::new(store, "other").versions().await.unwrap().is_empty());
}

#[tokio::test]
async fn prunes_old_versions_but_no_champion() {
    let store = Store::open("memory://").unwrap();
    let registry = Registry::new(store.clone(), "default");
    for at in 1..=6 {
        version(&registry, at).await;
    }
    registry.promote(None, "v000002", "good", 1).await.unwrap();
    assert!(registry.prune(0).await.unwrap().is_empty());
    assert_eq!(registry.prune(2).await.unwrap(), ["v000001", "v000003", "v000004"]);
    assert_eq!(registry.versions().await.unwrap(), ["v000002", "v000005", "v000006"]);
    assert!(registry.artefact("v000003").await.is_err());
    assert_eq!(registry.claim("next").await.unwrap().version(), "v000007");
    let listed = registry.list().await.unwrap();
    let champions: Vec<bool> = listed.iter().map(|l| l.champion).collect();
    assert_eq!(champions, [true, false, false]);
}
