//! Open labels in a snapshot: bytes, and back.

use crate::labels::Labels;
use crate::outcomes::Outcome;
use crate::plan::Plan;
use crate::timers::Timers;
use crate::users::Users;
use crate::uses::Used;
use crate::views::OpenView;
use crate::wire::{Reader, SnapshotError, Writer};

impl Labels {
    pub(crate) fn write(&self, out: &mut Writer) {
        out.len(self.views.len());
        let mut before = (0, 0);
        for (_, view) in self.views.iter() {
            out.uint(u64::from(view.user));
            out.int(view.time_ms.wrapping_sub(before.0));
            out.int(view.offset.wrapping_sub(before.1));
            before = view.key();
            out.uint(u64::from(view.subject));
            let outcome = self.outcomes.get(view.outcome);
            let has_id = view.id != 0;
            out.byte(u8::from(view.decided) | u8::from(has_id) << 1 | u8::from(outcome.is_some()) << 2);
            if has_id {
                out.fixed(view.id);
            }
            if let Some(outcome) = outcome {
                outcome.write(out);
            }
        }
        self.timers.write(out);
    }

    pub(crate) fn read_from(
        input: &mut Reader<'_>,
        users: &mut Users,
        used: &mut Used,
        plan: &Plan,
    ) -> Result<Self, SnapshotError> {
        let mut labels = Self::default();
        let mut before = (0_i64, 0_i64);
        for _ in 0..input.len()? {
            let user = input.id_below(users.len())?;
            before = (input.time_from(before.0)?, before.1.wrapping_add(input.int()?));
            let subject = input.used(&mut used.subjects)?;
            let flags = input.byte()?;
            if flags > 7 {
                return Err(input.damaged());
            }
            let (decided, has_id, has_outcome) = (flags & 1 > 0, flags & 2 > 0, flags & 4 > 0);
            let (time_ms, offset) = before;
            let id = if has_id { input.fixed()? } else { 0 };
            let view = OpenView { time_ms, offset, id, subject, user, decided, outcome: 0, late: false };
            let number = labels.open(&view, users, 0, plan);
            if has_outcome {
                let outcome = labels.outcomes.push(Outcome::read_from(input, &mut used.texts)?);
                labels.views.set_outcome(number, outcome);
            }
        }
        Timers::read_from(input, users.len(), |timer| labels.push_order(timer))?;
        Ok(labels)
    }
}
