//! What happened in a run, to see that what was meant to happen did.

macro_rules! totals {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Counts of a run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Totals {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Totals {
            /// Each with its name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }

            /// Adds another run's.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

totals! {
    /// Commits.
    commits,
    /// Aborts.
    aborts,
    /// Records folded again in silence.
    replayed,
    /// Snapshots restored.
    restored,
    /// Of these, whole ones with what had changed since.
    completed,
    /// Units taken over from a standby.
    taken_over,
    /// Snapshots refused.
    refused,
    /// Workers that were told that somebody has taken their id.
    fenced,
    /// Calls.
    calls,
    /// Fault: workers that died, and were started again.
    crashes,
    /// Fault: calls that failed and might be made again.
    retriable,
    /// Fault: calls that failed so that the transaction had to be aborted.
    abortable,
    /// Fault: commits that were made and reported as failed.
    lost_responses,
    /// Fault: clients that broke for good.
    fatal,
    /// Fault: processes that stood still for a while.
    frozen,
    /// Fault: members put out because they were not heard from.
    evicted,
    /// Fault: transactions that a coordinator gave up.
    timed_out,
    /// Fault: processes that were replaced and lived on.
    zombies,
    /// Fault: rebalances without need.
    rebalances,
    /// Fault: times in which a coordinator answered nothing.
    slowed,
    /// Fault: snapshots damaged.
    damaged,
    /// Fault: logs cut at their head.
    expired,
    /// Fault: jumps of the wall clock.
    jumps,
}

impl Totals {
    /// All that went wrong.
    pub fn faults(&self) -> u64 {
        let calls = self.retriable + self.abortable + self.lost_responses + self.fatal;
        let processes = self.crashes + self.frozen + self.zombies;
        let groups = self.evicted + self.timed_out + self.rebalances + self.slowed;
        calls + processes + groups + self.damaged + self.expired + self.jumps
    }
}
