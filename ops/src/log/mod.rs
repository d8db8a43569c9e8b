//! Reading logs up to a cut.

mod prefix;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use runtime::processor::{InRecord, TopicPartition};

use self::prefix::Prefix;
use crate::context::{Context, PooledReader};

/// How long a log may give nothing before it is an error.
const PATIENCE: Duration = Duration::from_secs(30);

/// Per topic and partition, the next offset that the stage reading it has committed: what lies
/// below is done, what lies at or beyond is in flight.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut {
    committed: BTreeMap<Arc<str>, Vec<i64>>,
}

impl Cut {
    /// The last stage first, so that what a later stage has done is within an earlier stage's cut.
    pub(crate) fn take(context: &Context) -> Result<Self> {
        let names = &context.names;
        let stages = [
            ("scorer", vec![&names.feature_vectors]),
            ("merge", vec![&names.entity_tiles]),
            ("features", vec![&names.events]),
            ("ingest", vec![&names.views, &names.clicks, &names.purchases]),
        ];
        let mut committed = BTreeMap::new();
        for (service, topics) in stages {
            for topic in topics {
                let offsets = context
                    .admin
                    .committed(&context.group(service), topic)
                    .with_context(|| format!("committed offsets of {service} on {topic}"))?;
                let offsets = offsets.into_iter().map(|c| c.map_or(0, |(offset, _)| offset)).collect();
                committed.insert(Arc::clone(topic), offsets);
            }
        }
        Ok(Self { committed })
    }

    /// The cut of a topic; empty where no stage reads it.
    pub(crate) fn of(&self, topic: &Arc<str>) -> &[i64] {
        self.committed.get(topic).map_or(&[], Vec::as_slice)
    }
}

/// A range of one topic: where it begins, and where it ends for this check.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    /// Topic.
    pub(crate) topic: Arc<str>,
    /// First offset there is, by partition.
    pub(crate) begin: Vec<i64>,
    /// First offset not to read, by partition.
    pub(crate) end: Vec<i64>,
}

impl Range {
    /// From the log's beginning to `end`.
    pub(crate) fn to(context: &Context, topic: &Arc<str>, end: &[i64]) -> Result<Self> {
        let begin = context.reader()?.begin_offsets(topic)?;
        if begin.len() != end.len() {
            bail!("{topic} has {} partitions, {} were expected", begin.len(), end.len());
        }
        Ok(Self { topic: Arc::clone(topic), begin, end: end.to_vec() })
    }

    /// From the log's beginning to where it ends now.
    pub(crate) fn whole(context: &Context, topic: &Arc<str>) -> Result<Self> {
        let end = context.reader()?.end_offsets(topic)?;
        Self::to(context, topic, &end)
    }

    /// The same, one partition only.
    pub(crate) fn only(&self, partition: usize) -> Self {
        let mut range = self.clone();
        for (at, end) in range.end.iter_mut().enumerate() {
            if at != partition {
                *end = range.begin[at];
            }
        }
        range
    }
}

/// Hands every committed record of the range to `each`, in each partition's order.
pub(crate) fn scan(
    context: &Context,
    range: &Range,
    mut each: impl FnMut(InRecord) -> Result<()>,
) -> Result<()> {
    let mut reader = context.reader()?;
    let mut open: BTreeMap<i32, i64> = BTreeMap::new();
    let mut starts = Vec::new();
    for (partition, (begin, end)) in range.begin.iter().zip(&range.end).enumerate() {
        if begin < end {
            open.insert(partition as i32, *end);
            starts.push((topic_partition(&range.topic, partition as i32), *begin));
        }
    }
    if starts.is_empty() {
        return Ok(());
    }
    reader.assign(&starts)?;
    let mut quiet = Duration::ZERO;
    let step = Duration::from_millis(100);
    while !open.is_empty() {
        let records = reader.poll(10_000, step)?;
        quiet = if records.is_empty() { quiet + step } else { Duration::ZERO };
        if quiet > PATIENCE {
            bail!("{}: partitions {:?} gave nothing for {PATIENCE:?}", range.topic, open.keys());
        }
        for record in records {
            let partition = record.record.partition;
            match open.get(&partition) {
                Some(end) if record.record.offset < *end => each(record)?,
                Some(_) => {
                    open.remove(&partition);
                }
                None => {}
            }
        }
        open.retain(|partition, _| !reader.at_end(&topic_partition(&range.topic, *partition)));
    }
    Ok(())
}

fn topic_partition(topic: &Arc<str>, partition: i32) -> TopicPartition {
    TopicPartition { topic: Arc::clone(topic), partition }
}

/// One partition of a range, record by record.
pub(crate) struct Cursor<'a> {
    /// What retention cut, from the tables; read first.
    prefix: Option<Prefix>,
    reader: PooledReader<'a>,
    at: TopicPartition,
    end: i64,
    ready: std::collections::VecDeque<InRecord>,
    done: bool,
}

impl<'a> Cursor<'a> {
    /// Over one partition of `range`.
    pub(crate) fn new(context: &'a Context, range: &Range, partition: usize) -> Result<Self> {
        let mut reader = context.reader()?;
        let at = topic_partition(&range.topic, partition as i32);
        let (begin, end) = (range.begin[partition], range.end[partition]);
        if begin < end {
            reader.assign(&[(at.clone(), begin)])?;
        }
        Ok(Self {
            prefix: None,
            reader,
            at,
            end,
            ready: std::collections::VecDeque::new(),
            done: begin >= end,
        })
    }

    /// The same from the very first record: what retention cut from the log is read from the
    /// tables. Where these do not have it, why not.
    pub(crate) fn from_the_first(
        context: &'a Context,
        range: &Range,
        partition: usize,
    ) -> Result<Result<Self, String>> {
        let mut cursor = Self::new(context, range, partition)?;
        let begin = range.begin[partition];
        if begin > 0 {
            match Prefix::open(context, &range.topic, partition, begin)? {
                Ok(prefix) => cursor.prefix = Some(prefix),
                Err(why) => {
                    let topic = &range.topic;
                    return Ok(Err(format!("{topic}[{partition}] is cut below offset {begin}, and {why}")));
                }
            }
        }
        Ok(Ok(cursor))
    }

    /// The next committed record; `None` at the end of the range.
    pub(crate) fn next(&mut self) -> Result<Option<InRecord>> {
        if let Some(prefix) = &mut self.prefix
            && let Some(record) = prefix.next()?
        {
            return Ok(Some(record));
        }
        let mut quiet = Duration::ZERO;
        let step = Duration::from_millis(100);
        while self.ready.is_empty() && !self.done {
            let records = self.reader.poll(10_000, step)?;
            quiet = if records.is_empty() { quiet + step } else { Duration::ZERO };
            for record in records {
                if record.record.offset < self.end {
                    self.ready.push_back(record);
                } else {
                    self.done = true;
                }
            }
            self.done |= self.reader.at_end(&self.at);
            if quiet > PATIENCE {
                bail!("{} gave nothing for {PATIENCE:?}", self.at);
            }
        }
        Ok(self.ready.pop_front())
    }
}

/// As [`scan`], of one partition or of all, from the very first record where the tables have what
/// retention cut from the log, else from where the log begins.
pub(crate) fn scan_from_the_first(
    context: &Context,
    range: &Range,
    only: Option<usize>,
    mut each: impl FnMut(InRecord) -> Result<()>,
) -> Result<()> {
    for partition in 0..range.begin.len() {
        let begin = range.begin[partition];
        if begin > 0
            && only.is_none_or(|only| only == partition)
            && let Ok(mut prefix) = Prefix::open(context, &range.topic, partition, begin)?
        {
            while let Some(record) = prefix.next()? {
                each(record)?;
            }
        }
    }
    match only {
        Some(partition) => scan(context, &range.only(partition), each),
        None => scan(context, range, each),
    }
}
