//! How fast this machine multiplies matrices on these threads: what the network could reach at most.

use std::time::Instant;

use anyhow::Result;
use model::roofline::Product;

/// Products of each way, turn by turn.
const ROUNDS: usize = 9;

/// GFLOP/s of the faster of two ways to multiply large matrices: the tensor engine's GEMM and our own
/// kernels. Call it on the threads that are measured.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
pub(super) fn gflops() -> Result<f64> {
    let mut product = Product::new()?;
    let mut fastest = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        product.by_engine()?;
        let middle = Instant::now();
        product.by_kernels();
        fastest = fastest.min((middle - start).as_secs_f64()).min(middle.elapsed().as_secs_f64());
    }
    Ok(Product::FLOPS / fastest / 1e9)
}
