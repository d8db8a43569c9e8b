//! Which event times are believed: those that are not too far ahead of a clock.
//!
//! One event with a time in the future would drive its source's watermark on and make everything
//! after it late. So it is refused before it can move anything.

use schemas::Reason;

use crate::Config;
use crate::config::ClockSource;
use crate::decode::Refusal;

/// How many events have to agree before data may leap over a gap in itself.
const QUORUM: usize = 16;

/// The limit of believable event times.
#[derive(Debug, Clone)]
pub struct Horizon {
    source: ClockSource,
    ahead_ms: i64,
    /// Greatest believed event time over all sources, with the data's clock.
    greatest_ms: Option<i64>,
}

impl Horizon {
    /// By the config; `greatest_ms` is the greatest time seen before a restart.
    pub fn new(config: &Config, greatest_ms: Option<i64>) -> Self {
        let ahead_ms = match config.clock {
            ClockSource::Wall => config.max_future.0,
            ClockSource::Data => config.max_jump.0,
        };
        Self { source: config.clock, ahead_ms, greatest_ms }
    }

    /// With the data's clock: looks at a batch as a whole before its events are asked about.
    ///
    /// A single time is no ground to believe in: where no time has been seen yet, the batch's
    /// median is the first. And where data has a gap longer than `max_jump` (a shop closed for a
    /// night), refusing all that follows would refuse it for ever: a median over at least 16
    /// events counts as the clock, so that the many carry it over the gap and the few cannot.
    pub fn look(&mut self, times_ms: impl Iterator<Item = i64>) {
        if self.source == ClockSource::Wall {
            return;
        }
        let mut times: Vec<i64> = times_ms.collect();
        if times.is_empty() || (self.greatest_ms.is_some() && times.len() < QUORUM) {
            return;
        }
        let middle = (times.len() - 1) / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        self.greatest_ms = self.greatest_ms.max(Some(*median));
    }

    /// Believes a time, or says why not.
    ///
    /// # Errors
    /// [`Reason::FutureTime`].
    pub fn admit(&mut self, time_ms: i64, now_ms: i64) -> Result<(), Refusal> {
        let (clock_ms, whose) = match self.source {
            ClockSource::Wall => (now_ms, "the clock"),
            ClockSource::Data => (self.greatest_ms.unwrap_or(time_ms), "the greatest time of all sources"),
        };
        let ahead = time_ms.saturating_sub(clock_ms);
        if ahead > self.ahead_ms {
            return Err(Refusal::new(
                Reason::FutureTime,
                format_args!(
                    "the event time {time_ms} ms is {ahead} ms ahead of {whose}, at most {} ms are taken",
                    self.ahead_ms
                ),
            ));
        }
        self.greatest_ms = self.greatest_ms.max(Some(time_ms));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use schemas::duration::Millis;

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn horizon(clock: ClockSource) -> Horizon {
        let config =
            Config { clock, max_future: Millis(5_000), max_jump: Millis(6 * HOUR), ..Config::default() };
        Horizon::new(&config, None)
    }

    #[test]
    fn the_wall_clock_limits() {
        let mut horizon = horizon(ClockSource::Wall);
        assert!(horizon.admit(105_000, 100_000).is_ok());
        assert_eq!(horizon.admit(105_001, 100_000).unwrap_err().reason, Reason::FutureTime);
        // A clock that jumps 6 hours on and back: what was refused is taken, and refused again.
        assert!(horizon.admit(105_001, 100_000 + 6 * HOUR).is_ok());
        assert!(horizon.admit(105_001, 100_000).is_err());
    }

    #[test]
    fn the_datas_clock_limits() {
        let mut horizon = horizon(ClockSource::Data);
        horizon.look([7].into_iter());
        assert!(horizon.admit(7, 0).is_ok());
        assert!(horizon.admit(7 + 6 * HOUR + 1, i64::MAX).is_err(), "the wall clock says nothing");
        assert!(horizon.admit(7 + 6 * HOUR, 0).is_ok(), "a jump of exactly the limit is taken");
        assert!(horizon.admit(1, 0).is_ok());
        assert!(horizon.admit(7 + 12 * HOUR, 0).is_ok(), "the greatest counts, not the last");
    }

    #[test]
    fn one_wild_first_time_is_not_believed() {
        let mut horizon = horizon(ClockSource::Data);
        let batch = [100 * HOUR, 1, 2, 3];
        horizon.look(batch.into_iter());
        assert!(horizon.admit(100 * HOUR, 0).is_err());
        assert!(horizon.admit(1, 0).is_ok());
    }

    #[test]
    fn the_many_carry_the_clock_over_a_gap() {
        let mut horizon = horizon(ClockSource::Data);
        horizon.look([1].into_iter());
        horizon.admit(1, 0).unwrap();
        horizon.look(std::iter::repeat_n(24 * HOUR, 15));
        assert!(horizon.admit(24 * HOUR, 0).is_err());
        horizon.look(std::iter::repeat_n(24 * HOUR, 16));
        assert!(horizon.admit(24 * HOUR, 0).is_ok());
    }
}
