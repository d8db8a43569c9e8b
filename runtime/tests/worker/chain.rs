//! A service that does another's work in its own transactions, beside the two by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use runtime::chain::ChainFactory;
use runtime::kafka::{Admin, Sender};
use runtime::processor::{
    InRecord, Input, OutRecord, Outputs, Processor, ProcessorFactory, StandIn, StepError, TopicPartition,
    UnitId,
};
use runtime::shutdown::Shutdown;
use runtime::worker::{self, WorkerError, is_stood_in};

use crate::copying::{CopyingFactory, check};
use crate::place::{PARTITIONS, Place};
use crate::spawn;

/// Says again what was copied.
struct Saying {
    said: Arc<str>,
}

impl Processor for Saying {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let Input::Records { records, .. } = input else { return Ok(()) };
        out.records.extend(records.iter().map(|record| OutRecord {
            topic: Arc::clone(&self.said),
            partition: Some(record.record.partition),
            key: record.record.key.clone(),
            value: record.record.value.clone(),
            headers: Vec::new(),
        }));
        Ok(())
    }
}

struct SayingFactory {
    prefix: String,
}

impl ProcessorFactory for SayingFactory {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec![format!("{}out", self.prefix).into()]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        vec![format!("{}said", self.prefix).into()]
    }

    fn unit(&self, partition: &TopicPartition) -> UnitId {
        UnitId(partition.partition as u32)
    }

    fn create(&self, _unit: UnitId, _snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        Ok(Box::new(Saying { said: format!("{}said", self.prefix).into() }))
    }
}

/// The offset that a copy was made of, which stands in its header.
fn made_of(record: &InRecord) -> Result<i64, StepError> {
    let (_, offset) = record.record.headers.first().ok_or_else(|| StepError::new("no header"))?;
    String::from_utf8_lossy(offset.as_deref().unwrap_or_default()).parse().map_err(StepError::new)
}

pub(crate) fn chained(prefix: &str) -> ChainFactory {
    let first = Arc::new(CopyingFactory::new(prefix));
    let second = Arc::new(SayingFactory { prefix: prefix.to_owned() });
    let stand_in = StandIn { service: "say".into(), topic: format!("{prefix}out").into(), made_of };
    ChainFactory::new(first, second, stand_in).unwrap()
}

/// A service that runs until it is told to leave for good.
struct Running {
    shutdown: Shutdown,
    thread: JoinHandle<Result<(), WorkerError>>,
}

impl Running {
    fn start(place: &Place, name: &'static str, factory: impl ProcessorFactory + 'static) -> Self {
        let (mut settings, shutdown) = (place.settings(), Shutdown::new());
        settings.service.workers = 1;
        let stop = shutdown.clone();
        let thread = std::thread::spawn(move || worker::run(name, Arc::new(factory), &settings, stop));
        Self { shutdown, thread }
    }

    fn copy(place: &Place) -> Self {
        Self::start(place, "copy", CopyingFactory::new(&place.kafka.prefix))
    }

    fn say(place: &Place) -> Self {
        Self::start(place, "say", SayingFactory { prefix: place.kafka.prefix.clone() })
    }

    fn chain(place: &Place) -> Self {
        Self::start(place, "copy", chained(&place.kafka.prefix))
    }

    fn leave(self) {
        self.shutdown.drain();
        self.thread.join().unwrap().unwrap();
    }

    /// What it ends with by itself.
    fn failure(self) -> String {
        self.thread.join().unwrap().expect_err("it must fail").to_string()
    }
}

/// What the second's group has committed of the topic between.
fn read_by_say(place: &Place) -> Vec<Option<(i64, String)>> {
    let group = format!("{}salience-say", place.kafka.prefix);
    Admin::new(&place.kafka).unwrap().committed(&group, &place.topic("out")).unwrap()
}

#[test]
fn chained_and_by_themselves_by_turns_they_lose_and_repeat_nothing() {
    let place = Place::new("turns");
    let sender = Sender::new(&place.kafka).unwrap();
    let mut fed = 0;
    for round in 0..4 {
        let is_chained = round % 2 == 1;
        let running = if is_chained {
            vec![Running::chain(&place)]
        } else {
            vec![Running::copy(&place), Running::say(&place)]
        };
        place.feed(&sender, fed..fed + 400);
        fed += 400;
        check(&place.read_of("said", fed as usize), fed / PARTITIONS as u64);
        running.into_iter().for_each(Running::leave);
        for (partition, committed) in read_by_say(&place).into_iter().enumerate() {
            let (offset, text) = committed.unwrap();
            assert_eq!(is_stood_in(&text), is_chained, "{text:?} after round {round}");
            let ends = Admin::new(&place.kafka).unwrap().end_offsets(&place.topic("out")).unwrap();
            // Behind the last record stands the marker of its transaction alone.
            assert_eq!(offset, ends[partition] - 1, "partition {partition} after round {round}");
        }
    }
    check(&place.read(fed as usize), fed / PARTITIONS as u64);
}

#[test]
fn who_comes_second_waits_until_the_other_has_gone() {
    let place = Place::new("rivals");
    let sender = Sender::new(&place.kafka).unwrap();
    let chain = Running::chain(&place);
    place.feed(&sender, 0..400);
    check(&place.read_of("said", 400), 100);
    let say = Running::say(&place);
    place.feed(&sender, 400..800);
    // Nothing is said twice: what more comes within half a second is read as well.
    check(&place.read_of("said", 800), 200);
    assert!(!say.thread.is_finished(), "it waits");
    chain.leave();
    let copy = Running::copy(&place);
    place.feed(&sender, 800..1_200);
    check(&place.read_of("said", 1_200), 300);
    copy.leave();
    // And the other way around.
    let chain = Running::chain(&place);
    place.feed(&sender, 1_200..1_600);
    // Time in which it could do what it must not.
    std::thread::sleep(Duration::from_millis(500));
    check(&place.read_of("said", 1_200), 300);
    say.leave();
    check(&place.read_of("said", 1_600), 400);
    chain.leave();
}

#[test]
fn what_the_other_has_not_read_stops_a_chain_and_nothing_is_lost() {
    let place = Place::new("unread");
    let sender = Sender::new(&place.kafka).unwrap();
    let copy = Running::copy(&place);
    place.feed(&sender, 0..400);
    place.read(400);
    copy.leave();
    let said = Running::chain(&place).failure();
    assert!(said.contains("holds records from offset 0 on that say has not read"), "{said}");
    let say = Running::say(&place);
    check(&place.read_of("said", 400), 100);
    say.leave();
    let chain = Running::chain(&place);
    place.feed(&sender, 400..800);
    check(&place.read_of("said", 800), 200);
    chain.leave();
}

#[test]
fn a_chain_that_is_killed_again_and_again_says_each_record_exactly_once() {
    let place = Place::new("chainkilled");
    let sender = Sender::new(&place.kafka).unwrap();
    let (kills, each) = (4, 4_000_u64);
    for round in 0..kills {
        let mut worker = spawn(&place, "chained");
        place.feed(&sender, round * each..(round + 1) * each);
        // Not before it has begun, at another moment each time.
        place.read_of("said", (round * each) as usize + 1);
        // As above.
        std::thread::sleep(Duration::from_millis(7 * round));
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    let mut worker = spawn(&place, "chained");
    let per_partition = kills * each / PARTITIONS as u64;
    check(&place.read_of("said", (kills * each) as usize), per_partition);
    check(&place.read((kills * each) as usize), per_partition);
    worker.kill().unwrap();
    worker.wait().unwrap();
}

#[test]
fn a_chain_at_least_once_says_everything_though_it_is_killed() {
    let place = Place::new("chainleast");
    let sender = Sender::new(&place.kafka).unwrap();
    let (kills, each) = (3, 4_000_u64);
    for round in 0..kills {
        let mut worker = spawn(&place, "chained at least once");
        place.feed(&sender, round * each..(round + 1) * each);
        place.read_of("said", (round * each) as usize + 1);
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    let mut worker = spawn(&place, "chained at least once");
    let all = |found: &BTreeMap<i32, Vec<String>>| {
        found
            .values()
            .flatten()
            .filter_map(|line| line.split(' ').nth(1)?.parse().ok())
            .collect::<BTreeSet<u64>>()
    };
    let wanted: BTreeSet<u64> = (0..kills * each).collect();
    let mut count = wanted.len();
    // Repeats count as well, so that more may have to come than there are records.
    loop {
        let found = place.read_of("said", count);
        if all(&found) == wanted {
            break;
        }
        count = found.values().map(Vec::len).sum::<usize>() + 1;
    }
    worker.kill().unwrap();
    worker.wait().unwrap();
}
