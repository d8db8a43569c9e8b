//! The columns of a vector, in order, and what each is made of, by declarations.
//!
//! Knows the config and the plan's vocabulary; every refusal names its key and the cure.

mod more;

use schemas::vector::{Scale, VectorField};

use crate::config::{Config, EntityConfig};
use crate::filters::{Filters, Taken};
use crate::nearest::did_you_mean;
use crate::plan::{
    Context, DeclarationError, ENTITIES, Field, PLAIN, SHARED, USER, USER_CAMPAIGN, USER_CATEGORY,
};
use crate::rates::{self, Rates};
use crate::summary::plan::{Cell, Range, Reading, Summaries, What};
use crate::window::Window;

/// Collects the numbers of a vector, in order.
#[derive(Default)]
pub(crate) struct Layout {
    pub(crate) fields: Vec<Field>,
    pub(crate) columns: Vec<VectorField>,
    pub(crate) summaries: Summaries,
    /// Of shared entities.
    pub(crate) numbers: Summaries,
}

/// What is declared of one entity.
struct Entity<'a> {
    at: usize,
    config: &'a EntityConfig,
    filters: &'a Filters,
    /// Whose events, as a sentence has it.
    of: String,
    /// Windows with their places, labels and when they are.
    windows: Vec<(usize, Window, String, String)>,
}

impl Entity<'_> {
    fn name(&self) -> &'static str {
        ENTITIES[self.at]
    }

    fn key(&self, aggregation: &str) -> String {
        format!("features.entities.{}.{aggregation}", self.name())
    }

    fn refuse<T>(&self, key: &str, what: String, cure: impl Into<String>) -> Result<T, DeclarationError> {
        Err(DeclarationError::new(self.key(key), what, cure))
    }

    /// What a list of kinds and filters names.
    fn taken(&self, key: &str, list: &[String]) -> Result<Vec<Taken>, DeclarationError> {
        let mut taken: Vec<Taken> = Vec::with_capacity(list.len());
        for (at, name) in list.iter().enumerate() {
            let one = self.one(&format!("{key}[{at}]"), name)?;
            if taken.contains(&one) {
                return self.refuse(
                    &format!("{key}[{at}]"),
                    format!("{name:?} stands twice"),
                    "write it once",
                );
            }
            taken.push(one);
        }
        Ok(taken)
    }

    fn one(&self, key: &str, name: &str) -> Result<Taken, DeclarationError> {
        if let Some(taken) = self.filters.taken(name) {
            return Ok(taken);
        }
        let names = self.filters.names();
        let cure = format!("{}write one of {}", did_you_mean(name, &names), names.join(", "));
        self.refuse(key, format!("{name:?} is neither a kind of event nor a filter"), cure)
    }

    /// The same, of kinds and filters whose events have a value.
    fn valued(&self, key: &str, list: &[String]) -> Result<Vec<Taken>, DeclarationError> {
        let taken = self.taken(key, list)?;
        if let Some(at) = taken.iter().position(|taken| !taken.has_value) {
            let what = format!("a {} has no value", taken[at].name);
            let cure = "write view, purchase or refund, a filter of these, or count it instead";
            return self.refuse(&format!("{key}[{at}]"), what, cure);
        }
        Ok(taken)
    }

    /// Whether the counts and sums by kind of this window have it.
    fn is_plain(&self, taken: &Taken, window: Option<Window>) -> bool {
        taken.kinds.is_some()
            && (self.at < PLAIN || self.at >= SHARED)
            && window.is_none_or(|window| window.span_ms().is_some())
    }
}

impl Layout {
    fn push(&mut self, field: Field, name: String, scale: Scale, doc: String) {
        self.fields.push(field);
        self.columns.push(VectorField { name, scale, doc });
    }

    /// The place of a number that is read of the user's events, or of summaries of what users share.
    fn summary(
        &mut self,
        of: &Entity<'_>,
        (set, what): (usize, What),
        range: Range,
        reading: Reading,
    ) -> usize {
        let all = if of.at < SHARED { &mut self.summaries } else { &mut self.numbers };
        all.number(Cell { entity: of.at, set, what }, range, reading)
    }

    fn number(&mut self, of: &Entity<'_>, cell: (usize, What), range: Range, reading: Reading) -> Field {
        Field::Summary { entity: of.at, at: self.summary(of, cell, range, reading) }
    }

    /// Adds what is declared of an entity with these windows, which are among `kept`.
    pub(crate) fn entity(
        &mut self,
        entity: usize,
        (config, filters): (&EntityConfig, &Filters),
        own: &[Window],
        kept: &[Window],
        rates: &Rates,
    ) -> Result<(), DeclarationError> {
        let name = ENTITIES[entity];
        let of = match entity {
            USER => "the user".to_owned(),
            USER_CAMPAIGN => "the user under the view's campaign".to_owned(),
            USER_CATEGORY => "the user on the view's category".to_owned(),
            _ if entity < SHARED => format!("the user with the view's {}", &name["user_".len()..]),
            _ => format!(
                "the view's {}, all users together as of the version that the vector names",
                name.replace('_', " in its ")
            ),
        };
        let place = |w: &Window| Some((kept.iter().position(|known| known == w)?, *w, w.label(), w.when()));
        let windows = own.iter().filter_map(place).collect();
        let of = Entity { at: entity, config, filters, of, windows };
        self.counts(&of)?;
        self.sums(&of)?;
        for (window, _, label, when) in of.windows.iter().filter(|_| config.rate) {
            // Those of all windows were compiled.
            let Some(rate) = rates.find(entity, *window) else { continue };
            let doc = rates::doc(config, &of.of, when);
            self.push(Field::Rate { entity, rate }, format!("{name}_ctr_{label}"), Scale::Linear, doc);
        }
        self.ages(&of)?;
        self.values(&of)?;
        self.decayed(&of)?;
        self.trends(&of)?;
        self.texts(&of)
    }

    fn counts(&mut self, of: &Entity<'_>) -> Result<(), DeclarationError> {
        for taken in of.taken("count", &of.config.count)? {
            for (window, kind, label, when) in &of.windows {
                let field = match taken.kinds {
                    Some(kinds) if of.is_plain(&taken, Some(*kind)) => {
                        Field::Count { entity: of.at, kinds, window: *window }
                    }
                    _ => {
                        let range = Range::Window(*window);
                        self.number(of, (taken.set, What::Stat), range, Reading::Count)
                    }
                };
                let doc = format!("{}s of {} {when}", taken.name, of.of);
                self.push(field, format!("{}_{}s_{label}", of.name(), taken.name), Scale::Log, doc);
            }
        }
        Ok(())
    }

    fn sums(&mut self, of: &Entity<'_>) -> Result<(), DeclarationError> {
        let name = of.name();
        for (key, list) in [("sum", &of.config.sum), ("mean", &of.config.mean)] {
            let is_mean = key == "mean";
            for taken in of.valued(key, list)? {
                for (window, kind, label, when) in &of.windows {
                    let (entity, window) = (of.at, *window);
                    let field = match taken.kinds {
                        Some(kinds) if of.is_plain(&taken, Some(*kind)) && is_mean => {
                            Field::Mean { entity, kinds, window }
                        }
                        Some(kinds) if of.is_plain(&taken, Some(*kind)) => {
                            Field::Sum { entity, kinds, window }
                        }
                        _ => {
                            let reading = if is_mean { Reading::Mean } else { Reading::Sum };
                            self.number(of, (taken.set, What::Stat), Range::Window(window), reading)
                        }
                    };
                    let (kind, of) = (&taken.name, &of.of);
                    let (column, doc) = if is_mean {
                        (
                            format!("{name}_{kind}_mean_value_{label}"),
                            format!("mean value of {kind}s of {of} {when}; missing without any"),
                        )
                    } else {
                        (format!("{name}_{kind}_value_{label}"), format!("value of {kind}s of {of} {when}"))
                    };
                    self.push(field, column, Scale::Log, doc);
                }
            }
        }
        Ok(())
    }

    fn ages(&mut self, of: &Entity<'_>) -> Result<(), DeclarationError> {
        for taken in of.taken("seconds_since", &of.config.seconds_since)? {
            let field = match taken.kinds {
                Some(kinds) if of.is_plain(&taken, None) => Field::Since { entity: of.at, kinds },
                _ => self.number(of, (taken.set, What::Stat), Range::All, Reading::Age),
            };
            let name = format!("{}_seconds_since_{}", of.name(), taken.name);
            let doc = format!("seconds since the last {} of {}; missing without any", taken.name, of.of);
            self.push(field, name, Scale::Log, doc);
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
