//! The numbers of a view by the plan: fields that differ only in their window are made together.

use schemas::Event;

use crate::history::NEVER;
use crate::plan::{Context, Counted, ENTITIES, Field, KindSet, PLAIN, Plan, SHARED, SHARED_ENTITIES};
use crate::rates::Rates;
use crate::scan::Needs;
use crate::shared::windows::SharedRow;
use crate::totals::{Lanes, Totals};

const DAY_MS: i64 = 86_400_000;

/// Neighbouring fields of one kind; windows from `first`, so many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Group {
    what: What,
    first: usize,
    count: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Count {
        entity: usize,
        kinds: KindSet,
    },
    Sum {
        entity: usize,
        kinds: KindSet,
    },
    Mean {
        entity: usize,
        kinds: KindSet,
    },
    /// Places in the plan's rates stand for windows.
    Rate {
        entity: usize,
    },
    Since {
        entity: usize,
        kinds: KindSet,
    },
    Trend {
        entity: usize,
        short: Counted,
        long: Counted,
        share: f64,
    },
    Summary {
        entity: usize,
    },
    Context(Context),
    Number(usize),
}

impl What {
    fn of(field: &Field) -> (Self, usize) {
        match *field {
            Field::Count { entity, kinds, window } => (Self::Count { entity, kinds }, window),
            Field::Sum { entity, kinds, window } => (Self::Sum { entity, kinds }, window),
            Field::Mean { entity, kinds, window } => (Self::Mean { entity, kinds }, window),
            Field::Rate { entity, rate } => (Self::Rate { entity }, rate),
            Field::Since { entity, kinds } => (Self::Since { entity, kinds }, 0),
            Field::Trend { entity, short, long, share } => (Self::Trend { entity, short, long, share }, 0),
            Field::Summary { entity, at } => (Self::Summary { entity }, at),
            Field::Context(context) => (Self::Context(context), 0),
            Field::Number(at) => (Self::Number(at), 0),
        }
    }

    fn entity(&self) -> Option<usize> {
        match *self {
            Self::Count { entity, .. }
            | Self::Sum { entity, .. }
            | Self::Mean { entity, .. }
            | Self::Rate { entity }
            | Self::Since { entity, .. }
            | Self::Trend { entity, .. }
            | Self::Summary { entity } => Some(entity),
            Self::Context(_) | Self::Number(_) => None,
        }
    }
}

/// The fields in groups, in their order.
pub(crate) fn groups(fields: &[Field]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for field in fields {
        let (what, window) = What::of(field);
        match groups.last_mut() {
            Some(group) if group.what == what && group.first + group.count == window => group.count += 1,
            _ => groups.push(Group { what, first: window, count: 1 }),
        }
    }
    groups
}

/// What the groups and rates read of the user's entities.
pub(crate) fn needs(groups: &[Group], rates: &Rates) -> Needs {
    let mut needs = Needs::default();
    let mut push = |list: fn(&mut Needs) -> &mut Vec<(usize, usize)>, entity: usize, set: KindSet| {
        let pair = (entity, set as usize);
        if entity < PLAIN && !list(&mut needs).contains(&pair) {
            list(&mut needs).push(pair);
            needs.entities[entity] = true;
        }
    };
    for group in groups {
        match group.what {
            What::Count { entity, kinds } => push(|needs| &mut needs.counts, entity, kinds),
            What::Sum { entity, kinds } => push(|needs| &mut needs.sums, entity, kinds),
            What::Mean { entity, kinds } => {
                push(|needs| &mut needs.counts, entity, kinds);
                push(|needs| &mut needs.sums, entity, kinds);
            }
            What::Since { entity, kinds } => push(|needs| &mut needs.ages, entity, kinds),
            What::Trend { entity, short, long, .. } => {
                for counted in [short, long] {
                    if let Counted::Kinds(kinds, _) = counted {
                        push(|needs| &mut needs.counts, entity, kinds);
                    }
                }
            }
            What::Rate { .. } | What::Summary { .. } | What::Context(_) | What::Number(_) => {}
        }
    }
    for (entity, _) in rates.windows() {
        push(|needs| &mut needs.counts, entity, KindSet::View);
        push(|needs| &mut needs.counts, entity, KindSet::Click);
    }
    needs
}

/// What was read for a view, beside its user's counts and sums by kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Others<'a> {
    /// Counts and sums by kind of shared entities.
    pub(crate) shared: &'a [SharedRow; SHARED_ENTITIES],
    /// The numbers of the plan's summaries.
    pub(crate) summaries: &'a [f64],
    /// Its numbers of what users share.
    pub(crate) numbers: &'a [f64],
}

/// The numbers of a view: of its user's windows and of the shared entities'. `known` says per entity whether
/// the view names it and it can be read.
pub(crate) fn evaluate(
    plan: &Plan,
    totals: &Totals,
    others: Others<'_>,
    event: &Event,
    known: [bool; ENTITIES.len()],
    rates: &mut Vec<f64>,
    out: &mut Vec<f32>,
) {
    let lanes = |entity: usize| match entity {
        ..PLAIN => totals.of(entity),
        // Nothing is counted of them by kind.
        PLAIN..SHARED => Lanes::NONE,
        SHARED.. => others.shared[entity - SHARED].lanes(),
    };
    let numbers = |entity: usize| if entity < SHARED { others.summaries } else { others.numbers };
    plan.rates.evaluate(
        |entity, window| match plan.summaries.rate(entity, window) {
            _ if !known[entity] => (0, 0),
            Some([views, clicks]) => (others.summaries[views] as u64, others.summaries[clicks] as u64),
            None => {
                let count = |kinds| u64::from(lanes(entity).counts(kinds)[window]);
                (count(KindSet::View), count(KindSet::Click))
            }
        },
        rates,
    );
    out.clear();
    for group in &plan.groups {
        match group.what.entity() {
            Some(entity) if !known[entity] => out.extend(std::iter::repeat_n(f32::NAN, group.count)),
            Some(entity) => of_entity(group, lanes(entity), event, (rates, numbers(entity)), out),
            None => out.push(match group.what {
                What::Context(context) => context_number(context, event),
                What::Number(at) => plain(event.numbers.get(at).copied().unwrap_or(f32::NAN)),
                _ => f32::NAN,
            }),
        }
    }
}

#[inline]
fn of_entity(
    group: &Group,
    lanes: Lanes<'_>,
    event: &Event,
    (rates, numbers): (&[f64], &[f64]),
    out: &mut Vec<f32>,
) {
    let windows = group.first..group.first + group.count;
    match group.what {
        What::Count { kinds, .. } => {
            out.extend(lanes.counts(kinds)[windows].iter().map(|count| *count as f32));
        }
        What::Sum { kinds, .. } => {
            out.extend(lanes.sums(kinds)[windows].iter().map(|sum| plain(*sum as f32)));
        }
        What::Mean { kinds, .. } => {
            let sums = &lanes.sums(kinds)[windows.clone()];
            out.extend(lanes.counts(kinds)[windows].iter().zip(sums).map(|(count, sum)| match count {
                0 => f32::NAN,
                n => plain((sum / f64::from(*n)) as f32),
            }));
        }
        What::Rate { .. } => out.extend(rates[windows].iter().map(|rate| *rate as f32)),
        What::Since { kinds, .. } => out.push(match lanes.last_ms[kinds as usize] {
            NEVER => f32::NAN,
            last_ms => ((event.event_time_ms - last_ms) as f64 / 1_000.0) as f32,
        }),
        What::Trend { short, long, share, .. } => {
            let count = |counted| match counted {
                Counted::Kinds(kinds, window) => f64::from(lanes.counts(kinds)[window]),
                Counted::Summary(at) => numbers[at],
            };
            out.push(((count(short) + 1.0) / (count(long) * share + 1.0)) as f32);
        }
        What::Summary { .. } => out.extend(numbers[windows].iter().map(|number| plain(*number as f32))),
        What::Context(_) | What::Number(_) => {}
    }
}

/// One NaN stands for "missing", whatever its payload was.
fn plain(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value }
}

fn context_number(context: Context, event: &Event) -> f32 {
    let at_ms = event.event_time_ms;
    let in_day = at_ms.rem_euclid(DAY_MS);
    match context {
        Context::Hour => (in_day / 3_600_000) as f32,
        Context::HourSin => sine(in_day as f64 / DAY_MS as f64) as f32,
        Context::HourCos => sine(in_day as f64 / DAY_MS as f64 + 0.25) as f32,
        // 1970-01-01 was a Thursday.
        Context::Weekday => (at_ms.div_euclid(DAY_MS) + 3).rem_euclid(7) as f32,
        Context::Price if event.value > 0.0 => event.value as f32,
        Context::Price => f32::NAN,
    }
}

/// The sine of a share of the circle, to 1e-12. The platform's own differs in the last bit from
/// one C library to the next, and a vector must come out the same everywhere.
fn sine(turns: f64) -> f64 {
    let mut turns = turns - turns.floor();
    let mut sign = 1.0;
    if turns >= 0.5 {
        turns -= 0.5;
        sign = -1.0;
    }
    // The second quarter mirrors the first, where the series is short.
    let x = turns.min(0.5 - turns) * std::f64::consts::TAU;
    let square = x * x;
    let (mut term, mut sum) = (x, x);
    for step in 1..10 {
        let k = f64::from(2 * step);
        term *= -square / (k * (k + 1.0));
        sum += term;
    }
    sign * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_is_near_the_platforms() {
        for minute in 0..1440 {
            let turns = f64::from(minute) / 1440.0;
            assert!((sine(turns) - (turns * std::f64::consts::TAU).sin()).abs() < 1e-12, "{minute}");
            assert!((sine(turns + 0.25) - (turns * std::f64::consts::TAU).cos()).abs() < 1e-12, "{minute}");
        }
    }
}
