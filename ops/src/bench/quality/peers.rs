//! The peers: Python programs that read the exported rows and write predictions.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Said {
    /// Training, seconds.
    pub seconds: f64,
    /// Version of its package.
    pub version: String,
    /// Rounds or epochs that were best by the validation part.
    pub best: u64,
}

/// What a peer made of which rows, beside its predictions: `peer_NAME.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    /// Of the exported rows and of the program.
    checksum: String,
    said: Said,
}

/// A peer's predictions of the rows in a folder: those that lie there from an earlier run on equal rows
/// with the same program (a peer may take half an hour), else new ones.
///
/// # Errors
/// A program that fails, or predicts for another number of impressions.
pub fn run(python: &Path, name: &str, program: &str, folder: &Path, tests: usize) -> Result<Peer> {
    let checksum = checksum(folder, program)?;
    let record = folder.join(format!("peer_{name}.json"));
    let earlier = std::fs::read(&record).ok().and_then(|bytes| serde_json::from_slice::<Made>(&bytes).ok());
    let said = match earlier.filter(|made| made.checksum == checksum && predictions(folder, name).is_file()) {
        Some(made) => made.said,
        None => train(python, name, program, folder)?,
    };
    let predictions = export::read_floats(&predictions(folder, name))?;
    ensure!(predictions.len() == tests, "{name} predicted {} of {tests} impressions", predictions.len());
    let made = Made { checksum, said };
    std::fs::write(&record, serde_json::to_vec_pretty(&made)?)?;
    Ok(Peer { predictions, said: made.said })
}

fn checksum(folder: &Path, program: &str) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(program.as_bytes());
    for name in export::FILES {
        let path = folder.join(name);
        let mut file = File::open(&path).with_context(|| path.display().to_string())?;
        hasher.update_reader(&mut file).with_context(|| path.display().to_string())?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn train(python: &Path, name: &str, program: &str, folder: &Path) -> Result<Said> {
    // Not by its bare name, which would hide the package that it imports.
    let script = folder.join(format!("peer_{name}.py"));
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
    serde_json::from_str(last).with_context(|| format!("{name} said {last:?}"))
}

fn predictions(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("predictions_{name}.npy"))
}
