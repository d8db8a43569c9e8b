//! Every target over its seeds, over what once broke it, and over changed seeds. The same cases in every
//! run; `SALIENCE_FUZZ_CASES` sets how many of each target.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use decoders::dice::Dice;
use decoders::{TARGETS, Target, check};

/// A seed that is no longer holds next to nothing.
const SHORT: usize = 40;
/// Places of it that are changed.
const MOST_PLACES: usize = 400;

/// Where a failing input is left, and where those lie that were mended.
fn folder(target: &Target) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target.name)
}

/// Checks one input; one that fails is written down first.
fn checked(target: &Target, data: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(target.name, data))) {
        let name = format!("{}-{}", target.name, &blake3::hash(data).to_hex()[..16]);
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, data).unwrap();
        eprintln!("{}: {} bytes, left in {}", target.name, data.len(), path.display());
        std::panic::resume_unwind(panic);
    }
}

fn stands(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let cases = std::env::var("SALIENCE_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok());
    let mut dice = Dice(name.bytes().fold(1, |seed, byte| seed << 7 ^ seed >> 57 ^ u64::from(byte)));
    let mut seeds = (target.seeds)();
    for entry in std::fs::read_dir(folder(target)).into_iter().flatten() {
        seeds.push(std::fs::read(entry.unwrap().path()).unwrap());
    }
    let mut count = 0_u64;
    let mut checked = |data: &[u8]| {
        count += 1;
        checked(target, data);
    };
    for seed in &seeds {
        checked(seed);
    }
    // Each byte of a short one in turn, as a bit that flips and as the greatest.
    let short = seeds.iter().filter(|seed| seed.len() > SHORT).min_by_key(|seed| seed.len()).unwrap();
    for at in (0..short.len()).step_by(short.len().div_ceil(MOST_PLACES)) {
        for changed in [short[at] ^ 1, short[at] ^ 0x80, 0xff] {
            let mut seed = short.clone();
            seed[at] = changed;
            checked(&seed);
        }
    }
    for _ in 0..cases.unwrap_or(target.cases) {
        let (one, other) = (dice.below(seeds.len()), dice.below(seeds.len()));
        checked(&dice.changed(&seeds[one], &seeds[other]));
    }
    println!("{name}: {count} cases");
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                stands(stringify!($name));
            }
        )*

        #[test]
        fn no_target_is_left_out() {
            let tested: &[&str] = &[$(stringify!($name)),*];
            let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(known, tested);
        }
    };
}
targets! {
    raw_json, records, vectors, fold, core_state, merge_state, snapshot_file, artefact, checkpoint, spilled, config,
}
