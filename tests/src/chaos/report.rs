//! What a run of the chaos test found, as JSON and as Markdown.
//!
//! Pure: what happened in, figures out.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::feed::Arrival;
use super::fleet::Exit;
use super::schedule::{Kind, Planned, Shape};

/// Characters of a last word that Markdown shows; JSON has all.
const SHOWN: usize = 200;

/// A fault that happened.
#[derive(Debug, Clone, Serialize)]
pub struct Happened {
    /// As it was planned.
    pub planned: Planned,
    /// When it began, ms since 1970 UTC.
    pub began_ms: i64,
    /// When it was mended, or done, ms since 1970 UTC.
    pub mended_ms: i64,
    /// What there is to say of it.
    pub note: String,
}

/// What faults of a kind came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OfKind {
    /// How many there were.
    pub faults: u64,
    /// The longest that a view waited for its prediction, of those that waited while such a fault
    /// lasted, ms. Faults overlap: what one holds up can count for another too.
    pub longest_outage_ms: u64,
}

/// Latencies from a view's sending to the reading of its prediction, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Predictions.
    pub predictions: u64,
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// The longest.
    pub longest: u64,
}

/// All that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Lengths.
    pub shape: Shape,
    /// Raw records a second.
    pub rate: u32,
    /// Raw records sent.
    pub records: u64,
    /// By kind of fault.
    pub faults: BTreeMap<&'static str, OfKind>,
    /// Views sent before the first fault.
    pub before: Latency,
    /// Views sent while faults came.
    pub during: Latency,
    /// Views sent after the last fault was mended.
    pub after: Latency,
    /// Exits that nobody asked for; the supervisor started these instances again.
    pub exits: Vec<Exit>,
    /// What the market sent and what the tables hold, by name: equal, or it is a failure.
    pub counts: BTreeMap<String, [u64; 2]>,
    /// What `verify --recompute` said. The last one counts; more than one: those before it did not hold, read
    /// from other leaders.
    pub readings: Vec<Value>,
    /// What was wrong; nothing: the run is good.
    pub failures: Vec<String>,
    /// What happened, in order.
    pub happened: Vec<Happened>,
}

impl Report {
    /// Whether all held.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// By kind: how many, and the longest outage.
pub fn by_kind(happened: &[Happened], arrivals: &[Arrival]) -> BTreeMap<&'static str, OfKind> {
    let mut kinds = BTreeMap::new();
    for kind in Kind::all() {
        let of_kind: Vec<&Happened> = happened.iter().filter(|h| h.planned.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        let waited = arrivals
            .iter()
            .filter(|a| of_kind.iter().any(|h| a.sent_ms <= h.mended_ms && a.came_ms >= h.began_ms));
        let longest_outage_ms = waited.map(|arrival| arrival.latency_ms()).max().unwrap_or(0);
        kinds.insert(kind.name(), OfKind { faults: of_kind.len() as u64, longest_outage_ms });
    }
    kinds
}

/// Latencies of views sent from `from_ms` on and before `until_ms`.
pub fn latency(arrivals: &[Arrival], from_ms: i64, until_ms: i64) -> Latency {
    let sent = arrivals.iter().filter(|arrival| (from_ms..until_ms).contains(&arrival.sent_ms));
    let mut latencies: Vec<u64> = sent.map(|arrival| arrival.latency_ms()).collect();
    latencies.sort_unstable();
    let at = |share: f64| {
        let place = (share * latencies.len() as f64).ceil() as usize;
        latencies.get(place.saturating_sub(1)).copied().unwrap_or(0)
    };
    Latency { predictions: latencies.len() as u64, p50: at(0.5), p99: at(0.99), longest: at(1.0) }
}

/// What of `verify`'s outcomes does not hold. That there is no model to be looked at (I5) is as it should be where none
/// must have been published.
pub fn not_holding(verified: &Value, shape: Shape) -> Vec<String> {
    let Some(outcomes) = verified["outcomes"].as_array() else {
        return vec!["verify said nothing".to_owned()];
    };
    let is_absent = |outcome: &Value| outcome["invariant"] == "I5" && outcome["verdict"] == "not_checkable";
    let bad = outcomes
        .iter()
        .filter(|outcome| outcome["verdict"] != "holds" && (shape.trains() || !is_absent(outcome)));
    bad.map(|outcome| {
        format!(
            "{}: {}, {} {}",
            outcome["invariant"].as_str().unwrap_or_default(),
            outcome["verdict"].as_str().unwrap_or_default(),
            outcome["differences"],
            outcome["out_of_scope"]
        )
    })
    .collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "all held" } else { "FAILED" };
        writeln!(f, "# Chaos, seed {}: {verdict}\n", self.seed)?;
        for failure in &self.failures {
            writeln!(f, "- {failure}")?;
        }
        if !self.failures.is_empty() {
            writeln!(f)?;
        }
        writeln!(
            f,
            "{} raw records, {} a second; faults for {:.0} s.\n",
            self.records,
            self.rate,
            (self.shape.length_ms - self.shape.quiet_before_ms - self.shape.quiet_after_ms) as f64 / 1000.0
        )?;
        writeln!(f, "| fault | times | longest outage, s |\n|---|---|---|")?;
        for (kind, found) in &self.faults {
            writeln!(f, "| {kind} | {} | {:.1} |", found.faults, found.longest_outage_ms as f64 / 1000.0)?;
        }
        writeln!(
            f,
            "\n| views sent | predictions | p50, ms | p99, ms | longest, ms |\n|---|---|---|---|---|"
        )?;
        for (when, found) in [("before", self.before), ("during", self.during), ("after", self.after)] {
            let Latency { predictions, p50, p99, longest } = found;
            writeln!(f, "| {when} | {predictions} | {p50} | {p99} | {longest} |")?;
        }
        writeln!(f, "\n| records | sent | found |\n|---|---|---|")?;
        for (name, [sent, found]) in &self.counts {
            writeln!(f, "| {name} | {sent} | {found} |")?;
        }
        writeln!(f, "\n| invariant | verdict | checked |\n|---|---|---|")?;
        let (last, before) = self.readings.split_last().unwrap_or((&Value::Null, &[]));
        for outcome in last["outcomes"].as_array().into_iter().flatten() {
            let text = |key: &str| outcome[key].as_str().unwrap_or_default();
            let checked = outcome["checked"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let checked = checked.collect::<Vec<_>>().join("; ");
            writeln!(f, "| {} | {} | {checked} |", text("invariant"), text("verdict"))?;
        }
        for (number, reading) in before.iter().enumerate() {
            let bad = not_holding(reading, self.shape).join("; ").chars().take(SHOWN).collect::<String>();
            writeln!(f, "\nReading {} of {}, from other leaders: {bad}", number + 1, self.readings.len())?;
        }
        writeln!(f, "\nExits that nobody asked for: {}.\n", self.exits.len())?;
        for Exit { instance, status, said } in &self.exits {
            let said: String = said.chars().take(SHOWN).collect();
            writeln!(f, "- {instance}, {status}: `{said}`")?;
        }
        writeln!(f, "\n| at, s | took, s | fault | |\n|---|---|---|---|")?;
        let first_ms = self.happened.first().map_or(0, |h| h.began_ms - h.planned.at_ms as i64);
        for happened in &self.happened {
            let seconds = |ms: i64| ms as f64 / 1000.0;
            writeln!(
                f,
                "| {:.1} | {:.1} | {} | {} |",
                seconds(happened.began_ms - first_ms),
                seconds(happened.mended_ms - happened.began_ms),
                happened.planned,
                happened.note
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::schedule::{Lane, Service};
    use super::*;

    fn happened(kind: Kind, began_ms: i64, mended_ms: i64) -> Happened {
        let planned = Planned {
            at_ms: 0,
            lane: Lane::Processes,
            kind,
            service: Service::Scorer,
            instance: 0,
            broker: 1,
            lasts_ms: 0,
            dice: 0,
        };
        Happened { planned, began_ms, mended_ms, note: String::new() }
    }

    #[test]
    fn an_outage_counts_for_what_happened_while_a_view_waited() {
        let arrivals = [
            Arrival { sent_ms: 100, came_ms: 120 },
            Arrival { sent_ms: 900, came_ms: 4_000 },
            Arrival { sent_ms: 5_000, came_ms: 5_030 },
        ];
        let all = [
            happened(Kind::Killed, 1_000, 1_500),
            happened(Kind::Killed, 5_010, 5_020),
            happened(Kind::Frozen, 5_010, 6_000),
            happened(Kind::Joined, 7_000, 8_000),
        ];
        let kinds = by_kind(&all, &arrivals);
        assert_eq!(kinds["instance killed"], OfKind { faults: 2, longest_outage_ms: 3_100 });
        assert_eq!(kinds["instance frozen"], OfKind { faults: 1, longest_outage_ms: 30 });
        assert_eq!(kinds["instance joined and left"], OfKind { faults: 1, longest_outage_ms: 0 });
        assert_eq!(kinds.len(), 3);
    }

    #[test]
    fn percentiles_are_of_the_views_sent_in_a_time() {
        let arrivals: Vec<Arrival> = (1..=200).map(|ms| Arrival { sent_ms: 10, came_ms: 10 + ms }).collect();
        assert_eq!(
            latency(&arrivals, 10, 11),
            Latency { predictions: 200, p50: 100, p99: 198, longest: 200 }
        );
        assert_eq!(latency(&arrivals, 11, 20), Latency { predictions: 0, p50: 0, p99: 0, longest: 0 });
    }

    #[test]
    fn what_does_not_hold_is_named() {
        let verified = serde_json::json!({ "outcomes": [
            { "invariant": "I1", "verdict": "holds" },
            { "invariant": "I2", "verdict": "broken", "differences": ["record 7"], "out_of_scope": [] },
            { "invariant": "I5", "verdict": "not_checkable", "differences": [], "out_of_scope": ["no model"] },
        ]});
        let of = |minutes| Shape::of(Duration::from_mins(minutes));
        let bad = not_holding(&verified, of(1));
        assert!(bad.len() == 1 && bad[0].contains("I2") && bad[0].contains("record 7"), "{bad:?}");
        let bad = not_holding(&verified, of(10));
        assert!(bad.len() == 2 && bad[1].contains("I5"), "{bad:?}");
        assert_eq!(not_holding(&Value::Null, of(1)).len(), 1);
    }
}
