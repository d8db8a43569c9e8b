//! Real logs through the whole pipeline, on the embedded broker and on a real cluster: every row is
//! accounted for, every invariant holds, and both brokers give the same counts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed setup is a failed test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{cluster, data, salience, skipped};

/// Replays into a folder of the test's own; the report, and the folder.
fn replay(files: &[PathBuf], format: &str, cluster: Option<&str>) -> (Value, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let mut command = Command::new(salience());
    command.arg("replay").args(files).args(["--format", format, "--recompute", "--report"]).arg(&report);
    command.arg("--data").arg(folder.path().join("data"));
    command
        .env_remove("SALIENCE_KAFKA_BOOTSTRAP")
        .env("SALIENCE_PSEUDONYM_KEY", "one key for both brokers, please");
    if let Some(bootstrap) = cluster {
        let unique = folder.path().file_name().unwrap().to_string_lossy().replace('.', "");
        command.args(["--bootstrap", bootstrap, "--set", &format!("kafka.prefix=replay-{unique}.")]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    (serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap(), folder)
}

/// What must not depend on the broker.
fn counts(report: &Value) -> Vec<(&'static str, u64)> {
    ["events_in", "events_used", "duplicates", "late", "dead_letters", "impressions", "predictions", "labels"]
        .into_iter()
        .map(|name| (name, report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report:#}"))))
        .collect()
}

fn count(report: &Value, name: &str) -> u64 {
    counts(report).into_iter().find(|(n, _)| *n == name).map(|(_, count)| count).unwrap()
}

fn rees46() -> Option<Vec<PathBuf>> {
    Some(vec![data("rees46/2019-Oct-first-hours.csv.gz")?])
}

fn open_bandit() -> Option<Vec<PathBuf>> {
    ["random_men_men", "random_women_women", "bts_men_men", "bts_women_women"]
        .into_iter()
        .map(|name| data(&format!("open-bandit/{name}.csv.gz")))
        .collect()
}

fn accounted_for(report: &Value) {
    let [used, duplicates, late, dead] =
        ["events_used", "duplicates", "late", "dead_letters"].map(|name| count(report, name));
    assert_eq!(count(report, "events_in"), used + duplicates + late + dead, "{report:#}");
    assert_eq!(count(report, "predictions"), count(report, "impressions"), "{report:#}");
    assert_eq!(report["verified"], true, "{report:#}");
}

#[test]
fn every_row_of_rees46_is_accounted_for_on_both_brokers() {
    let Some(files) = rees46() else { return };
    let (embedded, tables) = replay(&files, "rees46", None);
    accounted_for(&embedded);
    assert_eq!((count(&embedded, "events_in"), count(&embedded, "impressions")), (17_434, 17_055));
    other_engines_read(&tables.path().join("data"), &embedded);
    let Some(bootstrap) = cluster() else { return };
    let (real, _) = replay(&files, "rees46", Some(&bootstrap));
    accounted_for(&real);
    assert_eq!(counts(&embedded), counts(&real));
}

#[test]
fn every_row_of_open_bandit_is_accounted_for_on_both_brokers() {
    let Some(files) = open_bandit() else { return };
    // Each of the four files covers the same week: they are replayed one by one.
    for file in files {
        let one = std::slice::from_ref(&file);
        let (embedded, _) = replay(one, "open-bandit", None);
        accounted_for(&embedded);
        assert_eq!(count(&embedded, "impressions"), 10_000, "{}", file.display());
        let Some(bootstrap) = cluster() else { continue };
        let (real, _) = replay(one, "open-bandit", Some(&bootstrap));
        accounted_for(&real);
        assert_eq!(counts(&embedded), counts(&real), "{}", file.display());
    }
}

/// `DuckDB` and Polars count the rows of every table, and answer the questions of `docs/queries.md`
/// alike. `TEST_PYTHON` names a Python that has them.
fn other_engines_read(data: &Path, report: &Value) {
    let Some(python) = std::env::var_os("TEST_PYTHON") else {
        skipped("TEST_PYTHON names no Python with duckdb, duckdb-extension-delta and polars");
        return;
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tables = data.join("tables");
    let answer = |command: &mut Command| -> Value {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let counted = answer(Command::new(&python).arg(here.join("count_rows.py")).arg(&tables));
    for (name, table) in report["tables"].as_object().unwrap() {
        for engine in ["duckdb", "polars"] {
            assert_eq!(counted[name][engine], table["rows"], "{engine} reads another count from {name}");
        }
    }
    let document = here.join("../docs/queries.md");
    let answers = answer(Command::new(&python).arg(here.join("queries.py")).arg(&tables).arg(document));
    assert_eq!(answers.as_object().unwrap().len(), 11);
    let rows = |question: u32| {
        let found =
            answers.as_object().unwrap().iter().find(|(q, _)| q.starts_with(&format!("{question}. ")));
        let rows = found.unwrap().1.as_array().unwrap();
        assert!(!rows.is_empty(), "nothing answers question {question}");
        rows.iter().map(|row| row.as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    (1..=11).for_each(|question| drop(rows(question)));
    let sum = |rows: &[Vec<Value>], column: usize| -> f64 {
        rows.iter().map(|row| row[column].as_f64().unwrap()).sum()
    };
    // Every impression that has a label is of one campaign, of one hour, and has one prediction.
    let labelled = rows(3)[0][2].as_f64().unwrap();
    assert!(labelled > 0.0 && labelled <= report["labels"].as_f64().unwrap());
    for (question, column) in [(1, 1), (2, 1), (4, 1), (5, 1), (8, 2)] {
        assert_eq!(sum(&rows(question), column), labelled, "question {question}");
    }
    // The last hour has not passed.
    let hourly = sum(&rows(11), 3);
    assert!(hourly > 0.0 && hourly <= report["impressions"].as_f64().unwrap());
    let used: Vec<_> = rows(10).into_iter().filter(|row| row[1] == "used").collect();
    assert_eq!(sum(&used, 2), report["events_used"].as_f64().unwrap());
}
