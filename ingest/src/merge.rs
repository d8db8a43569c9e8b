//! Takes the records of several partitions in event-time order, as far as what is at hand allows.
//!
//! A partition that is not known to stand at its end is waited for (KIP-695 does the same in Kafka
//! Streams); one that stands at its end is not. What is held meanwhile is bounded: full lanes ask
//! for a pause. A partition that has unread data but gives none, poll after poll, is given up
//! until it gives something again, so that one unreadable partition does not hold the others.
//!
//! Knows nothing of Kafka, nor what the items are.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Successful polls without anything from a lane, at the least, before it is given up.
const PATIENCE_POLLS: u32 = 5;

/// How much may be held, and how long a lane is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Items of one lane at which it asks for a pause.
    pub lane_items: usize,
    /// Bytes over all lanes at which every lane with items asks for one.
    pub total_bytes: usize,
    /// How long a lane that gives nothing is waited for, ms.
    pub wait_ms: i64,
}

/// The lanes, numbered from 0. At one time, lower numbers go first.
#[derive(Debug)]
pub struct Merge<T> {
    bounds: Bounds,
    lanes: Vec<Lane<T>>,
    /// The first item of every lane that has one: (time, lane).
    heads: BinaryHeap<Reverse<(i64, u32)>>,
    bytes: usize,
    held: usize,
    /// How many lanes are waited for.
    awaited: usize,
}

#[derive(Debug)]
struct Lane<T> {
    queue: VecDeque<Held<T>>,
    at_end: bool,
    given_up: bool,
    paused: bool,
    /// Polls that others waited for it in vain, and when that began.
    missed: u32,
    missed_since_ms: i64,
}

#[derive(Debug)]
struct Held<T> {
    time_ms: i64,
    bytes: usize,
    item: T,
}

impl<T> Lane<T> {
    fn is_awaited(&self) -> bool {
        self.queue.is_empty() && !self.at_end && !self.given_up
    }
}

impl<T> Merge<T> {
    /// With so many empty lanes, none known to be at its end.
    pub fn new(lanes: usize, bounds: Bounds) -> Self {
        let lane = || Lane {
            queue: VecDeque::new(),
            at_end: false,
            given_up: false,
            paused: false,
            missed: 0,
            missed_since_ms: 0,
        };
        Self {
            bounds,
            lanes: std::iter::repeat_with(lane).take(lanes).collect(),
            heads: BinaryHeap::new(),
            bytes: 0,
            held: 0,
            awaited: lanes,
        }
    }

    /// How much it may hold.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Puts an item at the end of a lane. `None` as its time: it has none and waits for no other
    /// lane, only for the items before it.
    pub fn push(&mut self, lane: usize, time_ms: Option<i64>, bytes: usize, item: T) {
        let time_ms = time_ms.unwrap_or(i64::MIN);
        let entry = &mut self.lanes[lane];
        if entry.is_awaited() {
            self.awaited -= 1;
        }
        entry.at_end = false;
        entry.given_up = false;
        entry.missed = 0;
        if entry.queue.is_empty() {
            self.heads.push(Reverse((time_ms, lane as u32)));
        }
        entry.queue.push_back(Held { time_ms, bytes, item });
        self.bytes += bytes;
        self.held += 1;
    }

    /// A poll succeeded and gave nothing more; says of each lane whether it stands at its end.
    pub fn drained(&mut self, at_end: &[bool], now_ms: i64) {
        debug_assert_eq!(at_end.len(), self.lanes.len(), "one answer per lane");
        let held = self.held > 0;
        for (lane, at_end) in self.lanes.iter_mut().zip(at_end) {
            lane.at_end = *at_end;
            if *at_end {
                lane.given_up = false;
            }
            if !held || !lane.is_awaited() {
                lane.missed = 0;
                continue;
            }
            if lane.missed == 0 || now_ms < lane.missed_since_ms {
                lane.missed_since_ms = now_ms;
            }
            lane.missed += 1;
            if lane.missed >= PATIENCE_POLLS && now_ms - lane.missed_since_ms >= self.bounds.wait_ms {
                lane.given_up = true;
            }
        }
        self.awaited = self.lanes.iter().filter(|lane| lane.is_awaited()).count();
    }

    /// Time of the item that [`Merge::pop`] would give; [`i64::MIN`] of one that has none.
    pub fn next_ms(&self) -> Option<i64> {
        let Reverse((time_ms, _)) = *self.heads.peek()?;
        (self.awaited == 0 || time_ms == i64::MIN).then_some(time_ms)
    }

    /// The lanes that have items, each with the time of its first.
    pub fn heads(&self) -> impl Iterator<Item = (usize, i64)> {
        self.heads.iter().map(|Reverse((time_ms, lane))| (*lane as usize, *time_ms))
    }

    /// The next item in order and its lane; `None` if there is none, or a lane is waited for.
    pub fn pop(&mut self) -> Option<(usize, T)> {
        self.next_ms()?;
        let Reverse((_, lane)) = self.heads.pop()?;
        let lane = lane as usize;
        let entry = &mut self.lanes[lane];
        let held = entry.queue.pop_front()?;
        if let Some(next) = entry.queue.front() {
            self.heads.push(Reverse((next.time_ms, lane as u32)));
        } else if entry.is_awaited() {
            self.awaited += 1;
        }
        self.bytes -= held.bytes;
        self.held -= 1;
        Some((lane, held.item))
    }

    /// The lanes that should not be read for now. A lane without items is never among them; one
    /// that is paused stays so until half of it is gone, since pausing throws away what the client
    /// has fetched ahead.
    pub fn paused(&mut self) -> impl Iterator<Item = usize> + '_ {
        let full = self.bytes >= self.bounds.total_bytes;
        let roomy = self.bytes <= self.bounds.total_bytes / 2;
        for lane in &mut self.lanes {
            let length = lane.queue.len();
            lane.paused = if lane.paused {
                length > self.bounds.lane_items / 2 || (length > 0 && !roomy)
            } else {
                length >= self.bounds.lane_items || (length > 0 && full)
            };
        }
        self.lanes.iter().enumerate().filter(|(_, lane)| lane.paused).map(|(at, _)| at)
    }

    /// Whether the lane holds nothing.
    pub fn is_empty(&self, lane: usize) -> bool {
        self.lanes[lane].queue.is_empty()
    }

    /// Items held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Bytes held.
    pub fn held_bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
