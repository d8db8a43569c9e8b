//! Which parts are kept of a user's past, or of what users share, and which numbers are read of them. Follows
//! from declarations.

use crate::plan::{ENTITIES, KindSet, PLAIN, SHARED};
use crate::rates::Rates;

/// A text of an event that can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Item,
    Campaign,
    Category,
    Brand,
    Placement,
    Device,
    Channel,
    /// Told apart only where users share an entity.
    User,
}

impl Of {
    /// How many of them, from the first on, can be kept with a user's event.
    pub(crate) const KEPT: usize = Self::User as usize;

    pub(crate) const ALL: [(&'static str, Self); 8] = [
        ("item", Self::Item),
        ("campaign", Self::Campaign),
        ("category", Self::Category),
        ("brand", Self::Brand),
        ("placement", Self::Placement),
        ("device", Self::Device),
        ("channel", Self::Channel),
        ("user", Self::User),
    ];

    pub(crate) const fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// Per entity of the user: the text that it is told apart by.
const KEYS: [Option<Of>; SHARED] =
    [None, Some(Of::Campaign), Some(Of::Category), Some(Of::Item), Some(Of::Brand), Some(Of::Placement)];

/// What a part is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Counts, sums, extremes.
    Stat,
    /// Counts by age.
    Decayed { half_life_ms: i64 },
    /// Different texts.
    Distinct(Of),
    /// The most frequent texts.
    Top(Of),
    /// Values by size.
    Values,
}

/// A number of a part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reading {
    Count,
    Sum,
    Mean,
    Min,
    Max,
    Variance,
    First,
    Last,
    Gap,
    Age,
    Decayed,
    Distinct,
    Quantile(f64),
    /// Of the most frequent text but so many.
    Share(usize),
    /// Of the view's own text among so many.
    Rank(usize),
}

/// Which numbers of a [`What::Stat`] are read: of what users share, no others go through the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Facets(u8);

impl Facets {
    pub(crate) const TIMES: Self = Self(1);
    pub(crate) const SUM: Self = Self(2);
    pub(crate) const SQUARES: Self = Self(4);
    pub(crate) const EXTREMES: Self = Self(8);
    pub(crate) const FIRST: Self = Self(16);
    pub(crate) const LAST: Self = Self(32);
    /// Any that is of values.
    pub(crate) const VALUES: Self = Self(!Self::TIMES.0);

    /// Those that a number is made of, beside how many events there are.
    pub(crate) fn of(reading: Reading) -> Self {
        match reading {
            Reading::Gap | Reading::Age => Self::TIMES,
            Reading::Sum | Reading::Mean => Self::SUM,
            Reading::Variance => Self(Self::SUM.0 | Self::SQUARES.0),
            Reading::Min | Reading::Max => Self::EXTREMES,
            Reading::First => Self::FIRST,
            Reading::Last => Self::LAST,
            Reading::Count
            | Reading::Decayed
            | Reading::Distinct
            | Reading::Quantile(_)
            | Reading::Share(_)
            | Reading::Rank(_) => Self(0),
        }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any of these is among them.
    pub(crate) fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }
}

/// What is kept of the events of an entity that a set takes. `set` is a kind's place or, behind those, a
/// filter's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) entity: usize,
    pub(crate) set: usize,
    pub(crate) what: What,
}

/// Over which of a cell's events a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Range {
    /// A window of the plan, by place.
    Window(usize),
    /// All that is remembered.
    All,
}

/// A number of a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number {
    pub(crate) cell: usize,
    pub(crate) range: Range,
    pub(crate) reading: Reading,
}

/// Everything that is kept, and all numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Summaries {
    pub(crate) cells: Vec<Cell>,
    pub(crate) numbers: Vec<Number>,
    /// Places of each cell's numbers.
    pub(crate) numbers_of: Vec<Vec<usize>>,
    /// Places of each entity's cells.
    cells_of: [Vec<usize>; ENTITIES.len()],
    /// Of rates: entity and window, and places of the numbers of views and clicks.
    pub(crate) rated: Vec<((usize, usize), [usize; 2])>,
}

impl Summaries {
    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The place of a number among all; it is added if it is a new one.
    pub(crate) fn number(&mut self, cell: Cell, range: Range, reading: Reading) -> usize {
        let at = self.cells.iter().position(|known| *known == cell).unwrap_or_else(|| {
            self.cells_of[cell.entity].push(self.cells.len());
            self.cells.push(cell);
            self.numbers_of.push(Vec::new());
            self.cells.len() - 1
        });
        let number = Number { cell: at, range, reading };
        let known = self.numbers_of[at].iter().find(|known| self.numbers[**known] == number);
        known.copied().unwrap_or_else(|| {
            self.numbers_of[at].push(self.numbers.len());
            self.numbers.push(number);
            self.numbers.len() - 1
        })
    }

    /// Adds what rates need that are not made of counts by kind: those of pairs, and of sessions, which are
    /// behind the other `bounded` windows.
    pub(crate) fn add_rates(&mut self, rates: &Rates, bounded: usize) {
        for (entity, window) in rates.windows() {
            let is_plain = entity >= SHARED || (entity < PLAIN && window < bounded);
            if is_plain || self.rate(entity, window).is_some() {
                continue;
            }
            let at = [KindSet::View, KindSet::Click].map(|kinds| {
                let cell = Cell { entity, set: kinds as usize, what: What::Stat };
                self.number(cell, Range::Window(window), Reading::Count)
            });
            self.rated.push(((entity, window), at));
        }
    }

    /// Entities of which anything is kept.
    pub(crate) fn entities(&self) -> impl Iterator<Item = usize> {
        (0..ENTITIES.len()).filter(|entity| !self.cells_of[*entity].is_empty())
    }

    /// Places of the numbers of views and clicks that a rate over this window is of; none where the counts
    /// by kind are.
    pub(crate) fn rate(&self, entity: usize, window: usize) -> Option<[usize; 2]> {
        self.rated.iter().find(|(of, _)| *of == (entity, window)).map(|(_, at)| *at)
    }

    /// Cells of an entity, in their order.
    pub(crate) fn of(&self, entity: usize) -> impl Iterator<Item = (usize, &Cell)> {
        self.cells_of[entity].iter().map(|at| (*at, &self.cells[*at]))
    }

    /// The text that an entity of the user is told apart by; none for the user.
    pub(crate) fn key(entity: usize) -> Option<Of> {
        KEYS.get(entity).copied().flatten()
    }

    /// Whether any cell or entity reads this text.
    pub(crate) fn reads(&self, of: Of) -> bool {
        self.tells_apart(of) || self.cells.iter().any(|cell| Self::key(cell.entity) == Some(of))
    }

    /// Whether any cell tells these texts apart.
    pub(crate) fn tells_apart(&self, of: Of) -> bool {
        self.cells.iter().any(|cell| matches!(cell.what, What::Distinct(it) | What::Top(it) if it == of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::USER;

    #[test]
    fn entities_of_the_user_are_named_after_what_tells_them_apart() {
        assert_eq!((ENTITIES[USER], Summaries::key(USER)), ("user", None));
        for (entity, name) in ENTITIES.iter().enumerate() {
            let of = name.strip_prefix("user_");
            assert_eq!(Summaries::key(entity).map(Of::name), of, "{name}");
        }
    }
}
