//! The join against a naive oracle, over real tables.

use std::collections::BTreeMap;

use crate::common::{World, folder, network, schema};
use model::{EncodedSet, Encoder};
use runtime::shutdown::Shutdown;
use schemas::{FeatureVector, Label, Place};
use tokio::runtime::Handle;
use trainer::dataset::{self, Dataset, Pins};
use trainer::{Error, gate};

/// The last label of each place, with its vector, the most recent `max_rows`, in order.
fn oracle<'a>(
    vectors: &'a [FeatureVector],
    labels: &'a [Label],
    max_rows: usize,
    absent: &dyn Fn(&FeatureVector) -> bool,
) -> Vec<(&'a FeatureVector, &'a Label)> {
    let mut last: BTreeMap<Place, &Label> = BTreeMap::new();
    for label in labels {
        last.insert(label.place, label);
    }
    let mut places: Vec<&Label> = last.into_values().collect();
    places.sort_by_key(|label| (label.event_time_ms, label.place));
    let by_place: BTreeMap<Place, &FeatureVector> =
        vectors.iter().filter(|v| !absent(v)).map(|v| (v.place, v)).collect();
    places[places.len().saturating_sub(max_rows)..]
        .iter()
        .filter_map(|label| Some((*by_place.get(&label.place)?, *label)))
        .collect()
}

async fn read(root: &str, pins: &Pins, max_rows: usize) -> Result<Dataset, Error> {
    let (root, pins) = (root.to_owned(), pins.clone());
    tokio::task::spawn_blocking(move || {
        let encoder = Encoder::new(&schema(), &network().encoder);
        Dataset::read(&root, &pins, &schema(), &encoder, max_rows, &Handle::current(), &Shutdown::new())
    })
    .await
    .unwrap()
}

fn compare(dataset: &Dataset, wanted: &[(&FeatureVector, &Label)]) {
    let times: Vec<i64> = wanted.iter().map(|(v, _)| v.event_time_ms).collect();
    assert_eq!(dataset.times(), times);
    let all = 0..wanted.len();
    let outcomes: Vec<gate::Outcome<'_>> = wanted
        .iter()
        .map(|(v, l)| gate::Outcome {
            campaign: &v.campaign,
            clicked: l.clicked,
            purchased: l.matured.then_some(l.purchased_after_click || l.purchased_after_view),
        })
        .collect();
    assert_eq!(dataset.outcomes(&all), outcomes);
    // The rows are the scorer's: the same encoder over the same vectors.
    let mut set = EncodedSet::new(&Encoder::new(&schema(), &network().encoder));
    for (vector, label) in wanted {
        set.push(vector, label, 1.0).unwrap();
    }
    let part = dataset.part(&all);
    for at in all {
        assert_eq!(part.row(at).numbers, set.row(at).numbers);
        assert_eq!(part.row(at).ids, set.row(at).ids);
    }
    let data = dataset.data();
    assert_eq!(data.rows, wanted.len());
    assert_eq!(data.clicked, wanted.iter().filter(|(_, l)| l.clicked).count());
    assert_eq!(data.matured, wanted.iter().filter(|(_, l)| l.matured).count());
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_pinned_tables_as_an_oracle_does() {
    let (_folder, store) = folder();
    let root = store.root_url();
    assert!(matches!(dataset::pin(root).await, Err(Error::NoTable { .. })));

    // Every 37th vector never came: its label has nothing to join.
    let absent = |v: &FeatureVector| v.place.offset % 37 == 0;
    let mut world = World::new(5);
    world.grow(3_000);
    world.write(&store, 4, absent).await;
    let (pins, records) = dataset::pin(root).await.unwrap();
    assert_eq!(records, world.labels.len() as u64);
    let (vectors, labels) = (world.vectors.clone(), world.labels.clone());
    for max_rows in [1_000_000, 900, 10] {
        let wanted = oracle(&vectors, &labels, max_rows, &absent);
        let dataset = read(root, &pins, max_rows).await.unwrap();
        compare(&dataset, &wanted);
        assert_eq!(dataset.data().labels, records);
        let in_reach = max_rows.min(3_000);
        assert_eq!(dataset.data().without_vector, in_reach - wanted.len());
    }

    // What comes later does not reach a pinned version.
    world.grow(700);
    world.write(&store, 2, absent).await;
    compare(&read(root, &pins, 1_000_000).await.unwrap(), &oracle(&vectors, &labels, 1_000_000, &absent));
    let (now, _) = dataset::pin(root).await.unwrap();
    assert!(now.iter().all(|(table, version)| version > &pins[table]));
    let wanted = oracle(&world.vectors, &world.labels, 2_000, &absent);
    compare(&read(root, &now, 2_000).await.unwrap(), &wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_when_asked() {
    let (_folder, store) = folder();
    let mut world = World::new(1);
    world.grow(50);
    world.write(&store, 1, |_| false).await;
    let (pins, _) = dataset::pin(store.root_url()).await.unwrap();
    let (root, stop) = (store.root_url().to_owned(), Shutdown::new());
    stop.set();
    let result = tokio::task::spawn_blocking(move || {
        let encoder = Encoder::new(&schema(), &network().encoder);
        Dataset::read(&root, &pins, &schema(), &encoder, 100, &Handle::current(), &stop)
    });
    assert!(matches!(result.await.unwrap(), Err(Error::Stopped)));
}
