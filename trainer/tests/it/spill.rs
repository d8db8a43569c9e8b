//! Blocks on disk: what is written is read back, in bounded memory, and nothing stays behind.

use std::fs;

use crate::common::{World, network, schema};
use model::Encoder;
use model::encode::{KeyedSet, Outcome};
use schemas::Behaviour;
use trainer::Error;
use trainer::spill::{Blocks, Writer};

fn world(rows: usize) -> World {
    let mut world = World::new(17);
    world.grow(rows);
    for (at, vector) in world.vectors.iter_mut().enumerate() {
        vector.behaviours = (0..at % 4)
            .map(|back| Behaviour {
                item: format!("i{back}"),
                kind: 2,
                age_ms: 1_000 << back,
                ..Behaviour::default()
            })
            .collect();
    }
    world
}

fn fill(writer: &mut Writer, encoder: &Encoder, world: &World) {
    for (at, vector) in world.vectors.iter().enumerate() {
        let outcome = Outcome { clicked: at % 3 == 0, ..Outcome::default() };
        writer.push(|set| Ok(set.push(encoder, vector, outcome, 1.0)?)).unwrap();
    }
}

fn all(blocks: &Blocks) -> Vec<KeyedSet> {
    blocks.all().map(Result::unwrap).collect()
}

#[test]
fn blocks_in_order_are_the_examples_in_order() {
    let (folder, encoder) = (tempfile::tempdir().unwrap(), Encoder::new(&schema(), &network().encoder));
    let world = world(1_000);
    let mut whole = KeyedSet::new(&encoder);
    for (at, vector) in world.vectors.iter().enumerate() {
        let outcome = Outcome { clicked: at % 3 == 0, ..Outcome::default() };
        whole.push(&encoder, vector, outcome, 1.0).unwrap();
    }
    // One chunk a block, and many.
    for buffer in [1 << 20, 1_000] {
        let mut writer =
            Writer::in_order(folder.path(), KeyedSet::new(&encoder), 300).unwrap().with_buffer(buffer);
        fill(&mut writer, &encoder, &world);
        let blocks = writer.finish().unwrap();
        assert_eq!(all(&blocks).iter().map(KeyedSet::len).collect::<Vec<_>>(), [300, 300, 300, 100]);
        assert_eq!(blocks.read_all().unwrap(), whole);
        // Nothing to remove, whatever ends the process.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn memory_is_bounded_by_the_buffer_not_by_the_examples() {
    let (folder, encoder) = (tempfile::tempdir().unwrap(), Encoder::new(&schema(), &network().encoder));
    let buffer = 20_000;
    let mut first: Option<Vec<KeyedSet>> = None;
    for rows in [1_000, 8_000] {
        let world = world(rows);
        let mut writer = Writer::scattered(folder.path(), KeyedSet::new(&encoder), 250, rows, 9)
            .unwrap()
            .with_buffer(buffer);
        fill(&mut writer, &encoder, &world);
        // The buffer and the example that filled it.
        assert!(writer.most_bytes() < buffer + 1_000, "{}", writer.most_bytes());
        let blocks = writer.finish().unwrap();
        assert!(blocks.bytes() > 5 * buffer as u64);
        assert_eq!((blocks.rows(), blocks.len()), (rows, rows / 250));
        assert!(all(&blocks).iter().all(|block| (150..350).contains(&block.len())));
        // The buffer's size is no part of the result.
        if rows == 1_000 {
            first = Some(all(&blocks));
        }
    }
    let mut writer = Writer::scattered(folder.path(), KeyedSet::new(&encoder), 250, 1_000, 9).unwrap();
    fill(&mut writer, &encoder, &world(1_000));
    assert_eq!(Some(all(&writer.finish().unwrap())), first);
}

#[test]
fn a_damaged_block_is_refused() {
    let encoder = Encoder::new(&schema(), &network().encoder);
    let mut set = KeyedSet::new(&encoder);
    for vector in &world(20).vectors {
        set.push(&encoder, vector, Outcome::default(), 1.0).unwrap();
    }
    let mut bytes = Vec::new();
    set.write_to(&mut bytes);
    let mut read = KeyedSet::new(&encoder);
    read.read_from(&bytes).unwrap();
    assert_eq!(read, set);
    for at in [0, 9, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 4;
        assert!(KeyedSet::new(&encoder).read_from(&changed).is_err(), "byte {at}");
    }
    for length in [0, 7, 50, bytes.len() - 1] {
        assert!(KeyedSet::new(&encoder).read_from(&bytes[..length]).is_err());
    }
    // Of a set with other numbers.
    assert!(KeyedSet::default().read_from(&bytes).is_err());

    // A folder that cannot be written to is named by its key.
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    let error = Writer::in_order(&gone, set, 10).unwrap_err();
    assert!(matches!(&error, Error::Spill { .. }) && error.is_transient());
    assert!(error.to_string().starts_with("trainer.spill_folder: "), "{error}");
}
