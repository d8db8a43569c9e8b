//! `bench train`: steps per second of the training that the trainer runs, beside `PyTorch`'s.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use model::roofline::flops_per_row;
use model::train::train;
use model::{Job, KernelClass, Progress};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::case::{BATCH, Case};
use super::peer::{self, Peer, WITHOUT};
use super::{Folder, Maybe, Options, TOLERANCE, furthest, median, roofline};
use crate::bench::watch::peak_rss_mib;

const PROGRAM: &str = include_str!("../../../../tests/peers/train_torch.py");
/// Memory that `PyTorch` frees stays with it, as ours does with us: its training is up to twice as fast
/// where pages are not handed back and fetched again each step.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("MALLOC_TRIM_THRESHOLD_", "4000000000"),
    ("MALLOC_MMAP_THRESHOLD_", "4000000000"),
    ("MALLOC_TOP_PAD_", "64000000"),
];
/// Turns of each side, and steps of a turn.
const ROUNDS: usize = 7;
const STEPS: usize = 8;
/// Steps of an epoch: the turns, a few before them, and one that is followed by the validation.
const EPOCH: usize = 4 + ROUNDS * STEPS + 1;
/// Steps before anything is measured: the first epoch, in which rows are named for the first time.
const WARM: usize = EPOCH + 4;
/// Rows that both sides are compared on.
const COMPARED: usize = 256;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Examples learned from per second: the median turn.
    pub samples_per_s: f64,
    /// The same over `PyTorch`'s; null without it.
    pub ratio_to_pytorch: Option<f64>,
    /// The same over what the GEMM could do for three times a forward pass's operations.
    pub share_of_roofline: f64,
    /// The best of the peer's ways, and all that were tried.
    pub pytorch: Option<Pytorch>,
    /// GFLOP/s of a large product, measured in the same run.
    pub gemm_gflops: f64,
    /// Operations of an example, forward and backward.
    pub flops_per_sample: f64,
    /// Furthest that the logits of both sides lie apart, with our trained weights.
    pub largest_difference: Option<f64>,
    /// Most memory this process held, MiB.
    pub peak_rss_mib: f64,
    /// Examples of a step.
    pub batch: usize,
    /// Threads of each side.
    pub threads: usize,
    /// Instructions that ours used.
    pub kernel_class: &'static str,
    /// Why there is no ratio, where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_peers: Option<String>,
}

/// `PyTorch`'s side.
#[derive(Debug, Clone, Serialize)]
pub struct Pytorch {
    /// Version.
    pub version: String,
    /// Its fastest way.
    pub variant: String,
    /// The median turn of that.
    pub samples_per_s: f64,
    /// What a short trial gave each way, or why it does not work.
    pub tried: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Hello {
    version: String,
    variant: String,
    samples_per_s: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Took {
    seconds: f64,
}

#[derive(Deserialize)]
struct Logits {
    logits: Vec<f64>,
}

/// Runs it.
///
/// # Errors
/// A peer that fails, or whose network is another than ours.
pub fn run(options: &Options) -> Result<Measured> {
    let threads = options.threads();
    let examples = EPOCH * BATCH;
    let case = Case::new(examples + BATCH, threads)?;
    let folder = Folder::new("train")?;
    case.write(folder.path(), None)?;
    let python = peer::find(options.python.as_deref());
    let mut peer = match &python {
        Some(python) => Some(Peer::start(python, folder.path(), ("train_torch.py", PROGRAM), &ENVIRONMENT)?),
        None => None,
    };
    let hello: Option<Hello> = peer.as_mut().map(Peer::hear).transpose().context("PyTorch")?;
    let gemm_gflops = options.on_threads(roofline::gflops)?;

    let (training, validation) = (case.set.select(0..examples), case.set.select(examples..examples + BATCH));
    let mut turns = Turns { peer: peer.as_mut(), start: None, step: 0, ours: Vec::new(), theirs: Vec::new() };
    let mut failed = None;
    let mut observe = |_: &Progress| match turns.stepped() {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    };
    let trained = train(Job::new(&training, &validation, &case.config), &mut observe);
    if let Some(error) = failed {
        return Err(error);
    }
    let trained = trained?;
    let (ours, theirs) = (turns.ours, turns.theirs);

    let mut largest_difference = None;
    if let Some(peer) = &mut peer {
        case.write(folder.path(), Some(&trained.model))?;
        let said: Logits = peer.ask(&json!({ "check": COMPARED }))?;
        let rows: Vec<_> = (0..COMPARED).map(|index| case.set.row(index)).collect();
        let mut logits = vec![[0.0; model::network::HEADS]; COMPARED];
        trained.model.infer(&rows, &mut logits);
        let difference = furthest(logits.as_flattened(), &said.logits)?;
        ensure!(difference < TOLERANCE, "PyTorch's network is another: logits differ by {difference}");
        largest_difference = Some(difference);
    }
    let per_second = |seconds: Vec<f64>| (STEPS * BATCH) as f64 / median(seconds);
    let samples_per_s = per_second(ours);
    let pytorch = hello.map(|hello| Pytorch {
        version: hello.version,
        variant: hello.variant,
        samples_per_s: per_second(theirs),
        tried: hello.samples_per_s,
    });
    let flops_per_sample = 3.0 * flops_per_row(&case.config.network, trained.model.tokens().len());
    Ok(Measured {
        samples_per_s,
        ratio_to_pytorch: pytorch.as_ref().map(|pytorch| samples_per_s / pytorch.samples_per_s),
        share_of_roofline: samples_per_s * flops_per_sample / (gemm_gflops * 1e9),
        pytorch,
        gemm_gflops,
        flops_per_sample,
        largest_difference,
        peak_rss_mib: peak_rss_mib(),
        batch: BATCH,
        threads,
        kernel_class: KernelClass::detect().as_str(),
        without_peers: python.is_none().then(|| WITHOUT.to_owned()),
    })
}

/// Both sides' turns.
struct Turns<'a> {
    peer: Option<&'a mut Peer>,
    start: Option<Instant>,
    step: usize,
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Turns<'_> {
    /// Told after each of our steps: at the end of our turn, the peer has its own.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
    fn stepped(&mut self) -> Result<()> {
        self.step += 1;
        if self.step < WARM || !(self.step - WARM).is_multiple_of(STEPS) || self.ours.len() == ROUNDS {
            return Ok(());
        }
        if let Some(start) = self.start {
            self.ours.push(start.elapsed().as_secs_f64());
            if let Some(peer) = &mut self.peer {
                self.theirs.push(peer.ask::<Took>(&json!({ "steps": STEPS }))?.seconds);
            }
        }
        self.start = Some(Instant::now());
        Ok(())
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { threads, batch, kernel_class, .. } = self;
        writeln!(f, "training, batches of {batch}, {threads} threads, {kernel_class}")?;
        writeln!(f, "  samples/s            {:>10.0}", self.samples_per_s)?;
        let theirs = self.pytorch.as_ref().map(|pytorch| pytorch.samples_per_s);
        let way = self.pytorch.as_ref().map_or("", |pytorch| &pytorch.variant);
        writeln!(f, "  PyTorch's            {}  {way}", Maybe(theirs, 0))?;
        writeln!(f, "  ratio to PyTorch     {}", Maybe(self.ratio_to_pytorch, 2))?;
        writeln!(
            f,
            "  share of roofline    {:>10.2}  of {:.0} GFLOP/s",
            self.share_of_roofline, self.gemm_gflops
        )?;
        writeln!(f, "  peak memory          {:>10.0}  MiB", self.peak_rss_mib)?;
        match (&self.without_peers, self.largest_difference) {
            (Some(why), _) => writeln!(f, "  {why}"),
            (None, Some(difference)) => {
                writeln!(f, "  logits of both sides differ by {difference:.1e} at most")
            }
            (None, None) => Ok(()),
        }
    }
}
