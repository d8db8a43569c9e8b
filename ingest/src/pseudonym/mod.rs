//! Pseudonyms of persons: HMAC-SHA-256 under a key that the deployment holds.

pub mod key;

use std::fmt;

use hmac::{Hmac, Mac};
use secrecy::ExposeSecret;
use sha2::Sha256;

pub use key::{KeyError, PseudonymKey};

/// Makes pseudonyms: `KEYID-` and the first 16 bytes of the HMAC as 32 hex digits.
#[derive(Clone)]
pub struct Pseudonymizer {
    prefix: String,
    /// Keyed once; cloning it saves hashing the key for each user.
    keyed: Hmac<Sha256>,
}

impl Pseudonymizer {
    /// For a key.
    pub fn new(key: &PseudonymKey) -> Self {
        let keyed = Hmac::<Sha256>::new_from_slice(key.secret().expose_secret());
        #[expect(clippy::expect_used, reason = "HMAC is defined for keys of any length")]
        let keyed = keyed.expect("a key of any length");
        Self { prefix: format!("{}-", key.id()), keyed }
    }

    /// The pseudonym of a user id.
    pub fn pseudonym(&self, user_id: &str) -> String {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut mac = self.keyed.clone();
        mac.update(user_id.as_bytes());
        let digest = mac.finalize().into_bytes();
        let mut text = String::with_capacity(self.prefix.len() + 32);
        text.push_str(&self.prefix);
        for byte in digest.iter().take(16) {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        text
    }
}

impl fmt::Debug for Pseudonymizer {
    /// Says which key, never what it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pseudonymizer").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Expected values: Python's `hmac.new(b"\xaa" * 20, text.encode(), "sha256").hexdigest()[:32]`.
    #[test]
    fn agrees_with_another_hmac() {
        let key = PseudonymKey::new("k1", vec![0xaa; 20]).unwrap();
        let pseudonymizer = Pseudonymizer::new(&key);
        assert_eq!(pseudonymizer.pseudonym("\u{dd}"), "k1-7ce3730834884266bbf0a46dc2d72d78");
        assert_eq!(pseudonymizer.pseudonym("user-1"), "k1-cc9e5c49f3fb231daf38f6dd1e487e01");
    }

    #[test]
    fn the_key_is_not_shown() {
        let key = PseudonymKey::new("k7", b"a secret of many letters".to_vec()).unwrap();
        let shown = format!("{key:?} {:?}", Pseudonymizer::new(&key));
        assert!(shown.contains("k7") && !shown.contains("secret of"), "{shown}");
    }
}
