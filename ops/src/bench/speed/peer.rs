//! A peer: a Python program that does what it is told, line by line, so that both sides take turns.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;

const NETWORK: &str = include_str!("../../../../tests/peers/network.py");

/// After a peer's turn its threads may spin on for a little while.
const REST: Duration = Duration::from_millis(60);

/// A running peer.
pub(super) struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts `program` on the case in `folder`, with these in its environment.
    pub(super) fn start(
        python: &Path,
        folder: &Path,
        (name, program): (&str, &str),
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        std::fs::write(folder.join("network.py"), NETWORK)?;
        let script = folder.join(name);
        std::fs::write(&script, program)?;
        let mut child = Command::new(python)
            .arg(&script)
            .arg(folder)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", python.display()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{} has no pipes", python.display())
        };
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// What it says next.
    pub(super) fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        while !line.starts_with('{') {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                bail!("the peer ended: {}", self.child.wait()?);
            }
        }
        // What the peer left running (its threads spin on for a while) would slow the next round.
        std::thread::sleep(REST);
        serde_json::from_str(&line).with_context(|| format!("the peer said {line:?}"))
    }

    /// Tells it to do something, and waits until it is done.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, what: &Value) -> Result<T> {
        writeln!(self.input, "{what}")?;
        self.input.flush()?;
        self.hear()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It only waits for its next line: there is nothing to lose, and nothing to say if it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Python of the peers: the one that was named, else `TEST_PYTHON`, else the one that
/// `tests/peers/setup` makes.
pub(super) fn find(named: Option<&Path>) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    if let Some(python) = std::env::var_os("TEST_PYTHON") {
        return Some(python.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("salience/peers/bin/python")).filter(|python| python.exists())
}

/// Why there is nothing to compare with.
pub(super) const WITHOUT: &str = "no Python with the peers: run tests/peers/setup, or give --python";
