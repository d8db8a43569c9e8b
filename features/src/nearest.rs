//! The name that was meant.

/// `did you mean "view"? ` where a name is much like one of those known.
pub(crate) fn did_you_mean(name: &str, known: &[&str]) -> String {
    let likeness = |known: &&str| strsim::jaro_winkler(name, known);
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let best = best.filter(|best| likeness(best) > 0.75);
    best.map_or_else(String::new, |best| format!("did you mean {best:?}? "))
}
