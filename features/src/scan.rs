//! Windows over one block, all at once: masks of events by window, kind, campaign and category, and how
//! many bits they have in common.
//!
//! The same code is compiled for AVX-512, for AVX2 and for any processor, and does the same in each.

#![expect(
    clippy::inline_always,
    reason = "the scan is compiled once for each processor, with all that it calls"
)]

use crate::block::{Block, low, tag};
use crate::plan::{CART, CLICK, PURCHASE, REFUND, USER_CAMPAIGN, USER_CATEGORY, VIEW};
use crate::subjects::Subjects;
use crate::totals::{ENTITIES, LANES, Totals};

/// What a scan needs to know besides the block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scan<'a> {
    /// As of when, ms.
    pub(crate) at_ms: i64,
    /// Per window: events later than this are in it, ms; then [`i64::MAX`] up to a multiple of [`LANES`].
    pub(crate) after_ms: &'a [i64],
    /// Events later than this are in some window or may be the last, ms.
    pub(crate) oldest_ms: i64,
    pub(crate) campaign: u32,
    pub(crate) category: u32,
    pub(crate) needs: &'a Needs,
}

/// What is read of the user's entities: pairs of entity and kinds, by number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Needs {
    pub(crate) counts: Vec<(usize, usize)>,
    pub(crate) sums: Vec<(usize, usize)>,
    pub(crate) ages: Vec<(usize, usize)>,
    pub(crate) entities: [bool; ENTITIES],
}

/// For which processor the scan is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    Any,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Build {
    /// The fastest that runs here.
    pub(crate) fn fastest() -> Self {
        Self::all().last().unwrap_or(Self::Any)
    }

    /// All that run here, the fastest last.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let has = [
            (Self::Any, true),
            (
                Self::Avx2,
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("bmi2")
                    && is_x86_feature_detected!("lzcnt")
                    && is_x86_feature_detected!("popcnt"),
            ),
            (
                Self::Avx512,
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vpopcntdq")
                    && is_x86_feature_detected!("bmi2")
                    && is_x86_feature_detected!("lzcnt"),
            ),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let has = [(Self::Any, true)];
        has.into_iter().filter(|(_, here)| *here).map(|(build, _)| build)
    }

    /// Adds a block's events to the totals. Blocks come newest first.
    pub(crate) fn scan(self, block: Block<'_>, scan: &Scan<'_>, subjects: &Subjects, totals: &mut Totals) {
        match self {
            Self::Any => body(block, scan, subjects, totals),
            // SAFETY: only `all` makes these, for a processor that has the features.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "a function compiled for other processors than the caller")]
            Self::Avx2 => unsafe { avx2(block, scan, subjects, totals) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "a function compiled for other processors than the caller")]
            Self::Avx512 => unsafe { avx512(block, scan, subjects, totals) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn avx2(block: Block<'_>, scan: &Scan<'_>, subjects: &Subjects, totals: &mut Totals) {
    body(block, scan, subjects, totals);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,bmi2,lzcnt,popcnt")]
fn avx512(block: Block<'_>, scan: &Scan<'_>, subjects: &Subjects, totals: &mut Totals) {
    body(block, scan, subjects, totals);
}

#[inline(always)]
fn body(block: Block<'_>, scan: &Scan<'_>, subjects: &Subjects, totals: &mut Totals) {
    let times = block.times();
    let needs = scan.needs;
    let planes = block.planes_for(needs.entities[USER_CAMPAIGN], needs.entities[USER_CATEGORY]);
    let now = low(block.end(scan.at_ms));
    let inside = now & !low(block.end(scan.oldest_ms));
    if inside == 0 {
        return;
    }
    let kinds = planes.kinds();
    let mut sets = kinds;
    sets[CLICK] |= kinds[CART];
    let entities = [
        inside,
        if needs.entities[USER_CAMPAIGN] {
            of(block, planes.tagged(0, tag(scan.campaign)) & inside, |number| {
                subjects.campaign(number) == scan.campaign
            })
        } else {
            0
        },
        if needs.entities[USER_CATEGORY] {
            of(block, planes.tagged(1, tag(scan.category)) & inside, |number| {
                subjects.category(number) == scan.category
            })
        } else {
            0
        },
    ];
    for &(entity, set) in &needs.ages {
        let mask = entities[entity] & sets[set];
        if mask > 0 {
            let last_ms = block.time_ms(63 - mask.leading_zeros() as usize);
            let known = &mut totals.last_ms[entity][set];
            *known = (*known).max(last_ms);
        }
    }
    let valued = planes.valued() & (kinds[VIEW] | kinds[PURCHASE] | kinds[REFUND]) & inside;
    let base_ms = block.base_ms();
    // Times are below the greatest of all, which is no event's.
    let (oldest, newest) = (times[0], times[times.len() - 1]);
    for (group, after_ms) in scan.after_ms.as_chunks::<LANES>().0.iter().enumerate() {
        let first: [u32; LANES] = std::array::from_fn(|lane| {
            // Events at this or later are in the window; the greatest of all times is no event's.
            let first = after_ms[lane].saturating_add(1).saturating_sub(base_ms);
            first.clamp(0, i64::from(u32::MAX)) as u32
        });
        let mut before = first.map(|first| if first > newest { times.len() as u32 } else { 0 });
        // Most windows begin before or behind an older block: only where one begins inside is there to count.
        if first.iter().any(|first| (oldest + 1..=newest).contains(first)) {
            before = [0; LANES];
            for &time in times {
                for (before, first) in before.iter_mut().zip(first) {
                    *before += u32::from(time < first);
                }
            }
        }
        let ranges = before.map(|before| now & !low(before as usize));
        for &(entity, set) in &needs.counts {
            let mask = entities[entity] & sets[set];
            let counts = totals.counts(entity, set, group);
            for (count, range) in counts.iter_mut().zip(ranges) {
                *count = count.saturating_add((mask & range).count_ones());
            }
        }
        if valued == 0 {
            continue;
        }
        for &(entity, set) in &needs.sums {
            let mut left = entities[entity] & sets[set] & valued;
            let sums = totals.sums(entity, set, group);
            // From the newest to the oldest: so each window adds its values in one order.
            while left > 0 {
                let at = 63 - left.leading_zeros() as usize;
                left ^= 1 << at;
                let value = f64::from(block.value(planes.valued(), at));
                for (sum, range) in sums.iter_mut().zip(ranges) {
                    *sum += if range >> at & 1 == 1 { value } else { 0.0 };
                }
            }
        }
    }
}

/// The events of a mask that are really of the subject that their tag lets suppose.
#[inline(always)]
fn of(block: Block<'_>, tagged: u64, is: impl Fn(u32) -> bool) -> u64 {
    let numbers = block.numbers();
    let (mut mask, mut left) = (tagged, tagged);
    while left > 0 {
        let at = left.trailing_zeros() as usize;
        left &= left - 1;
        if !is(numbers[at]) {
            mask ^= 1 << at;
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::{BlockMut, Logged, MOST, room_for, words_for};
    use crate::interner::Interner;
    use crate::plan::KINDS;
    use crate::totals::value_slot;

    proptest! {
        /// All builds against each other and against a list gone through for every number.
        #[test]
        fn every_build_counts_what_is_there(
            events in proptest::collection::vec((0..2_000_u32, 0..KINDS, 0..12_u32, 0..9_u16), 1..=MOST),
            windows in proptest::collection::vec(1..2_500_i64, 1..=12),
            at_ms in 0..2_200_i64, about in 0..12_u32,
        ) {
            let (mut subjects, mut texts) = (Subjects::new(false), Interner::new());
            let numbers: Vec<u32> = (0..12).map(|n| {
                let names = [format!("i{n}"), format!("c{}", n % 4), format!("k{}", n % 3)];
                subjects.intern(names.each_ref().map(String::as_str), None, &mut texts)
            }).collect();
            let base_ms = 1_700_000_000_000;
            let mut list: Vec<Logged> = events.iter().map(|(time, kind, about, value)| {
                let number = numbers[*about as usize];
                Logged::new(base_ms + i64::from(*time), *kind, number, f32::from(*value) / 3.0, &subjects)
            }).collect();
            list.sort_by_key(|event| event.time_ms);
            let room = room_for(list.len());
            let mut words = vec![0; words_for(room, list.len())];
            let mut block = BlockMut(&mut words);
            block.start(1, base_ms, room);
            for (at, event) in list.iter().enumerate() {
                block.insert(at, (event.time_ms - base_ms) as u32, event);
            }
            let (at_ms, mut windows) = (base_ms + at_ms, windows);
            windows.sort_unstable();
            let mut after_ms: Vec<i64> = windows.iter().map(|window| at_ms - window).collect();
            after_ms.resize(windows.len().next_multiple_of(LANES), i64::MAX);
            let pairs: Vec<(usize, usize)> =
                (0..ENTITIES).flat_map(|entity| (0..KINDS).map(move |set| (entity, set))).collect();
            let needs =
                Needs { counts: pairs.clone(), sums: pairs.clone(), ages: pairs.clone(), entities: [true; 3] };
            let read = subjects.get(numbers[about as usize]);
            let scan = Scan {
                at_ms, after_ms: &after_ms, oldest_ms: after_ms[windows.len() - 1],
                campaign: read.campaign, category: read.category, needs: &needs,
            };
            let mut all = Vec::new();
            for build in Build::all() {
                let mut totals = Totals::default();
                totals.reset(windows.len(), &needs);
                build.scan(Block(&words), &scan, &subjects, &mut totals);
                all.push(totals);
            }
            for totals in &all[1..] {
                prop_assert_eq!(totals, &all[0]);
            }
            for (entity, set) in pairs {
                for (window, after_ms) in after_ms[..windows.len()].iter().enumerate() {
                    let of: Vec<&Logged> = list.iter().rev().filter(|event| {
                        let subject = subjects.get(event.number);
                        let kind = usize::from(event.kind);
                        event.time_ms > *after_ms && event.time_ms <= at_ms
                            && (kind == set || set == CLICK && kind == CART)
                            && [true, subject.campaign == read.campaign, subject.category == read.category][entity]
                    }).collect();
                    prop_assert_eq!(all[0].counts_of(entity, set)[window] as usize, of.len());
                    let sum: f64 = of.iter().map(|event| f64::from(event.value)).sum();
                    if value_slot(set).is_some() {
                        prop_assert_eq!(all[0].sums_of(entity, set)[window].to_bits(), (sum + 0.0).to_bits());
                    }
                    if window + 1 == windows.len() {
                        let last_ms = of.first().map_or(crate::history::NEVER, |event| event.time_ms);
                        prop_assert_eq!(all[0].last_ms[entity][set], last_ms);
                    }
                }
            }
        }
    }
}
