//! The cluster, apart from the loop: reading without a group, plain producing, and what an
//! administrator does. Knows topics, partitions and offsets; never what a record means.

mod admin;
pub(crate) mod client;
mod error;
mod reader;
mod sender;
mod together;
mod topics;

pub use admin::Admin;
pub(crate) use admin::members;
pub use error::KafkaError;
pub use reader::{Isolation, Reader};
pub use sender::Sender;
pub use together::Together;
pub use topics::{
    TopicRecord, TopicSpec, check_partitions, record_partitions, record_topics, recorded_topic, specs,
};

/// What every call here returns.
pub type Result<T, E = KafkaError> = std::result::Result<T, E>;

#[cfg(test)]
mod tests;
