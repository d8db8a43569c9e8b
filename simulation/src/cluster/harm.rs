//! What goes wrong around a worker: its process, its group, its coordinator, its files, its logs.

use runtime::processor::{TopicPartition, UnitId};
use runtime::snapshot;

use super::Cluster;
use super::calls::snapshots;

impl Cluster {
    /// Stops a worker's process.
    pub fn freeze(&mut self, index: usize) {
        self.totals.frozen += u64::from(!self.workers[index].frozen);
        self.workers[index].frozen = true;
    }

    /// Lets it go on.
    pub fn thaw(&mut self, index: usize) {
        self.workers[index].frozen = false;
    }

    /// Its group puts a worker out, which does not know of it yet.
    pub fn evict(&mut self, index: usize) {
        let worker = &self.workers[index];
        if !worker.zombie {
            self.totals.evicted += 1;
            self.broker.group(&worker.service).evict(&worker.id);
        }
    }

    /// The coordinator gives up on a worker's transaction, if one is open.
    pub fn time_out(&mut self, index: usize) {
        let worker = &self.workers[index];
        if !worker.zombie {
            self.totals.timed_out += u64::from(self.broker.time_out(&worker.id));
        }
    }

    /// A second process is started under a worker's ids while the first lives on.
    pub fn double(&mut self, index: usize) {
        if self.workers[index].zombie {
            return;
        }
        self.totals.zombies += 1;
        let mut old = self.replace(index);
        old.zombie = true;
        self.workers.push(old);
    }

    /// A rebalance without need.
    pub fn rebalance(&mut self, service: &str) {
        self.totals.rebalances += 1;
        self.broker.group(service).rebalance();
    }

    /// The coordinator of a service answers nothing for a while.
    pub fn slow_down(&mut self, service: &str, ms: u64) {
        self.totals.slowed += 1;
        let until = self.clock.steady_ms + ms;
        self.services.get_mut(service).expect("a known service").slow_until_ms = until;
    }

    /// The wall clock jumps; the steady one does not.
    pub fn jump(&mut self, ms: i64) {
        self.totals.jumps += 1;
        self.clock.wall_ms += ms;
    }

    /// Damages the newest snapshot of a unit, if there is one.
    pub fn truncate_snapshot(&mut self, service: &str, unit: u32) -> bool {
        let paths = snapshots(&self.files, &snapshot::folder(service, UnitId(unit)));
        let Some(newest) = snapshot::newest_first(paths, None).into_iter().next() else { return false };
        let file = self.files.get_mut(&newest).expect("just listed");
        file.truncate(file.len() / 2);
        self.totals.damaged += 1;
        true
    }

    /// Deletes what all groups that read a partition have committed, but for the last `kept` offsets.
    pub fn expire(&mut self, of: &TopicPartition, kept: i64) {
        let readers = self.broker.groups().filter(|(_, group)| group.inputs().contains(of));
        let low = readers.map(|(_, group)| group.committed(of).map_or(0, |(offset, _)| *offset)).min();
        if let Some(low) = low.map(|low| low - kept).filter(|low| *low > 0) {
            self.totals.expired += 1;
            self.broker.cut(of, low);
        }
    }
}
