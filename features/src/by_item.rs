//! The open views of a user with many, by item: a purchase must not go through thousands.
//!
//! Made when a look for a view has gone far, kept up from then on. Not part of the state.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::views::{Link, OpenView, Views};

/// Links to the views of each item, by time, then place.
#[derive(Debug, Clone, Default)]
pub(crate) struct ByItem(HashMap<u32, VecDeque<Link>, BuildHasherDefault<Spread>>);

/// Numbers of texts are no one's to choose: spreading them is enough.
#[derive(Debug, Clone, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

impl ByItem {
    /// Of these views, the latest first.
    pub(crate) fn of(chain: impl Iterator<Item = (u64, u32)>) -> Self {
        let mut by_item = Self::default();
        for (number, item) in chain {
            by_item.0.entry(item).or_default().push_front(Link::to(number));
        }
        by_item
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A view has come.
    pub(crate) fn add(&mut self, number: u64, view: &OpenView, item: u32, views: &Views) {
        let links = self.0.entry(item).or_default();
        let is_before = |link: &Link| views.at(*link).is_none_or(|(_, other)| other.key() < view.key());
        let at = if view.late { links.partition_point(is_before) } else { links.len() };
        links.insert(at, Link::to(number));
    }

    /// A view goes.
    pub(crate) fn remove(&mut self, number: u64, item: u32) {
        let Some(links) = self.0.get_mut(&item) else { return };
        if let Some(at) = links.iter().position(|link| *link == Link::to(number)) {
            links.remove(at);
        }
        if links.is_empty() {
            self.0.remove(&item);
        }
    }

    /// The open views of an item, the latest first, with their numbers.
    pub(crate) fn views<'a>(
        &'a self,
        item: u32,
        views: &'a Views,
    ) -> impl Iterator<Item = (u64, OpenView)> + 'a {
        self.0.get(&item).into_iter().flat_map(|links| links.iter().rev()).filter_map(|link| views.at(*link))
    }

    pub(crate) fn bytes(&self) -> usize {
        let links: usize = self.0.values().map(|links| links.capacity() * size_of::<Link>()).sum();
        links + self.0.capacity() * size_of::<(u32, VecDeque<Link>)>()
    }
}
