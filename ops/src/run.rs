//! Services as they run in production: until a signal, with the admin listener up.

use std::sync::Arc;

use anyhow::Result;
use runtime::admin::Readiness;
use runtime::shutdown::Shutdown;

use crate::config::Config;
use crate::context::Context;
use crate::pipeline::{Pipeline, Service};

/// Runs services until a signal or a failure.
///
/// # Errors
/// The first failure of any.
pub fn run(config: Config, services: &[Service], shutdown: &Shutdown) -> Result<()> {
    let context = Arc::new(Context::open(config)?);
    runtime::kafka::check_partitions(&context.store, &context.admin, &context.names.all())?;
    let readiness = Readiness::new();
    readiness.expect("services", "starting");
    let metrics = runtime::telemetry::metrics()?;
    let listener =
        runtime::admin::serve(&context.config.admin.listen, readiness.clone(), metrics, shutdown.clone());
    context.tokio.block_on(listener)?;
    let pipeline = Pipeline::start(&context, services, shutdown)?;
    readiness.ready("services");
    pipeline.join()
}
