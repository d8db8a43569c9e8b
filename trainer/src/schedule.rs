//! When to train: by the calendar, by a count of new labels, because of drift, or by several of
//! them; and whether anew or on. Pure; is told the time and what was measured.

use chrono::{DateTime, Utc};
use croner::Cron;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::config::Config;
use crate::drift::Measured;
use crate::run::Run;

/// What starts a run, and when drift is looked for.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Option<Cron>,
    min_new_labels: u64,
    drift_interval_ms: i64,
    drift_min_labels: u64,
    retrain: Modes,
}

/// Why a run is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The calendar said so.
    Cron,
    /// Enough new labels.
    NewLabels,
    /// The latest examples differ from what the champion knew.
    Drift,
    /// Somebody asked for it.
    Asked,
}

impl Trigger {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::NewLabels => "new_labels",
            Self::Drift => "drift",
            Self::Asked => "asked",
        }
    }
}

/// What a run learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All examples.
    #[default]
    Full,
    /// The latest hours, from the champion's weights on.
    Incremental,
}

impl Mode {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }
}

/// `[trainer.retrain]`: what each trigger starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modes {
    /// The calendar.
    pub cron: Mode,
    /// The count of new labels.
    pub new_labels: Mode,
    /// Drift.
    pub drift: Mode,
}

impl Modes {
    const fn of(self, trigger: Trigger) -> Mode {
        match trigger {
            Trigger::Cron => self.cron,
            Trigger::NewLabels => self.new_labels,
            Trigger::Drift => self.drift,
            Trigger::Asked => Mode::Full,
        }
    }
}

/// What became of earlier looks: kept in the registry, so that neither a restart nor another
/// instance forgets a run that was due, or repeats one that was not possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Marks {
    /// When the last run started or was found impossible, or the first look was, ms.
    pub since_ms: i64,
    /// Label records that were there then.
    pub labels_used: u64,
    /// When drift was last looked for, ms.
    #[serde(default)]
    pub drift_ms: i64,
}

impl Marks {
    /// The later of both, each by itself.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let later = if other.since_ms > self.since_ms { other } else { self };
        Self { drift_ms: self.drift_ms.max(other.drift_ms), ..later }
    }

    /// Of a run, whoever asked for it.
    pub const fn of(run: &Run) -> Self {
        Self { since_ms: run.started_ms, labels_used: run.data.labels, drift_ms: 0 }
    }
}

/// What the schedule decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, ms since 1970 UTC.
    pub now_ms: i64,
    /// What became of earlier looks.
    pub marks: Marks,
    /// Label records in the table now.
    pub labels: u64,
}

impl Now {
    const fn new_labels(&self) -> u64 {
        self.labels.saturating_sub(self.marks.labels_used)
    }
}

/// A run that is due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Due {
    /// Everything that asks for it, in a fixed order; never empty.
    pub triggers: Vec<Trigger>,
    /// What it learns from: all, if one trigger asks for that.
    pub mode: Mode,
    /// What the look that found drift found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Measured>,
}

impl Due {
    /// A full run for one reason.
    pub fn full(trigger: Trigger) -> Self {
        Self { triggers: vec![trigger], mode: Mode::Full, drift: None }
    }

    /// The first reason.
    pub fn trigger(&self) -> Trigger {
        self.triggers.first().copied().unwrap_or(Trigger::Asked)
    }
}

impl Schedule {
    /// A schedule from `[trainer]`, any of whose triggers may be off.
    ///
    /// # Errors
    /// A cron expression that cannot be read.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let cron = match config.cron.trim() {
            "" => None,
            text => Some(text.parse::<Cron>().map_err(|error| Error::Config {
                key: "trainer.cron".into(),
                what: format!("{text:?} is no cron expression ({error}); an example is \"0 * * * *\""),
            })?),
        };
        Ok(Self {
            cron,
            min_new_labels: config.min_new_labels,
            drift_interval_ms: config.drift.interval.0,
            drift_min_labels: config.drift.min_rows as u64,
            retrain: config.retrain,
        })
    }

    /// Whether drift is to be looked for: its interval has passed, and there are labels that the
    /// last run did not know.
    pub const fn looks_for_drift(&self, at: Now) -> bool {
        self.drift_interval_ms > 0
            && at.now_ms - at.marks.drift_ms >= self.drift_interval_ms
            && at.new_labels() >= self.drift_min_labels
    }

    /// Whether a run is due, and why. `drift` is what a look just found, if there was one.
    pub fn due(&self, at: Now, drift: Option<&Measured>) -> Option<Due> {
        let drift = drift.filter(|measured| !measured.found.is_empty());
        let mut triggers = Vec::new();
        if self.calendar(at) {
            triggers.push(Trigger::Cron);
        }
        if self.min_new_labels > 0 && at.new_labels() >= self.min_new_labels {
            triggers.push(Trigger::NewLabels);
        }
        if drift.is_some() {
            triggers.push(Trigger::Drift);
        }
        if triggers.is_empty() {
            return None;
        }
        let full = triggers.iter().any(|&trigger| self.retrain.of(trigger) == Mode::Full);
        let mode = if full { Mode::Full } else { Mode::Incremental };
        Some(Due { triggers, mode, drift: drift.cloned() })
    }

    /// Whether the calendar named a time since the last run; however many, they make one run.
    fn calendar(&self, at: Now) -> bool {
        let next = self.cron.as_ref().and_then(|cron| {
            let since: DateTime<Utc> = DateTime::from_timestamp_millis(at.marks.since_ms)?;
            cron.find_next_occurrence(&since, false).ok()
        });
        next.is_some_and(|next| next.timestamp_millis() <= at.now_ms)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use schemas::duration::Millis;

    use super::*;
    use crate::config::tests::defaults;
    use crate::drift::{Clicks, Shift};
    use crate::random::SplitMix;

    const HOUR: i64 = 3_600_000;

    fn schedule(cron: &str, min_new_labels: u64) -> Schedule {
        let config = Config { cron: cron.into(), min_new_labels, ..defaults() };
        Schedule::new(&config).unwrap()
    }

    fn at(now_ms: i64, labels: u64) -> Now {
        Now { now_ms, marks: Marks { since_ms: HOUR / 2, labels_used: 1_000, drift_ms: 0 }, labels }
    }

    fn triggers(due: Option<Due>) -> Vec<Trigger> {
        due.map(|due| due.triggers).unwrap_or_default()
    }

    fn found(what: &[&str]) -> Measured {
        Measured {
            champion: "v000001".into(),
            rows: 1,
            inputs: Vec::new(),
            scores: Shift { name: "p_click".into(), psi: 0.0, chance: 0.0 },
            clicks: Clicks::default(),
            found: what.iter().map(|&what| what.into()).collect(),
        }
    }

    #[test]
    fn counts_labels_since_the_last_run() {
        let schedule = schedule("", 500);
        assert_eq!(schedule.due(at(100 * HOUR, 1_499), None), None);
        assert_eq!(triggers(schedule.due(at(0, 1_500), None)), [Trigger::NewLabels]);
        // A table that was made anew has fewer rows than the last run saw.
        assert_eq!(schedule.due(at(0, 10), None), None);
    }

    #[test]
    fn follows_the_calendar_once() {
        let schedule = schedule("0 * * * *", 0);
        assert_eq!(schedule.due(at(HOUR - 1, 9_999), None), None);
        assert_eq!(triggers(schedule.due(at(HOUR, 0), None)), [Trigger::Cron]);
        // Several missed occurrences make one run.
        assert_eq!(triggers(schedule.due(at(7 * HOUR, 0), None)), [Trigger::Cron]);
        let run = Now { marks: Marks { since_ms: HOUR, ..Marks::default() }, ..at(HOUR + 1, 0) };
        assert_eq!(schedule.due(run, None), None);
    }

    #[test]
    fn nothing_is_due_when_all_are_off() {
        let schedule = schedule(" ", 0);
        assert_eq!(schedule.due(at(1_000 * HOUR, 1 << 40), None), None);
        assert_eq!(schedule.due(at(1_000 * HOUR, 1 << 40), Some(&found(&[]))), None);
    }

    #[test]
    fn triggers_work_together_and_the_fuller_run_wins() {
        let retrain = Modes { cron: Mode::Full, new_labels: Mode::Incremental, drift: Mode::Incremental };
        let config = Config { cron: "0 * * * *".into(), min_new_labels: 500, retrain, ..defaults() };
        let schedule = Schedule::new(&config).unwrap();
        let drift = found(&["input x moved"]);
        let due = schedule.due(at(0, 1_500), Some(&drift)).unwrap();
        assert_eq!(
            (due.triggers.as_slice(), due.mode),
            (&[Trigger::NewLabels, Trigger::Drift][..], Mode::Incremental)
        );
        assert_eq!(due.drift, Some(drift.clone()));
        let due = schedule.due(at(HOUR, 1_500), Some(&drift)).unwrap();
        assert_eq!((due.trigger(), due.triggers.len(), due.mode), (Trigger::Cron, 3, Mode::Full));
        let due = schedule.due(at(0, 0), Some(&drift)).unwrap();
        assert_eq!((due.triggers.as_slice(), due.mode), (&[Trigger::Drift][..], Mode::Incremental));
    }

    #[test]
    fn drift_is_looked_for_now_and_then_and_not_without_news() {
        let mut config = defaults();
        config.drift.interval = Millis(HOUR);
        config.drift.min_rows = 200;
        let schedule = Schedule::new(&config).unwrap();
        let looked = |now_ms, drift_ms, labels| {
            let marks = Marks { drift_ms, ..at(0, 0).marks };
            schedule.looks_for_drift(Now { now_ms, marks, labels })
        };
        assert!(looked(2 * HOUR, HOUR, 1_200));
        assert!(!looked(2 * HOUR - 1, HOUR, 1_200));
        assert!(!looked(2 * HOUR, HOUR, 1_199));
        config.drift.interval = Millis(0);
        let off = Schedule::new(&config).unwrap();
        assert!(!off.looks_for_drift(at(100 * HOUR, 1 << 40)));
    }

    #[test]
    fn refuses_a_cron_that_is_none() {
        let config = Config { cron: "every day".into(), ..defaults() };
        let error = Schedule::new(&config).unwrap_err().to_string();
        assert!(error.contains("trainer.cron") && error.contains("every day"), "{error}");
    }

    /// A simulated clock over days, with looks at random times, outages, and looks of several
    /// instances: each hour that the calendar names is followed by exactly one run, unless one run
    /// makes up for several that were missed.
    #[test]
    fn a_simulated_week_runs_each_missed_time_once() {
        for seed in 0..30 {
            let mut random = SplitMix::new(seed);
            let schedule = schedule("0 */6 * * *", 0);
            let mut marks = Marks { since_ms: 1, ..Marks::default() };
            let (mut now, mut runs) = (1_i64, Vec::new());
            while now < 7 * 24 * HOUR {
                let away = if random.below(40) == 0 { random.below(20) as i64 * HOUR } else { 0 };
                now += 1 + random.below(30 * 60_000) as i64 + away;
                let due = schedule.due(Now { now_ms: now, marks, labels: 0 }, None);
                let step = 6 * HOUR;
                // The calendar named a time since the last run started.
                assert_eq!(due.is_some(), now / step > marks.since_ms / step, "seed {seed} at {now}");
                if due.is_some() {
                    runs.push(now);
                    marks = marks.merge(Marks { since_ms: now, ..Marks::default() });
                }
            }
            assert!(runs.windows(2).all(|pair| pair[0] / (6 * HOUR) < pair[1] / (6 * HOUR)), "seed {seed}");
            assert!(runs.len() > 10);
        }
    }
}
