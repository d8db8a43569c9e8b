//! Mistakes put in on purpose, each of which a check must find within a few seeds, and which is all that
//! is wrong with them: without it the same seeds hold.

use bytes::Bytes;
use runtime::processor::OutRecord;
use schemas::{Codec, Control, DecodeError, Entry, Protobuf};
use simulation::Sabotage;

use crate::checks::check;
use crate::pipeline::PARTS;
use crate::run::run;

/// Seeds within which a mistake must be found.
const WITHIN: u64 = 60;

/// What the first seed that finds the mistake says.
fn caught(name: &str, sabotage: Sabotage) -> String {
    for seed in 0..WITHIN {
        let broken = check(&mut run(seed, sabotage).0).err();
        if let Some(what) = broken {
            assert_eq!(check(&mut run(seed, Sabotage::None).0).err(), None, "seed {seed} without it");
            println!("{name}: found by seed {seed}: {what}");
            return what;
        }
    }
    panic!("{name} was not found within {WITHIN} seeds");
}

#[test]
fn offsets_committed_outside_the_transaction_are_found() {
    let what = caught("offsets outside the transaction", Sabotage::OffsetsOutside);
    // Records of one service or another that no other one has seen: of ingest I1, of features I2, of the scorer I3.
    assert!(["I1", "I2", "I3"].iter().any(|invariant| what.starts_with(invariant)), "{what}");
}

#[test]
fn a_snapshot_taken_a_record_late_is_found() {
    let what = caught("a snapshot a record late", Sabotage::SnapshotLate);
    assert!(what.starts_with("I2"), "{what}");
}

#[test]
fn a_tick_lost_in_one_partition_is_found() {
    fn is_tick_of_partition_0(record: &OutRecord) -> bool {
        let is_tick = |value: &Bytes| {
            let entry: Result<Entry, DecodeError> = Protobuf::decode(value);
            matches!(entry, Ok(Entry::Control(Control::Ticks(_))))
        };
        record.topic == PARTS.names.events
            && record.partition == Some(0)
            && record.value.as_ref().is_some_and(is_tick)
    }
    let what = caught("a lost tick", Sabotage::Lose(is_tick_of_partition_0));
    assert!(what.contains("told otherwise"), "{what}");
}
