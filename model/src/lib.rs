//! The attention model: encoder, network, training, metrics, artefact.
//!
//! Pure: knows no Kafka, no lake, no clock and no file. What it computes follows from its
//! arguments, bit for bit on CPU, whatever the number of threads.

pub mod artefact;
pub mod calibrate;
pub mod config;
pub mod device;
pub mod encode;
pub mod explain;
pub mod metrics;
pub mod network;
pub mod predict;
pub mod random;
pub mod roofline;
mod said;
pub mod train;
pub mod values;

#[cfg(test)]
#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

pub use artefact::{Artefact, ArtefactError};
pub use config::{Config, ConfigError, DEFAULTS, HeadKind};
pub use device::DeviceError;
pub use encode::{EncodeError, EncodedSet, Encoder, Examples};
pub use metrics::{HeadMetrics, Metrics, bootstrap_difference};
pub use network::KernelClass;
pub use predict::{
    BehaviourWeight, Explain, FieldWeight, Model, PredictError, Probabilities, Scored, evaluate,
};
pub use train::{
    Block, Checkpoint, CheckpointError, History, Job, Observer, Progress, Snapshot, Source, SourceError,
    TRAINING_REVISION, TrainError, Trained, Validated, train,
};
pub use values::Values;
