//! What is known of the few open views that something came of. Knows no view: views name outcomes.

use crate::history::NEVER;
use crate::uses::Uses;
use crate::wire::{Reader, SnapshotError, Writer};

/// More labels than this are written of no view.
const MOST_AGAIN: usize = 1 << 31;

/// What was bought after a view.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Bought {
    /// Times of purchases credited before the click was decided.
    pub(crate) undecided_ms: Vec<i64>,
    pub(crate) after_click: bool,
    pub(crate) after_view: bool,
    pub(crate) first_ms: i64,
    /// Time and offset of the last.
    pub(crate) last: (i64, i64),
    pub(crate) value: f64,
    pub(crate) refunded: f64,
    pub(crate) currency: u32,
}

/// What came of a view.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// Time of the first click; [`NEVER`] where none.
    pub(crate) click_ms: i64,
    /// Labels written after the first.
    pub(crate) again: u32,
    pub(crate) bought: Option<Box<Bought>>,
}

impl Default for Outcome {
    fn default() -> Self {
        Self { click_ms: NEVER, again: 0, bought: None }
    }
}

/// Outcomes by number; 0 is none. Numbers are not part of the state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcomes {
    all: Vec<Outcome>,
    free: Vec<u32>,
}

impl Outcomes {
    pub(crate) fn get(&self, number: u32) -> Option<&Outcome> {
        self.all.get((number as usize).checked_sub(1)?)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Outcome> {
        self.all.get_mut((number as usize).checked_sub(1)?)
    }

    /// The number, or that of a new outcome.
    pub(crate) fn get_or_new(&mut self, number: u32) -> u32 {
        if number > 0 { number } else { self.push(Outcome::default()) }
    }

    pub(crate) fn push(&mut self, outcome: Outcome) -> u32 {
        if let Some(number) = self.free.pop() {
            self.all[number as usize - 1] = outcome;
            return number;
        }
        self.all.push(outcome);
        self.all.len() as u32
    }

    /// Frees a number; what was bought, if anything.
    pub(crate) fn remove(&mut self, number: u32) -> Option<Box<Bought>> {
        let outcome = std::mem::take(self.get_mut(number)?);
        self.free.push(number);
        outcome.bought
    }

    pub(crate) fn bytes(&self) -> usize {
        let bought = self.all.iter().filter(|outcome| outcome.bought.is_some()).count();
        self.all.capacity() * size_of::<Outcome>() + self.free.capacity() * 4 + bought * size_of::<Bought>()
    }
}

impl Outcome {
    pub(crate) fn write(&self, out: &mut Writer) {
        out.int(self.click_ms);
        out.uint(u64::from(self.again));
        out.bool(self.bought.is_some());
        let Some(bought) = &self.bought else { return };
        out.len(bought.undecided_ms.len());
        for time_ms in &bought.undecided_ms {
            out.int(*time_ms);
        }
        out.bool(bought.after_click);
        out.bool(bought.after_view);
        out.int(bought.first_ms);
        out.int(bought.last.0);
        out.int(bought.last.1);
        out.f64(bought.value);
        out.f64(bought.refunded);
        out.uint(u64::from(bought.currency));
    }

    pub(crate) fn read_from(input: &mut Reader<'_>, texts: &mut Uses) -> Result<Self, SnapshotError> {
        let (click_ms, again) = (input.time_or_never()?, input.id_below(MOST_AGAIN)?);
        if !input.bool()? {
            return Ok(Self { click_ms, again, bought: None });
        }
        let mut undecided_ms = Vec::new();
        for _ in 0..input.len()? {
            undecided_ms.push(input.time()?);
        }
        let bought = Bought {
            undecided_ms,
            after_click: input.bool()?,
            after_view: input.bool()?,
            first_ms: input.time()?,
            last: (input.time()?, input.int()?),
            value: input.f64()?,
            refunded: input.f64()?,
            currency: input.used(texts)?,
        };
        Ok(Self { click_ms, again, bought: Some(Box::new(bought)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_times_that_would_overflow_are_refused() {
        let read = |outcome: Outcome| {
            let mut out = Writer(Vec::new());
            outcome.write(&mut out);
            Outcome::read_from(&mut Reader::new(&out.0), &mut Uses::none_of(1)).ok()
        };
        let good = Outcome { click_ms: 7, again: 3, bought: Some(Box::default()) };
        assert_eq!(read(good.clone()), Some(good.clone()));
        assert_eq!(read(Outcome { again: u32::MAX, ..good.clone() }), None);
        assert_eq!(read(Outcome { click_ms: i64::MAX, ..good.clone() }), None);
        let unknown = Bought { currency: 1, ..Bought::default() };
        assert_eq!(read(Outcome { bought: Some(Box::new(unknown)), ..good }), None);
    }
}
