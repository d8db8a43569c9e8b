//! One table of the service: reads its topic from where the table stands, and commits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runtime::processor::TopicPartition;
use runtime::shutdown::Shutdown;
use schemas::DecodeError;
use tokio::runtime::Handle;

use crate::clock::instant;
use crate::compact::candidates;
use crate::config::OnGap;
use crate::error::{Error, Result};
use crate::service::TableSpec;
use crate::source::{Source, SourceError};
use crate::status::Status;
use crate::writer::Writer;
use crate::{Config, telemetry};

/// Records of one poll.
const POLL: usize = 4_096;
/// The longest that a poll waits: how soon a stop is noticed.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often the ends of the topic are asked for.
const LOOK: Duration = Duration::from_secs(5);
/// The first wait between two tries of what the store did not take.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest.
const BACKOFF: Duration = Duration::from_secs(30);

/// Ends the tables of a service: everything stopping, or one of them failing.
pub(crate) struct Stop<'a> {
    shared: &'a Shutdown,
    failed: AtomicBool,
}

impl<'a> Stop<'a> {
    pub(crate) fn new(shared: &'a Shutdown) -> Self {
        Self { shared, failed: AtomicBool::new(false) }
    }

    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
    }

    fn is_set(&self) -> bool {
        self.shared.is_set() || self.failed.load(Ordering::SeqCst)
    }

    /// Sleeps in short steps; `true` as soon as the service should stop.
    fn sleep(&self, time: Duration) -> bool {
        let deadline = instant() + time;
        loop {
            let left = deadline.saturating_duration_since(instant());
            if self.is_set() {
                return true;
            }
            if left.is_zero() {
                return false;
            }
            self.shared.sleep(left.min(PATIENCE));
        }
    }
}

/// What all tables of a service stand on.
pub(crate) struct Place<'a, F> {
    /// Makes the reader of a table's topic.
    pub(crate) source: &'a F,
    pub(crate) root: &'a str,
    pub(crate) config: &'a Config,
    pub(crate) status: &'a Status,
    pub(crate) stop: &'a Stop<'a>,
}

impl<F> Clone for Place<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Place<'_, F> {}

/// Keeps one table.
pub(crate) struct Keeper<'a, S> {
    name: String,
    topic: Arc<str>,
    clustered_by: &'static [&'static str],
    writer: Writer,
    source: S,
    config: &'a Config,
    status: &'a Status,
    stop: &'a Stop<'a>,
    io: &'a Handle,
    looked: Instant,
    told: BTreeMap<i32, i64>,
    size: Size,
}

/// What a version of the table amounts to.
#[derive(Default)]
struct Size {
    /// `None` before the first look.
    version: Option<u64>,
    rows: u64,
    files: u64,
    bytes: u64,
}

impl<'a, S: Source> Keeper<'a, S> {
    /// Keeps the table; with another encoder when a record has a schema that the one at hand does not know.
    pub(crate) fn run<F>(spec: &TableSpec, place: Place<'a, F>, io: &'a Handle) -> Result<()>
    where
        F: Fn(&str) -> Result<S, SourceError>,
    {
        let mut unknown = None;
        loop {
            let ended = Self::keep(spec, place, io);
            match &ended {
                Err(Error::Record { source: DecodeError::Fingerprint { found, .. }, .. })
                    if unknown != Some(*found) =>
                {
                    tracing::info!(table = spec.table, "records have another schema");
                    unknown = Some(*found);
                }
                _ => return ended,
            }
        }
    }

    /// Keeps the table with one encoder.
    fn keep<F>(spec: &TableSpec, place: Place<'a, F>, io: &'a Handle) -> Result<()>
    where
        F: Fn(&str) -> Result<S, SourceError>,
    {
        let mut wait = FIRST_WAIT;
        loop {
            let opened = Self::open(spec, place, io).and_then(|mut keeper| Ok((keeper.assign()?, keeper)));
            let ended = match opened {
                Ok((true, mut keeper)) => {
                    wait = FIRST_WAIT;
                    let ended = keeper.read();
                    // What was read before a failure is good: it is committed, and the failure then told.
                    let flushed = keeper.commit(ended.as_ref().err().is_none_or(Error::retry));
                    match flushed {
                        Ok(()) => ended,
                        Err(error) => Err(ended.err().unwrap_or(error)),
                    }
                }
                Ok((false, _)) => return Ok(()),
                Err(error) => Err(error),
            };
            match ended {
                // What was read and not committed is read again by who keeps the table next.
                Err(error) if error.retry() && place.stop.is_set() => {
                    telemetry::left(&spec.table, &error);
                    return Ok(());
                }
                Err(error) if error.retry() => {
                    telemetry::failed(&spec.table, "keep the table", &error, wait);
                    if place.stop.sleep(wait) {
                        return Ok(());
                    }
                    wait = (wait * 2).min(BACKOFF);
                }
                ended => return ended,
            }
        }
    }

    fn open<F>(spec: &TableSpec, place: Place<'a, F>, io: &'a Handle) -> Result<Self>
    where
        F: Fn(&str) -> Result<S, SourceError>,
    {
        let Place { root, config, status, stop, .. } = place;
        let (name, topic) = (spec.table.clone(), Arc::clone(&spec.topic));
        let encoder = (spec.encoder)().map_err(|source| Error::Encoder { table: name.clone(), source })?;
        let source = (place.source)(&name).map_err(|source| Error::Kafka {
            table: name.clone(),
            topic: topic.to_string(),
            source,
        })?;
        let writer = io.block_on(Writer::open(root, &name, Arc::clone(&topic), encoder, config))?;
        Ok(Self {
            name,
            topic,
            clustered_by: spec.clustered_by,
            writer,
            source,
            config,
            status,
            stop,
            io,
            looked: instant(),
            told: BTreeMap::new(),
            size: Size::default(),
        })
    }

    fn kafka(&self, source: SourceError) -> Error {
        Error::Kafka { table: self.name.clone(), topic: self.topic.to_string(), source }
    }

    /// Reads on from where the table stands; `false` if it was stopped before the topic existed.
    fn assign(&mut self) -> Result<bool> {
        let mut told = false;
        let ranges = loop {
            match self.source.ranges(&self.topic).map_err(|error| self.kafka(error))? {
                Some(ranges) if !ranges.is_empty() => break ranges,
                _ if self.stop.sleep(Duration::from_millis(500)) => return Ok(false),
                _ if told => {}
                _ => {
                    tracing::info!(table = self.name, topic = %self.topic, "waiting for the topic");
                    told = true;
                }
            }
        };
        let committed = self.io.block_on(self.writer.restore(ranges.len() as i32))?;
        let mut starts = Vec::new();
        for (partition, (range, committed)) in (0..).zip(ranges.iter().zip(&committed)) {
            let start = self.start(partition, *range, *committed)?;
            self.writer.begin(partition, start);
            starts.push((TopicPartition { topic: Arc::clone(&self.topic), partition }, start));
        }
        self.source.assign(&starts).map_err(|error| self.kafka(error))?;
        self.tell(Some(&ranges))?;
        Ok(true)
    }

    /// The offset to read a partition from, if topic and table fit together.
    fn start(&self, partition: i32, (begin, end): (i64, i64), committed: Option<i64>) -> Result<i64> {
        let unfit = |what: String| Error::Topic {
            table: self.name.clone(),
            topic: self.topic.to_string(),
            partition,
            what,
        };
        let Some(committed) = committed else { return Ok(begin) };
        if committed > end {
            return Err(unfit(format!(
                "the table holds it up to offset {committed}, and it ends at {end}: the topic was deleted \
                 and made anew; give the service another storage root, or the topic another name"
            )));
        }
        if committed < begin {
            let what = format!(
                "the table holds it up to offset {committed}, and it begins at {begin}: what lay between has \
                 left the topic; set lake.on_gap = \"continue\" to go on without it"
            );
            match self.config.on_gap {
                OnGap::Stop => return Err(unfit(what)),
                OnGap::Continue => tracing::warn!(table = self.name, partition, what),
            }
        }
        Ok(committed.max(begin))
    }

    fn read(&mut self) -> Result<()> {
        while !self.stop.is_set() {
            let records = self.source.poll(POLL, PATIENCE).map_err(|error| self.kafka(error))?;
            let drained = records.len() < POLL;
            for record in records {
                self.writer.push(&record.record)?;
                if self.writer.full() {
                    self.commit(true)?;
                }
            }
            if drained {
                for (partition, offset) in self.source.passed() {
                    self.writer.advance(partition.partition, offset);
                }
            }
            if self.writer.due() {
                self.commit(true)?;
            } else if self.writer.waiting() == 0 && self.writer.reached() != self.told {
                self.tell(None)?;
            }
            if instant().saturating_duration_since(self.looked) >= LOOK {
                self.look();
            }
        }
        Ok(())
    }

    /// Commits, again and again while the store is away. When stopping, only a few times.
    fn commit(&mut self, patient: bool) -> Result<()> {
        if !self.writer.dirty() {
            return Ok(());
        }
        let mut wait = FIRST_WAIT;
        let mut tries = 0;
        loop {
            let Err(error) = self.io.block_on(self.writer.commit()) else { break };
            tries += 1;
            let last = !patient || self.stop.is_set();
            if !error.retry() || (last && tries >= 3) {
                return Err(error);
            }
            telemetry::failed(&self.name, "commit", &error, wait);
            if last {
                // The service is stopping, so its own interruptible wait would not wait: a short pause
                // lets a store that hiccups take the last write.
                std::thread::sleep(Duration::from_millis(200));
            } else {
                self.stop.sleep(wait);
            }
            wait = (wait * 2).min(BACKOFF);
        }
        self.tell(None)?;
        self.compact();
        Ok(())
    }

    /// Compaction is of use, not of need: a failure is told and the table goes on.
    fn compact(&mut self) {
        if !self.config.auto_compact || self.stop.is_set() {
            return;
        }
        let worth = self.writer.table().files().is_ok_and(|files| !candidates(files, self.config).is_empty());
        if !worth {
            return;
        }
        match self.io.block_on(self.writer.table_mut().compact(self.config, self.clustered_by)) {
            Ok(done) => telemetry::compacted(&self.name, &done),
            Err(error) => tracing::warn!(table = self.name, %error, "cannot compact"),
        }
    }

    /// Asks for the ends of the topic, for the lag.
    fn look(&mut self) {
        self.looked = instant();
        match self.source.ranges(&self.topic) {
            Ok(Some(ranges)) => {
                if let Err(error) = self.tell(Some(&ranges)) {
                    tracing::debug!(table = self.name, %error, "cannot tell how far the table is");
                }
            }
            Ok(None) => tracing::warn!(table = self.name, topic = %self.topic, "the topic is gone"),
            Err(error) => tracing::debug!(table = self.name, %error, "cannot ask for the topic's ends"),
        }
    }

    fn tell(&mut self, ranges: Option<&[(i64, i64)]>) -> Result<()> {
        let table = self.writer.table();
        if self.size.version != Some(table.version()) {
            let files = table.files()?;
            self.size = Size {
                version: Some(table.version()),
                rows: files.iter().map(|file| file.rows).sum(),
                files: files.len() as u64,
                bytes: files.iter().map(|file| file.bytes).sum(),
            };
        }
        let reached = self.writer.reached();
        self.told.clone_from(&reached);
        self.status.update(&self.name, |status| {
            status.topic = self.topic.to_string();
            status.version = self.writer.table().version();
            (status.rows, status.files, status.bytes) = (self.size.rows, self.size.files, self.size.bytes);
            status.reached = reached;
            if let Some(ranges) = ranges {
                status.end = (0..).zip(ranges.iter().map(|(_, end)| *end)).collect();
            }
            telemetry::standing(&self.name, status);
        });
        Ok(())
    }
}
