//! A run as one HTML page that needs nothing else: verdict, figures, loss curve, reliability. Pure.

use std::fmt::Write as _;

use model::HeadMetrics;
use serde::{Deserialize, Serialize};

use crate::gate::Outcome;
use crate::run::Run;

/// How many bins a reliability diagram has at most.
const BINS: usize = 10;

/// Impressions of about the same predicted click probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Impressions.
    pub rows: usize,
    /// Mean of what was predicted.
    pub predicted: f64,
    /// Share that was clicked.
    pub clicked: f64,
}

/// Ten bins of equally many impressions, by predicted click probability, ascending.
pub fn reliability(p_click: &[f32], outcomes: &[Outcome<'_>]) -> Vec<Bin> {
    let mut pairs: Vec<(f32, bool)> =
        p_click.iter().copied().zip(outcomes.iter().map(|outcome| outcome.clicked)).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    (0..BINS)
        .filter_map(|bin| {
            let part = &pairs[bin * pairs.len() / BINS..(bin + 1) * pairs.len() / BINS];
            let rows = part.len();
            (rows > 0).then(|| Bin {
                rows,
                predicted: part.iter().map(|(p, _)| f64::from(*p)).sum::<f64>() / rows as f64,
                clicked: part.iter().filter(|(_, clicked)| *clicked).count() as f64 / rows as f64,
            })
        })
        .collect()
}

/// The page.
pub fn html(run: &Run) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>\
         <style>body{{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;\
         color:#222}}table{{border-collapse:collapse}}td,th{{padding:.2rem .8rem;text-align:right;\
         border-bottom:1px solid #ddd}}td:first-child,th:first-child{{text-align:left}}svg{{background:#fafafa}}\
         .yes{{color:#167a3a}}.no{{color:#a33}}</style><h1>{title}</h1>\
         <p><b class={class}>{verdict}</b>: {reason}.</p>",
        title = escape(&format!("{} {}", run.model, run.model_version)),
        class = if run.gate.publish { "yes" } else { "no" },
        verdict = if run.gate.publish { "Published" } else { "Kept back" },
        reason = escape(&run.gate.reason),
    );
    metrics_table(&mut page, run);
    data_table(&mut page, run);
    page.push_str("<h2>Loss</h2>");
    let losses = |of: fn(&model::train::Validation) -> f64| -> Vec<(f64, f64)> {
        run.history.validations.iter().map(|v| (v.steps as f64, of(v))).collect()
    };
    chart(
        &mut page,
        &[
            ("training", "#999", losses(|v| v.training_loss)),
            ("validation", "#1f6fb2", losses(|v| v.validation_loss)),
        ],
        false,
    );
    page.push_str("<h2>Reliability of click probabilities</h2><p>Predicted (across) and observed (up), in ten groups of equally many test impressions.</p>");
    let bins = run.reliability.iter().map(|bin| (bin.predicted, bin.clicked)).collect();
    chart(&mut page, &[("observed", "#1f6fb2", bins)], true);
    page.push_str("</html>\n");
    page
}

fn metrics_table(page: &mut String, run: &Run) {
    page.push_str(
        "<h2>On the test impressions</h2><table><tr><th><th>examples<th>positive<th>log loss<th>base rate's\
         <th>normalised entropy<th>AUC<th>calibration error",
    );
    let mut row = |name: &str, head: &HeadMetrics| {
        let _ = write!(page, "<tr><td>{name}<td>{}<td>{}", head.examples, head.positives);
        for figure in
            [head.log_loss, head.base_log_loss, head.normalised_entropy, head.auc, head.calibration_error]
        {
            match figure {
                Some(figure) => {
                    let _ = write!(page, "<td>{figure:.5}");
                }
                None => page.push_str("<td>&ndash;"),
            }
        }
    };
    row("click", &run.metrics.click);
    row("purchase", &run.metrics.purchase);
    if let (Some(metrics), Some(champion)) = (&run.champion_metrics, &run.champion) {
        let name = escape(&champion.model_version);
        row(&format!("click, champion {name}"), &metrics.click);
        row(&format!("purchase, champion {name}"), &metrics.purchase);
    }
    page.push_str("</table>");
}

fn data_table(page: &mut String, run: &Run) {
    page.push_str("<h2>Where it comes from</h2><table>");
    let mut row = |name: &str, value: String| {
        let _ = write!(page, "<tr><td>{name}<td>{}", escape(&value));
    };
    for (table, version) in &run.tables {
        row(&format!("table {}", escape(table)), format!("version {version}"));
    }
    row("label records", run.data.labels.to_string());
    row("examples", run.data.rows.to_string());
    row(
        "training, validation, test",
        format!("{}, {}, {}", run.parts.train.len(), run.parts.validation.len(), run.parts.test.len()),
    );
    row("clicked", run.data.clicked.to_string());
    row("purchases decided", run.data.matured.to_string());
    row("parent", run.parent.as_ref().map_or_else(|| "none".to_owned(), |p| p.model_version.clone()));
    row("seed", run.network.training.seed.to_string());
    row("kernel class", run.kernel.clone());
    row("weights", run.weights_checksum.clone());
    page.push_str("</table>");
}

/// Name, colour, points.
type Line<'a> = (&'a str, &'a str, Vec<(f64, f64)>);

/// A chart of lines through points, both axes scaled to the data; with the diagonal if asked.
fn chart(page: &mut String, lines: &[Line<'_>], diagonal: bool) {
    const WIDTH: f64 = 560.0;
    const HEIGHT: f64 = 240.0;
    const EDGE: f64 = 44.0;
    let points: Vec<(f64, f64)> = lines
        .iter()
        .flat_map(|line| &line.2)
        .copied()
        .filter(|(x, y)| x.is_finite() && y.is_finite())
        .collect();
    if points.is_empty() {
        page.push_str("<p>No points.</p>");
        return;
    }
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        if high > low { (low, high) } else { (low - 0.5, low + 0.5) }
    };
    let (mut x_range, mut y_range) =
        (range(&mut points.iter().map(|p| p.0)), range(&mut points.iter().map(|p| p.1)));
    if diagonal {
        let both = (0.0, x_range.1.max(y_range.1).max(f64::MIN_POSITIVE));
        (x_range, y_range) = (both, both);
    }
    let x = |value: f64| EDGE + (value - x_range.0) / (x_range.1 - x_range.0) * (WIDTH - 2.0 * EDGE);
    let y =
        |value: f64| HEIGHT - EDGE - (value - y_range.0) / (y_range.1 - y_range.0) * (HEIGHT - 2.0 * EDGE);
    let _ = write!(page, "<svg viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' font-size=11 fill='#555'>");
    if diagonal {
        let (low, high) = x_range;
        let _ = write!(
            page,
            "<line x1={:.1} y1={:.1} x2={:.1} y2={:.1} stroke='#bbb' stroke-dasharray=4 />",
            x(low),
            y(low),
            x(high),
            y(high)
        );
    }
    for (at, (name, colour, line)) in lines.iter().enumerate() {
        let mut path = String::new();
        for (px, py) in line.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
            let _ = write!(path, "{:.1},{:.1} ", x(*px), y(*py));
            let _ = write!(page, "<circle cx={:.1} cy={:.1} r=2.5 fill='{colour}' />", x(*px), y(*py));
        }
        let _ = write!(page, "<polyline points='{path}' fill=none stroke='{colour}' />");
        let _ = write!(page, "<text x={EDGE} y={} fill='{colour}'>{name}</text>", 14 + 13 * at);
    }
    let (low, high) = (HEIGHT - EDGE + 16.0, WIDTH - EDGE);
    let _ = write!(
        page,
        "<text x={EDGE} y={low}>{:.4}</text><text x={high} y={low} text-anchor=end>{:.4}</text>\
         <text x=2 y={}>{:.4}</text><text x=2 y={EDGE}>{:.4}</text></svg>",
        x_range.0,
        x_range.1,
        HEIGHT - EDGE,
        y_range.0,
        y_range.1
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_every_example_once() {
        let p: Vec<f32> = (0..105_u8).map(|i| f32::from(i) / 105.0).collect();
        let outcomes: Vec<Outcome<'_>> =
            p.iter().map(|p| Outcome { campaign: "c", clicked: *p > 0.5, purchased: None }).collect();
        let bins = reliability(&p, &outcomes);
        assert_eq!(bins.len(), 10);
        assert_eq!(bins.iter().map(|bin| bin.rows).sum::<usize>(), 105);
        assert!(bins.is_sorted_by(|a, b| a.predicted < b.predicted));
        assert_eq!((bins[0].clicked, bins[9].clicked), (0.0, 1.0));
        assert!(reliability(&[], &[]).is_empty());
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
    }
}
