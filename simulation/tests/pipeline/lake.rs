//! The lake by the rule that its writers keep (`lake::Ledger`), with tables in memory in the place of Delta's
//! (whose every step `lake/tests/stops.rs` interrupts): a batch is a file, and then an entry of the log that
//! names it together with the positions it moves; the entry is refused where the table does not stand where
//! its writer believes. Two writers a table die at any step, or lose the answer to a commit that was made.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use lake::{Ledger, Move};
use runtime::processor::TopicPartition;
use schemas::Place;
use simulation::{Broker, Rng, Totals};

use crate::pipeline::PARTS;

/// Where a record stands, and its value.
type Row = (Place, Option<Bytes>);

/// A table.
#[derive(Debug, Default)]
struct Table {
    files: Vec<Vec<Row>>,
    /// The files that the log names.
    log: Vec<usize>,
    /// Next offset to read, by partition.
    positions: BTreeMap<i32, i64>,
}

impl Table {
    /// Adds a file and moves positions, both or neither; whether it was done.
    fn commit(&mut self, file: usize, moves: &[Move]) -> bool {
        let stands = |moved: &Move| self.positions.get(&moved.partition).copied() == moved.from;
        let agreed = moves.iter().all(stands);
        if agreed {
            self.log.push(file);
            self.positions.extend(moves.iter().map(|moved| (moved.partition, moved.next)));
        }
        agreed
    }
}

/// What befalls a writer at a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Never,
    BeforeFile,
    BeforeLog,
    AfterLog,
    /// It lives, and is not told that the commit was made.
    AnswerLost,
}

/// A writer of a table, as the service drives it.
#[derive(Debug, Default)]
struct Writer {
    ledger: Ledger,
    /// Next offset to poll, by partition.
    reading: BTreeMap<i32, i64>,
    batch: Vec<Row>,
}

impl Writer {
    /// As after a start: it reads on from where the table stands.
    fn start(broker: &Broker, topic: &Arc<str>, table: &Table) -> Self {
        let mut writer = Self::default();
        for TopicPartition { partition, .. } in broker.partitions(topic) {
            let committed = table.positions.get(&partition).copied();
            writer.ledger.restore(partition, committed);
            writer.ledger.begin(partition, 0);
            writer.reading.insert(partition, committed.unwrap_or(0));
        }
        writer
    }

    fn read(&mut self, broker: &Broker, topic: &Arc<str>, most: usize) {
        for (&partition, next) in &mut self.reading {
            let of = TopicPartition { topic: Arc::clone(topic), partition };
            let records = broker.poll(&of, *next, most);
            let drained = records.len() < most;
            for record in records {
                let place = Place { partition, offset: record.record.offset };
                *next = place.offset + 1;
                if self.ledger.is_new(place) {
                    self.ledger.take(place);
                    self.batch.push((place, record.record.value));
                }
            }
            if drained {
                // Behind the last record lie only marks of transactions, and what was aborted.
                *next = broker.high(&of).max(*next);
                self.ledger.advance(partition, *next);
            }
        }
    }

    /// Commits all that waits; whether it lives.
    fn commit(&mut self, table: &mut Table, stop: Stop) -> bool {
        loop {
            let moves: Vec<Move> = self.ledger.moves().collect();
            if moves.is_empty() {
                self.batch.clear();
                return true;
            }
            if stop == Stop::BeforeFile {
                return false;
            }
            table.files.push(self.batch.clone());
            if stop == Stop::BeforeLog {
                return false;
            }
            let made = table.commit(table.files.len() - 1, &moves);
            if !made || stop == Stop::AnswerLost {
                self.reload(table);
                continue;
            }
            if stop == Stop::AfterLog {
                return false;
            }
            self.ledger.settle();
            self.batch.clear();
            return true;
        }
    }

    /// Another writer was faster, or it does not know: what is in already is dropped.
    fn reload(&mut self, table: &Table) {
        for partition in self.ledger.partitions() {
            self.ledger.reload(partition, table.positions.get(&partition).copied());
        }
        self.batch.retain(|(place, _)| !self.ledger.is_in(*place));
    }
}

/// The tables of all topics that no customer writes.
pub(crate) struct Lake {
    tables: Vec<(Arc<str>, Table, [Writer; 2])>,
    rng: Rng,
    /// What befell its writers.
    pub(crate) totals: Totals,
}

impl Lake {
    pub(crate) fn new(seed: u64, broker: &Broker) -> Self {
        let names = &PARTS.names;
        let topics = [
            &names.events,
            &names.late_events,
            &names.dead_letters,
            &names.feature_vectors,
            &names.labels,
            &names.duplicates,
            &names.entity_tiles,
            &names.aggregates,
            &names.predictions,
        ];
        let table = |topic: &Arc<str>| {
            let (topic, table) = (Arc::clone(topic), Table::default());
            let writers = [0, 1].map(|_| Writer::start(broker, &topic, &table));
            (topic, table, writers)
        };
        Self { tables: topics.map(table).into(), rng: Rng::new(seed ^ 0x1a4e), totals: Totals::default() }
    }

    /// One of the writers reads or commits.
    pub(crate) fn step(&mut self, broker: &Broker) {
        let at = self.rng.below(self.tables.len() as u64) as usize;
        let (topic, table, writers) = &mut self.tables[at];
        let writer = &mut writers[usize::from(self.rng.chance(300))];
        if self.rng.chance(600) {
            writer.read(broker, topic, 1 + self.rng.below(12) as usize);
            return;
        }
        let stop = match self.rng.below(16) {
            0 => Stop::BeforeFile,
            1 => Stop::BeforeLog,
            2 => Stop::AfterLog,
            3 => Stop::AnswerLost,
            _ => Stop::Never,
        };
        self.totals.lost_responses += u64::from(stop == Stop::AnswerLost);
        if !writer.commit(table, stop) {
            self.totals.crashes += 1;
            *writer = Writer::start(broker, topic, table);
        }
    }

    /// I4: when all has been read and committed, each table is the image of its topic.
    ///
    /// # Errors
    /// The first that is not; else the number of rows.
    pub(crate) fn check(&mut self, broker: &Broker) -> Result<u64, String> {
        let mut count = 0;
        for (topic, table, writers) in &mut self.tables {
            for writer in writers {
                writer.read(broker, topic, usize::MAX);
                writer.commit(table, Stop::Never);
            }
            let mut rows: Vec<&Row> = table.log.iter().flat_map(|file| &table.files[*file]).collect();
            rows.sort_unstable_by_key(|(place, _)| (place.partition, place.offset));
            let mut rows = rows.into_iter();
            for of in broker.partitions(topic) {
                for record in broker.all(&of) {
                    let place = Place { partition: record.partition, offset: record.offset };
                    match rows.next() {
                        Some((found, value)) if *found == place && *value == record.value => count += 1,
                        found => {
                            return Err(format!("I4: the table of {topic} has {found:?} for {place:?}"));
                        }
                    }
                }
            }
            if let Some(more) = rows.next() {
                return Err(format!("I4: the table of {topic} has {more:?}, its topic has not"));
            }
        }
        Ok(count)
    }
}
