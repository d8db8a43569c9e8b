//! What may be declared: limits, windows, kinds, and the columns that follow from them.
//!
//! Knows the config and the plan's vocabulary; every refusal names its key and the cure.

use schemas::duration::Millis;
use schemas::vector::{Scale, VectorField};

use crate::config::{Config, EntityConfig};
use crate::plan::{
    Context, DeclarationError, ENTITIES, Field, KindSet, SHARED, USER, USER_CAMPAIGN, USER_CATEGORY,
};
use crate::rates::{self, Rates};

/// No window and no horizon is longer, ms.
const LONGEST_WINDOW_MS: i64 = 400 * 86_400_000;

/// Refuses numbers out of range.
pub(crate) fn check_limits(config: &Config) -> Result<(), DeclarationError> {
    let ensure = |good: bool, key: &str, what: String, cure: &str| {
        if good { Ok(()) } else { Err(DeclarationError::new(format!("features.{key}"), what, cure)) }
    };
    ensure(
        config.exact_events >= 64 && config.exact_events <= 65_536,
        "exact_events",
        format!("{} is out of range", config.exact_events),
        "write 64 to 65536",
    )?;
    ensure(
        config.last_n <= config.exact_events / 4,
        "last_n",
        format!("{} behaviours cannot be kept from {} exact events", config.last_n, config.exact_events),
        "write at most a quarter of exact_events, or raise that",
    )?;
    ensure(
        config.timers_per_record > 0,
        "timers_per_record",
        "0 would never write a label".into(),
        "write at least 1, as in 256",
    )?;
    ensure(
        config.dedupe_events > 0,
        "dedupe_events",
        "0 would find no repeat".into(),
        "write at least 1, as in 4096",
    )?;
    for (key, span) in [
        ("click_window", config.click_window),
        ("purchase_window", config.purchase_window),
        ("dedupe_horizon", config.dedupe_horizon),
        ("aggregate_horizon", config.aggregate_horizon),
    ] {
        ensure(
            span.0 > 0 && span.0 <= LONGEST_WINDOW_MS,
            key,
            format!("{span} is out of range"),
            "write more than nothing and at most 400d, as in \"30m\"",
        )?;
    }
    ensure(
        config.purchase_window >= config.click_window,
        "purchase_window",
        format!("{} is shorter than click_window ({})", config.purchase_window, config.click_window),
        "write at least click_window",
    )
}

/// The tile of shared entities, ms: one of `sizes`, which nest.
pub(crate) fn check_tile(config: &Config, sizes: &[i64]) -> Result<i64, DeclarationError> {
    let tile = config.shared_tile;
    if sizes.contains(&tile.0) {
        return Ok(tile.0);
    }
    let known: Vec<String> = sizes.iter().map(|&size| Millis(size).to_string()).collect();
    let what = format!("{tile} is no width of tiles");
    Err(DeclarationError::new("features.shared_tile", what, format!("write one of {}", known.join(", "))))
}

/// The windows of an entity, ascending, ms.
pub(crate) fn windows_of(
    config: &Config,
    name: &str,
    entity: &EntityConfig,
) -> Result<Vec<i64>, DeclarationError> {
    let key = match entity.windows.as_slice() {
        [] => "features.windows".to_owned(),
        _ => format!("features.entities.{name}.windows"),
    };
    let own = if entity.windows.is_empty() { &config.windows } else { &entity.windows };
    let windows = check_windows(&key, own)?;
    let is_shared = ENTITIES[SHARED..].contains(&name);
    match windows.first() {
        Some(&shortest) if is_shared && shortest < config.shared_tile.0 => Err(DeclarationError::new(
            format!("features.entities.{name}.windows"),
            format!("{} is shorter than features.shared_tile ({})", Millis(shortest), config.shared_tile),
            "name windows of at least that, or a smaller tile",
        )),
        _ => Ok(windows),
    }
}

/// The windows, ascending, ms.
pub(crate) fn check_windows(key: &str, windows: &[Millis]) -> Result<Vec<i64>, DeclarationError> {
    if windows.is_empty() || windows.len() > 16 {
        let what = format!("{} windows", windows.len());
        return Err(DeclarationError::new(key, what, "write 1 to 16, as in [\"1h\", \"1d\"]"));
    }
    if let Some(odd) = windows.iter().find(|w| w.0 < 1_000 || w.0 > LONGEST_WINDOW_MS) {
        let what = format!("a window of {odd} is out of range");
        return Err(DeclarationError::new(key, what, "write 1s to 400d"));
    }
    let mut sorted: Vec<i64> = windows.iter().map(|w| w.0).collect();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        let what = format!("the window {} stands twice", Millis(twice[0]));
        return Err(DeclarationError::new(key, what, "write it once"));
    }
    Ok(sorted)
}

/// Collects the numbers of a vector, in order.
pub(crate) struct Layout {
    pub(crate) fields: Vec<Field>,
    pub(crate) columns: Vec<VectorField>,
}

impl Layout {
    fn push(&mut self, field: Field, name: String, scale: Scale, doc: String) {
        self.fields.push(field);
        self.columns.push(VectorField { name, scale, doc });
    }

    /// Adds what is declared of an entity with these windows, which are among `kept`.
    pub(crate) fn entity(
        &mut self,
        entity: usize,
        config: &EntityConfig,
        own: &[i64],
        kept: &[i64],
        rates: &Rates,
    ) -> Result<(), DeclarationError> {
        let name = ENTITIES[entity];
        let of = match entity {
            USER => "the user".to_owned(),
            USER_CAMPAIGN => "the user under the view's campaign".to_owned(),
            USER_CATEGORY => "the user on the view's category".to_owned(),
            _ => format!("the view's {name}, all users together as of the version that the vector names"),
        };
        let place = |w: &i64| Some((kept.iter().position(|known| known == w)?, Millis(*w).to_string()));
        let own: Vec<(usize, String)> = own.iter().filter_map(place).collect();
        for kinds in parse_kinds(name, "count", &config.count)? {
            for (window, label) in &own {
                self.push(
                    Field::Count { entity, kinds, window: *window },
                    format!("{name}_{}s_{label}", kinds.name()),
                    Scale::Log,
                    format!("{}s of {of} in the last {label}", kinds.name()),
                );
            }
        }
        for kinds in parse_valued(name, "sum", &config.sum)? {
            for (window, label) in &own {
                self.push(
                    Field::Sum { entity, kinds, window: *window },
                    format!("{name}_{}_value_{label}", kinds.name()),
                    Scale::Log,
                    format!("value of {}s of {of} in the last {label}", kinds.name()),
                );
            }
        }
        for kinds in parse_valued(name, "mean", &config.mean)? {
            for (window, label) in &own {
                self.push(
                    Field::Mean { entity, kinds, window: *window },
                    format!("{name}_{}_mean_value_{label}", kinds.name()),
                    Scale::Log,
                    format!(
                        "mean value of {}s of {of} in the last {label}; missing without any",
                        kinds.name()
                    ),
                );
            }
        }
        for (window, label) in own.iter().filter(|_| config.rate) {
            // Those of all windows were compiled.
            let Some(rate) = rates.find(entity, *window) else { continue };
            let doc = rates::doc(config, &of, Millis(kept[*window]));
            self.push(Field::Rate { entity, rate }, format!("{name}_ctr_{label}"), Scale::Linear, doc);
        }
        for kinds in parse_kinds(name, "seconds_since", &config.seconds_since)? {
            self.push(
                Field::Since { entity, kinds },
                format!("{name}_seconds_since_{}", kinds.name()),
                Scale::Log,
                format!("seconds since the last {} of {of}; missing without any", kinds.name()),
            );
        }
        Ok(())
    }

    /// Adds the numbers of the moment, and the view's own.
    pub(crate) fn context(&mut self, config: &Config) -> Result<(), DeclarationError> {
        for (at, name) in config.context.iter().enumerate() {
            let found = Context::ALL.iter().find(|(known, ..)| known == name);
            let Some((known, context, doc)) = found else {
                let names: Vec<_> = Context::ALL.iter().map(|(known, ..)| *known).collect();
                let cure = format!("write some of {}", names.join(", "));
                return Err(DeclarationError::new("features.context", format!("{name:?} is unknown"), cure));
            };
            if config.context[..at].contains(name) {
                let what = format!("{name:?} stands twice");
                return Err(DeclarationError::new("features.context", what, "write it once"));
            }
            let scale = if *context == Context::Price { Scale::Log } else { Scale::Linear };
            self.push(Field::Context(*context), format!("context_{known}"), scale, (*doc).to_owned());
        }
        for (at, name) in config.numbers.iter().enumerate() {
            let valid = !name.is_empty()
                && name.len() <= 64
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if !valid || config.numbers[..at].contains(name) {
                return Err(DeclarationError::new(
                    "features.numbers",
                    format!("{name:?} is no column name, or stands twice"),
                    "write each name once, in lower case letters, digits and underscores",
                ));
            }
            let doc = format!("the number {name} of the view; missing where it has none");
            self.push(Field::Number(at), format!("number_{name}"), Scale::Linear, doc);
        }
        Ok(())
    }
}

fn parse_kinds(entity: &str, aggregation: &str, kinds: &[String]) -> Result<Vec<KindSet>, DeclarationError> {
    let key = || format!("features.entities.{entity}.{aggregation}");
    let mut parsed = Vec::with_capacity(kinds.len());
    for kind in kinds {
        let Some((_, set)) = KindSet::ALL.iter().find(|(name, _)| name == kind) else {
            let what = format!("{kind:?} is no kind of event");
            let cure = "write view, click, cart, purchase or refund";
            return Err(DeclarationError::new(key(), what, cure));
        };
        if parsed.contains(set) {
            return Err(DeclarationError::new(key(), format!("{kind:?} stands twice"), "write it once"));
        }
        parsed.push(*set);
    }
    Ok(parsed)
}

fn parse_valued(entity: &str, aggregation: &str, kinds: &[String]) -> Result<Vec<KindSet>, DeclarationError> {
    let parsed = parse_kinds(entity, aggregation, kinds)?;
    if let Some(bare) = parsed.iter().find(|kinds| !kinds.has_value()) {
        return Err(DeclarationError::new(
            format!("features.entities.{entity}.{aggregation}"),
            format!("a {} has no value to add up", bare.name()),
            "write view, purchase or refund, or count it instead",
        ));
    }
    Ok(parsed)
}
