//! Memory that outlives a step: made anew it would be zeroed, and fetched page by page, each time.

use std::sync::{Mutex, PoisonError};

use crate::network::Layout;
use crate::network::block::{BlockGradients, GROUP, Values};

/// Memory of the passes, used again from step to step.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    spare: Mutex<Vec<Memory>>,
    buffers: Mutex<Vec<Vec<f32>>>,
}

#[derive(Debug)]
pub(super) struct Memory {
    pub(super) values: Values,
    pub(super) gradients: BlockGradients,
    /// Rows of a group.
    pub(super) rows: Vec<f32>,
}

impl Workspace {
    /// A buffer of that many floats; what they are is left from an earlier use.
    pub(super) fn take(&self, length: usize) -> Vec<f32> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = buffers.iter().enumerate().filter(|(_, buffer)| buffer.capacity() >= length);
        let smallest = fitting.min_by_key(|(_, buffer)| buffer.capacity()).map(|(number, _)| number);
        let mut buffer = smallest.map_or_else(Vec::new, |number| buffers.swap_remove(number));
        drop(buffers);
        // Batches differ a little in the rows that they name: room for a few more serves the next.
        if buffer.capacity() < length {
            buffer.reserve_exact(length + length / 8);
        }
        buffer.resize(length, 0.0);
        buffer
    }

    /// The same, all zeros.
    pub(super) fn take_zeros(&self, length: usize) -> Vec<f32> {
        let mut buffer = self.take(length);
        buffer.fill(0.0);
        buffer
    }

    /// Takes a buffer back.
    pub(super) fn give(&self, buffer: Vec<f32>) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        // More than a step uses are not kept: nothing grows without bound.
        if buffers.len() < 64 {
            buffers.push(buffer);
        }
    }

    /// Calls `f` with memory that no one else uses meanwhile.
    pub(super) fn with<T>(&self, layout: &Layout, f: impl FnOnce(&mut Memory) -> T) -> T {
        let lock = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = lock().pop();
        let mut memory = spare.unwrap_or_else(|| Memory {
            values: Values::new(layout),
            gradients: BlockGradients::new(layout),
            rows: vec![0.0; GROUP * layout.outputs()],
        });
        let result = f(&mut memory);
        lock().push(memory);
        result
    }
}
