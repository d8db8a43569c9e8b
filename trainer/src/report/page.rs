//! The page: its frame, and its sections in order. Every function appends to what is written so far.

use model::explain::{Faithfulness, Importance};
use model::metrics::Head;

use super::curves::{HeadCurves, Losses};
use super::figures::{self, head_name};
use super::markup::{Cell, count, esc, facts, figure, paragraph, put, table};
use super::plot::{Axis, Chart, Series, chart};
use super::{Comparison, campaigns, explained};

const STYLE: &str = include_str!("style.css");

/// What is good and what is not, first of all.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Whether it is good.
    pub good: bool,
    /// In a word or two.
    pub word: String,
    /// Why.
    pub reason: String,
}

/// A table that a page has besides its own.
#[derive(Debug, Clone)]
pub struct Extra {
    /// What it is.
    pub caption: String,
    /// Names of its columns.
    pub head: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<String>>,
}

/// All that a page says.
#[derive(Debug, Clone)]
pub struct Page<'a> {
    /// Its heading.
    pub title: String,
    /// What came of it.
    pub verdict: Verdict,
    /// What led to the verdict, one by one, if that is to be said.
    pub grounds: Vec<Extra>,
    /// Where it comes from: names and values.
    pub facts: Vec<(String, String)>,
    /// The model, beside another where there is one.
    pub models: Comparison<'a>,
    /// Losses while learning, by model.
    pub losses: Vec<(&'a str, Losses)>,
    /// What the first model looks at.
    pub importance: Option<&'a Importance>,
    /// How far its explanations may be trusted.
    pub explanation: Option<&'a Faithfulness>,
}

/// The sections: how the page names them, and where links lead.
const SECTIONS: [(&str, &str); 7] = [
    ("summary", "Summary"),
    ("metrics", "Metrics"),
    ("learning", "Learning"),
    ("curves", "Ranking and calibration"),
    ("campaigns", "Campaigns"),
    ("attention", "Attention and importance"),
    ("faithfulness", "How far explanations may be trusted"),
];

/// Writes a page that needs nothing else: HTML that is well-formed XML too.
pub fn html(page: &Page<'_>) -> String {
    let mut out = String::with_capacity(1 << 18);
    let title = esc(&page.title);
    put!(
        &mut out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <title>{title}</title><style>\n{STYLE}</style></head>\n<body><header><h1>{title}</h1>\n"
    );
    out.push_str("<nav aria-label=\"Contents\"><ul>");
    for (id, name) in SECTIONS {
        put!(&mut out, "<li><a href=\"#{id}\">{name}</a></li>");
    }
    out.push_str("</ul></nav></header>\n<main>\n");
    for (number, (id, name)) in SECTIONS.into_iter().enumerate() {
        let class = if matches!(id, "metrics" | "curves" | "campaigns" | "attention") { "page" } else { "" };
        put!(&mut out, "<section id=\"{id}\" class=\"{class}\"><h2>{name}</h2>\n");
        match number {
            0 => summary(&mut out, page),
            1 => figures::tables(&mut out, &page.models),
            2 => learning(&mut out, &page.losses),
            3 => curves(&mut out, &page.models),
            4 => campaigns::section(&mut out, &page.models),
            5 => explained::importance(&mut out, page.importance),
            _ => explained::faithfulness(&mut out, page.explanation),
        }
        out.push_str("</section>\n");
    }
    out.push_str("</main></body></html>\n");
    out
}

fn summary(out: &mut String, page: &Page<'_>) {
    let Verdict { good, word, reason } = &page.verdict;
    let class = if *good { "yes" } else { "no" };
    put!(out, "<p class=\"verdict {class}\"><b>{}</b>: {}.</p>\n", esc(word), esc(reason));
    for shown in [Some(&page.models.first), page.models.second.as_ref()].into_iter().flatten() {
        paragraph(out, format!("Clicks, {}: {}.", shown.name, figures::in_short(shown)));
    }
    for grounds in &page.grounds {
        extra(out, grounds);
    }
    facts(out, &page.facts);
}

fn extra(out: &mut String, extra: &Extra) {
    let head: Vec<&str> = extra.head.iter().map(String::as_str).collect();
    let rows = extra.rows.iter().map(|row| row.iter().map(|cell| Cell::from(cell.as_str())).collect());
    table(out, &extra.caption, &head, rows);
}

fn learning(out: &mut String, losses: &[(&str, Losses)]) {
    out.push_str("<div class=\"plots\">\n");
    for (name, losses) in losses {
        let best = losses.best.map(|step| (step, "the weights that were kept"));
        let last = losses.validation.iter().find(|point| Some(point.0) == losses.best);
        let kept = last.map_or_else(String::new, |(step, loss)| {
            format!(" Kept: step {}, validation loss {}.", count(*step as u64), figure(*loss))
        });
        chart(
            out,
            &Chart {
                title: &format!("Loss by step, {name}"),
                caption: format!(
                    "Training loss with what makes learning harder (dropout); validation loss without.{kept}"
                ),
                x: Axis { label: "step", range: None },
                y: Axis { label: "loss, nats", range: None },
                series: vec![
                    Series { name: "training", points: losses.training.clone(), ..Series::default() },
                    Series {
                        name: "validation",
                        points: losses.validation.clone(),
                        marked: true,
                        ..Series::default()
                    },
                ],
                at: best,
                ..Chart::default()
            },
        );
    }
    out.push_str("</div>\n");
}

/// ROC, precision-recall and reliability of each head that has them.
fn curves(out: &mut String, models: &Comparison<'_>) {
    if models.first.curves.is_empty() {
        paragraph(out, "No head has examples of both kinds.");
    }
    for ours in models.first.curves {
        put!(out, "<h3>{}</h3>\n<div class=\"plots\">\n", head_name(ours.head));
        let theirs = models.second.as_ref().and_then(|shown| {
            let curves = shown.curves.iter().find(|curves| curves.head == ours.head)?;
            Some((shown.name, curves))
        });
        let both: Vec<(&str, &HeadCurves)> =
            [Some((models.first.name, ours)), theirs].into_iter().flatten().collect();
        ranking(out, models, ours.head, &both);
        for (name, curves) in &both {
            reliability(out, name, curves);
        }
        out.push_str("</div>\n");
        for (name, curves) in &both {
            reliability_table(out, name, curves);
        }
    }
}

fn ranking(out: &mut String, models: &Comparison<'_>, head: Head, both: &[(&str, &HeadCurves)]) {
    let unit = Some((0.0, 1.0));
    let metrics = models.first.metrics.of(head);
    let say = |name: &str, value: Option<f64>| {
        value.map_or_else(String::new, |value| format!("{name}, {}: {}. ", models.first.name, figure(value)))
    };
    let series = |points: fn(&HeadCurves) -> Vec<(f64, f64)>| -> Vec<Series<'_>> {
        both.iter()
            .map(|&(name, curves)| Series { name, points: points(curves), ..Series::default() })
            .collect()
    };
    chart(
        out,
        &Chart {
            title: &format!("ROC, {}", head_name(head).to_lowercase()),
            caption: format!("{}Up and to the left is better.", say("AUC", metrics.auc)),
            x: Axis { label: "false positive rate", range: unit },
            y: Axis { label: "true positive rate", range: unit },
            series: series(|curves| curves.roc.iter().map(|point| (point.x, point.y)).collect()),
            diagonal: Some("chance"),
            ..Chart::default()
        },
    );
    chart(
        out,
        &Chart {
            title: &format!("Precision and recall, {}", head_name(head).to_lowercase()),
            caption: format!(
                "{}{}Up and to the right is better.",
                say("Area", metrics.pr_auc),
                metrics
                    .base_rate
                    .map_or_else(String::new, |rate| format!("By chance, precision is {}. ", figure(rate)))
            ),
            x: Axis { label: "recall", range: unit },
            y: Axis { label: "precision", range: unit },
            series: series(|curves| curves.pr.iter().map(|point| (point.x, point.y)).collect()),
            ..Chart::default()
        },
    );
}

fn reliability(out: &mut String, name: &str, curves: &HeadCurves) {
    let bins = &curves.reliability;
    let highest = bins.iter().map(|bin| bin.predicted.max(bin.interval().1)).fold(0.0, f64::max);
    let range = Some((0.0, (1.05 * highest).clamp(f64::MIN_POSITIVE, 1.0)));
    chart(
        out,
        &Chart {
            title: &format!("Calibration, {}, {name}", head_name(curves.head).to_lowercase()),
            caption: format!(
                "{} groups of equally many impressions, with 95 % intervals; bars: how often what is said (the most: {}).",
                bins.len(),
                count(curves.said.iter().map(|bucket| bucket.2).max().unwrap_or(0))
            ),
            x: Axis { label: "predicted", range },
            y: Axis { label: "observed", range },
            series: vec![Series {
                name,
                points: bins.iter().map(|bin| (bin.predicted, bin.clicked)).collect(),
                marked: true,
                intervals: bins.iter().map(super::Bin::interval).collect(),
            }],
            diagonal: Some("as often as it is said"),
            bars: curves
                .said
                .iter()
                .copied()
                .filter(|bucket| range.is_none_or(|range| bucket.0 < range.1))
                .collect(),
            ..Chart::default()
        },
    );
}

fn reliability_table(out: &mut String, name: &str, curves: &HeadCurves) {
    let rows = curves.reliability.iter().enumerate().map(|(at, bin)| {
        let (low, high) = bin.interval();
        vec![
            Cell::from((at + 1).to_string()),
            Cell::from(count(bin.rows as u64)),
            Cell::from(figure(bin.predicted)),
            Cell::from(figure(bin.clicked)).with(format!("{} to {}", figure(low), figure(high))),
        ]
    });
    let caption = format!("Calibration, {}: {name}", head_name(curves.head).to_lowercase());
    table(out, &caption, &["group", "impressions", "predicted", "observed"], rows);
}
