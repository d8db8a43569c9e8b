//! The file around a snapshot, of whatever service.

use std::sync::Arc;

use runtime::processor::{Position, TopicPartition, UnitId};
use runtime::snapshot::{Base, Bounds, Snapshot, Wanted, checksum_of, keys_of, newest_first, open};

use crate::Target;

pub const TARGET: Target =
    Target { name: "snapshot_file", run, seeds, times: 64, plus: 16 << 10, cases: 3_000 };

/// Everything before the checksum, which is written behind it.
fn run(data: &[u8]) {
    assert!(data.len() < 32 || Snapshot::decode(data).is_err() || data.ends_with(&hash(data)[..]));
    let bytes = [data, &blake3::hash(data).as_bytes()[..]].concat();
    let Ok(snapshot) = Snapshot::decode(&bytes) else { return };
    assert!(snapshot.encode() == bytes, "read and written otherwise");
    assert_eq!(snapshot.clone().complete(None).is_ok(), snapshot.base.is_none());
    let path = snapshot.path("features");
    assert_eq!(keys_of(&path), Some((snapshot.key(), snapshot.base.map(|base| base.key))));
    assert_eq!(newest_first(vec![path.clone()], None), [path]);
    let bounds = snapshot.positions.iter().map(|position| Bounds {
        partition: position.partition.clone(),
        low: position.offset,
        committed: position.offset,
    });
    let wanted = Wanted {
        unit: snapshot.unit,
        fingerprint: snapshot.fingerprint,
        bounds: bounds.collect(),
        below: None,
    };
    // A partition that stands in it twice may be at two places.
    let once = |position: &Position| {
        snapshot.positions.iter().filter(|other| other.partition == position.partition).count() == 1
    };
    assert!(open(&bytes, &wanted).is_ok() || !snapshot.positions.iter().all(once));
}

/// The checksum that a file of these bytes would have to end in.
fn hash(data: &[u8]) -> [u8; 32] {
    *blake3::hash(&data[..data.len() - 32]).as_bytes()
}

fn seeds() -> Vec<Vec<u8>> {
    let position = |topic: &str, partition: i32| Position {
        partition: TopicPartition { topic: Arc::from(topic), partition },
        offset: 42,
        metadata: "w1,1,2".to_owned(),
    };
    let snapshot = |positions, base, part| Snapshot {
        unit: UnitId(3),
        fingerprint: 0xfeed,
        positions,
        base,
        parts: vec![part],
    };
    let whole = snapshot(vec![position("events", 3)], None, b"state".to_vec());
    let base = Some(Base { key: whole.key(), checksum: checksum_of(&whole.encode()).unwrap() });
    let snapshots = [
        snapshot(Vec::new(), None, Vec::new()),
        whole,
        snapshot(vec![position("events", 3)], base, b"changes".to_vec()),
        snapshot(vec![position("views", 0), position("clicks", 1)], None, vec![7; 300]),
    ];
    snapshots
        .map(|snapshot| {
            let bytes = snapshot.encode();
            bytes[..bytes.len() - 32].to_vec()
        })
        .into()
}
