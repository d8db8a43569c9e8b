//! What a view reads before it is folded: its vector.

use schemas::{Event, Place};

use super::Core;
use crate::evaluate::{self, Others};
use crate::history::Read;
use crate::interner::EMPTY;
use crate::out::Sink;
use crate::plan::{SHARED, USER, USER_CAMPAIGN, USER_CATEGORY};
use crate::shared::Keys;
use crate::summary::plan::Summaries;
use crate::vector::VectorView;

impl Core {
    /// Makes the vector of a view by a user, with this subject and these keys of shared entities. Nothing of the
    /// state changes: whoever drops vectors leaves it out.
    pub(super) fn view(
        &mut self,
        event: &Event,
        place: Place,
        (user, number): (u32, u32),
        keys: &Keys,
        out: &mut impl Sink,
    ) {
        let now = self.now();
        let subject = self.subjects.get(number);
        let (campaign, category) = (subject.campaign, subject.category);
        let read = Read { at_ms: event.event_time_ms, clock_ms: now, campaign, category };
        self.users.read(user, &read, &self.plan, (self.build, &self.subjects), &mut self.totals);
        if !self.plan.summaries.is_empty() {
            let known = (&self.subjects, &self.texts);
            self.users.summarise((user, number), &read, &self.plan, known, &mut self.numbers);
        }
        let version_ms = self.versions.as_of(event.event_time_ms);
        if self.plan.shares() {
            self.counts.without_version += u64::from(version_ms.is_none());
            self.version_behind_ms = version_ms
                .map(|version| event.event_time_ms.saturating_sub(version))
                .or(self.version_behind_ms);
        }
        if !self.plan.cells.is_empty() {
            self.versions.summarise(keys, event, &self.plan, &mut self.shared_numbers);
        }
        let shared = self.versions.read(keys, &self.plan, self.build);
        let known = std::array::from_fn(|entity| match entity {
            USER => true,
            USER_CAMPAIGN => campaign != EMPTY,
            USER_CATEGORY => category != EMPTY,
            _ if entity < SHARED => {
                Summaries::key(entity).is_some_and(|of| self.subjects.text(number, of) != EMPTY)
            }
            _ => version_ms.is_some() && keys.has(entity - SHARED),
        });
        let others = Others { shared, summaries: &self.numbers.values, numbers: &self.shared_numbers };
        let view = evaluate::View { plan: &self.plan, totals: &self.totals, others, event, known };
        let count = self.build.evaluate(&view, &mut self.rates, &mut self.values);
        self.counts.vectors += 1;
        out.vector(&VectorView {
            place,
            event,
            clock_ms: now,
            fingerprint: self.plan.schema_fingerprint(),
            values: &self.values[..count],
            version_ms,
            recent: self.users.recent(user, &read, &self.plan),
            subjects: &self.subjects,
            texts: &self.texts,
        });
    }
}
