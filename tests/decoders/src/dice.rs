//! Numbers that look random and are the same in every run, and bytes changed by them.

/// `SplitMix64`.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

/// Numbers at which lengths, counts and times break.
const ODD: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

impl Dice {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends: no iterator is meant")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// One of them.
    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// `input` with one to four changes, some of them pieces of `other`.
    pub fn changed(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, other);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below((bytes.len() - at).min(32) + 1);
        match self.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.next() as u8,
            2 if at < bytes.len() => {
                bytes[at] = bytes[at].wrapping_add(1).wrapping_sub(2 * self.below(2) as u8);
            }
            3 => drop(bytes.drain(at..end)),
            4 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            5 => {
                let number = varint(*self.of(&ODD));
                bytes.splice(at..end.min(at + 10), number);
            }
            6 => {
                let number = self.of(&ODD).to_le_bytes();
                let len = [1, 2, 4, 8][self.below(4)];
                bytes.splice(at..(at + len).min(bytes.len()), number.into_iter().take(len));
            }
            7 if !other.is_empty() => {
                let from = self.below(other.len());
                let len = self.below((other.len() - from).min(64) + 1);
                bytes.splice(at..end, other[from..from + len].iter().copied());
            }
            _ => bytes.truncate(at),
        }
    }
}

/// A number as Protobuf and snapshots write it.
fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}
