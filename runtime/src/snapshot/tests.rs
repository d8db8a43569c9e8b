#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

fn events(partition: i32) -> TopicPartition {
    TopicPartition { topic: "events".into(), partition }
}

fn sample(offset: i64) -> Snapshot {
    Snapshot {
        unit: UnitId(3),
        fingerprint: 0xfeed,
        positions: vec![Position { partition: events(3), offset, metadata: "w=7".into() }],
        base: None,
        parts: vec![b"sta".to_vec(), b"te".to_vec()],
    }
}

/// What had changed at an offset since a snapshot.
fn changes(offset: i64, whole: &Snapshot) -> Snapshot {
    let checksum = checksum_of(&whole.encode()).unwrap();
    let base = Some(Base { key: whole.key(), checksum });
    Snapshot { base, parts: vec![b"+1".to_vec()], ..sample(offset) }
}

fn wanted(low: i64, committed: i64) -> Wanted {
    let bounds = vec![Bounds { partition: events(3), low, committed }];
    Wanted { unit: UnitId(3), fingerprint: 0xfeed, bounds, below: None }
}

#[test]
fn reads_what_it_wrote() {
    let snapshot = sample(42);
    let back = Snapshot::decode(&snapshot.encode()).unwrap();
    assert_eq!((&*back.payload(), back.payload_len()), (&b"state"[..], 5));
    assert_eq!(back, Snapshot { parts: vec![b"state".to_vec()], ..snapshot.clone() });
    assert_eq!(snapshot.path("features"), "snapshots/features/3/00000000000000000042.snap");
    assert_eq!(keys_of(&snapshot.path("features")), Some((42, None)));
    let changes = changes(50, &snapshot);
    assert_eq!(Snapshot::decode(&changes.encode()), Ok(changes.clone()));
    let path = changes.path("features");
    assert_eq!(path, "snapshots/features/3/00000000000000000050-00000000000000000042.snap");
    assert_eq!(keys_of(&path), Some((50, Some(42))));
    assert_eq!(changes.base_path("features"), Some(snapshot.path("features")));
}

#[test]
fn changes_stand_behind_the_whole_one_that_they_name_and_no_other() {
    let (whole, other) = (sample(42), Snapshot { parts: vec![b"other".to_vec()], ..sample(42) });
    let mut complete = changes(50, &whole);
    complete.complete(Some(&whole.encode())).unwrap();
    assert_eq!(&*complete.payload(), b"state+1");
    let mut damaged = whole.encode();
    damaged[60] ^= 1;
    let files = [None, Some(other.encode()), Some(damaged.clone()), Some(changes(50, &whole).encode())];
    for file in files {
        let refused = changes(50, &whole).complete(file.as_deref()).unwrap_err();
        let wanted = if file == Some(damaged.clone()) { Refused::Checksum } else { Refused::Base(42) };
        assert_eq!(refused, wanted);
    }
}

#[test]
fn so_many_whole_ones_are_kept_and_so_many_changes_of_these() {
    let path = |key: u64, base: Option<u64>| match base {
        None => format!("s/1/{key:020}.snap"),
        Some(base) => format!("s/1/{key:020}-{base:020}.snap"),
    };
    let whole = [10, 20, 30].map(|key| path(key, None));
    let changes = [(11, 10), (21, 20), (22, 20), (31, 30), (32, 30)].map(|(key, base)| path(key, Some(base)));
    let all = [whole.as_slice(), &changes, &["s/1/note".to_owned()]].concat();
    let mut gone = superseded(all.clone(), 2);
    gone.sort();
    assert_eq!(gone, [&whole[0], &changes[0], &changes[1], &changes[2]].map(Clone::clone));
    assert_eq!(superseded(all, 9), Vec::<String>::new());
}

#[test]
fn offsets_that_add_up_to_more_than_a_key_holds_have_the_last_key() {
    let mut snapshot = sample(i64::MAX);
    snapshot.positions = (0..3).flat_map(|_| snapshot.positions.clone()).collect();
    assert_eq!(snapshot.key(), u64::MAX);
    assert_eq!(keys_of(&snapshot.path("features")), Some((u64::MAX, None)));
}

#[test]
fn any_cut_and_any_changed_byte_is_refused() {
    let bytes = changes(42, &sample(9)).encode();
    for length in 0..bytes.len() {
        assert!(Snapshot::decode(&bytes[..length]).is_err(), "cut at {length}");
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(Snapshot::decode(&damaged).is_err(), "byte {at} changed");
    }
}

#[test]
fn only_committed_state_of_the_same_declarations_is_restored() {
    assert_eq!(sample(42).check(&wanted(0, 42)), Ok(()));
    assert!(matches!(sample(43).check(&wanted(0, 42)), Err(Refused::Ahead { at: 43, .. })));
    assert!(matches!(sample(9).check(&wanted(10, 42)), Err(Refused::Cut { low: 10, .. })));
    let other = Wanted { fingerprint: 1, ..wanted(0, 42) };
    assert!(matches!(sample(42).check(&other), Err(Refused::Fingerprint { .. })));
    let other = Wanted { unit: UnitId(4), ..wanted(0, 42) };
    assert_eq!(sample(42).check(&other), Err(Refused::Unit));
}

#[test]
fn tries_the_newest_first() {
    let paths = ["s/1/00000000000000000009.snap", "s/1/note", "s/1/00000000000000000010.snap"];
    let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
    assert_eq!(newest_first(paths.clone(), None).len(), 2);
    assert!(newest_first(paths.clone(), None)[0].contains("10.snap"));
    assert_eq!(newest_first(paths, Some(10)), vec!["s/1/00000000000000000009.snap"]);
}
