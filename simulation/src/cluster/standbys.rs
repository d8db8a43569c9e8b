//! What the standbys of a worker's process do: a little at a time, at moments of the seed's choice.

use std::sync::Arc;

use runtime::core::{Command, Event, Failure};
use runtime::processor::{InRecord, TopicPartition};

use super::Cluster;
use super::calls::load;

impl Cluster {
    /// A worker's process is to follow these partitions from now on.
    pub fn place_standbys(&mut self, index: usize, partitions: Vec<TopicPartition>) {
        self.workers[index].standbys.place(partitions);
    }

    /// A worker's process is to follow any of its service's partitions from now on.
    pub fn shuffle_standbys(&mut self, index: usize) {
        let service = Arc::clone(&self.workers[index].service);
        let inputs = self.broker.group(&service).inputs().to_vec();
        let placed = inputs.into_iter().filter(|_| self.rng.chance(700)).collect();
        self.place_standbys(index, placed);
    }

    /// The standbys of a worker's process hear what is committed, are built, read and fold: some of it, or
    /// nothing.
    pub fn turn_standbys(&mut self, index: usize) {
        if self.workers[index].frozen || self.workers[index].gone {
            return;
        }
        let service = Arc::clone(&self.workers[index].service);
        if self.rng.chance(600) {
            let group = self.broker.group(&service);
            let followed = self.workers[index].standbys.followed();
            let committed = followed.into_iter().filter_map(|of| {
                let offset = group.committed(&of)?.0;
                Some((of, offset))
            });
            let committed: Vec<_> = committed.collect();
            self.workers[index].standbys.committed(&committed);
        }
        while let Some(command) = self.workers[index].standbys.next_command() {
            let answer = if self.rng.chance(self.faults.retriable) {
                Event::Failed { failure: Failure::Retriable, what: "injected".to_owned() }
            } else {
                self.follow(index, &command)
            };
            self.workers[index].standbys.on(answer);
        }
        let worker = &mut self.workers[index];
        worker.job = worker.job.take().or_else(|| worker.standbys.job());
        // Building takes its time, in which anything may happen.
        if self.rng.chance(700)
            && let Some(job) = worker.job.take()
        {
            worker.standbys.finished(job.run());
        }
        self.read_standbys(index);
        let most = 1 + self.rng.below(12) as usize;
        let _more = self.workers[index].standbys.fold(most);
        drop(self.workers[index].standbys.dropped());
    }

    fn follow(&mut self, index: usize, command: &Command) -> Event {
        let Self { broker, workers, files, totals, .. } = self;
        let worker = &mut workers[index];
        match command {
            Command::Look(partitions) => match broker.look(&worker.service, partitions) {
                Ok(standings) => Event::Looked(standings),
                Err(failure) => Event::Failed { failure, what: "look".to_owned() },
            },
            Command::Load(wanted) => load(files, &worker.service, wanted, totals),
            Command::Consume(from) => {
                worker.following = from.iter().cloned().collect();
                worker.following_paused.clear();
                Event::Done
            }
            Command::Pause(partitions) => {
                worker.following_paused.clone_from(partitions);
                Event::Done
            }
            other => panic!("{other:?} is no command of standbys"),
        }
    }

    fn read_standbys(&mut self, index: usize) {
        let Self { broker, workers, rng, clock, .. } = self;
        let worker = &mut workers[index];
        let mut records: Vec<InRecord> = Vec::new();
        let mut is_gone = false;
        for (of, next) in &mut worker.following {
            if worker.following_paused.contains(of) || rng.chance(200) {
                continue;
            }
            is_gone |= *next < broker.low(of);
            let polled = broker.poll(of, *next, 1 + rng.below(10) as usize);
            if !is_gone {
                *next = polled.last().map_or(*next, |record| record.record.offset + 1);
                records.extend(polled);
            }
        }
        if is_gone {
            worker.standbys.doubt();
            records.clear();
        }
        let clock = *clock;
        worker.standbys.on(Event::Records { records, clock });
    }
}
