//! The open views of a user with many, by item: a purchase must not go through thousands.
//!
//! Made when a look for a view has gone far, kept up from then on. Not part of the state.

use std::collections::VecDeque;

use crate::spread::ByNumber;
use crate::views::{Link, OpenView, Views};

/// Links to the views of one item, by time, then place. Of most items there is one.
#[derive(Debug, Clone)]
#[expect(clippy::box_collection, reason = "a list in place would make each entry of the map twice as large")]
enum Links {
    One(Link),
    Many(Box<VecDeque<Link>>),
}

impl Links {
    fn insert_by(&mut self, link: Link, is_before: impl Fn(&Link) -> bool) {
        if let Self::One(one) = *self {
            *self = Self::Many(Box::new(VecDeque::from([one])));
        }
        if let Self::Many(many) = self {
            let at = many.partition_point(is_before);
            many.insert(at, link);
        }
    }

    /// Takes a link out; whether none is left.
    fn remove(&mut self, link: Link) -> bool {
        match self {
            Self::One(one) => *one == link,
            Self::Many(many) => {
                if let Some(at) = many.iter().position(|other| *other == link) {
                    many.remove(at);
                }
                many.is_empty()
            }
        }
    }

    fn latest_first(&self) -> impl Iterator<Item = Link> {
        let (one, many) = match self {
            Self::One(one) => (Some(*one), None),
            Self::Many(many) => (None, Some(many)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|many| many.iter().rev().copied()))
    }

    fn bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many(many) => size_of::<VecDeque<Link>>() + many.capacity() * size_of::<Link>(),
        }
    }
}

/// Links to the open views of each item.
#[derive(Debug, Clone, Default)]
pub(crate) struct ByItem {
    all: ByNumber<u32, Links>,
    /// Those that a purchase was credited to, by the last one.
    bought: ByNumber<u32, Vec<Link>>,
}

/// Time and offset of a purchase.
type Key = (i64, i64);

impl ByItem {
    /// Of these views, the latest first: number, item, and the last purchase that was credited to it.
    pub(crate) fn of(chain: impl Iterator<Item = (u64, u32, Option<Key>)>) -> Self {
        let mut by_item = Self::default();
        let mut bought = Vec::new();
        for (number, item, last) in chain {
            let link = Link::to(number);
            // Before all that have come.
            let insert = |links: &mut Links| links.insert_by(link, |_| false);
            by_item.all.entry(item).and_modify(insert).or_insert(Links::One(link));
            bought.extend(last.map(|last| (last, item, Link::to(number))));
        }
        bought.sort_unstable_by_key(|(last, ..)| *last);
        for (_, item, link) in bought {
            by_item.bought.entry(item).or_default().push(link);
        }
        by_item
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A view has come.
    pub(crate) fn add(&mut self, number: u64, view: &OpenView, item: u32, views: &Views) {
        let link = Link::to(number);
        let is_before =
            |link: &Link| !view.late || views.at(*link).is_none_or(|(_, other)| other.key() < view.key());
        let insert = |links: &mut Links| links.insert_by(link, is_before);
        self.all.entry(item).and_modify(insert).or_insert(Links::One(link));
    }

    /// A purchase was credited to a view; `is_later` is whether another's last came after its own.
    pub(crate) fn buy(&mut self, number: u64, item: u32, is_later: impl Fn(Link) -> bool) {
        let links = self.bought.entry(item).or_default();
        if let Some(at) = links.iter().rposition(|link| *link == Link::to(number)) {
            links.remove(at);
        }
        let at = links.iter().rposition(|link| !is_later(*link)).map_or(0, |at| at + 1);
        links.insert(at, Link::to(number));
    }

    /// A view goes.
    pub(crate) fn remove(&mut self, number: u64, item: u32) {
        let is_it = |link: &Link| *link == Link::to(number);
        if self.all.get_mut(&item).is_some_and(|links| links.remove(Link::to(number))) {
            self.all.remove(&item);
        }
        if let Some(links) = self.bought.get_mut(&item) {
            if let Some(at) = links.iter().position(is_it) {
                links.remove(at);
            }
            if links.is_empty() {
                self.bought.remove(&item);
            }
        }
    }

    /// The open views of an item, the latest first, with their numbers.
    pub(crate) fn views<'a>(
        &'a self,
        item: u32,
        views: &'a Views,
    ) -> impl Iterator<Item = (u64, OpenView)> + 'a {
        let links = self.all.get(&item).into_iter().flat_map(Links::latest_first);
        links.filter_map(|link| views.at(link))
    }

    /// Those of them that a purchase was credited to, the last one first.
    pub(crate) fn bought<'a>(
        &'a self,
        item: u32,
        views: &'a Views,
    ) -> impl Iterator<Item = (u64, OpenView)> + 'a {
        self.bought
            .get(&item)
            .into_iter()
            .flat_map(|links| links.iter().rev())
            .filter_map(|link| views.at(*link))
    }

    pub(crate) fn bytes(&self) -> usize {
        let all: usize = self.all.values().map(Links::bytes).sum();
        let bought: usize = self.bought.values().map(Vec::capacity).sum();
        all + bought * size_of::<Link>()
            + self.all.capacity() * size_of::<(u32, Links)>()
            + self.bought.capacity() * size_of::<(u32, Vec<Link>)>()
    }
}
