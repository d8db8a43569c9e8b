//! The binary `salience`: arguments to calls, results to an exit code.

mod args;
mod commands;

use std::process::ExitCode;

use clap::Parser;

// Tensors and batches are allocated and freed all the time; glibc would give their pages back to
// the system in between, which costs up to half of a training step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match commands::run(args::Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
