#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use super::*;

/// A service's section, as services bring them.
const OURS: &str = "
[ours]
# Field names.
fields = {}
rate = 0.5
names = [\"a\"]
wait = \"30s\"
[ours.windows]
short = \"1m\"
";

/// What may be set and has no default.
const MORE: &str = "ours.windows.long = \"1s\"";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ours {
    fields: BTreeMap<String, String>,
    rate: f64,
    names: Vec<String>,
    wait: Millis,
    windows: BTreeMap<String, Millis>,
}

#[derive(Debug, Deserialize)]
struct All {
    kafka: Kafka,
    service: Service,
    ours: Ours,
}

struct Case {
    file: &'static str,
    env: &'static [(&'static str, &'static str)],
    set: &'static [(&'static str, &'static str)],
}

fn layers(case: &Case) -> Result<Resolved, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("salience.toml");
    std::fs::write(&path, case.file).unwrap();
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let defaults = format!("{DEFAULTS}{OURS}");
    resolve(&defaults, &[path], pairs(case.env).into_iter(), &pairs(case.set), MORE)
        .map_err(|error| error.to_string().replace(folder.path().to_str().unwrap(), "DIR"))
}

fn load_case(case: &Case) -> Result<All, String> {
    layers(case)?.extract().map_err(|error: LoadError| {
        // The file is in a folder that nobody knows beforehand.
        let text = error.to_string();
        match text.find("/salience.toml") {
            Some(at) if text.starts_with('/') => format!("DIR{}", &text[at..]),
            _ => text,
        }
    })
}

fn error(file: &'static str) -> String {
    load_case(&Case { file, env: &[], set: &[] }).unwrap_err()
}

fn error_of_variable(name: &'static str, value: &'static str) -> String {
    let env = Box::leak(Box::new([(name, value)]));
    load_case(&Case { file: "", env, set: &[] }).unwrap_err()
}

#[test]
fn the_defaults_are_complete() {
    let sections: Sections = load(DEFAULTS, &[], std::iter::empty(), &[]).unwrap();
    assert_eq!(sections.kafka, Kafka::at("127.0.0.1:9092"));
    assert_eq!(sections.service.delivery, Delivery::ExactlyOnce);
    assert_eq!(sections.topics.raw_retention, Retention::For(Millis(7 * 86_400_000)));
    assert!(!sections.service.instance_name().is_empty());
    let table: toml::Table = DEFAULTS.parse().unwrap();
    for (section, keys) in &table {
        for key in keys.as_table().unwrap().keys() {
            let line = DEFAULTS.lines().position(|line| line.starts_with(&format!("{key} ="))).unwrap();
            let before = DEFAULTS.lines().nth(line - 1).unwrap();
            assert!(before.starts_with("# "), "{section}.{key} has no comment");
        }
    }
}

#[test]
fn a_key_without_a_default_may_be_set_and_no_other() {
    let all = load_case(&Case { file: "", env: &[("SALIENCE_OURS_WINDOWS_LONG", "2h")], set: &[] }).unwrap();
    assert_eq!(all.ours.windows["long"], Millis(7_200_000));
    let said = error("[ours.windows]\nlon = '1d'");
    assert_eq!(
        said,
        "DIR/salience.toml:2: unknown key `ours.windows.lon`; did you mean `ours.windows.long`?"
    );
    assert_eq!(
        error("ours.windows.long = 3").split("; ").nth(1),
        Some("expected a duration in quotes, such as \"1s\"")
    );
}

#[test]
fn an_element_of_a_list_has_a_line_of_its_own() {
    let of = |set: &'static [(&'static str, &'static str)]| {
        let file = "[ours]\nnames = [\n  'x',\n  'y', 'z',\n]\n";
        let resolved = layers(&Case { file, env: &[], set }).unwrap();
        let line = |key: &str| match resolved.source(key) {
            Source::File(_, line) => line,
            _ => None,
        };
        [0, 1, 2].map(|index| line(&format!("ours.names[{index}]")))
    };
    assert_eq!(of(&[]), [Some(3), Some(4), Some(4)]);
    assert_eq!(of(&[("ours.names", "['x', 'y']")]), [None, None, None], "laid over");
}

#[test]
fn later_layers_count_more() {
    let all = load_case(&Case {
        file: "
            [kafka]
            bootstrap = 'file:1'
            prefix = 'file.'
            [kafka.properties]
            'security.protocol' = 'ssl'
            'socket.timeout.ms' = 5000
            [service]
            workers = 3
            commit_interval = '20ms'
            [ours]
            rate = 2
            fields.event_time = 'ts'
            windows.long = '1d'
        ",
        env: &[
            ("HOME", "/root"),
            ("SALIENCE_KAFKA_BOOTSTRAP", "variable:2"),
            ("SALIENCE_KAFKA_PROPERTIES_SSL_CA_LOCATION", "/etc/ca.pem"),
            ("SALIENCE_SERVICE_WORKERS", "5"),
            ("SALIENCE_SERVICE_IDLE_COMMIT", "false"),
            ("SALIENCE_OURS_FIELDS_USER_ID", "uid"),
            ("SALIENCE_OURS_NAMES", "['x', 'y']"),
            ("SALIENCE_REQUIRE_KAFKA", "1"),
            ("SALIENCE_PORT", "tcp://10.0.0.1:80"),
            ("SALIENCE_SCORER_SERVICE_HOST", "10.0.0.1"),
        ],
        set: &[
            ("service.workers", "7"),
            ("kafka.properties.socket.timeout.ms", "6000"),
            ("ours.windows.short", "2m"),
        ],
    })
    .unwrap();
    assert_eq!((all.kafka.bootstrap.as_str(), all.kafka.prefix.as_str()), ("variable:2", "file."));
    let properties: Vec<(&str, &str)> =
        all.kafka.properties.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        properties,
        [("security.protocol", "ssl"), ("socket.timeout.ms", "6000"), ("ssl.ca.location", "/etc/ca.pem")]
    );
    assert_eq!((all.service.workers, all.service.idle_commit), (7, false));
    assert_eq!(all.service.commit_interval, Millis(20));
    assert_eq!((all.ours.rate, all.ours.wait), (2.0, Millis(30_000)));
    assert_eq!(all.ours.names, ["x", "y"]);
    assert_eq!(all.ours.fields["event_time"], "ts");
    assert_eq!(all.ours.fields["user_id"], "uid");
    assert_eq!(all.ours.windows["short"], Millis(120_000));
    assert_eq!(all.ours.windows["long"], Millis(86_400_000));
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    assert_eq!(
        error("\n[kafka]\nbootstrp = 'x'\n"),
        "DIR/salience.toml:3: unknown key `kafka.bootstrp`; did you mean `kafka.bootstrap`?"
    );
    assert_eq!(
        error("[servce]\nworkers = 1\n"),
        "DIR/salience.toml:1: unknown key `servce`; did you mean `service`?"
    );
    assert_eq!(
        error("workers = 1\n"),
        "DIR/salience.toml:1: unknown key `workers`; did you mean `service.workers`?"
    );
    assert_eq!(error("zzz = 1\n"), "DIR/salience.toml:1: unknown key `zzz`");
    assert_eq!(
        error("[service.workers]\nmany = 1\n"),
        "DIR/salience.toml:1: `service.workers` is a table; expected a whole number, such as 1"
    );
    assert_eq!(
        error_of_variable("SALIENCE_KAFKA_BOOTSTRP", "x"),
        "unknown variable SALIENCE_KAFKA_BOOTSTRP; did you mean `SALIENCE_KAFKA_BOOTSTRAP`?"
    );
    let set = Case { file: "", env: &[], set: &[("service.worker", "2")] };
    assert_eq!(
        load_case(&set).unwrap_err(),
        "--set: unknown key `service.worker`; did you mean `service.workers`?"
    );
}

#[test]
fn wrong_kinds_name_key_source_found_and_expected() {
    assert_eq!(
        error("[service]\nworkers = 'two'\n"),
        "DIR/salience.toml:2: `service.workers` is the text \"two\"; expected a whole number, such as 1"
    );
    let bad = error("[service]\nworkers = -2\n");
    assert!(bad.starts_with("DIR/salience.toml:2: `service.workers`") && bad.contains("-2"), "{bad}");
    assert_eq!(
        error("[service]\ncommit_interval = 50\n"),
        "DIR/salience.toml:2: `service.commit_interval` is the whole number 50; expected a duration in quotes, \
         such as \"50ms\""
    );
    let bad = error("[service]\ncommit_interval = '50 parsecs'\n");
    assert!(
        bad.starts_with("DIR/salience.toml:2: `service.commit_interval`: \"50 parsecs\" is not a duration"),
        "{bad}"
    );
    let bad = error("[service]\ndelivery = 'at-most-once'\n");
    assert!(bad.starts_with("DIR/salience.toml:2: `service.delivery`: unknown variant"), "{bad}");
    assert!(bad.contains("exactly-once"), "{bad}");
    assert_eq!(
        error_of_variable("SALIENCE_SERVICE_WORKERS", "many"),
        "the variable SALIENCE_SERVICE_WORKERS: `service.workers` is the text \"many\"; expected a whole number, \
         such as 1"
    );
    assert_eq!(
        error("[service]\nworkers = 0\n"),
        "DIR/salience.toml:2: `service.workers`: must be 1 to 1024"
    );
    assert_eq!(
        error("[topics]\nraw_retention = '0s'\n"),
        "DIR/salience.toml:2: `topics.raw_retention`: must be longer than nothing, or \"forever\""
    );
    let bad = error("[admin]\nlisten = 'localhost'\n");
    assert!(bad.starts_with("DIR/salience.toml:2: `admin.listen`: must be an address and a port"), "{bad}");
    let bad = error("[kafka]\nbootstrap = \n");
    assert!(bad.starts_with("DIR/salience.toml: not TOML: "), "{bad}");
    let missing = load::<Sections>(DEFAULTS, &[PathBuf::from("/nowhere.toml")], std::iter::empty(), &[]);
    assert!(missing.unwrap_err().to_string().starts_with("/nowhere.toml: cannot be read: "));
}

#[test]
fn properties_that_conflict_or_are_ours_are_refused() {
    assert_eq!(
        error("[kafka.consumer]\n'enable.auto.commit' = true\n"),
        "DIR/salience.toml:2: `kafka.consumer.enable.auto.commit`: `enable.auto.commit` cannot be set: offsets \
         are committed with the outputs that they stand for"
    );
    let conflict =
        error("[kafka]\ngroup_protocol = 'consumer'\n[kafka.properties]\n'session.timeout.ms' = 9000\n");
    assert_eq!(
        conflict,
        "DIR/salience.toml:4: `kafka.properties.session.timeout.ms`: `session.timeout.ms` cannot be set with \
         kafka.group_protocol = \"consumer\" (KIP-848): the broker decides it; remove one of the two"
    );
    let fine = Case {
        file: "[kafka]\ngroup_protocol = 'classic'\n[kafka.consumer]\n'session.timeout.ms' = 9000\n",
        env: &[],
        set: &[],
    };
    load_case(&fine).unwrap();
}

#[test]
fn secrets_are_never_shown() {
    let case = Case {
        file: "[kafka.properties]\n'sasl.password' = 'hush'\n'ssl.key.pem' = 'hush'\n'ssl.key.location' = '/k'\n",
        env: &[("SALIENCE_KAFKA_PROPERTIES_SSL_KEY_PASSWORD", "hush")],
        set: &[("kafka.producer.sasl.oauthbearer.client.secret", "hush")],
    };
    let resolved = layers(&case).unwrap();
    let shown = format!("{}{:?}", resolved.show(), resolved.section::<Kafka>("kafka").unwrap());
    assert!(!shown.contains("hush"), "{shown}");
    assert!(shown.contains("/k"), "{shown}");
    assert_eq!(resolved.section::<Kafka>("kafka").unwrap().properties["sasl.password"], "hush");
    let wrong =
        load_case(&Case { file: "[kafka.properties]\n'sasl.password' = ['hush']\n", env: &[], set: &[] });
    let wrong = wrong.unwrap_err();
    assert!(wrong.contains("sasl.password") && !wrong.contains("hush"), "{wrong}");
}

#[test]
fn what_is_shown_says_where_it_came_from_and_is_toml() {
    let case = Case {
        file: "[kafka]\nprefix = 'eu.'\n",
        env: &[("SALIENCE_SERVICE_WORKERS", "5")],
        set: &[("kafka.consumer.fetch.max.bytes", "1000")],
    };
    let resolved = layers(&case).unwrap();
    let shown = resolved.show();
    let line = |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    assert!(line("prefix").contains("\"eu.\" # from /") && line("prefix").ends_with("salience.toml:2"));
    assert_eq!(line("workers"), "workers = 5 # from the variable SALIENCE_SERVICE_WORKERS");
    assert_eq!(line("\"fetch.max.bytes\""), "\"fetch.max.bytes\" = \"1000\" # from --set");
    assert_eq!(line("delivery"), "delivery = \"exactly-once\"");
    let again: toml::Table = shown.parse().unwrap();
    assert_eq!(&again, resolved.table());
}

#[test]
fn what_is_shown_is_toml_whatever_a_variable_is_called() {
    const ENV: &[(&str, &str)] = &[("SALIENCE_KAFKA_PROPERTIES_A\nworkers\u{7f}", "x")];
    let resolved = layers(&Case { file: "", env: ENV, set: &[] }).unwrap();
    let again: toml::Table = resolved.show().parse().unwrap();
    assert_eq!(&again, resolved.table());
}
