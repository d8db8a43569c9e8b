//! Apache Kafka with three brokers on this machine, each behind a proxy to each service.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::clock::wait_for;
use super::proxy::{Link, Proxy};
use super::schedule::Service;
use super::wire::{self, Partition};

/// What any `java` reads of its environment.
const JAVA_OPTIONS: &str = "JDK_JAVA_OPTIONS";
/// How many brokers.
pub(super) const BROKERS: usize = 3;
/// Ports that a cluster takes: each broker's own two, and for each service one of a broker and one
/// of a proxy.
const PORTS: u16 = (BROKERS * (2 + 2 * Service::ALL.len())) as u16;
/// Java's heap of a broker.
const HEAP: &str = "320m";
/// How long a broker that was killed may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// Three brokers; stopped when dropped.
pub(super) struct Cluster {
    scripts: PathBuf,
    folder: PathBuf,
    base: u16,
    links: Vec<Arc<Link>>,
    proxy: Proxy,
}

impl Cluster {
    /// Starts brokers in a folder, with the scripts of `deploy/kafka`.
    ///
    /// # Errors
    /// No Java, no jars and no way to get them, ports that are all taken.
    pub(super) fn start(scripts: &Path, folder: &Path) -> Result<Self> {
        let base = free_ports()?;
        let mut this = Self {
            scripts: scripts.to_owned(),
            folder: folder.to_owned(),
            base,
            links: Vec::new(),
            proxy: Proxy::new()?,
        };
        for service in Service::ALL {
            for broker in 1..=BROKERS {
                let (behind, before) = (this.behind(service, broker), this.before(service, broker));
                this.links.push(this.proxy.link(before, behind)?);
            }
        }
        let mut start = this.script("start.sh");
        start.args(["--brokers", &BROKERS.to_string(), "--port", &base.to_string(), "--heap", HEAP]);
        for service in Service::ALL {
            let (behind, before) = (this.behind(service, 1).port(), this.before(service, 1).port());
            start.args(["--via", &format!("{}:{behind}:{before}", service.name().to_uppercase())]);
        }
        run(&mut start)?;
        Ok(this)
    }

    /// Addresses that no proxy stands before.
    pub(super) fn bootstrap(&self) -> String {
        list((1..=BROKERS).map(|broker| self.direct(broker)))
    }

    /// Addresses for a service, all behind the proxy.
    pub(super) fn bootstrap_of(&self, service: Service) -> String {
        list((1..=BROKERS).map(|broker| self.before(service, broker)))
    }

    /// The network between a service and a broker.
    pub(super) fn link(&self, service: Service, broker: usize) -> &Link {
        &self.links[service as usize * BROKERS + broker - 1]
    }

    /// SIGKILL; returns when the broker is gone.
    ///
    /// # Errors
    /// A broker that does not run, or does not go.
    pub(super) fn kill(&self, broker: usize) -> Result<()> {
        let file = self.folder.join(broker.to_string()).join("broker.pid");
        let pid = fs::read_to_string(&file).with_context(|| format!("{} is not there", file.display()))?;
        run(Command::new("kill").args(["-KILL", pid.trim()]))?;
        let process = PathBuf::from(format!("/proc/{}", pid.trim()));
        wait_for(GONE, || (!process.exists() || is_zombie(&process)).then_some(()))
            .with_context(|| format!("broker {broker} was killed and is still there"))?;
        fs::remove_file(&file).with_context(|| format!("{} cannot be removed", file.display()))
    }

    /// Starts a broker that was killed; returns when it listens.
    ///
    /// # Errors
    /// A broker that does not start.
    pub(super) fn start_again(&self, broker: usize) -> Result<()> {
        run(self.script("start.sh").args(["--again", &broker.to_string(), "--heap", HEAP]))
    }

    /// Waits until every partition has a leader, and all its copies are in sync.
    ///
    /// # Errors
    /// What is not, after `patience`.
    pub(super) fn wait_in_sync(&self, patience: Duration) -> Result<()> {
        let mut missing = String::new();
        let in_sync = |found: &[Partition]| {
            found.iter().find(|p| p.leader < 0 || p.in_sync.len() < p.replicas.len().min(BROKERS)).cloned()
        };
        wait_for(patience, || match self.ask(wire::partitions) {
            Ok(found) if found.is_empty() => {
                "no topics".clone_into(&mut missing);
                None
            }
            Ok(found) => match in_sync(&found) {
                None => Some(()),
                Some(p) => {
                    missing = format!("{}[{}] has {:?} of {:?}", p.topic, p.number, p.in_sync, p.replicas);
                    None
                }
            },
            Err(error) => {
                missing = format!("{error:#}");
                None
            }
        })
        .with_context(|| format!("the cluster is not in sync after {patience:?}: {missing}"))
    }

    /// The broker that coordinates the transactions of an id.
    ///
    /// # Errors
    /// No broker that answers.
    pub(super) fn coordinator(&self, transactional_id: &str) -> Result<usize> {
        let broker = self.ask(|address| wire::coordinator(address, transactional_id))?;
        ensure!((1..=BROKERS as i32).contains(&broker), "broker {broker} coordinates {transactional_id}");
        Ok(broker as usize)
    }

    /// Moves the leader of every partition by so many replicas.
    ///
    /// # Errors
    /// No broker that answers, or an election that fails.
    pub(super) fn move_leaders(&self, by: usize) -> Result<()> {
        self.ask(|address| wire::move_leaders(address, by))
    }

    /// Asks the first broker that answers.
    fn ask<T>(&self, question: impl Fn(SocketAddr) -> Result<T>) -> Result<T> {
        let mut last = None;
        for broker in 1..=BROKERS {
            match question(self.direct(broker)) {
                Ok(answer) => return Ok(answer),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("there are no brokers")?)
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.scripts.join(name));
        command.arg("--dir").arg(&self.folder);
        // Brokers that live for seconds: with all its compilers Java would take the machine from what is tested.
        if std::env::var_os(JAVA_OPTIONS).is_none() {
            command.env(JAVA_OPTIONS, "-XX:TieredStopAtLevel=1");
        }
        command
    }

    fn direct(&self, broker: usize) -> SocketAddr {
        loopback(self.base + 2 * (broker as u16 - 1))
    }

    /// Where a broker listens for a service's proxy.
    fn behind(&self, service: Service, broker: usize) -> SocketAddr {
        let first = self.base + 2 * BROKERS as u16 + 2 * BROKERS as u16 * service as u16;
        loopback(first + broker as u16 - 1)
    }

    /// Where the proxy listens for a service.
    fn before(&self, service: Service, broker: usize) -> SocketAddr {
        loopback(self.behind(service, broker).port() + BROKERS as u16)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Nothing of them is needed any more, and a quorum takes its time to stop.
        for broker in 1..=BROKERS {
            let _gone = self.kill(broker);
        }
        let _stopped = run(&mut self.script("stop.sh"));
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn list(addresses: impl Iterator<Item = SocketAddr>) -> String {
    addresses.map(|address| address.to_string()).collect::<Vec<_>>().join(",")
}

/// The first of as many free ports in a row, below those that the system gives out by itself.
fn free_ports() -> Result<u16> {
    let first = 11_000 + (std::process::id() as u16 % 200) * 64;
    let mut bases = (0..200_u16).map(|step| 11_000 + (first - 11_000 + step * 64) % 12_800);
    bases
        .find(|base| (*base..base + PORTS).all(|port| TcpListener::bind(loopback(port)).is_ok()))
        .context("no ports are free")
}

/// Whether a process is gone, and only its parent has not asked after it.
fn is_zombie(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'))
}

/// Runs a command to its end, which must be a success.
fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_listeners_share_a_port() {
        let cluster = Cluster {
            scripts: PathBuf::from("/nowhere"),
            folder: PathBuf::from("/nowhere"),
            base: 11_000,
            links: Vec::new(),
            proxy: Proxy::new().unwrap(),
        };
        let mut ports = BTreeSet::new();
        for broker in 1..=BROKERS {
            let own = cluster.direct(broker).port();
            assert!(ports.insert(own) && ports.insert(own + 1));
            for service in Service::ALL {
                assert!(ports.insert(cluster.behind(service, broker).port()));
                assert!(ports.insert(cluster.before(service, broker).port()));
            }
        }
        assert_eq!(ports.len(), usize::from(PORTS));
        assert!(ports.iter().all(|port| (11_000..11_000 + PORTS).contains(port)));
    }
}
