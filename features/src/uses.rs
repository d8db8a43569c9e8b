//! How often what a snapshot holds names each text and each subject.
//!
//! Both are counted by use, and a snapshot says how often. Where what it holds does not agree, a number that
//! is in use would be handed out again, or released once more than it was used.

use crate::interner::Interner;
use crate::subjects::Subjects;

/// Uses by number.
#[derive(Debug)]
pub(crate) struct Uses {
    /// How many numbers there are.
    slots: usize,
    /// Of each; empty where none is counted.
    counts: Vec<u32>,
}

impl Uses {
    /// Of so many numbers, none used.
    pub(crate) fn none_of(slots: usize) -> Self {
        Self { slots, counts: vec![0; slots] }
    }

    /// Of so many numbers, not to be counted.
    fn uncounted(slots: usize) -> Self {
        Self { slots, counts: Vec::new() }
    }

    /// One use more; `None` for a number that there is not.
    pub(crate) fn count(&mut self, number: u32) -> Option<()> {
        if let Some(uses) = self.counts.get_mut(number as usize) {
            *uses = uses.checked_add(1)?;
        }
        ((number as usize) < self.slots).then_some(())
    }

    /// Whether these are the uses. Those of number 0, of nothing, are not counted.
    pub(crate) fn are(&self, said: impl Iterator<Item = u32>) -> bool {
        self.counts.iter().copied().skip(1).eq(said.skip(1))
    }
}

/// Uses of texts and of subjects.
#[derive(Debug)]
pub(crate) struct Used {
    pub(crate) texts: Uses,
    pub(crate) subjects: Uses,
}

impl Used {
    /// Of what has been counted before: only that there are such numbers is looked at.
    pub(crate) fn uncounted(texts: &Interner, subjects: &Subjects) -> Self {
        Self { texts: Uses::uncounted(texts.slots()), subjects: Uses::uncounted(subjects.slots()) }
    }

    /// Whether texts and subjects have been used as often as they say.
    pub(crate) fn agrees(&self, texts: &Interner, subjects: &Subjects) -> bool {
        self.texts.are(texts.uses()) && self.subjects.are(subjects.uses())
    }
}
