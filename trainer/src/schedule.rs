//! When to train: by the calendar or by a count of new labels. Pure; is told the time.

use chrono::{DateTime, Utc};
use croner::Cron;

use crate::Error;

/// A schedule: what starts a run.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Option<Cron>,
    min_new_labels: u64,
}

/// Why a run is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The calendar said so.
    Cron,
    /// Enough new labels.
    NewLabels,
    /// Somebody asked for it.
    Asked,
}

impl Trigger {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::NewLabels => "new_labels",
            Self::Asked => "asked",
        }
    }
}

/// What the schedule decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, ms since 1970 UTC.
    pub now_ms: i64,
    /// When the last run started, or the service did, ms.
    pub since_ms: i64,
    /// Label records in the table now.
    pub labels: u64,
    /// Label records in the table that the last run read; 0 before any.
    pub labels_used: u64,
}

impl Schedule {
    /// A schedule from its two settings, either of which may be off.
    ///
    /// # Errors
    /// A cron expression that cannot be read.
    pub fn new(cron: &str, min_new_labels: u64) -> Result<Self, Error> {
        let cron = match cron.trim() {
            "" => None,
            text => Some(text.parse::<Cron>().map_err(|error| Error::Config {
                key: "trainer.cron".into(),
                what: format!("{text:?} is no cron expression ({error}); an example is \"0 * * * *\""),
            })?),
        };
        Ok(Self { cron, min_new_labels })
    }

    /// Whether a run is due, and why.
    pub fn due(&self, at: Now) -> Option<Trigger> {
        if self.min_new_labels > 0 && at.labels.saturating_sub(at.labels_used) >= self.min_new_labels {
            return Some(Trigger::NewLabels);
        }
        let cron = self.cron.as_ref()?;
        let since: DateTime<Utc> = DateTime::from_timestamp_millis(at.since_ms)?;
        let next = cron.find_next_occurrence(&since, false).ok()?;
        (next.timestamp_millis() <= at.now_ms).then_some(Trigger::Cron)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(now_ms: i64, labels: u64) -> Now {
        Now { now_ms, since_ms: HOUR / 2, labels, labels_used: 1_000 }
    }

    #[test]
    fn counts_labels_since_the_last_run() {
        let schedule = Schedule::new("", 500).unwrap();
        assert_eq!(schedule.due(at(100 * HOUR, 1_499)), None);
        assert_eq!(schedule.due(at(0, 1_500)), Some(Trigger::NewLabels));
        // A table that was made anew has fewer rows than the last run saw.
        assert_eq!(schedule.due(at(0, 10)), None);
    }

    #[test]
    fn follows_the_calendar_once() {
        let schedule = Schedule::new("0 * * * *", 0).unwrap();
        assert_eq!(schedule.due(at(HOUR - 1, 9_999)), None);
        assert_eq!(schedule.due(at(HOUR, 0)), Some(Trigger::Cron));
        // Several missed occurrences make one run.
        assert_eq!(schedule.due(at(7 * HOUR, 0)), Some(Trigger::Cron));
        assert_eq!(schedule.due(Now { since_ms: HOUR, ..at(HOUR + 1, 0) }), None);
    }

    #[test]
    fn nothing_is_due_when_both_are_off() {
        assert_eq!(Schedule::new(" ", 0).unwrap().due(at(1_000 * HOUR, 1 << 40)), None);
    }

    #[test]
    fn refuses_a_cron_that_is_none() {
        let error = Schedule::new("every day", 0).unwrap_err().to_string();
        assert!(error.contains("trainer.cron") && error.contains("every day"), "{error}");
    }
}
