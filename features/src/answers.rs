//! What a user did about impressions and is not decided yet: clicks, and purchases that the clock has
//! not passed.

use std::collections::VecDeque;

use crate::by_click::{ByClick, about};
use crate::history::Ids;
use crate::subjects::Subjects;
use crate::timers::{Rank, Timer};
use crate::uses::Used;
use crate::views::OpenView;
use crate::wire::{Reader, SnapshotError, Writer};

/// A click or cart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Click {
    pub(crate) time_ms: i64,
    pub(crate) offset: i64,
    /// Hash of the view's id that it names, 0 if it names none.
    pub(crate) view: u64,
    pub(crate) subject: u32,
    /// The view that it names has been found.
    pub(crate) taken: bool,
}

/// A purchase or refund.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Order {
    pub(crate) time_ms: i64,
    pub(crate) offset: i64,
    pub(crate) subject: u32,
    pub(crate) currency: u32,
    pub(crate) value: f64,
    /// It takes back what was bought.
    pub(crate) refund: bool,
}

impl Click {
    /// What it is about, as a number.
    pub(crate) fn about(&self, subjects: &Subjects) -> u64 {
        let subject = subjects.get(self.subject);
        about(subject.item, subject.campaign)
    }
}

impl Order {
    /// When it is decided.
    pub(crate) fn timer(&self, user: u32) -> Timer {
        let rank = if self.refund { Rank::Refund } else { Rank::Purchase };
        Timer { due_ms: self.time_ms, rank, offset: self.offset, user }
    }

    pub(crate) fn release(&self, ids: &mut Ids<'_>) {
        ids.release(self.subject);
        ids.texts.release(self.currency);
    }
}

/// Those of one user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    /// By time, then place.
    pub(crate) clicks: VecDeque<Click>,
    /// In order of arrival; few.
    pub(crate) orders: Vec<Order>,
    /// Of a user with many clicks, or with many views beside them. Not part of the state.
    pub(crate) by_click: Option<Box<ByClick>>,
}

impl Answers {
    pub(crate) fn is_empty(&self) -> bool {
        self.clicks.is_empty() && self.orders.is_empty()
    }

    pub(crate) fn add_click(&mut self, click: Click, subjects: &Subjects) {
        let key = (click.time_ms, click.offset);
        if let Some(by_click) = &mut self.by_click {
            by_click.add(&click, click.about(subjects));
        }
        let at = match self.clicks.back() {
            Some(last) if (last.time_ms, last.offset) > key => {
                self.clicks.partition_point(|other| (other.time_ms, other.offset) < key)
            }
            _ => self.clicks.len(),
        };
        if self.clicks.capacity() == 0 {
            // Most users have no second one within the click window.
            self.clicks.reserve_exact(1);
        }
        self.clicks.insert(at, click);
    }

    /// Makes the index, with those of the user's views, the latest first, that a click from a time on may
    /// name.
    pub(crate) fn index(&mut self, views: impl Iterator<Item = OpenView>, from_ms: i64, subjects: &Subjects) {
        let clicks = self.clicks.iter().map(|click| (click, click.about(subjects)));
        let views = views.take_while(|view| view.time_ms >= from_ms);
        self.by_click = Some(Box::new(ByClick::of(clicks, views, from_ms)));
    }

    /// The click of a time and place.
    pub(crate) fn click_mut(&mut self, key: (i64, i64)) -> Option<&mut Click> {
        let at = self.clicks.binary_search_by_key(&key, |click| (click.time_ms, click.offset)).ok()?;
        self.clicks.get_mut(at)
    }

    pub(crate) fn take_order(&mut self, offset: i64) -> Option<Order> {
        let at = self.orders.iter().position(|order| order.offset == offset)?;
        Some(self.orders.remove(at))
    }

    /// Up to this time of the clock there is nothing to forget.
    pub(crate) fn quiet_until_ms(&self, click_window_ms: i64) -> i64 {
        self.clicks.front().map_or(i64::MAX, |click| click.time_ms.saturating_add(click_window_ms))
    }

    /// Forgets clicks that no undecided view can reach.
    pub(crate) fn purge(&mut self, decided_to_ms: i64, click_window_ms: i64, ids: &mut Ids<'_>) {
        let horizon = decided_to_ms.saturating_sub(click_window_ms);
        while self.clicks.front().is_some_and(|click| click.time_ms < horizon) {
            if let Some(click) = self.clicks.pop_front() {
                if let Some(by_click) = &mut self.by_click {
                    by_click.remove(&click, click.about(ids.subjects));
                }
                ids.release(click.subject);
            }
        }
        if self.clicks.is_empty() {
            self.by_click = None;
        } else if let Some(by_click) = &mut self.by_click {
            // No click is before the horizon, nor are there views that wait for one before it.
            by_click.purge(horizon.saturating_sub(click_window_ms));
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.clicks.capacity() * size_of::<Click>()
            + self.orders.capacity() * size_of::<Order>()
            + self.by_click.as_ref().map_or(0, |by_click| by_click.bytes())
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.len(self.clicks.len());
        for click in &self.clicks {
            out.int(click.time_ms);
            out.int(click.offset);
            out.fixed(click.view);
            out.uint(u64::from(click.subject));
            out.bool(click.taken);
        }
        out.len(self.orders.len());
        for order in &self.orders {
            out.int(order.time_ms);
            out.int(order.offset);
            out.uint(u64::from(order.subject));
            out.uint(u64::from(order.currency));
            out.f64(order.value);
            out.bool(order.refund);
        }
    }

    pub(crate) fn read_from(input: &mut Reader<'_>, used: &mut Used) -> Result<Self, SnapshotError> {
        let mut answers = Self::default();
        for _ in 0..input.len()? {
            answers.clicks.push_back(Click {
                time_ms: input.time()?,
                offset: input.int()?,
                view: input.fixed()?,
                subject: input.used(&mut used.subjects)?,
                taken: input.bool()?,
            });
        }
        for _ in 0..input.len()? {
            answers.orders.push(Order {
                time_ms: input.time()?,
                offset: input.int()?,
                subject: input.used(&mut used.subjects)?,
                currency: input.used(&mut used.texts)?,
                value: input.f64()?,
                refund: input.bool()?,
            });
        }
        Ok(answers)
    }
}
