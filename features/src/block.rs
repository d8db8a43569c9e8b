//! Up to 64 events of one user in a block of words, by time, then arrival.
//!
//! | words | what |
//! |---|---|
//! | 1 | the user's number |
//! | 1 | how many events, how many there is room for, how many values |
//! | 2 | the time that the times count from, ms |
//! | 12 bits an event | planes: bit i of a plane is the i-th event's |
//! | 1 an event | ms since that time; [`PAST`] behind the last event |
//! | 1 an event | number of its subject |
//! | 1 a value | `f32`, of the events that have one, in their order |
//!
//! The planes are the three bits of the kind, whether there is a value, and four bits each of the
//! campaign's and the category's tag: so a mask of all 64 events of a kind, or of nearly only those under
//! one campaign, is a few operations on whole words, on any processor.

#![expect(
    clippy::inline_always,
    reason = "the scan is compiled once for each processor, with all that it calls"
)]

use crate::plan::KINDS;
use crate::slab::rounded;

/// Events of a block, at most.
pub(crate) const MOST: usize = 64;
/// Planes of a block.
pub(crate) const PLANES: usize = 12;
/// A time later than any.
pub(crate) const PAST: u32 = u32::MAX;
const META: usize = 1;
const BASE: usize = 2;
const HEAD: usize = 4;
/// Bits of a kind, and the place of the bit that tells of a value.
const KIND_BITS: usize = 3;
const VALUE_PLANE: usize = KIND_BITS;
/// Where the tags begin, and their bits.
const TAGS: [usize; 2] = [VALUE_PLANE + 1, VALUE_PLANE + 1 + TAG_BITS];
const TAG_BITS: usize = 4;
const _: () = assert!(TAGS[1] + TAG_BITS == PLANES && KINDS <= 1 << KIND_BITS);

/// One event. `number` is its subject's: item, campaign and category.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Logged {
    pub(crate) time_ms: i64,
    pub(crate) number: u32,
    pub(crate) value: f32,
    pub(crate) kind: u8,
    /// Tags of campaign and category.
    pub(crate) tags: [u8; 2],
}

/// A few bits of a campaign's or a category's number: different tags, different numbers.
pub(crate) fn tag(id: u32) -> u8 {
    (id.wrapping_mul(0x9e37_79b9) >> (32 - TAG_BITS)) as u8
}

impl Logged {
    fn code(&self) -> u32 {
        let [campaign, category] = self.tags.map(u32::from);
        u32::from(self.kind)
            | u32::from(self.has_value()) << VALUE_PLANE
            | campaign << TAGS[0]
            | category << TAGS[1]
    }

    fn has_value(&self) -> bool {
        self.value.to_bits() != 0
    }
}

/// Room for that many events: little more than they need, in steps.
pub(crate) fn room_for(events: usize) -> usize {
    events.next_multiple_of(if events <= 32 { 4 } else { 8 })
}

fn plane_words(room: usize) -> usize {
    (PLANES * room).div_ceil(32)
}

/// Words of a block with room for so many events and values.
pub(crate) fn words_for(room: usize, values: usize) -> usize {
    rounded(HEAD + plane_words(room) + 2 * room + values)
}

/// The lowest bits.
pub(crate) fn low(bits: usize) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

/// Masks of a block's events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planes {
    planes: [u64; PLANES],
    valid: u64,
}

impl Planes {
    /// Events by kind.
    #[inline(always)]
    pub(crate) fn kinds(&self) -> [u64; KINDS] {
        let [a, b, c, ..] = self.planes;
        [!(a | b | c) & self.valid, a & !b, b & !a, a & b, c]
    }

    /// Events with a value.
    #[inline(always)]
    pub(crate) fn valued(&self) -> u64 {
        self.planes[VALUE_PLANE]
    }

    /// Events whose tag is this: 0 for the campaign's, 1 for the category's.
    #[inline(always)]
    pub(crate) fn tagged(&self, which: usize, tag: u8) -> u64 {
        (0..TAG_BITS).fold(self.valid, |mask, bit| {
            let plane = self.planes[TAGS[which] + bit];
            mask & if tag >> bit & 1 == 1 { plane } else { !plane }
        })
    }

    fn code(&self, at: usize) -> u32 {
        (0..PLANES).fold(0, |code, plane| code | ((self.planes[plane] >> at & 1) as u32) << plane)
    }
}

/// A block to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a>(pub(crate) &'a [u32]);

impl<'a> Block<'a> {
    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        (self.0[META] & 0xff) as usize
    }

    #[inline(always)]
    fn room(self) -> usize {
        (self.0[META] >> 8 & 0xff) as usize
    }

    fn values_len(self) -> usize {
        (self.0[META] >> 16) as usize
    }

    /// Whether the event fits in without another layout.
    pub(crate) fn fits(self, event: &Logged) -> bool {
        let room = self.0.len() - self.values_at() - self.values_len();
        self.len() < self.room() && room >= usize::from(event.has_value())
    }

    /// Room and values that one event more asks for.
    pub(crate) fn with(self, event: &Logged) -> (usize, usize) {
        (room_for(self.len() + 1), self.values_len() + usize::from(event.has_value()))
    }

    /// Whether a smaller block would do.
    pub(crate) fn is_loose(self) -> bool {
        room_for(self.len()) < self.room()
    }

    /// Words of a block that holds just what is here.
    pub(crate) fn least(self) -> (usize, usize) {
        (room_for(self.len()), self.values_len())
    }

    #[inline(always)]
    pub(crate) fn base_ms(self) -> i64 {
        i64::from(self.0[BASE]) | i64::from(self.0[BASE + 1]) << 32
    }

    #[inline(always)]
    fn times_at(self) -> usize {
        HEAD + plane_words(self.room())
    }

    fn values_at(self) -> usize {
        self.times_at() + 2 * self.room()
    }

    /// Times since the base, ms, ascending.
    #[inline(always)]
    pub(crate) fn times(self) -> &'a [u32] {
        &self.0[self.times_at()..][..self.len()]
    }

    /// Subjects' numbers.
    #[inline(always)]
    pub(crate) fn numbers(self) -> &'a [u32] {
        &self.0[self.times_at() + self.room()..][..self.len()]
    }

    /// The value of an event that has one.
    #[inline(always)]
    pub(crate) fn value(self, valued: u64, at: usize) -> f32 {
        f32::from_bits(self.0[self.values_at() + (valued & low(at)).count_ones() as usize])
    }

    pub(crate) fn time_ms(self, at: usize) -> i64 {
        self.base_ms() + i64::from(self.0[self.times_at() + at])
    }

    pub(crate) fn first_ms(self) -> i64 {
        self.time_ms(0)
    }

    #[inline(always)]
    pub(crate) fn last_ms(self) -> i64 {
        self.time_ms(self.len() - 1)
    }

    /// How many events are of that time or before.
    pub(crate) fn end(self, time_ms: i64) -> usize {
        if self.last_ms() <= time_ms {
            return self.len();
        }
        if self.first_ms() > time_ms {
            return 0;
        }
        let base_ms = self.base_ms();
        self.times().partition_point(|time| base_ms + i64::from(*time) <= time_ms)
    }

    /// The time since the base, where the block can hold it.
    pub(crate) fn delta(self, time_ms: i64) -> Option<u32> {
        let delta = u32::try_from(time_ms.checked_sub(self.base_ms())?).ok()?;
        (delta < PAST).then_some(delta)
    }

    /// The masks. What lies behind the planes is read with them and cut off.
    #[inline(always)]
    pub(crate) fn planes(self) -> Planes {
        self.first_planes(PLANES)
    }

    /// The masks without those of tags that nobody asks for: of categories where `campaigns` alone are.
    #[inline(always)]
    pub(crate) fn planes_for(self, campaigns: bool, categories: bool) -> Planes {
        if categories { self.planes() } else { self.first_planes(if campaigns { TAGS[1] } else { TAGS[0] }) }
    }

    #[inline(always)]
    fn first_planes(self, count: usize) -> Planes {
        let (room, valid) = (self.room(), low(self.len()));
        let words = &self.0[HEAD..];
        let mut planes = [0; PLANES];
        for (plane, mask) in planes.iter_mut().enumerate().take(count) {
            let (at, shift) = (plane * room / 32, plane * room % 32);
            let [first, second, third] = [words[at], words[at + 1], words[at + 2]].map(u64::from);
            *mask = ((first | second << 32) >> shift | third << 1 << (63 - shift)) & valid;
        }
        Planes { planes, valid }
    }

    /// The events, oldest first.
    pub(crate) fn events(self) -> impl DoubleEndedIterator<Item = Logged> + ExactSizeIterator + 'a {
        let planes = self.planes();
        (0..self.len()).map(move |at| self.event(&planes, at))
    }

    pub(crate) fn event(self, planes: &Planes, at: usize) -> Logged {
        let code = planes.code(at);
        let tag = |which: usize| (code >> TAGS[which] & ((1 << TAG_BITS) - 1)) as u8;
        let value = if code >> VALUE_PLANE & 1 == 1 { self.value(planes.valued(), at) } else { 0.0 };
        Logged {
            time_ms: self.time_ms(at),
            number: self.numbers()[at],
            value,
            kind: (code & ((1 << KIND_BITS) - 1)) as u8,
            tags: [tag(0), tag(1)],
        }
    }
}

/// A block to be changed.
#[derive(Debug)]
pub(crate) struct BlockMut<'a>(pub(crate) &'a mut [u32]);

impl BlockMut<'_> {
    fn block(&self) -> Block<'_> {
        Block(self.0)
    }

    fn set_meta(&mut self, len: usize, room: usize, values: usize) {
        self.0[META] = len as u32 | (room as u32) << 8 | (values as u32) << 16;
    }

    /// Makes zeroed words an empty block.
    pub(crate) fn start(&mut self, owner: u32, base_ms: i64, room: usize) {
        self.0[crate::slab::OWNER] = owner;
        self.0[BASE] = base_ms as u32;
        self.0[BASE + 1] = (base_ms >> 32) as u32;
        self.set_meta(0, room, 0);
        let at = self.block().times_at();
        self.0[at..at + room].fill(PAST);
    }

    /// Puts an event that fits at a position; `delta` is its time since the base.
    pub(crate) fn insert(&mut self, at: usize, delta: u32, event: &Logged) {
        let block = self.block();
        let (len, room, values) = (block.len(), block.room(), block.values_len());
        let (times_at, values_at) = (block.times_at(), block.values_at());
        let (code, has_value) = (event.code(), event.has_value());
        if at < len {
            let planes = block.planes();
            let value_at = values_at + (planes.valued() & low(at)).count_ones() as usize;
            let times = &mut self.0[times_at..times_at + 2 * room];
            times.copy_within(at..len, at + 1);
            times.copy_within(room + at..room + len, room + at + 1);
            if has_value {
                self.0.copy_within(value_at..values_at + values, value_at + 1);
                self.0[value_at] = event.value.to_bits();
            }
            for (plane, mask) in planes.planes.iter().enumerate() {
                let bit = u64::from(code >> plane & 1) << at;
                self.set_plane(plane, mask & low(at) | bit | (mask & !low(at)) << 1);
            }
        } else {
            for plane in (0..PLANES).filter(|plane| code >> plane & 1 == 1) {
                let bit = plane * room + at;
                self.0[HEAD + bit / 32] |= 1 << (bit % 32);
            }
            if has_value {
                self.0[values_at + values] = event.value.to_bits();
            }
        }
        self.0[times_at + at] = delta;
        self.0[times_at + room + at] = event.number;
        self.set_meta(len + 1, room, values + usize::from(has_value));
    }

    /// Drops the first events.
    pub(crate) fn drop_front(&mut self, count: usize) {
        let block = self.block();
        let (len, room, values) = (block.len(), block.room(), block.values_len());
        let (times_at, values_at) = (block.times_at(), block.values_at());
        let planes = block.planes();
        let gone = (planes.valued() & low(count)).count_ones() as usize;
        let times = &mut self.0[times_at..times_at + 2 * room];
        times.copy_within(count..len, 0);
        times[len - count..len].fill(PAST);
        times.copy_within(room + count..room + len, room);
        self.0.copy_within(values_at + gone..values_at + values, values_at);
        for (plane, mask) in planes.planes.iter().enumerate() {
            self.set_plane(plane, mask.checked_shr(count as u32).unwrap_or(0));
        }
        self.set_meta(len - count, room, values - gone);
    }

    /// Copies the events of another block behind an empty one's head: its base, another room.
    pub(crate) fn copy_from(&mut self, other: Block<'_>) {
        let (len, room) = (other.len(), self.block().room());
        let (times_at, values_at) = (self.block().times_at(), self.block().values_at());
        self.0[times_at..times_at + len].copy_from_slice(other.times());
        self.0[times_at + room..][..len].copy_from_slice(other.numbers());
        let values = other.values_len();
        self.0[values_at..values_at + values].copy_from_slice(&other.0[other.values_at()..][..values]);
        // An empty block's planes are 0, and so is what a mask has above its last event.
        let words = &mut self.0[HEAD..];
        for (plane, mask) in other.planes().planes.iter().enumerate() {
            let (at, shift) = (plane * room / 32, plane * room % 32);
            let wide = u128::from(*mask) << shift;
            for (word, shift) in words[at..at + 3].iter_mut().zip([0, 32, 64]) {
                *word |= (wide >> shift) as u32;
            }
        }
        self.set_meta(len, room, values);
    }

    fn set_plane(&mut self, plane: usize, mask: u64) {
        let room = self.block().room();
        let words = &mut self.0[HEAD..];
        let (mut bit, end, mut mask) = (plane * room, (plane + 1) * room, mask);
        while bit < end {
            let (at, shift) = (bit / 32, bit % 32);
            let count = (32 - shift).min(end - bit);
            let cut = (low(count) << shift) as u32;
            words[at] = words[at] & !cut | ((mask << shift) as u32 & cut);
            mask >>= count;
            bit += count;
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail so")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(time_ms: i64, seed: u32) -> Logged {
        let has_value = seed.is_multiple_of(3);
        Logged {
            time_ms,
            number: seed,
            value: if has_value { seed as f32 + 0.5 } else { 0.0 },
            kind: (seed % KINDS as u32) as u8,
            tags: [tag(seed % 7), tag(seed % 5)],
        }
    }

    proptest! {
        /// A block against a list: inserts anywhere, drops at the front, copies to another room.
        #[test]
        fn a_block_is_a_list(moves in proptest::collection::vec((0..100_000_i64, any::<u32>(), 0..9_u8), 1..150)) {
            let mut list: Vec<Logged> = Vec::new();
            let mut words = vec![0; words_for(4, 1)];
            BlockMut(&mut words).start(7, 5, 4);
            for (time_ms, seed, what) in moves {
                if what == 0 && !list.is_empty() {
                    let count = seed as usize % (list.len() + 1);
                    list.drain(..count);
                    BlockMut(&mut words).drop_front(count);
                } else if list.len() < MOST {
                    let event = event(time_ms + 5, seed);
                    let block = Block(&words);
                    if !block.fits(&event) {
                        let (room, values) = block.with(&event);
                        let mut grown = vec![0; words_for(room, values)];
                        let mut to = BlockMut(&mut grown);
                        to.start(7, block.base_ms(), room);
                        to.copy_from(block);
                        words = grown;
                    }
                    let at = list.partition_point(|e| e.time_ms <= event.time_ms);
                    let block = Block(&words);
                    prop_assert!(list.is_empty() || block.end(event.time_ms) == at);
                    let delta = block.delta(event.time_ms).unwrap();
                    BlockMut(&mut words).insert(at, delta, &event);
                    list.insert(at, event);
                }
                let block = Block(&words);
                prop_assert_eq!(block.events().collect::<Vec<_>>(), list.clone());
                let mask = |is: &dyn Fn(&Logged) -> bool| {
                    list.iter().enumerate().fold(0, |mask, (at, e)| mask | u64::from(is(e)) << at)
                };
                let planes = block.planes();
                for kind in 0..KINDS {
                    prop_assert_eq!(planes.kinds()[kind], mask(&|e| usize::from(e.kind) == kind));
                }
                for id in 0..7 {
                    prop_assert_eq!(planes.tagged(0, tag(id)), mask(&|e| e.tags[0] == tag(id)));
                    prop_assert_eq!(planes.tagged(1, tag(id)), mask(&|e| e.tags[1] == tag(id)));
                }
            }
        }
    }
}
