//! How often what a snapshot holds names each text and each subject.
//!
//! Both are counted by use, and a snapshot says how often. Where what it holds does not agree, a number that
//! is in use would be handed out again, or released once more than it was used.

use crate::interner::Interner;
use crate::subjects::Subjects;

/// Uses by number.
#[derive(Debug)]
pub(crate) struct Uses(Vec<u32>);

impl Uses {
    /// Of so many numbers, none used.
    pub(crate) fn none_of(count: usize) -> Self {
        Self(vec![0; count])
    }

    /// One use more; `None` for a number that there is not.
    pub(crate) fn count(&mut self, number: u32) -> Option<()> {
        let uses = self.0.get_mut(number as usize)?;
        *uses = uses.checked_add(1)?;
        Some(())
    }

    /// Whether these are the uses. Those of number 0, of nothing, are not counted.
    pub(crate) fn are(&self, said: impl Iterator<Item = u32>) -> bool {
        self.0.iter().copied().skip(1).eq(said.skip(1))
    }
}

/// Uses of texts and of subjects.
#[derive(Debug)]
pub(crate) struct Used {
    pub(crate) texts: Uses,
    pub(crate) subjects: Uses,
}

impl Used {
    /// Whether texts and subjects have been used as often as they say.
    pub(crate) fn agrees(&self, texts: &Interner, subjects: &Subjects) -> bool {
        self.texts.are(texts.uses()) && self.subjects.are(subjects.uses())
    }
}
