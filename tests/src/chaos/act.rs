//! Makes faults happen, and mends them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use runtime::shutdown::Shutdown;

use super::clock::{now, wait_for};
use super::cluster::Cluster;
use super::deployment::{Deployment, INTERRUPTED};
use super::dice::Dice;
use super::disk::{self, Blocked};
use super::fleet::{Fleet, NAMES};
use super::proxy::Mode;
use super::schedule::{Kind, Planned, Service};

/// How long the cluster may take until all copies are in sync again.
const SYNC: Duration = Duration::from_mins(2);
/// How long to wait for a commit that a broker can be killed in.
const COMMIT: Duration = Duration::from_secs(10);
/// How long to wait for a data file whose commit is interrupted.
const DATA_FILE: Duration = Duration::from_secs(15);
/// How long the supervisor may take to start an instance again.
const STARTED: Duration = Duration::from_secs(30);

/// What faults happen to.
pub(super) struct Stage {
    /// The brokers.
    pub cluster: Arc<Cluster>,
    /// The processes.
    pub fleet: Fleet,
    /// Folders and programs.
    pub deployment: Arc<Deployment>,
    /// Ends all early.
    pub shutdown: Shutdown,
}

impl Stage {
    /// What must be so before a fault may begin: of three brokers one may be missing, not two.
    ///
    /// # Errors
    /// A cluster that does not come to itself.
    pub(super) fn prepare(&self, fault: &Planned) -> Result<()> {
        match fault.kind {
            Kind::BrokerKilled | Kind::CoordinatorKilled | Kind::LeadersMoved => {
                self.cluster.wait_in_sync(SYNC)
            }
            _ => Ok(()),
        }
    }

    /// Lets a fault happen and mends it; what there is to say of it.
    ///
    /// # Errors
    /// A fault that cannot be made or mended: the test has failed, whatever the services did.
    pub(super) fn act(&self, fault: &Planned) -> Result<String> {
        let (service, number) = (fault.service, fault.instance);
        match fault.kind {
            Kind::Killed => {
                self.fleet.kill(service, number)?;
                self.started(service)
            }
            Kind::Frozen => {
                let Some(process) = self.fleet.freeze(service, number)? else {
                    return Ok("it did not run".to_owned());
                };
                self.lasts(fault);
                self.fleet.thaw(service, number, process)?;
                Ok(String::new())
            }
            Kind::Joined => {
                self.fleet.join(service)?;
                self.lasts(fault);
                self.fleet.leave(service)?;
                Ok(String::new())
            }
            Kind::BrokerKilled => self.kill_broker(fault, fault.broker).map(|()| String::new()),
            Kind::CoordinatorKilled => self.kill_coordinator(fault),
            Kind::LeadersMoved => {
                self.cluster.move_leaders(1 + (fault.dice % 2) as usize)?;
                self.cluster.wait_in_sync(SYNC)?;
                Ok(String::new())
            }
            Kind::NetworkCut => Ok(self.network(fault, Mode::Cut)),
            Kind::NetworkSilent => Ok(self.network(fault, Mode::Silent)),
            Kind::NetworkDelayed => {
                Ok(self.network(fault, Mode::Delayed(Duration::from_millis(100 + fault.dice % 400))))
            }
            Kind::NetworkThrottled => {
                Ok(self.network(fault, Mode::Throttled(10_000 + (fault.dice % 40_000) as u32)))
            }
            Kind::StoreFails => {
                let blocked = Blocked::new(&self.deployment.store())?;
                self.lasts(fault);
                blocked.mend()?;
                Ok(String::new())
            }
            Kind::StoreStutters => self.stutter(fault),
            Kind::SnapshotsFull => {
                let folder = self.deployment.store().join("snapshots");
                if !folder.is_dir() {
                    return Ok("there were none yet".to_owned());
                }
                let blocked = Blocked::new(&folder)?;
                self.lasts(fault);
                blocked.mend()?;
                Ok(String::new())
            }
            Kind::SnapshotTruncated | Kind::SnapshotFlipped => self.damage(fault),
            Kind::CommitInterrupted => self.interrupt(fault),
        }
    }

    fn lasts(&self, fault: &Planned) {
        self.shutdown.sleep(Duration::from_millis(fault.lasts_ms));
    }

    fn started(&self, service: Service) -> Result<String> {
        wait_for(STARTED, || (self.fleet.runs(service) || self.shutdown.is_set()).then_some(()))
            .with_context(|| format!("{} was not started again", service.name()))?;
        Ok(String::new())
    }

    fn network(&self, fault: &Planned, mode: Mode) -> String {
        let link = self.cluster.link(fault.service, fault.broker);
        link.set(mode);
        self.lasts(fault);
        link.set(Mode::Open);
        match mode {
            Mode::Delayed(by) => format!("by {by:?}"),
            Mode::Throttled(rate) => format!("to {rate} bytes/s"),
            _ => String::new(),
        }
    }

    fn kill_broker(&self, fault: &Planned, broker: usize) -> Result<()> {
        self.cluster.kill(broker)?;
        self.lasts(fault);
        self.cluster.start_again(broker)?;
        self.cluster.wait_in_sync(SYNC)
    }

    /// Of the service's instances one may stand by; then it is the other's turn.
    fn kill_coordinator(&self, fault: &Planned) -> Result<String> {
        for turn in 0..NAMES.len() - 1 {
            let instance = NAMES[(fault.instance + turn) % (NAMES.len() - 1)];
            let id = Deployment::transactional_id(fault.service, instance);
            let broker = self.cluster.coordinator(&id)?;
            let told = self.cluster.link(fault.service, broker).at_next_commit();
            if told.recv_timeout(COMMIT).is_ok() {
                self.kill_broker(fault, broker)?;
                return Ok(format!("broker {broker}"));
            }
        }
        Ok("nothing was committed: none was killed".to_owned())
    }

    fn stutter(&self, fault: &Planned) -> Result<String> {
        let mut dice = Dice::new(fault.dice);
        let until = now() + Duration::from_millis(fault.lasts_ms);
        let mut times = 0;
        while now() < until && !self.shutdown.is_set() {
            let blocked = Blocked::new(&self.deployment.store())?;
            self.shutdown.sleep(Duration::from_millis(dice.between(50, 400)));
            blocked.mend()?;
            times += 1;
            self.shutdown.sleep(Duration::from_millis(dice.between(50, 400)));
        }
        Ok(format!("{times} times"))
    }

    /// Damages the newest snapshot of a unit while nobody runs who could write another.
    fn damage(&self, fault: &Planned) -> Result<String> {
        let (service, store) = (fault.service, self.deployment.store());
        self.fleet.hold(service)?;
        let newest = disk::newest_snapshots(&store, service.name());
        let note = match newest.get(fault.dice as usize % newest.len().max(1)) {
            None => "there was none yet".to_owned(),
            Some(file) => {
                let dice = fault.dice >> 8;
                if fault.kind == Kind::SnapshotFlipped {
                    disk::flip(file, dice)?;
                } else {
                    disk::truncate(file, dice)?;
                }
                file.strip_prefix(&store).unwrap_or(file).display().to_string()
            }
        };
        self.fleet.release(service)?;
        self.started(service)?;
        Ok(note)
    }

    /// Kills the lake when it has written a commit's data file, and cannot write its log.
    fn interrupt(&self, fault: &Planned) -> Result<String> {
        let (name, number) = INTERRUPTED[fault.dice as usize % INTERRUPTED.len()];
        let table = self.deployment.store().join("tables").join(name);
        if !table.join("_delta_log").is_dir() {
            return Ok(format!("{name} was not there yet"));
        }
        let log = Blocked::new(&table.join("_delta_log"))?;
        let before = disk::data_files(&table);
        let written = wait_for(DATA_FILE, || {
            let written = disk::data_files(&table).into_iter().any(|file| !before.contains(&file));
            (written || self.shutdown.is_set()).then_some(())
        });
        self.fleet.kill(Service::Lake, number)?;
        log.mend()?;
        self.started(Service::Lake)?;
        ensure!(table.join("_delta_log").is_dir(), "the log of {name} was not put back");
        Ok(match written {
            Some(()) => format!("{name}, after a data file"),
            None => format!("{name}: no data file came within {DATA_FILE:?}"),
        })
    }
}
