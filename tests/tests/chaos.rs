//! The chaos test, short: a minute of faults on three brokers of Apache Kafka. `cargo run --release
//! -p tests --bin chaos` runs it long. A seed that has failed there becomes a test here.
#![allow(clippy::expect_used, reason = "a failed setup is a failed test")]

mod support;

use std::path::Path;
use std::time::Duration;

use runtime::shutdown::Shutdown;
use tests::chaos::{self, Options};

/// How long the market sends. With start, draining and verifying a run takes a few minutes.
const LENGTH: Duration = Duration::from_secs(75);

#[test]
fn nothing_is_lost_repeated_or_skewed_whatever_fails() {
    runs(1);
}

/// Runs a seed, where there is Apache Kafka: these are brokers of their own, but the jars and Java
/// come by the same way as the one that other tests use.
fn runs(seed: u64) {
    if support::cluster().is_none() {
        return;
    }
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kafka");
    if !scripts.join("libs").exists() {
        assert!(
            std::env::var_os("SALIENCE_REQUIRE_KAFKA").is_none(),
            "SALIENCE_REQUIRE_KAFKA is set, and deploy/kafka/libs has no jars (deploy/kafka/start.sh brings them)"
        );
        support::skipped("deploy/kafka/libs has no jars (deploy/kafka/start.sh brings them)");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder for the test");
    let report = chaos::run(&Options {
        seed,
        length: LENGTH,
        rate: 200,
        program: support::salience(),
        scripts,
        folder: folder.path().to_owned(),
        shutdown: Shutdown::new(),
    })
    .expect("the faults can be made and mended");
    assert!(report.passed(), "{report}");
    assert_eq!(report.happened.len(), chaos::planned(seed, LENGTH).len(), "{report}");
}
