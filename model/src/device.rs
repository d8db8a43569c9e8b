//! Where tensors are computed: this processor, or a CUDA device where the build has it.
//!
//! On CUDA every network runs through candle's own operations ([`crate::train`]'s stock path): there
//! predictions are within 1e-3 of the processor's, and not the same for every batch.

use candle_core::{Device, Tensor};

use crate::config::DeviceKind;
use crate::encode::Examples;
use crate::predict::{Model, PredictError, Probabilities};
use crate::train::{Gatherer, stock};

/// Examples that a device predicts at once.
const BATCH: usize = 8_192;

/// Why nothing can be computed there.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The build, the driver or the card is not there.
    #[error("no CUDA device: {0}")]
    NoCuda(String),
    /// What the tensor engine says.
    #[error("tensors: {0}")]
    Tensor(#[from] candle_core::Error),
    /// Examples of another encoder.
    #[error(transparent)]
    Predict(#[from] PredictError),
}

/// Opens a device; of CUDA the first.
///
/// # Errors
/// [`DeviceError::NoCuda`] with what is missing.
pub(crate) fn open(kind: DeviceKind) -> Result<Device, DeviceError> {
    match kind {
        DeviceKind::Cpu => Ok(Device::Cpu),
        DeviceKind::Cuda => {
            missing_library().map_or(Ok(()), |what| Err(DeviceError::NoCuda(what)))?;
            Device::new_cuda(0).map_err(|error| DeviceError::NoCuda(first_line(&error)))
        }
    }
}

/// With `RUST_BACKTRACE` set, candle appends a backtrace.
fn first_line(error: &candle_core::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    if cfg!(feature = "cuda") {
        line.to_owned()
    } else {
        "this build has none; build with --features cuda (deploy/cuda)".to_owned()
    }
}

/// The first of CUDA's libraries that is not there, where they are loaded when they are asked for:
/// then asking for one that is missing would panic. Linked ones are there, or nothing had started.
#[cfg(cuda_loaded)]
fn missing_library() -> Option<String> {
    use candle_core::cuda::cudarc::{cublas, curand, driver};
    // SAFETY: each opens a shared library by its fixed name and closes it again; no symbol of it is
    // called. What its initialisers do is what using CUDA does in any case.
    #[expect(unsafe_code, reason = "the only way to ask before cudarc panics")]
    let there = unsafe {
        [
            ("libcuda (the driver)", driver::sys::is_culib_present()),
            ("libcublas", cublas::sys::is_culib_present()),
            ("libcurand", curand::sys::is_culib_present()),
        ]
    };
    let missing = there.into_iter().find(|(_, there)| !there);
    missing.map(|(name, _)| format!("{name} is not there; add its folder to LD_LIBRARY_PATH"))
}

#[cfg(not(cuda_loaded))]
const fn missing_library() -> Option<String> {
    None
}

impl Model {
    /// Predicts encoded examples on a device, in their order, by candle's own operations. On the
    /// processor [`Model::predict_examples`] is faster and gives the same bits for every batch;
    /// this agrees with it within 1e-5 there, and within 1e-3 on CUDA.
    ///
    /// # Errors
    /// No such device, examples that another encoder made.
    pub fn predict_examples_on(
        &self,
        kind: DeviceKind,
        examples: &Examples<'_>,
    ) -> Result<Vec<Probabilities>, DeviceError> {
        let logits = self.logits_on(&open(kind)?, examples)?;
        Ok(self.outputs(&logits).map(|outputs| self.said(outputs)).collect())
    }

    /// The network's outputs by candle's own operations: row after row.
    pub(crate) fn logits_on(
        &self,
        device: &Device,
        examples: &Examples<'_>,
    ) -> Result<Vec<f32>, DeviceError> {
        self.check(examples)?;
        let width = self.layout.width;
        let front = Tensor::from_slice(&self.weights.front, self.weights.front.len(), device)?;
        let layers = self
            .weights
            .layers
            .iter()
            .map(|layer| {
                let weight = Tensor::from_slice(&layer.weight, (layer.inputs, layer.outputs), device)?;
                let bias = (!layer.bias.is_empty()).then_some(&layer.bias);
                let bias = bias.map(|bias| Tensor::from_slice(bias, layer.outputs, device)).transpose()?;
                Ok((weight, bias))
            })
            .collect::<Result<Vec<stock::Layer>, candle_core::Error>>()?;
        let (crosses, hidden) = layers.split_at(self.layout.cross_layers());
        let mut gatherer = Gatherer::new(&self.encoder);
        let mut out = Vec::new();
        for first in (0..examples.len()).step_by(BATCH) {
            let batch = gatherer.gather(examples, first..examples.len().min(first + BATCH));
            let mut rows = Vec::with_capacity(batch.unique.len() * width);
            for &row in &batch.unique {
                rows.extend_from_slice(&self.weights.tables[row as usize * width..][..width]);
            }
            let rows = Tensor::from_vec(rows, (batch.unique.len(), width), device)?;
            let mut values = stock::front(&batch, &self.layout, &self.statistics, &front, &rows)?;
            values = stock::crosses(&values, crosses)?;
            for (number, layer) in hidden.iter().enumerate() {
                values = stock::dense(&values, layer)?;
                if number + 1 < hidden.len() {
                    values = values.relu()?;
                }
            }
            out.extend(values.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn without_a_device_the_error_says_so() {
        match open(DeviceKind::Cuda) {
            Ok(device) => assert!(device.is_cuda()),
            Err(error) => {
                let text = error.to_string();
                assert!(text.starts_with("no CUDA device: ") && text.lines().count() == 1, "{text}");
            }
        }
        assert!(open(DeviceKind::Cpu).unwrap().is_cpu());
    }
}
