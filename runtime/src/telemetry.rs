//! Logs on standard error, and the process's metrics. Knows no metric by name.

use std::sync::{Mutex, OnceLock, PoisonError};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Telemetry};

/// What telemetry could not set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A filter that is none.
    #[error(
        "telemetry.filter {filter:?}: {what}; write a level or modules with levels, as in \"warn,ingest=debug\" (fatal)"
    )]
    Filter {
        /// As configured.
        filter: String,
        /// What is wrong with it.
        what: String,
    },
    /// Somebody else has set up logging.
    #[error("logging is set up already (fatal)")]
    Taken,
    /// The recorder of metrics could not be built or installed.
    #[error("metrics cannot be recorded: {0} (fatal)")]
    Metrics(#[from] BuildError),
}

/// Sends this process's logs to standard error as configured. Once per process.
///
/// # Errors
/// A bad filter, or logging that is set up already.
pub fn init(telemetry: &Telemetry) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&telemetry.filter).map_err(|error| TelemetryError::Filter {
        filter: telemetry.filter.clone(),
        what: error.to_string(),
    })?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = match telemetry.format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            logs.with_ansi(colour).with_target(true).try_init()
        }
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    done.map_err(|_| TelemetryError::Taken)
}

/// Buckets of durations, in seconds: a millisecond to a minute.
const SECONDS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The process's metrics: installs the recorder at the first call, and returns the same one ever
/// after. Metrics whose names end in `_seconds` get buckets.
///
/// # Errors
/// Another recorder was installed before.
pub fn metrics() -> Result<Metrics, TelemetryError> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = HANDLE.get() {
        return Ok(Metrics(handle.clone()));
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    Ok(Metrics(HANDLE.get_or_init(|| handle).clone()))
}

/// Reads the process's metrics.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }
}
