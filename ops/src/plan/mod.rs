//! `salience features plan`: what the declarations of the configuration change in those that run, before
//! anything happens. Nothing is changed by it.

mod show;

use anyhow::Result;
use features::{Changes, ColumnChange, Fate, Made, Plan, SettingChange, StateChange};
use schemas::duration::Millis;
use serde::Serialize;

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
    /// What runs; none where the service `features` has not been started yet.
    pub running: Option<Named>,
    /// What the configuration declares.
    pub declared: Named,
    /// Whether anything changes.
    pub changes: bool,
    /// How far back the log must reach where the state is rebuilt; none where it is kept.
    pub reads_back: Option<Millis>,
    /// Numbers, in the order of the new vector; then those that are gone.
    pub columns: Vec<ColumnPlan>,
    /// Settings that differ; what was written before stands.
    pub settings: Vec<SettingChange>,
    /// Parts of the state that declarations shape. All else is kept where all of these are.
    pub state: Vec<StateChange>,
}

impl Report {
    fn between(running: Option<&Plan>, declared: &Plan) -> Self {
        let changes = Changes::between(running, declared);
        Self {
            running: running.map(Named::of),
            declared: Named::of(declared),
            changes: !changes.is_empty(),
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

/// Compares the configuration's declarations with those that run.
///
/// # Errors
/// A store that cannot be read; declarations there that this build cannot read.
pub fn run(context: &Context) -> Result<Report> {
    let running = declared::running(context)?.map(|config| Plan::compile(&config)).transpose()?;
    Ok(Report::between(running.as_ref(), &Plan::compile(&context.config.features)?))
}
