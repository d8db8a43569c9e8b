//! The tables of metrics: one a head, every figure with its interval, of one model or of two side by
//! side with their paired difference.

use model::metrics::{
    Difference, Differences, Figures, Head, HeadMetrics, Interval, Intervals, ValueMetrics,
};

use super::markup::{Cell, count, figure, put, signed, table};
use super::{Comparison, Shown};

/// Which way a figure is better.
#[derive(Clone, Copy, PartialEq)]
enum Better {
    Lower,
    Higher,
    /// It only says what was judged on.
    Neither,
}

/// One row of a table.
struct Line {
    name: &'static str,
    better: Better,
    value: fn(&Figures) -> Option<f64>,
    interval: fn(&Intervals) -> Option<Interval>,
    difference: fn(&Differences) -> Option<Difference>,
    /// What always saying the base rate comes to.
    base: fn(&Figures) -> Option<f64>,
}

/// Declares a [`Line`] by the field's name.
macro_rules! line {
    ($field:ident, $name:literal, $better:ident, $base:expr) => {
        Line {
            name: $name,
            better: Better::$better,
            value: |figures| figures.$field,
            interval: |intervals| intervals.$field,
            difference: |differences| differences.$field,
            base: $base,
        }
    };
}

const LINES: [Line; 12] = [
    line!(log_loss, "log loss", Lower, |figures| figures.base_log_loss),
    line!(normalised_entropy, "normalised entropy", Lower, |_| Some(1.0)),
    line!(auc, "AUC", Higher, |_| Some(0.5)),
    line!(pr_auc, "PR-AUC", Higher, |figures| figures.base_rate),
    line!(accuracy, "accuracy", Higher, |_| None),
    line!(precision, "precision", Higher, |_| None),
    line!(recall, "recall", Higher, |_| None),
    line!(f1, "F1", Higher, |_| None),
    line!(calibration_error, "ECE, 20 buckets of equal width", Lower, |_| Some(0.0)),
    line!(calibration_error_equal_mass, "ECE, 20 buckets of equal weight", Lower, |_| Some(0.0)),
    line!(mean_prediction, "mean prediction", Neither, |figures| figures.base_rate),
    line!(base_rate, "share of positives", Neither, |figures| figures.base_rate),
];

/// A head's name for people.
pub(super) const fn head_name(head: Head) -> &'static str {
    match head {
        Head::Click => "Clicks",
        Head::Conversion => "Purchases after a click",
        Head::ViewThrough => "Purchases without a click",
        Head::Purchase => "Purchases",
    }
}

/// A table per head that has examples.
pub(super) fn tables(page: &mut String, models: &Comparison<'_>) {
    let confidence = models.confidence;
    put!(
        page,
        "<p>Below each figure: where it lies in {:.0} % of the resamples of the test examples (bootstrap). \
         Accuracy, precision, recall and F1 take what is at least as likely as the share of positives as \
         said to happen. ECE is the expected calibration error.{}</p>\n",
        100.0 * confidence,
        if models.second.is_some() {
            " Differences are paired: both models are judged on the same resamples; one that is within noise \
             has 0 in its interval."
        } else {
            ""
        }
    );
    for head in Head::ALL {
        let first = models.first.metrics.of(head);
        if first.examples == 0 {
            put!(page, "<p>{}: there are no examples to judge on.</p>\n", head_name(head));
            continue;
        }
        head_table(page, head, first, models);
    }
    values(page, models);
}

/// How good the values said of purchases are, where any are said.
fn values(page: &mut String, models: &Comparison<'_>) {
    let Some(first) = &models.first.metrics.value else { return };
    let second = models.second.as_ref().map(|shown| (shown.name, shown.metrics.value.as_ref()));
    let row = |name: &str, of: fn(&ValueMetrics) -> f64, base: Option<f64>| {
        let mut row = vec![Cell::from(name), Cell::figure(Some(of(first)), None)];
        row.extend(second.map(|(_, theirs)| Cell::figure(theirs.map(of), None)));
        row.push(Cell::figure(base, None));
        row
    };
    let rows = [
        row("mean absolute error", |value| value.mean_absolute_error, Some(first.base_mean_absolute_error)),
        row("gamma deviance", |value| value.deviance, Some(first.base_deviance)),
        row("mean prediction", |value| value.mean_prediction, Some(first.mean)),
    ];
    let mut heading = vec!["", models.first.name];
    heading.extend(second.map(|(name, _)| name));
    heading.push("saying their mean");
    table(page, &format!("Values of purchases: {} of them", count(first.examples)), &heading, rows);
}

fn head_table(page: &mut String, head: Head, first: &HeadMetrics, models: &Comparison<'_>) {
    let second = models.second.as_ref().map(|shown| shown.metrics.of(head));
    let differences = models.less.map(|less| less.head(head));
    let caption = format!(
        "{}: {} examples, {} of them positive",
        head_name(head),
        count(first.examples),
        count(first.positives)
    );
    let heading = match &models.second {
        Some(second) => vec!["", models.first.name, second.name, "difference"],
        None => vec!["", models.first.name, "base rate"],
    };
    let mut rows: Vec<Vec<Cell>> = LINES
        .iter()
        .map(|line| {
            let cell = |head: &HeadMetrics| {
                let interval = head.intervals.as_deref().and_then(line.interval);
                Cell::figure((line.value)(head), interval)
            };
            let mut row = vec![Cell::from(line.name), cell(first)];
            if let Some(second) = second {
                row.push(cell(second));
                row.push(difference(differences.and_then(line.difference), line.better));
            } else {
                row.push(Cell::figure((line.base)(first), None));
            }
            row
        })
        .collect();
    rows.extend(campaign_lines(first, second));
    table(page, &caption, &heading, rows);
}

/// The means within campaigns.
fn campaign_lines(first: &HeadMetrics, second: Option<&HeadMetrics>) -> Vec<Vec<Cell>> {
    if first.campaigns.is_none() {
        return Vec::new();
    }
    let row = |name: &str, of: &dyn Fn(&HeadMetrics) -> Cell, base: Option<f64>| {
        let mut row = vec![Cell::from(name), of(first)];
        match second {
            // The gate compares campaign by campaign; the means' difference is not resampled.
            Some(second) => row.extend([of(second), Cell::default()]),
            None => row.push(Cell::figure(base, None)),
        }
        row
    };
    let auc = |head: &HeadMetrics| {
        let found = head.campaigns.as_deref();
        Cell::figure(found.and_then(|c| c.auc), found.and_then(|c| c.auc_interval))
    };
    let calibration = |head: &HeadMetrics| {
        let found = head.campaigns.as_deref();
        Cell::figure(found.and_then(|c| c.calibration_error), found.and_then(|c| c.calibration_interval))
    };
    vec![
        row("AUC within campaigns, mean", &auc, Some(0.5)),
        row("ECE of campaigns, mean", &calibration, None),
    ]
}

/// How much the first model's is larger, and what that means.
fn difference(difference: Option<Difference>, better: Better) -> Cell {
    let Some(Difference { mean, low, high }) = difference else { return Cell::from("") };
    let verdict = if better == Better::Neither {
        ""
    } else if low <= 0.0 && high >= 0.0 {
        ", within noise"
    } else if (mean < 0.0) == (better == Better::Lower) {
        ", better"
    } else {
        ", worse"
    };
    Cell::from(format!("{}{verdict}", signed(mean))).with(format!("{} to {}", signed(low), signed(high)))
}

/// The few figures that a page begins with.
pub(super) fn in_short(shown: &Shown<'_>) -> String {
    let head = &shown.metrics.click;
    let with = |name: &str, value: Option<f64>, interval: Option<Interval>| {
        let interval =
            interval.map_or_else(String::new, |i| format!(" ({} to {})", figure(i.low), figure(i.high)));
        value.map(|value| format!("{name} {}{interval}", figure(value)))
    };
    let intervals = head.intervals.as_deref();
    let parts = [
        with("log loss", head.log_loss, intervals.and_then(|i| i.log_loss)),
        with("AUC", head.auc, intervals.and_then(|i| i.auc)),
        with(
            "ECE",
            head.calibration_error_equal_mass,
            intervals.and_then(|i| i.calibration_error_equal_mass),
        ),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_says_what_it_means() {
        let of = |mean: f64, low: f64, high: f64, better| {
            format!("{:?}", difference(Some(Difference { mean, low, high }), better))
        };
        assert!(of(-0.01, -0.02, -0.005, Better::Lower).contains(", better"));
        assert!(of(-0.01, -0.02, -0.005, Better::Higher).contains(", worse"));
        assert!(of(-0.01, -0.02, 0.005, Better::Higher).contains(", within noise"));
        let neither = of(-0.01, -0.02, -0.005, Better::Neither);
        assert!(!neither.contains("better") && !neither.contains("worse"), "{neither}");
    }
}
