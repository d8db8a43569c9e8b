//! Configuration: a file, variables and overrides over the defaults, and what is compiled from them.

use std::path::PathBuf;

use features::Plan;
use runtime::config::resolve_texts;
use serde::Deserialize;

use crate::Target;

pub const TARGET: Target = Target { name: "config", run, seeds, times: 4_096, plus: 32 << 20, cases: 150 };

/// What ends the file and begins the variables, one a line; and then the overrides.
const NEXT: &str = "\n%%\n";

/// The sections of the runtime, and of services that need no table.
#[derive(Debug, Deserialize)]
struct Sections {
    kafka: runtime::config::Kafka,
    topics: runtime::config::Topics,
    service: runtime::config::Service,
    storage: runtime::config::Storage,
    telemetry: runtime::config::Telemetry,
    admin: runtime::config::Admin,
    ingest: ingest::Config,
    features: features::Config,
    model: model::Config,
    scorer: scorer::Config,
}

fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.split(NEXT);
    let file = (PathBuf::from("salience.toml"), parts.next().unwrap_or_default().to_owned());
    let mut pairs = || -> Vec<(String, String)> {
        let lines = parts.next().unwrap_or_default().lines();
        lines
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let (variables, overrides) = (pairs(), pairs());
    let defaults =
        [runtime::config::DEFAULTS, ingest::DEFAULTS, features::DEFAULTS, model::DEFAULTS, scorer::DEFAULTS]
            .join("\n");
    let resolved =
        match resolve_texts(&defaults, &[file], variables.into_iter(), &overrides, &features::keys()) {
            Ok(resolved) => resolved,
            Err(error) => return assert!(!error.to_string().is_empty()),
        };
    let shown = resolved.show();
    shown.parse::<toml::Table>().expect("what is shown is TOML");
    let sections = match resolved.extract::<Sections>() {
        Ok(sections) => sections,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let Sections { kafka, topics, service, storage, telemetry, admin, .. } = &sections;
    assert!(!format!("{kafka:?}{topics:?}{service:?}{storage:?}{telemetry:?}{admin:?}").is_empty());
    let Sections { ingest, features, model, scorer, .. } = &sections;
    let _ = (ingest.check(), scorer.check(), model.validate());
    if let Ok(plan) = Plan::compile(features) {
        let schema = plan.vector_schema();
        assert!(!schema.fields.is_empty());
        assert_eq!(Plan::compile(plan.config()).unwrap().fingerprint(), plan.fingerprint());
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let everything = "\
[kafka]
bootstrap = \"broker:9092\"
prefix = \"eu.\"
[kafka.properties]
\"security.protocol\" = \"ssl\"
[service]
workers = 3
commit_interval = \"250ms\"
[ingest]
numbers = [\"discount\"]
[ingest.fields]
user_id = \"u.id\"
[features]
windows = [\"1h\", \"7d\"]
numbers = [\"discount\"]
[features.filters.big]
kinds = [\"purchase\"]
min = 100.0
[features.entities.user]
count = [\"view\", \"big\"]
distinct = [\"view.brand\"]
quantile = [\"purchase\"]
decayed = [\"click\"]
trend = [\"view\"]
trend_windows = [\"1h/1d\"]
windows = [\"1h\", \"1d\", \"tumbling:1d\", \"hopping:1d/1h\", \"session:30m\"]
[features.entities.item]
count = [\"view\"]
windows = [\"1h\"]
[model.network]
width = 16
mlp = [32, 8]
[model.encoder]
dictionaries = [\"item\"]
";
    let layered = "[features]\nexact_events = 128\n%%\nSALIENCE_KAFKA_BOOTSTRAP=a:1\nSALIENCE_KAFKA_PROPERTIES_SSL_CA_LOCATION=/ca\n%%\nfeatures.last_n=9\nservice.workers = 2\nmodel.training.seed=7";
    [everything, layered, "", "[topics]\nraw_retention = \"forever\"\ninternal_partitions = 12\n"]
        .map(Vec::from)
        .into()
}
