//! The parent's embeddings for a warm start, by id: dictionaries are fitted anew for each training,
//! so that an id's row moves.

use crate::encode::Encoder;
use crate::predict::Model;

/// The parent's tables laid out for `encoder`: ids that both know keep their rows; ids that are new
/// start from the parent's row for unknown ids, which is what it would have said of them. `None`
/// where the tables differ in more than the ids that dictionaries hold.
pub(crate) fn tables(parent: &Model, encoder: &Encoder) -> Option<Vec<f32>> {
    if parent.encoder.schema() != encoder.schema() || parent.encoder.config() != encoder.config() {
        return None;
    }
    if parent.encoder == *encoder {
        return Some(parent.weights.tables.clone());
    }
    let width = parent.layout.width;
    let mut tables = vec![0.0; encoder.table_rows() * width];
    let mut copy = |to: u32, from: u32, rows: u32| {
        let span = |first: u32| first as usize * width..(first + rows) as usize * width;
        tables[span(to)].copy_from_slice(&parent.weights.tables[span(from)]);
    };
    for (ours, theirs) in encoder.tables().iter().zip(parent.encoder.tables()) {
        let Some(dictionary) = &ours.dictionary else {
            copy(ours.first, theirs.first, ours.rows);
            continue;
        };
        for row in 0..ours.rows - dictionary.len() as u32 {
            copy(ours.first + row, theirs.first + row, 1);
        }
        for &key in dictionary.keys() {
            copy(ours.row(key), theirs.row(key), 1);
        }
    }
    Some(tables)
}
