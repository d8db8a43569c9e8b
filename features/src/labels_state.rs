//! Open labels in a snapshot: bytes, and back.

use std::ops::Range;

use crate::image::{Chunks, Image, Marks, Part};
use crate::labels::Labels;
use crate::outcomes::Outcome;
use crate::plan::Plan;
use crate::users::Users;
use crate::uses::Used;
use crate::views::{MOST_CHUNKS, Views};
use crate::wire::{Reader, SnapshotError, Writer};

impl Labels {
    /// Writes what is not in chunks.
    pub(crate) fn write_head(&self, out: &mut Writer) {
        out.uint(self.views.range().start);
        out.len(self.views.chunks());
    }

    /// `head` is what [`Self::write_head`] wrote.
    pub(crate) fn read_from(
        head: &mut Reader<'_>,
        image: &Image<'_>,
        users: &mut Users,
        used: &mut Used,
        plan: &Plan,
    ) -> Result<Self, SnapshotError> {
        let first = head.uint()?;
        let end = first.checked_add(head.uint()?).filter(|end| *end <= MOST_CHUNKS);
        let chunks = first..end.ok_or_else(|| head.damaged())?;
        let mut labels = Self::default();
        labels.marks = Marks::starting_at(first);
        labels.views = Views::starting_at(first);
        for chunk in image.chunks(Part::Views, chunks.clone()) {
            let (_, mut input) = chunk?;
            for view in labels.views.read_chunk(&mut input, users.len(), &mut used.subjects)? {
                match view {
                    Some(view) => drop(labels.open(&view, users, 0, plan)),
                    None => labels.views.push_gone(),
                }
            }
        }
        if labels.views.range() != chunks {
            return Err(head.damaged());
        }
        for chunk in image.chunks(Part::Outcomes, chunks) {
            let (chunk, mut input) = chunk?;
            for _ in 0..input.len()? {
                let number = Views::number(chunk, input.byte()?);
                if labels.views.get(number).is_none_or(|view| view.outcome > 0) {
                    return Err(input.damaged());
                }
                let outcome = labels.outcomes.push(Outcome::read_from(&mut input, &mut used.texts)?);
                labels.views.set_outcome(number, outcome);
            }
            input.end()?;
        }
        let of = |user: u32| {
            let extra = users.extra(user).into_iter();
            extra.flat_map(move |extra| extra.answers.orders.iter().map(move |order| order.timer(user)))
        };
        let mut timers: Vec<_> = (0..users.len() as u32).flat_map(of).collect();
        // In their order they wait in lines, and none in the heap.
        timers.sort_unstable();
        for timer in timers {
            labels.push_order(timer);
        }
        Ok(labels)
    }
}

/// What came of views, by the chunks of the views.
impl Chunks for Labels {
    const PART: Part = Part::Outcomes;

    fn marks(&self) -> &Marks {
        &self.marks
    }

    fn marks_mut(&mut self) -> &mut Marks {
        &mut self.marks
    }

    fn range(&self) -> Range<u64> {
        self.views.range()
    }

    fn write_chunk(&self, number: u64, out: &mut Writer) {
        out.len(self.views.outcomes(number).count());
        for (at, outcome) in self.views.outcomes(number) {
            out.byte(at);
            if let Some(outcome) = self.outcomes.get(outcome) {
                outcome.write(out);
            }
        }
    }
}
