//! Laying one layer of configuration over another: what keys there are, where a value came from,
//! and what is refused. Knows TOML and no types of ours.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use toml::{Table, Value};

use super::load::LoadError;
use super::secret::{REDACTED, is_secret};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The commented defaults that come with the binary.
    Defaults,
    /// A file, and the line where it could be told.
    File(PathBuf, Option<usize>),
    /// An environment variable.
    Variable(String),
    /// `--set` on the command line.
    Override,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.write_str("the defaults"),
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::Override => f.write_str("--set"),
        }
    }
}

/// The layers so far, as one table.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    pub(super) table: Table,
    /// The defaults, and what may be set although it has none.
    shape: Table,
    sources: BTreeMap<String, Source>,
}

/// What a key's place in the defaults says about it.
enum Known<'a> {
    /// A value, or a table that holds known keys.
    Value(&'a Value),
    /// Inside a free-form table: the table's path, and the key in it.
    Free(String, String),
    /// Nothing.
    No,
}

impl Layers {
    /// Begins with the defaults, which say what keys there are. `more`: keys that have no default, each
    /// with a value of its kind.
    pub(super) fn new(defaults: &str, more: &str) -> Result<Self, LoadError> {
        let read = |text: &str| -> Result<Table, LoadError> {
            text.parse().map_err(|error: toml::de::Error| LoadError::Syntax {
                from: Source::Defaults,
                what: error.to_string().trim_end().to_owned(),
            })
        };
        let table = read(defaults)?;
        let mut shape = read(more)?;
        lay_over(&mut shape, table.clone());
        Ok(Self { table, shape, sources: BTreeMap::new() })
    }

    /// Lays a file's text over what there is.
    pub(super) fn add_file(&mut self, path: &std::path::Path, text: &str) -> Result<(), LoadError> {
        let syntax = |error: toml::de::Error| LoadError::Syntax {
            from: Source::File(path.to_owned(), None),
            what: error.to_string().trim_end().to_owned(),
        };
        let table: Table = text.parse().map_err(syntax)?;
        let lines = Lines::of(text);
        let source = |key: &[String]| Source::File(path.to_owned(), lines.line(key));
        self.lay(&mut Vec::new(), table, &source)
    }

    /// Lays one value, given as text, over what there is: a variable's or an override's.
    pub(super) fn add_text(&mut self, key: &[String], text: &str, source: &Source) -> Result<(), LoadError> {
        let joined = key.join(".");
        let value = match self.known(key) {
            Known::No => return Err(self.unknown(&joined, source.clone())),
            Known::Free(..) => Value::String(text.to_owned()),
            Known::Value(default) => from_text(text, default).ok_or_else(|| LoadError::Type {
                key: joined.clone(),
                from: source.clone(),
                found: shown(&joined, &Value::String(text.to_owned())),
                expected: expected(default),
            })?,
        };
        // One table per part, the innermost holding the value; a free key keeps its dots.
        let parts = match self.known(key) {
            Known::Free(table, key) => table.split('.').map(str::to_owned).chain([key]).collect(),
            _ => key.to_vec(),
        };
        let nested = parts
            .into_iter()
            .rev()
            .fold(value, |inner, part| Value::Table(Table::from_iter([(part, inner)])));
        match nested {
            Value::Table(table) => self.lay(&mut Vec::new(), table, &|_| source.clone()),
            _ => Err(self.unknown(&joined, source.clone())),
        }
    }

    fn lay(
        &mut self,
        at: &mut Vec<String>,
        layer: Table,
        source: &dyn Fn(&[String]) -> Source,
    ) -> Result<(), LoadError> {
        for (part, value) in layer {
            at.push(part);
            let joined = at.join(".");
            let from = source(at);
            match (self.known(at), value) {
                (Known::No, _) => return Err(self.unknown(&joined, from)),
                (Known::Free(..), value) => self.set(at, value, from),
                (Known::Value(Value::Table(_)), Value::Table(inner)) => self.lay(at, inner, source)?,
                (Known::Value(default), value) => {
                    let value = coerced(value, default).map_err(|value| LoadError::Type {
                        found: shown(&joined, &value),
                        expected: expected(default),
                        key: joined,
                        from: from.clone(),
                    })?;
                    let elements = value.as_array().map_or(0, Vec::len);
                    self.set(at, value, from.clone());
                    self.set_elements(at, elements, &from, source);
                }
            }
            at.pop();
        }
        Ok(())
    }

    fn set(&mut self, at: &[String], value: Value, from: Source) {
        let Some((last, parents)) = at.split_last() else { return };
        let mut table = &mut self.table;
        for part in parents {
            let inner = table.entry(part.clone()).or_insert_with(|| Value::Table(Table::new()));
            match inner {
                Value::Table(inner) => table = inner,
                // Not reached: `lay` has checked each parent against the defaults.
                _ => return,
            }
        }
        table.insert(last.clone(), value);
        let key = at.join(".");
        // What an earlier layer said of a list's elements.
        self.sources.retain(|known, _| !known.strip_prefix(&key).is_some_and(|rest| rest.starts_with('[')));
        self.sources.insert(key, from);
    }

    /// Elements of a list that stand on lines of their own.
    fn set_elements(
        &mut self,
        at: &[String],
        count: usize,
        list: &Source,
        source: &dyn Fn(&[String]) -> Source,
    ) {
        let key = at.join(".");
        for index in 0..count {
            let of_element: Vec<String> = at.iter().cloned().chain([index.to_string()]).collect();
            let from = source(&of_element);
            if from != *list && !matches!(from, Source::File(_, None)) {
                self.sources.insert(format!("{key}[{index}]"), from);
            }
        }
    }

    /// Where the value of `key`, or of what holds it or is held in it, came from.
    pub(super) fn source(&self, key: &str) -> Source {
        let holds = |holder: &str, held: &str| {
            held.strip_prefix(holder).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.sources
            .iter()
            .rfind(|(known, _)| holds(known, key) || holds(key, known))
            .map_or(Source::Defaults, |(_, source)| source.clone())
    }

    fn known(&self, key: &[String]) -> Known<'_> {
        let mut table = &self.shape;
        for (depth, part) in key.iter().enumerate() {
            let Some(default) = table.get(part) else { return Known::No };
            let rest = &key[depth + 1..];
            let path = key[..=depth].join(".");
            if !rest.is_empty() && is_free(default) {
                return Known::Free(path, rest.join("."));
            }
            match default {
                _ if rest.is_empty() => return Known::Value(default),
                Value::Table(inner) => table = inner,
                _ => return Known::No,
            }
        }
        Known::No
    }

    /// All keys that hold a value, and all free-form tables (those with `true`).
    pub(super) fn keys(&self) -> Vec<(Vec<String>, bool)> {
        fn walk(at: &mut Vec<String>, table: &Table, found: &mut Vec<(Vec<String>, bool)>) {
            for (part, value) in table {
                at.push(part.clone());
                let free = is_free(value);
                match value {
                    Value::Table(inner) if !free => walk(at, inner, found),
                    _ => found.push((at.clone(), free)),
                }
                at.pop();
            }
        }
        let mut found = Vec::new();
        walk(&mut Vec::new(), &self.shape, &mut found);
        found
    }

    pub(super) fn unknown(&self, key: &str, from: Source) -> LoadError {
        let names: Vec<String> = self
            .keys()
            .into_iter()
            .map(|(parts, _)| parts.join("."))
            .chain(self.shape.keys().cloned())
            .collect();
        LoadError::UnknownKey { key: key.to_owned(), from, nearest: nearest(key, &names) }
    }
}

/// Whether it is a table that takes any key.
fn is_free(default: &Value) -> bool {
    default.as_table().is_some_and(Table::is_empty)
}

/// One table over another, key by key.
fn lay_over(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => lay_over(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// The name most like `key`, if any is like it at all.
pub(super) fn nearest(key: &str, names: &[String]) -> Option<String> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |name: &String| {
        let whole = strsim::jaro_winkler(key, name);
        // A key put in the wrong section, or in none.
        if last(key) == last(name) { whole.max(0.95) } else { whole }
    };
    names
        .iter()
        .map(|name| (likeness(name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.clone())
}

/// The value as the default's kind, or the value itself if it is of another kind.
fn coerced(value: Value, default: &Value) -> Result<Value, Value> {
    match (value, default) {
        (Value::Integer(whole), Value::Float(_)) => Ok(Value::Float(whole as f64)),
        (value, default) if value.same_type(default) => Ok(value),
        (value, _) => Err(value),
    }
}

/// The text of a variable or an override as the default's kind.
fn from_text(text: &str, default: &Value) -> Option<Value> {
    if default.is_str() {
        return Some(Value::String(text.to_owned()));
    }
    let table: Table = format!("value = {}", text.trim()).parse().ok()?;
    coerced(table.get("value")?.clone(), default).ok()
}

fn expected(default: &Value) -> String {
    match default {
        Value::String(text) if schemas::duration::Millis::parse(text).is_ok() => {
            format!("a duration in quotes, such as {text:?}")
        }
        Value::String(text) if !text.is_empty() => format!("text in quotes, such as {text:?}"),
        Value::String(_) => "text in quotes".to_owned(),
        Value::Integer(number) => format!("a whole number, such as {number}"),
        Value::Float(number) => format!("a number, such as {number:?}"),
        Value::Boolean(_) => "true or false".to_owned(),
        Value::Datetime(_) => "a date or time".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// A value as an error may show it: its kind, and itself where it is short and no secret.
fn shown(key: &str, value: &Value) -> String {
    if is_secret(key) {
        return REDACTED.to_owned();
    }
    match value {
        Value::String(text) if text.len() <= 80 => format!("the text {text:?}"),
        Value::String(_) => "a long text".to_owned(),
        Value::Integer(number) => format!("the whole number {number}"),
        Value::Float(number) => format!("the number {number:?}"),
        Value::Boolean(value) => format!("{value}"),
        Value::Datetime(value) => format!("the date {value}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// On which line of a file each key stands; elements of a list as if their place were a key.
struct Lines(BTreeMap<Vec<String>, usize>);

impl Lines {
    fn of(text: &str) -> Self {
        use toml::de::{DeTable, DeValue};

        fn line(text: &str, at: usize) -> usize {
            1 + text.get(..at).unwrap_or_default().matches('\n').count()
        }

        fn walk(
            text: &str,
            at: &mut Vec<String>,
            table: &DeTable<'_>,
            found: &mut BTreeMap<Vec<String>, usize>,
        ) {
            for (key, value) in table {
                at.push(key.get_ref().to_string());
                found.insert(at.clone(), line(text, key.span().start));
                match value.get_ref() {
                    DeValue::Table(inner) => walk(text, at, inner, found),
                    DeValue::Array(elements) => {
                        for (index, element) in elements.iter().enumerate() {
                            at.push(index.to_string());
                            found.insert(at.clone(), line(text, element.span().start));
                            at.pop();
                        }
                    }
                    _ => {}
                }
                at.pop();
            }
        }
        let mut found = BTreeMap::new();
        if let Ok(table) = DeTable::parse(text) {
            walk(text, &mut Vec::new(), table.get_ref(), &mut found);
        }
        Self(found)
    }

    fn line(&self, key: &[String]) -> Option<usize> {
        self.0.get(key).copied()
    }
}
