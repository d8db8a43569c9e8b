//! The revision that this is built from: `SALIENCE_GIT_REVISION`, else git's; without either, none.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=SALIENCE_GIT_REVISION");
    // Every commit and checkout is logged there.
    if Path::new("../.git/logs/HEAD").exists() {
        println!("cargo:rerun-if-changed=../.git/logs/HEAD");
    }
    let given = std::env::var("SALIENCE_GIT_REVISION").ok();
    if let Some(revision) = given.or_else(git).filter(|revision| !revision.is_empty()) {
        println!("cargo:rustc-env=SALIENCE_REVISION={revision}");
    }
}

fn git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
