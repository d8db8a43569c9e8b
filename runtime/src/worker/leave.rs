//! Leaving a group for good.
//!
//! A static member that stops is expected back, and its partitions wait for it until the session ends
//! (KIP-345): right for a restart, wrong where the instance is taken away.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use super::clients::LoopConsumer;
use super::input::{Input, Polled};
use super::members::members;

/// How often the coordinator is asked whether the member is gone.
const LOOK: Duration = Duration::from_millis(50);

/// Leaves the group and waits until the coordinator says so, at most `patience`; whether it did. What was
/// read must have been committed.
#[expect(clippy::disallowed_methods, reason = "how long to wait is the shell's business")]
pub(super) fn leave(
    input: &mut Input,
    consumer: &LoopConsumer,
    group: &str,
    id: &str,
    patience: Duration,
) -> bool {
    // librdkafka leaves when a static member unsubscribes, not when it closes.
    consumer.unsubscribe();
    let until = Instant::now() + patience;
    loop {
        match input.poll(1, LOOK) {
            // The answer to being asked for the partitions, without which nothing is left.
            Ok(Polled::Group(_)) => {
                if let Err(error) = input.consume(&[]) {
                    tracing::debug!(%error, "could not give partitions back while leaving");
                }
            }
            Ok(Polled::Records(_) | Polled::Nothing) => {}
            Err(error) => tracing::debug!(%error, "reading while leaving"),
        }
        if !is_member(consumer, group, id).unwrap_or(true) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
    }
}

/// Whether the group has a member of this `group.instance.id`. Brokers begin a static member's id with it.
fn is_member(consumer: &LoopConsumer, group: &str, id: &str) -> Option<bool> {
    let members = members(consumer, group).ok()?;
    Some(members.iter().any(|member| {
        let rest = member.id.strip_prefix(id);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) || member.client_id == id
    }))
}
