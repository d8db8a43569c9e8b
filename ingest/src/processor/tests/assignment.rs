//! Which topics and positions it takes.

use runtime::processor::{Positions, ProcessorFactory, UnitId};

use super::bench::{config, make};
use crate::processor::*;

#[test]
fn wrong_positions_are_refused() {
    let bench = |position: Position| {
        let mut processor = make(&config()).create(UnitId(0), None).unwrap();
        let input = Input::Assigned { positions: &[position], now_ms: 0 };
        processor.step(input, &mut Outputs::default()).unwrap_err().to_string()
    };
    let position = |topic: &str, partition, metadata: &str| Position {
        partition: TopicPartition { topic: topic.into(), partition },
        offset: 5,
        metadata: metadata.into(),
    };
    assert!(bench(position("x.views", 0, "garbage")).contains("x.views[0]"));
    assert!(bench(position("x.views", 2, "")).contains("restart every ingest"));
    assert!(bench(position("views", 0, "")).contains("no partition of a raw topic"));
}

#[test]
fn the_factory_names_its_topics() {
    let factory = make(&config());
    let names = |topics: Vec<Arc<str>>| topics.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(factory.inputs()), ["x.views", "x.clicks", "x.purchases"]);
    assert_eq!(names(factory.outputs()), ["x.events", "x.late-events", "x.dead-letters"]);
    assert_eq!(factory.positions(), Positions::Reported);
}
