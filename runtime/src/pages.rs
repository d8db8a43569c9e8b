//! Many short byte strings in few allocations.
//!
//! A service handles keys and values by the hundred thousand a second. Where each lies in an allocation of its own, and
//! has another one to be shared, making and dropping them takes a tenth of its time, and they lie scattered.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes of a page. It is used again when all that lay in it is gone.
const PAGE: usize = 64 * 1_024;
/// Longer strings have memory of their own: what is kept would be as long as the longest, and pages end half empty.
const LONG: usize = PAGE / 4;
/// Pages that are kept to be used again: what a busy service has on its way between two commits. Memory that is
/// given back and asked for anew has to be zeroed by the system each time.
const KEPT: usize = 256;

/// Puts byte strings one behind the other. One that is held keeps its page from being used again: whoever holds few of
/// many copies them.
#[derive(Debug, Default)]
pub struct Pages {
    page: BytesMut,
    has_begun: bool,
    /// Full ones, in the order in which they were filled.
    full: VecDeque<BytesMut>,
    scratch: Vec<u8>,
}

impl Pages {
    /// A copy of these bytes that is cheap to share.
    pub fn put(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > LONG {
            return Bytes::copy_from_slice(bytes);
        }
        if bytes.len() > self.page.capacity() {
            self.turn();
        }
        self.page.extend_from_slice(bytes);
        self.page.split().freeze()
    }

    fn turn(&mut self) {
        let full = std::mem::take(&mut self.page);
        // The first one has never been a page, and would never be free.
        if self.has_begun && self.full.len() < KEPT {
            self.full.push_back(full);
        }
        self.has_begun = true;
        // Something in the oldest may be held for long: then it goes behind all, and the next one has its turn.
        for _ in 0..2 {
            let Some(mut oldest) = self.full.pop_front() else { break };
            if oldest.try_reclaim(PAGE) {
                self.page = oldest;
                return;
            }
            self.full.push_back(oldest);
        }
        self.page = BytesMut::with_capacity(PAGE);
    }

    /// What `write` appends to the empty list that it is given.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        write(&mut scratch);
        let written = self.put(&scratch);
        self.scratch = scratch;
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_stays_whatever_comes_after_it() {
        let mut pages = Pages::default();
        let lengths = (0..300).map(|at| at * 7).chain([LONG, LONG + 1, 0, 1, LONG - 1, PAGE, PAGE + 1]);
        let strings: Vec<Vec<u8>> = lengths.map(|length| vec![length as u8; length]).collect();
        let put: Vec<Bytes> = strings.iter().map(|bytes| pages.put(bytes)).collect();
        let written: Vec<Bytes> = strings.iter().map(|bytes| pages.write(|out| out.extend(bytes))).collect();
        assert_eq!(written, strings);
        assert_eq!(put, strings);
    }

    #[test]
    fn a_page_is_used_again_when_nothing_lies_in_it() {
        let mut pages = Pages::default();
        let quarter = vec![7; LONG];
        let for_long = pages.put(&quarter);
        let mut held = VecDeque::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..400 {
            held.push_back(pages.put(&quarter));
            seen.insert(held[held.len() - 1].as_ptr() as usize);
            if held.len() > 12 {
                held.pop_front();
            }
        }
        assert!(seen.len() < 48, "{} places for twelve at a time", seen.len());
        assert!(held.iter().chain([&for_long]).all(|bytes| *bytes == quarter));
    }

    #[test]
    fn a_page_takes_many() {
        let mut pages = Pages::default();
        let first = pages.put(b"first");
        let second = pages.put(b"second");
        assert_eq!(first.as_ptr().wrapping_add(first.len()), second.as_ptr());
    }
}
