//! Which examples a run learns from, stops by and is judged on, before any vector is decoded: a
//! pass over the labels, one over the places of the vectors, and the split.

use arrow::array::{Array, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use futures::StreamExt as _;
use lake::{Order, ScanOptions, Table};
use runtime::shutdown::Shutdown;
use schemas::Place;
use schemas::table::{features, labels};
use tokio::runtime::Handle;

use crate::Error;
use crate::dataset::{Pins, Request};
use crate::join::{Labels, Selection};
use crate::run::Data;
use crate::split::{self, Boundaries, Parts};

/// What becomes of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has no vector of the schema.
    Absent,
    /// It lies in a gap between two parts, or before all of them.
    Gap,
    /// Learned from.
    Train,
    /// Watched by early stopping.
    Validation,
    /// Judged on.
    Test,
}

/// Places and what becomes of each.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) selection: Selection,
    /// One per target.
    pub(crate) roles: Vec<Role>,
}

/// The examples of a run by place.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) chosen: Chosen,
    pub(crate) boundaries: Boundaries,
    pub(crate) parts: Parts,
    pub(crate) data: Data,
    /// Share of the training examples that were clicked.
    pub(crate) click_rate: f64,
}

/// Labels with a vector.
pub(crate) struct Present {
    pub(crate) selection: Selection,
    /// One per target: absent or not.
    pub(crate) roles: Vec<Role>,
    pub(crate) data: Data,
    /// Event times of those that are there, ascending, ms.
    pub(crate) times: Vec<i64>,
}

/// Reads the labels and the places of the vectors.
pub(crate) fn present(want: &Request<'_>, handle: &Handle, stop: &Shutdown) -> Result<Present, Error> {
    let mut collected = Labels::new(want.config.max_rows);
    let by_place = ScanOptions { order: Order::Place, ..ScanOptions::default() };
    scan(want.root, labels::NAME, want.pins, &by_place, handle, stop, |batch| {
        for label in labels::decode(&batch)? {
            collected.add(&label);
        }
        Ok(())
    })?;
    let labels_seen = collected.seen;
    let mut selection = collected.finish();

    let mut roles = vec![Role::Absent; selection.targets.len()];
    let mut skipped_vectors = 0;
    let columns = ["place_partition", "place_offset", "fingerprint"].map(str::to_owned);
    let places = ScanOptions { columns: Some(columns.into()), ..ScanOptions::default() };
    let mut ours = Vec::new();
    scan(want.root, features::NAME, want.pins, &places, handle, stop, |batch| {
        ours.clear();
        of_schema(&batch, want.schema.fingerprint(), &mut ours)?;
        skipped_vectors += ours.iter().filter(|ours| !**ours).count() as u64;
        for (at, place) in places_of(&batch)?.enumerate() {
            let Some(index) = selection.find(place).filter(|_| ours[at]) else { continue };
            if roles[index] != Role::Absent {
                return Err(damaged(format!("holds two vectors of the event at {place}")));
            }
            roles[index] = Role::Gap;
        }
        Ok(())
    })?;

    let clock_ms = selection.clock_ms;
    let present = || selection.targets.iter().zip(&roles).filter(|(_, role)| **role != Role::Absent);
    let mut times: Vec<i64> = present().map(|(target, _)| target.event_time_ms).collect();
    times.sort_unstable();
    let rows = times.len();
    let count = |of: fn(&model::encode::Outcome) -> bool| {
        present().filter(|(target, _)| of(&target.outcome(clock_ms))).count()
    };
    let data = Data {
        labels: labels_seen,
        rows,
        without_vector: selection.targets.len() - rows,
        skipped_vectors,
        clicked: count(|o| o.clicked),
        matured: count(|o| o.matured),
        purchased: count(|o| o.matured && o.purchased),
    };
    if rows == 0 && skipped_vectors > 0 {
        return Err(Error::Fingerprint {
            version: want.pins.get(features::NAME).copied().unwrap_or_default(),
            fingerprint: want.schema.fingerprint(),
        });
    }
    Ok(Present { selection, roles, data, times })
}

/// Reads the labels and the places of the vectors, and splits.
pub(crate) fn draw(want: &Request<'_>, handle: &Handle, stop: &Shutdown) -> Result<Drawn, Error> {
    let Present { selection, mut roles, data, times } = present(want, handle, stop)?;
    let from_ms = want.window_ms.zip(times.last()).map_or(i64::MIN, |(window, last)| last - window);
    let first = times.partition_point(|&time| time < from_ms);
    let (boundaries, parts) = split::split(&times[first..], &want.config.split, want.judged_after_ms)?;
    let parts = parts.moved_by(first);
    let (mut clicked, mut trained) = (0_u64, 0_u64);
    for (target, role) in selection.targets.iter().zip(&mut roles) {
        if *role == Role::Absent {
            continue;
        }
        *role = match target.event_time_ms {
            time_ms if time_ms < from_ms => Role::Gap,
            time_ms => role_at(time_ms, &boundaries),
        };
        if *role == Role::Train {
            trained += 1;
            clicked += u64::from(target.outcome(selection.clock_ms).clicked);
        }
    }
    let click_rate = clicked as f64 / trained.max(1) as f64;
    Ok(Drawn { chosen: Chosen { selection, roles }, boundaries, parts, data, click_rate })
}

fn role_at(time_ms: i64, bounds: &Boundaries) -> Role {
    if time_ms < bounds.train_until_ms {
        Role::Train
    } else if time_ms >= bounds.test_from_ms {
        Role::Test
    } else if (bounds.validation_from_ms..bounds.validation_until_ms).contains(&time_ms) {
        Role::Validation
    } else {
        Role::Gap
    }
}

impl Chosen {
    /// Which rows of a batch of vectors `wanted` takes, by their target.
    pub(crate) fn rows_of(
        &mut self,
        batch: &RecordBatch,
        fingerprint: u64,
        mut wanted: impl FnMut(Role) -> bool,
    ) -> Result<BooleanArray, Error> {
        let mut keep = Vec::with_capacity(batch.num_rows());
        of_schema(batch, fingerprint, &mut keep)?;
        for (keep, place) in keep.iter_mut().zip(places_of(batch)?) {
            *keep = *keep && self.selection.find(place).is_some_and(|index| wanted(self.roles[index]));
        }
        Ok(keep.into())
    }
}

fn damaged(what: String) -> Error {
    Error::Damaged { path: format!("table {}", features::NAME), what }
}

fn column<T: Array + Clone + 'static>(batch: &RecordBatch, name: &str, kind: &DataType) -> Result<T, Error> {
    let column = batch.column_by_name(name).ok_or_else(|| damaged(format!("has no column {name}")))?;
    let column = cast(column, kind).map_err(|error| damaged(error.to_string()))?;
    let typed = column.as_any().downcast_ref::<T>().cloned();
    typed.ok_or_else(|| damaged(format!("column {name} is no {kind}")))
}

fn places_of(batch: &RecordBatch) -> Result<impl Iterator<Item = Place> + use<>, Error> {
    let partitions: Int32Array = column(batch, "place_partition", &DataType::Int32)?;
    let offsets: Int64Array = column(batch, "place_offset", &DataType::Int64)?;
    Ok((0..batch.num_rows())
        .map(move |at| Place { partition: partitions.value(at), offset: offsets.value(at) }))
}

/// Which rows have numbers that the schema names. A table that outlived a change of the declared
/// features holds others too.
fn of_schema(batch: &RecordBatch, fingerprint: u64, out: &mut Vec<bool>) -> Result<(), Error> {
    let wanted = format!("{fingerprint:016x}");
    let texts: StringArray = column(batch, "fingerprint", &DataType::Utf8)?;
    out.extend(texts.iter().map(|text| text == Some(wanted.as_str())));
    Ok(())
}

/// Hands the batches of a pinned table to `take`.
pub(crate) fn scan(
    root: &str,
    name: &str,
    pins: &Pins,
    options: &ScanOptions,
    handle: &Handle,
    stop: &Shutdown,
    mut take: impl FnMut(RecordBatch) -> Result<(), Error>,
) -> Result<(), Error> {
    let version = *pins.get(name).ok_or_else(|| Error::NoTable { table: name.to_owned() })?;
    let table = handle.block_on(Table::open_at(root, name, version))?;
    let mut batches = table.scan(options)?;
    while let Some(batch) = handle.block_on(batches.next()) {
        if stop.is_set() {
            return Err(Error::Stopped);
        }
        take(batch?)?;
    }
    Ok(())
}
