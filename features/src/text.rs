//! A text that is held, and how texts are hashed to find them again.
//!
//! Ids are short: a text of up to 22 bytes lies in place, so that to compare it is no further look into
//! memory.

/// Bytes that fit in place.
const SHORT: usize = 22;

/// A text in 24 bytes, and behind a pointer where it is longer.
#[derive(Debug, Clone)]
pub(crate) enum Text {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<str>),
}

const _: () = assert!(size_of::<Text>() == 24);

impl Default for Text {
    /// The empty one.
    fn default() -> Self {
        Self::Short { len: 0, bytes: [0; SHORT] }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..text.len()) {
            Some(room) => {
                room.copy_from_slice(text.as_bytes());
                Self::Short { len: text.len() as u8, bytes }
            }
            None => Self::Long(text.into()),
        }
    }
}

impl Text {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(text) => text.as_bytes(),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            // They were a text's.
            Self::Short { .. } => str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Self::Long(text) => text,
        }
    }

    /// Whether it is this one.
    #[inline]
    pub(crate) fn is(&self, text: &str) -> bool {
        are_same(self.as_bytes(), text.as_bytes())
    }

    /// Bytes held beside its own.
    pub(crate) fn more_bytes(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long(text) => text.len(),
        }
    }
}

/// Whether these are the same bytes. Ids are so short that a call costs more than to compare them.
#[inline]
pub(crate) fn are_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // The last eight, or four, may be some of the others once more.
    if let (Some(last), Some(other)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        return last == other && a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0).all(|(a, b)| a == b);
    }
    if let (Some(last), Some(other)) = (a.last_chunk::<4>(), b.last_chunk::<4>()) {
        return last == other && a.first_chunk::<4>() == b.first_chunk::<4>();
    }
    a.iter().zip(b).all(|(a, b)| a == b)
}

/// Mixes a text into a hash. For tables in memory alone: no state and no output depends on it.
#[inline]
pub(crate) fn mix(hash: u64, text: &str) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |a: u64, b: u64| {
        let wide = u128::from(a) * u128::from(b);
        wide as u64 ^ (wide >> 64) as u64
    };
    let bytes = text.as_bytes();
    // The length is in it, too: of a text and its beginning each has its own.
    let mut hash = hash ^ (bytes.len() as u64).wrapping_mul(0xa076_1d64_78bd_642f);
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        hash = fold(hash ^ u64::from_le_bytes(*eight), MULTIPLIER);
    }
    let last = match (bytes.last_chunk::<8>(), bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        _ if rest.is_empty() => 0,
        (Some(last), ..) => u64::from_le_bytes(*last),
        (None, Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
        }
        _ => rest.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)),
    };
    fold(hash ^ last, 0xe703_7ed1_a0b4_28db)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn texts_of_any_length_come_back() {
        for len in 0..60 {
            let text = "aé漢".chars().cycle().take(len).collect::<String>();
            let held = Text::from(text.as_str());
            assert_eq!((held.as_str(), held.as_bytes()), (text.as_str(), text.as_bytes()));
            assert_eq!(held.more_bytes() > 0, text.len() > SHORT);
            assert!(held.is(&text));
            for at in 0..text.len() {
                let mut other = text.clone().into_bytes();
                other[at] ^= 1;
                assert!(!are_same(held.as_bytes(), &other) && !are_same(&text.as_bytes()[..at], &other));
            }
        }
        assert_eq!(Text::default().as_str(), "");
    }

    #[test]
    fn texts_that_are_nearly_alike_have_other_hashes() {
        let mut all: Vec<String> = (0..20_000).map(|n| format!("item-{n}")).collect();
        all.extend((0..40).map(|len| "x".repeat(len)));
        all.extend((0..40).map(|len| "\0".repeat(len)));
        all.extend((1..20).flat_map(|len| {
            (0..len).map(move |at| format!("{len}{}b{}", "a".repeat(at), "a".repeat(len - at)))
        }));
        let count = all.iter().collect::<HashSet<_>>().len();
        assert_eq!(all.iter().map(|text| mix(0, text)).collect::<HashSet<_>>().len(), count);
        // In the low bits and in the high ones.
        for shift in [0, 32] {
            let buckets = all.iter().map(|text| (mix(0, text) >> shift) as u16).collect::<HashSet<_>>();
            assert!(buckets.len() > 17_000, "{} of 65536 by {} texts", buckets.len(), all.len());
        }
        assert_ne!(mix(mix(0, "ab"), "c"), mix(mix(0, "a"), "bc"));
    }
}
