//! The crate borders of ARCHITECTURE.md, read off `cargo metadata` and the sources.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed setup is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// What each crate may depend on within the workspace.
const ALLOWED: &[(&str, &[&str])] = &[
    ("schemas", &[]),
    ("runtime", &["schemas"]),
    ("lake", &["schemas", "runtime"]),
    ("model", &["schemas"]),
    ("market", &["schemas"]),
    ("ingest", &["schemas", "runtime", "lake", "model", "market"]),
    ("features", &["schemas", "runtime", "lake", "model", "market"]),
    ("trainer", &["schemas", "runtime", "lake", "model", "market"]),
    ("scorer", &["schemas", "runtime", "lake", "model", "market"]),
    ("ops", &["schemas", "runtime", "lake", "model", "market", "ingest", "features", "trainer", "scorer"]),
    ("cli", &["ops", "runtime", "schemas"]),
    ("simulation", &["runtime"]),
    // The chaos test: a Kafka client, and the market that it feeds.
    ("tests", &["schemas", "runtime", "market"]),
    // What any bytes are given to, and nothing that ships.
    ("decoders", &["schemas", "runtime", "model", "ingest", "features", "scorer"]),
];

/// Packages that one crate alone may name.
const OWNED: &[(&str, &str)] = &[
    ("rdkafka", "runtime"),
    ("noida-db", "runtime"),
    ("fjall", "runtime"),
    ("deltalake", "lake"),
    ("candle-core", "model"),
    ("candle-nn", "model"),
];

/// Pure modules of the trainer; its others read the lake, the store or the clock.
const TRAINER_CORES: &[&str] = &["schedule.rs", "split.rs", "join.rs", "random.rs"];

/// Crates that are pure as a whole.
const PURE_CRATES: &[&str] = &["schemas", "model", "market"];

/// Modules of services that are shells: all others there are cores.
const SHELLS: &[(&str, &[&str])] =
    &[("ingest", SHELL_MODULES), ("features", SHELL_MODULES), ("scorer", SHELL_MODULES)];

/// File or folder names that mark I/O around a core.
const SHELL_MODULES: &[&str] = &["service", "telemetry", "watch", "key"];

/// What a core must not name.
const FORBIDDEN_IN_CORES: &[&str] = &[
    "tokio::",
    "rdkafka",
    "std::time::Instant",
    "SystemTime",
    "std::fs",
    "std::net",
    "std::thread",
    "static mut",
];

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(workspace().join("Cargo.toml")).no_deps().exec().unwrap()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn crates_depend_only_as_the_design_allows() {
    let metadata = metadata();
    let members: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    assert_eq!(members, allowed.keys().copied().collect(), "a crate was added: say what it may depend on");
    for package in &metadata.packages {
        for dependency in &package.dependencies {
            // Tests of a crate may use more than the crate; the shipped edges are what counts.
            if dependency.kind == DependencyKind::Development || !members.contains(dependency.name.as_str()) {
                continue;
            }
            assert!(
                allowed[package.name.as_str()].contains(&dependency.name.as_str()),
                "{} must not depend on {}",
                package.name,
                dependency.name
            );
        }
    }
}

#[test]
fn heavy_packages_have_one_owner() {
    for package in &metadata().packages {
        for dependency in &package.dependencies {
            if dependency.kind == DependencyKind::Development {
                continue;
            }
            for (name, owner) in OWNED {
                assert!(
                    dependency.name != *name || package.name.as_str() == *owner,
                    "only {owner} may name {name}, {} does",
                    package.name
                );
            }
        }
    }
}

#[test]
fn cores_know_no_io_and_no_clock() {
    let mut checked = 0;
    for name in PURE_CRATES {
        checked += check_tree(&workspace().join(name).join("src"), &[]);
    }
    for (name, shells) in SHELLS {
        checked += check_tree(&workspace().join(name).join("src"), shells);
    }
    checked += check_tree(&workspace().join("runtime/src/core"), &[]);
    for folder in ["gate", "report"] {
        checked += check_tree(&workspace().join("trainer/src").join(folder), &[]);
    }
    for module in TRAINER_CORES {
        check_file(&workspace().join("trainer/src").join(module));
    }
    assert!(checked > 40, "only {checked} files were found: the layout has changed, mend this test");
}

/// Checks every file of a core below `folder`; how many there were.
fn check_tree(folder: &Path, shells: &[&str]) -> usize {
    let mut checked = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if shells.contains(&stem) {
            continue;
        }
        if path.is_dir() {
            checked += check_tree(&path, shells);
        } else if path.extension().is_some_and(|e| e == "rs") {
            check_file(&path);
            checked += 1;
        }
    }
    checked
}

fn check_file(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let core = text.split("#[cfg(test)]").next().unwrap();
    for (number, line) in core.lines().enumerate() {
        let code = line.split("//").next().unwrap();
        // `use std::{fs, thread}` names them too.
        let grouped = code.trim_start().starts_with("use std::{");
        let io = ["fs", "net", "thread"].iter().any(|name| {
            code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == *name)
        });
        assert!(!(grouped && io), "{}:{}: a core imports I/O", path.display(), number + 1);
        for word in FORBIDDEN_IN_CORES {
            assert!(!code.contains(word), "{}:{}: a core names {word}", path.display(), number + 1);
        }
    }
}

#[test]
fn one_version_of_arrow_and_of_object_store() {
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).unwrap();
    for name in ["arrow-array", "parquet", "object_store", "rdkafka", "candle-core"] {
        let count = lock.matches(&format!("name = \"{name}\"\n")).count();
        assert_eq!(count, 1, "{name} is in the tree {count} times");
    }
}
