//! Users out of memory: what comes out does not tell who is.

use std::cell::RefCell;
use std::collections::HashMap;

use features::{Config, Core, Out};
use proptest::prelude::*;
use runtime::spill::{Spill, SpillError};
use schemas::Entry;

use crate::common::*;

/// Keeps in memory what is put aside, within a budget that a test sets.
#[derive(Debug, Default)]
struct Aside {
    budget: usize,
    all: RefCell<HashMap<u64, Vec<u8>>>,
    fails: bool,
}

fn error() -> SpillError {
    SpillError { action: "read", folder: "nowhere".into(), why: "it was told to fail".into() }
}

impl Spill for Aside {
    fn budget(&self) -> usize {
        self.budget
    }

    fn put(&mut self, key: u64, bytes: &[u8]) -> Result<(), SpillError> {
        self.all.borrow_mut().insert(key, bytes.to_vec());
        Ok(())
    }

    fn get(&self, key: u64) -> Result<Vec<u8>, SpillError> {
        if self.fails {
            return Err(error());
        }
        self.all.borrow().get(&key).cloned().ok_or_else(error)
    }
}

fn tiled() -> Config {
    Config { exact_events: 64, last_n: 16, dedupe_events: 8, ..config() }
}

fn spilling(config: &Config, budget: usize) -> Core {
    Core::spilling(plan(config), 3, Some(Box::new(Aside { budget, ..Aside::default() })))
}

/// More users than the moves have, and one who does half of it.
fn spread(entries: &mut [Entry]) {
    for (index, entry) in entries.iter_mut().enumerate() {
        if let Entry::Event(event) = entry {
            event.user = if index % 2 == 0 { "bot".into() } else { format!("{}-{}", event.user, index % 7) };
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_that_comes_out_tells_who_is_out_of_memory(
        moves in moves(200), budget in prop_oneof![Just(0_usize), 0..60_000_usize], is_tiled in any::<bool>(),
    ) {
        let config = if is_tiled { tiled() } else { config() };
        let mut entries = stream(&moves);
        spread(&mut entries);
        crate::labels::finish(&mut entries);
        let (mut warm, mut cold) = (Core::new(plan(&config), 3), spilling(&config, budget));
        let mut were_cold = 0;
        for (offset, entry) in entries.iter().enumerate() {
            let (mut a, mut b) = (Out::default(), Out::default());
            warm.step(entry, place(offset), &mut a);
            cold.step(entry, place(offset), &mut b);
            prop_assert_eq!(a, b, "at {}", offset);
            prop_assert!(cold.take_failure().is_none());
            were_cold = were_cold.max(cold.cold_users());
        }
        prop_assert!(budget > 0 || were_cold > 0 || entries.len() < 40);
    }

    /// Images hold who is out of memory, and a restored core goes on, out of memory or not.
    #[test]
    fn snapshots_hold_those_out_of_memory(moves in moves(150), at in any::<prop::sample::Index>()) {
        let plan = plan(&tiled());
        let mut entries = stream(&moves);
        spread(&mut entries);
        let at = at.index(entries.len());
        let (mut warm, mut cold) = (Core::new(plan.clone(), 3), spilling(&tiled(), 0));
        run(&mut warm, &entries[..at]);
        run(&mut cold, &entries[..at]);
        cold.begin_image(true);
        let mut image = Vec::new();
        let mut backs = Vec::new();
        for (offset, entry) in entries.iter().enumerate().skip(at) {
            let (mut a, mut b) = (Out::default(), Out::default());
            warm.step(entry, place(offset), &mut a);
            cold.step(entry, place(offset), &mut b);
            prop_assert_eq!(&a, &b, "at {}", offset);
            if let Some(part) = cold.next_part(300) {
                image.extend(part);
            } else if backs.is_empty() {
                for spill in [None, Some(Aside::default())] {
                    let spill = spill.map(|spill| Box::new(spill) as Box<dyn Spill>);
                    let mut back = Core::restore_with(plan.clone(), 3, &image, spill).unwrap();
                    run_from(&mut back, &entries[..=offset], at);
                    backs.push(back);
                }
            } else {
                for back in &mut backs {
                    let mut c = Out::default();
                    back.step(entry, place(offset), &mut c);
                    prop_assert_eq!(&a, &c, "restored, at {}", offset);
                }
            }
        }
    }
}

/// Folds entries from a place on.
fn run_from(core: &mut Core, entries: &[Entry], from: usize) {
    for (offset, entry) in entries.iter().enumerate().skip(from) {
        core.step(entry, place(offset), &mut Out::default());
    }
}

#[test]
fn what_cannot_be_read_back_is_said() {
    let aside = Aside { fails: true, ..Aside::default() };
    let mut core = Core::spilling(plan(&config()), 3, Some(Box::new(aside)));
    let of = |time_ms| entry(event(schemas::Kind::View, "", time_ms, "u", "i", "c"));
    run(&mut core, &[sources(), tick(START - 1), of(START), tick(START + 1), tick(START + 2)]);
    assert_eq!(core.cold_users(), 1);
    assert!(core.take_failure().is_none());
    run(&mut core, &[of(START + 3)]);
    let error = core.take_failure().expect("the user is lost");
    assert!(error.to_string().contains("it was told to fail"), "{error}");
    assert!(core.take_failure().is_none(), "it is said once");
}
