//! `bench infer`: milliseconds of a batch through the network, beside ONNX Runtime and `PyTorch`.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use model::network::HEADS;
use model::roofline::flops_per_row;
use model::train::train;
use model::{Job, KernelClass, Model};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::case::{BATCH, Case};
use super::peer::{self, Peer, WITHOUT};
use super::{Folder, Maybe, Options, TOLERANCE, furthest, median, roofline};
use crate::bench::watch::peak_rss_mib;

const PROGRAM: &str = include_str!("../../../../tests/peers/infer_onnx.py");
/// Batches measured.
const SIZES: [usize; 7] = [1, 8, 32, 64, 256, 512, 1024];
/// Examples to train on, then to infer.
const EXAMPLES: usize = 16 * BATCH;
/// Turns of each side.
const ROUNDS: usize = 5;
/// Rows of a turn, and most batches of one.
const ROWS: usize = 8 * BATCH;
const ITERATIONS: usize = 200;
/// How long a side's batches run before those that are timed, each turn. After the other side's turn
/// caches are cold, and Linux may leave all threads of a side on one processor, where it woke them, for
/// tens of milliseconds: longer than the timed batches take.
const WARM: Duration = Duration::from_millis(100);
/// Rows that all sides are compared on.
const COMPARED: usize = 256;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// By size.
    pub batches: Vec<Batch>,
    /// Version of ONNX Runtime, where it was measured.
    pub onnxruntime: Option<String>,
    /// Version of `PyTorch`, where it was measured.
    pub pytorch: Option<String>,
    /// GFLOP/s of a large product, measured in the same run.
    pub gemm_gflops: f64,
    /// Operations of an example.
    pub flops_per_sample: f64,
    /// Furthest that the logits of any two sides lie apart.
    pub largest_difference: Option<f64>,
    /// Most memory this process held, MiB.
    pub peak_rss_mib: f64,
    /// Threads of each side, as far as it uses them.
    pub threads: usize,
    /// Instructions that ours used.
    pub kernel_class: &'static str,
    /// Why there are no ratios, where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_peers: Option<String>,
}

/// One size of batch.
#[derive(Debug, Clone, Serialize)]
pub struct Batch {
    /// Rows.
    pub batch: usize,
    /// Ours: the median batch.
    pub ms: f64,
    /// ONNX Runtime's time over ours.
    pub ratio_to_onnxruntime: Option<f64>,
    /// `PyTorch`'s time over ours.
    pub ratio_to_pytorch: Option<f64>,
    /// Ours over what the GEMM could do.
    pub share_of_roofline: f64,
    /// ONNX Runtime's median batch, by its fastest way.
    pub onnxruntime_ms: Option<f64>,
    /// `PyTorch`'s.
    pub pytorch_ms: Option<f64>,
    /// ONNX Runtime's fastest way at this size.
    pub onnxruntime_way: Option<String>,
    /// `PyTorch`'s.
    pub pytorch_way: Option<String>,
}

#[derive(Deserialize)]
struct Hello {
    onnxruntime: String,
    pytorch: String,
}

#[derive(Deserialize)]
struct Logits {
    onnxruntime: Vec<f64>,
    pytorch: Vec<f64>,
}

#[derive(Deserialize)]
struct Took {
    way: String,
    seconds: Vec<f64>,
}

/// Runs it.
///
/// # Errors
/// A peer that fails, or whose network is another than ours.
pub fn run(options: &Options) -> Result<Measured> {
    let case = Case::new(EXAMPLES + BATCH, options.threads())?;
    let (training, rest) = (case.set.select(0..EXAMPLES), case.set.select(EXAMPLES..EXAMPLES + BATCH));
    let model = train(Job::new(&training, &rest, &case.config), &mut ())?.model;
    let folder = Folder::new("infer")?;
    case.write(folder.path(), Some(&model))?;
    let python = peer::find(options.python.as_deref());
    let mut peer = match &python {
        Some(python) => Some(Peer::start(python, folder.path(), ("infer_onnx.py", PROGRAM), &[])?),
        None => None,
    };
    let hello: Option<Hello> = peer.as_mut().map(Peer::hear).transpose().context("the peers")?;
    options.on_threads(|| measure(&case, &model, peer, hello, python.is_none(), options.threads()))
}

fn measure(
    case: &Case,
    model: &Model,
    mut peer: Option<Peer>,
    hello: Option<Hello>,
    alone: bool,
    threads: usize,
) -> Result<Measured> {
    let mut largest_difference = None;
    if let Some(peer) = &mut peer {
        let said: Logits = peer.ask(&json!({ "check": COMPARED }))?;
        let rows: Vec<_> = (0..COMPARED).map(|index| case.set.row(index)).collect();
        let mut logits = vec![[0.0; HEADS]; COMPARED];
        model.infer(&rows, &mut logits);
        let ours = logits.as_flattened();
        let difference = furthest(ours, &said.onnxruntime)?.max(furthest(ours, &said.pytorch)?);
        ensure!(difference < TOLERANCE, "a peer's network is another: logits differ by {difference}");
        largest_difference = Some(difference);
    }
    let gemm_gflops = roofline::gflops()?;
    let flops_per_sample = flops_per_row(&case.config.network, model.tokens().len());
    let mut batches = Vec::new();
    for batch in SIZES {
        let iterations = (ROWS / batch).min(ITERATIONS);
        let (mut ours, mut theirs) = (Vec::new(), [Vec::new(), Vec::new()]);
        let mut ways = [None, None];
        for _ in 0..ROUNDS {
            ours.extend(time(case, model, batch, iterations));
            let Some(peer) = &mut peer else { continue };
            for ((name, times), way) in ["onnxruntime", "pytorch"].iter().zip(&mut theirs).zip(&mut ways) {
                let turn = json!({
                    "peer": name, "batch": batch, "iterations": iterations, "warm": WARM.as_secs_f64(),
                });
                let took: Took = peer.ask(&turn)?;
                times.extend(took.seconds);
                *way = Some(took.way);
            }
        }
        let ours = median(ours);
        let [onnxruntime, pytorch] = theirs.map(|times| (!times.is_empty()).then(|| median(times)));
        let [onnxruntime_way, pytorch_way] = ways;
        batches.push(Batch {
            batch,
            ms: ours * 1e3,
            ratio_to_onnxruntime: onnxruntime.map(|theirs| theirs / ours),
            ratio_to_pytorch: pytorch.map(|theirs| theirs / ours),
            share_of_roofline: batch as f64 * flops_per_sample / (gemm_gflops * 1e9) / ours,
            onnxruntime_ms: onnxruntime.map(|theirs| theirs * 1e3),
            pytorch_ms: pytorch.map(|theirs| theirs * 1e3),
            onnxruntime_way,
            pytorch_way,
        });
    }
    let (onnxruntime, pytorch) = hello.map(|hello| (hello.onnxruntime, hello.pytorch)).unzip();
    Ok(Measured {
        batches,
        onnxruntime,
        pytorch,
        gemm_gflops,
        flops_per_sample,
        largest_difference,
        peak_rss_mib: peak_rss_mib(),
        threads,
        kernel_class: KernelClass::detect().as_str(),
        without_peers: alone.then(|| WITHOUT.to_owned()),
    })
}

/// Seconds of each of some batches, once others have run for [`WARM`].
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
fn time(case: &Case, model: &Model, batch: usize, iterations: usize) -> Vec<f64> {
    let mut logits = vec![[0.0; HEADS]; batch];
    let mut rows = Vec::with_capacity(batch);
    let mut run = |number: usize| {
        let first = number * batch % (case.set.len() - batch + 1);
        let start = Instant::now();
        rows.clear();
        rows.extend((first..first + batch).map(|index| case.set.row(index)));
        model.infer(&rows, &mut logits);
        start.elapsed().as_secs_f64()
    };
    let (start, mut number) = (Instant::now(), 0);
    while start.elapsed() < WARM {
        run(number);
        number += 1;
    }
    (0..iterations).map(run).collect()
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "inference, {} threads, {}; milliseconds a batch", self.threads, self.kernel_class)?;
        let names = ["batch", "ours", "ONNX RT", "PyTorch", "x ONNX RT", "x PyTorch", "roofline"];
        writeln!(f, "{}", names.map(|name| format!("{name:>10}")).join(" "))?;
        for at in &self.batches {
            writeln!(
                f,
                "{:>10} {:>10.3} {} {} {} {} {:>10.2}",
                at.batch,
                at.ms,
                Maybe(at.onnxruntime_ms, 3),
                Maybe(at.pytorch_ms, 3),
                Maybe(at.ratio_to_onnxruntime, 2),
                Maybe(at.ratio_to_pytorch, 2),
                at.share_of_roofline
            )?;
        }
        writeln!(f, "roofline: {:.0} GFLOP/s; peak memory {:.0} MiB", self.gemm_gflops, self.peak_rss_mib)?;
        match (&self.without_peers, self.largest_difference) {
            (Some(why), _) => writeln!(f, "{why}"),
            (None, Some(difference)) => writeln!(f, "logits of all sides differ by {difference:.1e} at most"),
            (None, None) => Ok(()),
        }
    }
}
