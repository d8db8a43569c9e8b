//! What every decoder must stand: any bytes, without a panic, a hang, or memory beyond a multiple of them.
//!
//! A target is a function of bytes. `tests/fuzz` gives them to libFuzzer, `tests/mutated.rs` to changed seeds.
//! Where a format ends in a checksum the target writes it, so that what lies behind it is reached; where there
//! is an encoder, what was decoded must encode to what decodes equal; a restored state must take records like
//! any other.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, reason = "a target fails by panicking")]

mod allocated;
mod artefact;
mod checkpoint;
mod config;
mod core_state;
pub mod dice;
mod fold;
mod merge_state;
mod raw_json;
mod records;
mod snapshot_file;
mod spilled;
mod stream;
mod trained;
mod vectors;

use std::sync::Once;

/// One decoder, or a family of them.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: of the binary, of its folders of seeds and regressions.
    pub name: &'static str,
    /// Decodes, and checks what came of it.
    pub run: fn(&[u8]),
    /// Inputs that real encoders wrote.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes that it may hold at once per byte of input.
    pub times: usize,
    /// And beside that: what it takes however short the input is.
    pub plus: usize,
    /// Cases of a run in `cargo test`.
    pub cases: usize,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    raw_json::TARGET,
    records::TARGET,
    vectors::TARGET,
    fold::TARGET,
    core_state::TARGET,
    merge_state::TARGET,
    snapshot_file::TARGET,
    artefact::TARGET,
    checkpoint::TARGET,
    spilled::TARGET,
    config::TARGET,
];

impl Target {
    /// Runs it and checks how much memory it held.
    pub fn check(&self, data: &[u8]) {
        let most = allocated::most(|| (self.run)(data));
        let bound = self.times * data.len() + self.plus;
        assert!(
            most <= bound,
            "{}: {most} bytes held for {} of input, {bound} are allowed",
            self.name,
            data.len()
        );
    }
}

/// Checks one input of the target of that name.
pub fn check(name: &str, data: &[u8]) {
    static WARM: [Once; TARGETS.len()] = [const { Once::new() }; TARGETS.len()];
    let at = TARGETS.iter().position(|target| target.name == name).expect("a target of that name");
    // What is made once is not the input's.
    WARM[at].call_once(|| (TARGETS[at].seeds)().iter().for_each(|seed| (TARGETS[at].run)(seed)));
    TARGETS[at].check(data);
}
