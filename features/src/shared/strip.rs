//! The tiles of one key, oldest first, in one strip of bytes: a key has few events, most tiles hold
//! one or two numbers, and there are many keys.
//!
//! A tile is its start in tiles of the narrowest width as a varint, zigzagged; its sums as
//! [`EntitySums::write`] writes them; and its own length in a byte, to go back by.

use schemas::entity::EntitySums;

/// One tile of a strip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    /// Its start, in tiles of the narrowest width.
    pub(crate) start: i64,
    pub(crate) sums: EntitySums,
    /// Its bytes.
    pub(crate) len: usize,
}

/// Appends a tile; `sums` as they are written.
pub(crate) fn push(strip: &mut Vec<u8>, start: i64, sums: &[u8]) {
    let before = strip.len();
    push_start(strip, start);
    strip.extend_from_slice(sums);
    strip.push((strip.len() - before + 1) as u8);
}

fn push_start(strip: &mut Vec<u8>, start: i64) {
    crate::wire::varint(((start << 1) ^ (start >> 63)) as u64, strip);
}

/// The start of the tile at an offset, in tiles of the narrowest width, and the offset of its sums;
/// `None` for bytes that are none, and at the end.
#[inline]
pub(crate) fn start(strip: &[u8], at: usize) -> Option<(i64, usize)> {
    let mut start = 0_u64;
    for (byte, shift) in strip.get(at..)?.iter().zip((0..64).step_by(7)) {
        start |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            let start = (start >> 1) as i64 ^ -((start & 1) as i64);
            return Some((start, at + shift as usize / 7 + 1));
        }
    }
    None
}

/// Gives the numbers of a tile one by one, as [`EntitySums::each`] does; `sums` is where they begin.
/// The offset behind the tile.
#[inline]
pub(crate) fn each(strip: &[u8], sums: usize, take: impl FnMut(usize, u64)) -> Option<usize> {
    let mut rest = strip.get(sums..)?;
    EntitySums::each(&mut rest, take)?;
    (!rest.is_empty()).then(|| strip.len() - rest.len() + 1)
}

/// The tile at an offset; `None` for bytes that are none, and at the end.
pub(crate) fn tile(strip: &[u8], at: usize) -> Option<Tile> {
    let (start, sums_at) = start(strip, at)?;
    let mut rest = strip.get(sums_at..)?;
    let sums = EntitySums::read(&mut rest)?;
    let len = strip.len() - rest.len() + 1 - at;
    (usize::from(*rest.first()?) == len).then_some(Tile { start, sums, len })
}

/// Where the tile begins that ends at this offset; `None` at the beginning.
pub(crate) fn before(strip: &[u8], at: usize) -> Option<usize> {
    at.checked_sub(strip[..at].last().copied()? as usize)
}

/// Makes the tile from `at` to `end` a part of the one that begins at `wide`, in tiles of the narrowest:
/// adds it to its predecessor, where that is it and lies not before `from`. The offset behind it.
/// `scratch` is anything.
pub(crate) fn widen(
    strip: &mut Vec<u8>,
    at: usize,
    end: usize,
    from: usize,
    wide: i64,
    scratch: &mut Vec<u8>,
) -> usize {
    let Some((narrow, sums_at)) = start(strip, at) else { return end };
    let before = before(strip, at).filter(|before| *before >= from);
    let before = before.filter(|before| self::start(strip, *before).is_some_and(|(start, _)| start == wide));
    let begin = before.unwrap_or(at);
    scratch.clear();
    if let Some(before) = before {
        let mut sums = EntitySums::default();
        for sums_at in [start(strip, before).map_or(at, |(_, sums_at)| sums_at), sums_at] {
            each(strip, sums_at, |number, more| sums.add(number, more));
        }
        push_sums(scratch, wide, &sums);
    } else if wide == narrow {
        return end;
    } else {
        push_start(scratch, wide);
        if scratch.len() == sums_at - at {
            // Nearly always: the tile stays where it is.
            strip[at..sums_at].copy_from_slice(scratch);
            return end;
        }
        scratch.clear();
        push(scratch, wide, &strip[sums_at..end - 1]);
    }
    replace(strip, begin, end, scratch);
    begin + scratch.len()
}

/// Appends a tile of these sums.
pub(crate) fn push_sums(strip: &mut Vec<u8>, start: i64, sums: &EntitySums) {
    let before = strip.len();
    push_start(strip, start);
    sums.write(strip);
    strip.push((strip.len() - before + 1) as u8);
}

fn replace(strip: &mut Vec<u8>, begin: usize, end: usize, with: &[u8]) {
    let (old_len, behind) = (strip.len(), begin + with.len());
    if behind > end {
        strip.resize(old_len + behind - end, 0);
    }
    strip.copy_within(end..old_len, behind);
    strip.truncate(old_len + behind - end);
    strip[begin..behind].copy_from_slice(with);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(views: u64, value: i64) -> EntitySums {
        EntitySums { counts: [views, 0, 0, 0, 0], values: [0, 0, value] }
    }

    fn tiles(strip: &[u8]) -> Vec<(i64, EntitySums)> {
        let mut at = 0;
        std::iter::from_fn(|| {
            let tile = tile(strip, at)?;
            at += tile.len;
            Some((tile.start, tile.sums))
        })
        .collect()
    }

    #[test]
    fn tiles_are_walked_both_ways_and_widened_in_place() {
        let mut strip = Vec::new();
        let all = [(-7, sums(1, -5)), (29_000_001, sums(127, 0)), (29_000_002, sums(1, i64::MIN))];
        for (start, sums) in &all {
            push_sums(&mut strip, *start, sums);
        }
        push_sums(&mut strip, i64::MAX, &sums(u64::MAX, 1));
        assert_eq!(tiles(&strip)[..3], all);
        let last = before(&strip, strip.len()).unwrap_or_default();
        assert_eq!(tile(&strip, last).map(|tile| tile.start), Some(i64::MAX));
        assert_eq!((before(&strip, 0), tile(&strip, strip.len())), (None, None));
        // The first becomes -10's, the two of 29,000,000 one of 128 views: longer, then shorter.
        let mut at = 0;
        for _ in 0..3 {
            let Some(narrow) = tile(&strip, at) else { panic!("no tile at {at}") };
            let wide = narrow.start.div_euclid(10) * 10;
            at = widen(&mut strip, at, at + narrow.len, 0, wide, &mut Vec::new());
        }
        let want = [(-10, sums(1, -5)), (29_000_000, sums(128, i64::MIN)), (i64::MAX, sums(u64::MAX, 1))];
        assert_eq!(tiles(&strip), want);
        for end in 0..strip.len() {
            assert!(tile(&strip[..end], last).is_none() || end == strip.len());
        }
    }
}
