//! Smoothed click rates: each drawn towards a prior, which is a number or the rate of another entity,
//! drawn towards its own prior in turn (shrinkage in a hierarchy: an item of few views is taken to be
//! like its campaign).

use crate::config::EntityConfig;
use crate::plan::{DeclarationError, ENTITIES, SHARED};
use crate::window::Window;

/// One smoothed rate. `entity` and `window` are indices.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate {
    entity: usize,
    window: usize,
    /// The rate without any view, where there is no parent.
    prior: f64,
    /// How many views the prior weighs.
    weight: f64,
    /// Place of the rate that is the prior.
    parent: Option<usize>,
}

/// What is declared of an entity, with the windows that are kept of it: a rate names one by its place.
pub(crate) struct Declared<'a> {
    pub(crate) entity: usize,
    pub(crate) config: &'a EntityConfig,
    /// Windows of its columns.
    pub(crate) own: &'a [Window],
    pub(crate) kept: &'a [Window],
}

/// Rates of one entity over neighbouring windows, without a parent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Run {
    pub(crate) entity: usize,
    /// Its first window, and the place of its first rate.
    pub(crate) window: usize,
    pub(crate) at: usize,
    pub(crate) count: usize,
    pub(crate) prior: f64,
    pub(crate) weight: f64,
}

/// All rates that a vector needs, parents before their children.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rates {
    rates: Vec<Rate>,
    /// The same in runs, where none has a parent.
    runs: Option<Vec<Run>>,
}

impl Rates {
    /// The rates of these entities, and of their parents.
    ///
    /// # Errors
    /// A prior or a weight out of range, a parent that is not declared, or its own ancestor.
    pub(crate) fn compile(declared: &[Declared<'_>]) -> Result<Self, DeclarationError> {
        let mut rates = Self::default();
        for one in declared.iter().filter(|one| one.config.rate) {
            let parents = ancestors(one, declared)?;
            for &window in one.own {
                rates.add(one, &parents, window);
            }
        }
        rates.runs = runs(&rates.rates);
        Ok(rates)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.rates.len()
    }

    /// All of them in runs; `None` where one has a parent.
    pub(crate) fn runs(&self) -> Option<&[Run]> {
        self.runs.as_deref()
    }

    /// Place of the entity's rate over a window in what [`Self::evaluate`] gives.
    pub(crate) fn find(&self, entity: usize, window: usize) -> Option<usize> {
        self.rates.iter().position(|rate| rate.entity == entity && rate.window == window)
    }

    /// Whether any rate counts the entity's events.
    pub(crate) fn reads(&self, entity: usize) -> bool {
        self.rates.iter().any(|rate| rate.entity == entity)
    }

    fn add(&mut self, one: &Declared<'_>, parents: &[&Declared<'_>], like: Window) -> usize {
        let window = most_like(like, one.kept);
        if let Some(known) = self.find(one.entity, window) {
            return known;
        }
        let parent = parents.split_first().map(|(parent, above)| self.add(parent, above, one.kept[window]));
        let (prior, weight) = (one.config.rate_prior, one.config.rate_weight);
        self.rates.push(Rate { entity: one.entity, window, prior, weight, parent });
        self.rates.len() - 1
    }

    /// Of a rate: the place of its window, its prior where that is a number and not another rate, and how
    /// many views the prior weighs.
    pub(crate) fn made(&self, rate: usize) -> (usize, Option<f64>, f64) {
        let Rate { window, prior, weight, parent, .. } = self.rates[rate];
        (window, Some(prior).filter(|_| parent.is_none()), weight)
    }

    /// A rate and its ancestors: of each its entity, the place of its window, its prior where that is a
    /// number and not the next rate, and how many views the prior weighs.
    pub(crate) fn chain(&self, rate: usize) -> Vec<(usize, usize, Option<f64>, f64)> {
        let mut chain = Vec::new();
        let mut next = Some(rate);
        while let Some(at) = next {
            let Rate { entity, window, prior, weight, parent } = self.rates[at];
            chain.push((entity, window, Some(prior).filter(|_| parent.is_none()), weight));
            next = parent;
        }
        chain
    }

    /// Entities and windows of which rates are made.
    pub(crate) fn windows(&self) -> impl Iterator<Item = (usize, usize)> {
        self.rates.iter().map(|rate| (rate.entity, rate.window))
    }

    /// All rates of a view, by how many views and clicks there were of each entity in each window.
    pub(crate) fn evaluate(&self, counted: impl Fn(usize, usize) -> (u64, u64), out: &mut [f64]) {
        for (at, rate) in self.rates.iter().enumerate() {
            let (views, clicks) = counted(rate.entity, rate.window);
            let prior = rate.parent.map_or(rate.prior, |parent| out[parent]);
            out[at] = (clicks as f64 + prior * rate.weight) / (views as f64 + rate.weight);
        }
    }
}

fn runs(rates: &[Rate]) -> Option<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    for (at, &Rate { entity, window, prior, weight, parent }) in rates.iter().enumerate() {
        if parent.is_some() {
            return None;
        }
        match runs.last_mut() {
            Some(run)
                if (run.entity, run.prior, run.weight) == (entity, prior, weight)
                    && run.window + run.count == window =>
            {
                run.count += 1;
            }
            _ => runs.push(Run { entity, window, at, count: 1, prior, weight }),
        }
    }
    Some(runs)
}

/// The place of the window itself, or else of the shortest trailing one that reaches as far back, or of
/// the one that reaches the farthest.
fn most_like(window: Window, kept: &[Window]) -> usize {
    let span = |at: usize| kept[at].span_ms().unwrap_or(0);
    let reaches = |at: &usize| window.span_ms().is_some_and(|wanted| span(*at) >= wanted);
    let is_trailing = |at: &usize| matches!(kept[*at], Window::Trailing(_));
    let same = kept.iter().position(|kept| *kept == window);
    let shortest = || (0..kept.len()).filter(is_trailing).filter(reaches).min_by_key(|at| span(*at));
    same.or_else(shortest).or_else(|| (0..kept.len()).max_by_key(|at| span(*at))).unwrap_or(0)
}

/// The entity's parent, its parent's and so on, each checked.
fn ancestors<'a>(
    one: &'a Declared<'a>,
    declared: &'a [Declared<'a>],
) -> Result<Vec<&'a Declared<'a>>, DeclarationError> {
    let mut found: Vec<&Declared<'_>> = Vec::new();
    let mut child = one;
    loop {
        check_numbers(child)?;
        if child.config.rate_parent.is_empty() {
            return Ok(found);
        }
        let name = child.config.rate_parent.as_str();
        let refuse = |what: String, cure: &str| {
            let key = format!("features.entities.{}.rate_parent", ENTITIES[child.entity]);
            Err(DeclarationError::new(key, what, cure))
        };
        let Some(parent) = declared.iter().find(|other| ENTITIES[other.entity] == name) else {
            let names: Vec<_> = declared.iter().map(|other| ENTITIES[other.entity]).collect();
            let cure = format!("write one of {}, or \"\" for rate_prior", names.join(", "));
            return refuse(format!("nothing is declared of {name:?}"), &cure);
        };
        if parent.entity == one.entity || found.iter().any(|known| known.entity == parent.entity) {
            return refuse(format!("{name} would be its own ancestor"), "leave one of them without a parent");
        }
        // What users share is counted only where a column needs it.
        if parent.entity >= SHARED && !counts_anything(parent.config) {
            return refuse(format!("nothing is counted of {name}"), "declare its rate, or a count of it");
        }
        found.push(parent);
        child = parent;
    }
}

fn counts_anything(config: &EntityConfig) -> bool {
    let EntityConfig { count, sum, mean, seconds_since, min, max, variance, first, last, .. } = config;
    let EntityConfig { mean_gap, decayed, trend, distinct, quantile, top, .. } = config;
    let lists = [count, sum, mean, seconds_since, min, max, variance, first, last];
    let more = [mean_gap, decayed, trend, distinct, quantile, top];
    config.rate || lists.iter().chain(&more).any(|list| !list.is_empty())
}

fn check_numbers(one: &Declared<'_>) -> Result<(), DeclarationError> {
    let key = |what| format!("features.entities.{}.{what}", ENTITIES[one.entity]);
    let (prior, weight) = (one.config.rate_prior, one.config.rate_weight);
    if !(0.0..=1.0).contains(&prior) {
        let what = format!("{prior} is no rate");
        return Err(DeclarationError::new(key("rate_prior"), what, "write 0 to 1, as in 0.02"));
    }
    if !(weight > 0.0 && weight.is_finite()) {
        let what = format!("{weight} is no number of views");
        return Err(DeclarationError::new(key("rate_weight"), what, "write a positive number, as in 20.0"));
    }
    Ok(())
}

/// What a rate's column says of it.
pub(crate) fn doc(config: &EntityConfig, of: &str, when: &str) -> String {
    let (prior, weight) = (config.rate_prior, config.rate_weight);
    let towards = match config.rate_parent.as_str() {
        "" => prior.to_string(),
        parent => format!("that of the view's {parent}"),
    };
    format!("clicks per view of {of} {when}, drawn towards {towards} by {weight} views")
}
