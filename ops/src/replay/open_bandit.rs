//! Open Bandit Dataset (ZOZOTOWN fashion recommendations; Saito et al., 2020; CC BY 4.0).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use chrono::DateTime;
use schemas::RawEvent;

use super::{Columns, ReplayError, Rows, record, unreadable};

const AFFINITY: &str = "user-item_affinity_";
const USER: &str = "user_feature_";

/// Its rows: each a view, and a click on it where `click` is 1. The campaign is `men` or `women`,
/// as the file's name says; the user is the four `user_feature_*` together; affinities become the
/// numbers `affinity_0` and up.
pub(super) fn rows(path: &Path, reader: Box<dyn Read + Send>) -> Result<Rows, ReplayError> {
    let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
    let columns = Columns::read(path, &mut csv)?;
    let stem = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = stem.split('.').next().unwrap_or_default().to_owned();
    let layout = Layout {
        index: 0,
        timestamp: columns.require(path, "timestamp")?,
        item: columns.require(path, "item_id")?,
        position: columns.require(path, "position")?,
        click: columns.require(path, "click")?,
        users: starting(&columns, USER).into_iter().map(|(at, _)| at).collect(),
        affinities: starting(&columns, AFFINITY),
        campaign: if stem.contains("women") { "women" } else { "men" },
        stem,
    };
    let path = path.to_owned();
    let mut last_ms = 0;
    Ok(Box::new(csv.into_records().flat_map(move |row| {
        let row = match row {
            Ok(row) => row,
            Err(error) => match error.into_kind() {
                csv::ErrorKind::Io(source) => {
                    return vec![Err(ReplayError::Io { path: path.clone(), source })];
                }
                other => return vec![Ok(unreadable(&format!("{other:?}"), last_ms))],
            },
        };
        let Some((view, clicked)) = layout.view(&row) else {
            return vec![Ok(unreadable(&row.iter().collect::<Vec<_>>().join(","), last_ms))];
        };
        last_ms = view.event_time;
        let mut records = vec![Ok(record(&view, schemas::topic::VIEWS))];
        if clicked {
            records.push(Ok(record(&click_on(&view), schemas::topic::CLICKS)));
        }
        records
    })))
}

struct Layout {
    index: usize,
    timestamp: usize,
    item: usize,
    position: usize,
    click: usize,
    users: Vec<usize>,
    affinities: Vec<(usize, String)>,
    campaign: &'static str,
    stem: String,
}

impl Layout {
    fn view(&self, row: &csv::StringRecord) -> Option<(RawEvent, bool)> {
        let time = DateTime::parse_from_rfc3339(&row.get(self.timestamp)?.replacen(' ', "T", 1)).ok()?;
        let user = self.users.iter().map(|at| row.get(*at)).collect::<Option<Vec<_>>>()?.join("-");
        let mut numbers = BTreeMap::new();
        for (at, name) in &self.affinities {
            numbers.insert(name.clone(), row.get(*at)?.parse().ok()?);
        }
        let view = RawEvent {
            kind: "view".to_owned(),
            event_id: Some(format!("{}-{}", self.stem, row.get(self.index)?)),
            event_time: time.timestamp_millis(),
            user_id: user,
            item_id: Some(row.get(self.item)?.to_owned()),
            campaign_id: Some(self.campaign.to_owned()),
            placement: Some(row.get(self.position)?.to_owned()),
            numbers,
            ..RawEvent::default()
        };
        Some((view, row.get(self.click)? == "1"))
    }
}

/// The data says only that the view was clicked: the click gets the view's own time.
fn click_on(view: &RawEvent) -> RawEvent {
    RawEvent {
        kind: "click".to_owned(),
        event_id: view.event_id.as_ref().map(|id| format!("{id}-click")),
        view_id: view.event_id.clone(),
        numbers: BTreeMap::new(),
        ..view.clone()
    }
}

fn starting(columns: &Columns, prefix: &str) -> Vec<(usize, String)> {
    let names = columns.names.iter().enumerate();
    names
        .filter_map(|(at, name)| name.strip_prefix(prefix).map(|rest| (at, format!("affinity_{rest}"))))
        .collect()
}
