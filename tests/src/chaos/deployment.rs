//! A deployment under test: a folder, its settings, and the program that is tested.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use runtime::config::Kafka;
use serde_json::Value;

use super::cluster::Cluster;
use super::schedule::Service;

/// Common settings: small, quick to commit, and trained on little.
const SETTINGS: &str = r#"
[topics]
raw_partitions = 2
internal_partitions = 3
replication_factor = 3
[service]
snapshot_interval = "2s"
[ingest]
clock = "data"
[features]
purchase_window = "2h"
[lake]
commit_interval = "1s"
idle_commit_interval = "2s"
[trainer]
min_new_labels = 3000
poll_interval = "1s"
lease = "15s"
checkpoint_interval = "5s"
[trainer.split]
min_train_rows = 800
min_test_rows = 150
[trainer.explanation]
rows = 0
[trainer.drift]
interval = "0s"
[model.training]
max_epochs = 1
threads = 1
[admin]
listen = ""
"#;

/// The tables of the first two instances of the lake. Those that join keep all, as rivals.
const TABLES: [&[&str]; 2] = [
    &["events", "control", "features", "dead_letters", "late_events"],
    &["labels", "predictions", "duplicates", "aggregates", "entity_tiles"],
];

/// The table that a commit is interrupted of, and which instance of the lake keeps it.
pub(super) const INTERRUPTED: [(&str, usize); 3] = [("features", 0), ("events", 0), ("predictions", 1)];

/// What every topic, group and transactional id begins with.
const PREFIX: &str = "chaos.";

/// A folder with settings and logs.
#[derive(Debug)]
pub(super) struct Deployment {
    program: PathBuf,
    folder: PathBuf,
    bootstrap: String,
}

impl Deployment {
    /// Writes its settings into a folder.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn new(program: &Path, folder: &Path, cluster: &Cluster) -> Result<Self> {
        let this =
            Self { program: program.to_owned(), folder: folder.to_owned(), bootstrap: cluster.bootstrap() };
        let settings = format!(
            "[kafka]\nbootstrap = \"{}\"\nprefix = \"{PREFIX}\"\n[storage]\nroot = \"{}\"\n{SETTINGS}",
            this.bootstrap,
            this.store().display()
        );
        fs::write(this.folder.join("salience.toml"), settings).context("the settings cannot be written")?;
        fs::create_dir_all(this.store()).context("the store cannot be made")?;
        Ok(this)
    }

    /// The object store's folder.
    pub(super) fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// For clients that no proxy stands before.
    pub(super) fn kafka(&self) -> Kafka {
        Kafka { prefix: PREFIX.to_owned(), ..Kafka::at(&self.bootstrap) }
    }

    /// The transactional id of an instance's worker.
    pub(super) fn transactional_id(service: Service, instance: &str) -> String {
        format!("{PREFIX}salience-{}-{instance}-0", service.name())
    }

    /// An instance of a service, not started yet; it logs to a file of its own.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn instance(
        &self,
        service: Service,
        number: usize,
        name: &str,
        bootstrap: &str,
    ) -> Result<Command> {
        let mut own = format!("[kafka]\nbootstrap = \"{bootstrap}\"\n[service]\ninstance = \"{name}\"\n");
        if let (Service::Lake, Some(tables)) = (service, TABLES.get(number)) {
            // Strings as TOML has them are strings as Rust shows them, for names such as these.
            writeln!(own, "[lake]\ntables = {tables:?}")?;
        }
        let file = self.folder.join(format!("{}-{name}.toml", service.name()));
        fs::write(&file, own).context("the settings of an instance cannot be written")?;
        let log = File::options().create(true).append(true).open(self.log(service, name))?;
        let mut command = self.command(&[service.name()]);
        command.arg("--config").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// Where an instance logs to.
    pub(super) fn log(&self, service: Service, name: &str) -> PathBuf {
        self.folder.join(format!("{}-{name}.log", service.name()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .arg("--config")
            .arg(self.folder.join("salience.toml"))
            .env_remove("SALIENCE_KAFKA_BOOTSTRAP")
            .env("SALIENCE_PSEUDONYM_KEY", "a key for tests that is long enough, 0123456789")
            .current_dir(&self.folder);
        command
    }

    /// Makes the topics.
    ///
    /// # Errors
    /// What the program says.
    pub(super) fn create_topics(&self) -> Result<()> {
        let output = self.command(&["topics", "create"]).output().context("the program does not run")?;
        ensure!(output.status.success(), "no topics: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// What `salience status` says; `None` while something of the system is away.
    pub(super) fn status(&self) -> Option<Value> {
        let output = self.command(&["status"]).output().ok()?;
        output.status.success().then(|| serde_json::from_slice(&output.stdout).ok()).flatten()
    }

    /// What `salience verify --recompute` says.
    ///
    /// # Errors
    /// A program that fails, other than by what it found.
    pub(super) fn verify(&self) -> Result<Value> {
        let output = self
            .command(&["verify", "--recompute", "--json"])
            .output()
            .context("the program does not run")?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("verify failed: {}", String::from_utf8_lossy(&output.stderr)))
    }
}
