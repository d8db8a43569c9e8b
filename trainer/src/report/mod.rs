//! A training as one HTML page that needs nothing else: verdict, figures, curves, campaigns, what the
//! model looks at. Pure: data in, text out.
//!
//! Whatever is named by users (campaigns, columns) is escaped where it is written ([`markup`]).

mod campaigns;
pub mod curves;
mod explained;
mod figures;
mod markup;
pub mod page;
mod plot;
mod rows;
pub mod run;
#[cfg(test)]
mod tests;

use model::metrics::{Metrics, MetricsLess};

pub use campaigns::LISTED;
pub use curves::{Bin, HeadCurves, Losses, reliability};
pub use page::{Extra, Page, Verdict, html};
pub use run::{Drawn, of_run};

/// A model as a page shows it.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// How the page calls it.
    pub name: &'a str,
    /// On the test examples, with intervals and campaigns where they were measured.
    pub metrics: &'a Metrics,
    /// Of its served heads.
    pub curves: &'a [HeadCurves],
}

/// One model, or two on the same examples.
#[derive(Debug, Clone, Copy)]
pub struct Comparison<'a> {
    /// The model that the page is about.
    pub first: Shown<'a>,
    /// What it is compared with.
    pub second: Option<Shown<'a>>,
    /// How much larger the first's figures are.
    pub less: Option<&'a MetricsLess>,
    /// Share of the resamples that the intervals hold.
    pub confidence: f64,
}
