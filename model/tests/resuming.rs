//! A training that is stopped and goes on from a checkpoint ends with the same bits as one that was
//! never stopped; examples in blocks train as they are said to.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod synthetic;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::config::{OptimizerKind, Unmatured};
use model::train::{Block, CheckpointError};
use model::{
    Checkpoint, Config, EncodedSet, Encoder, Examples, Job, Observer, Progress, Snapshot, Source,
    SourceError, TrainError, Trained, train,
};
use schemas::FeatureVector;

fn defaults() -> Config {
    let mut config: Config = synthetic::defaults(model::DEFAULTS);
    config.encoder.item_buckets = 4096;
    config.network.width = 8;
    config.network.heads = 1;
    config.network.mlp = vec![16];
    (config.training.batch_size, config.training.min_steps_per_epoch) = (100, 0);
    config.training.max_epochs = 2;
    config.training.threads = 1;
    config
}

/// Everything that a checkpoint has to carry is in use.
fn demanding() -> Config {
    let mut config = defaults();
    (config.network.cross_layers, config.network.cross_rank) = (2, 4);
    config.training.mixup = 0.2;
    config.training.feature_dropout = 0.1;
    config.training.behaviour_crop = 0.3;
    config.training.negative_rate = 0.8;
    config.training.unmatured = Unmatured::Delayed;
    config.training.value_weight = 0.7;
    config.training.warmup_steps = 3;
    config.training.shuffle_blocks = 2;
    config
}

/// Examples in blocks, and how many blocks have been read.
struct Blocks {
    sets: Vec<Arc<EncodedSet>>,
    /// Most blocks that were in memory at once.
    most: AtomicUsize,
    read: AtomicUsize,
    broken: Option<usize>,
}

impl Source for Blocks {
    fn encoder(&self) -> &Encoder {
        self.sets[0].encoder()
    }

    fn blocks(&self) -> usize {
        self.sets.len()
    }

    fn block(&self, number: usize) -> Result<Block<'_>, SourceError> {
        self.read.fetch_add(1, Ordering::Relaxed);
        if self.broken == Some(number) {
            return Err("the disk is gone".into());
        }
        let held: usize = self.sets.iter().map(|set| Arc::strong_count(set) - 1).sum();
        self.most.fetch_max(held + 1, Ordering::Relaxed);
        Ok(Block::from(Arc::clone(&self.sets[number])))
    }

    fn samples(&self) -> &[FeatureVector] {
        self.sets[0].samples()
    }
}

fn blocks(config: &Config, sizes: &[usize], seed: u64) -> (Blocks, EncodedSet) {
    let schema = synthetic::schema(1);
    let encoder = Encoder::new(&schema, &config.encoder);
    let mut made = synthetic::make(&schema, sizes.iter().sum::<usize>() + 300, 0, seed).into_iter();
    let mut take = |count: usize| {
        let mut set = EncodedSet::new(&encoder);
        for one in made.by_ref().take(count) {
            set.push(&one.vector, &one.label, 1.0).unwrap();
        }
        set
    };
    let sets = sizes.iter().map(|&size| Arc::new(take(size))).collect();
    (Blocks { sets, most: AtomicUsize::new(0), read: AtomicUsize::new(0), broken: None }, take(300))
}

/// Writes a checkpoint after step `at` and stops.
struct Stopper {
    at: u64,
    bytes: Option<Vec<u8>>,
}

impl Observer for Stopper {
    fn step(&mut self, progress: &Progress, state: &Snapshot<'_>) -> ControlFlow<()> {
        if progress.done < self.at {
            return ControlFlow::Continue(());
        }
        self.bytes = Some(state.to_bytes());
        ControlFlow::Break(())
    }
}

fn checksum(trained: &Trained) -> String {
    trained.model.weights_checksum().unwrap()
}

fn stopped_after(at: u64, job: Job<'_>) -> Vec<u8> {
    let mut stopper = Stopper { at, bytes: None };
    let ended = train(job, &mut stopper);
    assert!(matches!(ended, Ok(_) | Err(TrainError::Stopped)), "{ended:?}");
    stopper.bytes.unwrap()
}

#[test]
fn it_goes_on_as_if_it_had_never_stopped() {
    for kind in [OptimizerKind::AdamW, OptimizerKind::Sgd] {
        let mut config = demanding();
        config.training.optimizer = kind;
        let (source, validation) = blocks(&config, &[230, 90, 310, 170], 1);
        let validation = validation.all();
        let job = || Job::new(&source, &validation, &config);
        let whole = train(job(), &mut ()).unwrap();
        let total = whole.history.steps;
        assert!(total >= 12, "{total}");
        for at in [1, 3, total / 2, total / 2 + 1, total - 1, total] {
            let bytes = stopped_after(at, job());
            let checkpoint = Checkpoint::read(&mut bytes.as_slice()).unwrap();
            assert_eq!(checkpoint.done(), at);
            let resumed = train(job().with_resume(Some(checkpoint)), &mut ()).unwrap();
            assert_eq!(checksum(&resumed), checksum(&whole), "{kind:?} stopped after step {at}");
            assert_eq!(resumed.history, whole.history);
        }
    }
}

#[test]
fn it_goes_on_across_a_fall_of_the_step_sizes() {
    for averaging in [0.0, 0.9] {
        let mut config = demanding();
        config.training.learning_rate = 0.1;
        config.training.averaging = averaging;
        (config.training.max_epochs, config.training.validations_per_epoch) = (12, 4);
        config.training.patience = 2;
        (config.training.plateau_decays, config.training.plateau_factor) = (2, 0.3);
        let (source, validation) = blocks(&config, &[230, 90, 310, 170], 1);
        let validation = validation.all();
        let job = || Job::new(&source, &validation, &config);
        let whole = train(job(), &mut ()).unwrap();
        let decays = &whole.history.decays;
        assert_eq!(decays.len(), 2, "{:?}", whole.history);
        let falls = decays.iter().map(|&at| whole.history.validations[at].steps);
        for at in falls.flat_map(|step| [step - 1, step, step + 1]) {
            let bytes = stopped_after(at, job());
            let checkpoint = Checkpoint::read(&mut bytes.as_slice()).unwrap();
            let resumed = train(job().with_resume(Some(checkpoint)), &mut ()).unwrap();
            assert_eq!(checksum(&resumed), checksum(&whole), "averaging {averaging}, after step {at}");
            assert_eq!(resumed.history, whole.history);
        }
    }
}

#[test]
fn it_may_be_stopped_again_and_threads_may_change() {
    let mut config = demanding();
    let (source, validation) = blocks(&config, &[230, 90, 310, 170], 2);
    let validation = validation.all();
    let whole = checksum(&train(Job::new(&source, &validation, &config), &mut ()).unwrap());
    let first = stopped_after(2, Job::new(&source, &validation, &config));
    config.training.threads = 2;
    let checkpoint = Checkpoint::read(&mut first.as_slice()).unwrap();
    let second = stopped_after(5, Job::new(&source, &validation, &config).with_resume(Some(checkpoint)));
    let checkpoint = Checkpoint::read(&mut second.as_slice()).unwrap();
    let job = Job::new(&source, &validation, &config).with_resume(Some(checkpoint));
    assert_eq!(checksum(&train(job, &mut ()).unwrap()), whole);
}

#[test]
fn damage_is_told_by_the_checksum() {
    let config = defaults();
    let (source, validation) = blocks(&config, &[300], 3);
    let validation = validation.all();
    let bytes = stopped_after(2, Job::new(&source, &validation, &config));
    assert!(Checkpoint::read(&mut bytes.as_slice()).is_ok());
    let end = bytes.len();
    for at in [20, 200, end / 3, end / 2, end - 40, end - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        let read = Checkpoint::read(&mut damaged.as_slice());
        let refused = matches!(
            read,
            Err(CheckpointError::Damaged { .. } | CheckpointError::Format | CheckpointError::Read(_))
        );
        assert!(refused, "byte {at}: {read:?}");
    }
    let mut damaged = bytes.clone();
    damaged[end / 2] ^= 4;
    let told = Checkpoint::read(&mut damaged.as_slice()).unwrap_err().to_string();
    assert!(told.starts_with("checkpoint is damaged: its checksum is "), "{told}");
    for cut in [0, 5, 100, end / 2, end - 1] {
        assert!(Checkpoint::read(&mut &bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_checkpoint_of_another_training_is_refused() {
    let config = defaults();
    let (source, validation) = blocks(&config, &[300], 4);
    let validation = validation.all();
    let bytes = stopped_after(2, Job::new(&source, &validation, &config));
    let refused = |job: Job<'_>| {
        let checkpoint = Checkpoint::read(&mut bytes.as_slice()).unwrap();
        match train(job.with_resume(Some(checkpoint)), &mut ()) {
            Err(TrainError::Checkpoint(CheckpointError::Other { what })) => what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(Job::new(&source, &validation, &config).with_seed(9)), "seed");
    let mut other = config.clone();
    other.training.learning_rate = 0.5;
    assert_eq!(refused(Job::new(&source, &validation, &other)), "config");
    let (more, _) = blocks(&config, &[301], 4);
    assert_eq!(refused(Job::new(&more, &validation, &config)), "number of training examples");
}

#[test]
fn a_checkpoint_of_a_place_where_no_training_is_is_refused() {
    let config = defaults();
    let (source, validation) = blocks(&config, &[300], 4);
    let validation = validation.all();
    let bytes = stopped_after(2, Job::new(&source, &validation, &config));
    let end = 16 + u64::from_le_bytes(bytes[8..16].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[16..end]).unwrap();
    // Behind magic and length the header, under a checksum that has been made to fit.
    let resumed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut header = header.clone();
        change(&mut header);
        let header = serde_json::to_vec(&header).unwrap();
        let arrays = &bytes[end..bytes.len() - blake3::OUT_LEN];
        let mut bytes =
            [&bytes[..8], &(header.len() as u64).to_le_bytes()[..], header.as_slice(), arrays].concat();
        bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
        let checkpoint = Checkpoint::read(&mut bytes.as_slice()).unwrap();
        train(Job::new(&source, &validation, &config).with_resume(Some(checkpoint)), &mut ())
    };
    assert!(resumed(&|_| {}).is_ok());
    let far = || serde_json::json!(1_000_000_000);
    for (part, key) in
        [("position", "step"), ("position", "epoch"), ("position", "seen"), ("history", "best")]
    {
        let ended = resumed(&|header| {
            assert!(header[part].get(key).is_some(), "{header}");
            header[part][key] = far();
        });
        let Err(TrainError::Checkpoint(CheckpointError::Other { what })) = ended else {
            panic!("{part}.{key}: {:?}", ended.err());
        };
        assert_eq!(what, "position", "{part}.{key}");
    }
}

#[test]
fn each_epoch_shows_every_example_once_whatever_the_blocks() {
    /// Counts what it is told.
    #[derive(Default)]
    struct Counter(Vec<(usize, usize)>, u64);
    impl Observer for Counter {
        fn step(&mut self, progress: &Progress, _state: &Snapshot<'_>) -> ControlFlow<()> {
            self.0.push((progress.epoch, progress.step));
            self.1 = progress.examples;
            ControlFlow::Continue(())
        }
    }
    let mut config = defaults();
    config.training.patience = 100;
    config.training.shuffle_blocks = 2;
    for sizes in [vec![500], vec![120, 7, 93, 0, 180, 100], vec![250, 250], vec![1, 499]] {
        let (source, validation) = blocks(&config, &sizes, 5);
        let validation = validation.all();
        let mut counter = Counter::default();
        let trained = train(Job::new(&source, &validation, &config), &mut counter).unwrap();
        let steps: Vec<(usize, usize)> =
            (0..2).flat_map(|epoch| (0..5).map(move |step| (epoch, step))).collect();
        assert_eq!(counter.0, steps, "{sizes:?}");
        assert_eq!((counter.1, trained.history.examples), (1_000, 500));
        assert_eq!(source.read.load(Ordering::Relaxed), 3 * sizes.len(), "one pass before, one an epoch");
    }
}

#[test]
fn no_more_blocks_are_in_memory_than_two_windows() {
    let mut config = defaults();
    config.training.shuffle_blocks = 3;
    let (source, validation) = blocks(&config, &[60; 20], 8);
    let validation = validation.all();
    train(Job::new(&source, &validation, &config), &mut ()).unwrap();
    let most = source.most.load(Ordering::Relaxed);
    assert!(most <= 6, "{most} blocks at once");
}

#[test]
fn a_source_that_fails_ends_training_with_its_error() {
    let config = defaults();
    let (mut source, validation) = blocks(&config, &[200, 200], 6);
    source.broken = Some(1);
    let validation = validation.all();
    let told = train(Job::new(&source, &validation, &config), &mut ()).unwrap_err().to_string();
    assert_eq!(told, "training examples: the disk is gone");
}

#[test]
fn a_number_that_is_none_is_told_with_its_examples() {
    let mut config = defaults();
    config.training.learning_rate = 1e30;
    config.training.clip_norm = 0.0;
    let (source, validation) = blocks(&config, &[150, 150], 7);
    let validation: Examples<'_> = validation.all();
    match train(Job::new(&source, &validation, &config), &mut ()) {
        Err(error @ TrainError::NotFinite { epoch: 0, .. }) => {
            let TrainError::NotFinite { places, .. } = &error else { unreachable!("matched above") };
            assert!(!places.0.is_empty() && places.0.len() <= 300);
            assert!(places.0.iter().all(|(block, position)| *block < 2 && *position < 300));
            assert!(error.to_string().contains("; examples: "), "{error}");
        }
        other => panic!("{other:?}"),
    }
}
