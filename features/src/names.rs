//! Users' names as small numbers. What ingest makes of a name, a key's id and 128 bits in hex, takes 20
//! bytes; any other name is kept as it is.
//!
//! Numbers are handed out in a fixed order (last freed first), so they are part of the fold; the hash
//! table is not, and is rebuilt from the names.

use crate::ahead::ask_for;
use crate::interner::EMPTY;
use crate::table::Table;
use crate::text::are_same;
use crate::users::grow;
use crate::wire::{Reader, SnapshotError, Writer, are_all_free};

/// Hex digits at the end of a name that is packed.
const DIGITS: usize = 32;
/// Beginnings of packed names, at most: keys are few.
const MOST_PREFIXES: usize = 64;
/// In the place of a prefix: a name of another form, whose number follows; and no name.
const OTHER: u32 = u32::MAX;
const FREE: u32 = u32::MAX - 1;

/// Number of the prefix and 128 bits, or [`OTHER`] and a place, or [`FREE`].
type Packed = [u32; 5];

/// The names of a partition. The empty one has number 0: always there, never counted.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    slots: Vec<Packed>,
    free: Vec<u32>,
    prefixes: Vec<Box<str>>,
    others: Vec<Box<str>>,
    free_others: Vec<u32>,
    table: Table,
}

/// A name to be looked for.
#[derive(Clone, Copy)]
enum Key<'a> {
    Packed(Packed),
    Other(&'a str),
}

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![[OTHER, 0, 0, 0, 0]],
            free: Vec::new(),
            prefixes: Vec::new(),
            others: vec![Box::default()],
            free_others: Vec::new(),
            table: Table::with_room(0),
        }
    }

    /// How many names there are, the empty one left out.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        let texts: usize = self.others.iter().chain(&self.prefixes).map(|text| text.len()).sum();
        texts
            + self.slots.capacity() * size_of::<Packed>()
            + self.others.capacity() * size_of::<Box<str>>()
            + (self.free.capacity() + self.free_others.capacity()) * size_of::<u32>()
            + self.table.bytes()
    }

    /// Appends a name.
    pub(crate) fn push_to(&self, number: u32, out: &mut String) {
        match self.slots[number as usize] {
            [FREE, ..] => {}
            [OTHER, at, ..] => out.push_str(&self.others[at as usize]),
            [prefix, bits @ ..] => {
                out.push_str(&self.prefixes[prefix as usize]);
                let digits = bits.map(hex);
                // Digits are ASCII, and that is UTF-8.
                out.push_str(str::from_utf8(digits.as_flattened()).unwrap_or_default());
            }
        }
    }

    /// Whether a number has a name.
    pub(crate) fn is_used(&self, number: u32) -> bool {
        self.slots[number as usize][0] != FREE
    }

    /// The name's number, if it has one.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        if name.is_empty() {
            return Some(EMPTY);
        }
        let key = self.key(name);
        self.table.find(hash(key), |number| self.is_it(number, key))
    }

    /// As [`Self::find`], where the number is perhaps this one.
    pub(crate) fn find_like(&self, perhaps: u32, name: &str) -> Option<u32> {
        if perhaps != EMPTY && self.is_named(perhaps, name) { Some(perhaps) } else { self.find(name) }
    }

    /// Whether a number is that of this name. To write digits is less than to read them.
    fn is_named(&self, number: u32, name: &str) -> bool {
        match self.slots[number as usize] {
            [FREE, ..] => false,
            [OTHER, at, ..] => are_same(self.others[at as usize].as_bytes(), name.as_bytes()),
            [prefix, bits @ ..] => {
                let prefix = self.prefixes[prefix as usize].as_bytes();
                name.as_bytes().split_last_chunk::<DIGITS>().is_some_and(|(begin, digits)| {
                    are_same(begin, prefix) && are_same(bits.map(hex).as_flattened(), digits)
                })
            }
        }
    }

    /// The numbers of these names as far as their hashes tell; 0 where there is none. All
    /// that [`Self::find`] will read is in the cache, or on its way to it.
    pub(crate) fn look_ahead<const N: usize>(&self, names: [&str; N]) -> [u32; N] {
        // Step by step for all of them: what one step reads does not depend on the others' reads, so
        // that they wait for memory together.
        let numbers = names.map(|name| self.table.first(hash(self.key(name))));
        self.look_at(numbers);
        numbers
    }

    /// Reads these names.
    pub(crate) fn look_at<const N: usize>(&self, numbers: [u32; N]) {
        for number in numbers {
            ask_for(&self.slots[number as usize]);
        }
    }

    /// The number that the next new name gets.
    pub(crate) fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.slots.len() as u32)
    }

    /// The number of a name that has none yet.
    pub(crate) fn add(&mut self, name: &str) -> u32 {
        debug_assert!(self.find(name).is_none(), "a name has one number");
        if let Some((prefix, _)) = pack(name)
            && self.prefixes.len() < MOST_PREFIXES
            && !self.prefixes.iter().any(|known| **known == *prefix)
        {
            self.prefixes.push(prefix.into());
        }
        let key = self.key(name);
        let slot = match key {
            Key::Packed(packed) => packed,
            Key::Other(name) => {
                let at = self.free_others.pop().unwrap_or_else(|| {
                    self.others.push(Box::default());
                    self.others.len() as u32 - 1
                });
                self.others[at as usize] = name.into();
                [OTHER, at, 0, 0, 0]
            }
        };
        let number = if let Some(number) = self.free.pop() {
            self.slots[number as usize] = slot;
            number
        } else {
            grow(&mut self.slots);
            self.slots.push(slot);
            self.slots.len() as u32 - 1
        };
        self.table.insert(hash(key), number);
        number
    }

    /// Takes a name out; its number is free.
    pub(crate) fn remove(&mut self, number: u32) {
        if number == EMPTY || !self.is_used(number) {
            return;
        }
        let slot = self.slots[number as usize];
        let key = match slot {
            [OTHER, at, ..] => Key::Other(&self.others[at as usize]),
            _ => Key::Packed(slot),
        };
        self.table.remove(hash(key), number);
        if let [OTHER, at, ..] = slot {
            self.others[at as usize] = Box::default();
            self.free_others.push(at);
        }
        self.slots[number as usize] = [FREE, 0, 0, 0, 0];
        self.free.push(number);
    }

    fn key<'a>(&self, name: &'a str) -> Key<'a> {
        let packed = pack(name).and_then(|(prefix, [a, b, c, d])| {
            let at = self.prefixes.iter().position(|known| **known == *prefix)?;
            Some(Key::Packed([at as u32, a, b, c, d]))
        });
        packed.unwrap_or(Key::Other(name))
    }

    fn is_it(&self, number: u32, key: Key<'_>) -> bool {
        let slot = self.slots[number as usize];
        match key {
            Key::Packed(packed) => slot == packed,
            Key::Other(name) => slot[0] == OTHER && *self.others[slot[1] as usize] == *name,
        }
    }

    /// Writes what is of no one name.
    pub(crate) fn write_head(&self, out: &mut Writer) {
        out.len(self.prefixes.len());
        self.prefixes.iter().for_each(|prefix| out.text(prefix));
        out.len(self.slots.len());
        out.ids(&self.free);
    }

    /// Writes a number's name.
    pub(crate) fn write_name(&self, number: u32, out: &mut Writer) {
        match self.slots[number as usize] {
            [FREE, ..] => out.len(0),
            [OTHER, at, ..] => {
                out.len(1);
                out.text(&self.others[at as usize]);
            }
            [prefix, bits @ ..] => {
                out.len(prefix as usize + 2);
                for bits in bits {
                    out.u32(bits);
                }
            }
        }
    }

    /// Names without any name yet, how many numbers there are, and which of them are free, from what
    /// [`Self::write_head`] wrote.
    pub(crate) fn read_head(head: &mut Reader<'_>) -> Result<(Self, usize), SnapshotError> {
        let mut names = Self::new();
        for _ in 0..head.len()? {
            names.prefixes.push(head.text()?.into());
        }
        if names.prefixes.len() > MOST_PREFIXES {
            return Err(head.damaged());
        }
        let count = head.uint()? as usize;
        names.free = head.ids_below(count)?;
        names.slots.clear();
        names.others.clear();
        Ok((names, count))
    }

    /// Reads the name of the next number.
    pub(crate) fn read_name(&mut self, input: &mut Reader<'_>) -> Result<(), SnapshotError> {
        let slot = match input.uint()? as usize {
            0 => [FREE, 0, 0, 0, 0],
            1 => {
                self.others.push(input.text()?.into());
                [OTHER, self.others.len() as u32 - 1, 0, 0, 0]
            }
            prefix if prefix - 2 < self.prefixes.len() => {
                [prefix as u32 - 2, input.u32()?, input.u32()?, input.u32()?, input.u32()?]
            }
            _ => return Err(input.damaged()),
        };
        let number = self.slots.len() as u32;
        grow(&mut self.slots);
        self.slots.push(slot);
        let key = match slot {
            [FREE, ..] => return Ok(()),
            [OTHER, at, ..] => Key::Other(&self.others[at as usize]),
            _ => Key::Packed(slot),
        };
        if number != EMPTY {
            self.table.insert(hash(key), number);
        }
        Ok(())
    }

    /// Whether the first name is the empty one, and the free numbers are those without a name.
    pub(crate) fn is_sound(&self) -> bool {
        self.slots.first().is_some_and(|first| first[0] == OTHER)
            && are_all_free(&self.free, self.slots.len(), |number| !self.is_used(number))
    }
}

/// Parts a name into its beginning and the 128 bits that its last digits are; none for another form.
fn pack(name: &str) -> Option<(&str, [u32; 4])> {
    let at = name.len().checked_sub(DIGITS)?;
    let (prefix, digits) = (name.get(..at)?, name.as_bytes()[at..].as_chunks::<8>().0);
    let [a, b, c, d] = digits else { return None };
    Some((prefix, [bits(*a)?, bits(*b)?, bits(*c)?, bits(*d)?]))
}

/// What eight digits of lower-case hex stand for.
fn bits(digits: [u8; 8]) -> Option<u32> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let text = u64::from_be_bytes(digits);
    // A digit's low four bits are its value, a letter's are 9 less than its.
    let nibbles = (text & (0x0f * EACH)) + (text >> 6 & EACH) * 9;
    if nibbles & (0xf0 * EACH) > 0 || u64::from_be_bytes(hex_of(nibbles)) != text {
        return None;
    }
    let pairs = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    Some((fours | fours >> 16) as u32)
}

/// The eight digits of a number.
fn hex(bits: u32) -> [u8; 8] {
    let fours = u64::from(bits);
    let pairs = (fours | fours << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    hex_of((bytes | bytes << 4) & 0x0f0f_0f0f_0f0f_0f0f)
}

/// The digits of eight values below 16, one in each byte.
fn hex_of(nibbles: u64) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let letters = (nibbles + 6 * EACH) >> 4 & EACH;
    (nibbles + u64::from(b'0') * EACH + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

fn hash(key: Key<'_>) -> u32 {
    match key {
        Key::Packed([prefix, a, b, c, d]) => {
            let fold = |x: u64, y: u64| {
                let wide = u128::from(x) * u128::from(y);
                wide as u64 ^ (wide >> 64) as u64
            };
            let (high, low) = (u64::from(a) << 32 | u64::from(b), u64::from(c) << 32 | u64::from(d));
            let seed = 0x9e37_79b9_7f4a_7c15 ^ u64::from(prefix);
            fold(fold(high ^ seed, 0xa076_1d64_78bd_642f) ^ low, 0xe703_7ed1_a0b4_28db) as u32
        }
        Key::Other(name) => xxhash_rust::xxh3::xxh3_64(name.as_bytes()) as u32,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(names: &Names, number: u32) -> String {
        let mut text = String::new();
        names.push_to(number, &mut text);
        text
    }

    #[test]
    fn names_of_any_form_come_back() {
        let mut all: Vec<String> = vec!["k".into(), "0".repeat(31), "é".repeat(40), format!("{:032X}", 171)];
        for n in 0..200_u128 {
            all.push(format!(
                "k{}-{:032x}",
                n % 3,
                n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
            ));
            all.push(format!("p{n}{n:032x}"));
            all.push(format!("name-{n}"));
        }
        all.push(format!("{:032x}", 5));
        all.push(format!("k1-{}g", "a".repeat(31)));
        let mut names = Names::new();
        let numbers: Vec<u32> = all.iter().map(|name| names.add(name)).collect();
        assert!(names.prefixes.len() == MOST_PREFIXES, "{}", names.prefixes.len());
        for (name, number) in all.iter().zip(&numbers) {
            assert_eq!((names.find(name), &text(&names, *number)), (Some(*number), name));
        }
        numbers.iter().step_by(2).for_each(|number| names.remove(*number));
        let mut out = Writer(Vec::new());
        names.write_head(&mut out);
        (0..names.slots.len() as u32).for_each(|number| names.write_name(number, &mut out));
        let mut input = Reader::new(&out.0);
        let (mut back, count) = Names::read_head(&mut input).unwrap_or_else(|error| panic!("{error}"));
        (0..count).for_each(|_| back.read_name(&mut input).unwrap_or_else(|error| panic!("{error}")));
        assert!(back.is_sound() && input.at_end());
        for (at, (name, number)) in all.iter().zip(&numbers).enumerate() {
            let want = (at % 2 == 1).then_some(*number);
            assert_eq!((names.find(name), back.find(name)), (want, want), "{name}");
        }
        assert_eq!(names.len(), back.len());
        assert_eq!(names.add("new"), back.add("new"), "last freed first");
        assert_eq!(names.find(""), Some(EMPTY));
    }

    proptest! {
        #[test]
        fn digits_are_read_as_they_are_written(number in any::<u32>(), digits in any::<[u8; 8]>()) {
            let written = format!("{number:08x}");
            prop_assert_eq!(hex(number), written.as_bytes());
            prop_assert_eq!(bits(hex(number)), Some(number));
            let is_hex = digits.iter().all(|d| d.is_ascii_digit() || (b'a'..=b'f').contains(d));
            prop_assert_eq!(bits(digits).is_some(), is_hex);
        }
    }
}
