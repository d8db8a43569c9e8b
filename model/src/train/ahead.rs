//! Reads blocks ahead: while one window of blocks is trained on, a thread reads the next.

use std::sync::mpsc::{Receiver, sync_channel};

use rayon::Scope;

use super::source::{Block, Source, SourceError};
use crate::random::Random;

/// Blocks that are shuffled together.
pub(super) struct Window<'a> {
    /// Epoch that it is of.
    pub(super) epoch: usize,
    /// Which of the epoch's, from 0.
    pub(super) number: usize,
    /// Whether it is the epoch's last.
    pub(super) last: bool,
    /// The blocks with their numbers.
    pub(super) blocks: Vec<(u32, Block<'a>)>,
}

/// The numbers of an epoch's blocks, in the order in which they are read.
fn order(blocks: usize, seed: u64, epoch: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..blocks as u32).collect();
    Random::new(seed, &format!("blocks.{epoch}")).shuffle(&mut order);
    order
}

fn read<'a>(source: &'a dyn Source, numbers: &[u32]) -> Result<Vec<(u32, Block<'a>)>, SourceError> {
    numbers.iter().map(|&number| Ok((number, source.block(number as usize)?))).collect()
}

/// Reads the windows of `epochs`, each of `together` blocks, in a job of `scope`, whose pool must have
/// a thread to spare for it: the job waits until a window is taken. It ends with the last, at an error,
/// or when nobody receives any more.
pub(super) fn windows<'scope>(
    scope: &Scope<'scope>,
    source: &'scope dyn Source,
    seed: u64,
    epochs: std::ops::Range<usize>,
    together: usize,
) -> Receiver<Result<Window<'scope>, SourceError>> {
    // No window waits in the channel: the job holds the next one until it is asked for.
    let (send, receive) = sync_channel(0);
    scope.spawn(move |_| {
        for epoch in epochs {
            let order = order(source.blocks(), seed, epoch);
            let count = order.chunks(together).len();
            for (number, numbers) in order.chunks(together).enumerate() {
                let last = number + 1 == count;
                let window = read(source, numbers).map(|blocks| Window { epoch, number, last, blocks });
                let failed = window.is_err();
                if send.send(window).is_err() || failed {
                    return;
                }
            }
        }
    });
    receive
}
