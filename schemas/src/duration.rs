//! Durations as users write them in a config: `250ms`, `30s`, `10m`, `1h`, `7d`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time in whole milliseconds, event time or wall clock; not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub i64);

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration; write a whole number and a unit, as in 250ms, 30s, 10m, 1h or 7d")]
pub struct NotADuration(pub String);

const UNITS: [(&str, i64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Millis {
    /// The duration that a text names.
    ///
    /// # Errors
    /// [`NotADuration`] for anything else, negative or too large to hold.
    pub fn parse(text: &str) -> Result<Self, NotADuration> {
        let bad = || NotADuration(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = trimmed.split_at(digits);
        let number: i64 = number.parse().map_err(|_| bad())?;
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(bad)?;
        number.checked_mul(*factor).map(Self).ok_or_else(bad)
    }

    /// As the standard library's type.
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0.unsigned_abs())
    }
}

impl fmt::Display for Millis {
    /// The largest unit that divides it: `7d`, `90s`; also how windows are named in columns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) =
            UNITS.iter().find(|(_, factor)| self.0 != 0 && self.0 % factor == 0).unwrap_or(&("ms", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["250ms", "30s", "10m", "1h", "7d", "90s", "36h", "0ms"] {
            assert_eq!(Millis::parse(text).map(|m| m.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in ["", "7", "d", "-1s", "1.5h", "1w", "99999999999999999999d", "9223372036854775807d"] {
            assert_eq!(Millis::parse(text), Err(NotADuration(text.to_owned())));
        }
    }
}
