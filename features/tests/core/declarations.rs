//! What the config may declare, and what is said of what it may not.

use std::collections::BTreeSet;

use features::{Config, EntityConfig, Plan};
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
    let text: Vec<String> = tiles.iter().map(|(w, t)| format!("{w}/{t}")).collect();
    assert_eq!(text, ["1m/1s", "10m/10s", "1h/1m", "1d/30m", "7d/3h", "30d/12h"]);
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
        (refused(|c| c.windows.push(Millis(5))), "features.windows", "1s to 400d"),
        (refused(|c| c.windows.push(Millis(60_000))), "1m stands twice", "write it once"),
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
