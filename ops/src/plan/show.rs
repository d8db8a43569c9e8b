//! A plan as people read it.

use std::fmt;

use features::{Fate, Part, StateChange};
use schemas::duration::Millis;

use super::{ColumnPlan, Named, Report};
use crate::time;

impl fmt::Display for Report {
    /// What is kept is counted, all else is named.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.running {
            Some(running) => {
                let since =
                    self.since.as_ref().map_or_else(String::new, |since| format!(", since events {since}"));
                writeln!(f, "running   {}{since}", named(running))?;
            }
            None => writeln!(f, "running   nothing: the service features has not been started yet")?,
        }
        writeln!(f, "declared  {}", named(&self.declared))?;
        if !self.changes {
            return writeln!(f, "\nnothing changes: all {} numbers are kept", self.columns.len());
        }
        let mut entities: Vec<Option<&str>> = Vec::new();
        for column in &self.columns {
            if !entities.contains(&column.entity) {
                entities.push(column.entity);
            }
        }
        for entity in entities {
            let of: Vec<&ColumnPlan> = self.columns.iter().filter(|column| column.entity == entity).collect();
            let kept = of.iter().filter(|column| column.fate == Fate::Kept).count();
            writeln!(f, "\n{}: {kept} kept", entity.unwrap_or("context"))?;
            for column in of.iter().filter(|column| column.fate != Fate::Kept) {
                writeln!(f, "  {} {:<40} {}", sign(column.fate), column.column, made(column))?;
            }
        }
        writeln!(f, "\nstate")?;
        for state in &self.state {
            writeln!(f, "  {:<32} {}", part(state.part), fate(state))?;
        }
        writeln!(f, "  {:<32} kept", "labels, repeats, sums of hours")?;
        if !self.settings.is_empty() {
            writeln!(f, "\nsettings, from there on: what was decided stands")?;
        }
        for setting in &self.settings {
            writeln!(f, "  {:<32} {}, now {}", setting.key, setting.old, setting.new)?;
        }
        let [added, changed, removed, kept] =
            [Fate::Added, Fate::Changed, Fate::Removed, Fate::Kept].map(|fate| self.count(fate));
        write!(f, "\n{added} to add, {changed} to change, {removed} to remove, {kept} kept; ")?;
        match self.reads_back {
            Some(reach) => {
                writeln!(f, "the state is rebuilt from the log, which must reach {} back", back(reach))?;
            }
            None => writeln!(f, "no state is rebuilt")?,
        }
        match &self.refused {
            Some(why) => writeln!(f, "it cannot be applied: {why}"),
            None => Ok(()),
        }
    }
}

fn named(of: &Named) -> String {
    format!("declarations {}, vectors {}", of.declarations, of.vectors)
}

fn sign(fate: Fate) -> char {
    match fate {
        Fate::Kept => '=',
        Fate::Changed => '~',
        Fate::Added => '+',
        Fate::Removed => '-',
    }
}

fn made(column: &ColumnPlan) -> String {
    let of = match (&column.filter, &*column.kinds) {
        (Some(filter), _) => format!(" of {filter}"),
        (None, []) => String::new(),
        (None, kinds) => format!(" of {}", kinds.join(", ")),
    };
    let within = column.window.as_ref().map_or_else(String::new, |window| format!(" in {window}"));
    let source = match (column.fate, column.reads_back) {
        (Fate::Removed, _) => String::new(),
        (_, Some(reach)) => format!("; from the log, {} back", back(reach)),
        (_, None) if column.entity.is_none() => String::new(),
        (_, None) => "; from the same state".to_owned(),
    };
    format!("{}{of}{within}{source}", column.aggregation)
}

/// A span in its two largest units, rounded up: what is read is never less.
fn back(reach: Millis) -> String {
    const DAY: i64 = 86_400_000;
    const HOUR: i64 = 3_600_000;
    let step = match reach.0 {
        DAY.. => HOUR,
        HOUR.. => 60_000,
        _ => 1_000,
    };
    time::span((reach.0.saturating_add(step - 1)).div_euclid(step) * step)
}

fn part(part: Part) -> String {
    match part {
        Part::Users => "users' events".to_owned(),
        Part::Tiles => "tiles of shared entities".to_owned(),
        Part::Shared(entity) => format!("windows of {entity}"),
    }
}

fn fate(state: &StateChange) -> String {
    let back = state.reads_back.map_or_else(String::new, |reach| format!(", {} back", back(reach)));
    match state.fate {
        Fate::Kept => "the same".to_owned(),
        Fate::Changed | Fate::Added => format!("from the log{back}"),
        Fate::Removed => "dropped".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed setup is a failed test")]
    use features::{Config, Plan, Window};

    use super::*;

    fn plan(config: &Config) -> Plan {
        Plan::compile(config).unwrap()
    }

    fn changed() -> (Config, Config) {
        let old = Config::default();
        let mut new = Config { click_window: Millis(3_600_000), ..old.clone() };
        let user = new.entities.get_mut("user").unwrap();
        let windows = ["1m", "1h", "1d", "7d", "14d", "30d"];
        user.windows = windows.map(|window| Window::parse(window).unwrap()).to_vec();
        user.rate_prior = 0.5;
        (old, new)
    }

    #[test]
    fn a_plan_names_what_changes_and_counts_the_rest() {
        let (old, new) = changed();
        let report = Report::between(Some(&plan(&old)), &plan(&new));
        let text = report.to_string();
        for line in [
            "  + user_views_14d                           count of view in 14d; from the log, 14d 7h back",
            "  - user_views_10m                           count of view in 10m",
            "  ~ user_ctr_1d                              rate of view, click, cart in 1d; from the log, 1d 2h back",
            "item: 9 kept",
            "context: 4 kept",
            "  users' events                    from the log, 30d 13h back",
            "  windows of item                  the same",
            "  labels, repeats, sums of hours   kept",
            "settings, from there on: what was decided stands",
            "  click_window                     30m, now 1h",
        ] {
            assert!(text.lines().any(|said| said == line), "{line:?} is not in\n{text}");
        }
        assert!(text.contains(&format!("\n{} to add, ", report.count(Fate::Added))), "{text}");
        assert!(
            text.ends_with("; the state is rebuilt from the log, which must reach 30d 13h back\n"),
            "{text}"
        );
        assert_eq!(report.exit_code(), 2);
    }

    #[test]
    fn a_plan_without_changes_says_so_and_one_without_anything_running_adds_all() {
        let config = Config::default();
        let report = Report::between(Some(&plan(&config)), &plan(&config));
        assert_eq!((report.exit_code(), report.count(Fate::Kept)), (0, report.columns.len()));
        assert!(report.to_string().contains("nothing changes"), "{report}");
        let report = Report::between(None, &plan(&config));
        assert_eq!((report.exit_code(), report.count(Fate::Added)), (2, report.columns.len()));
        assert!(report.to_string().starts_with("running   nothing"), "{report}");
    }

    #[test]
    fn the_json_of_a_plan_has_names_fates_and_spans() {
        let (old, new) = changed();
        let json = serde_json::to_value(Report::between(Some(&plan(&old)), &plan(&new))).unwrap();
        let column = |name: &str| {
            json["columns"].as_array().unwrap().iter().find(|column| column["column"] == name).unwrap()
        };
        let views = column("user_views_14d");
        assert_eq!((views["fate"].as_str(), views["window"].as_str()), (Some("added"), Some("14d")));
        assert_eq!(views["reads_back"], "343h");
        assert_eq!(column("item_views_1h")["fate"], "kept");
        assert_eq!(json["state"][0]["part"], "users");
        assert_eq!((&json["changes"], &json["settings"][0]["key"]), (&true.into(), &"click_window".into()));
    }
}
