//! What an event says of its item is what the catalogue said when its record was read.

use proptest::prelude::*;
use runtime::processor::{ProcessorFactory, TopicRecord, UnitId};
use schemas::topic::Names;

use super::bench::{EVENTS_PARTITIONS, T, config, event, log, sources};
use crate::catalogue::{Catalogue, SharedCatalogue};
use crate::config::Config;
use crate::processor::*;
use crate::pseudonym::PseudonymKey;

/// The catalogue gives the item of these events another category and price.
fn tell(catalogue: &SharedCatalogue, nth: usize) {
    let value = format!(r#"{{"category":"k{nth}","brand":"b{nth}","price":{nth}}}"#);
    let record = TopicRecord {
        partition: 0,
        offset: nth as i64,
        timestamp_ms: 0,
        key: Some(Bytes::from_static(b"i")),
        value: Some(value.into()),
        headers: Vec::new(),
    };
    catalogue.write().apply(&record).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However long a record is held until it is its turn, and whatever the catalogue is told meanwhile and
    /// after: two ingests that have read the same put out the same.
    #[test]
    fn what_is_told_of_an_item_later_changes_no_event_that_was_read(
        steps in proptest::collection::vec((0..2_usize, 1..4_usize, any::<bool>(), any::<bool>()), 1..40),
    ) {
        let config = Config { merge_records: 1_000, ..config() };
        let catalogue = SharedCatalogue::new(Catalogue::new(&config));
        let key = PseudonymKey::new("k1", vec![7; 32]).unwrap();
        let partitions = RawPartitions { views: 2, clicks: 1, purchases: 1 };
        let names = Names::new("x.");
        let factory = factory(&config, names, partitions, EVENTS_PARTITIONS, &key, catalogue.clone()).unwrap();
        let mut ingest = factory.create(UnitId(0), None).unwrap();
        let fresh = |partition: TopicPartition| Position { partition, offset: 0, metadata: String::new() };
        let positions: Vec<Position> = sources().into_iter().map(fresh).collect();
        let mut out = Outputs::default();
        ingest.step(Input::Assigned { positions: &positions, now_ms: T }, &mut out).unwrap();

        let value = |n: usize| {
            // Every other one says nothing of its price.
            let time = T + n as i64;
            let without = format!(r#"{{"event_time":{time},"user_id":"u","item_id":"i"}}"#);
            if n.is_multiple_of(2) { event(time, 1) } else { without }
        };
        let logs: Vec<Vec<InRecord>> =
            (0..2).map(|source| log(source, &(0..120).map(value).collect::<Vec<_>>())).collect();
        let mut read = [0, 0];
        // What the catalogue said when each record was read.
        let mut knew: Vec<[usize; 2]> = vec![[0, 0]; 120];
        let mut told = 0;
        for (source, count, tells, drains) in steps {
            if tells {
                told += 1;
                tell(&catalogue, told);
            }
            let (from, to) = (read[source], (read[source] + count).min(120));
            read[source] = to;
            if from < to {
                (from..to).for_each(|at| knew[at][source] = told);
                let records = &logs[source][from..to];
                ingest.step(Input::Records { records, now_ms: T }, &mut out).unwrap();
            }
            if drains {
                // The other source may have more: what is later than that has to wait.
                let at_end = [sources()[2].clone(), sources()[3].clone()];
                ingest.step(Input::Drained { at_end: &at_end, now_ms: T }, &mut out).unwrap();
            }
        }
        tell(&catalogue, 1_000);
        ingest.step(Input::Drained { at_end: &sources(), now_ms: T }, &mut out).unwrap();
        let mut count = 0;
        for record in out.records.iter().filter(|record| &*record.topic == "x.events") {
            let Entry::Event(event) = Protobuf::decode(record.value.as_ref().unwrap()).unwrap() else { continue };
            let at = (event.event_time_ms - T) as usize;
            let knew = knew[at][event.origin.partition as usize];
            let told = |of: char| if knew == 0 { String::new() } else { format!("{of}{knew}") };
            prop_assert_eq!((&event.category, &event.brand), (&told('k'), &told('b')));
            if at % 2 == 1 {
                prop_assert_eq!(event.value.to_bits(), (knew as f64).to_bits());
            }
            count += 1;
        }
        prop_assert_eq!(count, read[0] + read[1], "all that was read is out");
    }
}
