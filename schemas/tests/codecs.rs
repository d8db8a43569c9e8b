//! Every codec gives back what it was given, and refuses the rest with words.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use bytes::Bytes;
use proptest::prelude::*;
use schemas::dead_letter::{HEADER_CLASS, HEADER_TOPIC};
use schemas::{
    Codec, Control, DeadLetter, Declaration, DecodeError, Duplicate, EntityTiles, EntityVersion, Entry,
    FeatureVector, Json, Kind, Label, ModelAnnouncement, Prediction, Protobuf, RawEvent, Reason, SourceSet,
    TileBlock,
};

fn again<C: Codec<T>, T: schemas::Record>(record: &T) -> T {
    let bytes = C::to_vec(record);
    let mut appended = b"before".to_vec();
    C::encode(record, &mut appended);
    assert_eq!(appended[6..], bytes, "encoding appends");
    C::decode(&Bytes::from(bytes)).unwrap()
}

/// Equal to the bit, NaN included.
fn same<C: Codec<T>, T: schemas::Record>(record: &T) -> bool {
    C::to_vec(&again::<C, T>(record)) == C::to_vec(record)
}

proptest! {
    #[test]
    fn protobuf_gives_back(
        event in common::event(), control in common::control(), late in common::late_event(),
        vector in common::vector(), label in common::label(), duplicate in common::duplicate(),
        aggregate in common::aggregate(), tiles in common::entity_tiles(),
    ) {
        prop_assert!(same::<Protobuf, _>(&Entry::Event(Box::new(event))));
        prop_assert_eq!(again::<Protobuf, _>(&Entry::Control(control.clone())), Entry::Control(control));
        prop_assert!(same::<Protobuf, _>(&late));
        prop_assert!(same::<Protobuf, _>(&vector));
        prop_assert!(same::<Protobuf, _>(&label));
        prop_assert_eq!(again::<Protobuf, _>(&duplicate), duplicate);
        prop_assert!(same::<Protobuf, _>(&aggregate));
        prop_assert_eq!(again::<Protobuf, _>(&tiles), tiles.clone());
        let json = serde_json::to_string(&tiles).unwrap();
        prop_assert_eq!(serde_json::from_str::<EntityTiles>(&json).unwrap(), tiles);
    }

    /// Whatever was there before, what is read over it is what was written.
    #[test]
    fn one_is_read_over_another(
        before in common::vector(), vector in common::vector(), event in common::event(),
        first in common::event(), control in common::control(), cut in any::<prop::sample::Index>(), to: u8,
    ) {
        let as_new = |over: &mut FeatureVector, bytes: &Bytes| {
            let read = over.read(bytes).map_err(|error| error.to_string());
            let new = <Protobuf as Codec<FeatureVector>>::decode(bytes).map_err(|error| error.to_string());
            (read.map(|()| Protobuf::to_vec(over)), new.map(|new| Protobuf::to_vec(&new)))
        };
        let (mut over, mut bytes) = (before, Protobuf::to_vec(&vector));
        let (read, new) = as_new(&mut over, &Bytes::from(bytes.clone()));
        prop_assert_eq!(read, new);
        // Damaged: refused alike, or read alike.
        let at = cut.index(bytes.len());
        bytes[at] = to;
        let (read, new) = as_new(&mut over, &Bytes::from(bytes.clone()));
        prop_assert_eq!(read, new);
        bytes.truncate(at);
        let (read, new) = as_new(&mut over, &Bytes::from(bytes));
        prop_assert_eq!(read, new);

        let mut over = Entry::Event(Box::new(first));
        for entry in [Entry::Event(Box::new(event)), Entry::Control(control)] {
            let mut bytes = Protobuf::to_vec(&entry);
            over.read(&Bytes::from(bytes.clone())).unwrap();
            prop_assert_eq!(Protobuf::to_vec(&over), Protobuf::to_vec(&entry));
            let at = cut.index(bytes.len());
            bytes[at] = to;
            let damaged = Bytes::from(bytes);
            let read = over.read(&damaged).map_err(|error| error.to_string());
            let new = <Protobuf as Codec<Entry>>::decode(&damaged).map_err(|error| error.to_string());
            prop_assert_eq!(read.map(|()| Protobuf::to_vec(&over)), new.map(|new| Protobuf::to_vec(&new)));
        }
    }

    /// Finite numbers come back to the bit from decimal text.
    #[test]
    fn json_gives_back(prediction in common::prediction(), announcement in common::announcement()) {
        prop_assert!(same::<Json, _>(&prediction));
        prop_assert_eq!(again::<Json, _>(&prediction), prediction);
        prop_assert_eq!(again::<Json, _>(&announcement), announcement);
    }

    #[test]
    fn dead_letters_give_back(letter in common::dead_letter()) {
        let (key, value, headers) = letter.clone().into_parts();
        prop_assert_eq!(DeadLetter::from_parts(key.as_ref(), value.as_ref(), &headers).unwrap(), letter);
    }

    /// No bytes make a decoder panic, and what it takes it writes again.
    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), versioned: bool) {
        if versioned && !bytes.is_empty() {
            bytes[0] = 1;
        }
        let bytes = Bytes::from(bytes);
        if let Ok(entry) = <Protobuf as Codec<Entry>>::decode(&bytes) {
            prop_assert!(same::<Protobuf, _>(&entry));
        }
        if let Ok(vector) = <Protobuf as Codec<schemas::FeatureVector>>::decode(&bytes) {
            prop_assert!(same::<Protobuf, _>(&vector));
        }
        if let Ok(label) = <Protobuf as Codec<Label>>::decode(&bytes) {
            prop_assert!(same::<Protobuf, _>(&label));
        }
        if let Ok(tiles) = <Protobuf as Codec<EntityTiles>>::decode(&bytes) {
            prop_assert!(same::<Protobuf, _>(&tiles));
        }
        let _ = <Json as Codec<Prediction>>::decode(&bytes);
        let _ = <Json as Codec<RawEvent>>::decode(&bytes);
    }
}

#[test]
fn nothing_and_other_versions_are_refused_by_name() {
    let refused =
        |bytes: &'static [u8]| <Protobuf as Codec<Label>>::decode(&Bytes::from_static(bytes)).unwrap_err();
    assert!(matches!(refused(b""), DecodeError::Empty { record: "label" }));
    assert!(matches!(refused(b"\x00"), DecodeError::Version { found: 0, known: 1, .. }));
    let newer = refused(b"\x02\x0a\x00");
    assert!(newer.to_string().contains("upgrade"), "{newer}");
    assert!(matches!(refused(b"\x01\xff"), DecodeError::Protobuf { .. }));
    let json =
        |text: &'static str| <Json as Codec<ModelAnnouncement>>::decode(&Bytes::from_static(text.as_bytes()));
    assert!(matches!(json(""), Err(DecodeError::Empty { .. })));
    assert!(matches!(json("{}"), Err(DecodeError::Json { .. })));
    let fields =
        r#""name":"m","model_version":"v1","uri":"u","checksum":"c","fingerprint":"f","announced_ms":1}"#;
    assert!(json(Box::leak(format!("{{\"version\":1,{fields}").into_boxed_str())).is_ok());
    let newer = json(Box::leak(format!("{{\"version\":2,{fields}").into_boxed_str()));
    assert!(matches!(newer, Err(DecodeError::Version { found: 2, .. })));
}

/// Rows of a block are opaque to Protobuf: the codec looks into them.
#[test]
fn damaged_rows_and_records_of_before_are_refused() {
    let block = |rows: &'static [u8]| TileBlock {
        tile_ms: 60_000,
        entity: 1,
        rows: Bytes::from_static(rows),
        summaries: Bytes::new(),
    };
    let refused = |blocks: Vec<TileBlock>| {
        let version = EntityVersion { blocks: blocks.clone(), ..EntityVersion::default() };
        let version = Protobuf::to_vec(&Entry::Control(Control::Entities(version)));
        let tiles = Protobuf::to_vec(&EntityTiles { blocks, ..EntityTiles::default() });
        let both = (
            <Protobuf as Codec<Entry>>::decode(&version.into()).is_err(),
            <Protobuf as Codec<EntityTiles>>::decode(&tiles.into()).is_err(),
        );
        assert_eq!(both.0, both.1);
        both.0
    };
    assert!(!refused(vec![block(b"\x01a\x01\x02\x01b\x21\x02\x03")]));
    for rows in [
        &b""[..],
        b"\x01a",
        b"\x01a\x01",
        b"\x02a\x01\x02",
        b"\x01\xff\x01\x02",
        b"\x01a\x01\x00",
        b"\x01a\x01\x82\x00",
        b"\x01b\x01\x02\x01a\x01\x02",
        b"\x01a\x01\x02\x01a\x01\x02",
        b"\x01a\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
    ] {
        assert!(refused(vec![block(rows)]), "{rows:?}");
    }
    let with = |summaries: &'static [u8]| TileBlock {
        summaries: Bytes::from_static(summaries),
        ..block(b"\x01a\x01\x02\x01b\x21\x02\x03")
    };
    assert!(!refused(vec![with(b"\x02xy\x00")]));
    for summaries in [&b"\x02xy"[..], b"\x02xy\x00\x00", b"\x02xy\x02x", b"\x02xy\x80\x00", b"\x00\x00x"] {
        assert!(refused(vec![with(summaries)]), "{summaries:?}");
    }
    let two = || block(b"\x01a\x01\x02");
    assert!(refused(vec![two(), two()]));
    assert!(refused(vec![two(), TileBlock { tile_ms: 0, ..two() }]));
    let old = <Protobuf as Codec<EntityTiles>>::decode(&Bytes::from_static(b"\x01\x08\x05")).unwrap_err();
    assert!(matches!(old, DecodeError::Retired { found: 1, oldest: 2, .. }), "{old}");
    let old = <Protobuf as Codec<Entry>>::decode(&Bytes::from_static(b"\x01\x22\x00")).unwrap_err();
    assert!(old.to_string().contains("empty topic"), "{old}");
}

#[test]
fn an_unknown_control_record_is_named_so_and_not_skipped() {
    // Field 9 of the envelope: what a newer writer might add.
    let error = <Protobuf as Codec<Entry>>::decode(&Bytes::from_static(b"\x01\x4a\x00")).unwrap_err();
    assert!(error.to_string().contains("control record"), "{error}");
    let text = "{}".to_owned();
    let damaged = Entry::Control(Control::Declared(Declaration { fingerprint: 1, text }));
    let error = <Protobuf as Codec<Entry>>::decode(&Protobuf::to_vec(&damaged).into()).unwrap_err();
    assert!(error.to_string().contains("fingerprint of their text"), "{error}");
    let empty = Entry::Control(Control::Sources(SourceSet { sources: Vec::new() }));
    assert_eq!(again::<Protobuf, _>(&empty), empty, "an empty set is a set");
}

#[test]
fn fields_of_newer_writers_of_a_version_are_passed_over() {
    let duplicate = Duplicate { event_id: "v-1".into(), ..Duplicate::default() };
    let mut bytes = Protobuf::to_vec(&duplicate);
    bytes.extend(b"\xf2\x03\x03new");
    assert_eq!(<Protobuf as Codec<Duplicate>>::decode(&Bytes::from(bytes)).unwrap(), duplicate);
}

#[test]
fn headers_may_be_among_others_but_must_be_there() {
    let letter = DeadLetter {
        topic: "views".into(),
        partition: 1,
        offset: 2,
        stage: "ingest".into(),
        reason: Reason::Empty,
        message: String::new(),
        key: None,
        value: None,
    };
    let (_, _, headers) = letter.clone().into_parts();
    let mut more = vec![
        ("trace".to_owned(), None),
        // The raw record's own, from a pipeline before this one.
        (HEADER_TOPIC.to_owned(), Some(Bytes::from_static(b"elsewhere"))),
    ];
    more.extend(headers.clone());
    assert_eq!(DeadLetter::from_parts(None, None, &more).unwrap(), letter);
    for missing in 0..headers.len() {
        let mut fewer = headers.clone();
        fewer.remove(missing);
        assert!(DeadLetter::from_parts(None, None, &fewer).is_err());
    }
    let mut unknown = headers;
    let class = unknown.iter_mut().find(|(name, _)| name == HEADER_CLASS).unwrap();
    class.1 = Some(Bytes::from_static(b"java.lang.Exception"));
    assert!(DeadLetter::from_parts(None, None, &unknown).is_err());
}

#[test]
fn names_and_values_of_closed_sets_agree() {
    for kind in [Kind::View, Kind::Click, Kind::Cart, Kind::Purchase, Kind::Refund] {
        assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        assert_eq!(kind.is_click(), matches!(kind, Kind::Click | Kind::Cart));
    }
    assert_eq!(Kind::parse("unknown"), None);
    assert_eq!(Kind::parse("View"), None);
    assert_eq!(schemas::Event { kind: 99, ..schemas::Event::default() }.kind_or_unknown(), Kind::Unknown);
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
}

#[test]
fn a_float_block_is_read_to_its_last_whole_number() {
    let block = [1.0_f32.to_le_bytes().as_slice(), &[1, 2]].concat();
    assert_eq!(schemas::vector::floats(&block).collect::<Vec<_>>(), [1.0]);
}

#[test]
fn a_schema_is_told_by_names_order_and_scales() {
    let schema = common::vector_schema();
    let mut documented = schema.clone();
    documented.fields[0].doc = "other words".into();
    assert_eq!(documented.fingerprint(), schema.fingerprint());
    let mut swapped = schema.clone();
    swapped.fields.swap(0, 1);
    assert_ne!(swapped.fingerprint(), schema.fingerprint());
    let mut scaled = schema.clone();
    scaled.fields[0].scale = schemas::vector::Scale::Linear;
    assert_ne!(scaled.fingerprint(), schema.fingerprint());
    assert_eq!(schema.position("clock"), Some(4));
    assert_eq!(schema.position("nothing"), None);
}

/// What 32 bits would hold as infinite, JSON could not write again.
#[test]
fn a_prediction_beyond_32_bits_is_refused() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/prediction/v1.expected.json"))
            .unwrap();
    let good: serde_json::Value = serde_json::from_str(&text).unwrap();
    let read = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut prediction = good.clone();
        change(&mut prediction);
        let bytes = Bytes::from(serde_json::to_vec(&prediction).unwrap());
        <Json as Codec<Prediction>>::decode(&bytes)
    };
    assert!(read(&|_| {}).is_ok());
    let changes: [fn(&mut serde_json::Value); 4] = [
        |prediction| prediction["p_click"] = 1e300.into(),
        |prediction| prediction["p_purchase"] = (-1e300).into(),
        |prediction| prediction["attention"][0]["weight"] = 1e300.into(),
        |prediction| prediction["behaviours"][0]["weight"] = 1e300.into(),
    ];
    for change in changes {
        let refused = read(&change);
        assert!(matches!(refused, Err(DecodeError::Json { .. })), "{refused:?}");
    }
}
