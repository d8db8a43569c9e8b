//! When vectors came out, partition by partition.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use runtime::processor::TopicPartition;
use runtime::shutdown::Shutdown;

use crate::context::Context;

/// A time in which no vector of a partition came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) struct Silence {
    pub(in crate::bench) partition: usize,
    /// When the last vector before it came.
    pub(in crate::bench) began: Instant,
    /// When the first after it did.
    pub(in crate::bench) ended: Instant,
}

impl Silence {
    fn length(&self) -> Duration {
        self.ended - self.began
    }

    pub(in crate::bench) fn ms(&self) -> f64 {
        self.length().as_secs_f64() * 1e3
    }
}

/// When vectors came out.
pub(in crate::bench) struct Arrivals(Mutex<Vec<Vec<Instant>>>);

impl Arrivals {
    pub(in crate::bench) fn new(partitions: usize) -> Self {
        Self(Mutex::new(vec![Vec::new(); partitions]))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<Instant>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes vectors as a reader of committed records sees them, from the first on, until told to stop.
    ///
    /// # Errors
    /// A topic that cannot be read.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
    pub(in crate::bench) fn watch(&self, context: &Context, stop: &Shutdown) -> Result<()> {
        let topic = &context.names.feature_vectors;
        let mut reader = context.reader()?;
        let begins = reader.begin_offsets(topic)?.into_iter().enumerate();
        let of = |partition| TopicPartition { topic: Arc::clone(topic), partition };
        let from: Vec<_> = begins.map(|(partition, begin)| (of(partition as i32), begin)).collect();
        reader.assign(&from)?;
        while !stop.is_set() {
            let came = reader.poll(1_000, Duration::from_millis(20))?;
            let now = Instant::now();
            let mut arrivals = self.lock();
            for record in came {
                if let Some(arrivals) = arrivals.get_mut(record.record.partition as usize) {
                    arrivals.push(now);
                }
            }
        }
        Ok(())
    }

    /// How many came.
    pub(in crate::bench) fn count(&self) -> u64 {
        self.lock().iter().map(|arrivals| arrivals.len() as u64).sum()
    }

    /// How many came after a time of the partition of which the fewest did.
    pub(in crate::bench) fn after(&self, time: Instant) -> usize {
        let after =
            |arrivals: &Vec<Instant>| arrivals.len() - arrivals.partition_point(|arrival| *arrival <= time);
        self.lock().iter().map(after).min().unwrap_or(0)
    }

    /// The longest time without any vector of a partition, since its last before `time`.
    pub(in crate::bench) fn longest_silence(&self, time: Instant) -> Option<Silence> {
        let all = self.lock();
        let silences = all.iter().enumerate().flat_map(|(partition, arrivals)| {
            let from = arrivals.partition_point(|arrival| *arrival <= time).saturating_sub(1);
            let pairs = arrivals[from..].windows(2);
            pairs.map(move |pair| Silence { partition, began: pair[0], ended: pair[1] })
        });
        silences.max_by_key(Silence::length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn the_longest_silence_of_any_partition_is_looked_for_from_its_last_arrival_before() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let silence = |partition, began, ended| Silence { partition, began: at(began), ended: at(ended) };
        let times = [vec![0, 900, 1_000, 1_400, 1_410], vec![0, 300, 700, 1_200, 1_420]];
        let arrivals = Arrivals(Mutex::new(times.map(|times| times.into_iter().map(at).collect()).to_vec()));
        assert_eq!(arrivals.longest_silence(at(10)), Some(silence(0, 0, 900)));
        assert_eq!(arrivals.longest_silence(at(950)), Some(silence(1, 700, 1_200)), "it began before");
        assert_eq!(arrivals.longest_silence(at(1_250)), Some(silence(0, 1_000, 1_400)));
        assert_eq!(arrivals.longest_silence(at(2_000)), None);
        assert_eq!(arrivals.after(at(800)), 2, "of the one with fewer");
        assert_eq!(arrivals.after(at(1_415)), 0, "one has none");
        assert_eq!(arrivals.count(), 10);
    }
}
