//! Which partitions an instance keeps standbys of: those that it would be given if others left.
//!
//! The classic protocol lets the members' clients share partitions out, by librdkafka's range assignor here,
//! and that gives a standby no preference. But what it does follows from the members alone, so it is known
//! beforehand who would own what without some of them. Knows no broker.

use std::collections::BTreeSet;

/// A member of the group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    /// Its `group.instance.id`, by which the assignor orders members.
    id: String,
    /// The process that it is a worker of.
    instance: String,
}

impl Member {
    /// From the id that a broker gave it: its `group.instance.id` (`{group}-{instance}-{number}`, and a name behind
    /// a point where it stands in for another service) and then 36 characters of the broker's own. `None` for
    /// what is no worker of the group's service.
    pub(super) fn of(group: &str, member_id: &str) -> Option<Self> {
        const RANDOM: usize = 37;
        let id = member_id.get(..member_id.len().checked_sub(RANDOM)?)?;
        let (instance, number) = id.strip_prefix(group)?.strip_prefix('-')?.rsplit_once('-')?;
        number.split('.').next()?.parse::<usize>().ok()?;
        Some(Self { id: id.to_owned(), instance: instance.to_owned() })
    }
}

/// The partitions of a topic of so many that the instance would own if at most `departures` of the others left;
/// those that it owns are among them.
pub(super) fn would_own(
    members: &BTreeSet<Member>,
    instance: &str,
    partitions: i32,
    departures: usize,
) -> BTreeSet<i32> {
    let others: BTreeSet<&str> =
        members.iter().map(|member| &*member.instance).filter(|other| *other != instance).collect();
    let others: Vec<&str> = others.into_iter().collect();
    let mut found = BTreeSet::new();
    gather(&members.iter().collect::<Vec<_>>(), &others, departures, &mut |left| {
        found.extend(shares(left, instance, partitions));
    });
    found
}

/// Tells of the members as they are, and without each choice of at most so many of these instances.
fn gather(members: &[&Member], others: &[&str], departures: usize, tell: &mut impl FnMut(&[&Member])) {
    tell(members);
    if departures == 0 {
        return;
    }
    for (index, gone) in others.iter().enumerate() {
        let left: Vec<&Member> = members.iter().copied().filter(|member| member.instance != *gone).collect();
        gather(&left, &others[index + 1..], departures - 1, tell);
    }
}

/// What the range assignor gives the workers of an instance: consecutive partitions by the order of ids, one
/// more to the first where they do not share evenly.
fn shares(members: &[&Member], instance: &str, partitions: i32) -> BTreeSet<i32> {
    let count = members.len() as i32;
    let of = |(index, _): (usize, &&Member)| {
        let (index, each, more) = (index as i32, partitions / count, partitions % count);
        let first = index * each + index.min(more);
        first..first + each + i32::from(index < more)
    };
    members.iter().enumerate().filter(|(_, member)| member.instance == instance).flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const GROUP: &str = "eu.salience-features";

    fn group(instances: &[(&str, usize)]) -> BTreeSet<Member> {
        let ids = instances.iter().flat_map(|(instance, workers)| {
            (0..*workers).map(move |number| format!("{GROUP}-{instance}-{number}-{}", "0".repeat(36)))
        });
        ids.map(|id| Member::of(GROUP, &id).unwrap()).collect()
    }

    #[test]
    fn a_member_is_known_by_its_static_id() {
        let id = format!("{GROUP}-host-1-12-4d7e1a52-8a4c-4f4e-9d53-0f6f4c2f9b11");
        let member = Member::of(GROUP, &id).unwrap();
        assert_eq!((&*member.id, &*member.instance), ("eu.salience-features-host-1-12", "host-1"));
        for other in ["", "x", "rdkafka-4d7e1a52-8a4c-4f4e-9d53-0f6f4c2f9b11", &format!("{GROUP}-host")] {
            assert_eq!(Member::of(GROUP, other), None, "{other}");
        }
    }

    #[test]
    fn of_two_instances_each_follows_all_of_the_other() {
        let members = group(&[("a", 1), ("b", 2)]);
        for instance in ["a", "b"] {
            assert_eq!(would_own(&members, instance, 5, 1), (0..5).collect(), "{instance}");
        }
        assert_eq!(would_own(&members, "a", 5, 0), (0..2).collect(), "without departures what it owns");
        assert_eq!(would_own(&members, "c", 5, 2), BTreeSet::new(), "one that is not in the group");
    }

    /// Whoever leaves, all partitions go to instances that have them or follow them; and no partition is
    /// followed by more than it must be.
    #[test]
    fn whoever_leaves_its_partitions_were_followed_by_those_that_get_them() {
        let names = ["a", "b", "c", "d", "e", "f"];
        for (instances, workers, partitions, departures) in (1..=6_usize).flat_map(|instances| {
            [(1, 1, 1), (1, 7, 1), (2, 12, 1), (3, 12, 2), (1, 64, 2), (1, 5, 5)]
                .map(|(workers, partitions, departures)| (instances, workers, partitions, departures))
        }) {
            let members = group(&names.map(|name| (name, workers))[..instances]);
            let followed = |name: &str| would_own(&members, name, partitions, departures);
            // Each choice of those who leave, by the bits of a number.
            for gone in 0_u32..1 << instances {
                if gone.count_ones() as usize > departures.min(instances - 1) {
                    continue;
                }
                let stays = |member: &&Member| {
                    let index = names.iter().position(|name| *name == member.instance).unwrap();
                    gone & (1 << index) == 0
                };
                let left: Vec<&Member> = members.iter().filter(stays).collect();
                let mut given = BTreeSet::new();
                for name in names {
                    let share = shares(&left, name, partitions);
                    assert!(share.is_subset(&followed(name)), "{name} of {left:?}");
                    given.extend(share);
                }
                assert_eq!(given, (0..partitions).collect());
            }
            if (departures, workers) == (1, 1) {
                for partition in 0..partitions {
                    let copies = names.iter().filter(|name| followed(name).contains(&partition)).count();
                    assert!(copies <= 3, "{copies} of partition {partition}, its owner's among them");
                }
            }
        }
    }
}
