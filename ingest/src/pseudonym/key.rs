//! The pseudonymisation key, from a file or the environment: part of the shell.

use std::fmt;

use secrecy::{ExposeSecret, SecretSlice};

use crate::Config;

/// Variable that holds the key where the config names no file.
pub const KEY_VARIABLE: &str = "SALIENCE_PSEUDONYM_KEY";
/// Shortest key, in bytes.
pub const MIN_KEY_BYTES: usize = 16;

/// A key that cannot be used (fatal). Never carries the key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is none.
    #[error(
        "no pseudonymisation key: set ingest.pseudonym_key_file to a file that holds it, or the variable {KEY_VARIABLE}"
    )]
    Missing,
    /// The file cannot be read.
    #[error("pseudonymisation key file {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Too short to protect anyone.
    #[error("the pseudonymisation key has {found} bytes, at least {MIN_KEY_BYTES} are needed")]
    TooShort {
        /// Its length.
        found: usize,
    },
    /// An id that would not stand well in front of a pseudonym.
    #[error("ingest.pseudonym_key_id: {id:?} must be 1 to 16 ASCII letters and digits")]
    Id {
        /// The id.
        id: String,
    },
}

/// A key and its id.
pub struct PseudonymKey {
    id: String,
    secret: SecretSlice<u8>,
}

impl PseudonymKey {
    /// A key from bytes at hand.
    ///
    /// # Errors
    /// An id or a key that cannot be used.
    pub fn new(id: &str, secret: Vec<u8>) -> Result<Self, KeyError> {
        let secret = SecretSlice::from(secret);
        if !(1..=16).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(KeyError::Id { id: id.to_owned() });
        }
        let found = secret.expose_secret().len();
        if found < MIN_KEY_BYTES {
            return Err(KeyError::TooShort { found });
        }
        Ok(Self { id: id.to_owned(), secret })
    }

    /// The key that the config points to: its file, else the variable [`KEY_VARIABLE`]. White
    /// space at its end does not count.
    ///
    /// # Errors
    /// No key, or one that cannot be read or used.
    pub fn load(config: &Config) -> Result<Self, KeyError> {
        let path = &config.pseudonym_key_file;
        let mut secret = if path.is_empty() {
            std::env::var(KEY_VARIABLE).map_err(|_| KeyError::Missing)?.into_bytes()
        } else {
            std::fs::read(path).map_err(|source| KeyError::File { path: path.clone(), source })?
        };
        secret.truncate(secret.trim_ascii_end().len());
        Self::new(&config.pseudonym_key_id, secret)
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn secret(&self) -> &SecretSlice<u8> {
        &self.secret
    }
}

impl fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PseudonymKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn loads_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        let config = Config { pseudonym_key_file: path.display().to_string(), ..Config::default() };
        let key = PseudonymKey::load(&config).unwrap();
        assert_eq!(key.secret().expose_secret(), b"0123456789abcdef");
        std::fs::write(&path, "0123456789abcde\n").unwrap();
        assert!(matches!(PseudonymKey::load(&config), Err(KeyError::TooShort { found: 15 })));
    }

    #[test]
    fn refuses_bad_ids() {
        for id in ["", "a-b", "0123456789abcdefg", "é"] {
            assert!(matches!(PseudonymKey::new(id, vec![1; 32]), Err(KeyError::Id { .. })));
        }
    }
}
