//! Forgetting: what no window, label or repeat can reach any more, a few users with each record.

use super::Core;
use crate::history::Ids;
use crate::image::Chunks as _;
use crate::slab::NONE;

impl Core {
    /// Forgets what has expired of the next so many users, and users of whom nothing is left.
    ///
    /// No output tells when: what has expired is not read. So it may go by records, which a replay repeats.
    pub(super) fn sweep(&mut self, count: usize) {
        let Some(now) = self.clock.now_ms() else { return };
        let decided_to = self.labels.decided_to(now);
        for _ in 0..count.min(self.users.len()) {
            self.hand = if self.hand + 1 < self.users.len() { self.hand + 1 } else { 0 };
            if !self.users.is_quiet(self.hand as u32, now) {
                self.forget(self.hand as u32, now, decided_to);
            }
            if self.cold.is_some() {
                self.cool(self.hand as u32);
            }
        }
    }

    /// Forgets what has expired of a user, and the user if nothing is left.
    fn forget(&mut self, user: u32, now: i64, decided_to: i64) {
        self.touch(u64::from(user));
        self.thaw(user);
        let (plan, users) = (&self.plan, &mut self.users);
        let (horizon, click_window) = (plan.config.dedupe_horizon.0, plan.config.click_window.0);
        let mut ids = Ids { texts: &mut self.texts, subjects: &mut self.subjects };
        users.purge_history(user, now, plan, &mut ids);
        if let Some(extra) = users.extra_mut(user) {
            extra.seen.purge(now, horizon);
            extra.answers.purge(decided_to, click_window, &mut ids);
            users.drop_empty_extra(user);
        }
        // The last view of a user goes with a decision: only then is a user without a history gone.
        if users.head(user).log == NONE {
            if users.is_empty(user) {
                self.names.remove(user);
                users.set_quiet_until(user, i64::MAX);
            }
            return;
        }
        let mut quiet = users.history_quiet_until_ms(user, plan);
        if let Some(extra) = users.extra(user) {
            quiet = quiet.min(extra.seen.quiet_until_ms(horizon));
            quiet = quiet.min(extra.answers.quiet_until_ms(click_window));
        }
        users.set_quiet_until(user, quiet);
    }
}
