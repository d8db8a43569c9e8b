//! Blocks of encoded examples, as a training spills them to disk.

use model::encode::{KeyedSet, Outcome};

use crate::Target;
use crate::records::vector;
use crate::trained::{LESSON, schema};

pub const TARGET: Target = Target { name: "spilled", run, seeds, times: 128, plus: 64 << 10, cases: 2_000 };

/// A block but for its checksum, behind the examples of another.
fn run(data: &[u8]) {
    let sum = xxhash_rust::xxh3::xxh3_64(data);
    let bytes = [data, &sum.to_le_bytes()].concat();
    let mut alone = KeyedSet::new(&LESSON.encoder);
    let is_good = alone.read_from(&bytes).is_ok();
    let mut behind = keyed(2);
    assert_eq!(behind.read_from(&bytes).is_ok(), is_good);
    if !is_good {
        return;
    }
    assert_eq!(behind.len(), 2 + alone.len());
    let mut written = Vec::new();
    alone.write_to(&mut written);
    assert!(written == bytes, "read and written otherwise");
    assert!(behind.thinned((1, 2)).len() <= behind.len());
    assert_eq!(behind.resolve(&LESSON.encoder).all().rows().count(), behind.len());
}

fn keyed(count: usize) -> KeyedSet {
    let mut set = KeyedSet::new(&LESSON.encoder);
    for n in 0..count {
        let vector = vector(&schema(), &[n as f32, f32::NAN, 0.5]);
        let outcome = Outcome { clicked: n == 1, matured: true, value: 3.0, ..Outcome::default() };
        set.push(&LESSON.encoder, &vector, outcome, 1.0).unwrap();
    }
    set
}

fn seeds() -> Vec<Vec<u8>> {
    let written = |count| {
        let mut bytes = Vec::new();
        keyed(count).write_to(&mut bytes);
        bytes.truncate(bytes.len() - 8);
        bytes
    };
    [0, 1, 5].map(written).into()
}
