//! How far the latest examples have moved from those that a champion knew: its inputs and its
//! scores by the population stability index, and whether its clicks still come as it expects.
//! Pure: knows no table and no clock.

mod psi;

use model::Examples;
use serde::{Deserialize, Serialize};

pub use psi::{Ids, Numbers, Shift, psi};

use crate::config::Drift as Config;

/// Deviations beyond which too many or too few clicks are no chance: 1 in 100.
const BEYOND_CHANCE: f64 = 2.58;
/// Shifts that a measurement keeps: the largest.
const KEPT: usize = 10;

/// What a champion knew, in bins: kept in its run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Training examples counted for the inputs.
    pub rows: u64,
    /// Input numbers, as the encoder scales them.
    pub numbers: Vec<Numbers>,
    /// Categorical fields.
    pub ids: Vec<Ids>,
    /// `p_click` of the examples that it did not learn from (of those that it did, it is surer).
    pub scores: Numbers,
}

/// Values of some examples, column by column.
struct Columns {
    numbers: Vec<Vec<f32>>,
    ids: Vec<Vec<u32>>,
}

impl Columns {
    fn new(examples: &Examples<'_>) -> Self {
        let encoder = examples.set().encoder();
        let mut numbers = vec![Vec::with_capacity(examples.len()); encoder.number_names().len()];
        let mut ids: Vec<Vec<u32>> = Vec::new();
        for row in examples.rows() {
            ids.resize(row.ids.len(), Vec::new());
            for (column, &value) in numbers.iter_mut().zip(row.numbers) {
                column.push(value);
            }
            for (column, &id) in ids.iter_mut().zip(row.ids) {
                column.push(id);
            }
        }
        Self { numbers, ids }
    }
}

impl Reference {
    /// From the examples that a model learned from, and what it said of others.
    pub fn new(training: &Examples<'_>, scores: &[f32]) -> Self {
        let encoder = training.set().encoder();
        let columns = Columns::new(training);
        let fields = encoder.tables().iter().map(|table| table.name);
        Self {
            rows: training.len() as u64,
            numbers: encoder
                .number_names()
                .iter()
                .zip(&columns.numbers)
                .map(|(name, values)| Numbers::fit(name, values))
                .collect(),
            ids: fields.zip(&columns.ids).map(|(name, ids)| Ids::fit(name, ids)).collect(),
            scores: Numbers::fit("p_click", scores),
        }
    }
}

/// Expected and observed clicks.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Clicks {
    /// That came.
    pub observed: u64,
    /// Sum of the probabilities said.
    pub expected: f64,
    /// Standard deviation of their number, if the probabilities are right.
    pub deviation: f64,
}

impl Clicks {
    /// Counts what was said against what came.
    pub fn new(said: impl IntoIterator<Item = (f32, bool)>) -> Self {
        let mut clicks = Self::default();
        let mut variance = 0.0;
        for (p, clicked) in said {
            let p = f64::from(p);
            clicks.observed += u64::from(clicked);
            clicks.expected += p;
            variance += p * (1.0 - p);
        }
        Self { deviation: variance.sqrt(), ..clicks }
    }

    /// How far the expected clicks are off, as a share of those that came.
    pub fn error(&self) -> f64 {
        (self.expected - self.observed as f64).abs() / self.observed.max(1) as f64
    }

    /// Whether they are off by more than `bound`, and by more than chance.
    pub fn beyond(&self, bound: f64) -> bool {
        let off = (self.expected - self.observed as f64).abs();
        self.error() > bound && off > BEYOND_CHANCE * self.deviation
    }
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The champion whose examples are compared with.
    pub champion: String,
    /// Latest examples looked at.
    pub rows: u64,
    /// The inputs that moved most, first of all the one that moved most.
    pub inputs: Vec<Shift>,
    /// The champion's scores.
    pub scores: Shift,
    /// The champion's calibration.
    pub clicks: Clicks,
    /// What lies beyond its bound, in words; empty where nothing does.
    pub found: Vec<String>,
}

/// Compares the latest examples, of which the champion says `p_click`, with what it knew.
///
/// The examples must be encoded by the champion's encoder: ids are compared as rows of its tables.
pub fn measure(
    champion: &str,
    reference: &Reference,
    latest: &Examples<'_>,
    p_click: &[f32],
    config: &Config,
) -> Measured {
    let columns = Columns::new(latest);
    let looked_at = |name: &str| !config.ignore.iter().any(|ignored| ignored == name);
    let numbers = reference.numbers.iter().zip(&columns.numbers).map(|(known, now)| known.shift(now));
    let ids = reference.ids.iter().zip(&columns.ids).map(|(known, now)| known.shift(now));
    let mut inputs: Vec<Shift> = numbers.chain(ids).filter(|shift| looked_at(&shift.name)).collect();
    inputs.sort_by(|a, b| b.psi.total_cmp(&a.psi));
    let scores = reference.scores.shift(p_click);
    let clicks =
        Clicks::new(p_click.iter().copied().zip(latest.outcomes().map(|(outcome, _)| outcome.clicked)));

    let on = |bound: f64| bound > 0.0;
    let mut found = Vec::new();
    if on(config.max_input_psi) {
        let moved = inputs.iter().filter(|shift| shift.beyond(config.max_input_psi));
        found.extend(moved.map(|shift| format!("input {} moved: PSI {:.3}", shift.name, shift.psi)));
    }
    if on(config.max_score_psi) && scores.beyond(config.max_score_psi) {
        found.push(format!("scores moved: PSI {:.3}", scores.psi));
    }
    if on(config.max_calibration_error) && clicks.beyond(config.max_calibration_error) {
        found.push(format!("{} clicks came where {:.1} were expected", clicks.observed, clicks.expected));
    }
    inputs.truncate(KEPT);
    Measured { champion: champion.to_owned(), rows: latest.len() as u64, inputs, scores, clicks, found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;

    #[test]
    fn calibration_is_off_only_beyond_chance() {
        let mut random = SplitMix::new(4);
        let mut unit = move || (random.next() >> 40) as f32 / (1 << 24) as f32;
        let truth: Vec<(f32, bool)> = (0..4_000)
            .map(|_| {
                let p = 0.3 * unit();
                (p, unit() < p)
            })
            .collect();
        let right = Clicks::new(truth.iter().copied());
        assert!(!right.beyond(0.0) && right.error() < 0.2, "{right:?}");
        let doubled = Clicks::new(truth.iter().map(|&(p, clicked)| (2.0 * p, clicked)));
        assert!(doubled.beyond(0.2) && (doubled.error() - 1.0).abs() < 0.2, "{doubled:?}");
        // As far off, but of so few that it may be chance.
        assert!(!Clicks::new(truth[..4].iter().map(|&(p, _)| (2.0 * p, false))).beyond(0.2));
        assert!(!Clicks::new([]).beyond(0.0));
    }
}
