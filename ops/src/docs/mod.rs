//! What the declared features are, as Markdown: `salience features docs`.
//!
//! All of it follows from the configuration; nothing is read.

mod bounds;
mod windows;

use std::fmt::{self, Write as _};

use anyhow::Result;
use features::{Column, Made, Plan};
use model::Encoder;
use schemas::vector::Scale;

use crate::config::Config;

/// The document.
///
/// # Errors
/// Declarations that make no sense.
pub fn markdown(config: &Config) -> Result<String> {
    let plan = Plan::compile(&config.features)?;
    let encoder = Encoder::new(&plan.vector_schema(), &config.model.encoder);
    let mut out = String::new();
    write(&mut out, &plan, &encoder)?;
    Ok(out)
}

fn write(out: &mut String, plan: &Plan, encoder: &Encoder) -> fmt::Result {
    let columns = plan.columns();
    writeln!(out, "# Features\n")?;
    writeln!(
        out,
        "Written by `salience features docs` from the configuration. Each impression makes one vector of {} \
         numbers, as of its own event time `t`, from what had arrived before it. A column of that name \
         stands in the table `features`; null is missing.\n\nVector schema `{:016x}`, declarations `{:016x}`.\n",
        columns.len(),
        plan.schema_fingerprint(),
        plan.fingerprint(),
    )?;
    entities(out, &columns)?;
    windows::write(out, plan, &columns)?;
    bounds::write(out, &columns)?;
    state(out, plan, &columns)?;
    inputs(out, encoder)
}

/// What an entity's events are.
fn whose(entity: &str) -> &'static str {
    match entity {
        "user" => "Events of the view's user.",
        "user_campaign" => "Events of the view's user under the view's campaign; missing without a campaign.",
        "user_category" => {
            "Events of the view's user on items of the view's category; missing without a category."
        }
        "user_item" => "Events of the view's user on the view's item; missing without an item.",
        "user_brand" => "Events of the view's user on items of the view's brand; missing without a brand.",
        "user_placement" => "Events of the view's user in the view's placement; missing without a placement.",
        "item" => "Events of all users on the view's item.",
        "campaign" => "Events of all users under the view's campaign.",
        "category" => "Events of all users on items of the view's category.",
        "brand" => "Events of all users on items of the view's brand.",
        "placement" => "Events of all users in the view's placement.",
        "item_placement" => "Events of all users on the view's item in the view's placement.",
        "campaign_placement" => "Events of all users under the view's campaign in the view's placement.",
        _ => "",
    }
}

fn entity_of(column: &Column) -> Option<&'static str> {
    match column.made {
        Made::Window { entity, .. } | Made::Last { entity, .. } | Made::Decayed { entity, .. } => {
            Some(entity)
        }
        Made::View => None,
    }
}

fn entities(out: &mut String, columns: &[Column]) -> fmt::Result {
    writeln!(out, "## Entities\n")?;
    for of_entity in columns.chunk_by(|a, b| entity_of(a) == entity_of(b)) {
        match of_entity.first().and_then(entity_of) {
            Some(entity) => writeln!(out, "### {entity}\n\n{}\n", whose(entity))?,
            None => writeln!(
                out,
                "## Context\n\nNumbers of the view itself; they need no state and are exact.\n"
            )?,
        }
        writeln!(out, "| column | scale | what it is |\n|---|---|---|")?;
        for Column { field, .. } in of_entity {
            let scale = match field.scale {
                Scale::Log => "log",
                Scale::Linear => "linear",
            };
            writeln!(out, "| `{}` | {scale} | {} |", field.name, field.doc.replace('|', "\\|"))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn state(out: &mut String, plan: &Plan, columns: &[Column]) -> fmt::Result {
    let config = plan.config();
    let longest = plan.retention();
    writeln!(out, "## State\n\n| of | kept |\n|---|---|")?;
    writeln!(
        out,
        "| a user's events | {longest} (the longest window): the newest {} or so one by one, older ones in \
         tiles |",
        config.exact_events
    )?;
    writeln!(
        out,
        "| a user's behaviours | the last {} of them go into the vector, newest first |",
        config.last_n
    )?;
    let by_content = if config.dedupe_by_content { ", or of the content where there is none" } else { "" };
    writeln!(
        out,
        "| repeats | ids of events{by_content}, for {} of event time, at most {} a user |",
        config.dedupe_horizon, config.dedupe_events
    )?;
    writeln!(
        out,
        "| labels | each view for {}: a click within {} answers it, a purchase within {0} is credited to it |",
        config.purchase_window, config.click_window
    )?;
    writeln!(
        out,
        "| hourly sums | an hour can be corrected for {} after its end |",
        config.aggregate_horizon
    )?;
    if columns.iter().any(is_shared) {
        writeln!(
            out,
            "| what users share | tiles of {} until the event clock has passed them; in the stage `merge` \
             tiles for the longest window of each entity; windows of every key that had an event in them |",
            config.shared_tile
        )?;
    }
    writeln!(out)
}

fn is_shared(column: &Column) -> bool {
    matches!(
        column.made,
        Made::Window { shared: true, .. }
            | Made::Last { shared: true, .. }
            | Made::Decayed { shared: true, .. }
    )
}

fn inputs(out: &mut String, encoder: &Encoder) -> fmt::Result {
    writeln!(
        out,
        "## Encoder inputs\n\nWhat the model reads of a vector (`model.encoder`), a token each. Of scale `log` \
         the model sees log(1 + x), then both scales are standardised; missing numbers are masked.\n\n\
         | token | reads |\n|---|---|"
    )?;
    let names = encoder.number_names();
    for group in encoder.groups() {
        let read: Vec<String> = group.columns.iter().map(|at| format!("`{}`", names[*at])).collect();
        writeln!(out, "| `{}` | {} |", group.name, read.join(", "))?;
    }
    for table in encoder.tables() {
        let rows = match table.dictionary {
            Some(_) => "a dictionary fitted to the training examples".to_owned(),
            None => format!("hashed to {} rows", table.rows),
        };
        writeln!(out, "| `{}` (id) | {rows} |", table.name)?;
    }
    let config = encoder.config();
    if config.max_behaviours > 0 {
        writeln!(
            out,
            "| behaviours | the last {} of them: item, campaign, category, kind, age |",
            config.max_behaviours
        )?;
    }
    if config.content_embedding > 0 {
        writeln!(out, "| content embedding | {} numbers of the item |", config.content_embedding)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed setup is a failed test")]
    use super::*;
    use crate::config::Sources;

    fn of(overrides: &[(&str, &str)]) -> Result<String> {
        let overrides =
            overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        markdown(&Sources { overrides, ..Sources::default() }.resolve()?.extract()?)
    }

    #[test]
    fn every_declared_column_has_a_row_with_its_sentence() {
        let config: Config = Sources::default().resolve().unwrap().extract().unwrap();
        let text = markdown(&config).unwrap();
        for field in Plan::compile(&config.features).unwrap().vector_schema().fields {
            let row = text.lines().filter(|line| line.starts_with(&format!("| `{}` |", field.name)));
            assert!(row.clone().any(|row| row.ends_with(&format!("| {} |", field.doc))), "{}", field.name);
        }
        for heading in ["### user", "### item", "## Context", "## State", "## Encoder inputs"] {
            assert!(text.lines().any(|line| line == heading), "{heading} is missing");
        }
    }

    #[test]
    fn what_is_rounded_is_said_by_how_much() {
        let text = of(&[("features.windows", r#"["90s", "10h"]"#)]).unwrap();
        // At most 64 tiles of a window: 5 s for 90 s, 10 m for 10 h.
        assert!(text.contains("| 90s | 5s | less than 5s |"), "{text}");
        assert!(text.contains("| 10h | 10m | less than 10m |"), "{text}");
    }

    /// One of everything, as a file has it.
    const EVERYTHING: &str = r#"
        [features.filters.dear]
        kinds = ["view", "purchase"]
        min = 100
        brand = ["a", "b"]
        [features.entities.user]
        windows = ["1h", "1d", "tumbling:1d", "hopping:1d/1h", "session:30m"]
        count = ["view", "dear"]
        min = ["purchase"]
        max = ["dear"]
        variance = ["purchase"]
        first = ["view"]
        last = ["view"]
        mean_gap = ["view"]
        decayed = ["click", "dear"]
        half_lives = ["30m"]
        trend = ["view"]
        trend_windows = ["1h/1d"]
        distinct = ["view.item", "dear.brand"]
        quantile = ["purchase"]
        quantile_levels = [0.5, 0.99]
        top = ["view.category"]
        top_k = 2
        [features.entities.user_item]
        count = ["view"]
        [features.entities.user_brand]
        rate = true
        [features.entities.user_placement]
        seconds_since = ["click"]
        [features.entities.category]
        count = ["view", "dear"]
        max = ["dear"]
        distinct = ["view.user"]
        decayed = ["click"]
        half_lives = ["1h"]
        windows = ["tumbling:1d", "7d"]
        [features.entities.brand]
        rate = true
        [features.entities.placement]
        count = ["click"]
        [features.entities.item_placement]
        rate = true
        rate_parent = "placement"
    "#;

    fn written(text: &str) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("salience.toml");
        std::fs::write(&path, text).unwrap();
        Sources { files: vec![path], ..Sources::default() }.load()
    }

    #[test]
    fn one_of_everything_is_declared_in_a_file_and_documented() {
        let config = written(EVERYTHING).unwrap();
        let text = markdown(&config).unwrap();
        for column in [
            "user_views_tumbling_1d",
            "user_dears_hopping_1d_1h",
            "user_views_session_30m",
            "user_purchase_min_value_1h",
            "user_dear_max_value_1d",
            "user_purchase_variance_value_1d",
            "user_view_first_value_session_30m",
            "user_view_last_value_1d",
            "user_view_mean_gap_1h",
            "user_dears_decayed_30m",
            "user_views_trend_1h_1d",
            "user_view_distinct_item_1d",
            "user_dear_distinct_brand_1d",
            "user_purchase_p99_value_1d",
            "user_view_top2_category_share_1d",
            "user_view_top_category_rank_1d",
            "user_item_views_1h",
            "user_brand_ctr_1d",
            "user_placement_seconds_since_click",
            "category_views_tumbling_1d",
            "category_dears_7d",
            "category_dear_max_value_7d",
            "category_view_distinct_user_tumbling_1d",
            "category_clicks_decayed_1h",
            "brand_ctr_1h",
            "placement_clicks_1d",
            "item_placement_ctr_1h",
        ] {
            assert!(text.contains(&format!("| `{column}` |")), "{column} is missing");
        }
        for bound in [
            "| session:30m | none | nothing |",
            "| category | tumbling:1d | 1d | nothing |",
            "3.3 %",
            "added up in 2^-32 of an event",
        ] {
            assert!(text.contains(bound), "{bound} is missing: {text}");
        }
        assert_eq!(config.features.entities["user"].rate_weight.to_bits(), 20_f64.to_bits(), "the default's");
    }

    #[test]
    fn a_wrong_declaration_is_refused_with_its_line() {
        let said = |from: &str, to: &str| {
            let text = EVERYTHING.replace(from, to);
            assert_ne!(text, EVERYTHING);
            written(&text).unwrap_err().to_string()
        };
        let unknown = said("mean_gap = ", "mean_gaps = ");
        assert!(unknown.contains(":14: unknown key `features.entities.user.mean_gaps`"), "{unknown}");
        assert!(unknown.contains("did you mean `features.entities.user.mean_gap`?"), "{unknown}");
        let kind = said("[\"click\", \"dear\"]", "[\"click\",\n\"deer\"]");
        assert!(kind.contains(":16: features.entities.user.decayed[1]: \"deer\""), "{kind}");
        assert!(kind.contains("did you mean \"dear\"?"), "{kind}");
        let window = said("session:30m", "sesion:30m");
        assert!(
            window.contains("features.entities.user.windows") && window.contains("session:30m"),
            "{window}"
        );
        assert!(window.contains("salience.toml:7"), "{window}");
        let entity = said("entities.user_brand", "entities.user_brnd");
        assert!(entity.contains("did you mean `features.entities.user_brand"), "{entity}");
    }

    #[test]
    fn declarations_that_make_no_sense_are_refused_with_their_key() {
        let said = of(&[("features.last_n", "1000000")]).unwrap_err().to_string();
        assert!(said.contains("features.last_n"), "{said}");
    }
}
