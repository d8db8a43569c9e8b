//! Reading the numbers of a view: its user's events that are held one by one, then the tiles of older ones.

use schemas::Event;

use crate::block::Logged;
use crate::filters::text_of;
use crate::history::Read;
use crate::interner::{EMPTY, Interner};
use crate::plan::{KINDS, KindSet, Plan};
use crate::subjects::{Also, Subjects};
use crate::users::Users;

use super::plan::{Of, Range, Summaries, What};
use super::tiles::{Tiles, gaps, hash, one};
use super::{Order, Part};

/// What a read needs and gives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers {
    /// The numbers, in the plan's order; NaN where missing.
    pub(crate) values: Vec<f64>,
    events: Vec<Seen>,
    /// Per window of the plan: what is later is in it, ms.
    after_ms: Vec<i64>,
    /// Per session: the first of its events among those held, or the view, if all that are held are in it.
    edges_ms: Vec<Option<i64>>,
}

/// An event that a window may hold.
#[derive(Debug, Clone, Copy)]
struct Seen {
    event: Logged,
    /// A bit for each kind and filter that takes it.
    sets: u32,
}

impl Users {
    /// Reads the numbers of a view, whose subject has this number.
    pub(crate) fn summarise(
        &self,
        (user, subject): (u32, u32),
        read: &Read,
        plan: &Plan,
        (subjects, texts): (&Subjects, &Interner),
        out: &mut Numbers,
    ) {
        let oldest = read.horizon(plan.retention_ms());
        out.events.clear();
        'all: for block in self.blocks_of(user) {
            for event in block.events().rev().filter(|event| event.time_ms <= read.at_ms) {
                if event.time_ms <= oldest {
                    break 'all;
                }
                out.events.push(Seen { event, sets: sets_of(&event, subjects) });
            }
        }
        out.begin(read, oldest, plan);
        let tiles = self.extra(user).and_then(|extra| extra.hot.as_ref()).and_then(|hot| hot.summaries());
        out.values.clear();
        out.values.resize(plan.summaries.numbers.len(), f64::NAN);
        for entity in plan.summaries.entities() {
            let of = Summaries::key(entity);
            let text = of.map_or(EMPTY, |of| subjects.text(subject, of));
            if of.is_some() && text == EMPTY {
                continue;
            }
            let key = (entity, hash(texts.text(text)));
            let is_of = |event: &Logged| of.is_none_or(|of| subjects.text(event.number, of) == text);
            for (local, (at, _)) in plan.summaries.of(entity).enumerate() {
                out.cell((at, local, key), &is_of, (read, oldest, subject), plan, (subjects, texts), tiles);
            }
        }
    }
}

impl Numbers {
    /// Where each window begins.
    fn begin(&mut self, read: &Read, oldest: i64, plan: &Plan) {
        let begins = plan.windows.iter().filter_map(|window| window.after_ms(read.at_ms));
        self.after_ms.clear();
        self.after_ms.extend(begins.map(|after_ms| after_ms.max(oldest)));
        self.edges_ms.clear();
        for gap_ms in gaps(plan) {
            let mut edge_ms = read.at_ms;
            let is_near = |seen: &&Seen| {
                let is_near = edge_ms.saturating_sub(seen.event.time_ms) <= gap_ms;
                if is_near {
                    edge_ms = seen.event.time_ms;
                }
                is_near
            };
            let count = self.events.iter().take_while(is_near).count();
            self.after_ms.push(if count > 0 { edge_ms.saturating_sub(1) } else { read.at_ms });
            self.edges_ms.push((count == self.events.len()).then_some(edge_ms));
        }
    }

    /// All numbers of one cell.
    fn cell(
        &mut self,
        (at, local, key): (usize, usize, (usize, u64)),
        is_of: &dyn Fn(&Logged) -> bool,
        (read, oldest, subject): (&Read, i64, u32),
        plan: &Plan,
        (subjects, texts): (&Subjects, &Interner),
        tiles: Option<&Tiles>,
    ) {
        let cell = plan.summaries.cells[at];
        let own = match cell.what {
            What::Top(of) => hash(texts.text(subjects.text(subject, of))),
            _ => 0,
        };
        let numbers = plan.summaries.numbers_of[at].iter().map(|at| (*at, &plan.summaries.numbers[*at]));
        let mut ranges: Vec<(i64, Range)> = numbers
            .clone()
            .map(|(_, number)| match number.range {
                Range::Window(window) => (self.after_ms[window], number.range),
                Range::All => (oldest, number.range),
            })
            .collect();
        ranges.sort_unstable_by_key(|(after_ms, range)| (std::cmp::Reverse(*after_ms), *range));
        ranges.dedup();
        // From the newest event to the oldest: each window is the one before with more at its end.
        let mut events = self.events.iter().filter(|seen| seen.sets >> cell.set & 1 == 1).peekable();
        let mut part = Part::new(cell.what, read.at_ms);
        for (after_ms, range) in ranges {
            while let Some(seen) = events.next_if(|seen| seen.event.time_ms > after_ms) {
                if is_of(&seen.event) {
                    part.add(&one(&seen.event, cell.what, subjects, texts), Order::Before);
                }
            }
            let mut whole = None;
            if let Some(tiles) = tiles {
                let whole = whole.insert(part.clone());
                let session = match range {
                    Range::Window(window) => window.checked_sub(plan.level_of.len()),
                    Range::All => None,
                };
                match session {
                    None => tiles.read(key, (local, range), (read, after_ms), plan, whole),
                    Some(session) => {
                        if let Some(edge_ms) = self.edges_ms[session] {
                            tiles.read_session(key, (local, session), (edge_ms, oldest), plan, whole);
                        }
                    }
                }
            }
            let of_range = whole.as_mut().unwrap_or(&mut part);
            for (place, number) in numbers.clone().filter(|(_, number)| number.range == range) {
                let value = of_range.number(number.reading, read.at_ms, own);
                self.values[place] = value.unwrap_or(f64::NAN);
            }
        }
    }
}

/// A bit for each kind and each filter that takes an event.
pub(super) fn sets_of(event: &Logged, subjects: &Subjects) -> u32 {
    KindSet::taking(usize::from(event.kind)) | subjects.filters(event.number) << KINDS
}

impl Plan {
    /// Whether more is kept of an event than item, campaign and category.
    pub(crate) fn is_wide(&self) -> bool {
        self.is_wide
    }

    /// What else is kept of an event.
    pub(crate) fn also<'a>(&self, event: &'a Event) -> Option<Also<'a>> {
        let text = |of: Of| if self.kept_texts[of as usize] { text_of(event, of) } else { "" };
        self.is_wide.then(|| Also {
            texts: [Of::Brand, Of::Placement, Of::Device, Of::Channel].map(text),
            filters: self.filters.of(event),
        })
    }
}
