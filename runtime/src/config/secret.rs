//! What must never be printed: which keys hold secrets, and maps that show them redacted.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};

/// What is shown instead of a secret.
pub const REDACTED: &str = "(not shown)";

/// Whether a key's value may be a secret: any that names a password, a secret, a token or a key,
/// unless it says that it holds a place (`…location`, `…file`) or an id.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| key.contains(word));
    if has(&["password", "secret", "token", "jaas", "oauthbearer.config"]) {
        return !key.ends_with("token.endpoint.url");
    }
    let place = ["location", "file", "path", "id", "env"].iter().any(|end| key.ends_with(end));
    key.contains("key") && !place
}

/// A map of properties, for `Debug`.
pub(super) struct Shown<'a>(pub(super) &'a BTreeMap<String, String>);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.0.iter().map(|(key, value)| {
                    (key.as_str(), if is_secret(key) { REDACTED } else { value.as_str() })
                }),
            )
            .finish()
    }
}

/// A value that librdkafka takes as text, however TOML wrote it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Plain {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

/// A map of properties whose values may be written as text, number or boolean.
pub(super) fn texts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let plain = BTreeMap::<String, Plain>::deserialize(deserializer)?;
    let text = |value| match value {
        Plain::Bool(value) => value.to_string(),
        Plain::Integer(value) => value.to_string(),
        Plain::Float(value) => value.to_string(),
        Plain::Text(value) => value,
    };
    Ok(plain.into_iter().map(|(key, value)| (key, text(value))).collect())
}
