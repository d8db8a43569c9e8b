//! What a backfill is to do: checked against the tables, and written down so that another run of the
//! same command goes on with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use features::Plan;
use lake::{DataFile, Table};
use schemas::duration::Millis;
use schemas::table;
use serde::{Deserialize, Serialize};

use super::{Options, versions};
use crate::context::Context;
use crate::history::{Stored, partitions_of_events};
use crate::time;

const DAY_MS: i64 = 86_400_000;
/// Version of the record.
const VERSION: u32 = 1;
/// Name of the record in the job's folder.
const RECORD: &str = "job.json";

/// One partition of `events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Its number.
    pub(super) partition: i32,
    /// The first offset whose event is folded; control records are from the beginning.
    pub(super) begin: i64,
    /// The first offset that is not.
    pub(super) end: i64,
}

/// What stands in the store beside a backfill's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u32,
    /// Fingerprint of what the vectors depend on, hex.
    declarations: String,
    /// Version of the features core.
    core: u8,
    from_ms: Option<i64>,
    to_ms: Option<i64>,
    warm_up: Option<Millis>,
    /// Whether versions of shared entities are made anew: those in the log are of other declarations.
    makes_versions: bool,
    partitions: Vec<Part>,
}

/// A backfill.
pub(super) struct Job {
    /// What is computed.
    pub(super) plan: Arc<Plan>,
    /// The history.
    pub(super) stored: Stored,
    /// What is folded of it; partitions without any event left out.
    pub(super) partitions: Vec<Part>,
    /// Event times of the vectors written, ms; the end not included.
    pub(super) times: Range<i64>,
    /// Whether versions of shared entities are made anew.
    pub(super) makes_versions: bool,
    /// The table written.
    pub(super) out: String,
    /// Where its checkpoints are in the store.
    pub(super) folder: String,
}

impl Job {
    /// The job of these options: the one begun before, where there is one.
    pub(super) fn open(context: &Context, options: &Options) -> Result<Self> {
        let plan = Arc::new(Plan::compile(&context.config.features)?);
        let times = options.from_ms.unwrap_or(i64::MIN)..options.to_ms.unwrap_or(i64::MAX);
        ensure!(!times.is_empty(), "--from {} is not before --to {}", show(times.start), show(times.end));
        check_name(&options.out)?;
        let stored = Stored::open(context, partitions_of_events(context)?)?.with_context(|| {
            format!(
                "{} holds no tables events and control: `salience lake` writes them from the topics",
                context.store.root_url()
            )
        })?;
        let folder = format!("backfills/{}", options.out);
        let path = format!("{folder}/{RECORD}");
        let known = context.store.get_blocking(&path)?;
        let known: Option<Record> =
            known.map(|bytes| serde_json::from_slice(&bytes).context(path.clone())).transpose()?;
        let record = match known {
            Some(known) => {
                let now = record(&plan, options, known.makes_versions, known.partitions.clone());
                ensure!(known == now, "{}", differences(&options.out, &known, &now));
                known
            }
            None => begin(context, &plan, options, &stored, &times, &path)?,
        };
        for part in &record.partitions {
            let reached = stored.ends.get(part.partition as usize).copied().unwrap_or(0);
            ensure!(
                reached >= part.end,
                "the tables of events have reached offset {reached} of partition {}, and this backfill was \
                 begun to offset {}: they were made anew; name another --out",
                part.partition,
                part.end
            );
        }
        // Made once, not by each partition's writer: those would be in one another's way.
        let columns = table::features::encoder(&[plan.vector_schema()]).schema();
        let (root, lake) = (context.store.root_url(), &context.config.lake);
        context.tokio.block_on(Table::open_or_create(root, &options.out, &columns, lake))?;
        let Record { makes_versions, partitions, .. } = record;
        Ok(Self { plan, stored, partitions, times, makes_versions, out: options.out.clone(), folder })
    }

    /// Offsets to pass, all partitions together.
    pub(super) fn offsets(&self) -> i64 {
        let tiles = self.partitions.iter().map(|part| self.stored.ends[part.partition as usize]);
        let tiles = if self.makes_versions { tiles.sum() } else { 0 };
        tiles + self.partitions.iter().map(|part| part.end).sum::<i64>()
    }

    /// Puts the table's files together and forgets the checkpoints; the table.
    pub(super) fn finish(&self, context: &Context) -> Result<Table> {
        let table = context.tokio.block_on(async {
            let mut table = Table::open(context.store.root_url(), &self.out).await?;
            table.compact(&context.config.lake, &[]).await?;
            Ok::<_, lake::Error>(table)
        })?;
        for path in context.store.list_blocking(&self.folder)? {
            if !path.ends_with(RECORD) {
                context.store.delete_blocking(&path)?;
            }
        }
        Ok(table)
    }
}

fn check_name(out: &str) -> Result<()> {
    let taken = schemas::table::spec().iter().any(|spec| spec.table == out);
    ensure!(!taken, "--out {out} is the image of a topic; name a table of its own, as in features_2026");
    let good = !out.is_empty() && out.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    ensure!(good, "--out {out:?} is no name for a table; write letters, digits, _ and -");
    Ok(())
}

fn record(plan: &Plan, options: &Options, makes_versions: bool, partitions: Vec<Part>) -> Record {
    Record {
        version: VERSION,
        declarations: format!("{:016x}", plan.fingerprint()),
        core: features::FORMAT,
        from_ms: options.from_ms,
        to_ms: options.to_ms,
        warm_up: options.warm_up,
        makes_versions,
        partitions,
    }
}

/// Why a backfill cannot go on with another's table.
fn differences(out: &str, known: &Record, now: &Record) -> String {
    let mut text = format!("table {out} was begun by another backfill:");
    let mut differ = |what: &str, known: String, now: String| {
        if known != now {
            // Writing to a string does not fail.
            let _written = write!(text, " {what} {known}, now {now};");
        }
    };
    let moment = |ms: Option<i64>| ms.map_or_else(|| "none".to_owned(), time::show);
    let span = |span: Option<Millis>| span.map_or_else(|| "none".to_owned(), |span| span.to_string());
    differ("format", known.version.to_string(), now.version.to_string());
    differ("declarations", known.declarations.clone(), now.declarations.clone());
    differ("features core", known.core.to_string(), now.core.to_string());
    differ("--from", moment(known.from_ms), moment(now.from_ms));
    differ("--to", moment(known.to_ms), moment(now.to_ms));
    differ("--warm-up", span(known.warm_up), span(now.warm_up));
    text + " name another --out, or run it with what it was begun with"
}

/// Writes a new job down.
fn begin(
    context: &Context,
    plan: &Plan,
    options: &Options,
    stored: &Stored,
    times: &Range<i64>,
    path: &str,
) -> Result<Record> {
    let (root, out) = (context.store.root_url(), &options.out);
    let there = context.tokio.block_on(Table::try_open(root, out, None))?;
    ensure!(there.is_none(), "there is a table {out} already, and no backfill made it; name another --out");
    let files = stored.events.files()?;
    check_range(&files, times)?;
    let warm_up = options.warm_up.filter(|_| options.from_ms.is_some());
    if let Some(warm_up) = warm_up {
        let longest = plan.longest_window();
        if warm_up < longest {
            tracing::warn!(%warm_up, %longest, "windows longer than --warm-up are not full at --from");
        }
    }
    let first = warm_up.map(|warm_up| day(times.start.saturating_sub(warm_up.0)));
    let days: Vec<Day> = files.into_iter().map(|file| (file.date, file.places)).collect();
    let partitions = parts(&days, &stored.ends, first, day(times.end - 1));
    for part in &partitions {
        check_beginning(stored, part)?;
    }
    let makes_versions = versions::are_of_others(stored, plan, &partitions)?;
    let record = record(plan, options, makes_versions, partitions);
    let bytes = serde_json::to_vec_pretty(&record)?;
    if !context.store.put_new_blocking(path, bytes.into())? {
        bail!("another backfill to table {out} was begun at this moment; run the command again");
    }
    Ok(record)
}

/// The date of a file, and the first and last offset of each partition in it.
type Day = (i32, BTreeMap<i32, (i64, i64)>);

/// What is folded of each partition: all to the last event of the last day, and events from the first
/// of the first day on.
fn parts(days: &[Day], ends: &[i64], first_day: Option<i32>, last_day: i32) -> Vec<Part> {
    let part = |(partition, reached): (i32, &i64)| {
        let places = || days.iter().filter_map(move |(date, places)| Some((*date, places.get(&partition)?)));
        let last = places().filter(|(date, _)| *date <= last_day).map(|(_, (_, last))| last + 1).max()?;
        let begin = match first_day {
            None => 0,
            Some(day) => places().filter(|(date, _)| *date >= day).map(|(_, (first, _))| *first).min()?,
        };
        Some(Part { partition, begin, end: last.min(*reached) })
    };
    (0..).zip(ends).filter_map(part).filter(|part| part.begin < part.end).collect()
}

fn check_range(files: &[DataFile], times: &Range<i64>) -> Result<()> {
    let dates = || files.iter().map(|file| file.date);
    let Some((first, last)) = dates().min().zip(dates().max()) else {
        bail!("the table events is empty: nothing has come through ingest, or `salience lake` is behind");
    };
    let holds = format!("the table events holds {} to {}", lake::date_text(first), lake::date_text(last));
    ensure!(
        day(times.start) <= last && day(times.end - 1) >= first,
        "there is no event from {} to {}: {holds}",
        show(times.start),
        show(times.end)
    );
    if (times.start != i64::MIN && day(times.start) < first)
        || (times.end != i64::MAX && day(times.end - 1) > last)
    {
        tracing::warn!("{holds}: the backfill covers what it holds of the range");
    }
    Ok(())
}

fn check_beginning(stored: &Stored, part: &Part) -> Result<()> {
    let Some(begin) = stored.cut(part.partition)? else { return Ok(()) };
    bail!(
        "the history of events[{}] begins at offset {begin}, not with its set of sources: its beginning was cut \
         from the topic before `salience lake` had it, and without it neither clock nor windows are what they \
         were",
        part.partition
    );
}

/// The UTC day of a time, in days since 1970.
fn day(ms: i64) -> i32 {
    ms.div_euclid(DAY_MS).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

fn show(ms: i64) -> String {
    match ms {
        i64::MIN => "the beginning".to_owned(),
        i64::MAX => "the end".to_owned(),
        ms => time::show(ms),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_images_and_odd_names_are_refused() {
        for bad in ["features", "events", "", "a/b", "../x"] {
            check_name(bad).unwrap_err();
        }
        check_name("features_2026-01").unwrap();
    }

    #[test]
    fn what_differs_is_named() {
        let plan = Plan::compile(&features::Config::default()).unwrap();
        let options = Options { from_ms: Some(0), to_ms: None, warm_up: None, out: "x".into(), threads: 1 };
        let known = record(&plan, &options, false, Vec::new());
        let now = Record { from_ms: Some(DAY_MS), declarations: "0".into(), ..known.clone() };
        let said = differences("x", &known, &now);
        assert!(said.contains("--from 1970-01-01T00:00:00.000Z, now 1970-01-02"), "{said}");
        assert!(said.contains(&known.declarations) && !said.contains("--to"), "{said}");
    }

    #[test]
    fn a_range_takes_the_days_that_it_touches() {
        let days = [
            (10, BTreeMap::from([(0, (5, 40)), (1, (3, 9))])),
            (11, BTreeMap::from([(0, (38, 90))])),
            (12, BTreeMap::from([(0, (85, 120)), (1, (30, 31))])),
        ];
        let part = |partition, begin, end| Part { partition, begin, end };
        assert_eq!(parts(&days, &[110, 50], None, 11), [part(0, 0, 91), part(1, 0, 10)]);
        assert_eq!(parts(&days, &[110, 50], Some(11), 12), [part(0, 38, 110), part(1, 30, 32)]);
        // Partition 1 has nothing of day 11.
        assert_eq!(parts(&days, &[110, 50], Some(11), 11), [part(0, 38, 91)]);
        assert_eq!(parts(&days, &[110, 50], None, 9), []);
    }
}
