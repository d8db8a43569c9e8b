//! Rows through the network: on this thread, or spread over rayon's.

use rayon::prelude::*;

use super::{Model, Outputs, with_width};
use crate::encode::{Examples, Row, RowBuffer, Statistics};
use crate::network::block::GROUP;
use crate::network::front::Front;
use crate::network::serve::{Engine, ROWS};
use crate::network::{HEADS, KernelClass, Layout, Weights};
use crate::train::Smoothing;

/// Fewer vectors than this are one thread's: handing work on costs more than it saves.
pub(super) const SPREAD: usize = 64;

impl Model {
    /// The heads' logits of rows that the model's encoder made, on this thread or, from a few dozen
    /// rows, on rayon's. Allocates nothing per row. `out` takes as many rows as there are.
    pub fn infer(&self, rows: &[Row<'_>], out: &mut [[f32; HEADS]]) {
        fn run<const D: usize>(model: &Model, rows: &[Row<'_>], out: &mut [[f32; HEADS]]) {
            let front = model.front::<D>();
            let outputs = model.engine.outputs();
            let go = |rows: &[Row<'_>], out: &mut [[f32; HEADS]]| {
                if outputs == HEADS {
                    return model.engine.run(
                        model.class,
                        front,
                        |row| rows[row],
                        out.as_flattened_mut(),
                        None,
                    );
                }
                let mut all = vec![0.0; rows.len() * outputs];
                model.engine.run(model.class, front, |row| rows[row], &mut all, None);
                for (out, row) in out.iter_mut().zip(all.chunks_exact(outputs)) {
                    out.copy_from_slice(&row[..HEADS]);
                }
            };
            if rows.len() < SPREAD {
                return go(rows, out);
            }
            let share = rows.len().div_ceil(rayon::current_num_threads()).clamp(GROUP, ROWS);
            let share = share.next_multiple_of(GROUP);
            out.par_chunks_mut(share).zip(rows.par_chunks(share)).for_each(|(out, rows)| go(rows, out));
        }
        with_width!(self.layout.width, D => run::<D>(self, rows, out));
    }

    /// The network's outputs for encoded examples, whose encoder must be the model's: row after row.
    pub(crate) fn logits(&self, examples: &Examples<'_>) -> Vec<f32> {
        logits(&self.layout, &self.statistics, &self.weights, &self.engine, self.class, examples)
    }

    /// The click's log odds of some rows, on this thread: what is explained. Label smoothing and
    /// calibration, which only stretch them, are left out.
    pub(crate) fn click_logits(&self, rows: &[RowBuffer]) -> Vec<f32> {
        let rows: Vec<Row<'_>> = rows.iter().map(RowBuffer::row).collect();
        with_width!(self.layout.width, D => {
            let mut logits = vec![0.0; rows.len() * self.engine.outputs()];
            self.engine.run(self.class, self.front::<D>(), |row| rows[row], &mut logits, None);
            let (head, plain) = (self.config.network.head, Smoothing::default());
            let odds = |row: &[f32]| Outputs::read(head, plain, false, row).heads[0];
            logits.chunks_exact(self.engine.outputs()).map(odds).collect()
        })
    }

    /// What the front of the network reads beside a row; `D` is the layout's width.
    pub(crate) fn front<const D: usize>(&self) -> Front<'_, D> {
        Front {
            layout: &self.layout,
            statistics: &self.statistics,
            parameters: self.weights.front.as_chunks::<D>().0,
            embeddings: self.weights.tables.as_chunks::<D>().0,
        }
    }
}

/// The outputs of `engine` for encoded examples, row after row, spread over rayon's threads.
pub(crate) fn logits(
    layout: &Layout,
    statistics: &Statistics,
    weights: &Weights,
    engine: &Engine,
    class: KernelClass,
    examples: &Examples<'_>,
) -> Vec<f32> {
    fn run<const D: usize>(
        front: Front<'_, D>,
        engine: &Engine,
        class: KernelClass,
        examples: &Examples<'_>,
    ) -> Vec<f32> {
        let mut out = vec![0.0; examples.len() * engine.outputs()];
        out.par_chunks_mut(ROWS * engine.outputs()).enumerate().for_each(|(chunk, out)| {
            let row = |position: usize| examples.row(chunk * ROWS + position);
            engine.run(class, front, row, out, None);
        });
        out
    }
    with_width!(layout.width, D => run(
        Front::<D> {
            layout,
            statistics,
            parameters: weights.front.as_chunks::<D>().0,
            embeddings: weights.tables.as_chunks::<D>().0,
        },
        engine,
        class,
        examples,
    ))
}
