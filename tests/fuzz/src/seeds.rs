//! Writes every target's seeds to `corpus/TARGET`, and what once broke it beside them.

use std::fs;
use std::io::Result;
use std::path::Path;

fn main() -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for target in decoders::TARGETS {
        let corpus = here.join("corpus").join(target.name);
        fs::create_dir_all(&corpus)?;
        for (at, seed) in (target.seeds)().iter().enumerate() {
            fs::write(corpus.join(format!("seed-{at:02}")), seed)?;
        }
        let mended = here.join("../decoders/regressions").join(target.name);
        for entry in fs::read_dir(mended).into_iter().flatten() {
            let entry = entry?;
            fs::copy(entry.path(), corpus.join(entry.file_name()))?;
        }
    }
    Ok(())
}
