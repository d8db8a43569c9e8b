//! Which field of a customer's record is which of ours: a tree of names, compiled from the config.

use std::collections::BTreeMap;

use crate::ConfigError;

/// Our fields, in slot order. `lines` is the last: it holds slots of its own.
pub(super) const FIELDS: [&str; 18] = [
    "kind",
    "event_id",
    "event_time",
    "user_id",
    "item_id",
    "campaign_id",
    "category",
    "brand",
    "placement",
    "device",
    "channel",
    "view_id",
    "request_id",
    "context",
    "price",
    "quantity",
    "currency",
    "lines",
];

/// Slots of [`FIELDS`].
pub(super) mod slot {
    pub(in crate::decode) const KIND: usize = 0;
    pub(in crate::decode) const EVENT_ID: usize = 1;
    pub(in crate::decode) const EVENT_TIME: usize = 2;
    pub(in crate::decode) const USER_ID: usize = 3;
    pub(in crate::decode) const ITEM_ID: usize = 4;
    pub(in crate::decode) const CAMPAIGN_ID: usize = 5;
    pub(in crate::decode) const CATEGORY: usize = 6;
    pub(in crate::decode) const BRAND: usize = 7;
    pub(in crate::decode) const PLACEMENT: usize = 8;
    pub(in crate::decode) const DEVICE: usize = 9;
    pub(in crate::decode) const CHANNEL: usize = 10;
    pub(in crate::decode) const VIEW_ID: usize = 11;
    pub(in crate::decode) const REQUEST_ID: usize = 12;
    pub(in crate::decode) const CONTEXT: usize = 13;
    pub(in crate::decode) const PRICE: usize = 14;
    pub(in crate::decode) const QUANTITY: usize = 15;
    pub(in crate::decode) const CURRENCY: usize = 16;
    pub(in crate::decode) const LINES: usize = 17;
    /// The first of the extra numbers.
    pub(in crate::decode) const NUMBERS: usize = 18;
}

/// Fields within an order's line, in slot order.
pub(super) const LINE_FIELDS: [&str; 6] =
    ["item_id", "price", "quantity", "campaign_id", "category", "brand"];

/// Slots of [`LINE_FIELDS`].
pub(super) mod line_slot {
    pub(in crate::decode) const ITEM_ID: usize = 0;
    pub(in crate::decode) const PRICE: usize = 1;
    pub(in crate::decode) const QUANTITY: usize = 2;
    pub(in crate::decode) const CAMPAIGN_ID: usize = 3;
    pub(in crate::decode) const CATEGORY: usize = 4;
    pub(in crate::decode) const BRAND: usize = 5;
}

/// How deep a path may go; each step is a level of recursion.
const MAX_DEPTH: usize = 8;

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// The value is that slot's.
    Slot(usize),
    /// The value is an object with more names in it.
    Inside(Names),
    /// The value is the list of an order's lines.
    Lines,
}

/// Names in one object, sorted by length and bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Names {
    entries: Vec<(Box<str>, Target)>,
}

impl Names {
    /// What the name leads to.
    pub(super) fn get(&self, name: &str) -> Option<&Target> {
        self.find(name).ok().map(|at| &self.entries[at].1)
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(known, _)| {
            known.len().cmp(&name.len()).then_with(|| known.as_bytes().cmp(name.as_bytes()))
        })
    }

    /// Adds a path; `false` if it meets another.
    fn insert(&mut self, path: &[&str], target: Target) -> bool {
        let [name, rest @ ..] = path else { return false };
        match (self.find(name), rest) {
            (Err(at), []) => {
                self.entries.insert(at, ((*name).into(), target));
                true
            }
            (Err(at), _) => {
                let mut inside = Self::default();
                let added = inside.insert(rest, target);
                self.entries.insert(at, ((*name).into(), Target::Inside(inside)));
                added
            }
            (Ok(_), []) => false,
            (Ok(at), _) => match &mut self.entries[at].1 {
                Target::Inside(inside) => inside.insert(rest, target),
                Target::Slot(_) | Target::Lines => false,
            },
        }
    }
}

/// The compiled mapping of field names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pub(super) record: Names,
    pub(super) line: Names,
    /// What each slot is called in the customer's records, for messages.
    pub(super) called: Vec<Box<str>>,
    /// The same within lines.
    pub(super) line_called: Vec<Box<str>>,
}

impl Mapping {
    /// Compiles `ingest.fields` and `ingest.numbers`.
    ///
    /// # Errors
    /// A name that is none of ours, a path that cannot be followed, or two that meet.
    pub fn new(fields: &BTreeMap<String, String>, numbers: &[String]) -> Result<Self, ConfigError> {
        let names: Vec<&str> = FIELDS.iter().copied().chain(numbers.iter().map(String::as_str)).collect();
        let line_names: Vec<String> = LINE_FIELDS.iter().map(|name| format!("lines.{name}")).collect();
        for name in fields.keys() {
            if !names.contains(&name.as_str()) && !line_names.contains(name) {
                let known: Vec<&str> =
                    names.iter().copied().chain(line_names.iter().map(String::as_str)).collect();
                return Err(ConfigError::UnknownField { name: name.clone(), known: known.join(", ") });
            }
        }
        let mut record = Names::default();
        let mut called = Vec::with_capacity(names.len());
        for (slot, name) in names.iter().enumerate() {
            let path = fields.get(*name).map_or(*name, String::as_str);
            let target = if slot == slot::LINES { Target::Lines } else { Target::Slot(slot) };
            add(&mut record, name, path, target)?;
            called.push(path.into());
        }
        let mut line = Names::default();
        let mut line_called = Vec::with_capacity(LINE_FIELDS.len());
        for (slot, (name, short)) in line_names.iter().zip(LINE_FIELDS).enumerate() {
            let path = fields.get(name).map_or(short, String::as_str);
            add(&mut line, name, path, Target::Slot(slot))?;
            line_called.push(format!("{}.{path}", called[slot::LINES]).into());
        }
        Ok(Self { record, line, called, line_called })
    }
}

fn add(names: &mut Names, name: &str, path: &str, target: Target) -> Result<(), ConfigError> {
    let steps: Vec<&str> = path.split('.').collect();
    let wrong = if steps.iter().any(|step| step.is_empty()) {
        Some("a step of the path is empty")
    } else if steps.len() > MAX_DEPTH {
        Some("the path has more than 8 steps")
    } else {
        None
    };
    if let Some(what) = wrong {
        return Err(ConfigError::Path { name: name.to_owned(), path: path.to_owned(), what });
    }
    if names.insert(&steps, target) {
        Ok(())
    } else {
        Err(ConfigError::Collision { name: name.to_owned(), path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mapping(pairs: &[(&str, &str)], numbers: &[&str]) -> Result<Mapping, ConfigError> {
        let fields = pairs.iter().map(|(ours, theirs)| ((*ours).to_owned(), (*theirs).to_owned())).collect();
        let numbers: Vec<String> = numbers.iter().map(|n| (*n).to_owned()).collect();
        Mapping::new(&fields, &numbers)
    }

    #[test]
    fn names_are_found() {
        let found = mapping(&[("user_id", "visitor.id"), ("scroll", "m.scroll")], &["scroll"]).unwrap();
        let Some(Target::Inside(visitor)) = found.record.get("visitor") else { panic!("no visitor") };
        assert_eq!(visitor.get("id"), Some(&Target::Slot(slot::USER_ID)));
        assert_eq!(found.record.get("user_id"), None);
        assert_eq!(found.record.get("lines"), Some(&Target::Lines));
        assert_eq!(found.line.get("brand"), Some(&Target::Slot(line_slot::BRAND)));
        assert_eq!(&*found.called[slot::NUMBERS], "m.scroll");
        for (slot, name) in
            FIELDS.iter().enumerate().filter(|(slot, _)| ![slot::USER_ID, slot::LINES].contains(slot))
        {
            assert_eq!(found.record.get(name), Some(&Target::Slot(slot)));
        }
    }

    #[test]
    fn what_cannot_be_mapped_is_refused() {
        assert!(matches!(mapping(&[("usr_id", "x")], &[]), Err(ConfigError::UnknownField { .. })));
        assert!(matches!(mapping(&[("user_id", "a..b")], &[]), Err(ConfigError::Path { .. })));
        assert!(matches!(mapping(&[("user_id", "a.a.a.a.a.a.a.a.a")], &[]), Err(ConfigError::Path { .. })));
        assert!(matches!(mapping(&[("user_id", "item_id")], &[]), Err(ConfigError::Collision { .. })));
        assert!(matches!(mapping(&[("user_id", "brand.id")], &[]), Err(ConfigError::Collision { .. })));
        assert!(matches!(mapping(&[], &["price"]), Err(ConfigError::Collision { .. })));
    }
}
