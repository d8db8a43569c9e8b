//! Who is in a group.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::groups::GroupInfo;

/// How long a coordinator may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// A member as its coordinator lists it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) client_id: String,
}

/// The members of a group; none of one that is not there.
pub(super) fn members<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    group: &str,
) -> KafkaResult<Vec<Member>> {
    let listed = consumer.fetch_group_list(Some(group), ANSWER)?;
    let of_group = listed.groups().iter().filter(|listed| listed.name() == group);
    Ok(of_group
        .flat_map(GroupInfo::members)
        .map(|member| Member { id: member.id().to_owned(), client_id: member.client_id().to_owned() })
        .collect())
}
