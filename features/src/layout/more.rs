//! The columns of what is read beyond counts and sums by kind.

use schemas::vector::Scale;

use super::{Entity, Layout};
use crate::filters::Taken;
use crate::nearest::did_you_mean;
use crate::plan::{Counted, DeclarationError, Field, SHARED};
use crate::summary::plan::{Of, Range, Reading, What};
use crate::window::Window;

impl Layout {
    /// Aggregations of values, and of the gaps between events.
    pub(super) fn values(&mut self, of: &Entity<'_>) -> Result<(), DeclarationError> {
        let config = of.config;
        let all = [
            ("min", &config.min, Reading::Min, "the least value"),
            ("max", &config.max, Reading::Max, "the greatest value"),
            ("variance", &config.variance, Reading::Variance, "variance of the values"),
            ("first", &config.first, Reading::First, "the first value"),
            ("last", &config.last, Reading::Last, "the last value"),
            ("mean_gap", &config.mean_gap, Reading::Gap, "mean seconds from one to the next"),
        ];
        for (key, list, reading, what) in all {
            let is_gap = reading == Reading::Gap;
            let taken = if is_gap { of.taken(key, list)? } else { of.valued(key, list)? };
            for taken in taken {
                for (window, _, label, when) in &of.windows {
                    let field = self.number(of, (taken.set, What::Stat), Range::Window(*window), reading);
                    let (name, kind) = (of.name(), &taken.name);
                    let column = if is_gap { key.to_owned() } else { format!("{key}_value") };
                    let missing = if is_gap { "of fewer than two" } else { "without any" };
                    let doc = format!("{what} of {kind}s of {} {when}; missing {missing}", of.of);
                    self.push(field, format!("{name}_{kind}_{column}_{label}"), Scale::Log, doc);
                }
            }
        }
        self.quantiles(of)
    }

    fn quantiles(&mut self, of: &Entity<'_>) -> Result<(), DeclarationError> {
        let levels = &of.config.quantile_levels;
        let is_odd = |level: &f64| !(*level > 0.0 && *level <= 1.0);
        if let Some(at) = levels.iter().position(is_odd) {
            let key = format!("quantile_levels[{at}]");
            let what = format!("{} is no share of the values", levels[at]);
            return of.refuse(&key, what, "write more than 0 up to 1, as in 0.5 for the median");
        }
        if let Some(at) = (1..levels.len()).find(|at| levels[..*at].contains(&levels[*at])) {
            let key = format!("quantile_levels[{at}]");
            return of.refuse(&key, format!("{} stands twice", levels[at]), "write it once");
        }
        let taken = of.valued("quantile", &of.config.quantile)?;
        if levels.is_empty() && !taken.is_empty() {
            let what = "it names no level of the quantiles".to_owned();
            return of.refuse("quantile_levels", what, "write some, as in [0.5, 0.9]");
        }
        for taken in taken {
            for level in levels {
                // As a percentage without needless digits: p50, p99_9.
                let percent = (level * 1e6).round() / 1e4;
                let label = percent.to_string().replace('.', "_");
                for (window, _, of_window, when) in &of.windows {
                    let (range, reading) = (Range::Window(*window), Reading::Quantile(*level));
                    let field = self.number(of, (taken.set, What::Values), range, reading);
                    let (name, kind) = (of.name(), &taken.name);
                    let doc = format!(
                        "the least value that {percent} % of the values of {kind}s of {} {when} do not exceed; missing without any",
                        of.of
                    );
                    self.push(field, format!("{name}_{kind}_p{label}_value_{of_window}"), Scale::Log, doc);
                }
            }
        }
        Ok(())
    }

    pub(super) fn decayed(&mut self, of: &Entity<'_>) -> Result<(), DeclarationError> {
        let half_lives = &of.config.half_lives;
        let taken = of.taken("decayed", &of.config.decayed)?;
        if half_lives.is_empty() && !taken.is_empty() {
            let what = "it names no half life".to_owned();
            return of.refuse("half_lives", what, "write some, as in [\"1h\", \"1d\"]");
        }
        for (at, half_life) in half_lives.iter().enumerate() {
            let key = format!("half_lives[{at}]");
            if Window::parse(&half_life.to_string()).is_err() {
                return of.refuse(&key, format!("{half_life} is out of range"), "write 1s to 400d");
            }
            if half_lives[..at].contains(half_life) {
                return of.refuse(&key, format!("{half_life} stands twice"), "write it once");
            }
        }
        for taken in taken {
            for half_life in half_lives {
                let what = What::Decayed { half_life_ms: half_life.0 };
                let field = self.number(of, (taken.set, what), Range::All, Reading::Decayed);
                let (name, kind) = (of.name(), &taken.name);
                let doc = format!("{kind}s of {}, each half as much for every {half_life} since it", of.of);
                self.push(field, format!("{name}_{kind}s_decayed_{half_life}"), Scale::Log, doc);
            }
        }
        Ok(())
    }

    pub(super) fn trends(&mut self, of: &Entity<'_>) -> Result<(), DeclarationError> {
        let taken = of.taken("trend", &of.config.trend)?;
        let pairs = &of.config.trend_windows;
        if pairs.is_empty() && !taken.is_empty() {
            let what = "it names no two windows".to_owned();
            return of.refuse("trend_windows", what, "write some, as in [\"1h/1d\"]");
        }
        for taken in taken {
            for (at, pair) in pairs.iter().enumerate() {
                let key = format!("trend_windows[{at}]");
                let [short, long] = of.trend(&key, pair)?;
                let mut counted = |(window, _): (usize, i64)| match taken.kinds {
                    Some(kinds) if of.is_plain(&taken, None) => Counted::Kinds(kinds, window),
                    _ => {
                        let (cell, range) = ((taken.set, What::Stat), Range::Window(window));
                        Counted::Summary(self.summary(of, cell, range, Reading::Count))
                    }
                };
                let share = short.1 as f64 / long.1 as f64;
                let (short, long) = (counted(short), counted(long));
                let field = Field::Trend { entity: of.at, short, long, share };
                let (name, kind) = (of.name(), &taken.name);
                let (first, second) = pair.split_once('/').unwrap_or_default();
                let (first, second) = (first.trim(), second.trim());
                let doc = format!(
                    "how often {kind}s of {} were in the last {first} against the last {second}: \
                     ({kind}s in {first} + 1) / ({kind}s in {second} x {first} / {second} + 1)",
                    of.of
                );
                self.push(field, format!("{name}_{kind}s_trend_{first}_{second}"), Scale::Log, doc);
            }
        }
        Ok(())
    }

    /// Different and most frequent texts.
    pub(super) fn texts(&mut self, of: &Entity<'_>) -> Result<(), DeclarationError> {
        let name = of.name();
        for (taken, text) in of.texts("distinct", &of.config.distinct)? {
            for (window, _, label, when) in &of.windows {
                let cell = (taken.set, What::Distinct(text));
                let field = self.number(of, cell, Range::Window(*window), Reading::Distinct);
                let (kind, text) = (&taken.name, text.name());
                let doc = format!("how many different texts of {text} {kind}s of {} have {when}", of.of);
                self.push(field, format!("{name}_{kind}_distinct_{text}_{label}"), Scale::Log, doc);
            }
        }
        let most = of.config.top_k;
        if !(1..=16).contains(&most) {
            return of.refuse("top_k", format!("{most} is out of range"), "write 1 to 16, as in 3");
        }
        for (taken, text) in of.texts("top", &of.config.top)? {
            let cell = (taken.set, What::Top(text));
            for place in 0..most {
                for (window, _, label, when) in &of.windows {
                    let (range, reading) = (Range::Window(*window), Reading::Share(place));
                    let field = self.number(of, cell, range, reading);
                    let (kind, text, place) = (&taken.name, text.name(), place + 1);
                    let doc = format!(
                        "share that the {text} number {place} by frequency has of {kind}s of {} {when}; missing without any",
                        of.of
                    );
                    self.push(
                        field,
                        format!("{name}_{kind}_top{place}_{text}_share_{label}"),
                        Scale::Linear,
                        doc,
                    );
                }
            }
            for (window, _, label, when) in &of.windows {
                let (range, reading) = (Range::Window(*window), Reading::Rank(most));
                let field = self.number(of, cell, range, reading);
                let (kind, text) = (&taken.name, text.name());
                let doc = format!(
                    "place of the view's {text} among the {most} most frequent of {kind}s of {} {when}; missing behind them",
                    of.of
                );
                self.push(field, format!("{name}_{kind}_top_{text}_rank_{label}"), Scale::Linear, doc);
            }
        }
        Ok(())
    }
}

impl Entity<'_> {
    /// The two windows of a trend, as in `1h/1d`: places and lengths.
    fn trend(&self, key: &str, pair: &str) -> Result<[(usize, i64); 2], DeclarationError> {
        let declared = || self.windows.iter().filter(|(_, window, ..)| matches!(window, Window::Trailing(_)));
        let find = |text: &str| {
            let found = declared().find(|(_, window, ..)| window.to_string() == text.trim())?;
            Some((found.0, found.1.span_ms()?))
        };
        let found = pair.split_once('/').and_then(|(short, long)| Some([find(short)?, find(long)?]));
        match found {
            Some([short, long]) if short.1 < long.1 => Ok([short, long]),
            _ => {
                let names: Vec<String> = declared().map(|(_, window, ..)| window.to_string()).collect();
                let cure = format!(
                    "write a short and a longer one of the entity's trailing windows ({}), as in \"1h/1d\"",
                    names.join(", ")
                );
                self.refuse(key, format!("{pair:?} are no two windows of {}", self.name()), cure)
            }
        }
    }

    /// What a list of texts of kinds and filters names, as in `view.item`.
    fn texts(&self, key: &str, list: &[String]) -> Result<Vec<(Taken, Of)>, DeclarationError> {
        let mut texts: Vec<(Taken, Of)> = Vec::new();
        for (at, text) in list.iter().enumerate() {
            let key = format!("{key}[{at}]");
            let all = if self.at < SHARED { &Of::ALL[..Of::KEPT] } else { &Of::ALL[..] };
            let fields: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
            let Some((kind, field)) = text.split_once('.') else {
                let cure =
                    format!("write a kind or a filter and one of {}, as in \"view.item\"", fields.join(", "));
                return self.refuse(&key, format!("{text:?} names no text of an event"), cure);
            };
            if self.at < SHARED && field == Of::User.name() {
                let what = format!("all events of {} are one user's", self.name());
                return self.refuse(&key, what, "declare it of what users share, as of item");
            }
            let Some((_, of)) = all.iter().find(|(name, _)| *name == field) else {
                let cure = format!("{}write one of {}", did_you_mean(field, &fields), fields.join(", "));
                return self.refuse(&key, format!("{field:?} is no text of an event"), cure);
            };
            let one = (self.one(&key, kind)?, *of);
            if texts.contains(&one) {
                return self.refuse(&key, format!("{text:?} stands twice"), "write it once");
            }
            texts.push(one);
        }
        Ok(texts)
    }
}
