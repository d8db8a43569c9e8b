//! The lake by its rule, without Delta (whose every step `lake/tests/stops.rs` interrupts): a batch is a
//! file and then an entry of the log that names it together with the offsets it reaches; the entry is
//! refused where the table does not stand where its writer believes. Two writers a table, which die at any
//! step and then read on from where the table stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use runtime::processor::TopicPartition;
use simulation::{Broker, Rng};

use crate::pipeline::PARTS;

/// Next offset to read, by partition.
type Positions = BTreeMap<i32, i64>;
/// The place of a record, and its value.
type Row = (i32, i64, Option<Bytes>);

/// A table.
#[derive(Debug, Default)]
struct Table {
    files: Vec<Vec<Row>>,
    /// The files that the log names.
    log: Vec<usize>,
    positions: Positions,
}

/// A writer of a table.
#[derive(Debug, Clone, Default)]
struct Writer {
    /// Where it believes the table to stand.
    known: Positions,
    next: Positions,
    batch: Vec<Row>,
}

impl Writer {
    /// As after a start.
    fn of(table: &Table) -> Self {
        let positions = table.positions.clone();
        Self { known: positions.clone(), next: positions, batch: Vec::new() }
    }

    fn read(&mut self, broker: &Broker, topic: &Arc<str>, most: usize) {
        for of in broker.partitions(topic) {
            let next = self.next.entry(of.partition).or_default();
            let records = broker.poll(&of, *next, most);
            let drained = records.len() < most;
            for record in records {
                *next = record.record.offset + 1;
                self.batch.push((of.partition, record.record.offset, record.record.value));
            }
            if drained {
                // Behind the last record lie only marks of transactions, and what was aborted.
                *next = broker.high(&of).max(*next);
            }
        }
    }

    /// Commits, or dies of it; then it has started again.
    fn commit(&mut self, table: &mut Table, rng: &mut Rng) {
        let dies_at = rng.below(12);
        while self.next != self.known {
            if dies_at == 0 {
                *self = Self::of(table);
                return;
            }
            table.files.push(self.batch.clone());
            if dies_at == 1 {
                *self = Self::of(table);
                return;
            }
            if table.positions != self.known {
                self.catch_up(table);
                continue;
            }
            table.log.push(table.files.len() - 1);
            table.positions.clone_from(&self.next);
            if dies_at == 2 {
                *self = Self::of(table);
                return;
            }
            self.known.clone_from(&self.next);
            self.batch.clear();
        }
    }

    /// The other writer was faster: what is in already is dropped.
    fn catch_up(&mut self, table: &Table) {
        self.known.clone_from(&table.positions);
        for (partition, position) in &self.known {
            let next = self.next.entry(*partition).or_default();
            *next = (*next).max(*position);
        }
        let is_in =
            |partition: &i32, offset: i64| self.known.get(partition).is_some_and(|next| offset < *next);
        self.batch.retain(|(partition, offset, _)| !is_in(partition, *offset));
    }
}

/// The tables of all topics that no customer writes.
pub(crate) struct Lake {
    tables: Vec<(Arc<str>, Table, [Writer; 2])>,
    rng: Rng,
}

impl Lake {
    pub(crate) fn new(seed: u64) -> Self {
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
        let table = |topic: &Arc<str>| (Arc::clone(topic), Table::default(), <[Writer; 2]>::default());
        Self { tables: topics.map(table).into(), rng: Rng::new(seed ^ 0x1a4e) }
    }

    /// One of the writers reads or commits.
    pub(crate) fn step(&mut self, broker: &Broker) {
        let (topic, table, writers) = &mut self.tables[self.rng.below(9) as usize];
        let writer = &mut writers[usize::from(self.rng.chance(300))];
        if self.rng.chance(600) {
            writer.read(broker, topic, 1 + self.rng.below(12) as usize);
        } else {
            writer.commit(table, &mut self.rng);
        }
    }

    /// I4: when all has been read and committed, each table is the image of its topic.
    ///
    /// # Errors
    /// The first that is not; else the number of rows.
    pub(crate) fn check(&mut self, broker: &Broker) -> Result<u64, String> {
        let mut count = 0;
        for (topic, table, writers) in &mut self.tables {
            writers[0].read(broker, topic, usize::MAX);
            // A writer that dies stands where the table does, which may be short of the end.
            let short = |table: &Table, of: &TopicPartition| {
                table.positions.get(&of.partition).copied().unwrap_or_default() < broker.high(of)
            };
            while broker.partitions(topic).iter().any(|of| short(table, of)) {
                writers[0].read(broker, topic, usize::MAX);
                writers[0].commit(table, &mut self.rng);
            }
            let mut rows: Vec<&Row> = table.log.iter().flat_map(|file| &table.files[*file]).collect();
            rows.sort();
            let all = |of: &TopicPartition| broker.all(of);
            let image: Vec<Row> = broker
                .partitions(topic)
                .iter()
                .flat_map(all)
                .map(|record| (record.partition, record.offset, record.value))
                .collect();
            if rows.len() != image.len() || rows.into_iter().ne(&image) {
                return Err(format!("I4: the table of {topic} is not its image"));
            }
            count += image.len() as u64;
        }
        Ok(count)
    }
}
