//! The services' processes, and a supervisor as any cluster has one: what exits is started again,
//! and that is counted. It never ends a process that hangs: that would be a hand's work.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use super::clock::{now, wait_for};
use super::cluster::Cluster;
use super::deployment::Deployment;
use super::schedule::Service;

/// Names of instances; the last is that of one that joins.
pub(super) const NAMES: [&str; 3] = ["a", "b", "c"];
/// Instances of each service while none has joined or left.
pub(super) const INSTANCES: usize = 2;
/// SIGTERM.
const TERMINATED: i32 = 15;
/// How long the supervisor waits before it starts again what has exited.
const BACK_OFF: Duration = Duration::from_secs(1);
/// How long a process may take to be ready for a signal: until then SIGTERM ends it, and it has
/// nothing to finish.
const READY: Duration = Duration::from_secs(10);
/// How long an instance may take to stop when it is told to.
const STOP: Duration = Duration::from_mins(1);

/// An exit that nobody asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Exit {
    /// Which instance.
    pub instance: String,
    /// How it ended.
    pub status: String,
    /// The last line of its log.
    pub said: String,
}

/// An instance.
struct Member {
    service: Service,
    number: usize,
    child: Option<Child>,
    /// When it was started.
    since: Instant,
    /// When the supervisor starts it again.
    again_at: Option<Instant>,
    /// It was killed here, so that its exit is no news.
    killed: bool,
    /// The supervisor leaves it as it is.
    held: bool,
}

impl Member {
    const fn name(&self) -> &'static str {
        NAMES[self.number]
    }

    fn label(&self) -> String {
        format!("{} {}", self.service.name(), self.name())
    }
}

/// All processes; killed when dropped.
pub(super) struct Fleet {
    deployment: Arc<Deployment>,
    cluster: Arc<Cluster>,
    members: Mutex<Vec<Member>>,
    exits: Mutex<Vec<Exit>>,
}

impl Fleet {
    /// Starts two instances of each service.
    ///
    /// # Errors
    /// A program that does not run.
    pub(super) fn start(deployment: Arc<Deployment>, cluster: Arc<Cluster>) -> Result<Self> {
        let this = Self { deployment, cluster, members: Mutex::default(), exits: Mutex::default() };
        for service in Service::ALL {
            for number in 0..INSTANCES {
                this.add(service, number)?;
            }
        }
        Ok(this)
    }

    /// Looks after the processes, once.
    ///
    /// # Errors
    /// A program that does not run.
    pub(super) fn supervise(&self) -> Result<()> {
        for member in self.members().iter_mut() {
            if let Some(status) = ended(member)? {
                member.child = None;
                member.again_at = Some(now() + BACK_OFF);
                if !member.killed {
                    self.note(member, status);
                }
                member.killed = false;
            }
            if !member.held && member.child.is_none() && member.again_at.is_some_and(|at| at <= now()) {
                member.child = Some(self.spawn(member.service, member.number)?);
                member.since = now();
                member.again_at = None;
            }
        }
        Ok(())
    }

    /// SIGKILL of an instance; the supervisor starts it again.
    ///
    /// # Errors
    /// A process that cannot be killed.
    pub(super) fn kill(&self, service: Service, number: usize) -> Result<()> {
        self.of(service, Some(number), kill)
    }

    /// SIGKILL of all instances of a service, and nobody starts them again.
    ///
    /// # Errors
    /// A process that cannot be killed.
    pub(super) fn hold(&self, service: Service) -> Result<()> {
        self.of(service, None, |member| {
            member.held = true;
            kill(member)
        })
    }

    /// The supervisor may start a service's instances again.
    ///
    /// # Errors
    /// None.
    pub(super) fn release(&self, service: Service) -> Result<()> {
        self.of(service, None, |member| {
            member.held = false;
            member.again_at.get_or_insert_with(now);
            Ok(())
        })
    }

    /// SIGSTOP of an instance; its process id, for [`Fleet::thaw`]. `None` where it does not run.
    ///
    /// # Errors
    /// A process that cannot be signalled.
    pub(super) fn freeze(&self, service: Service, number: usize) -> Result<Option<u32>> {
        let members = self.members();
        let member = find(&members, service, number)?;
        let Some(child) = &member.child else { return Ok(None) };
        signal("-STOP", child.id())?;
        Ok(Some(child.id()))
    }

    /// SIGCONT, if the process is still the one that was frozen.
    ///
    /// # Errors
    /// A process that cannot be signalled.
    pub(super) fn thaw(&self, service: Service, number: usize, process: u32) -> Result<()> {
        let members = self.members();
        match &find(&members, service, number)?.child {
            Some(child) if child.id() == process => signal("-CONT", process),
            _ => Ok(()),
        }
    }

    /// One more instance of a service.
    ///
    /// # Errors
    /// A program that does not run.
    pub(super) fn join(&self, service: Service) -> Result<()> {
        self.add(service, INSTANCES)
    }

    /// The instance that joined last leaves: SIGTERM, after which it must end by itself.
    ///
    /// # Errors
    /// One that does not end, or ends with a failure.
    pub(super) fn leave(&self, service: Service) -> Result<()> {
        let mut member = {
            let mut members = self.members();
            let at = members.iter().position(|m| m.service == service && m.number == INSTANCES);
            members.remove(at.with_context(|| format!("no {} has joined", service.name()))?)
        };
        self.stop(&mut member)
    }

    /// Whether all instances of a service run: none is dead, whether that has been seen or not.
    pub(super) fn runs(&self, service: Service) -> bool {
        let members = self.members();
        let mut own = members.iter().filter(|member| member.service == service);
        own.all(|member| member.child.is_some() && !member.killed)
    }

    /// Stops all processes, the first stage of the flow first; each must end by itself. Those that
    /// did not, and why.
    pub(super) fn stop_all(&self) -> Vec<String> {
        let members = std::mem::take(&mut *self.members());
        let stopped = members.into_iter().map(|mut member| self.stop(&mut member));
        stopped.filter_map(Result::err).map(|error| format!("{error:#}")).collect()
    }

    /// Exits that nobody asked for.
    pub(super) fn exits(&self) -> Vec<Exit> {
        self.exits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, service: Service, number: usize) -> Result<()> {
        let child = Some(self.spawn(service, number)?);
        let member =
            Member { service, number, child, since: now(), again_at: None, killed: false, held: false };
        self.members().push(member);
        Ok(())
    }

    fn spawn(&self, service: Service, number: usize) -> Result<Child> {
        let bootstrap = self.cluster.bootstrap_of(service);
        let mut command = self.deployment.instance(service, number, NAMES[number], &bootstrap)?;
        command.spawn().with_context(|| format!("{} does not start", service.name()))
    }

    /// SIGTERM, and waits for the end.
    fn stop(&self, member: &mut Member) -> Result<()> {
        let label = member.label();
        let Some(child) = &mut member.child else { return Ok(()) };
        if let Some(status) = child.try_wait()? {
            if !member.killed {
                self.note(member, status);
            }
            return Ok(());
        }
        let ready = member.since.elapsed() >= READY;
        signal("-TERM", child.id())?;
        let status = wait_for(STOP, || child.try_wait().transpose());
        let Some(status) = status else {
            let _gone = child.kill();
            let _reaped = child.wait();
            bail!("{label} did not stop within {STOP:?} and was killed:\n{}", self.tail(member, 10));
        };
        let status = status?;
        ensure!(
            status.success() || (!ready && status.signal() == Some(TERMINATED)),
            "{label} was told to stop and ended with {status}:\n{}",
            self.tail(member, 10)
        );
        Ok(())
    }

    fn note(&self, member: &Member, status: ExitStatus) {
        let said = self.tail(member, 1);
        eprintln!("chaos: {} ended with {status}: {said}", member.label());
        let exit = Exit { instance: member.label(), status: status.to_string(), said };
        self.exits.lock().unwrap_or_else(PoisonError::into_inner).push(exit);
    }

    fn tail(&self, member: &Member, lines: usize) -> String {
        let log = self.deployment.log(member.service, member.name());
        let text = fs::read_to_string(log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with one instance of a service, or with all.
    fn of(
        &self,
        service: Service,
        number: Option<usize>,
        mut act: impl FnMut(&mut Member) -> Result<()>,
    ) -> Result<()> {
        let mut members = self.members();
        let own = members.iter_mut().filter(|member| member.service == service);
        own.filter(|member| number.is_none_or(|number| member.number == number)).try_for_each(&mut act)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for member in self.members().iter_mut() {
            if let Some(child) = &mut member.child {
                let _gone = child.kill();
                let _reaped = child.wait();
            }
        }
    }
}

fn find(members: &[Member], service: Service, number: usize) -> Result<&Member> {
    let found = members.iter().find(|member| member.service == service && member.number == number);
    found.with_context(|| format!("there is no {} {}", service.name(), NAMES[number]))
}

fn kill(member: &mut Member) -> Result<()> {
    // One that has ended by itself a moment ago is told of as such.
    if let Some(child) = &mut member.child
        && child.try_wait()?.is_none()
    {
        member.killed = true;
        child.kill().with_context(|| format!("{} cannot be killed", member.service.name()))?;
        child.wait()?;
    }
    Ok(())
}

fn ended(member: &mut Member) -> Result<Option<ExitStatus>> {
    Ok(match &mut member.child {
        Some(child) => child.try_wait()?,
        None => None,
    })
}

fn signal(which: &str, process: u32) -> Result<()> {
    let told = Command::new("kill").args([which, &process.to_string()]).status()?;
    ensure!(told.success(), "process {process} cannot be sent {which}");
    Ok(())
}
