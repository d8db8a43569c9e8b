//! `salience features plan` and `apply`: what the declarations of the configuration change in those in force,
//! before anything happens; and the record in `events` that puts them into force.

mod apply;
mod show;

use anyhow::Result;
use features::{Changes, ColumnChange, Declarations, Fate, Made, Plan, SettingChange, StateChange};
use schemas::duration::Millis;
use serde::Serialize;

pub use self::apply::{Applied, apply};
use crate::context::Context;
use crate::declared;

/// Declarations by their fingerprints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Of everything that state and outputs depend on, hex.
    pub declarations: String,
    /// Of the vectors' schema, hex, as they carry it.
    pub vectors: String,
}

impl Named {
    fn of(plan: &Plan) -> Self {
        let hex = |fingerprint: u64| format!("{fingerprint:016x}");
        Self { declarations: hex(plan.fingerprint()), vectors: hex(plan.schema_fingerprint()) }
    }
}

/// One number of a vector.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColumnPlan {
    /// Its column.
    pub column: String,
    /// Whose events; none for what is the view's own.
    pub entity: Option<&'static str>,
    /// The aggregation's key in the config.
    pub aggregation: &'static str,
    /// Which events.
    pub kinds: Vec<&'static str>,
    /// The filter that they pass.
    pub filter: Option<String>,
    /// In which window; none where it has none.
    pub window: Option<String>,
    /// What becomes of it.
    pub fate: Fate,
    /// How far back the log must be read for it; none where nothing is read.
    pub reads_back: Option<Millis>,
}

impl ColumnPlan {
    fn of(change: &ColumnChange) -> Self {
        let column = &change.column;
        let (kinds, filter, window) = match &column.made {
            Made::Window { kinds, filter, window, .. } => (&kinds[..], filter, Some(window.to_string())),
            Made::Last { kinds, filter, .. } | Made::Decayed { kinds, filter, .. } => {
                (&kinds[..], filter, None)
            }
            Made::View => (&[][..], &None, None),
        };
        Self {
            column: column.field.name.clone(),
            entity: column.entity(),
            aggregation: column.key(),
            kinds: kinds.iter().map(|kind| kind.as_str()).collect(),
            filter: filter.clone(),
            window,
            fate: change.fate,
            reads_back: change.reads_back,
        }
    }
}

/// What would change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What is in force; none where the service `features` has not been started yet.
    pub running: Option<Named>,
    /// The record of `events` that put it into force, `0@offset`; none where the log declares nothing, or
    /// where it stands before the newest snapshot.
    pub since: Option<String>,
    /// What the configuration declares.
    pub declared: Named,
    /// Whether anything changes.
    pub changes: bool,
    /// Why it cannot be applied; none where it can.
    pub refused: Option<String>,
    /// How far back the log must reach where the state is rebuilt; none where it is kept.
    pub reads_back: Option<Millis>,
    /// Numbers, in the order of the new vector; then those that are gone.
    pub columns: Vec<ColumnPlan>,
    /// Settings that differ; what was written before stands.
    pub settings: Vec<SettingChange>,
    /// Parts of the state that declarations shape. All else is kept.
    pub state: Vec<StateChange>,
}

impl Report {
    fn between(running: Option<&Plan>, declared: &Plan) -> Self {
        let changes = Changes::between(running, declared);
        Self {
            running: running.map(Named::of),
            since: None,
            declared: Named::of(declared),
            changes: !changes.is_empty(),
            refused: None,
            reads_back: changes.reads_back,
            columns: changes.columns.iter().map(ColumnPlan::of).collect(),
            settings: changes.settings,
            state: changes.state,
        }
    }

    /// How many numbers have this fate.
    pub fn count(&self, fate: Fate) -> usize {
        self.columns.iter().filter(|column| column.fate == fate).count()
    }

    /// 0 nothing changes, 2 something does.
    pub fn exit_code(&self) -> u8 {
        if self.changes { 2 } else { 0 }
    }
}

/// A plan, and the declarations that it goes from and to.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What would change.
    pub report: Report,
    before: Option<Declarations>,
    next: Declarations,
}

/// Compares the configuration's declarations with those in force. Changes nothing.
///
/// # Errors
/// A store or a cluster that cannot be read; declarations there that this build cannot read.
pub fn look(context: &Context) -> Result<Planned> {
    let in_force = declared::in_force(context)?;
    let next = Declarations::of(&context.config.features)?;
    let before = in_force.as_ref().map(|in_force| in_force.declarations.clone());
    let mut report = Report::between(before.as_ref().map(|before| &**before.plan()), next.plan());
    report.since = in_force.and_then(|in_force| in_force.place).map(|place| place.to_string());
    if let Some(before) = before.as_ref().filter(|_| report.changes) {
        let log = || match report.reads_back {
            Some(_) => declared::check_log_is_whole(context),
            None => Ok(()),
        };
        let refused = next.may_follow(before).map_err(anyhow::Error::from).and_then(|()| log());
        report.refused = refused.err().map(|why| why.to_string());
    }
    Ok(Planned { report, before, next })
}
