//! Windows as declarations name them: which of the past's events a number is made of.
//!
//! A window is where it begins: all end at the view. Knows no state.

use std::fmt;

use schemas::duration::Millis;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// No window is longer, ms.
pub(crate) const LONGEST_MS: i64 = 400 * 86_400_000;
/// Where windows of a fixed place begin to be counted: a Monday at 00:00 UTC. A day's begin at midnight,
/// a week's on Mondays.
pub(crate) const ANCHOR_MS: i64 = 4 * 86_400_000;

/// Which events of the past a number is made of, as of the time `t` of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// `7d`: those in (t - 7d, t].
    Trailing(Millis),
    /// `tumbling:1d`: those since the day that `t` is in began.
    Tumbling(Millis),
    /// `hopping:1d/1h`: those since the day began that ends with the hour that `t` is in.
    Hopping {
        /// How long the window is when it ends.
        size: Millis,
        /// How far its beginning moves at a time; divides the size.
        hop: Millis,
    },
    /// `session:30m`: the user's run of events that reaches to `t` without a gap of more than 30m.
    Session(Millis),
}

/// A text that is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no window: {1}; {CURE}")]
pub struct NotAWindow(String, String);

const CURE: &str = "write a span of 1s to 400d as in \"7d\", \"tumbling:1d\", \"hopping:1d/1h\" or \
                    \"session:30m\"";

impl Window {
    /// The window that a text names.
    ///
    /// # Errors
    /// [`NotAWindow`] with the reason.
    pub fn parse(text: &str) -> Result<Self, NotAWindow> {
        let refuse = |why: String| NotAWindow(text.to_owned(), why);
        let span = |part: &str| {
            let span = Millis::parse(part).map_err(|_| refuse(format!("{part:?} is no span of time")))?;
            let is_in_range = (1_000..=LONGEST_MS).contains(&span.0);
            if is_in_range { Ok(span) } else { Err(refuse(format!("{span} is out of range"))) }
        };
        let Some((kind, of)) = text.split_once(':') else { return span(text).map(Self::Trailing) };
        match kind.trim() {
            "trailing" => span(of).map(Self::Trailing),
            "tumbling" => span(of).map(Self::Tumbling),
            "session" => span(of).map(Self::Session),
            "hopping" => {
                let parts = of.split_once('/');
                let (size, hop) = parts.ok_or_else(|| refuse("it names no hop".to_owned()))?;
                let (size, hop) = (span(size)?, span(hop)?);
                if size.0 % hop.0 == 0 {
                    Ok(Self::Hopping { size, hop })
                } else {
                    Err(refuse(format!("{hop} does not divide {size}")))
                }
            }
            kind => Err(refuse(format!("there are no windows that are {kind:?}"))),
        }
    }

    /// How far back it reaches at most, ms; a session's is not its own: it is the longest window's.
    pub(crate) fn span_ms(self) -> Option<i64> {
        match self {
            Self::Trailing(span) | Self::Tumbling(span) | Self::Hopping { size: span, .. } => Some(span.0),
            Self::Session(_) => None,
        }
    }

    /// What happened later than this, ms, is in it as of a time; none for a session, which depends on
    /// what happened.
    pub fn after_ms(self, at_ms: i64) -> Option<i64> {
        match self {
            Self::Trailing(span) => Some(at_ms.saturating_sub(span.0)),
            Self::Tumbling(_) | Self::Hopping { .. } => {
                let (size, hop) = self.fixed()?;
                Some(aligned(at_ms, hop).saturating_add(hop - size - 1))
            }
            Self::Session(_) => None,
        }
    }

    /// Size and hop of one whose beginning has a fixed place, ms.
    pub(crate) fn fixed(self) -> Option<(i64, i64)> {
        match self {
            Self::Tumbling(size) => Some((size.0, size.0)),
            Self::Hopping { size, hop } => Some((size.0, hop.0)),
            Self::Trailing(_) | Self::Session(_) => None,
        }
    }

    /// Whether it always begins where a tile of that width does.
    pub(crate) fn begins_with_a_tile(self, tile_ms: i64) -> bool {
        self.fixed().is_some_and(|(_, hop)| hop % tile_ms == 0 && ANCHOR_MS % tile_ms == 0)
    }

    /// Its part of a column's name.
    pub(crate) fn label(self) -> String {
        match self {
            Self::Trailing(span) => span.to_string(),
            Self::Tumbling(span) => format!("tumbling_{span}"),
            Self::Hopping { size, hop } => format!("hopping_{size}_{hop}"),
            Self::Session(gap) => format!("session_{gap}"),
        }
    }

    /// When, as a sentence ends.
    pub(crate) fn when(self) -> String {
        match self {
            Self::Trailing(span) => format!("in the last {span}"),
            Self::Tumbling(span) => format!("in the current {span} so far"),
            Self::Hopping { size, hop } => format!("in the {size} that end with the current {hop}, so far"),
            Self::Session(gap) => format!("in the user's current session (no gap over {gap})"),
        }
    }
}

/// The last time at or before this one at which a window of that hop may begin, ms.
pub(crate) fn aligned(at_ms: i64, hop_ms: i64) -> i64 {
    at_ms.saturating_sub(at_ms.saturating_sub(ANCHOR_MS).rem_euclid(hop_ms))
}

impl From<Millis> for Window {
    fn from(span: Millis) -> Self {
        Self::Trailing(span)
    }
}

impl fmt::Display for Window {
    /// As the config has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trailing(span) => span.fmt(f),
            Self::Tumbling(span) => write!(f, "tumbling:{span}"),
            Self::Hopping { size, hop } => write!(f, "hopping:{size}/{hop}"),
            Self::Session(gap) => write!(f, "session:{gap}"),
        }
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
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
        for text in ["30s", "7d", "tumbling:1d", "hopping:1d/1h", "hopping:90s/30s", "session:30m"] {
            assert_eq!(Window::parse(text).map(|window| window.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refuses_what_is_no_window_and_says_why() {
        for (text, why) in [
            ("day", "\"day\" is no span"),
            ("5ms", "5ms is out of range"),
            ("401d", "401d is out of range"),
            ("tumblin:1d", "no windows that are \"tumblin\""),
            ("hopping:1d", "names no hop"),
            ("hopping:1d/7h", "7h does not divide 1d"),
            ("session:", "\"\" is no span"),
        ] {
            let said = Window::parse(text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(why) && said.contains("session:30m"), "{said}");
        }
    }

    #[test]
    fn fixed_windows_begin_at_midnight_and_on_mondays() {
        const H: i64 = 3_600_000;
        // 2023-11-14 was a Tuesday; 22:13:20 UTC.
        let (tuesday, at_ms) = (1_699_920_000_000, 1_700_000_000_000);
        let first = |text: &str| {
            let window = Window::parse(text).unwrap_or_else(|error| panic!("{error}"));
            window.after_ms(at_ms).map(|after| after + 1)
        };
        assert_eq!(first("tumbling:1d"), Some(tuesday));
        assert_eq!(first("tumbling:7d"), Some(tuesday - 24 * H));
        assert_eq!(first("tumbling:1h"), Some(tuesday + 22 * H));
        assert_eq!(first("hopping:1d/1h"), Some(tuesday - H));
        assert_eq!(first("hopping:7d/1d"), Some(tuesday - 6 * 24 * H));
        assert_eq!(first("1d"), Some(at_ms - 24 * H + 1));
        assert_eq!(first("session:1h"), None);
        // What happens just then is in the new one.
        let day = Window::Tumbling(Millis(24 * H));
        assert_eq!(day.after_ms(tuesday), Some(tuesday - 1));
        assert_eq!(day.after_ms(tuesday - 1), Some(tuesday - 24 * H - 1));
    }
}
