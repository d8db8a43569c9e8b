//! The numbers of a view by the plan: fields that differ only in their window are made together, a vector
//! register of them at a time.
//!
//! The same code is compiled for AVX-512, for AVX2 and for any processor, and does the same in each.

#![expect(
    clippy::inline_always,
    reason = "what makes the numbers is compiled once for each processor, with all that it calls"
)]

use schemas::Event;

use crate::history::NEVER;
use crate::plan::{Context, Counted, ENTITIES, Field, KindSet, PLAIN, Plan, SHARED, SHARED_ENTITIES};
use crate::rates::Rates;
use crate::scan::{Build, Needs};
use crate::shared::windows::SharedRow;
use crate::totals::{LANES, Lanes, Totals};

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

impl Group {
    /// How many numbers it makes.
    pub(crate) fn len(&self) -> usize {
        self.count
    }
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

/// What a view's numbers are made of: its user's windows and the shared entities'.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) totals: &'a Totals,
    pub(crate) others: Others<'a>,
    pub(crate) event: &'a Event,
    /// Per entity whether the view names it and it can be read.
    pub(crate) known: [bool; ENTITIES.len()],
}

impl Build {
    /// Makes the numbers of a view: how many. Behind them in `out` lies anything.
    pub(crate) fn evaluate(self, view: &View<'_>, rates: &mut Vec<f64>, out: &mut Vec<f32>) -> usize {
        match self {
            Self::Any => body(view, rates, out),
            // SAFETY: only `all` makes these, for a processor that has the features.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "a function compiled for other processors than the caller")]
            Self::Avx2 => unsafe { avx2(view, rates, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "a function compiled for other processors than the caller")]
            Self::Avx512 => unsafe { avx512(view, rates, out) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn avx2(view: &View<'_>, rates: &mut Vec<f64>, out: &mut Vec<f32>) -> usize {
    body(view, rates, out)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,bmi2,lzcnt,popcnt")]
fn avx512(view: &View<'_>, rates: &mut Vec<f64>, out: &mut Vec<f32>) -> usize {
    body(view, rates, out)
}

impl<'a> View<'a> {
    #[inline(always)]
    fn lanes(&self, entity: usize) -> Lanes<'a> {
        match entity {
            ..PLAIN => self.totals.of(entity),
            // Nothing is counted of them by kind.
            PLAIN..SHARED => Lanes::NONE,
            SHARED.. => self.others.shared[entity - SHARED].lanes(),
        }
    }

    /// The plan's rates.
    #[inline(always)]
    fn rates(&self, rates: &mut [f64]) {
        let Self { plan, others, known, .. } = *self;
        if let Some(runs) = plan.rates.runs().filter(|_| plan.summaries.rated.is_empty()) {
            for run in runs {
                let Some(out) = rates.get_mut(run.at..) else { continue };
                let (from, to) = (run.window, run.count.next_multiple_of(LANES));
                let (drawn, weight) = (run.prior * run.weight, run.weight);
                if !known[run.entity] {
                    out[..run.count].fill((0.0 + drawn) / (0.0 + weight));
                    continue;
                }
                let lanes = self.lanes(run.entity);
                let views = &lanes.counts(KindSet::View)[from..];
                let clicks = &lanes.counts(KindSet::Click)[from..];
                let (views, clicks) = (views.as_chunks::<LANES>().0, clicks.as_chunks::<LANES>().0);
                for ((out, views), clicks) in out[..to].as_chunks_mut().0.iter_mut().zip(views).zip(clicks) {
                    // Over copies: what is written does not change what is read.
                    let (views, clicks, mut rates) = (*views, *clicks, [0.0; LANES]);
                    for lane in 0..LANES {
                        rates[lane] = (f64::from(clicks[lane]) + drawn) / (f64::from(views[lane]) + weight);
                    }
                    *out = rates;
                }
            }
            return;
        }
        plan.rates.evaluate(
            |entity, window| match plan.summaries.rate(entity, window) {
                _ if !known[entity] => (0, 0),
                Some([views, clicks]) => (others.summaries[views] as u64, others.summaries[clicks] as u64),
                None => {
                    let count = |kinds| u64::from(self.lanes(entity).counts(kinds)[window]);
                    (count(KindSet::View), count(KindSet::Click))
                }
            },
            rates,
        );
    }
}

/// Writes so many numbers, made of what lies behind one another, [`LANES`] at a time. There are as many of both,
/// rounded up to them.
#[inline(always)]
fn each<T: Copy>(from: &[T], count: usize, out: &mut [f32], number: impl Fn(T) -> f32) {
    let to = &mut out[..count.next_multiple_of(LANES)];
    for (to, from) in to.as_chunks_mut::<LANES>().0.iter_mut().zip(from.as_chunks::<LANES>().0) {
        // Over copies: what is written does not change what is read.
        let (from, mut numbers) = (*from, [0.0; LANES]);
        for lane in 0..LANES {
            numbers[lane] = number(from[lane]);
        }
        *to = numbers;
    }
}

#[inline(always)]
fn body(view: &View<'_>, rates: &mut Vec<f64>, out: &mut Vec<f32>) -> usize {
    let plan = view.plan;
    if out.len() < plan.numbers_of_groups + LANES {
        out.resize(plan.numbers_of_groups + LANES, 0.0);
        rates.resize(plan.rates.len() + LANES, 0.0);
    }
    view.rates(rates);
    let mut end = 0;
    for group in &plan.groups {
        let begin = end;
        end += group.count;
        let out = &mut out[begin..];
        match group.what.entity() {
            Some(entity) if !view.known[entity] => out[..group.count].fill(f32::NAN),
            Some(entity) => {
                let others = &view.others;
                let numbers = if entity < SHARED { others.summaries } else { others.numbers };
                of_entity(group, view.lanes(entity), view.event, (rates, numbers), out);
            }
            None => {
                out[0] = match group.what {
                    What::Context(context) => context_number(context, view.event),
                    What::Number(at) => plain(view.event.numbers.get(at).copied().unwrap_or(f32::NAN)),
                    _ => f32::NAN,
                }
            }
        }
    }
    end
}

#[inline(always)]
fn of_entity(
    group: &Group,
    lanes: Lanes<'_>,
    event: &Event,
    (rates, numbers): (&[f64], &[f64]),
    out: &mut [f32],
) {
    let (from, count) = (group.first, group.count);
    match group.what {
        What::Count { kinds, .. } => each(&lanes.counts(kinds)[from..], count, out, |count| count as f32),
        What::Sum { kinds, .. } => each(&lanes.sums(kinds)[from..], count, out, |sum| plain(sum as f32)),
        What::Mean { kinds, .. } => {
            let sums = &lanes.sums(kinds)[from..];
            let counts = lanes.counts(kinds)[from..].iter().zip(sums);
            for (to, (count, sum)) in out[..count].iter_mut().zip(counts) {
                *to = match count {
                    0 => f32::NAN,
                    n => plain((sum / f64::from(*n)) as f32),
                };
            }
        }
        What::Rate { .. } => each(&rates[from..], count, out, |rate| rate as f32),
        What::Since { kinds, .. } => {
            out[0] = match lanes.last_ms[kinds as usize] {
                NEVER => f32::NAN,
                last_ms => ((event.event_time_ms - last_ms) as f64 / 1_000.0) as f32,
            }
        }
        What::Trend { short, long, share, .. } => {
            let count = |counted| match counted {
                Counted::Kinds(kinds, window) => f64::from(lanes.counts(kinds)[window]),
                Counted::Summary(at) => numbers[at],
            };
            out[0] = ((count(short) + 1.0) / (count(long) * share + 1.0)) as f32;
        }
        What::Summary { .. } => {
            for (to, number) in out.iter_mut().zip(&numbers[from..from + count]) {
                *to = plain(*number as f32);
            }
        }
        What::Context(_) | What::Number(_) => {}
    }
}

/// One NaN stands for "missing", whatever its payload was.
#[inline(always)]
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
