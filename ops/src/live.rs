//! What a person sees while the pipeline runs: a block that is redrawn on a terminal, a plain line
//! every few seconds elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::DateTime;
use runtime::shutdown::Shutdown;

use crate::context::Context;
use crate::feeder::Fed;
use crate::pipeline::Views;
use crate::sink::Sink;
use crate::stages::Backlog;

/// What the view looks at.
pub struct Look<'a> {
    /// Predictions.
    pub sink: &'a Sink,
    /// Raw records.
    pub fed: &'a Fed,
    /// Lake and trainer.
    pub views: &'a Views,
    /// For lag.
    pub context: &'a Context,
    /// When the session began.
    pub began: Instant,
}

/// Draws on standard error, so that standard output holds results only.
pub struct Live {
    terminal: bool,
    phase: Mutex<String>,
}

impl Live {
    /// For this process's standard error.
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), phase: Mutex::new("running".to_owned()) }
    }

    /// Says what is going on now.
    pub fn say(&self, phase: &str) {
        phase.clone_into(&mut self.phase.lock().unwrap_or_else(PoisonError::into_inner));
        if !self.terminal {
            eprintln!("{phase} ...");
        }
    }

    /// Draws until the shutdown is set.
    ///
    /// # Errors
    /// A cluster that does not answer for lag.
    pub fn run(&self, look: &Look<'_>, shutdown: &Shutdown) -> Result<()> {
        let every = Duration::from_millis(if self.terminal { 500 } else { 5_000 });
        let backlog = Backlog::new(look.context)?;
        let mut drawn = 0;
        let mut before = (0, 0.0);
        while !shutdown.sleep(every) {
            let text = self.frame(look, &backlog, &mut before)?;
            let mut err = std::io::stderr().lock();
            if self.terminal {
                // Up to the block's first line, then clear to the end of the screen.
                let up = if drawn > 0 { format!("\x1b[{drawn}A") } else { String::new() };
                let _closed = write!(err, "{up}\x1b[0J{text}");
                drawn = text.lines().count();
            } else {
                let line = text.lines().map(str::trim).collect::<Vec<_>>().join(" | ");
                let _closed = writeln!(err, "{line}");
            }
        }
        Ok(())
    }

    fn frame(&self, look: &Look<'_>, backlog: &Backlog<'_>, before: &mut (u64, f64)) -> Result<String> {
        let phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let seconds = look.began.elapsed().as_secs_f64();
        let records = look.fed.records.load(Ordering::Relaxed);
        let rate = (records - before.0) as f64 / (seconds - before.1).max(0.001);
        *before = (records, seconds);
        let clock = DateTime::from_timestamp_millis(look.fed.clock_ms.load(Ordering::Relaxed));
        let clock = clock.map_or_else(String::new, |t| t.format("%Y-%m-%d %H:%M").to_string());
        let lag = backlog.by_stage()?.map(|(stage, lag)| format!("{stage} {lag}")).join(", ");
        let (predictions, scored, latency, judged) =
            look.sink.look(|seen| (seen.predictions(), seen.scored, seen.latency(), seen.quality.judge()));
        let trainer = look.views.trainer.get();
        let model = trainer.champion.as_deref().unwrap_or("none yet, base rates serve");
        let loss = trainer.validation_losses.last().map_or_else(String::new, |l| format!(", loss {l:.4}"));
        let quality = judged.map_or_else(String::new, |j| {
            format!(
                "log loss {:.4} (base rate {:.4}, truth {:.4}), AUC {:.3} (truth {:.3})",
                j.log_loss, j.base_log_loss, j.true_log_loss, j.auc, j.true_auc
            )
        });
        Ok(format!(
            "{seconds:6.1} s  {phase}\n  \
             event clock  {clock}\n  \
             in           {records} raw records, {rate:.0}/s\n  \
             lag          {lag}\n  \
             out          {predictions} predictions, {scored} by a model, p50 {:.0} ms, p99 {:.0} ms\n  \
             champion     {model}; {} published, trainer {}{loss}\n  \
             quality      {quality}\n",
            latency.p50,
            latency.p99,
            trainer.published,
            trainer.phase.as_str(),
        ))
    }
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}
