//! The cluster that a command works on: one that the user names, or the embedded one.

use anyhow::Result;

use crate::config::Config;

/// Keeps an embedded broker alive; nothing for a real cluster.
pub struct Held {
    #[cfg(feature = "embedded-broker")]
    _broker: Option<runtime::embedded::Broker>,
}

/// Starts an embedded broker and points the configuration at it.
///
/// # Errors
/// A port that cannot be bound; a binary built without the feature `embedded-broker`.
#[cfg(feature = "embedded-broker")]
pub fn embed(config: &mut Config) -> Result<Held> {
    let broker = runtime::embedded::spawn()?;
    config.kafka.bootstrap = broker.bootstrap();
    Ok(Held { _broker: Some(broker) })
}

/// Starts an embedded broker and points the configuration at it.
///
/// # Errors
/// Always: this binary was built without the feature.
#[cfg(not(feature = "embedded-broker"))]
pub fn embed(_config: &mut Config) -> Result<Held> {
    anyhow::bail!(
        "this binary was built without the feature embedded-broker; name a cluster: --bootstrap HOST:PORT"
    )
}

/// A cluster that is there already.
pub fn given() -> Held {
    Held {
        #[cfg(feature = "embedded-broker")]
        _broker: None,
    }
}
