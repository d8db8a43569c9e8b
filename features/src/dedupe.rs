//! Repeats: which ids of a user have been seen within the horizon of event time.
//!
//! Knows ids by their 64-bit hash only. An id is told apart by kind and by line of its raw record,
//! so that the lines of an order are no repeats of one another.

use std::collections::VecDeque;

use schemas::Event;
use xxhash_rust::xxh3::xxh3_64;

use crate::wire::{Reader, SnapshotError, Writer};

#[derive(Debug, Clone, Copy, PartialEq)]
struct Id {
    hash: u64,
    time_ms: i64,
    offset: i64,
}

/// The ids of one user, in order of arrival.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(VecDeque<Id>);

/// How events are told apart.
pub(crate) enum Identity {
    /// By the customer's id.
    Id(u64),
    /// By what it says.
    Content(u64),
}

impl Identity {
    /// That of the event; `None` if it cannot be told apart.
    pub(crate) fn of(event: &Event, by_content: bool) -> Option<Self> {
        if !event.event_id.is_empty() {
            return Some(Self::Id(hash_of(event, event.event_id.as_bytes())));
        }
        by_content.then(|| {
            let mut content = Vec::with_capacity(256);
            for text in [
                &event.item,
                &event.campaign,
                &event.placement,
                &event.device,
                &event.channel,
                &event.view_id,
                &event.request_id,
                &event.context,
                &event.currency,
            ] {
                content.extend_from_slice(&(text.len() as u64).to_le_bytes());
                content.extend_from_slice(text.as_bytes());
            }
            content.extend_from_slice(&event.event_time_ms.to_le_bytes());
            content.extend_from_slice(&event.value.to_bits().to_le_bytes());
            content.extend_from_slice(&event.quantity.to_le_bytes());
            for number in &event.numbers {
                content.extend_from_slice(&number.to_bits().to_le_bytes());
            }
            Self::Content(hash_of(event, &content))
        })
    }

    /// The hash.
    pub(crate) fn hash(&self) -> u64 {
        let (Self::Id(hash) | Self::Content(hash)) = self;
        *hash
    }
}

/// Hash of an id with the event's kind and line. Hashed twice: as xxh3's seed they would only be
/// added to a short id's bits, and `e25` of one kind would be `e26` of the next.
fn hash_of(event: &Event, id: &[u8]) -> u64 {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&xxh3_64(id).to_le_bytes());
    key[8..12].copy_from_slice(&event.origin.line.to_le_bytes());
    key[12..].copy_from_slice(&event.kind.to_le_bytes());
    xxh3_64(&key)
}

/// A view's id, or a click's name of it, as a number; 0 where there is none.
pub(crate) fn id_hash(id: &str) -> u64 {
    if id.is_empty() { 0 } else { xxh3_64(id.as_bytes()).max(1) }
}

impl Seen {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Offset of the first event of that id within the horizon.
    pub(crate) fn first(&self, hash: u64, time_ms: i64, horizon_ms: i64) -> Option<i64> {
        let repeat = |id: &&Id| id.hash == hash && id.time_ms.abs_diff(time_ms) <= horizon_ms as u64;
        self.0.iter().find(repeat).map(|id| id.offset)
    }

    pub(crate) fn add(&mut self, hash: u64, time_ms: i64, offset: i64, most: usize) {
        while self.0.len() >= most {
            self.0.pop_front();
        }
        self.0.push_back(Id { hash, time_ms, offset });
    }

    /// Up to this time of the clock there is nothing to forget.
    pub(crate) fn quiet_until_ms(&self, horizon_ms: i64) -> i64 {
        self.0.front().map_or(i64::MAX, |id| id.time_ms.saturating_add(horizon_ms))
    }

    /// Forgets ids that no event at or after the clock can repeat.
    pub(crate) fn purge(&mut self, clock_ms: i64, horizon_ms: i64) {
        let horizon = clock_ms.saturating_sub(horizon_ms);
        while self.0.front().is_some_and(|id| id.time_ms < horizon) {
            self.0.pop_front();
        }
        if self.0.is_empty() && self.0.capacity() > 0 {
            self.0 = VecDeque::new();
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Id>()
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.len(self.0.len());
        for id in &self.0 {
            out.fixed(id.hash);
            out.int(id.time_ms);
            out.int(id.offset);
        }
    }

    pub(crate) fn read_from(input: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        let count = input.len()?;
        let mut ids = VecDeque::with_capacity(count);
        for _ in 0..count {
            ids.push_back(Id { hash: input.fixed()?, time_ms: input.time()?, offset: input.int()? });
        }
        Ok(Self(ids))
    }
}
