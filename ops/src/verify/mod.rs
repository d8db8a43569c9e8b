//! Proves the invariants on a running system.
//!
//! First a cut is fixed: the offsets that the stages have committed. What lies beyond is in flight
//! and out of scope. Each invariant then holds, is broken (with its first differences), or cannot
//! be checked (why, which range).

mod compare;
mod entities;
mod i1;
mod i2;
mod i3;
mod i4;
mod i5;

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use crate::context::Context;
use crate::log;

/// What was found of one invariant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Checked, and true.
    Holds,
    /// Checked, and false.
    Broken,
    /// Nothing could be checked.
    NotCheckable,
}

/// How many differences are named; the rest is counted.
const NAMED: usize = 5;

/// One invariant's outcome.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// `I1` to `I5`.
    pub invariant: &'static str,
    /// What it says.
    pub says: &'static str,
    /// The verdict.
    pub verdict: Verdict,
    /// What was checked, with counts.
    pub checked: Vec<String>,
    /// What could not be checked, why, which range.
    pub out_of_scope: Vec<String>,
    /// The first differences: the record, the field, both values.
    pub differences: Vec<String>,
    /// How many differences there are in all.
    pub difference_count: u64,
}

impl Outcome {
    fn new(invariant: &'static str, says: &'static str) -> Self {
        Self {
            invariant,
            says,
            verdict: Verdict::NotCheckable,
            checked: Vec::new(),
            out_of_scope: Vec::new(),
            differences: Vec::new(),
            difference_count: 0,
        }
    }

    fn checked(&mut self, what: String) {
        self.checked.push(what);
        if self.verdict == Verdict::NotCheckable {
            self.verdict = Verdict::Holds;
        }
    }

    fn out_of_scope(&mut self, what: String) {
        self.out_of_scope.push(what);
    }

    fn differs(&mut self, what: String) {
        self.verdict = Verdict::Broken;
        self.difference_count += 1;
        if self.differences.len() < NAMED {
            self.differences.push(what);
        }
    }
}

/// All outcomes.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// One per invariant.
    pub outcomes: Vec<Outcome>,
    /// Whether cores were run again.
    pub recomputed: bool,
}

impl Report {
    /// None is broken, and something was checked.
    pub fn verified(&self) -> bool {
        self.exit_code() == 0
    }

    /// 0 holds, 1 broken, 2 nothing checked.
    pub fn exit_code(&self) -> u8 {
        let any = |verdict| self.outcomes.iter().any(|o| o.verdict == verdict);
        if any(Verdict::Broken) {
            1
        } else if any(Verdict::Holds) {
            0
        } else {
            2
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in &self.outcomes {
            let verdict = match outcome.verdict {
                Verdict::Holds => "holds",
                Verdict::Broken => "BROKEN",
                Verdict::NotCheckable => "not checkable",
            };
            writeln!(f, "{}  {verdict:<13}  {}", outcome.invariant, outcome.says)?;
            for line in &outcome.checked {
                writeln!(f, "      checked  {line}")?;
            }
            for line in &outcome.out_of_scope {
                writeln!(f, "      left out {line}")?;
            }
            for line in &outcome.differences {
                writeln!(f, "      differs  {line}")?;
            }
            let more = outcome.difference_count.saturating_sub(outcome.differences.len() as u64);
            if more > 0 {
                writeln!(f, "      and {more} more differences")?;
            }
        }
        Ok(())
    }
}

/// How to verify.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Run the cores over the logs again and compare byte for byte, and train the champion again.
    pub recompute: bool,
}

/// Checks all invariants. Blocking.
///
/// # Errors
/// A cluster, a table or a registry that cannot be read; a broken invariant is no error.
pub fn run(context: &Context, options: Options) -> Result<Report> {
    let cut = log::Cut::take(context)?;
    let outcomes = vec![
        i1::check(context, &cut)?,
        i2::check(context, &cut, options)?,
        i3::check(context, &cut, options)?,
        i4::check(context, options)?,
        i5::check(context, options)?,
    ];
    Ok(Report { outcomes, recomputed: options.recompute })
}

/// I2 of a deployment in which nothing but `features` runs: by place, and byte for byte.
///
/// # Errors
/// As [`run`].
pub(crate) fn of_features(context: &Context) -> Result<[Outcome; 2]> {
    let cut = log::Cut::take(context)?;
    Ok([
        i2::check(context, &cut, Options { recompute: false })?,
        i2::check(context, &cut, Options { recompute: true })?,
    ])
}
