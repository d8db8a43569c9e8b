//! The page of a made-up run, read by an XML parser: every plot, every figure, hostile names.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use model::explain::{
    Agreement, ColumnImportance, Faithfulness, Importance, Interval, Method, MethodFaithfulness,
};
use model::metrics::{Bootstrap, Difference, Head, Heads, MetricsLess};
use model::train::Validation;
use model::{History, Metrics, Probabilities, encode::Outcome};
use quick_xml::Reader;
use quick_xml::events::Event;

use super::markup::{figure, signed};
use super::*;
use crate::gate::{Decision, MiscalibratedCampaign, WorseCampaign};
use crate::run::{Data, Parent, Run};
use crate::schedule::{Due, Trigger};
use crate::split::{Boundaries, Parts};

const HOSTILE: &str = "</table><script>alert(\"x\")</script>&'<!--";
const BOOTSTRAP: Bootstrap = Bootstrap { resamples: 40, confidence: 0.95, seed: 1 };

/// What a page holds, as a parser sees it.
#[derive(Default)]
struct Seen {
    elements: BTreeMap<String, usize>,
    /// Labels of the drawings.
    drawings: Vec<String>,
    /// Values of `href`, `src` and the like.
    links: Vec<String>,
    text: String,
}

/// Reads a page as XML: it must be well-formed.
fn parse(page: &str) -> Seen {
    let mut reader = Reader::from_str(page);
    reader.config_mut().check_end_names = true;
    reader.config_mut().check_comments = true;
    let mut seen = Seen::default();
    let mut depth = 0_usize;
    loop {
        match reader.read_event().unwrap_or_else(|error| panic!("{error} at {}", reader.error_position())) {
            Event::Start(tag) => {
                depth += 1;
                element(&mut seen, &tag);
            }
            Event::Empty(tag) => element(&mut seen, &tag),
            Event::End(_) => {
                depth -= 1;
                seen.text.push('\n');
            }
            Event::Text(text) => seen.text.push_str(&text.decode().unwrap()),
            Event::GeneralRef(reference) => {
                let name = reference.decode().unwrap();
                let known = match &*name {
                    "lt" => "<",
                    "gt" => ">",
                    "amp" => "&",
                    "quot" => "\"",
                    "#39" => "'",
                    other => panic!("&{other}; is not known to XML"),
                };
                seen.text.push_str(known);
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(depth, 0, "an element is not closed");
    seen
}

fn element(seen: &mut Seen, tag: &quick_xml::events::BytesStart<'_>) {
    let name = String::from_utf8(tag.name().as_ref().to_vec()).unwrap();
    for attribute in tag.attributes() {
        let attribute = attribute.unwrap();
        let value = String::from_utf8(attribute.value.to_vec()).unwrap();
        match attribute.key.as_ref() {
            b"aria-label" if name == "svg" => seen.drawings.push(value),
            b"href" | b"src" | b"srcset" | b"data" | b"action" => seen.links.push(value),
            key => assert!(!key.starts_with(b"on"), "{name} has a script"),
        }
    }
    *seen.elements.entry(name).or_default() += 1;
}

/// Predictions of 600 impressions of 40 campaigns, better the smaller `blur`.
fn heads(blur: f32) -> (Heads, Vec<String>) {
    let mut random = crate::random::SplitMix::new(4);
    let mut unit = move || (random.next() >> 40) as f32 / (1 << 24) as f32;
    let mut campaigns = Vec::new();
    let (mut said, mut came) = (Vec::new(), Vec::new());
    for at in 0..600_usize {
        let truth = 0.05 + 0.8 * unit() * unit();
        let clicked = unit() < truth;
        let outcome = Outcome {
            clicked,
            purchased: unit() < if clicked { 0.5 } else { 0.1 },
            matured: at % 4 > 0,
            value: 5.0 + (at % 50) as f32,
            ..Outcome::default()
        };
        let p = (1.0 - blur) * truth + blur * 0.25;
        said.push(Probabilities {
            p_click: p,
            p_conversion: 0.5,
            p_view_through: 0.01,
            p_purchase: 0.5 * p,
            value: Some(20.0 + (at % 9) as f32),
        });
        came.push((outcome, 1.0));
        campaigns.push(if at % 3 == 0 { HOSTILE.to_owned() } else { format!("campaign {}", at % 40) });
    }
    (Heads::new(&said, came), campaigns)
}

fn metrics(heads: &Heads, campaigns: &[String]) -> Metrics {
    let names: Vec<&str> = campaigns.iter().map(String::as_str).collect();
    Metrics::judge(heads, &names, LISTED, &BOOTSTRAP)
}

fn explanation() -> (Faithfulness, Importance) {
    let interval = Interval { mean: 0.5, low: 0.4, high: 0.6 };
    let method = |method| MethodFaithfulness {
        method,
        passes: 12.0,
        deletion: vec![0.1, 0.2, 0.3],
        insertion: vec![0.3, 0.2, 0.1],
        deletion_gain: interval,
        insertion_gain: interval,
        score: interval,
        behaviour_gain: None,
    };
    let faithfulness = Faithfulness {
        rows: 100,
        shares: vec![0.01, 0.1, 0.5],
        random: [vec![0.05, 0.06, 0.2], vec![0.4, 0.3, 0.2]],
        methods: Method::ALL.map(method).to_vec(),
        agreement: vec![Agreement {
            methods: [Method::Attention, Method::Ablation],
            spearman: 0.61,
            kendall: 0.42,
        }],
        published: Method::Attention,
    };
    let columns = (0..40).map(|at| ColumnImportance {
        column: format!("column <{at}>"),
        ablation: f64::from(at) / 40.0,
        ablation_signed: -0.1,
        integrated_gradients: 0.2,
    });
    let importance = Importance {
        rows: 100,
        tokens: vec![("campaign".into(), 0.75), ("price".into(), 0.25)],
        behaviours: vec![(90, 0.6), (50, 0.3)],
        columns: columns.collect(),
    };
    (faithfulness, importance)
}

/// A run with a champion, if it is to have one.
fn run(with_champion: bool) -> (Run, Drawn) {
    #[derive(serde::Deserialize)]
    struct File {
        model: model::Config,
    }
    let (ours, campaigns) = heads(0.0);
    let (theirs, _) = heads(0.6);
    let (faithfulness, importance) = explanation();
    let schema = schemas::VectorSchema { fields: Vec::new() };
    let validation = |steps: u64, validation_loss: f64| Validation {
        epoch: 0,
        steps,
        training_loss: 0.5,
        validation_loss,
        metric: None,
    };
    let run = Run {
        version: Run::VERSION,
        model: "default".into(),
        model_version: "v000007".into(),
        code_version: Run::current_code_version(),
        git_revision: Some("0123abcd".into()),
        kernel: "portable".into(),
        trigger: Trigger::Asked,
        due: Some(Due::full(Trigger::Asked)),
        started_ms: 1_700_000_000_000,
        finished_ms: 1_700_000_012_500,
        config: crate::config::tests::defaults(),
        network: toml::from_str::<File>(model::DEFAULTS).unwrap().model,
        fingerprint: format!("{:016x}", schema.fingerprint()),
        schema,
        tables: BTreeMap::from([("labels".to_owned(), 41), ("features".to_owned(), 43)]),
        parent: None,
        champion: with_champion.then(|| Parent { model_version: "v000003".into(), checksum: String::new() }),
        judged_after_ms: None,
        data: Data {
            labels: 5_000,
            rows: 4_000,
            without_vector: 1,
            skipped_vectors: 0,
            clicked: 900,
            matured: 3_000,
            purchased: 100,
        },
        ids: Vec::new(),
        boundaries: Boundaries {
            train_until_ms: 1_000,
            validation_from_ms: 2_000,
            validation_until_ms: 3_000,
            test_from_ms: 4_000,
        },
        parts: Parts { train: 0..2_801, validation: 2_900..3_302, test: 3_400..4_000 },
        history: History {
            validations: vec![validation(10, 0.7), validation(20, 0.61), validation(30, 0.65)],
            best: 1,
            steps: 30,
            ..History::default()
        },
        metrics: metrics(&ours, &campaigns),
        champion_metrics: with_champion.then(|| metrics(&theirs, &campaigns)),
        less_champion: with_champion.then(|| MetricsLess::of(&ours, &theirs, &BOOTSTRAP)),
        gate: Decision {
            publish: !with_champion,
            reason: format!("campaign {HOSTILE} got worse"),
            rival: "champion".into(),
            challenger_log_loss: 0.1,
            rival_log_loss: 0.2,
            wins: 1.0,
            gain: (0.05, 0.15),
            purchase_gain: None,
            worse_campaigns: vec![WorseCampaign {
                campaign: HOSTILE.into(),
                clicks: 3,
                challenger: 9.0,
                champion: 4.0,
            }],
            miscalibrated_campaigns: vec![MiscalibratedCampaign {
                campaign: HOSTILE.into(),
                rows: 1_234,
                challenger: 0.1,
                champion: 0.05,
                increase: Difference { mean: 0.05, low: 0.04, high: 0.06 },
            }],
            rows: 600,
        },
        reliability: reliability(ours.of(Head::Click)),
        curves: HeadCurves::each(&ours),
        explanation: Some(faithfulness),
        importance: Some(importance),
        drift_reference: None,
        checksum: "c".into(),
        weights_checksum: "the weights' checksum".into(),
    };
    let drawn = Drawn {
        champion: if with_champion { HeadCurves::each(&theirs) } else { Vec::new() },
        training_losses: (0..30).map(|step| (step, 1.0 / (step + 1) as f32)).collect(),
    };
    (run, drawn)
}

#[test]
fn the_page_is_whole_and_needs_nothing_else() {
    for with_champion in [false, true] {
        let (run, drawn) = run(with_champion);
        let page = of_run(&run, &drawn);
        let seen = parse(&page);
        let plots = [
            "Loss by step, v000007.",
            "ROC, clicks.",
            "Precision and recall, clicks.",
            "Calibration, clicks, v000007.",
            "ROC, purchases.",
            "ROC, purchases after a click.",
            "Precision and recall, purchases after a click.",
            "Calibration, purchases after a click, v000007.",
            "ROC, purchases without a click.",
            "Clicks: AUC by campaign.",
            "Clicks: ECE by campaign.",
            "Attention by field token.",
            "Attention by recency of behaviours.",
            "Importance by ablation.",
            "Importance by integrated gradients.",
            "Deletion.",
            "Insertion.",
        ];
        for plot in plots {
            assert!(seen.drawings.iter().any(|label| label.starts_with(plot)), "{plot} {:?}", seen.drawings);
        }
        let theirs = seen.drawings.iter().any(|label| label.contains("clicks, champion v000003"));
        assert_eq!(theirs, with_champion);
        assert_eq!(seen.elements["svg"], seen.drawings.len());
        assert_eq!(seen.elements["main"], 1);
        for element in ["script", "link", "img", "iframe", "object"] {
            assert!(!seen.elements.contains_key(element), "{element}");
        }
        assert!(seen.links.iter().all(|link| link.starts_with('#')), "{:?}", seen.links);
        assert!(!page.contains("url(") && !page.contains("@import") && !page.contains("NaN"));
        for part in ["prefers-color-scheme: dark", "@media print", "width=device-width"] {
            assert!(page.contains(part), "{part}");
        }
    }
}

#[test]
fn figures_are_those_of_the_metrics() {
    let (run, drawn) = run(true);
    let seen = parse(&of_run(&run, &drawn));
    for metrics in [&run.metrics, run.champion_metrics.as_ref().unwrap()] {
        for head in Head::ALL {
            let head = metrics.of(head);
            let intervals = head.intervals.as_deref().unwrap();
            let campaigns = head.campaigns.as_deref().unwrap();
            let shown = [
                (head.log_loss, intervals.log_loss),
                (head.normalised_entropy, intervals.normalised_entropy),
                (head.auc, intervals.auc),
                (head.pr_auc, intervals.pr_auc),
                (head.accuracy, intervals.accuracy),
                (head.precision, intervals.precision),
                (head.recall, intervals.recall),
                (head.f1, intervals.f1),
                (head.calibration_error, intervals.calibration_error),
                (head.calibration_error_equal_mass, intervals.calibration_error_equal_mass),
                (campaigns.auc, campaigns.auc_interval),
                (campaigns.calibration_error, campaigns.calibration_interval),
            ];
            for (value, interval) in shown {
                let Some(value) = value else { continue };
                let interval = interval.unwrap();
                let text = format!("{}{} to {}", figure(value), figure(interval.low), figure(interval.high));
                assert!(seen.text.contains(&text), "{text}");
            }
        }
    }
    assert!(seen.text.contains("mean absolute error") && seen.text.contains("gamma deviance"));
    let value = run.metrics.value.unwrap();
    for figure_of in [
        value.mean_absolute_error,
        value.base_mean_absolute_error,
        value.deviance,
        value.base_deviance,
        value.mean_prediction,
        value.mean,
    ] {
        assert!(seen.text.contains(&figure(figure_of)), "{figure_of}");
    }
    let less = run.less_champion.unwrap().click.log_loss.unwrap();
    let text = format!("{}, better{} to {}", signed(less.mean), signed(less.low), signed(less.high));
    assert!(less.high < 0.0 && seen.text.contains(&text), "{text}");
    let first = &run.metrics.click.campaigns.as_deref().unwrap().largest[0];
    assert!(seen.text.contains(&figure(first.log_loss.unwrap())));
    for fact in [
        "labels at version 41",
        "0123abcd",
        "v000003",
        "2\u{202f}801 rows",
        "402 rows",
        "600 rows",
        "2023-11-14 22:13:20 UTC",
        "after 12.5 s",
        "the weights' checksum",
        "+0.05000 (+0.04000 to +0.06000)",
        "step 20, validation loss 0.61000",
    ] {
        assert!(seen.text.contains(fact), "{fact}");
    }
    assert!(seen.text.contains(&run.explanation.as_ref().unwrap().in_words()));
}

#[test]
fn hostile_names_stay_text() {
    let (run, drawn) = run(true);
    let page = of_run(&run, &drawn);
    assert!(!page.contains("<script") && !page.contains("<!--"));
    let seen = parse(&page);
    assert!(seen.text.contains(HOSTILE), "it is shown as it is");
    assert!(seen.text.contains("column <39>"));
}

#[test]
fn many_campaigns_are_cut_and_the_rest_is_said() {
    let (run, drawn) = run(false);
    let campaigns = run.metrics.click.campaigns.as_deref().unwrap();
    assert_eq!((campaigns.campaigns, campaigns.largest.len()), (41, LISTED));
    let inside: u64 = campaigns.largest.iter().map(|one| one.examples).sum();
    let seen = parse(&of_run(&run, &drawn));
    let said = format!("11 more hold the other {} impressions", 600 - inside);
    assert!(seen.text.contains(&said), "{said}");
    assert!(seen.text.contains("10 more columns sum up to"));
}

#[test]
fn a_page_of_nothing_is_whole() {
    let (mut run, _) = run(false);
    run.metrics = Metrics::default();
    run.curves.clear();
    run.history = History::default();
    (run.explanation, run.importance) = (None, None);
    let seen = parse(&of_run(&run, &Drawn::default()));
    assert!(seen.drawings.is_empty());
    assert!(seen.text.contains("there are no examples to judge on"));
    assert!(seen.text.contains("Explanations were not measured"));
}
