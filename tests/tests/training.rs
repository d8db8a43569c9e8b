//! `salience train` as a person meets it: killed or stopped in the middle and gone on with, it comes
//! to the same weights.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed setup is a failed test")]

mod support;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::salience;

/// Settings of the demo that made the tables, and a training long enough to be stopped in.
const SETTINGS: &str = include_str!("../../ops/presets/demo.toml");
const OVER: [&str; 14] = [
    "model.network.mlp=[16]",
    "trainer.max_rows=6000",
    "trainer.split.gap=30m",
    "trainer.explanation.rows=0",
    "model.training.max_epochs=8",
    "model.training.patience=1000",
    "model.training.batch_size=64",
    "model.training.min_steps_per_epoch=0",
    "model.training.validations_per_epoch=1",
    "trainer.checkpoint_interval=50ms",
    "trainer.lease=2s",
    "trainer.warm_start=false",
    "trainer.split.min_train_rows=500",
    "trainer.split.min_test_rows=100",
];

fn train(data: &Path, more: &[&str]) -> Command {
    let settings = data.join("settings.toml");
    std::fs::write(&settings, SETTINGS).unwrap();
    let mut command = Command::new(salience());
    command.args(["train", "--no-announce", "--config"]).arg(settings).args(more);
    command.args(["--set", &format!("storage.root={}", data.display())]);
    for setting in OVER {
        command.args(["--set", setting]);
    }
    command.env_remove("SALIENCE_KAFKA_BOOTSTRAP").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn good(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Weights, artefact, losses: what must be equal.
fn made(data: &Path) -> (Value, Value, Value) {
    let folder = data.join("models/default/versions");
    let version = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let newest = version.filter(|path| path.join("run.json").exists()).max().unwrap();
    let run: Value = serde_json::from_slice(&std::fs::read(newest.join("run.json")).unwrap()).unwrap();
    (run["weights_checksum"].clone(), run["checksum"].clone(), run["history"].clone())
}

/// Waits for the third checkpoint of a training that is under way.
fn await_checkpoints(data: &Path, child: &mut Child) {
    let state = data.join("models/default/unfinished/state");
    let mut seen = Vec::new();
    while seen.len() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "training ended before it was stopped");
        let changed = std::fs::metadata(&state).and_then(|metadata| metadata.modified());
        seen.extend(changed.ok().filter(|at| seen.last() != Some(at)));
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn copied(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(from.join(".")).arg(folder.path()).status().unwrap();
    assert!(copied.success());
    folder
}

#[test]
fn killed_or_stopped_training_goes_on_to_the_same_weights() {
    let base = tempfile::tempdir().unwrap();
    let data = base.path().join("data");
    // Tables of a market; no model, so that every training below begins alike.
    let made_tables = Command::new(salience())
        .args(["demo", "--for", "4s", "--speed", "15000", "--quick-verify", "--data"])
        .arg(&data)
        .args(["--set", "trainer.min_new_labels=100000000", "--set", "trainer.drift.interval=0s"])
        .env_remove("SALIENCE_KAFKA_BOOTSTRAP")
        .output()
        .unwrap();
    assert!(data.join("tables/labels").exists(), "{}", String::from_utf8_lossy(&made_tables.stderr));

    let whole: Vec<_> = (0..2)
        .map(|_| {
            let data = copied(&data);
            let out = data.path().join("out");
            good(&train(data.path(), &["--out", out.to_str().unwrap()]).output().unwrap());
            for file in ["run.json", "config.toml", "report.html", "artefact/card.json"] {
                assert!(out.join(file).exists(), "{file}");
            }
            made(data.path())
        })
        .collect();
    assert_eq!(whole[0], whole[1]);

    for signal in ["KILL", "TERM"] {
        let data = copied(&data);
        let mut child = train(data.path(), &[]).spawn().unwrap();
        await_checkpoints(data.path(), &mut child);
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let output = child.wait_with_output().unwrap();
        if signal == "TERM" {
            assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(String::from_utf8_lossy(&output.stderr).contains("salience train --resume"));
        } else {
            assert_eq!(output.status.code(), None, "killed");
            // A killed trainer's lease runs out.
            std::thread::sleep(Duration::from_millis(2_200));
        }
        good(&train(data.path(), &["--resume"]).output().unwrap());
        assert_eq!(made(data.path()), whole[0], "after SIG{signal}");

        let nothing = train(data.path(), &["--resume"]).output().unwrap();
        assert_eq!(nothing.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&nothing.stderr).contains("no unfinished training"));
    }
}
