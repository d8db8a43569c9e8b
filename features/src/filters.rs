//! Filters: named selections of events by kind, texts and value.
//!
//! Whether an event is in one depends on the event alone.

use schemas::Event;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::nearest::did_you_mean;
use crate::plan::{DeclarationError, KINDS, KindSet};
use crate::summary::plan::Of;

/// Filters at most: a bit each, beside those of the kinds.
const MOST: usize = 32 - KINDS;

/// A section `[features.filters.NAME]`. What is not written is not asked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilterConfig {
    /// Kinds of events.
    pub kinds: Vec<String>,
    /// Items.
    pub item: Vec<String>,
    /// Campaigns.
    pub campaign: Vec<String>,
    /// Categories.
    pub category: Vec<String>,
    /// Brands.
    pub brand: Vec<String>,
    /// Placements.
    pub placement: Vec<String>,
    /// Devices.
    pub device: Vec<String>,
    /// Channels.
    pub channel: Vec<String>,
    /// The least value.
    pub min: Option<f64>,
    /// The greatest value.
    pub max: Option<f64>,
}

impl FilterConfig {
    fn texts(&self, of: Of) -> &[String] {
        match of {
            Of::Item => &self.item,
            Of::Campaign => &self.campaign,
            Of::Category => &self.category,
            Of::Brand => &self.brand,
            Of::Placement => &self.placement,
            Of::Device => &self.device,
            Of::Channel => &self.channel,
            Of::User => &[],
        }
    }

    fn takes(&self, kinds: u32, event: &Event) -> bool {
        let is_of = |(_, of): &(&str, Of)| {
            let texts = self.texts(*of);
            texts.is_empty() || texts.iter().any(|text| text == text_of(event, *of))
        };
        kind_bit(event) & kinds != 0
            && Of::ALL.iter().all(is_of)
            && self.min.is_none_or(|min| event.value >= min)
            && self.max.is_none_or(|max| event.value <= max)
    }
}

/// A text of an event.
pub(crate) fn text_of(event: &Event, of: Of) -> &str {
    match of {
        Of::Item => &event.item,
        Of::Campaign => &event.campaign,
        Of::Category => &event.category,
        Of::Brand => &event.brand,
        Of::Placement => &event.placement,
        Of::Device => &event.device,
        Of::Channel => &event.channel,
        Of::User => &event.user,
    }
}

fn kind_bit(event: &Event) -> u32 {
    crate::vector::kind_index(event.kind_or_unknown()).map_or(0, |kind| 1 << kind)
}

/// What an aggregation takes: kinds, or a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The name in the config and in columns.
    pub(crate) name: String,
    /// A kind's place or, behind those, a filter's.
    pub(crate) set: usize,
    /// The kinds; none for a filter.
    pub(crate) kinds: Option<KindSet>,
    pub(crate) has_value: bool,
}

/// Checked filters.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Filters(Vec<(String, FilterConfig, u32)>);

impl Filters {
    /// # Errors
    /// A filter that cannot be meant.
    pub(crate) fn compile(config: &Config) -> Result<Self, DeclarationError> {
        let mut filters = Self::default();
        for (name, filter) in &config.filters {
            let key = format!("features.filters.{name}");
            let refuse = |what: String, cure: &str| Err(DeclarationError::new(&key, what, cure));
            let is_name = !name.is_empty()
                && name.len() <= 64
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if !is_name || KindSet::ALL.iter().any(|(kind, _)| kind == name) {
                let cure = "write lower case letters, digits and underscores, and no kind of event";
                return refuse(format!("{name:?} is no name for a filter"), cure);
            }
            if filter.min.is_some_and(f64::is_nan) || filter.max.is_some_and(f64::is_nan) {
                return refuse(
                    "its bounds are no numbers".to_owned(),
                    "write finite ones, as in min = 100.0",
                );
            }
            if filter.min.zip(filter.max).is_some_and(|(min, max)| min > max) {
                return refuse("min is above max: it takes nothing".to_owned(), "write min up to max");
            }
            if *filter == FilterConfig::default() {
                return refuse("it asks for nothing".to_owned(), "write kinds, texts or bounds of the value");
            }
            let mut kinds = 0;
            for (at, kind) in filter.kinds.iter().enumerate() {
                let set = KindSet::parse(kind).ok_or_else(|| {
                    let names = KindSet::ALL.map(|(name, _)| name);
                    let cure = format!("{}write {}", did_you_mean(kind, &names), names.join(", "));
                    DeclarationError::new(
                        format!("{key}.kinds[{at}]"),
                        format!("{kind:?} is no kind of event"),
                        cure,
                    )
                })?;
                kinds |= set.bits();
            }
            let kinds = if filter.kinds.is_empty() { (1 << KINDS) - 1 } else { kinds };
            filters.0.push((name.clone(), filter.clone(), kinds));
        }
        if filters.0.len() > MOST {
            let what = format!("there are {} filters", filters.0.len());
            return Err(DeclarationError::new("features.filters", what, format!("leave at most {MOST}")));
        }
        Ok(filters)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of a filter's condition is asked.
    pub(crate) fn taken(&self, name: &str) -> Option<Taken> {
        if let Some(kinds) = KindSet::parse(name) {
            let (set, has_value) = (kinds as usize, kinds.has_value());
            return Some(Taken { name: name.to_owned(), set, kinds: Some(kinds), has_value });
        }
        let at = self.0.iter().position(|(known, ..)| known == name)?;
        let has_value = KindSet::VALUED & self.0[at].2 == self.0[at].2;
        Some(Taken { name: name.to_owned(), set: KINDS + at, kinds: None, has_value })
    }

    /// Names of all that can be taken.
    pub(crate) fn names(&self) -> Vec<&str> {
        let kinds = KindSet::ALL.iter().map(|(name, _)| *name);
        kinds.chain(self.0.iter().map(|(name, ..)| name.as_str())).collect()
    }

    /// What a set asks for, as a text: what is added up of it depends on nothing else.
    pub(crate) fn asked(&self, set: usize) -> String {
        match set.checked_sub(KINDS) {
            None => KindSet::ALL[set].0.to_owned(),
            Some(at) => format!("{:?}", self.0[at].1),
        }
    }

    pub(crate) fn name(&self, at: usize) -> &str {
        &self.0[at].0
    }

    /// The kinds that a filter may take, a bit each.
    pub(crate) fn kinds(&self, at: usize) -> u32 {
        self.0[at].2
    }

    /// A bit for each filter that takes the event.
    pub(crate) fn of(&self, event: &Event) -> u32 {
        let takes = |(at, (_, filter, kinds)): (usize, &(String, FilterConfig, u32))| {
            u32::from(filter.takes(*kinds, event)) << at
        };
        self.0.iter().enumerate().map(takes).fold(0, |all, bit| all | bit)
    }
}
