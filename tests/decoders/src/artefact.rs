//! Models as files: any of them another than the one that was written, behind a manifest that agrees.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{Artefact, Explain, Model};

use crate::Target;
use crate::records::vector;
use crate::trained::{ARTEFACT, schema};

pub const TARGET: Target = Target { name: "artefact", run, seeds, times: 512, plus: 2 << 20, cases: 300 };

/// Which file, in the place of the first byte; the manifest is the last.
const FILES: [&str; 6] = Artefact::FILES;
const MANIFEST: &str = FILES[5];

fn run(data: &[u8]) {
    let Some((&what, bytes)) = data.split_first() else { return };
    let mut files = ARTEFACT.files().clone();
    files.insert(FILES[usize::from(what) % FILES.len()].to_owned(), Bytes::copy_from_slice(bytes));
    agree(&mut files);
    let Ok(model) = Model::load(&Artefact::from_files(files), None) else { return };
    // What was loaded serves: vectors of its schema, and others.
    let numbers = vec![1.0; model.schema().fields.len()];
    for vector in [vector(model.schema(), &numbers), vector(&schema(), &[0.0, f32::NAN, -3.0])] {
        if let Ok(scored) = model.predict(&[vector], Explain { fields: 3, behaviours: 3 }) {
            assert_eq!(scored.len(), 1);
        }
    }
    let built = Artefact::build(&model, &[], model.card()).expect("what was loaded is built again");
    let again = Model::load(&built, Some(&built.checksum())).expect("what was built is loaded");
    assert_eq!(
        again.weights_checksum().ok(),
        Artefact::build(&again, &[], again.card())
            .ok()
            .map(|built| { blake3::hash(&built.files()[FILES[0]]).to_hex().to_string() })
    );
}

/// Writes the files' checksums into the manifest, as far as it is one.
fn agree(files: &mut BTreeMap<String, Bytes>) {
    let Ok(mut manifest) = serde_json::from_slice::<serde_json::Value>(&files[MANIFEST]) else { return };
    let Some(sums) = manifest.get_mut("files").and_then(|sums| sums.as_object_mut()) else { return };
    for (name, bytes) in files.iter().filter(|(name, _)| *name != MANIFEST) {
        sums.insert(name.clone(), blake3::hash(bytes).to_hex().to_string().into());
    }
    files.insert(MANIFEST.to_owned(), manifest.to_string().into());
}

fn seeds() -> Vec<Vec<u8>> {
    let file = |(at, name): (u8, &str)| [&[at][..], &ARTEFACT.files()[name]].concat();
    (0..).zip(FILES).map(file).collect()
}
