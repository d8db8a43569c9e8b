//! The peers of `bench features` and `bench backfill`, as tests/peers/setup-streams makes them: where they
//! are, how they are run on one core, what they say.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;

/// The folder of the peers.
#[derive(Debug, Clone)]
pub struct Peers(PathBuf);

impl Peers {
    /// In this folder, else where tests/peers/setup-streams puts them unless it is told otherwise.
    pub fn new(named: Option<PathBuf>) -> Self {
        let usual = || {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
            cache.unwrap_or_default().join("salience/peers-streams")
        };
        Self(named.unwrap_or_else(usual))
    }

    /// A path in it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// Why the stream engines cannot be run here, if they cannot.
    pub(super) fn without_engines(&self) -> Option<String> {
        ["java", "taskset"]
            .into_iter()
            .find_map(without_program)
            .or_else(|| self.without("streams/peers.jar"))
    }

    /// Why `DuckDB` cannot be run here, if it cannot.
    pub(super) fn without_duckdb(&self) -> Option<String> {
        without_program("taskset").or_else(|| self.without("python/bin/python"))
    }

    fn without(&self, path: &str) -> Option<String> {
        let path = self.path(path);
        (!path.exists())
            .then(|| format!("no {}: run tests/peers/setup-streams, or name its folder", path.display()))
    }
}

fn without_program(name: &str) -> Option<String> {
    let status = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_err().then(|| format!("no {name} on this machine"))
}

/// A command that is kept to one core, the last of those that this process may use.
pub(super) fn on_one_core(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(last_core().to_string()).arg(program);
    command
}

fn last_core() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let last = allowed.and_then(|cores| cores.trim().rsplit([',', '-']).next());
    last.and_then(|core| core.parse().ok()).unwrap_or(0)
}

/// What a program says in the last line of its output.
pub(super) fn said<T: DeserializeOwned>(name: &str, command: &mut Command) -> Result<T> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    let errors = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{name} ended with {}: {}", out.status, errors.trim());
    let text = String::from_utf8_lossy(&out.stdout);
    let last = text.lines().rfind(|line| line.starts_with('{')).unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("{name} said {last:?}"))
}

/// Runs a class of the stream engines' program with a heap of so many GiB.
pub(super) fn java<T: DeserializeOwned>(
    peers: &Peers,
    class: &str,
    heap_gib: usize,
    arguments: &[&OsStr],
) -> Result<T> {
    let (jar, lib) = (peers.path("streams/peers.jar"), peers.path("streams/lib/*"));
    let mut command = on_one_core(Path::new("java"));
    command
        .args([format!("-Xms{heap_gib}g"), format!("-Xmx{heap_gib}g"), format!("-Xmn{}m", heap_gib * 512)])
        // The collector that costs least on one core, and memory that is there before the clock starts.
        .args(["-XX:+UseSerialGC", "-XX:+AlwaysPreTouch", "-XX:+UseTransparentHugePages"])
        .args(
            ["java.util", "java.lang", "java.time"]
                .map(|name| format!("--add-opens=java.base/{name}=ALL-UNNAMED")),
        )
        .arg("-cp")
        .arg(format!("{}:{}", jar.display(), lib.display()))
        .arg(class)
        .args(arguments);
    said(class, &mut command)
}
