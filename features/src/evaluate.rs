//! The numbers of a view by the plan: fields that differ only in their window are made together.

use schemas::Event;

use crate::history::NEVER;
use crate::plan::{Context, Counted, ENTITIES, Field, KindSet, PLAIN, Plan, SHARED, SHARED_ENTITIES};
use crate::rates::Rates;
use crate::scan::Needs;
use crate::shared::windows::Table;
use crate::totals::{NOTHING, Total, Totals, value_slot};

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

/// What an entity's groups are made of.
trait Source {
    fn count(&self, kinds: KindSet, window: usize) -> u64;
    fn sum(&self, kinds: KindSet, window: usize) -> f64;
    fn last_ms(&self, kinds: KindSet) -> i64;
}

/// One of the user's entities.
struct Own<'a>(&'a Totals, usize);

impl Source for Own<'_> {
    fn count(&self, kinds: KindSet, window: usize) -> u64 {
        u64::from(self.0.counts_of(self.1, kinds as usize)[window])
    }

    fn sum(&self, kinds: KindSet, window: usize) -> f64 {
        self.0.sums_of(self.1, kinds as usize)[window]
    }

    fn last_ms(&self, kinds: KindSet) -> i64 {
        self.0.last_ms[self.1][kinds as usize]
    }
}

/// A shared entity's windows, one table after the other; none before the first version.
struct Shared<'a>(&'a [Table]);

impl Shared<'_> {
    fn total(&self, mut window: usize) -> &Total {
        for table in self.0 {
            let windows = &table.row().windows;
            match windows.get(window) {
                Some(total) => return total,
                None => window -= windows.len(),
            }
        }
        &NOTHING
    }
}

impl Source for Shared<'_> {
    fn count(&self, kinds: KindSet, window: usize) -> u64 {
        let total = self.total(window);
        kinds.indices().iter().map(|&kind| u64::from(total.counts[kind])).sum()
    }

    fn sum(&self, kinds: KindSet, window: usize) -> f64 {
        let total = self.total(window);
        kinds.indices().iter().filter_map(|&kind| value_slot(kind)).map(|slot| total.sums[slot]).sum()
    }

    fn last_ms(&self, kinds: KindSet) -> i64 {
        let rows = self.0.iter().map(Table::row);
        rows.flat_map(|row| kinds.indices().iter().map(|&kind| row.last_ms[kind])).max().unwrap_or(NEVER)
    }
}

/// The numbers of a view: of its user's windows and of the shared entities' (none: nothing has
/// happened to them). `known` says per entity whether the view names it and it can be read.
pub(crate) fn evaluate(
    plan: &Plan,
    totals: &Totals,
    (shared, numbers): (&[Vec<Table>; SHARED_ENTITIES], &[f64]),
    event: &Event,
    known: [bool; ENTITIES.len()],
    rates: &mut Vec<f64>,
    out: &mut Vec<f32>,
) {
    let views_and_clicks = |source: &dyn Source, window: usize| {
        (source.count(KindSet::View, window), source.count(KindSet::Click, window))
    };
    plan.rates.evaluate(
        |entity, window| match (plan.summaries.rate(entity, window), entity.checked_sub(SHARED)) {
            _ if !known[entity] => (0, 0),
            (Some([views, clicks]), _) => (numbers[views] as u64, numbers[clicks] as u64),
            (None, None) => views_and_clicks(&Own(totals, entity), window),
            (None, Some(at)) => views_and_clicks(&Shared(&shared[at]), window),
        },
        rates,
    );
    out.clear();
    for group in &plan.groups {
        match group.what.entity() {
            Some(entity) if !known[entity] => out.extend(std::iter::repeat_n(f32::NAN, group.count)),
            Some(entity) if entity < SHARED => {
                of_source(group, &Own(totals, entity), event, (rates, numbers), out);
            }
            Some(entity) => of_source(group, &Shared(&shared[entity - SHARED]), event, (rates, numbers), out),
            None => out.push(match group.what {
                What::Context(context) => context_number(context, event),
                What::Number(at) => plain(event.numbers.get(at).copied().unwrap_or(f32::NAN)),
                _ => f32::NAN,
            }),
        }
    }
}

#[inline]
fn of_source(
    group: &Group,
    source: &impl Source,
    event: &Event,
    (rates, numbers): (&[f64], &[f64]),
    out: &mut Vec<f32>,
) {
    let windows = group.first..group.first + group.count;
    match group.what {
        What::Count { kinds, .. } => out.extend(windows.map(|window| source.count(kinds, window) as f32)),
        What::Sum { kinds, .. } => out.extend(windows.map(|window| plain(source.sum(kinds, window) as f32))),
        What::Mean { kinds, .. } => out.extend(windows.map(|window| match source.count(kinds, window) {
            0 => f32::NAN,
            n => plain((source.sum(kinds, window) / n as f64) as f32),
        })),
        What::Rate { .. } => out.extend(rates[windows].iter().map(|rate| *rate as f32)),
        What::Since { kinds, .. } => out.push(match source.last_ms(kinds) {
            NEVER => f32::NAN,
            last_ms => ((event.event_time_ms - last_ms) as f64 / 1_000.0) as f32,
        }),
        What::Trend { short, long, share, .. } => {
            let count = |counted| match counted {
                Counted::Kinds(kinds, window) => source.count(kinds, window) as f64,
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
