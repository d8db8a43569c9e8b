//! Blocks in records, and records back to blocks: what a close or a version holds may take several
//! records, numbered from 0.

use std::borrow::Cow;

use bytes::Bytes;
use schemas::TileBlock;
use schemas::entity::{EntitySums, RowSummaries, Rows};

use crate::wire::{Reader, SnapshotError, Writer};

/// So many bytes of rows close a record: well below what a broker takes by default.
pub(super) const RECORD_BYTES: usize = 256 * 1_024;

/// Puts rows into blocks, and blocks into records.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    records: Vec<Vec<TileBlock>>,
    /// Of the record that is being filled.
    blocks: Vec<TileBlock>,
    bytes: usize,
    /// Of the block that is being filled: its tile and entity, and its rows.
    open: Option<(i64, i32)>,
    rows: Vec<u8>,
    summaries: Vec<u8>,
}

impl Packer {
    /// The next row, with its summary where the entity has such. Tiles, entities of a tile and keys of an
    /// entity ascend.
    pub(crate) fn row(
        &mut self,
        (tile_ms, entity): (i64, i32),
        key: &[u8],
        sums: &EntitySums,
        summary: Option<&[u8]>,
    ) {
        let open = self.rows.len() + self.summaries.len();
        if self.open != Some((tile_ms, entity)) || self.bytes + open >= RECORD_BYTES {
            self.close();
            self.open = Some((tile_ms, entity));
        }
        Rows::push_bytes(&mut self.rows, key, sums);
        if let Some(summary) = summary {
            RowSummaries::push(&mut self.summaries, summary);
        }
    }

    /// A block as it is: all rows of its tile and entity.
    pub(crate) fn block(&mut self, block: TileBlock) {
        self.close();
        self.bytes += len(&block);
        self.blocks.push(block);
    }

    fn close(&mut self) {
        if let Some((tile_ms, entity)) = self.open.take() {
            let [rows, summaries] = [&self.rows, &self.summaries].map(|bytes| Bytes::copy_from_slice(bytes));
            self.rows.clear();
            self.summaries.clear();
            let block = TileBlock { tile_ms, entity, rows, summaries };
            self.bytes += len(&block);
            self.blocks.push(block);
        }
        if self.bytes >= RECORD_BYTES {
            self.records.push(std::mem::take(&mut self.blocks));
            self.bytes = 0;
        }
    }

    /// The blocks of each record, at least one; each with its number, and whether it is the last.
    pub(crate) fn finish(mut self) -> impl Iterator<Item = (u32, bool, Vec<TileBlock>)> {
        self.close();
        if !self.blocks.is_empty() || self.records.is_empty() {
            self.records.push(self.blocks);
        }
        let count = self.records.len();
        let numbered = self.records.into_iter().enumerate();
        numbered.map(move |(part, blocks)| (part as u32, part + 1 == count, blocks))
    }
}

/// Bytes of a block.
fn len(block: &TileBlock) -> usize {
    block.rows.len() + block.summaries.len()
}

/// The records of one close or version of which the last is still to come.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Parts {
    /// The time closed, or of the version.
    at_ms: i64,
    /// Records that have come, from 0 on.
    come: u32,
    blocks: Vec<TileBlock>,
}

impl Parts {
    /// Takes a record in; all blocks, once the last has come.
    ///
    /// A record that has come is passed over, and one whose predecessors have not, too: delivery is at
    /// least once and in order, so that it is a repeat, or the log began in the middle.
    pub(crate) fn take<'a>(
        &mut self,
        at_ms: i64,
        part: u32,
        last: bool,
        blocks: &'a [TileBlock],
    ) -> Option<Cow<'a, [TileBlock]>> {
        if part == 0 {
            *self = Self { at_ms, come: 0, blocks: Vec::new() };
            if last {
                return Some(Cow::Borrowed(blocks));
            }
        }
        if (at_ms, part) != (self.at_ms, self.come) {
            return None;
        }
        self.come += 1;
        self.blocks.extend_from_slice(blocks);
        last.then(|| Cow::Owned(std::mem::take(self).blocks))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| size_of::<TileBlock>() + len(block)).sum()
    }

    /// `summarises`: whether any entity has summaries.
    pub(crate) fn write(&self, summarises: bool, out: &mut Writer) {
        out.int(self.at_ms);
        out.uint(u64::from(self.come));
        out.len(self.blocks.len());
        for block in &self.blocks {
            out.int(block.tile_ms);
            out.int(i64::from(block.entity));
            out.bytes(&block.rows);
            if summarises {
                out.bytes(&block.summaries);
            }
        }
    }

    pub(crate) fn read_from(summarises: bool, input: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        let mut parts =
            Self { at_ms: input.int()?, come: input.id_below(u32::MAX as usize)?, blocks: Vec::new() };
        for _ in 0..input.len()? {
            let tile_ms = input.int()?;
            let entity = i32::try_from(input.int()?).map_err(|_| input.damaged())?;
            parts.blocks.push(read_block((tile_ms, entity), summarises, input)?);
        }
        Ok(parts)
    }
}

/// A block as it was taken from a record; `summarises`: whether any entity has summaries.
pub(super) fn read_block(
    (tile_ms, entity): (i64, i32),
    summarises: bool,
    input: &mut Reader<'_>,
) -> Result<TileBlock, SnapshotError> {
    let rows = input.bytes()?;
    let summaries = if summarises { input.bytes()? } else { &[] };
    let fit = summaries.is_empty() || RowSummaries::new(summaries).are(Rows::new(rows).count());
    if !Rows::new(rows).are_whole() || !fit {
        return Err(input.damaged());
    }
    let [rows, summaries] = [rows, summaries].map(Bytes::copy_from_slice);
    Ok(TileBlock { tile_ms, entity, rows, summaries })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(tile_ms: i64) -> Vec<TileBlock> {
        vec![TileBlock { tile_ms, entity: 1, ..TileBlock::default() }]
    }

    #[test]
    fn repeats_and_gaps_leave_each_record_once() {
        let orders: [(&[u32], bool); 7] = [
            (&[0, 1, 2], true),
            (&[0, 0, 1, 1, 2], true),
            (&[0, 1, 0, 1, 2], true),
            (&[0, 1, 0, 2], false),
            (&[1, 2], false),
            (&[0, 2], false),
            (&[1, 2, 0, 1, 2], true),
        ];
        for (order, whole) in orders {
            let mut parts = Parts::default();
            let mut made = None;
            for &part in order {
                let blocks = blocks(i64::from(part));
                made = parts.take(9, part, part == 2, &blocks).map(Cow::into_owned);
            }
            let want = whole.then(|| (0..3).flat_map(blocks).collect::<Vec<_>>());
            assert_eq!(made, want, "{order:?}");
        }
        let mut parts = Parts::default();
        assert_eq!(parts.take(1, 0, false, &blocks(0)), None);
        assert_eq!(parts.take(2, 1, true, &blocks(1)), None, "of another time");
    }

    #[test]
    fn rows_are_cut_into_records_of_a_bounded_size() {
        let mut packer = Packer::default();
        let sums = EntitySums { counts: [1, 0, 0, 0, 0], values: [0; 3] };
        let key = |at: i32| format!("{at:06}{}", "x".repeat(1_000));
        (0..600).for_each(|at| packer.row((60, 1), key(at).as_bytes(), &sums, None));
        packer.row((60, 2), b"last", &sums, None);
        let records: Vec<_> = packer.finish().collect();
        assert_eq!(
            records.iter().map(|(part, last, _)| (*part, *last)).collect::<Vec<_>>(),
            [(0, false), (1, false), (2, true)]
        );
        let bytes = |blocks: &[TileBlock]| blocks.iter().map(|block| block.rows.len()).sum::<usize>();
        assert!(records.iter().all(|(.., blocks)| bytes(blocks) < RECORD_BYTES + 2_000));
        let keys =
            |block: &TileBlock| Rows::new(&block.rows).map(|row| row.key.to_owned()).collect::<Vec<_>>();
        let keys: Vec<String> = records.iter().flat_map(|(.., blocks)| blocks).flat_map(keys).collect();
        assert_eq!(keys, (0..600).map(key).chain(["last".to_owned()]).collect::<Vec<_>>());
        assert_eq!(Packer::default().finish().collect::<Vec<_>>(), [(0, true, Vec::new())]);
    }

    #[test]
    fn rows_and_counts_that_no_record_has_are_refused() {
        let mut rows = Vec::new();
        let sums = EntitySums { counts: [1, 0, 0, 0, 0], values: [0; 3] };
        for key in ["a", "b"] {
            Rows::push(&mut rows, key, &sums);
        }
        let read = |come: u32, rows: &[u8], summaries: &[u8]| {
            let [rows, summaries] = [rows, summaries].map(Bytes::copy_from_slice);
            let blocks = vec![TileBlock { tile_ms: 0, entity: 1, rows, summaries }];
            let mut out = Writer(Vec::new());
            Parts { at_ms: 0, come, blocks }.write(true, &mut out);
            Parts::read_from(true, &mut Reader::new(&out.0)).is_ok()
        };
        assert!(read(1, &rows, &[]) && read(1, &rows, &[0, 0]));
        assert!(!read(1, &rows[..rows.len() - 1], &[]), "cut rows");
        assert!(!read(1, &[&rows[..], &rows[..]].concat(), &[]), "keys that go back");
        assert!(!read(1, &rows, &[0]), "a row without its summary");
        assert!(!read(u32::MAX, &rows, &[]), "one part more would overflow");
    }
}
