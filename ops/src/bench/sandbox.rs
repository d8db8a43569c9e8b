//! A deployment of a benchmark's own on a cluster: it touches nothing that is there, and leaves nothing.

use std::sync::Arc;

use anyhow::Result;

use crate::config::Config;
use crate::context::Context;
use crate::{broker, topics};

/// The key of its pseudonyms.
pub(super) const KEY: &[u8] = b"the people of the simulated market are nobody";

/// Does `work` in a deployment with a prefix and a folder of its own, on the cluster that the configuration
/// names or on an embedded broker. Topics that are not Salience's must begin with the prefix.
///
/// # Errors
/// A cluster that cannot be reached, topics that cannot be made or deleted, and those of `work`.
pub(super) fn within<T>(
    mut config: Config,
    cluster: bool,
    work: impl FnOnce(&Arc<Context>) -> Result<T>,
) -> Result<T> {
    // Dropped last, after every client: a client that loses its broker complains.
    let _held = if cluster { broker::given() } else { broker::embed(&mut config)? };
    let run = format!("bench-{}", crate::clock::wall_ms());
    config.kafka.prefix = format!("{}{run}.", config.kafka.prefix);
    let folder = std::env::temp_dir().join(format!("salience-{run}"));
    config.storage.root = folder.display().to_string();
    let context = Arc::new(Context::open(config)?.with_fallback_key(KEY.to_vec()));
    topics::create(&context)?;
    let result = work(&context);
    let deleted = delete_topics(&context);
    let removed = std::fs::remove_dir_all(&folder);
    let done = result?;
    deleted?;
    if folder.exists() {
        removed?;
    }
    Ok(done)
}

fn delete_topics(context: &Context) -> Result<()> {
    let all = context.admin.all_partitions()?;
    let prefix = &context.config.kafka.prefix;
    let ours: Vec<&str> = all.keys().filter(|name| name.starts_with(prefix)).map(String::as_str).collect();
    Ok(context.admin.delete_topics(&ours)?)
}
