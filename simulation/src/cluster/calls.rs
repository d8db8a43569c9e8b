//! A worker's calls: how they fail, and what they do where they don't.

use std::collections::BTreeMap;
use std::sync::Arc;

use runtime::core::{Command, Delivery, Event, Failure, Standing};
use runtime::processor::{Position, StandIn, TopicPartition};
use runtime::snapshot::{self, Base, Snapshot, Wanted};

use super::{Cluster, is_transactional};
use crate::broker::Broker;
use crate::faults::{CrashAt, Sabotage};
use crate::totals::Totals;

impl Cluster {
    /// Executes a command, or fails to; `None`: the worker died of it.
    pub(super) fn execute(&mut self, index: usize, command: &Command) -> Option<Event> {
        let failed = |failure| Event::Failed { failure, what: "injected".to_owned() };
        let call = self.workers[index].calls;
        self.workers[index].calls += 1;
        self.totals.calls += 1;
        let dies = |after| self.crash_at == Some(CrashAt { call, after });
        let (dies_before, dies_after) = (dies(false), dies(true));
        if dies_before || self.rng.chance(self.faults.crash) {
            return None;
        }
        if self.rng.chance(self.faults.fatal) {
            self.totals.fatal += 1;
            return Some(failed(Failure::Fatal));
        }
        let harmless = matches!(command, Command::Save(..) | Command::Pause(_) | Command::Leave);
        if !harmless && (self.rng.chance(self.faults.retriable) || self.is_slow(index)) {
            self.totals.retriable += 1;
            // Sometimes it has happened all the same.
            if self.rng.chance(500) && !matches!(command, Command::Produce | Command::Begin) {
                let _answer = self.apply(index, command);
            }
            return Some(failed(Failure::Retriable));
        }
        if is_transactional(command) && self.rng.chance(self.faults.abortable) {
            self.totals.abortable += 1;
            return Some(failed(Failure::Abortable));
        }
        if self.workers[index].forgetful && matches!(command, Command::Commit) {
            self.workers[index].forgetful = false;
            return Some(failed(Failure::Abortable));
        }
        let answer = self.apply(index, command);
        if matches!(command, Command::Commit) && self.rng.chance(self.faults.doubtful) {
            self.totals.lost_responses += 1;
            self.workers[index].forgetful = self.rng.chance(300);
            return Some(failed(Failure::Retriable));
        }
        if dies_after || self.rng.chance(self.faults.crash) {
            return None;
        }
        Some(answer)
    }

    fn is_slow(&self, index: usize) -> bool {
        self.services[&self.workers[index].service].slow_until_ms > self.clock.steady_ms
    }

    fn apply(&mut self, index: usize, command: &Command) -> Event {
        let Self { broker, workers, files, rng, sabotage, services, totals, .. } = self;
        let worker = &mut workers[index];
        let (id, epoch, service) = (worker.id.clone(), worker.epoch, Arc::clone(&worker.service));
        let member = (&*service, id.as_str(), worker.generation);
        let result = match command {
            Command::Look(partitions) => {
                let looked = broker.look(&service, partitions);
                let other = services[&service].factory.stands_in();
                match looked.and_then(|standings| take(broker, other, standings)) {
                    Ok(standings) => return Event::Looked(standings),
                    Err(failure) => Err(failure),
                }
            }
            Command::Load(wanted) => {
                let standby = Some(wanted).filter(|wanted| wanted.below.is_none());
                return match standby.and_then(|wanted| worker.standbys.take(0, wanted.unit)) {
                    Some(standby) => Event::TakenOver { unit: wanted.unit, standby },
                    None => load(files, &service, wanted, totals),
                };
            }
            Command::Consume(from) => {
                worker.standbys.owns(0, from.iter().map(|(of, _)| of));
                worker.reading = from.iter().cloned().collect();
                worker.paused.clear();
                if from.is_empty() && !worker.zombie {
                    broker.group(&service).gave_back(&id);
                }
                Ok(())
            }
            Command::Pause(partitions) => {
                worker.paused.clone_from(partitions);
                Ok(())
            }
            Command::Begin | Command::Flush | Command::Leave => Ok(()),
            Command::Produce => {
                let most = if rng.chance(50) { rng.below(4) as usize } else { usize::MAX };
                let records: Vec<_> = worker.core.unsent().take(most).cloned().collect();
                for record in &records {
                    if let Sabotage::Lose(is_meant) = sabotage
                        && is_meant(record)
                        && rng.below(3) == 0
                    {
                        continue;
                    }
                    if services[&service].rules.delivery == Delivery::AtLeastOnce {
                        broker.produce_plainly(record);
                    } else if let Err(failure) = broker.produce(&id, epoch, record) {
                        return Event::Failed { failure, what: "produce".to_owned() };
                    }
                }
                return Event::Produced(records.len());
            }
            Command::SendOffsets(positions) => {
                let sent = match sabotage {
                    Sabotage::OffsetsOutside => broker.commit_offsets(member, positions),
                    _ => broker.send_offsets(&id, epoch, member, positions),
                };
                sent.and_then(|()| match services[&service].factory.stands_in() {
                    Some(other) => broker.send_ends(&id, epoch, &other.service, &other.topic),
                    None => Ok(()),
                })
            }
            Command::CommitOffsets(positions) => broker.commit_offsets(member, positions),
            Command::Commit => broker.finish(&id, epoch, true),
            Command::Abort => broker.finish(&id, epoch, false),
            Command::Save(snapshot, base) => match sabotage {
                Sabotage::SnapshotLate => save(files, &service, late(broker, snapshot), *base),
                _ => save(files, &service, snapshot.clone(), *base),
            },
        };
        match result {
            Ok(()) => Event::Done,
            Err(failure) => Event::Failed { failure, what: format!("{command:?}") },
        }
    }
}

/// What was looked up, where nothing is left to do of a service that is stood in for.
fn take(
    broker: &Broker,
    other: Option<&StandIn>,
    standings: Vec<Standing>,
) -> Result<Vec<Standing>, Failure> {
    let Some(StandIn { service, topic, made_of }) = other else { return Ok(standings) };
    let of = |partition: i32| TopicPartition { topic: Arc::clone(topic), partition };
    let group: Vec<TopicPartition> = standings.iter().map(|at| of(at.partition.partition)).collect();
    broker.look(service, &group)?;
    for (standing, of) in standings.iter().zip(&group) {
        let committed = standing.committed.as_ref().map_or(standing.low, |(offset, _)| *offset);
        if !broker.is_read(service, of, committed, *made_of)? {
            return Err(Failure::Refused);
        }
    }
    Ok(standings)
}

/// The newest snapshot that may be restored.
pub(super) fn load(
    files: &BTreeMap<String, Vec<u8>>,
    service: &str,
    wanted: &Wanted,
    totals: &mut Totals,
) -> Event {
    let paths = snapshots(files, &snapshot::folder(service, wanted.unit));
    for path in snapshot::newest_first(paths, wanted.below) {
        let completed = snapshot::open(&files[&path], wanted).and_then(|mut found| {
            let whole = found.base_path(service).and_then(|whole| files.get(&whole));
            found.complete(whole.map(Vec::as_slice))?;
            Ok(found)
        });
        match completed {
            Ok(found) => {
                totals.restored += 1;
                totals.completed += u64::from(found.base.is_some());
                return Event::Loaded { unit: wanted.unit, found: Some(found) };
            }
            Err(_) => totals.refused += 1,
        }
    }
    Event::Loaded { unit: wanted.unit, found: None }
}

/// The paths of the files in a folder.
pub(super) fn snapshots(files: &BTreeMap<String, Vec<u8>>, folder: &str) -> Vec<String> {
    let folder = format!("{folder}/");
    files.keys().filter(|path| path.starts_with(&folder)).cloned().collect()
}

fn save(
    files: &mut BTreeMap<String, Vec<u8>>,
    service: &str,
    mut snapshot: Snapshot,
    base: Option<u64>,
) -> Result<(), Failure> {
    let folder = snapshot::folder(service, snapshot.unit);
    if let Some(key) = base {
        let whole = files.get(&format!("{folder}/{key:020}.snap"));
        let checksum = whole.and_then(|whole| snapshot::checksum_of(whole)).ok_or(Failure::Retriable)?;
        snapshot.base = Some(Base { key, checksum });
    }
    files.insert(snapshot.path(service), snapshot.encode());
    for old in snapshot::superseded(snapshots(files, &folder), 3) {
        files.remove(&old);
    }
    Ok(())
}

/// The same state, said to stand a record earlier.
fn late(broker: &Broker, snapshot: &Snapshot) -> Snapshot {
    let before = |position: &Position| {
        let offset = broker.before(&position.partition, position.offset).unwrap_or(position.offset);
        Position { offset, ..position.clone() }
    };
    Snapshot { positions: snapshot.positions.iter().map(before).collect(), ..snapshot.clone() }
}
