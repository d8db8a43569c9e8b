//! A run: cluster, services, market, faults, and what is left at the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use market::Counts;
use runtime::shutdown::Shutdown;
use serde_json::Value;

use super::act::Stage;
use super::clock::{now, wait_for, wall_ms};
use super::cluster::{BROKERS, Cluster};
use super::deployment::Deployment;
use super::feed;
use super::fleet::{Fleet, INSTANCES};
use super::report::{self, Happened, Report};
use super::schedule::{Lane, Planned, Shape, plan};

/// How long to wait until the services have caught up with the market, which does not wait for them.
const CAUGHT_UP: Duration = Duration::from_mins(2);
/// How long a cluster without faults may take to do what it is asked.
const ANSWER: Duration = Duration::from_mins(3);
/// How long until the tables hold all that was sent.
const DRAIN: Duration = Duration::from_mins(5);
/// How often `salience status` is asked: it is a process of its own.
const LOOK: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of the market and of the faults.
    pub seed: u64,
    /// How long the market sends once the services have caught up with it.
    pub length: Duration,
    /// Raw records a second.
    pub rate: u32,
    /// The program under test.
    pub program: PathBuf,
    /// The folder `deploy/kafka`.
    pub scripts: PathBuf,
    /// An empty folder: the store, logs, the cluster's data.
    pub folder: PathBuf,
    /// Ends all early.
    pub shutdown: Shutdown,
}

/// The faults of a seed, in the order of their times.
pub fn planned(seed: u64, length: Duration) -> Vec<Planned> {
    plan(seed, Shape::of(length), INSTANCES, BROKERS)
}

/// Runs it all. What the services did wrong stands in the report.
///
/// # Errors
/// A test that could not be made: no cluster, a program that does not start, a fault that could
/// not be mended.
pub fn run(options: &Options) -> Result<Report> {
    let shape = Shape::of(options.length);
    let planned = planned(options.seed, options.length);
    let say = |what: &str| eprintln!("chaos: {what}");
    say(&format!("{} faults planned; starting {BROKERS} brokers", planned.len()));
    let kafka_folder = options.folder.join("kafka");
    let cluster = Arc::new(Cluster::start(&options.scripts, &kafka_folder)?);
    let deployment = Arc::new(Deployment::new(&options.program, &options.folder, &cluster)?);
    deployment.create_topics()?;
    cluster.wait_in_sync(ANSWER)?;
    let fleet = Fleet::start(Arc::clone(&deployment), Arc::clone(&cluster))?;
    let shutdown = options.shutdown.clone();
    let stage = Stage { cluster, fleet, deployment, shutdown };

    let market = feed::config(options.rate)?;
    let kafka = stage.deployment.kafka();
    let (stop_feed, stop_probe, stop_supervisor) =
        (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
    let fresh = AtomicU64::new(0);
    let failures = Failures::default();
    std::thread::scope(|scope| {
        let ends = Ends([&stop_feed, &stop_probe, &stop_supervisor]);
        let feeder = scope.spawn(|| feed::run(&kafka, &market, options.seed, options.rate, &stop_feed));
        let probe = scope.spawn(|| feed::probe(&kafka, &fresh, &stop_probe));
        scope.spawn(|| {
            while !stop_supervisor.load(Ordering::Relaxed) {
                failures.take(stage.fleet.supervise());
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        say("waiting until predictions come as views are sent");
        let caught_up = || (fresh.load(Ordering::Relaxed) > 0 || stage.shutdown.is_set()).then_some(());
        if wait_for(CAUGHT_UP, caught_up).is_none() {
            // On a machine that is too busy for figures; what must hold must hold there too.
            say("they have not caught up: latencies and outages will say little");
        }
        let (began, began_ms) = (now(), wall_ms());
        say("the market runs, faults come");
        let happened = lanes(&stage, &planned, began, &failures);
        stage.shutdown.sleep(options.length.saturating_sub(began.elapsed()));
        stop_feed.store(true, Ordering::Relaxed);
        let sent = feeder.join().map_err(|_| anyhow::anyhow!("the feeder panicked"))??;
        if stage.shutdown.is_set() {
            bail!("stopped before its end");
        }
        say("all is sent and mended; waiting until the tables hold it");
        failures.take(drained(&stage.deployment, &sent, shape));
        stop_probe.store(true, Ordering::Relaxed);
        stop_supervisor.store(true, Ordering::Relaxed);
        drop(ends);
        let arrivals = probe.join().map_err(|_| anyhow::anyhow!("the probe panicked"))??;
        say("stopping the services");
        failures.extend(stage.fleet.stop_all());
        say("verifying");
        let readings = verify(&stage, shape)?;
        if let Some(verified) = readings.last() {
            failures.extend(report::not_holding(verified, shape));
        }
        let counts = compared(&stage.deployment, &sent)?;
        for (name, [sent, found]) in &counts {
            if sent != found {
                failures.extend(vec![format!("{name}: {sent} were sent and {found} found")]);
            }
        }
        let first_ms = happened.first().map_or(began_ms, |happened| happened.began_ms);
        let last_ms = happened.iter().map(|happened| happened.mended_ms).max().unwrap_or(began_ms);
        Ok(Report {
            seed: options.seed,
            shape,
            rate: options.rate,
            records: sent.records(),
            faults: report::by_kind(&happened, &arrivals),
            // In the first seconds nothing has been compiled, connected or read ahead.
            before: report::latency(&arrivals, began_ms + shape.quiet_before_ms as i64 / 2, first_ms),
            during: report::latency(&arrivals, first_ms, last_ms),
            after: report::latency(&arrivals, last_ms, i64::MAX),
            exits: stage.fleet.exits(),
            counts,
            readings,
            failures: failures.all(),
            happened,
        })
    })
}

/// Ends the threads whatever ends the run: a scope waits for them.
struct Ends<'a>([&'a AtomicBool; 3]);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        for end in self.0 {
            end.store(true, Ordering::Relaxed);
        }
    }
}

/// What went wrong; each once.
#[derive(Debug, Default)]
struct Failures(Mutex<Vec<String>>);

impl Failures {
    fn take(&self, result: Result<()>) {
        if let Err(error) = result {
            self.extend(vec![format!("{error:#}")]);
        }
    }

    fn extend(&self, more: Vec<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for failure in more {
            if !all.contains(&failure) {
                eprintln!("chaos: FAILED: {failure}");
                all.push(failure);
            }
        }
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Lets all lanes run side by side, each to its end.
fn lanes(stage: &Stage, planned: &[Planned], began: Instant, failures: &Failures) -> Vec<Happened> {
    let mut happened: Vec<Happened> = std::thread::scope(|scope| {
        let threads: Vec<_> = Lane::ALL
            .into_iter()
            .map(|lane| {
                let own: Vec<Planned> = planned.iter().filter(|fault| fault.lane == lane).copied().collect();
                scope.spawn(move || one_lane(stage, &own, began, failures))
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    happened.sort_by_key(|happened| happened.began_ms);
    happened
}

fn one_lane(stage: &Stage, planned: &[Planned], began: Instant, failures: &Failures) -> Vec<Happened> {
    let mut happened = Vec::new();
    for fault in planned {
        let wait = Duration::from_millis(fault.at_ms).saturating_sub(began.elapsed());
        if stage.shutdown.sleep(wait) {
            break;
        }
        let result = stage.prepare(fault).and_then(|()| {
            let began_ms = wall_ms();
            eprintln!("chaos: {:6.1} s  {fault}", began.elapsed().as_secs_f64());
            let note = stage.act(fault)?;
            if !note.is_empty() {
                eprintln!("chaos: {:6.1} s    {note}", began.elapsed().as_secs_f64());
            }
            happened.push(Happened { planned: *fault, began_ms, mended_ms: wall_ms(), note });
            Ok(())
        });
        failures.take(result.with_context(|| fault.to_string()));
    }
    happened
}

/// What `verify` says, read again from other leaders as long as it says that something does not hold: Apache Kafka
/// can show a reader of committed records what was aborted, from one replica and not from another (ARCHITECTURE.md,
/// "What the chaos test found in others' code"). The log is the same, so that what is wrong in it is found in each.
fn verify(stage: &Stage, shape: Shape) -> Result<Vec<Value>> {
    let mut readings = vec![stage.deployment.verify()?];
    while readings.last().is_some_and(|last| !report::not_holding(last, shape).is_empty())
        && readings.len() < BROKERS
    {
        eprintln!("chaos: reading {} does not hold; verifying what another leader shows", readings.len());
        stage.cluster.move_leaders(1)?;
        stage.cluster.wait_in_sync(ANSWER)?;
        readings.push(stage.deployment.verify()?);
    }
    Ok(readings)
}

/// What the market sent, and the table in which it must be, by the table's name.
fn seeds(counts: &Counts) -> [(&'static str, u64); 6] {
    [
        ("features", counts.views),
        ("predictions", counts.views),
        ("dead_letters", counts.dead_letters()),
        ("late_events", counts.late),
        ("duplicates", counts.duplicate_lines),
        ("events", counts.events()),
    ]
}

fn rows(status: &Value, table: &str) -> u64 {
    status["tables"][table]["rows"].as_u64().unwrap_or(0)
}

/// Waits until every record is in its table, and there is a champion where there must be one.
fn drained(deployment: &Deployment, counts: &Counts, shape: Shape) -> Result<()> {
    let mut missing = Vec::new();
    let mut looked: Option<Instant> = None;
    wait_for(DRAIN, || {
        if looked.is_some_and(|at| at.elapsed() < LOOK) {
            return None;
        }
        looked = Some(now());
        let status = deployment.status()?;
        missing = seeds(counts)
            .into_iter()
            .filter(|(table, sent)| rows(&status, table) < *sent)
            .map(|(table, sent)| format!("{table} {} of {sent}", rows(&status, table)))
            .chain((shape.trains() && status["champion"].is_null()).then(|| "no champion".to_owned()))
            .collect();
        if !missing.is_empty() {
            missing.push(format!("lag {}", status["lag"]));
        }
        missing.is_empty().then_some(())
    })
    .with_context(|| format!("a service needs a hand: after {DRAIN:?} there is {}", missing.join(", ")))
}

fn compared(deployment: &Deployment, counts: &Counts) -> Result<BTreeMap<String, [u64; 2]>> {
    let status = wait_for(ANSWER, || deployment.status()).context("there is no status any more")?;
    let pairs = seeds(counts).into_iter();
    Ok(pairs.map(|(table, sent)| (table.to_owned(), [sent, rows(&status, table)])).collect())
}

/// The program beside this one, if it was built.
pub fn program_beside(this: &Path) -> Option<PathBuf> {
    let folder = this.parent()?;
    // A test lies one folder deeper than a program.
    [folder, folder.parent()?].map(|folder| folder.join("salience")).into_iter().find(|path| path.exists())
}
