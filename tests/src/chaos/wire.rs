//! A few questions to brokers in Kafka's own words: who leads and who is in sync, who coordinates
//! a transactional id, and that leaders move. One connection a question.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, ElectLeadersRequest, FindCoordinatorRequest,
    MetadataRequest, RequestHeader, TopicName,
};
use kafka_protocol::protocol::{
    Decodable as _, HeaderVersion as _, Request, StrBytes, encode_request_header_into_buffer,
};

/// How long a broker may take to take a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// The largest answer, bytes.
const LARGEST: usize = 64 << 20;
/// That a partition's preferred replica leads it already.
const ELECTION_NOT_NEEDED: i16 = 84;
/// Key type of a transactional id.
const TRANSACTION: i8 = 1;

/// A partition as a broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    /// Topic.
    pub topic: String,
    /// Number.
    pub number: i32,
    /// Leader; -1 where there is none.
    pub leader: i32,
    /// Who has it, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Who has all of it.
    pub in_sync: Vec<i32>,
}

/// All partitions of all topics.
///
/// # Errors
/// A broker that does not answer.
pub(super) fn partitions(broker: SocketAddr) -> Result<Vec<Partition>> {
    let all = MetadataRequest::default().with_topics(None);
    let answer = ask(broker, &all, 9)?;
    let numbers = |ids: Vec<BrokerId>| ids.into_iter().map(|id| id.0).collect();
    Ok(answer
        .topics
        .into_iter()
        .flat_map(|topic| {
            let name = topic.name.map(|name| name.0.to_string()).unwrap_or_default();
            topic.partitions.into_iter().map(move |partition| Partition {
                topic: name.clone(),
                number: partition.partition_index,
                leader: partition.leader_id.0,
                replicas: numbers(partition.replica_nodes),
                in_sync: numbers(partition.isr_nodes),
            })
        })
        .collect())
}

/// The broker that coordinates the transactions of an id.
///
/// # Errors
/// A broker that does not answer, or does not know.
pub(super) fn coordinator(broker: SocketAddr, transactional_id: &str) -> Result<i32> {
    let id = StrBytes::from_string(transactional_id.to_owned());
    let answer = ask(broker, &FindCoordinatorRequest::default().with_key(id).with_key_type(TRANSACTION), 3)?;
    ensure!(answer.error_code == 0, "no coordinator of {transactional_id}: error {}", answer.error_code);
    Ok(answer.node_id.0)
}

/// Makes the replica `by` places on from the preferred one the preferred one of every partition, and
/// has it elected.
///
/// # Errors
/// A broker that does not answer, a cluster that refuses.
pub(super) fn move_leaders(broker: SocketAddr, by: usize) -> Result<()> {
    let mut topics: Vec<ReassignableTopic> = Vec::new();
    for partition in partitions(broker)? {
        let mut replicas: Vec<BrokerId> = partition.replicas.into_iter().map(BrokerId).collect();
        let places = by % replicas.len().max(1);
        replicas.rotate_left(places);
        let moved = ReassignablePartition::default()
            .with_partition_index(partition.number)
            .with_replicas(Some(replicas));
        let name = TopicName(StrBytes::from_string(partition.topic));
        match topics.last_mut().filter(|topic| topic.name == name) {
            Some(topic) => topic.partitions.push(moved),
            None => topics.push(ReassignableTopic::default().with_name(name).with_partitions(vec![moved])),
        }
    }
    let order = AlterPartitionReassignmentsRequest::default().with_timeout_ms(10_000).with_topics(topics);
    let answer = ask(broker, &order, 0)?;
    ensure!(answer.error_code == 0, "replicas cannot be put in another order: error {}", answer.error_code);
    for topic in answer.responses {
        for partition in topic.partitions {
            let (name, number, code) =
                (topic.name.0.as_str(), partition.partition_index, partition.error_code);
            ensure!(code == 0, "replicas of {name}[{number}] cannot be put in another order: error {code}");
        }
    }
    let election = ElectLeadersRequest::default().with_topic_partitions(None).with_timeout_ms(10_000);
    let answer = ask(broker, &election, 2)?;
    ensure!(answer.error_code == 0, "no election: error {}", answer.error_code);
    for topic in answer.replica_election_results {
        for partition in topic.partition_result {
            let code = partition.error_code;
            if code != 0 && code != ELECTION_NOT_NEEDED {
                let name = topic.topic.0.as_str();
                bail!("{name}[{}] cannot elect its leader: error {code}", partition.partition_id);
            }
        }
    }
    Ok(())
}

/// Asks one question.
fn ask<R: Request>(broker: SocketAddr, request: &R, version: i16) -> Result<R::Response> {
    let asked = || -> Result<R::Response> {
        let mut stream = TcpStream::connect_timeout(&broker, CONNECT)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        stream.write_all(&frame(request, version)?)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        ensure!(length <= LARGEST, "an answer of {length} bytes");
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        let mut answer = Bytes::from(answer);
        kafka_protocol::messages::ResponseHeader::decode(&mut answer, R::Response::header_version(version))?;
        R::Response::decode(&mut answer, version)
    };
    asked().with_context(|| format!("broker {broker} does not answer"))
}

fn frame<R: Request>(request: &R, version: i16) -> Result<BytesMut> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(1)
        .with_client_id(Some(StrBytes::from_static_str("chaos")));
    let mut body = BytesMut::new();
    encode_request_header_into_buffer(&mut body, &header)?;
    request.encode(&mut body, version)?;
    let mut framed = BytesMut::with_capacity(body.len() + 4);
    framed.extend_from_slice(&(body.len() as u32).to_be_bytes());
    framed.extend_from_slice(&body);
    Ok(framed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;

    use super::*;

    /// What a broker of one topic would say, word for word.
    #[test]
    fn a_broker_is_asked_and_its_answer_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let broker = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut question = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut question).unwrap();
            // Correlation id, no throttling, no error, no message, broker 3, "host", port 9.
            let mut answer = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
            answer = [&answer[..4], &[0], &answer[4..8], &[0, 0], &[0], &[0, 0, 0, 3]].concat();
            answer.extend_from_slice(b"\x05host\x00\x00\x00\x09\x00");
            stream.write_all(&(answer.len() as u32).to_be_bytes()).unwrap();
            stream.write_all(&answer).unwrap();
            question
        });
        assert_eq!(coordinator(address, "shop.salience-scorer-a-0").unwrap(), 3);
        let question = broker.join().unwrap();
        assert_eq!(question[..4], [0, 10, 0, 3], "FindCoordinator in version 3");
        assert!(question.windows(24).any(|bytes| bytes == b"shop.salience-scorer-a-0"));
        assert!(coordinator(address, "x").is_err(), "nobody listens any more");
    }
}
