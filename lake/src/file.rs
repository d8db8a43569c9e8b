//! A data file as the table's log describes it: which rows of the topic it holds.

use std::collections::{BTreeMap, HashMap};

use arrow::array::types::Date32Type;
use arrow::compute::kernels::cast_utils::Parser as _;
use deltalake::kernel::{Add, LogicalFileView, Remove};
use schemas::table::{DATE_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN};

use crate::error::{Error, Result};

/// Tag of a file's entry: `partition:first-last` of the topic's offsets in it, comma-separated.
const PLACES: &str = "salience.places";
/// Tag of a file's entry: BLAKE3 of its bytes, hex.
const CHECKSUM: &str = "salience.blake3";

/// Tag of a file's entry: the columns that rows are sorted by within a row group, comma-separated.
const CLUSTERED_BY: &str = "salience.clusteredBy";

/// A file of one version of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Its path below the table.
    pub path: String,
    /// The day of all its rows, days since 1970 UTC.
    pub date: i32,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// First and last offset of each topic partition that it has rows of.
    pub places: BTreeMap<i32, (i64, i64)>,
    /// BLAKE3 of its bytes, hex; files that other programs wrote have none.
    pub checksum: Option<String>,
    /// When it was written, ms since 1970 UTC.
    pub written_ms: i64,
    /// Columns that rows are sorted by within a row group; none for the topic's order. Row groups follow
    /// one another in that.
    pub clustered_by: Vec<String>,
    pub(crate) stats: Option<String>,
}

impl DataFile {
    /// The file's first place: what files are sorted by.
    pub fn first_place(&self) -> (i32, i64) {
        self.places
            .first_key_value()
            .map_or((i32::MAX, i64::MAX), |(partition, (first, _))| (*partition, *first))
    }

    pub(crate) fn read(table: &str, version: u64, view: &LogicalFileView) -> Result<Self> {
        // The view has no other way to an entry's tags.
        #[expect(deprecated, reason = "the only access to tags; gone from deltalake only with a replacement")]
        let add = view.add_action();
        let broken = |what: &str| Error::File {
            table: table.to_owned(),
            version,
            path: add.path.clone(),
            what: what.to_owned(),
        };
        let date = add
            .partition_values
            .get(DATE_COLUMN)
            .and_then(Option::as_deref)
            .and_then(Date32Type::parse)
            .ok_or_else(|| broken("has no date"))?;
        let stats: Stats = add
            .stats
            .as_deref()
            .and_then(|stats| serde_json::from_str(stats).ok())
            .ok_or_else(|| broken("has no statistics"))?;
        let tag = |name: &str| add.tags.as_ref().and_then(|tags| tags.get(name)).and_then(Option::as_deref);
        let places = tag(PLACES)
            .and_then(parse_places)
            .or_else(|| stats.places())
            .ok_or_else(|| broken("does not say which rows of the topic it holds"))?;
        Ok(Self {
            date,
            rows: stats.num_records,
            bytes: add.size.max(0) as u64,
            places,
            checksum: tag(CHECKSUM).map(str::to_owned),
            written_ms: add.modification_time,
            clustered_by: tag(CLUSTERED_BY)
                .map(|columns| columns.split(',').map(str::to_owned).collect())
                .unwrap_or_default(),
            stats: add.stats.clone(),
            path: add.path,
        })
    }

    /// The log's entry that adds it.
    pub(crate) fn add(&self, data_change: bool) -> Add {
        let mut tags = HashMap::from([(PLACES.to_owned(), Some(format_places(&self.places)))]);
        if let Some(checksum) = &self.checksum {
            tags.insert(CHECKSUM.to_owned(), Some(checksum.clone()));
        }
        if !self.clustered_by.is_empty() {
            tags.insert(CLUSTERED_BY.to_owned(), Some(self.clustered_by.join(",")));
        }
        Add {
            path: self.path.clone(),
            partition_values: HashMap::from([(DATE_COLUMN.to_owned(), Some(date_text(self.date)))]),
            size: self.bytes as i64,
            modification_time: self.written_ms,
            data_change,
            stats: self.stats.clone(),
            tags: Some(tags),
            ..Add::default()
        }
    }

    /// The log's entry that removes it without a change of what the table says.
    pub(crate) fn remove(&self, now_ms: i64) -> Remove {
        Remove {
            path: self.path.clone(),
            data_change: false,
            deletion_timestamp: Some(now_ms),
            extended_file_metadata: Some(true),
            partition_values: Some(HashMap::from([(DATE_COLUMN.to_owned(), Some(date_text(self.date)))])),
            size: Some(self.bytes as i64),
            ..Remove::default()
        }
    }
}

/// `2026-11-25` for days since 1970.
pub fn date_text(days: i32) -> String {
    Date32Type::to_naive_date_opt(days)
        .map_or_else(|| days.to_string(), |date| date.format("%Y-%m-%d").to_string())
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    num_records: u64,
    #[serde(default)]
    min_values: HashMap<String, serde_json::Value>,
    #[serde(default)]
    max_values: HashMap<String, serde_json::Value>,
}

impl Stats {
    /// For files without our tag: the widest that the statistics allow.
    fn places(&self) -> Option<BTreeMap<i32, (i64, i64)>> {
        let number = |values: &HashMap<String, serde_json::Value>, column: &str| values.get(column)?.as_i64();
        let partitions = i32::try_from(number(&self.min_values, PARTITION_COLUMN)?).ok()?
            ..=i32::try_from(number(&self.max_values, PARTITION_COLUMN)?).ok()?;
        let offsets = (number(&self.min_values, OFFSET_COLUMN)?, number(&self.max_values, OFFSET_COLUMN)?);
        Some(partitions.map(|partition| (partition, offsets)).collect())
    }
}

fn format_places(places: &BTreeMap<i32, (i64, i64)>) -> String {
    let one = |(partition, (first, last)): (&i32, &(i64, i64))| format!("{partition}:{first}-{last}");
    places.iter().map(one).collect::<Vec<_>>().join(",")
}

fn parse_places(text: &str) -> Option<BTreeMap<i32, (i64, i64)>> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (partition, offsets) = part.split_once(':')?;
            let (first, last) = offsets.split_once('-')?;
            Some((partition.parse().ok()?, (first.parse().ok()?, last.parse().ok()?)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_their_text() {
        let places = BTreeMap::from([(0, (0, 10)), (7, (5, 5))]);
        assert_eq!(format_places(&places), "0:0-10,7:5-5");
        assert_eq!(parse_places("0:0-10,7:5-5"), Some(places));
        assert_eq!(parse_places("0:x"), None);
    }

    #[test]
    fn days_are_dates() {
        assert_eq!(date_text(0), "1970-01-01");
        assert_eq!(date_text(20_782), "2026-11-25");
    }
}
