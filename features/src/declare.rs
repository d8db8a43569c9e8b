//! What may be declared: limits and windows.
//!
//! Knows the config and the plan's vocabulary; every refusal names its key and the cure.

use crate::config::{Config, EntityConfig};
use crate::history::MOST_WINDOWS;
use crate::plan::{DeclarationError, ENTITIES, SHARED};
use crate::shared::plan::chains;
use crate::window::{LONGEST_MS, Window};

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
            span.0 > 0 && span.0 <= LONGEST_MS,
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
    let known: Vec<String> = sizes.iter().map(|&size| schemas::duration::Millis(size).to_string()).collect();
    let what = format!("{tile} is no width of tiles");
    Err(DeclarationError::new("features.shared_tile", what, format!("write one of {}", known.join(", "))))
}

/// The windows of an entity, in the order of its columns.
pub(crate) fn windows_of(
    config: &Config,
    name: &str,
    entity: &EntityConfig,
) -> Result<Vec<Window>, DeclarationError> {
    let own_key = format!("features.entities.{name}.windows");
    let (key, own) = match entity.windows.as_slice() {
        [] => ("features.windows", &config.windows),
        _ => (own_key.as_str(), &entity.windows),
    };
    let windows = check_windows(key, own)?;
    if !ENTITIES[SHARED..].contains(&name) {
        return Ok(windows);
    }
    let tile = config.shared_tile;
    for window in &windows {
        let (what, cure) = match *window {
            Window::Session(_) => (
                format!("{window} is a run of one user's events, and {name} is shared by all"),
                "name windows of another kind",
            ),
            Window::Trailing(span) if span < tile => (
                format!("{window} is shorter than features.shared_tile ({tile})"),
                "name windows of at least that, or a smaller tile",
            ),
            _ if window.fixed().is_some_and(|(_, hop)| hop % tile.0 != 0) => (
                format!("{window} does not begin with a tile of features.shared_tile ({tile})"),
                "name windows that move by a multiple of that, or a smaller tile",
            ),
            _ => continue,
        };
        return Err(DeclarationError::new(own_key, what, cure));
    }
    Ok(chains(&windows).concat())
}

/// By how far back a window reaches, then by kind.
pub(crate) fn order(window: &Window) -> (i64, Window) {
    (window.span_ms().unwrap_or(i64::MAX), *window)
}

/// The windows, in [`order`].
pub(crate) fn check_windows(key: &str, windows: &[Window]) -> Result<Vec<Window>, DeclarationError> {
    if windows.is_empty() || windows.len() > 16 {
        let what = format!("{} windows", windows.len());
        return Err(DeclarationError::new(key, what, "write 1 to 16, as in [\"1h\", \"1d\"]"));
    }
    // What was read from a text is in range; what a program declares need not be.
    let is_odd = |window: &&Window| Window::parse(&window.to_string()).is_err();
    if let Some(at) = windows.iter().position(|window| is_odd(&window)) {
        let what = format!("a window of {} is out of range", windows[at]);
        return Err(DeclarationError::new(format!("{key}[{at}]"), what, "write 1s to 400d"));
    }
    let mut sorted = windows.to_vec();
    sorted.sort_unstable_by_key(order);
    if let Some(at) = (1..sorted.len()).find(|at| sorted[*at] == sorted[at - 1]) {
        let what = format!("the window {} stands twice", sorted[at]);
        return Err(DeclarationError::new(key, what, "write it once"));
    }
    Ok(sorted)
}

/// Whether a read can hold all windows of the user's entities.
pub(crate) fn check_all_windows(windows: &[Window]) -> Result<(), DeclarationError> {
    if windows.len() > MOST_WINDOWS {
        let what = format!("the user's entities have {} windows in all", windows.len());
        let cure = format!("leave at most {MOST_WINDOWS} different ones");
        return Err(DeclarationError::new("features.windows", what, cure));
    }
    if windows.iter().all(|window| window.span_ms().is_none()) {
        let what = "a session alone has no end: what is older than the longest window is forgotten";
        return Err(DeclarationError::new(
            "features.windows",
            what,
            "add a window of another kind, as in \"30d\"",
        ));
    }
    Ok(())
}
