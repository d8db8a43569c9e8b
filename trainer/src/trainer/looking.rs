//! Looking at the examples of now without publishing anything: for better settings, and for drift.

use runtime::shutdown::Shutdown;
use tokio::runtime::Handle;

use super::{Trainer, broken, load, on_own_thread};
use crate::dataset::{self, Request};
use crate::drift::{self, Measured};
use crate::fit::Plan;
use crate::judging::Columns;
use crate::schedule::Mode;
use crate::{Error, telemetry, tune};

impl Trainer {
    /// Looks for better settings of `[model]` on the examples of now; publishes nothing. `log` is told
    /// of every training, with its event file. `None` when asked to stop.
    ///
    /// # Errors
    /// As [`tune::search`].
    pub async fn tune(
        &self,
        settings: tune::Tune,
        stop: &Shutdown,
        mut log: impl FnMut(&tune::Entry, &[u8]) -> Result<(), Error> + Send + 'static,
    ) -> Result<Option<tune::Best>, Error> {
        let (tables, _) = dataset::pin(self.store.root_url()).await?;
        let plan = Plan {
            tables,
            config: self.config.clone(),
            network: self.network.clone(),
            schema: self.schema.clone(),
            mode: Mode::Full,
            parent: None,
            judged_after_ms: None,
        };
        let (root, stop) = (self.store.root_url().to_owned(), stop.clone());
        on_own_thread(move |handle| tune::search(&root, &plan, &settings, handle, &stop, &mut log)).await
    }

    /// Compares the latest examples with what the champion knew; `None` where there is no champion
    /// of this schema, none that says what it knew, or too little to look at.
    ///
    /// # Errors
    /// What the lake or the store says, [`Error::Stopped`].
    pub async fn drift(&self, stop: &Shutdown) -> Result<Option<Measured>, Error> {
        let registry = self.registry();
        let Some(champion) = registry.champion().await? else { return Ok(None) };
        let Some(reference) = registry.run(&champion.model_version).await?.drift_reference else {
            return Ok(None);
        };
        if champion.fingerprint != format!("{:016x}", self.schema.fingerprint()) {
            return Ok(None);
        }
        let model = load(&registry, &champion.model_version, &champion.checksum).await?;
        let (tables, _) = dataset::pin(self.store.root_url()).await?;
        let (root, schema, stop) = (self.store.root_url().to_owned(), self.schema.clone(), stop.clone());
        let mut config = self.config.clone();
        config.max_rows = config.drift.max_rows;
        let work = move |handle: &Handle| {
            let want = Request {
                root: &root,
                pins: &tables,
                schema: &schema,
                encoder: model.encoder(),
                fit: false,
                window_ms: Some(config.drift.window.0),
                config: &config,
                judged_after_ms: None,
                seed: 0,
            };
            let latest = dataset::latest(&want, handle, &stop)?;
            if latest.len() < config.drift.min_rows {
                return Ok(None);
            }
            let examples = latest.all();
            let said = Columns::new(&model.predict_examples(&examples).map_err(broken)?);
            let version = &champion.model_version;
            Ok(Some(drift::measure(version, &reference, &examples, &said.p_click, &config.drift)))
        };
        let measured = on_own_thread(work).await?;
        if let Some(measured) = &measured {
            telemetry::drift_measured(measured);
        }
        Ok(measured)
    }
}
