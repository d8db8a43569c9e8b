//! Which click answers a view: the first that names it, or that is about its item and campaign and names no
//! other that there is.

use crate::answers::{Answers, Click};
use crate::by_click::about;
use crate::history::{Ids, NEVER};
use crate::labels::Labels;
use crate::subjects::Subjects;
use crate::users::Users;
use crate::views::{Link, OpenView};

/// Clicks, or views, of a user that a decision goes through before they are kept by what it asks for.
const FEW: usize = 64;

impl Labels {
    /// Time of the first click that answers the view whose click window closes; [`NEVER`] where none does.
    ///
    /// A click that names a view that there is, this one or another, is taken by that: it answers no other.
    pub(crate) fn first_click(
        &mut self,
        view: &OpenView,
        window: i64,
        users: &mut Users,
        ids: &Ids<'_>,
    ) -> i64 {
        let newest = users.head(view.user).views;
        let Some(extra) = users.extra_mut(view.user) else { return NEVER };
        let answers = &mut extra.answers;
        let mut looked = 0;
        let first = if answers.by_click.is_some() {
            self.first_of_many(view, window, newest, answers, ids.subjects, &mut looked)
        } else {
            self.first_of_few(view, window, newest, answers, ids.subjects, &mut looked)
        };
        self.looked += looked as u64;
        if looked > FEW && answers.by_click.is_none() {
            let views = self.views.chain(newest).map(|(_, view)| view);
            answers.index(views, view.time_ms.saturating_sub(window), ids.subjects);
        }
        first
    }

    fn first_of_few(
        &self,
        view: &OpenView,
        window: i64,
        newest: Link,
        answers: &mut Answers,
        subjects: &Subjects,
        looked: &mut usize,
    ) -> i64 {
        let of_view = subjects.get(view.subject);
        let is_about = |subject: u32| {
            let of_click = subjects.get(subject);
            subject == view.subject || (of_click.item, of_click.campaign) == (of_view.item, of_view.campaign)
        };
        let mut first = NEVER;
        let from = answers.clicks.partition_point(|click| click.time_ms < view.time_ms);
        for click in answers.clicks.range_mut(from..) {
            if click.time_ms > view.time_ms.saturating_add(window) {
                break;
            }
            *looked += 1;
            if click.view != 0 && click.view == view.id {
                first = if first == NEVER { click.time_ms } else { first };
                click.taken = true;
            } else if first == NEVER && !click.taken && is_about(click.subject) {
                // Only the first answer counts: nothing is asked of the others.
                click.taken = click.view != 0 && self.is_known(click, newest, window, looked);
                first = if click.taken { NEVER } else { click.time_ms };
            }
        }
        first
    }

    /// The same by the index.
    fn first_of_many(
        &self,
        view: &OpenView,
        window: i64,
        newest: Link,
        answers: &mut Answers,
        subjects: &Subjects,
        looked: &mut usize,
    ) -> i64 {
        let Some(mut index) = answers.by_click.take() else { return NEVER };
        let end_ms = view.time_ms.saturating_add(window);
        let mut first = (i64::MAX, i64::MAX);
        if view.id != 0 {
            for key in index.named(view.id).filter(|key| (view.time_ms..=end_ms).contains(&key.0)) {
                *looked += 1;
                first = first.min(key);
            }
        }
        let named: Vec<_> = if first.0 == i64::MAX { Vec::new() } else { index.named(view.id).collect() };
        for key in named.into_iter().filter(|key| (view.time_ms..=end_ms).contains(&key.0)) {
            if let Some(click) = answers.click_mut(key) {
                click.taken = true;
                index.take(key, click.about(subjects));
            }
        }
        let of_view = subjects.get(view.subject);
        let about = about(of_view.item, of_view.campaign);
        while let Some(key) = index.first_about(about, view.time_ms).filter(|key| key.0 <= end_ms) {
            if key > first {
                break;
            }
            *looked += 1;
            let Some(click) = answers.click_mut(key) else { break };
            let known = index.knows(click, window);
            click.taken =
                click.view != 0 && known.unwrap_or_else(|| self.is_known(click, newest, window, looked));
            if !click.taken {
                first = key;
                break;
            }
            index.take(key, about);
        }
        answers.by_click = Some(index);
        if first.0 == i64::MAX { NEVER } else { first.0 }
    }

    /// Whether the view that a click names is here, and within reach of it.
    fn is_known(&self, click: &Click, newest: Link, window: i64, looked: &mut usize) -> bool {
        let from_ms = click.time_ms.saturating_sub(window);
        let reach = self.views.chain(newest).take_while(|(_, view)| view.time_ms >= from_ms);
        let mut reach = reach.inspect(|_| *looked += 1);
        reach.any(|(_, view)| view.time_ms <= click.time_ms && view.id == click.view)
    }
}
