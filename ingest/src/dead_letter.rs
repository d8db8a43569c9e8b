//! The record in `dead-letters` of a refused one: the same bytes, and the reason in headers.

use std::sync::Arc;

use bytes::Bytes;
use runtime::processor::{InRecord, OutRecord};
use schemas::DeadLetter;

use crate::decode::Refusal;

/// Key, value and headers as they came, shared rather than copied, then the headers of
/// `schemas::dead_letter`. Readers take the last header of a name, so a dead letter that was sent
/// in again and refused again tells of the last time.
pub fn dead_letter(topic: &Arc<str>, refused: &InRecord, refusal: &Refusal) -> OutRecord {
    let record = &refused.record;
    let described = DeadLetter {
        topic: refused.topic.to_string(),
        partition: record.partition,
        offset: record.offset,
        stage: "ingest".to_owned(),
        reason: refusal.reason,
        message: refusal.message.clone(),
        key: None,
        value: None,
    };
    let mut headers: Vec<(String, Option<Bytes>)> = record.headers.clone();
    headers.extend(described.headers());
    OutRecord {
        topic: Arc::clone(topic),
        partition: None,
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runtime::processor::TopicRecord;
    use schemas::Reason;

    use super::*;

    #[test]
    fn keeps_the_bytes_and_says_why() {
        let header = |name: &str, value: &'static [u8]| (name.to_owned(), Some(Bytes::from_static(value)));
        let refused = InRecord {
            topic: "clicks".into(),
            record: TopicRecord {
                partition: 3,
                offset: 12,
                timestamp_ms: 5,
                key: Some(Bytes::from_static(b"\x00k")),
                value: Some(Bytes::from_static(b"\xff{")),
                headers: vec![header("trace", b"t1"), header("__connect.errors.topic", b"old")],
            },
        };
        let out = dead_letter(&"x.dead-letters".into(), &refused, &Refusal::new(Reason::Undecodable, "why"));
        assert_eq!(
            out,
            OutRecord {
                topic: "x.dead-letters".into(),
                partition: None,
                key: Some(Bytes::from_static(b"\x00k")),
                value: Some(Bytes::from_static(b"\xff{")),
                headers: vec![
                    header("trace", b"t1"),
                    header("__connect.errors.topic", b"old"),
                    header("__connect.errors.topic", b"clicks"),
                    header("__connect.errors.partition", b"3"),
                    header("__connect.errors.offset", b"12"),
                    header("__connect.errors.stage", b"ingest"),
                    header("__connect.errors.exception.class.name", b"undecodable"),
                    header("__connect.errors.exception.message", b"why"),
                ],
            }
        );
        let read = DeadLetter::from_parts(out.key.as_ref(), out.value.as_ref(), &out.headers).unwrap();
        assert_eq!((read.topic.as_str(), read.reason), ("clicks", Reason::Undecodable));
    }
}
