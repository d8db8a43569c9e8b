//! Makes the topics of a deployment.

use anyhow::Result;
use runtime::kafka::TopicSpec;

use crate::context::Context;

/// What `topics create` makes: raw topics where the customer has not made them, and internal ones.
pub fn specs(context: &Context) -> Vec<TopicSpec> {
    runtime::kafka::specs(&context.config.topics, &context.config.kafka.prefix)
}

/// Makes those that are missing, and records the partition counts of all in the store. The names of
/// those it made.
///
/// # Errors
/// A cluster that refuses, a topic that is there with another partition count than was recorded.
pub fn create(context: &Context) -> Result<Vec<String>> {
    Ok(runtime::kafka::record_topics(&context.store, &context.admin, &specs(context))?)
}
