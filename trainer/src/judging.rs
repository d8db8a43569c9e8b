//! A challenger after its training: measured, compared with the champion on the same test examples,
//! and explained.

use model::explain::{Faithfulness, Importance};
use model::metrics::{Bootstrap, Head, Heads, MetricsLess};
use model::{Artefact, Checkpoint, Metrics, Model, Probabilities};
use runtime::shutdown::Shutdown;
use tokio::runtime::Handle;

use crate::dataset::{self, Dataset};
use crate::fit::{self, Fitted, Plan};
use crate::gate::{self, Decision, Rival, Said};
use crate::report::HeadCurves;
use crate::run::Parent;
use crate::rundir::watching::Watching;
use crate::status::Phase;
use crate::tensorboard::PrCurve;
use crate::trainer::{broken, stopwatch};
use crate::{Error, drift, report, telemetry};

/// What training and judging give, without the examples.
pub(crate) struct Judged {
    pub(crate) artefact: Artefact,
    pub(crate) weights_checksum: String,
    pub(crate) kernel: String,
    pub(crate) parent: Option<Parent>,
    pub(crate) data: crate::run::Data,
    pub(crate) ids: Vec<model::encode::FieldIds>,
    pub(crate) boundaries: crate::split::Boundaries,
    pub(crate) parts: crate::split::Parts,
    pub(crate) history: model::History,
    pub(crate) metrics: Metrics,
    pub(crate) champion_metrics: Option<Metrics>,
    pub(crate) less_champion: Option<MetricsLess>,
    pub(crate) decision: Decision,
    pub(crate) reliability: Vec<report::Bin>,
    pub(crate) curves: Vec<HeadCurves>,
    pub(crate) drift_reference: drift::Reference,
    pub(crate) explanation: Option<Faithfulness>,
    pub(crate) importance: Option<Importance>,
    pub(crate) drawn: report::Drawn,
    /// The event file.
    pub(crate) events: Vec<u8>,
}

/// The models that a challenger comes from and is judged against.
#[derive(Clone, Copy)]
pub(crate) struct Models<'a> {
    pub(crate) champion: Option<&'a Model>,
    pub(crate) parent: Option<&'a Model>,
}

/// Trains a challenger and compares it with the champion on the same test examples.
pub(crate) fn judge(
    root: &str,
    plan: &Plan,
    models: Models<'_>,
    checkpoint: Option<Checkpoint>,
    handle: &Handle,
    watch: &mut Watching,
    stop: &Shutdown,
) -> Result<Judged, Error> {
    let started = stopwatch();
    let Models { champion, parent } = models;
    let fitted = fit::fit(root, plan, parent, handle, stop, checkpoint, watch)?;
    let Fitted { dataset, trained, .. } = &fitted;
    let data = dataset.data();
    telemetry::data_read(data.rows, data.labels, data.without_vector, started.elapsed().as_secs_f64());
    if data.skipped_vectors > 0 {
        telemetry::vectors_skipped(data.skipped_vectors);
    }
    for ids in dataset.ids() {
        telemetry::ids(ids, plan.config.max_collision_rate);
    }
    if let (Some(parent), None) = (&plan.parent, &fitted.parent) {
        telemetry::cold_start(&parent.model_version, "its encoder or network differs from the config's");
    }

    watch.status.update(|s| s.phase = Phase::Judging);
    let said = dataset.predict_test(&trained.model)?;
    let ours = Columns::new(&said);
    let theirs = match champion {
        Some(champion) => champion_says(champion, root, plan, dataset, handle, stop)?,
        None => None,
    };
    let outcomes = dataset.test_outcomes();
    let config = &plan.config.gate;
    let seed = plan.network.training.seed;
    let columns = theirs.as_deref().map(Columns::new);
    let rival = columns.as_ref().map_or_else(
        || Rival::BaseRate { click: dataset.click_rate() },
        |columns| Rival::Champion(columns.said()),
    );
    let decision = gate::decide(&outcomes, ours.said(), rival, config, seed);
    let heads = Heads::new(&said, dataset.test_judged());
    let their_heads = theirs.map(|said| Heads::new(&said, dataset.test_judged()));
    let bootstrap = Bootstrap { resamples: config.resamples, confidence: config.confidence, seed };
    let campaigns: Vec<&str> = outcomes.iter().map(|outcome| outcome.campaign).collect();
    let measure = |heads: &Heads| Metrics::judge(heads, &campaigns, report::LISTED, &bootstrap);
    let metrics = measure(&heads);
    let champion_metrics = their_heads.as_ref().map(measure);
    let less_champion = their_heads.as_ref().map(|theirs| MetricsLess::of(&heads, theirs, &bootstrap));
    let clicks = PrCurve::of(ours.p_click.iter().copied().zip(outcomes.iter().map(|o| o.clicked)));
    watch.curves.judged(fitted.trained.history.steps, &metrics, &clicks);
    let reliability = report::reliability(heads.of(Head::Click));
    let drawn = report::Drawn {
        champion: their_heads.as_ref().map(HeadCurves::each).unwrap_or_default(),
        training_losses: watch.curves.training_losses(),
    };
    let importance = match plan.config.explanation.rows {
        0 => None,
        rows => Some(
            model::explain::importance(&trained.model, &dataset.validation().all(), rows).map_err(broken)?,
        ),
    };
    let drift_reference = {
        let validation = trained.model.predict_examples(&dataset.validation().all()).map_err(broken)?;
        let unlearned: Vec<f32> =
            validation.iter().map(|said| said.p_click).chain(ours.p_click.iter().copied()).collect();
        // A block is an even sample of the training examples.
        let sample = dataset.training().blocks.read(0)?.resolve(dataset.encoder());
        drift::Reference::new(&sample.all(), &unlearned)
    };
    let artefact = trained.artefact(&fit::card(plan, &fitted)).map_err(broken)?;
    let weights_checksum = trained.model.weights_checksum().map_err(broken)?;
    let kernel = trained.model.kernel_class().as_str().to_owned();
    drop(outcomes);
    let (boundaries, parts) = (dataset.boundaries(), dataset.parts().clone());
    let ids = dataset.ids().to_vec();
    Ok(Judged {
        artefact,
        weights_checksum,
        kernel,
        parent: fitted.parent,
        data,
        ids,
        boundaries,
        parts,
        history: fitted.trained.history,
        metrics,
        champion_metrics,
        less_champion,
        decision,
        reliability,
        curves: HeadCurves::each(&heads),
        drift_reference,
        explanation: fitted.explanation,
        importance,
        drawn,
        events: watch.curves.events.bytes().to_vec(),
    })
}

/// What the champion says of the test examples; `None` if it reads vectors of another schema, and
/// so says nothing of these.
fn champion_says(
    champion: &Model,
    root: &str,
    plan: &Plan,
    dataset: &Dataset,
    handle: &Handle,
    stop: &Shutdown,
) -> Result<Option<Vec<Probabilities>>, Error> {
    if champion.schema_fingerprint() != plan.schema.fingerprint() {
        return Ok(None);
    }
    if champion.encoder().reads_as(dataset.encoder()) {
        return dataset.predict_test(champion).map(Some);
    }
    let want = plan.request(root, champion.encoder());
    dataset::predict_test_again(&want, champion, handle, stop).map(Some)
}

/// Probabilities, column by column.
pub(crate) struct Columns {
    pub(crate) p_click: Vec<f32>,
    pub(crate) p_purchase: Vec<f32>,
}

impl Columns {
    pub(crate) fn new(said: &[Probabilities]) -> Self {
        Self {
            p_click: said.iter().map(|p| p.p_click).collect(),
            p_purchase: said.iter().map(|p| p.p_purchase).collect(),
        }
    }

    pub(crate) fn said(&self) -> Said<'_> {
        Said { p_click: &self.p_click, p_purchase: &self.p_purchase }
    }
}
