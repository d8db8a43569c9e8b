//! Blocks of words in a few sizes, packed: freeing one moves the last of its size into the hole.
//!
//! The first word of a block is the number of its owner, who is told when it moves. Knows nothing else
//! of what the words mean. Where a block lies is not part of the state.

/// No block.
pub(crate) const NONE: u32 = u32::MAX;
/// Word of a block that names its owner.
pub(crate) const OWNER: usize = 0;
/// Sizes are multiples of so many words.
const STEP: usize = 4;
/// Words of the largest block.
pub(crate) const MOST_WORDS: usize = CLASSES * STEP;
const CLASSES: usize = 60;
const SLOT_BITS: u32 = 26;
/// Words of a page, at most: large enough that a list of pages is short, small enough that a few users
/// do not take megabytes.
const PAGE_WORDS: usize = 4_096;

/// All blocks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slabs {
    classes: Vec<Class>,
    /// Words of all pages.
    words: usize,
}

#[derive(Debug, Clone)]
struct Class {
    pages: Vec<Box<[u32]>>,
    used: usize,
    words: usize,
    /// A page holds 2^shift blocks.
    shift: u32,
}

/// A block that has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) owner: u32,
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// The words that a block for so many has.
pub(crate) fn rounded(words: usize) -> usize {
    words.next_multiple_of(STEP)
}

impl Slabs {
    /// A block of at least so many words, all 0. No more than 2^26 of one size.
    pub(crate) fn alloc(&mut self, words: usize) -> u32 {
        let class = words.div_ceil(STEP).max(1) - 1;
        assert!(class < CLASSES, "a block of {words} words: {MOST_WORDS} are the most");
        for class in self.classes.len()..=class {
            self.classes.push(Class::new((class + 1) * STEP));
        }
        let blocks = &mut self.classes[class];
        let before = blocks.page_words();
        let slot = blocks.push();
        self.words += blocks.page_words() - before;
        assert!(slot < 1 << SLOT_BITS, "a partition's users fill 2^26 blocks of one size");
        (class as u32) << SLOT_BITS | slot as u32
    }

    /// Gives a block back; the block that has moved into its place, if any.
    pub(crate) fn free(&mut self, handle: u32) -> Option<Moved> {
        let (class, slot) = split(handle);
        let blocks = &mut self.classes[class];
        let last = blocks.used - 1;
        if slot != last {
            let (from, to, words) = (blocks.place(last), blocks.place(slot), blocks.words);
            if from.0 == to.0 {
                blocks.pages[from.0].copy_within(from.1..from.1 + words, to.1);
            } else {
                // The last block lies in the last page.
                let (before, behind) = blocks.pages.split_at_mut(from.0);
                before[to.0][to.1..][..words].copy_from_slice(&behind[0][from.1..][..words]);
            }
        }
        let before = blocks.page_words();
        blocks.pop();
        self.words -= before - blocks.page_words();
        let moved = || Moved {
            owner: self.get(handle)[OWNER],
            from: (class as u32) << SLOT_BITS | last as u32,
            to: handle,
        };
        (slot != last).then(moved)
    }

    pub(crate) fn get(&self, handle: u32) -> &[u32] {
        let (class, slot) = split(handle);
        let blocks = &self.classes[class];
        let (page, at) = blocks.place(slot);
        &blocks.pages[page][at..at + blocks.words]
    }

    /// One block to be read, and one of another size to be written.
    pub(crate) fn get_both(&mut self, read: u32, write: u32) -> Option<(&[u32], &mut [u32])> {
        let ((class, slot), (other_class, other)) = (split(read), split(write));
        let [read, write] = self.classes.get_disjoint_mut([class, other_class]).ok()?;
        let ((page, at), (other_page, other_at)) = (read.place(slot), write.place(other));
        Some((
            &read.pages[page][at..at + read.words],
            &mut write.pages[other_page][other_at..other_at + write.words],
        ))
    }

    pub(crate) fn get_mut(&mut self, handle: u32) -> &mut [u32] {
        let (class, slot) = split(handle);
        let blocks = &mut self.classes[class];
        let (page, at) = blocks.place(slot);
        &mut blocks.pages[page][at..at + blocks.words]
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let lists = self.classes.iter().map(|class| class.pages.capacity() * size_of::<Box<[u32]>>());
        self.words * size_of::<u32>() + lists.sum::<usize>()
    }
}

fn split(handle: u32) -> (usize, usize) {
    ((handle >> SLOT_BITS) as usize, (handle & ((1 << SLOT_BITS) - 1)) as usize)
}

impl Class {
    fn new(words: usize) -> Self {
        Self { pages: Vec::new(), used: 0, words, shift: (PAGE_WORDS / words).ilog2() }
    }

    fn page_words(&self) -> usize {
        self.pages.len() * (self.words << self.shift)
    }

    /// Page and first word of a slot.
    fn place(&self, slot: usize) -> (usize, usize) {
        (slot >> self.shift, (slot & ((1 << self.shift) - 1)) * self.words)
    }

    fn push(&mut self) -> usize {
        let slot = self.used;
        let (page, at) = self.place(slot);
        if page == self.pages.len() {
            self.pages.push(vec![0; self.words << self.shift].into());
        } else {
            self.pages[page][at..at + self.words].fill(0);
        }
        self.used += 1;
        slot
    }

    fn pop(&mut self) {
        self.used -= 1;
        // One empty page stays, so that one block that comes and goes does not make and drop a page.
        if self.pages.len() > (self.used >> self.shift) + 2 {
            self.pages.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_stay_packed_and_their_owners_hear_of_moves() {
        let mut slabs = Slabs::default();
        let mut handles = Vec::new();
        for owner in 0..50_000_u32 {
            let handle = slabs.alloc(4 + owner as usize % 30);
            let words = slabs.get_mut(handle);
            words.fill(owner);
            handles.push(handle);
        }
        let full = slabs.bytes();
        for owner in (0..50_000).filter(|owner| owner % 50 > 0) {
            if let Some(moved) = slabs.free(handles[owner]) {
                assert_eq!(handles[moved.owner as usize], moved.from);
                handles[moved.owner as usize] = moved.to;
            }
            handles[owner] = NONE;
        }
        for owner in (0..50_000_u32).step_by(50) {
            assert!(slabs.get(handles[owner as usize]).iter().all(|word| *word == owner), "{owner}");
        }
        assert!(slabs.bytes() < full / 8, "{} of {full} bytes left", slabs.bytes());
        let fresh = slabs.alloc(8);
        assert!(slabs.get(fresh).iter().all(|word| *word == 0));
    }
}
