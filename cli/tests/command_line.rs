//! The binary as a person meets it. Also what makes `cargo test` build the binary that the tests
//! of the whole system run.
#![allow(clippy::unwrap_used, reason = "a failed setup is a failed test")]

use std::process::{Command, Output};

fn salience(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_salience"));
    command.args(arguments).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_names_every_command() {
    let help = text(&salience(&["--help"]).stdout);
    for command in ["demo", "replay", "run", "verify", "simulate", "topics", "config", "models", "bench"] {
        assert!(help.contains(&format!("\n  {command}")), "{command} is not in the help:\n{help}");
    }
}

#[test]
fn the_commented_defaults_are_a_valid_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("salience.toml");
    let defaults = salience(&["config", "show", "--defaults"]);
    std::fs::write(&file, &defaults.stdout).unwrap();
    let checked = salience(&["config", "check", "--config", file.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let refused = salience(&["config", "check", "--set", "kafka.boostrap=localhost:9092"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(said.contains("kafka.boostrap") && said.contains("kafka.bootstrap"), "{said}");
}

#[test]
fn what_is_declared_is_written_as_markdown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("features.md");
    let shown = salience(&["features", "docs"]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let written = salience(&["features", "docs", "--out", file.to_str().unwrap()]);
    assert!(written.status.success() && written.stdout.is_empty(), "{}", text(&written.stderr));
    assert_eq!(std::fs::read(&file).unwrap(), shown.stdout);
    assert!(text(&shown.stdout).starts_with("# Features\n"));
}

#[test]
fn a_secret_is_never_shown() {
    let set = "kafka.properties={ \"sasl.password\" = \"hunter2\" }";
    let shown = salience(&["config", "show", "--set", set]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(!text(&shown.stdout).contains("hunter2"));
}
