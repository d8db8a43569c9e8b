//! Which seeds a test runs.

use std::ops::Range;

/// So many from 0 as `SIMULATION_SEEDS` says, `usual` without it; or only the one that
/// `SIMULATION_SEED` names, which clusters then trace.
pub fn seeds(usual: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(usual),
    }
}
