//! Checkpoints of trainings: read, and gone on from.

use std::sync::LazyLock;

use model::Checkpoint;

use crate::Target;
use crate::trained::LESSON;

pub const TARGET: Target = Target { name: "checkpoint", run, seeds, times: 512, plus: 4 << 20, cases: 200 };

/// Magic, then the length of the header.
const MAGIC: usize = 8;
const LENGTH: usize = 8;

/// A real one, after two steps: the first bytes of every input stand in for its own.
static WRITTEN: LazyLock<Vec<u8>> = LazyLock::new(|| LESSON.learn(None, 2).1.unwrap());

/// Length of the header in two bytes, the header, the arrays. Magic and checksum are written around it.
fn run(data: &[u8]) {
    let Some((length, rest)) = data.split_at_checked(2) else { return };
    let length = u64::from(u16::from_le_bytes([length[0], length[1]]));
    let mut bytes = [&WRITTEN[..MAGIC], &length.to_le_bytes(), rest].concat();
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    let Ok(checkpoint) = Checkpoint::read(&mut bytes.as_slice()) else { return };
    let (ended, written) = LESSON.learn(Some(checkpoint), 1);
    drop(ended);
    if let Some(written) = written {
        Checkpoint::read(&mut written.as_slice()).expect("a checkpoint of a resumed training is good");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let cut = |written: &[u8]| {
        let length = u64::from_le_bytes(written[MAGIC..MAGIC + LENGTH].try_into().unwrap()) as u16;
        let end = written.len() - blake3::OUT_LEN;
        [&length.to_le_bytes()[..], &written[MAGIC + LENGTH..end]].concat()
    };
    let later = LESSON.learn(None, 5).1.unwrap();
    vec![cut(&WRITTEN), cut(&later)]
}
