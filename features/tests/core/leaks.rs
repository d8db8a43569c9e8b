//! Attempts to let a vector see what it must not: what arrives after its view, and what has arrived
//! before but happened later. The bytes of the vector may not depend on any of it.

use bytes::Bytes;
use features::{Config, factory};
use proptest::prelude::*;
use runtime::processor::{InRecord, Input, Outputs, ProcessorFactory, UnitId};
use schemas::topic::Names;
use schemas::{Codec, Control, EntityVersion, Entry, Event, FeatureVector, Kind, Protobuf};

use crate::cluster::*;
use crate::common::*;
use crate::shared::all_of_it;
use crate::shell::record;
use crate::summaries::{everything, with_texts};

/// One of everything, of the user's entities and of those that users share.
fn all() -> Config {
    let (mut config, shared) = (everything(), all_of_it());
    let of_all_users = shared.entities.into_iter().filter(|(name, _)| !name.starts_with("user"));
    config.entities.extend(of_all_users);
    Config { shared_tile: shared.shared_tile, ..config }
}

/// The values of vectors that a worker puts out for these records, read so many at a time.
fn worked(config: &Config, partition: usize, log: &[InRecord], batch: usize) -> Vec<Bytes> {
    let factory = factory(config, &Names::new("t-")).unwrap();
    let mut worker = factory.create(UnitId(partition as u32), None).unwrap();
    let mut out = Outputs::default();
    for records in log.chunks(batch) {
        worker.step(Input::Records { records, now_ms: 1 }, &mut out).unwrap();
    }
    let vectors = out.records.into_iter().filter(|record| &*record.topic == "t-feature-vectors");
    vectors.map(|record| record.value.unwrap()).collect()
}

/// The values of the vectors of the view at that offset.
fn of_view(vectors: Vec<Bytes>, offset: i64) -> Vec<Bytes> {
    let is_of = |bytes: &Bytes| {
        let vector: FeatureVector = Protobuf::decode(bytes).unwrap();
        vector.place.offset == offset
    };
    vectors.into_iter().filter(is_of).collect()
}

/// What may come after a view, made to matter as much as it can: of the view's user, item and campaign,
/// earlier than the view, at the very same time, or later; under its own id; with other facts of the
/// catalogue; answers to it; versions of what users share, at its time or before it.
fn attack(view: &Event, moves: &[Move], last: Option<&EntityVersion>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (index, mv) in moves.iter().enumerate() {
        let Move::Event { kind, user, item, campaign, gap, late, value, names } = mv else {
            // The clock goes on to the view and beyond, or a version comes that nobody has merged.
            let mut version = last.cloned().unwrap_or_default();
            version.version_ms = view.event_time_ms - (index % 3) as i64 * TILE;
            entries.push(Entry::Control(Control::Entities(version)));
            entries.push(tick(view.event_time_ms + (index % 2) as i64 * 100_000));
            continue;
        };
        let time_ms = match index % 4 {
            0 => view.event_time_ms,
            1 => view.event_time_ms - late - 1,
            2 => view.event_time_ms - gap,
            _ => view.event_time_ms + gap,
        };
        let mut new = Event { event_time_ms: time_ms, kind: *kind as i32, ..view.clone() };
        new.event_id = if index % 5 == 0 { view.event_id.clone() } else { format!("after{index}") };
        new.value = f64::from(*value);
        new.view_id = names.map(|_| view.event_id.clone()).unwrap_or_default();
        if *user == 0 {
            new.user = "u9".into();
        }
        if *item == 0 {
            new.item = "i9".into();
        }
        if *campaign == 0 {
            new.campaign = "c9".into();
        }
        // The catalogue has been told other things of the item.
        if *campaign == 1 {
            (new.category, new.brand) = ("k9".into(), "b9".into());
        }
        entries.push(entry(new));
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Two logs that are the same up to a view and have nothing in common after it, in batches that hold
    /// both: a worker looks ahead in what it has read.
    #[test]
    fn what_arrives_after_a_view_does_not_change_its_vector(
        before in moves(100), after in moves(60), pick in any::<prop::sample::Index>(), batch in 1..40_usize,
    ) {
        let config = all();
        let mut cluster = Cluster::new(&config);
        for entry in &with_texts(stream(&before)) {
            cluster.write(entry);
            cluster.take_all();
        }
        let views = |log: &Vec<(i64, Entry)>| -> Vec<usize> {
            let is_view = |entry: &Entry| matches!(entry, Entry::Event(e) if e.kind == Kind::View as i32);
            log.iter().enumerate().filter(|(_, (_, entry))| is_view(entry)).map(|(at, _)| at).collect()
        };
        let all_views: Vec<(usize, usize)> = cluster.logs.iter().enumerate()
            .flat_map(|(partition, log)| views(log).into_iter().map(move |at| (partition, at))).collect();
        prop_assume!(!all_views.is_empty());
        let (partition, at) = *pick.get(&all_views);
        let log = &cluster.logs[partition];
        let (offset, Entry::Event(view)) = &log[at] else { unreachable!() };

        let records = |entries: &mut dyn Iterator<Item = (i64, &Entry)>| -> Vec<InRecord> {
            entries.map(|(offset, entry)| record(partition as i32, offset, entry)).collect()
        };
        let straight = records(&mut log.iter().map(|(offset, entry)| (*offset, entry)));
        let attack = attack(view, &after, cluster.versions.last());
        let known = log[..=at].iter().map(|(offset, entry)| (*offset, entry));
        let attacked = records(&mut known.chain((offset + 1..).zip(&attack)));

        let want = of_view(worked(&config, partition, &straight[..=at], 1), *offset);
        prop_assert!(want.len() <= 1, "a repeat has none");
        prop_assert!(of_view(worked(&config, partition, &straight, batch), *offset) == want);
        prop_assert!(of_view(worked(&config, partition, &attacked, batch), *offset) == want);
    }
}

/// What may have been there instead of an event that a view must not know, and beside it.
#[derive(Debug, Clone, Copy)]
struct Other {
    drop: bool,
    kind: Kind,
    same_user: bool,
    same_item: bool,
    /// How much later it happened, ms.
    later: i64,
    value: u16,
    /// As many more like it.
    more: usize,
}

fn others() -> impl Strategy<Value = Vec<Other>> {
    let kinds = [Kind::View, Kind::Click, Kind::Cart, Kind::Purchase, Kind::Refund];
    let later = prop_oneof![Just(1_i64), 2..20_000_i64, 1..90_000_000_i64];
    let one = (
        any::<bool>(),
        prop::sample::select(kinds.to_vec()),
        any::<[bool; 2]>(),
        later,
        0..400_u16,
        0..3_usize,
    );
    let one = one.prop_map(|(drop, kind, [same_user, same_item], later, value, more)| Other {
        drop,
        kind,
        same_user,
        same_item,
        later,
        value,
        more,
    });
    proptest::collection::vec(one, 100)
}

/// How far apart the offsets of a stream's entries are: between them is room for what is put in.
const APART: i64 = 1_000;

/// The bytes of the vector of the entry at `at`, all before it having arrived, with versions of the shared
/// entities between them as `takes` has it.
fn vector_of(config: &Config, entries: &[Vec<Entry>], at: usize, takes: &[bool]) -> Option<Vec<u8>> {
    let mut cluster = Cluster::new(config);
    for (index, (entries, take)) in entries[..=at].iter().zip(takes.iter().cycle()).enumerate() {
        for partition in 0..PARTITIONS {
            cluster.next[partition] = cluster.next[partition].max(index as i64 * APART);
        }
        cluster.vectors.clear();
        let (last, more) = entries.split_last()?;
        for entry in more {
            cluster.write(entry);
        }
        // What stands in the stream itself is last, at a place that does not depend on the others.
        for partition in 0..PARTITIONS {
            cluster.next[partition] = index as i64 * APART + APART / 2;
        }
        if index == at {
            cluster.vectors.clear();
        }
        cluster.write(last);
        if *take && index < at {
            cluster.take_all();
        }
    }
    let (vector, _) = cluster.vectors.first()?;
    Some(Protobuf::to_vec(vector))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever has arrived before a view and happened later, by however little, may as well not have been,
    /// or have been something else: the user's, the item's, all of them.
    #[test]
    fn what_happened_after_a_view_does_not_count_though_it_came_before(
        moves in moves(100), others in others(), pick in any::<prop::sample::Index>(),
        takes in proptest::collection::vec(any::<bool>(), 20),
    ) {
        let config = all();
        let entries = with_texts(stream(&moves));
        let views: Vec<usize> = entries.iter().enumerate()
            .filter(|(_, e)| matches!(e, Entry::Event(e) if e.kind == Kind::View as i32))
            .map(|(at, _)| at).collect();
        prop_assume!(!views.is_empty());
        let at = *pick.get(&views);
        let Entry::Event(view) = &entries[at] else { unreachable!() };
        let straight: Vec<Vec<Entry>> = entries.iter().map(|entry| vec![entry.clone()]).collect();
        let mut altered = straight.clone();
        for (index, other) in (0..at).zip(others.iter().cycle()) {
            let Entry::Event(event) = &entries[index] else { continue };
            if event.event_time_ms <= view.event_time_ms {
                continue;
            }
            let make = |number: usize| {
                let mut new = Event { kind: other.kind as i32, ..(**event).clone() };
                new.event_id = format!("other{index}-{number}");
                new.event_time_ms = view.event_time_ms + other.later;
                new.value = f64::from(other.value);
                if other.same_user {
                    new.user.clone_from(&view.user);
                }
                if other.same_item {
                    let texts = [&mut new.item, &mut new.campaign, &mut new.category];
                    let of = [&view.item, &view.campaign, &view.category];
                    texts.into_iter().zip(of).for_each(|(text, of)| text.clone_from(of));
                }
                new.view_id.clone_from(&view.event_id);
                entry(new)
            };
            // In its place a record that says nothing, so that the clock is the same.
            let mut instead: Vec<Entry> = (0..other.more).map(make).collect();
            let nothing = || Entry::Control(Control::Entities(EntityVersion::default()));
            instead.push(if other.drop { nothing() } else { make(9) });
            altered[index] = instead;
        }
        let want = vector_of(&config, &straight, at, &takes);
        prop_assert!(vector_of(&config, &altered, at, &takes) == want);
    }
}
