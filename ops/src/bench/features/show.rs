//! What a person reads.

use std::fmt;

use super::{Checked, EVENTS_PER_USER, Measured};

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "features, one thread, vectors of {} numbers and 20 behaviours", self.numbers)?;
        writeln!(f, "  events/s             {:>10.0}  of {} events", self.events_per_s, self.events)?;
        writeln!(f, "  without the merge    {:>10.0}", self.unmerged_events_per_s)?;
        writeln!(
            f,
            "  decoded and encoded  {:>10.0}  of {} events",
            self.wire_events_per_s, self.wire_events
        )?;
        writeln!(
            f,
            "  bytes/user           {:>10.0}  {} users of {EVENTS_PER_USER} events, labels included",
            self.bytes_per_user, self.users
        )?;
        if let Some(resident) = self.resident_bytes_per_user {
            writeln!(f, "  resident bytes/user  {resident:>10.0}")?;
        }
        writeln!(f, "  snapshot bytes/user  {:>10.0}", self.snapshot_bytes_per_user)?;
        writeln!(f, "  snapshot, s/million  {:>10.2}  users", self.snapshot_s_per_million_users)?;
        writeln!(f, "  longest stop for it  {:>10.2}  ms", self.snapshot_longest_stop_ms)?;
        writeln!(
            f,
            "  the same for items   {:>10.2}  ms, {} of them",
            self.snapshot_longest_stop_for_items_ms, self.items
        )?;
        writeln!(
            f,
            "  bytes of changes     {:>10.0}  % of it, a quarter of the users changed",
            self.snapshot_changes_percent
        )?;
        writeln!(f, "  restore, s/million   {:>10.2}  users", self.restore_s_per_million_users)?;
        writeln!(
            f,
            "  from the log alone   {:>10.2}  s/million users of {EVENTS_PER_USER} events",
            self.restore_from_log_s_per_million_users
        )?;
        let Checked { vectors, sum, exact_sum, tiled, rounded, .. } = self.checked;
        writeln!(f, "  views of the last day over {vectors} vectors: {sum}, one by one {exact_sum};")?;
        writeln!(f, "  {rounded} differ by less than a tile, all of the {tiled} of users that are tiled")?;
        for engine in &self.engines {
            let ratio = self.events_per_s / engine.events_per_s;
            writeln!(
                f,
                "{} {}, {}: {:.0} events/s, ratio {ratio:.2}, sum {}",
                engine.name, engine.version, engine.variant, engine.events_per_s, engine.sum
            )?;
        }
        write!(f, "backfill: {}", self.backfill)?;
        for why in &self.without_peers {
            writeln!(f, "no peers: {why}")?;
        }
        Ok(())
    }
}
