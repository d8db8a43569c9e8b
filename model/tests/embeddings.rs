//! Ids and their embeddings: dictionaries, unknown ids, large tables.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod synthetic;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use model::encode::{KeyedSet, Outcome, VocabularyFit};
use model::{Artefact, Config, EncodedSet, Encoder, Explain, Job, Model, Progress, Trained, train};
use schemas::duration::Millis;
use schemas::{FeatureVector, VectorSchema};
use serde_json::json;
use synthetic::Made;

fn defaults() -> Config {
    let mut config: Config = synthetic::defaults(model::DEFAULTS);
    config.network.mlp = vec![32];
    config.network.width = 8;
    config.network.heads = 1;
    config.training.max_epochs = 2;
    config.training.validations_per_epoch = 1;
    (config.training.batch_size, config.training.min_steps_per_epoch) = (256, 0);
    config
}

fn with_dictionary() -> Config {
    let mut config = defaults();
    config.encoder.dictionaries = vec!["item".into(), "user".into()];
    config.encoder.user_buckets = 1_000;
    config.encoder.min_count = 3;
    config
}

fn keyed(encoder: &Encoder, made: &[Made]) -> KeyedSet {
    let mut set = KeyedSet::new(encoder);
    for one in made {
        set.push(encoder, &one.vector, Outcome::from(&one.label), 1.0).unwrap();
    }
    set
}

/// The encoder fitted to `made`.
fn fitted(schema: &VectorSchema, config: &Config, made: &[Made]) -> Encoder {
    let encoder = Encoder::new(schema, &config.encoder);
    let mut fit = VocabularyFit::new(&encoder);
    made.chunks(100).for_each(|block| fit.add(&keyed(&encoder, block)));
    fit.finish().0
}

fn learn(encoder: &Encoder, config: &Config, made: &[Made], parent: Option<&Model>) -> Trained {
    let set = keyed(encoder, made).resolve(encoder);
    let split = made.len() * 4 / 5;
    let (training, validation) = (set.select(0..split), set.select(split..made.len()));
    let job = Job::new(&training, &validation, config).with_parent(parent);
    train(job, &mut |_: &Progress| ControlFlow::Continue(())).unwrap()
}

fn click(model: &Model, vector: &FeatureVector) -> u32 {
    let scored = model.predict(std::slice::from_ref(vector), Explain { fields: 0, behaviours: 0 }).unwrap();
    scored[0].probabilities.p_click.to_bits()
}

/// The embedding of a value of the first field.
fn item_row<'a>(model: &'a Model, item: &str) -> &'a [f32] {
    let mut set = EncodedSet::new(model.encoder());
    let mut vector = synthetic::make(model.schema(), 1, 0, 1).remove(0).vector;
    item.clone_into(&mut vector.item);
    set.push_outcome(&vector, Outcome::default(), 1.0).unwrap();
    let width = model.config().network.width;
    let row = set.row(0).ids[0] as usize;
    &model.weights().tables[row * width..(row + 1) * width]
}

/// Made examples whose items are named by a skewed lot: many of them seldom.
fn made(schema: &VectorSchema, count: usize, seed: u64) -> Vec<Made> {
    let mut made = synthetic::make(schema, count, 0, seed);
    for (at, one) in made.iter_mut().enumerate() {
        one.vector.behaviours.clear();
        if at % 4 == 0 {
            one.vector.item = format!("rare {at}");
        }
    }
    made
}

#[test]
fn keyed_examples_give_the_rows_that_vectors_give() {
    let schema = synthetic::schema(2);
    let made = synthetic::make(&schema, 300, 4, 3);
    for mut config in [defaults(), with_dictionary()] {
        config.encoder.content_embedding = 4;
        let encoder = fitted(&schema, &config, &made);
        let mut direct = EncodedSet::new(&encoder);
        for one in &made {
            direct.push(&one.vector, &one.label, 1.0).unwrap();
        }
        let mut bytes = Vec::new();
        let mut read = KeyedSet::new(&encoder);
        for part in [&made[..120], &made[120..]] {
            bytes.clear();
            keyed(&encoder, part).write_to(&mut bytes);
            read.read_from(&bytes).unwrap();
        }
        // An even part of them.
        let some = read.thinned((100, 300));
        assert_eq!(some.len(), 100);
        // Of all of them: compared as bytes, since numbers that are missing equal nothing.
        let (mut whole, mut again) = (Vec::new(), Vec::new());
        read.write_to(&mut whole);
        read.thinned((300, 300)).write_to(&mut again);
        assert_eq!(whole, again);
        let (every_third, all) = (some.resolve(&encoder), read.resolve(&encoder));
        for at in 0..100 {
            let (a, b) = (every_third.row(at), all.row(at * 3 + 2));
            assert_eq!((a.ids, a.behaviours, a.embedding), (b.ids, b.behaviours, b.embedding));
            assert_eq!(some.times()[at], read.times()[at * 3 + 2]);
        }
        let resolved = read.resolve(&encoder);
        assert_eq!(resolved.len(), made.len());
        for at in 0..made.len() {
            let (a, b) = (resolved.row(at), direct.row(at));
            assert_eq!((a.ids, a.behaviours, a.embedding), (b.ids, b.behaviours, b.embedding));
            assert!(a.numbers.iter().zip(b.numbers).all(|(a, b)| a.to_bits() == b.to_bits()));
            assert_eq!(resolved.outcomes()[at], direct.outcomes()[at]);
        }
    }
}

#[test]
fn a_dictionary_admits_by_frequency_recency_and_room() {
    let schema = synthetic::schema(1);
    let mut made = synthetic::make(&schema, 60, 0, 5);
    for (at, one) in made.iter_mut().enumerate() {
        one.vector.behaviours.clear();
        one.vector.event_time_ms = at as i64 * 1_000;
        // "often" 20 times to the end, "early" 20 times in the first half, "seldom" 3 times, and
        // the rest once each.
        one.vector.item = match at {
            _ if at % 3 == 0 => "often".into(),
            ..=30 => "early".into(),
            31 | 35 | 40 => "seldom".into(),
            _ => format!("once {at}"),
        };
    }
    let mut config = defaults();
    config.encoder.dictionaries = vec!["item".into()];
    let admitted = |config: &Config| {
        let encoder = Encoder::new(&schema, &config.encoder);
        let mut fit = VocabularyFit::new(&encoder);
        // In any order and any blocks.
        fit.add(&keyed(&encoder, &made[40..]));
        fit.add(&keyed(&encoder, &made[..40]));
        let (encoder, ids) = fit.finish();
        let whole = fitted(&schema, config, &made);
        assert_eq!(encoder, whole);
        let said = ids[0].dictionary.unwrap();
        assert_eq!(encoder.tables()[0].rows as u64, said.admitted + 2);
        (said.admitted, said.rare, said.expired, said.crowded_out, said.unknown_share)
    };
    config.encoder.min_count = 4;
    let (all, rare, expired, crowded, unknown) = admitted(&config);
    assert_eq!((all, rare, expired, crowded), (2, 18, 0, 0));
    assert!((unknown - 20.0 / 60.0).abs() < 1e-12, "{unknown}");
    config.encoder.expiry = Millis(20_000);
    assert_eq!(admitted(&config).0, 1);
    assert_eq!(admitted(&config).2, 1);
    config.encoder.expiry = Millis(0);
    config.encoder.min_count = 1;
    config.encoder.item_buckets = 5;
    let (all, rare, expired, crowded, _) = admitted(&config);
    assert_eq!((all, rare, expired, crowded), (3, 0, 0, 17));
}

#[test]
fn rare_ids_train_the_row_of_unknown_ones_and_the_artefact_keeps_the_dictionary() {
    let schema = synthetic::schema(2);
    let config = with_dictionary();
    let made = made(&schema, 4_000, 7);
    let encoder = fitted(&schema, &config, &made[..3_200]);
    let items = &encoder.tables()[0];
    assert_eq!(items.name, "item");
    assert!(items.rows > 300 && items.rows < 600, "{}", items.rows);
    let trained = learn(&encoder, &config, &made, None);
    let model = &trained.model;
    // The row of unknown ids has been trained, and is what ids never seen are given.
    let unknown = item_row(model, "never seen");
    assert!(unknown.iter().any(|value| value.abs() > 0.02), "{unknown:?}");
    assert_eq!(unknown, item_row(model, "rare 8"));
    let known = (0..500).map(|item| format!("i{item}")).find(|item| item_row(model, item) != unknown);
    let known = known.unwrap();
    assert!(item_row(model, "").iter().all(|&value| value == 0.0), "an item is always given");

    let artefact = trained.artefact(&json!({})).unwrap();
    let loaded = Model::load(&artefact, None).unwrap();
    assert_eq!(loaded.encoder(), &encoder);
    let mut vector = made[9].vector.clone();
    for item in ["never seen", "rare 8", &known, ""] {
        vector.item = item.into();
        assert_eq!(click(&loaded, &vector), click(model, &vector));
        assert_eq!(item_row(&loaded, item), item_row(model, item));
    }
    vector.item = known;
    let said = click(model, &vector);
    vector.item = "i never was".into();
    assert_ne!(said, click(model, &vector));

    // Equal trainings give equal dictionaries and weights; the keys are under the weights' checksum.
    let again = learn(&fitted(&schema, &config, &made[..3_200]), &config, &made, None);
    assert_eq!(again.artefact(&json!({})).unwrap().checksum(), artefact.checksum());
    let mut files = artefact.files().clone();
    let mut weights = files["model.safetensors"].to_vec();
    let at = weights.windows(12).position(|bytes| bytes == b"dictionary.i").unwrap();
    weights[at] = b'D';
    files.insert("model.safetensors".into(), weights.into());
    assert!(Model::load(&Artefact::from_files(files), None).is_err());
}

#[test]
fn a_warm_start_finds_the_parents_rows_by_id() {
    let schema = synthetic::schema(2);
    let mut config = with_dictionary();
    let (first, second) = (made(&schema, 3_000, 1), made(&schema, 3_000, 2));
    let parent = learn(&fitted(&schema, &config, &first[..2_400]), &config, &first, None).model;
    // Other examples: other ids, in another order.
    let encoder = fitted(&schema, &config, &second[..2_400]);
    assert_ne!(&encoder, parent.encoder());
    config.training.max_epochs = 1;
    config.training.learning_rate = 1e-12;
    config.training.embedding_learning_rate = 1e-12;
    let child = learn(&encoder, &config, &second, Some(&parent));
    assert!(child.history.parent.is_some());
    let mut kept = 0;
    for item in 0..500 {
        let item = format!("i{item}");
        let (theirs, ours) = (item_row(&parent, &item), item_row(&child.model, &item));
        if ours == item_row(&child.model, "never seen") {
            continue;
        }
        // Ids that only the child knows start from the parent's row of unknown ones.
        assert!(theirs.iter().zip(ours).all(|(a, b)| (a - b).abs() < 1e-6), "{item}");
        kept += u32::from(theirs != item_row(&parent, "never seen"));
    }
    assert!(kept > 200, "{kept}");
    // Another network is no parent.
    config.encoder.item_buckets += 1;
    let other = learn(&fitted(&schema, &config, &second[..2_400]), &config, &second, Some(&parent));
    assert!(other.history.parent.is_none());
}

#[test]
fn ten_million_rows_train_as_cheaply_as_those_that_are_named() {
    let schema = synthetic::schema(1);
    let mut config = defaults();
    config.encoder.item_buckets = 10_000_000;
    let made = synthetic::make(&schema, 1_000, 0, 4);
    let encoder = Encoder::new(&schema, &config.encoder);
    let set = keyed(&encoder, &made).resolve(&encoder);
    // Of training examples alone: a validation reads rows, and writes none.
    let mut named = BTreeSet::new();
    for at in 0..800 {
        let row = set.row(at);
        named.extend(row.ids.iter().copied());
        named.extend(row.behaviours.iter().flat_map(|behaviour| behaviour.rows));
    }
    assert!(named.len() > 500 && named.len() < 1_500, "{}", named.len());
    let model = learn(&encoder, &config, &made, None).model;
    let width = config.network.width;
    let tables = &model.weights().tables;
    assert_eq!(tables.len(), encoder.table_rows() * width);
    let written: BTreeSet<u32> = tables
        .chunks_exact(width)
        .enumerate()
        .filter(|(_, row)| row.iter().any(|&value| value != 0.0))
        .map(|(row, _)| row as u32)
        .collect();
    assert_eq!(written, named);
}

#[test]
fn the_user_is_one_more_field_where_it_is_asked_for() {
    let schema = synthetic::schema(1);
    let mut config = defaults();
    config.encoder.user_buckets = 0;
    let plain = Encoder::new(&schema, &config.encoder);
    config.encoder.user_buckets = 1_000;
    let with_user = Encoder::new(&schema, &config.encoder);
    assert!(!plain.reads_as(&with_user) && plain.reads_as(&plain));
    let names = |encoder: &Encoder| encoder.tables().iter().map(|table| table.name).collect::<Vec<_>>();
    assert_eq!(names(&with_user)[..7], names(&plain));
    assert_eq!(names(&with_user)[7..], ["user"]);
    let vectors = synthetic::make(&schema, 40, 0, 2);
    let (mut a, mut b) = (EncodedSet::new(&plain), EncodedSet::new(&with_user));
    for one in &vectors {
        a.push(&one.vector, &one.label, 1.0).unwrap();
        b.push(&one.vector, &one.label, 1.0).unwrap();
    }
    let users: BTreeSet<u32> = (0..40).map(|at| b.row(at).ids[7]).collect();
    assert!(users.len() > 30);
    assert!((0..40).all(|at| a.row(at).ids == &b.row(at).ids[..7]));
    // It trains and predicts; the golden batch of the artefact names nobody.
    config.training.max_epochs = 1;
    let trained = learn(&with_user, &config, &synthetic::make(&schema, 600, 0, 9), None);
    assert!(trained.golden.iter().all(|vector| vector.user.is_empty()));
    assert_eq!(trained.model.tokens()[7], "user");
}
