//! The program `chaos`: a long run of the chaos test, by hand.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use runtime::shutdown::Shutdown;
use tests::chaos;

/// Runs Salience on three brokers of Apache Kafka while a seeded schedule of faults happens, and
/// proves afterwards that nothing was lost, repeated or skewed.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long the market sends.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Of the market and of the faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Raw records a second.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Where the reports go: FILE.md and FILE.json.
    #[arg(long, default_value = "chaos", value_name = "FILE")]
    report: PathBuf,
    /// Keeps the store, all logs and the cluster's data in this folder, which must not exist.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// The program under test; without it: the one of this checkout, built as this one was.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Prints the schedule only.
    #[arg(long)]
    plan: bool,
}

/// Raw records that a model can be trained on.
const LEAST_RECORDS: u64 = 8_000;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let length = Duration::try_from_secs_f64(arguments.minutes * 60.0).context("--minutes")?;
    ensure!(
        length >= Duration::from_secs(30) && length.as_secs() * u64::from(arguments.rate) >= LEAST_RECORDS,
        "--minutes must be at least 0.5, and with --rate come to {LEAST_RECORDS} records, or nothing is trained"
    );
    if arguments.plan {
        for fault in chaos::planned(arguments.seed, length) {
            println!("{:7.1} s  {fault}", fault.at_ms as f64 / 1000.0);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let temporary = tempfile::tempdir().context("no temporary folder")?;
    let folder = match &arguments.keep {
        Some(folder) => {
            std::fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            folder.canonicalize()?
        }
        None => temporary.path().to_owned(),
    };
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no checkout")?;
    let program = match arguments.program {
        Some(program) => program.canonicalize().context("--program")?,
        None => built(checkout)?,
    };
    let report = chaos::run(&chaos::Options {
        seed: arguments.seed,
        length,
        rate: arguments.rate,
        program,
        scripts: checkout.join("deploy/kafka"),
        folder,
        shutdown,
    })?;
    print!("{report}");
    let file = |extension: &str| arguments.report.with_extension(extension);
    std::fs::write(file("md"), report.to_string()).context("the report cannot be written")?;
    std::fs::write(file("json"), serde_json::to_string_pretty(&report)?)
        .context("the report cannot be written")?;
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the program of this checkout, in the profile and the folder of this one.
fn built(checkout: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(checkout).args(["build", "--package", "cli"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    ensure!(build.status().context("cargo does not run")?.success(), "the program cannot be built");
    let this = std::env::current_exe().context("this program has no path")?;
    chaos::program_beside(&this).context("the program was built, and does not lie beside this one")
}
