//! A deployment seen from outside: a folder, a config file, a prefix on a cluster, processes.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The binary, which `cargo test --workspace` builds for the tests of `cli`.
pub fn salience() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let binary = folder.join("salience");
    assert!(
        binary.exists(),
        "{} is not built: run `cargo test --workspace`, or `cargo build`",
        binary.display()
    );
    binary
}

/// The real cluster; `None` (said plainly) where there is none and none is required.
pub fn cluster() -> Option<String> {
    let bootstrap = std::env::var("SALIENCE_KAFKA_BOOTSTRAP").ok().filter(|b| !b.is_empty());
    if bootstrap.is_none() {
        assert!(
            std::env::var_os("SALIENCE_REQUIRE_KAFKA").is_none(),
            "SALIENCE_REQUIRE_KAFKA is set and SALIENCE_KAFKA_BOOTSTRAP is not"
        );
        skipped("SALIENCE_KAFKA_BOOTSTRAP names no cluster (deploy/kafka/start.sh starts one)");
    }
    bootstrap
}

/// A public data set beside the checkout; `None` (said plainly) where it is absent.
pub fn data(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let shared = std::env::var_os("SALIENCE_DATA").map_or_else(beside, PathBuf::from).join(path);
    if !shared.exists() {
        skipped(&format!("{} is not here", shared.display()));
        return None;
    }
    Some(shared)
}

/// Says why a test, or a part of one, does not run; past the capture of a passing test's output.
pub fn skipped(why: &str) {
    let _closed = writeln!(std::io::stderr(), "skipped: {why}");
}

/// One deployment on a cluster, under a prefix of its own.
pub struct Deployment {
    folder: TempDir,
    bootstrap: String,
    prefix: String,
}

impl Deployment {
    /// With these settings (TOML) beside the cluster, the prefix and the store.
    pub fn new(bootstrap: &str, name: &str, settings: &str) -> Self {
        let folder = TempDir::new().expect("a folder for the test");
        // The folder's random name makes the prefix unique on a cluster that outlives the test.
        let unique = folder.path().file_name().expect("a temporary folder has a name").to_string_lossy();
        let prefix = format!("{name}-{}.", unique.trim_start_matches('.'));
        let config = format!(
            "[kafka]\nbootstrap = \"{bootstrap}\"\nprefix = \"{prefix}\"\n[storage]\nroot = \"{}\"\n{settings}",
            folder.path().join("store").display()
        );
        fs::write(folder.path().join("salience.toml"), config).expect("the config is written");
        Self { folder, bootstrap: bootstrap.to_owned(), prefix }
    }

    /// The store's folder.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// A topic's name on the cluster.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// For the runtime's own clients.
    pub fn kafka(&self) -> runtime::config::Kafka {
        runtime::config::Kafka { prefix: self.prefix.clone(), ..runtime::config::Kafka::at(&self.bootstrap) }
    }

    /// `salience ARGUMENTS` in this deployment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(salience());
        command
            .args(arguments)
            .arg("--config")
            .arg(self.folder.path().join("salience.toml"))
            .env_remove("SALIENCE_KAFKA_BOOTSTRAP")
            .env("SALIENCE_PSEUDONYM_KEY", "a key for tests that is long enough, 0123456789")
            .current_dir(self.folder.path());
        command
    }

    /// Runs to its end; its exit code and what it printed to standard output.
    pub fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(arguments).stderr(Stdio::inherit()).output().expect("the binary runs");
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs to its end, which must be a success; its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let (code, out) = self.run(arguments);
        assert_eq!(code, 0, "salience {arguments:?} failed:\n{out}");
        serde_json::from_str(&out).expect("JSON on standard output")
    }

    /// Starts a service as a process of its own.
    pub fn start(&self, service: &'static str) -> Service<'_> {
        self.start_with(service, &[])
    }

    /// The same, with more arguments.
    pub fn start_with(&self, service: &'static str, more: &[&str]) -> Service<'_> {
        let more: Vec<String> = more.iter().map(ToString::to_string).collect();
        let child = self.spawn(service, &more);
        Service { deployment: self, name: service, more, child }
    }

    fn spawn(&self, service: &str, more: &[String]) -> Child {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.log(service)).expect("a log file");
        let arguments: Vec<&str> = [service].into_iter().chain(more.iter().map(String::as_str)).collect();
        self.command(&arguments).stdout(Stdio::null()).stderr(log).spawn().expect("the service starts")
    }

    fn log(&self, service: &str) -> PathBuf {
        self.folder.path().join(format!("{service}.log"))
    }

    /// The end of a service's log, for a failure's message.
    pub fn tail(&self, service: &str) -> String {
        let text = fs::read_to_string(self.log(service)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// What `salience status` says.
    pub fn status(&self) -> Value {
        self.json(&["status"])
    }
}

/// A service's process; killed when dropped.
pub struct Service<'a> {
    deployment: &'a Deployment,
    /// Its subcommand.
    pub name: &'static str,
    more: Vec<String>,
    child: Child,
}

impl Service<'_> {
    /// SIGKILL, and a new process.
    pub fn kill_and_restart(&mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("and is gone");
        self.child = self.deployment.spawn(self.name, &self.more);
    }

    /// Sends a signal, by its name without SIG.
    pub fn signal(&self, signal: &str) {
        let told = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(told.expect("kill runs").success(), "{} could not be sent SIG{signal}", self.name);
    }

    /// Memory that the process has at the moment, MiB; 0 where the system does not say.
    pub fn resident_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
    }

    /// SIGTERM; the service must end by itself with success.
    pub fn stop(mut self) {
        self.signal("TERM");
        let (service, deployment) = (self.name, self.deployment);
        let child = &mut self.child;
        wait_for(&format!("{service} to stop"), Duration::from_mins(1), || {
            child.try_wait().expect("its state can be asked").map(|status| {
                assert!(status.success(), "{service} ended with {status}:\n{}", deployment.tail(service));
            })
        });
    }

    /// Fails the test if the process has ended.
    pub fn assert_alive(&mut self) {
        let ended = self.child.try_wait().expect("its state can be asked");
        assert!(ended.is_none(), "{} ended: {ended:?}\n{}", self.name, self.deployment.tail(self.name));
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Asks until there is an answer.
#[expect(clippy::disallowed_methods, reason = "a test gives up after a while by the wall clock")]
pub fn wait_for<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < patience, "waited {patience:?} for {what}");
        // Between two looks at another process; the condition decides, not this pause.
        std::thread::sleep(Duration::from_millis(100));
    }
}
