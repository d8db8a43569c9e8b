//! A source's watermark, and how it survives restarts: as text beside the committed offset.

use crate::decode::{EARLIEST_MS, LATEST_MS};

/// How far a source has come in event time. Never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermark {
    state: Option<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// Events before it are late.
    mark_ms: i64,
    /// Largest event time seen.
    greatest_ms: i64,
}

/// Metadata that no ingest wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the metadata of the committed offset is {text:?}, which is no watermark of this version (fatal: going on \
     would set the watermark back; to begin without one, reset the group's offsets with Kafka's own tool, \
     which clears it)"
)]
pub struct BadMetadata {
    /// What was found, cut.
    pub text: String,
}

/// Version and name in front of the metadata.
const PREFIX: &str = "w1";

impl Watermark {
    /// The watermark, ms since 1970 UTC; `None` before the first event.
    pub fn mark_ms(&self) -> Option<i64> {
        self.state.map(|state| state.mark_ms)
    }

    /// Largest event time seen, ms since 1970 UTC.
    pub fn greatest_ms(&self) -> Option<i64> {
        self.state.map(|state| state.greatest_ms)
    }

    /// By how much an event of that time is late; `None` if it is in time.
    pub fn late_by_ms(&self, time_ms: i64) -> Option<i64> {
        self.mark_ms().map(|mark| mark.saturating_sub(time_ms)).filter(|late| *late > 0)
    }

    /// Takes an event's time into account.
    pub fn observe(&mut self, time_ms: i64, allowed_lateness_ms: i64) {
        let greatest_ms = self.greatest_ms().map_or(time_ms, |greatest| greatest.max(time_ms));
        let mark_ms = greatest_ms.saturating_sub(allowed_lateness_ms);
        // After a restart with a longer lateness the old mark stands until it is passed.
        let mark_ms = self.mark_ms().map_or(mark_ms, |mark| mark.max(mark_ms));
        self.state = Some(State { mark_ms, greatest_ms });
    }

    /// As text for the offset's metadata: `w1,MARK,GREATEST`; empty where there is none.
    pub fn to_metadata(&self) -> String {
        self.state
            .map_or_else(String::new, |state| format!("{PREFIX},{},{}", state.mark_ms, state.greatest_ms))
    }

    /// From the metadata. Empty text, as fresh groups and Kafka's tools leave it, is no watermark;
    /// anything else that [`Self::to_metadata`] did not write is refused.
    ///
    /// # Errors
    /// [`BadMetadata`].
    pub fn from_metadata(text: &str) -> Result<Self, BadMetadata> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let bad = || BadMetadata { text: text.chars().take(64).collect() };
        let mut parts = text.split(',');
        let (Some(PREFIX), Some(mark), Some(greatest), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let mark_ms: i64 = mark.parse().map_err(|_| bad())?;
        let greatest_ms: i64 = greatest.parse().map_err(|_| bad())?;
        if mark_ms > greatest_ms || !(EARLIEST_MS..LATEST_MS).contains(&greatest_ms) {
            return Err(bad());
        }
        Ok(Self { state: Some(State { mark_ms, greatest_ms }) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const T: i64 = EARLIEST_MS;

    #[test]
    fn an_event_at_the_mark_is_in_time() {
        let mut watermark = Watermark::default();
        assert_eq!(watermark.late_by_ms(T), None);
        watermark.observe(T + 100, 40);
        assert_eq!((watermark.mark_ms(), watermark.greatest_ms()), (Some(T + 60), Some(T + 100)));
        assert_eq!(watermark.late_by_ms(T + 60), None);
        assert_eq!(watermark.late_by_ms(T + 59), Some(1));
        assert_eq!(watermark.late_by_ms(i64::MIN), Some(i64::MAX), "later than can be said");
    }

    #[test]
    fn garbage_is_refused() {
        for text in [
            "x",
            "w1",
            "w1,",
            "w1,1,2,3",
            "w2,1569888000000,1569888000000",
            "w1,1569888000001,1569888000000",
            "w1,0,9223372036854775807",
            "w1, 1569888000000,1569888000000",
            " ",
        ] {
            assert!(Watermark::from_metadata(text).is_err(), "{text}");
        }
        assert_eq!(Watermark::from_metadata(""), Ok(Watermark::default()));
    }

    proptest! {
        #[test]
        fn no_restart_sets_it_back(
            steps in proptest::collection::vec((0_i64..1_000_000, any::<bool>(), 0_i64..10_000), 1..50),
        ) {
            let mut watermark = Watermark::default();
            for (time, restart, lateness) in steps {
                let before = (watermark.mark_ms(), watermark.greatest_ms());
                watermark.observe(T + time, lateness);
                if restart {
                    let text = watermark.to_metadata();
                    prop_assert_eq!(Watermark::from_metadata(&text).unwrap(), watermark);
                }
                prop_assert!(watermark.mark_ms() >= before.0 && watermark.greatest_ms() >= before.1);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,64}") {
            if let Ok(watermark) = Watermark::from_metadata(&text) {
                prop_assert!(text.is_empty() || watermark.greatest_ms().is_some());
            }
        }
    }
}
