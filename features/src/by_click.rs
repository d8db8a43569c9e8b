//! The clicks of a user with many, by what they may answer, and the views that they may name: a decision
//! must not go through thousands.
//!
//! Made when a decision has gone far, kept up from then on. Not part of the state.

use std::collections::VecDeque;

use crate::answers::Click;
use crate::spread::ByNumber;
use crate::views::OpenView;

/// Time and offset of a click.
type Key = (i64, i64);

/// The index.
#[derive(Debug, Clone, Default)]
pub(crate) struct ByClick {
    /// Clicks that name a view, by its id.
    named: ByNumber<u64, VecDeque<Key>>,
    /// Clicks that are not taken, by item and campaign; in order.
    about: ByNumber<u64, VecDeque<Key>>,
    /// Times of open views by id.
    views: ByNumber<u64, Vec<i64>>,
    /// These views by time.
    recent: VecDeque<(i64, u64)>,
    /// Views before this are not among them.
    from_ms: i64,
}

/// Item and campaign as one number.
pub(crate) fn about(item: u32, campaign: u32) -> u64 {
    u64::from(item) << 32 | u64::from(campaign)
}

impl ByClick {
    /// Of these clicks, in order, each with what it is about, and of these views that are not before that.
    pub(crate) fn of<'a>(
        clicks: impl Iterator<Item = (&'a Click, u64)>,
        views: impl Iterator<Item = OpenView>,
        from_ms: i64,
    ) -> Self {
        let mut index = Self { from_ms, ..Self::default() };
        clicks.for_each(|(click, about)| index.add(click, about));
        views.for_each(|view| index.open(&view));
        index
    }

    /// A click has come.
    pub(crate) fn add(&mut self, click: &Click, about: u64) {
        let key = (click.time_ms, click.offset);
        if click.view != 0 {
            self.named.entry(click.view).or_default().push_back(key);
        }
        if !click.taken {
            let keys = self.about.entry(about).or_default();
            let at = if keys.back().is_none_or(|last| *last < key) {
                keys.len()
            } else {
                keys.partition_point(|other| *other < key)
            };
            keys.insert(at, key);
        }
    }

    /// A click is taken: it answers no view by what it is about.
    pub(crate) fn take(&mut self, key: Key, about: u64) {
        if let Some(keys) = self.about.get_mut(&about) {
            if let Ok(at) = keys.binary_search(&key) {
                keys.remove(at);
            }
            if keys.is_empty() {
                self.about.remove(&about);
            }
        }
    }

    /// A click goes.
    pub(crate) fn remove(&mut self, click: &Click, about: u64) {
        let key = (click.time_ms, click.offset);
        if let Some(keys) = self.named.get_mut(&click.view) {
            // The oldest goes first, as a rule.
            if let Some(at) = keys.iter().position(|other| *other == key) {
                keys.remove(at);
            }
            if keys.is_empty() {
                self.named.remove(&click.view);
            }
        }
        self.take(key, about);
    }

    /// Clicks that name a view, in no order.
    pub(crate) fn named(&self, view: u64) -> impl Iterator<Item = Key> {
        self.named.get(&view).into_iter().flatten().copied()
    }

    /// The first click about this that is not taken, from a time on.
    pub(crate) fn first_about(&self, about: u64, from_ms: i64) -> Option<Key> {
        let keys = self.about.get(&about)?;
        keys.get(keys.partition_point(|key| key.0 < from_ms)).copied()
    }

    /// A view has come.
    pub(crate) fn open(&mut self, view: &OpenView) {
        if view.id == 0 || view.time_ms < self.from_ms {
            return;
        }
        self.views.entry(view.id).or_default().push(view.time_ms);
        let entry = (view.time_ms, view.id);
        let at = if self.recent.back().is_none_or(|last| *last <= entry) {
            self.recent.len()
        } else {
            self.recent.partition_point(|other| *other <= entry)
        };
        self.recent.insert(at, entry);
    }

    /// A view goes.
    pub(crate) fn close(&mut self, view: &OpenView) {
        if let Ok(at) = self.recent.binary_search(&(view.time_ms, view.id)) {
            self.recent.remove(at);
            self.forget(view.time_ms, view.id);
        }
    }

    /// Views before this are not asked for any more.
    pub(crate) fn purge(&mut self, from_ms: i64) {
        while let Some((time_ms, id)) = self.recent.front().copied().filter(|(time, _)| *time < from_ms) {
            self.recent.pop_front();
            self.forget(time_ms, id);
        }
        self.from_ms = self.from_ms.max(from_ms);
    }

    fn forget(&mut self, time_ms: i64, id: u64) {
        let Some(times) = self.views.get_mut(&id) else { return };
        if let Some(at) = times.iter().position(|time| *time == time_ms) {
            times.swap_remove(at);
        }
        if times.is_empty() {
            self.views.remove(&id);
        }
    }

    /// Whether the view that a click names is open, and within reach of it; `None` where views that would
    /// be are not held any more.
    pub(crate) fn knows(&self, click: &Click, window_ms: i64) -> Option<bool> {
        let from_ms = click.time_ms.saturating_sub(window_ms);
        if from_ms < self.from_ms {
            return None;
        }
        let times = self.views.get(&click.view);
        Some(times.is_some_and(|times| times.iter().any(|time| (from_ms..=click.time_ms).contains(time))))
    }

    pub(crate) fn bytes(&self) -> usize {
        let named: usize = self.named.values().map(VecDeque::capacity).sum();
        let about: usize = self.about.values().map(VecDeque::capacity).sum();
        let views: usize = self.views.values().map(Vec::capacity).sum();
        (named + about + self.recent.capacity()) * size_of::<Key>()
            + views * size_of::<i64>()
            + (self.named.capacity() + self.about.capacity()) * size_of::<(u64, VecDeque<Key>)>()
            + self.views.capacity() * size_of::<(u64, Vec<i64>)>()
    }
}
