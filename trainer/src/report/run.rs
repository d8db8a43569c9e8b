//! The page of a run.

use chrono::DateTime;
use model::metrics::Difference;

use super::curves::{HeadCurves, Losses};
use super::markup::{count, figure, signed};
use super::page::{Extra, Page, Verdict, html};
use super::{Comparison, Shown};
use crate::run::Run;

/// What the page of a run draws beyond what its record holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drawn {
    /// The champion's curves, where there is one.
    pub champion: Vec<HeadCurves>,
    /// Training loss by step.
    pub training_losses: Vec<(i64, f32)>,
}

/// Writes the page of a run.
pub fn of_run(run: &Run, drawn: &Drawn) -> String {
    let name = format!("{} {}", run.model, run.model_version);
    let champion = run.champion.as_ref().map(|champion| format!("champion {}", champion.model_version));
    let second = run.champion_metrics.as_ref().zip(champion.as_deref());
    let verdict = Verdict {
        good: run.gate.publish,
        word: if run.gate.publish { "Published" } else { "Kept back" }.to_owned(),
        reason: run.gate.reason.clone(),
    };
    html(&Page {
        title: name,
        verdict,
        grounds: grounds(run),
        facts: facts(run),
        models: Comparison {
            first: Shown { name: &run.model_version, metrics: &run.metrics, curves: &run.curves },
            second: second.map(|(metrics, name)| Shown { name, metrics, curves: &drawn.champion }),
            less: run.less_champion.as_ref(),
            confidence: run.config.gate.confidence,
        },
        losses: vec![(&run.model_version, Losses::new(&run.history, &drawn.training_losses))],
        importance: run.importance.as_ref(),
        explanation: run.explanation.as_ref(),
    })
}

/// The campaigns that kept it back, if any did.
fn grounds(run: &Run) -> Vec<Extra> {
    let gate = &run.gate;
    let extra = |caption: &str, head: &[&str], rows: Vec<Vec<String>>| Extra {
        caption: caption.to_owned(),
        head: head.iter().map(|name| (*name).to_owned()).collect(),
        rows,
    };
    let worse = gate.worse_campaigns.iter().map(|one| {
        vec![one.campaign.clone(), count(one.clicks), figure(one.challenger), figure(one.champion)]
    });
    let miscalibrated = gate.miscalibrated_campaigns.iter().map(|one| {
        let Difference { mean, low, high } = one.increase;
        vec![
            one.campaign.clone(),
            count(one.rows),
            figure(one.challenger),
            figure(one.champion),
            format!("{} ({} to {})", signed(mean), signed(low), signed(high)),
        ]
    });
    let found = [
        extra(
            "Campaigns whose expected clicks are further off than the champion's",
            &["campaign", "clicks", "expected", "expected by the champion"],
            worse.collect(),
        ),
        extra(
            "Campaigns whose calibration error rose by more than allowed",
            &["campaign", "impressions", "ECE", "the champion's ECE", "increase"],
            miscalibrated.collect(),
        ),
    ];
    found.into_iter().filter(|extra| !extra.rows.is_empty()).collect()
}

fn facts(run: &Run) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| facts.push((name.to_owned(), value));
    add("model", format!("{} {}", run.model, run.model_version));
    let tables = run.tables.iter().map(|(table, version)| format!("{table} at version {version}"));
    add("data", tables.collect::<Vec<_>>().join(", "));
    add("vector schema", run.fingerprint.clone());
    let revision = run.git_revision.as_deref().unwrap_or("not known to the build");
    add("git revision", revision.to_owned());
    add("version of the code", run.code_version.clone());
    add("kernel class", run.kernel.clone());
    add("seed", format!("{}, of weights, shuffling, samples and resamples", run.network.training.seed));
    add("label records", count(run.data.labels));
    add(
        "examples",
        format!(
            "{}: {} clicked, {} with decided purchases, {} of these bought",
            count(run.data.rows as u64),
            count(run.data.clicked as u64),
            count(run.data.matured as u64),
            count(run.data.purchased as u64)
        ),
    );
    let bounds = run.boundaries;
    let part = |rows: usize, when: String| format!("{} rows, {when}", count(rows as u64));
    add("training", part(run.parts.train.len(), format!("before {}", time(bounds.train_until_ms))));
    let between = format!("{} to {}", time(bounds.validation_from_ms), time(bounds.validation_until_ms));
    add("validation", part(run.parts.validation.len(), between));
    add("test", part(run.parts.test.len(), format!("from {}", time(bounds.test_from_ms))));
    add("started", format!("{}, by {}", time(run.started_ms), run.trigger.as_str().replace('_', " ")));
    let took = (run.finished_ms - run.started_ms).max(0) as f64 / 1_000.0;
    add("ended", format!("{}, after {took:.1} s", time(run.finished_ms)));
    add("learned from", run.mode().as_str().to_owned());
    let falls: Vec<String> = run
        .history
        .decays
        .iter()
        .filter_map(|&at| run.history.validations.get(at))
        .map(|validation| format!(", smaller from {} on", count(validation.steps)))
        .collect();
    let stopped = if run.history.stopped_early { ", stopped early: no longer better" } else { "" };
    add("steps", format!("{}{}{stopped}", count(run.history.steps), falls.concat()));
    let version = |parent: &Option<crate::run::Parent>| {
        parent.as_ref().map_or_else(|| "none".to_owned(), |parent| parent.model_version.clone())
    };
    add("weights started from", version(&run.parent));
    add("champion then", version(&run.champion));
    add("checksum of the weights", run.weights_checksum.clone());
    facts
}

/// A time as people read it, UTC.
fn time(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(|| format!("{ms} ms"), |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}
