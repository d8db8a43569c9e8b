//! The loader: defaults, then files, then variables, then `--set`, then the caller's type.

use std::fmt::Write as _;
use std::path::PathBuf;

use figment::Figment;
use figment::error::Kind;
use figment::providers::Serialized;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

pub use super::layers::Source;
use super::layers::{Layers, nearest};
use super::secret::{REDACTED, is_secret};
use super::{RESERVED, check};

/// Why a configuration was refused. All are fatal: mend the configuration and start again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A file that cannot be read.
    #[error("{path}: cannot be read: {what}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        what: String,
    },
    /// A layer that is not TOML.
    #[error("{from}: not TOML: {what}")]
    Syntax {
        /// Which layer.
        from: Source,
        /// What the parser said, with the line.
        what: String,
    },
    /// A key that nothing reads.
    #[error("{from}: unknown key `{key}`{}", hint(.nearest.as_deref()))]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it was set.
        from: Source,
        /// The known key most like it.
        nearest: Option<String>,
    },
    /// A variable whose name is no key.
    #[error("unknown variable {name}{}", hint(.nearest.as_deref()))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The variable most like it.
        nearest: Option<String>,
    },
    /// A value of the wrong kind.
    #[error("{from}: `{key}` is {found}; expected {expected}")]
    Type {
        /// The key.
        key: String,
        /// Where it was set.
        from: Source,
        /// What was found; never a secret.
        found: String,
        /// What would do.
        expected: String,
    },
    /// A value of the right kind that will not do.
    #[error("{from}: `{key}`: {what}")]
    Value {
        /// The key.
        key: String,
        /// Where it was set.
        from: Source,
        /// What is wrong with it, and what would do.
        what: String,
    },
    /// The defaults and the program's types disagree: a mistake of ours.
    #[error("the defaults do not fit the program: {0}")]
    Defaults(String),
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}

/// All layers as one, before they become a type.
#[derive(Debug, Clone)]
pub struct Resolved {
    layers: Layers,
}

/// Loads a configuration: `defaults` (commented TOML that names every key), then `files` in order,
/// then those of `env` that begin with `SALIENCE_`, then `overrides` (`key` with dots, value as text).
///
/// A table whose default is empty takes any key. In variables, such a key follows the table's
/// name: `SALIENCE_KAFKA_PROPERTIES_SSL_CA_LOCATION` is `kafka.properties."ssl.ca.location"`.
///
/// ```
/// let set = [("kafka.prefix".to_owned(), "eu.".to_owned())];
/// let sections: runtime::config::Sections =
///     runtime::config::load(runtime::config::DEFAULTS, &[], std::iter::empty(), &set)?;
/// assert_eq!(sections.kafka.prefix, "eu.");
/// # Ok::<(), runtime::config::LoadError>(())
/// ```
///
/// # Errors
/// Unknown keys with the nearest known one, values of the wrong kind with where they came from,
/// Kafka properties that conflict or that Salience owns.
pub fn load<T: DeserializeOwned>(
    defaults: &str,
    files: &[PathBuf],
    env: impl Iterator<Item = (String, String)>,
    overrides: &[(String, String)],
) -> Result<T, LoadError> {
    resolve(defaults, files, env, overrides, "")?.extract()
}

/// All layers as one, for showing them ([`Resolved::show`]) or for several types. `more`: TOML of keys that
/// may be set and have no default, each with a value of its kind.
///
/// # Errors
/// As [`load`].
pub fn resolve(
    defaults: &str,
    files: &[PathBuf],
    env: impl Iterator<Item = (String, String)>,
    overrides: &[(String, String)],
    more: &str,
) -> Result<Resolved, LoadError> {
    let read = |path: &PathBuf| match std::fs::read_to_string(path) {
        Ok(text) => Ok((path.clone(), text)),
        Err(error) => Err(LoadError::Unreadable { path: path.clone(), what: error.to_string() }),
    };
    let files = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    resolve_texts(defaults, &files, env, overrides, more)
}

/// As [`resolve`], of files that have been read: their paths and texts.
///
/// # Errors
/// As [`load`].
pub fn resolve_texts(
    defaults: &str,
    files: &[(PathBuf, String)],
    env: impl Iterator<Item = (String, String)>,
    overrides: &[(String, String)],
    more: &str,
) -> Result<Resolved, LoadError> {
    let mut layers = Layers::new(defaults, more)?;
    for (path, text) in files {
        layers.add_file(path, text)?;
    }
    let mut variables: Vec<_> = env.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort_unstable();
    for (name, value) in variables {
        if let Some(key) = variable_key(&layers, &name, &value)? {
            layers.add_text(&key, &value, &Source::Variable(name))?;
        }
    }
    for (key, value) in overrides {
        let key: Vec<String> = key.split('.').map(|part| part.trim().to_owned()).collect();
        layers.add_text(&key, value, &Source::Override)?;
    }
    let resolved = Resolved { layers };
    check::sections(&resolved)?;
    Ok(resolved)
}

const PREFIX: &str = "SALIENCE_";

fn variable_of(key: &[String]) -> String {
    format!("{PREFIX}{}", key.join("_").replace('.', "_").to_ascii_uppercase())
}

/// The key that a variable sets; `None` for variables that are not ours.
fn variable_key(layers: &Layers, name: &str, value: &str) -> Result<Option<Vec<String>>, LoadError> {
    let keys = layers.keys();
    if let Some((key, _)) = keys.iter().find(|(key, _)| variable_of(key) == name) {
        return Ok(Some(key.clone()));
    }
    for (key, _) in keys.iter().filter(|(_, free)| *free) {
        let inside = name.strip_prefix(&variable_of(key)).and_then(|rest| rest.strip_prefix('_'));
        if let Some(inside) = inside.filter(|inside| !inside.is_empty()) {
            let inside = inside.to_ascii_lowercase();
            // librdkafka's properties have dots and no underscores; all other keys the reverse.
            let kafka = key.first().is_some_and(|section| section == "kafka");
            let inside = if kafka { inside.replace('_', ".") } else { inside };
            return Ok(Some(key.iter().cloned().chain([inside]).collect()));
        }
    }
    if RESERVED.contains(&name) || set_by_kubernetes(name, value) {
        return Ok(None);
    }
    let names: Vec<String> = keys.iter().map(|(key, _)| variable_of(key)).collect();
    Err(LoadError::UnknownVariable { name: name.to_owned(), nearest: nearest(name, &names) })
}

/// Kubernetes sets `SALIENCE_PORT=tcp://…`, `SALIENCE_SCORER_SERVICE_HOST` and the like in every
/// pod beside a Service called `salience…`.
fn set_by_kubernetes(name: &str, value: &str) -> bool {
    let ends = |end: &str| name.ends_with(end);
    name.contains("_SERVICE_PORT")
        || ends("_SERVICE_HOST")
        || value.starts_with("tcp://")
        || value.starts_with("udp://")
        || ["_TCP_PROTO", "_TCP_PORT", "_TCP_ADDR", "_UDP_PROTO", "_UDP_PORT", "_UDP_ADDR"]
            .iter()
            .any(|end| ends(end))
}

impl Resolved {
    /// The configuration as the caller's type.
    ///
    /// # Errors
    /// A value that the type refuses, with its key and where it came from.
    pub fn extract<T: DeserializeOwned>(&self) -> Result<T, LoadError> {
        Figment::from(Serialized::defaults(&self.layers.table))
            .extract()
            .map_err(|error| self.refused("", &error))
    }

    /// One section as the caller's type.
    ///
    /// # Errors
    /// As [`Resolved::extract`]; and a section that is not there.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, LoadError> {
        let Some(Value::Table(table)) = self.layers.table.get(name) else {
            return Err(LoadError::Defaults(format!("there is no section [{name}]")));
        };
        Figment::from(Serialized::defaults(table)).extract().map_err(|error| self.refused(name, &error))
    }

    fn refused(&self, section: &str, error: &figment::Error) -> LoadError {
        let mut key = section.to_owned();
        for part in &error.path {
            // An element of a list.
            let is_place = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let _ = match (is_place, key.is_empty()) {
                (true, false) => write!(key, "[{part}]"),
                (_, true) => write!(key, "{part}"),
                _ => write!(key, ".{part}"),
            };
        }
        let from = self.layers.source(&key);
        match &error.kind {
            Kind::UnknownField(name, known) => {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                if self.layers.source(&key) == Source::Defaults {
                    return LoadError::Defaults(format!("`{key}` is a default that nothing reads"));
                }
                let names: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
                LoadError::UnknownKey { key, from, nearest: nearest(name, &names) }
            }
            Kind::MissingField(name) if from == Source::Defaults => {
                LoadError::Defaults(format!("`{key}.{name}` has no default"))
            }
            Kind::InvalidType(found, expected) => {
                let found = if is_secret(&key) { REDACTED.to_owned() } else { found.to_string() };
                LoadError::Type { key, from, found, expected: expected.clone() }
            }
            kind => {
                let what = if is_secret(&key) { "refused".to_owned() } else { kind.to_string() };
                LoadError::Value { key, from, what }
            }
        }
    }

    /// The effective configuration.
    pub fn table(&self) -> &Table {
        &self.layers.table
    }

    /// Where a key's value came from.
    pub fn source(&self, key: &str) -> Source {
        self.layers.source(key)
    }

    /// The effective configuration as TOML, secrets redacted; what does not stem from the defaults
    /// is marked with where it came from.
    pub fn show(&self) -> String {
        let mut text = String::new();
        let mut key = Vec::new();
        self.show_table(&mut key, &self.layers.table, &mut text);
        text.trim_start().to_owned()
    }

    fn show_table(&self, at: &mut Vec<String>, table: &Table, text: &mut String) {
        // Writing to a String cannot fail.
        let (tables, values): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| value.is_table());
        if !at.is_empty() && (!values.is_empty() || tables.is_empty()) {
            let header: Vec<String> = at.iter().map(|part| quoted(part)).collect();
            let _ = writeln!(text, "\n[{}]", header.join("."));
        }
        for (part, value) in values {
            at.push(part.clone());
            let shown = if is_secret(part) && value.as_str() != Some("") {
                Value::String(REDACTED.to_owned())
            } else {
                value.clone()
            };
            let _ = match self.source(&at.join(".")) {
                Source::Defaults => writeln!(text, "{} = {shown}", quoted(part)),
                from => writeln!(text, "{} = {shown} # from {}", quoted(part), printable(&from.to_string())),
            };
            at.pop();
        }
        for (part, value) in tables {
            if let Value::Table(inner) = value {
                at.push(part.clone());
                self.show_table(at, inner, text);
                at.pop();
            }
        }
    }
}

/// A text as a comment of TOML may hold it: names of variables and files may have line ends in them.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// A key as TOML writes it.
fn quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare {
        return key.to_owned();
    }
    // A value with line ends would be written over several lines, which no key may be.
    let mut text = String::from('"');
    for c in key.chars() {
        let _ = match c {
            '"' | '\\' => write!(text, "\\{c}"),
            c if c.is_control() => write!(text, "\\u{:04X}", u32::from(c)),
            c => write!(text, "{c}"),
        };
    }
    text.push('"');
    text
}
