//! What the model looks at and what counts: attention, importance, and how far to trust them.

use model::explain::{ColumnImportance, Faithfulness, Importance, Interval, Method};

use super::markup::{Cell, NONE, count, figure, paragraph, percent, table};
use super::plot::{Axis, Chart, Series, chart};
use super::rows::bars;

/// Tokens and columns that are drawn one by one.
const SHOWN: usize = 30;

/// A method's name for people.
fn name(method: Method) -> String {
    method.as_str().replace('_', " ")
}

/// The largest of them, and in words how many are left out.
fn largest(rows: impl Iterator<Item = (String, f64)>, what: &str) -> (Vec<(String, f64)>, String) {
    let mut rows: Vec<(String, f64)> = rows.collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let more = rows.len().saturating_sub(SHOWN);
    let left: f64 = rows.iter().skip(SHOWN).map(|row| row.1).sum();
    rows.truncate(SHOWN);
    let said =
        if more == 0 { String::new() } else { format!(" {more} more {what} sum up to {}.", figure(left)) };
    (rows, said)
}

/// Attention and importance.
pub(super) fn importance(page: &mut String, importance: Option<&Importance>) {
    let Some(found) = importance.filter(|found| found.rows > 0) else {
        paragraph(page, "What counts was not measured ([trainer.explanation] rows = 0).");
        return;
    };
    paragraph(page, format!("Means over {} validation examples.", count(found.rows as u64)));
    page.push_str("<div class=\"plots\">\n");
    if found.tokens.is_empty() {
        paragraph(page, "This network has no attention over its field tokens.");
    } else {
        let (rows, more) = largest(found.tokens.iter().cloned(), "tokens");
        let caption = format!("Mean share of the attention that pools the tokens; all of them make 1.{more}");
        bars(page, "Attention by field token", &caption, &rows);
    }
    if !found.behaviours.is_empty() {
        let shares = found.behaviours.iter().enumerate().map(|(at, (_, share))| ((at + 1) as f64, *share));
        let caption = format!(
            "Mean share of the attention among a row's past behaviours; 1 is the newest. {} rows have any, {} have {}.",
            count(found.behaviours[0].0 as u64),
            count(found.behaviours.last().map_or(0, |last| last.0 as u64)),
            found.behaviours.len()
        );
        chart(
            page,
            &Chart {
                title: "Attention by recency of behaviours",
                caption,
                x: Axis { label: "behaviour, the newest first", range: None },
                y: Axis { label: "mean share", range: None },
                series: vec![Series {
                    name: "attention",
                    points: shares.collect(),
                    marked: true,
                    ..Series::default()
                }],
                ..Chart::default()
            },
        );
    }
    let by =
        |of: fn(&ColumnImportance) -> f64| found.columns.iter().map(move |one| (one.column.clone(), of(one)));
    let (rows, more) = largest(by(|one| one.ablation), "columns");
    let caption = format!("Mean size of the change of a click's logit when the column is taken away.{more}");
    bars(page, "Importance by ablation", &caption, &rows);
    let (rows, more) = largest(by(|one| one.integrated_gradients), "columns");
    let caption = format!("Mean size of each column's part of a click's logit.{more}");
    bars(page, "Importance by integrated gradients", &caption, &rows);
    page.push_str("</div>\n");
    let mut columns: Vec<&ColumnImportance> = found.columns.iter().collect();
    columns.sort_by(|a, b| b.ablation.total_cmp(&a.ablation));
    let rows = columns.iter().take(SHOWN).map(|one| {
        vec![
            Cell::from(one.column.clone()),
            Cell::from(figure(one.ablation)),
            Cell::from(figure(one.ablation_signed)),
            Cell::from(figure(one.integrated_gradients)),
        ]
    });
    let heading =
        ["column", "ablation, mean size", "ablation, signed mean", "integrated gradients, mean size"];
    table(page, "Importance in logits of a click", &heading, rows);
}

/// How far explanations may be trusted.
pub(super) fn faithfulness(page: &mut String, measured: Option<&Faithfulness>) {
    let Some(measured) = measured.filter(|measured| measured.rows > 0) else {
        paragraph(
            page,
            "Explanations were not measured ([trainer.explanation] rows = 0): attention is published.",
        );
        return;
    };
    page.push_str("<p class=\"said\">");
    page.push_str(&super::markup::esc(measured.in_words()).to_string());
    page.push_str("</p>\n");
    let interval =
        |of: Interval| Cell::from(figure(of.mean)).with(format!("{} to {}", figure(of.low), figure(of.high)));
    let rows = measured.methods.iter().map(|method| {
        let published = if method.method == measured.published { " (published)" } else { "" };
        vec![
            Cell::from(format!("{}{published}", name(method.method))),
            Cell::from(format!("{:.0}", method.passes)),
            interval(method.deletion_gain),
            interval(method.insertion_gain),
            interval(method.score),
            method.behaviour_gain.map_or_else(|| Cell::from(NONE), interval),
        ]
    });
    let heading = [
        "method",
        "passes a prediction",
        "deletion, gain",
        "insertion, gain",
        "both together",
        "behaviours, gain",
    ];
    table(page, &format!("Faithfulness, over {} examples", count(measured.rows as u64)), &heading, rows);
    paragraph(
        page,
        "Gains are in logits of a click, over a random order: how much more the logit changes when what a method \
         names first is taken away (deletion), and how much less when that alone is left (insertion). More is better.",
    );
    page.push_str("<div class=\"plots\">\n");
    let curve = |title: &str, caption: &str, which: usize| {
        let of = |values: &[f64]| -> Vec<(f64, f64)> {
            measured.shares.iter().zip(values).map(|(share, value)| (100.0 * share, *value)).collect()
        };
        let names: Vec<String> = measured.methods.iter().map(|method| name(method.method)).collect();
        let mut series: Vec<Series<'_>> = measured
            .methods
            .iter()
            .zip(&names)
            .map(|(method, name)| {
                let values = [&method.deletion, &method.insertion][which];
                Series { name, points: of(values), marked: true, ..Series::default() }
            })
            .collect();
        let random = of(&measured.random[which]);
        series.push(Series { name: "a random order", points: random, marked: true, ..Series::default() });
        let mut drawn = String::new();
        chart(
            &mut drawn,
            &Chart {
                title,
                caption: caption.to_owned(),
                x: Axis { label: "columns, % of those present", range: None },
                y: Axis { label: "change of the logit", range: None },
                series,
                ..Chart::default()
            },
        );
        drawn
    };
    page.push_str(&curve("Deletion", "Change when the first columns are taken away: higher is better.", 0));
    page.push_str(&curve("Insertion", "Change when only the first columns are left: lower is better.", 1));
    page.push_str("</div>\n");
    let rows = measured.agreement.iter().map(|pair| {
        let [a, b] = pair.methods;
        vec![
            Cell::from(format!("{} and {}", name(a), name(b))),
            Cell::from(figure(pair.spearman)),
            Cell::from(figure(pair.kendall)),
        ]
    });
    table(page, "How far methods agree on the order of columns", &["methods", "Spearman", "Kendall"], rows);
    let shares: Vec<String> = measured.shares.iter().map(|share| percent(*share)).collect();
    paragraph(page, format!("Changes were measured at {} of the columns that are there.", shares.join(", ")));
}
