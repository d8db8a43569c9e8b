//! The peers: Python programs that read the exported rows and write predictions.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::export;

/// The peers by name, with the program of each.
pub const PEERS: [(&str, &str); 3] = [
    ("lightgbm", include_str!("../../../../tests/peers/quality_lightgbm.py")),
    ("autoint", include_str!("../../../../tests/peers/quality_deepctr.py")),
    ("din", include_str!("../../../../tests/peers/quality_deepctr.py")),
];

/// What a peer came to.
#[derive(Debug)]
pub struct Peer {
    /// Probability of a click for each test impression.
    pub predictions: Vec<f32>,
    /// What it says of itself.
    pub said: Said,
}

/// A peer's last line of output.
#[derive(Debug, Clone, Deserialize)]
pub struct Said {
    /// Training, seconds.
    pub seconds: f64,
    /// Version of its package.
    pub version: String,
    /// Rounds or epochs that were best by the validation part.
    pub best: u64,
}

/// Runs a peer on the rows in a folder.
///
/// # Errors
/// A program that fails, or predicts for another number of impressions.
pub fn run(python: &Path, name: &str, program: &str, folder: &Path, tests: usize) -> Result<Peer> {
    let script = folder.join(format!("{name}.py"));
    std::fs::write(&script, program)?;
    let out = Command::new(python)
        .arg(&script)
        .arg(folder)
        .arg(name)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", python.display()))?;
    ensure!(out.status.success(), "{name} ended with {}", out.status);
    let text = String::from_utf8_lossy(&out.stdout);
    let last = text.lines().rfind(|line| line.starts_with('{')).unwrap_or_default();
    let said: Said = serde_json::from_str(last).with_context(|| format!("{name} said {last:?}"))?;
    let predictions = export::read_floats(&predictions(folder, name))?;
    ensure!(predictions.len() == tests, "{name} predicted {} of {tests} impressions", predictions.len());
    Ok(Peer { predictions, said })
}

fn predictions(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("predictions_{name}.npy"))
}
