//! What the config may declare, and what is said of what it may not.

use std::collections::BTreeSet;

use features::{Config, EntityConfig, FilterConfig, Made, Plan, Window};
use schemas::duration::Millis;

fn refused(change: impl FnOnce(&mut Config)) -> String {
    let mut config = Config::default();
    change(&mut config);
    Plan::compile(&config).expect_err("refused").to_string()
}

#[test]
fn the_defaults_compile_to_unique_column_names() {
    let plan = Plan::compile(&Config::default()).unwrap();
    let schema = plan.vector_schema();
    let names: BTreeSet<&str> = schema.fields.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names.len(), schema.fields.len());
    for name in [
        "user_views_1m",
        "user_purchase_value_30d",
        "user_purchase_mean_value_7d",
        "user_ctr_1d",
        "user_seconds_since_click",
        "user_campaign_ctr_1d",
        "user_category_clicks_7d",
        "context_hour_sin",
        "context_price",
    ] {
        assert!(names.contains(name), "{name} of {names:?}");
    }
    assert!(
        names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
    );
    assert!(schema.fields.iter().all(|f| !f.doc.is_empty()));
}

#[test]
fn every_window_has_at_most_64_tiles() {
    let tiles = Plan::compile(&Config::default()).unwrap().tiles();
    let text: Vec<String> = tiles.iter().map(|(w, t, _)| format!("{w}/{t}")).collect();
    let want = ["1m/1s", "10m/10s", "1h/1m", "1d/30m", "3d/3h", "7d/3h", "30d/12h"];
    assert!(want.iter().all(|tile| text.iter().any(|text| text == tile)), "{text:?}");
    let spans = Plan::compile(&Config::default()).unwrap().tiles();
    let most = spans.iter().map(|(window, tile, _)| -window.after_ms(0).unwrap() / tile.0).max();
    assert!(most <= Some(64), "{most:?}");
}

#[test]
fn any_change_of_meaning_changes_the_fingerprint() {
    let of = |config: &Config| Plan::compile(config).unwrap().fingerprint();
    let config = Config::default();
    let mut others = vec![config.clone(); 3];
    others[0].click_window = Millis(1);
    others[1].exact_events += 1;
    others[2].entities.get_mut("user").unwrap().rate_prior = 0.5;
    assert!(others.iter().all(|other| of(other) != of(&config)));
    assert_eq!(of(&config), of(&config.clone()));
}

#[test]
fn a_wrong_declaration_names_its_key_and_the_cure() {
    let cases = [
        (
            refused(|c| {
                c.entities.insert("shop".into(), EntityConfig::default());
            }),
            "features.entities.shop",
            "user_campaign",
        ),
        (refused(|c| c.windows.clear()), "features.windows", "1 to 16"),
        (refused(|c| c.windows.push(Millis(5).into())), "features.windows[6]", "1s to 400d"),
        (refused(|c| c.windows.push(Millis(60_000).into())), "1m stands twice", "write it once"),
        (
            refused(|c| c.entities.get_mut("user").unwrap().count.push("look".into())),
            "features.entities.user.count",
            "view, click",
        ),
        (
            refused(|c| c.entities.get_mut("user").unwrap().sum.push("click".into())),
            "features.entities.user.sum",
            "count it",
        ),
        (refused(|c| c.entities.get_mut("user").unwrap().rate_weight = 0.0), "rate_weight", "positive"),
        (refused(|c| c.entities.get_mut("user").unwrap().rate_prior = f64::NAN), "rate_prior", "0 to 1"),
        (
            refused(|c| c.entities.get_mut("user").unwrap().rate_parent = "shop".into()),
            "features.entities.user.rate_parent",
            "campaign",
        ),
        (
            refused(|c| {
                c.entities.get_mut("item").unwrap().rate_parent = "campaign".into();
                c.entities.get_mut("campaign").unwrap().rate_parent = "item".into();
            }),
            "would be its own ancestor",
            "without a parent",
        ),
        (
            refused(|c| {
                c.entities.get_mut("item").unwrap().rate_parent = "campaign".into();
                let silent = EntityConfig { rate_weight: 1.0, ..EntityConfig::default() };
                c.entities.insert("campaign".into(), silent);
            }),
            "features.entities.item.rate_parent",
            "declare its rate",
        ),
        (refused(|c| c.context.push("moon".into())), "features.context", "weekday"),
        (refused(|c| c.numbers.push("Preis €".into())), "features.numbers", "lower case"),
        (refused(|c| c.last_n = 100), "features.last_n", "quarter"),
        (refused(|c| c.exact_events = 1), "features.exact_events", "64"),
        (refused(|c| c.timers_per_record = 0), "features.timers_per_record", "at least 1"),
        (refused(|c| c.click_window = Millis(0)), "features.click_window", "30m"),
        (refused(|c| c.purchase_window = Millis(60_000)), "features.purchase_window", "click_window"),
        (
            refused(|c| {
                c.entities.clear();
                c.context.clear();
            }),
            "features.entities",
            "declare",
        ),
    ];
    for (message, key, cure) in &cases {
        assert!(message.contains(key) && message.contains(cure), "{message}");
    }
}

/// What is said of the user's declarations after a change.
fn of_user(change: impl FnOnce(&mut EntityConfig)) -> String {
    refused(|config| change(config.entities.get_mut("user").unwrap()))
}

#[test]
fn every_aggregation_says_what_was_meant_and_why_it_cannot_be_had() {
    let strings = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let window = |text: &str| Window::parse(text).unwrap();
    let cases = [
        (
            of_user(|e| e.min = strings(&["view", "click"])),
            "features.entities.user.min[1]",
            "a click has no value",
        ),
        (of_user(|e| e.count = strings(&["view", "purchas"])), "user.count[1]", "did you mean \"purchase\"?"),
        (of_user(|e| e.mean_gap = strings(&["view", "view"])), "user.mean_gap[1]", "stands twice"),
        (of_user(|e| e.distinct = strings(&["item"])), "user.distinct[0]", "as in \"view.item\""),
        (of_user(|e| e.distinct = strings(&["view.itm"])), "user.distinct[0]", "did you mean \"item\"?"),
        (of_user(|e| e.top = strings(&["vew.item"])), "user.top[0]", "did you mean \"view\"?"),
        (of_user(|e| e.top_k = 0), "features.entities.user.top_k", "1 to 16"),
        (of_user(|e| e.quantile_levels = vec![0.5, 1.5]), "user.quantile_levels[1]", "0.5 for the median"),
        (of_user(|e| e.quantile_levels = vec![0.5, 0.5]), "user.quantile_levels[1]", "stands twice"),
        (
            of_user(|e| (e.quantile, e.quantile_levels) = (strings(&["purchase"]), vec![])),
            "user.quantile_levels",
            "names no level",
        ),
        (
            of_user(|e| (e.decayed, e.half_lives) = (strings(&["view"]), vec![])),
            "user.half_lives",
            "as in [\"1h\", \"1d\"]",
        ),
        (of_user(|e| e.half_lives = vec![Millis(5)]), "user.half_lives[0]", "1s to 400d"),
        (of_user(|e| e.trend = strings(&["view"])), "user.trend_windows", "names no two windows"),
        (
            of_user(|e| (e.trend, e.trend_windows) = (strings(&["view"]), strings(&["1h/2d"]))),
            "user.trend_windows[0]",
            "(1m, 10m, 1h, 1d, 7d, 30d)",
        ),
        (
            of_user(|e| (e.trend, e.trend_windows) = (strings(&["view"]), strings(&["1d/1h"]))),
            "user.trend_windows[0]",
            "a short and a longer",
        ),
        (
            refused(|c| c.entities.get_mut("item").unwrap().max = strings(&["click"])),
            "features.entities.item.max[0]",
            "a click has no value",
        ),
        (
            refused(|c| c.entities.get_mut("item").unwrap().distinct = strings(&["view.usr"])),
            "features.entities.item.distinct[0]",
            "did you mean \"user\"?",
        ),
        (
            of_user(|e| e.distinct = strings(&["view.user"])),
            "features.entities.user.distinct[0]",
            "all events of user are one user's; declare it of what users share",
        ),
        (
            refused(|c| c.entities.get_mut("item").unwrap().windows = vec![window("session:30m")]),
            "features.entities.item.windows",
            "a run of one user's events, and item is shared",
        ),
        (
            refused(|c| c.entities.get_mut("item").unwrap().windows = vec![window("tumbling:90s")]),
            "features.entities.item.windows",
            "does not begin with a tile",
        ),
        (
            refused(|c| {
                c.windows = vec![window("session:30m")];
                c.entities =
                    [("user".to_owned(), EntityConfig { rate: true, ..EntityConfig::default() })].into();
            }),
            "features.windows",
            "add a window of another kind",
        ),
        (
            refused(|c| {
                c.entities.insert("user_itm".into(), EntityConfig::default());
            }),
            "features.entities.user_itm",
            "did you mean \"user_item\"?",
        ),
    ];
    for (message, key, cure) in &cases {
        assert!(message.contains(key) && message.contains(cure), "{message}");
    }
}

#[test]
fn a_filter_that_cannot_be_meant_is_refused() {
    let of = |name: &str, change: fn(&mut FilterConfig)| {
        let mut filter = FilterConfig { kinds: vec!["view".into()], ..FilterConfig::default() };
        change(&mut filter);
        refused(|config| drop(config.filters.insert(name.into(), filter)))
    };
    let cases = [
        (of("view", |_| {}), "features.filters.view", "no kind of event"),
        (of("Dear!", |_| {}), "features.filters.Dear!", "lower case"),
        (
            of("dear", |f| f.kinds = vec!["view".into(), "clik".into()]),
            "dear.kinds[1]",
            "did you mean \"click\"?",
        ),
        (
            of("dear", |f| (f.min, f.max) = (Some(2.0), Some(1.0))),
            "features.filters.dear",
            "it takes nothing",
        ),
        (of("dear", |f| f.min = Some(f64::NAN)), "features.filters.dear", "finite"),
        (of("dear", |f| f.kinds.clear()), "features.filters.dear", "asks for nothing"),
    ];
    for (message, key, cure) in &cases {
        assert!(message.contains(key) && message.contains(cure), "{message}");
    }
    let many = refused(|config| {
        for at in 0..28 {
            let filter = FilterConfig { min: Some(1.0), ..FilterConfig::default() };
            config.filters.insert(format!("f{at}"), filter);
        }
    });
    assert!(many.contains("features.filters: there are 28 filters"), "{many}");
}

#[test]
fn what_is_not_asked_of_a_users_past_costs_nothing() {
    // Columns as they were before there was more to declare.
    let plan = Plan::compile(&Config::default()).unwrap();
    assert!(plan.columns().iter().all(|column| !matches!(column.made, Made::Decayed { .. })));
    let names: Vec<String> = plan.vector_schema().fields.into_iter().map(|field| field.name).collect();
    assert!(names.iter().all(|name| !name.contains("tumbling") && !name.contains("session")), "{names:?}");
}

#[test]
fn declarations_come_back_from_their_text_and_from_that_of_an_older_build() {
    let mut config = crate::summaries::everything();
    config.entities.get_mut("user").unwrap().rate_prior = 0.1 + 0.2;
    let text = config.to_json().unwrap();
    assert_eq!(Config::from_json(&text).unwrap(), config);
    let mut older: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    older.remove("aggregate_horizon");
    let older = serde_json::to_string(&older).unwrap();
    let default = Config::default().aggregate_horizon;
    assert_eq!(Config::from_json(&older).unwrap(), Config { aggregate_horizon: default, ..config });
    let error = Config::from_json(r#"{"sessions": 1}"#).unwrap_err().to_string();
    assert!(error.contains("sessions"), "{error}");
    assert!(Config::from_json("[1]").is_err());
}
