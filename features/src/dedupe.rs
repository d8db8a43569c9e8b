//! Repeats: which ids of a user have been seen within the horizon of event time.
//!
//! Knows ids by their 64-bit hash only. An id is told apart by kind and by line of its raw record,
//! so that the lines of an order are no repeats of one another.

use std::collections::VecDeque;

use schemas::Event;
use xxhash_rust::xxh3::xxh3_64;

use crate::spread::ByNumber;
use crate::wire::{Reader, SnapshotError, Writer};

/// Ids that are looked through one by one; more are found by their hash.
const FEW: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Id {
    hash: u64,
    time_ms: i64,
    offset: i64,
}

/// The ids of one user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// In order of arrival.
    ids: VecDeque<Id>,
    /// Of a user with many. Not part of the state.
    index: Option<Box<Index>>,
}

/// Where ids are, by their hash.
#[derive(Debug, Clone, Default)]
struct Index {
    /// Number of the first id that is held: they are numbered as they come.
    first: u64,
    /// Of each hash the number of its first id, and how many there are.
    of: ByNumber<u64, (u64, u32)>,
}

impl Index {
    fn of(ids: &VecDeque<Id>) -> Self {
        let mut index = Self::default();
        (0..).zip(ids).for_each(|(number, id)| index.add(number, id.hash));
        index
    }

    fn add(&mut self, number: u64, hash: u64) {
        self.of.entry(hash).or_insert((number, 0)).1 += 1;
    }

    /// The first id goes; `ids` are the others.
    fn forget(&mut self, hash: u64, ids: &VecDeque<Id>) {
        self.first += 1;
        let Some((number, count)) = self.of.get_mut(&hash) else { return };
        *count -= 1;
        if *count == 0 {
            self.of.remove(&hash);
        } else if let Some(next) = ids.iter().position(|id| id.hash == hash) {
            *number = self.first + next as u64;
        }
    }
}

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
        self.ids.is_empty()
    }

    /// Offset of the first event of that id within the horizon. `looked` counts the ids that it looks at.
    pub(crate) fn first(&self, hash: u64, time_ms: i64, horizon_ms: i64, looked: &mut u64) -> Option<i64> {
        let (from, mut left) = match &self.index {
            None => (0, u32::MAX),
            Some(index) => {
                let (number, count) = *index.of.get(&hash)?;
                ((number - index.first) as usize, count)
            }
        };
        let is_repeat = |id: &Id| id.hash == hash && id.time_ms.abs_diff(time_ms) <= horizon_ms as u64;
        for id in self.ids.range(from..) {
            *looked += 1;
            if is_repeat(id) {
                return Some(id.offset);
            }
            left -= u32::from(id.hash == hash);
            if left == 0 {
                break;
            }
        }
        None
    }

    pub(crate) fn add(&mut self, hash: u64, time_ms: i64, offset: i64, most: usize) {
        while self.ids.len() >= most {
            self.pop();
        }
        if let Some(index) = &mut self.index {
            index.add(index.first + self.ids.len() as u64, hash);
        }
        self.ids.push_back(Id { hash, time_ms, offset });
        if self.ids.len() > FEW && self.index.is_none() {
            self.index = Some(Box::new(Index::of(&self.ids)));
        }
    }

    fn pop(&mut self) {
        if let (Some(id), Some(index)) = (self.ids.pop_front(), &mut self.index) {
            index.forget(id.hash, &self.ids);
        }
    }

    /// Up to this time of the clock there is nothing to forget.
    pub(crate) fn quiet_until_ms(&self, horizon_ms: i64) -> i64 {
        self.ids.front().map_or(i64::MAX, |id| id.time_ms.saturating_add(horizon_ms))
    }

    /// Forgets ids that no event at or after the clock can repeat.
    pub(crate) fn purge(&mut self, clock_ms: i64, horizon_ms: i64) {
        let horizon = clock_ms.saturating_sub(horizon_ms);
        while self.ids.front().is_some_and(|id| id.time_ms < horizon) {
            self.pop();
        }
        if self.ids.is_empty() && self.ids.capacity() > 0 {
            *self = Self::default();
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let index =
            self.index.as_ref().map_or(0, |index| index.of.capacity() * size_of::<(u64, (u64, u32))>());
        self.ids.capacity() * size_of::<Id>() + index
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.len(self.ids.len());
        for id in &self.ids {
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
        let index = (ids.len() > FEW).then(|| Box::new(Index::of(&ids)));
        Ok(Self { ids, index })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Many ids and few, some of them again and again, against a list.
        #[test]
        fn repeats_are_those_of_a_list(
            events in proptest::collection::vec((0..400_u64, 0..40_i64, any::<bool>()), 1..500),
            most in 1..200_usize, horizon in 1..200_i64,
        ) {
            let (mut seen, mut list) = (Seen::default(), VecDeque::new());
            let mut looked = 0;
            for (offset, (hash, late, is_hot)) in (0..).zip(events) {
                let hash = if is_hot { hash % 3 } else { hash };
                let time_ms = offset * 2 - late;
                seen.purge(offset * 2 - 40, horizon);
                while list.front().is_some_and(|(_, time, _)| *time < offset * 2 - 40 - horizon) {
                    list.pop_front();
                }
                let is_repeat = |id: &&(u64, i64, i64)| id.0 == hash && (id.1 - time_ms).abs() <= horizon;
                let want = list.iter().find(is_repeat).map(|id| id.2);
                prop_assert_eq!(seen.first(hash, time_ms, horizon, &mut looked), want);
                if want.is_none() {
                    seen.add(hash, time_ms, offset, most);
                    while list.len() >= most {
                        list.pop_front();
                    }
                    list.push_back((hash, time_ms, offset));
                }
                prop_assert!(seen.index.is_some() || list.len() <= FEW);
            }
        }
    }
}
