//! The rows as numpy files, for judges of other makes: the same impressions, the same fields, the
//! same split.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use market::Driver;
use serde_json::json;
use trainer::split::Parts;

use super::rows::{IDS, Rows};

/// Past behaviours written per impression, at most.
const BEHAVIOURS: usize = 20;

/// The files of [`write`], in that order.
pub const FILES: [&str; 10] = [
    "ids.npy",
    "numbers.npy",
    "behaviours.npy",
    "ages.npy",
    "clicked.npy",
    "truth.npy",
    "drivers.npy",
    "part.npy",
    "embeddings.npy",
    "meta.json",
];

/// Writes them to a folder:
///
/// | file | type, shape | |
/// |---|---|---|
/// | `ids.npy` | u32 rows x 8 | numbers of texts, 0 is "not given"; columns as `meta.json` says |
/// | `numbers.npy` | f32 rows x numbers | as the vector has them; NaN is missing |
/// | `behaviours.npy` | u32 rows x 20 x 4 | item, campaign, category, kind; newest first, then zeros |
/// | `ages.npy` | f32 rows x 20 | seconds before the impression |
/// | `clicked.npy` | u8 rows | whether it was clicked |
/// | `truth.npy` | f32 rows | true probability of a click; NaN where unknown |
/// | `drivers.npy` | f32 rows x 18 | what adds to the click's logit, as `meta.json` names it |
/// | `part.npy` | u8 rows | 0 training, 1 validation, 2 test, 3 in a gap |
/// | `embeddings.npy` | f32 texts x length | content embeddings of items, by number of text |
/// | `meta.json` | | names and sizes |
///
/// # Errors
/// A folder that cannot be written to.
pub fn write(rows: &Rows, parts: &Parts, folder: &Path) -> Result<()> {
    let count = rows.impressions.len();
    let all = || rows.impressions.iter();
    let save =
        |name: &str, descr: &str, shape: &[usize], fill: &mut dyn FnMut(&mut Out) -> io::Result<()>| {
            npy(&folder.join(name), descr, shape, fill)
                .with_context(|| format!("{name} in {}", folder.display()))
        };
    save("ids.npy", "<u4", &[count, IDS.len()], &mut |out| {
        all().flat_map(|row| row.ids).try_for_each(|id| out.write_all(&id.to_le_bytes()))
    })?;
    let width = rows.schema.fields.len();
    save("numbers.npy", "<f4", &[count, width], &mut |out| {
        all().flat_map(|row| rows.numbers(row)).try_for_each(|value| out.write_all(&value.to_le_bytes()))
    })?;
    save("behaviours.npy", "<u4", &[count, BEHAVIOURS, 4], &mut |out| {
        all().try_for_each(|row| {
            let past = rows.past(row).iter().map(|past| {
                let [item, campaign, category] = past.ids;
                [item, campaign, category, past.kind as u32]
            });
            past.chain(std::iter::repeat([0; 4]))
                .take(BEHAVIOURS)
                .flatten()
                .try_for_each(|id| out.write_all(&id.to_le_bytes()))
        })
    })?;
    save("ages.npy", "<f4", &[count, BEHAVIOURS], &mut |out| {
        all().try_for_each(|row| {
            let ages = rows.past(row).iter().map(|past| past.age_ms as f32 / 1_000.0);
            ages.chain(std::iter::repeat(0.0))
                .take(BEHAVIOURS)
                .try_for_each(|age| out.write_all(&age.to_le_bytes()))
        })
    })?;
    save("clicked.npy", "|u1", &[count], &mut |out| {
        all().try_for_each(|row| out.write_all(&[u8::from(row.label.clicked)]))
    })?;
    save("truth.npy", "<f4", &[count], &mut |out| {
        let truths = all().map(|row| row.truth.map_or(f32::NAN, |truth| truth.p_click as f32));
        truths.into_iter().try_for_each(|truth| out.write_all(&truth.to_le_bytes()))
    })?;
    save("drivers.npy", "<f4", &[count, Driver::COUNT], &mut |out| {
        let drivers =
            all().flat_map(|row| row.truth.map_or([f32::NAN; Driver::COUNT], |truth| truth.drivers));
        drivers.into_iter().try_for_each(|logit| out.write_all(&logit.to_le_bytes()))
    })?;
    save("part.npy", "|u1", &[count], &mut |out| {
        (0..count).try_for_each(|at| {
            let part = [&parts.train, &parts.validation, &parts.test].iter().position(|r| r.contains(&at));
            out.write_all(&[part.unwrap_or(3) as u8])
        })
    })?;
    let length = rows.embeddings.values().map(Vec::len).max().unwrap_or(0);
    save("embeddings.npy", "<f4", &[rows.texts.len(), length], &mut |out| {
        (0..rows.texts.len() as u32).try_for_each(|text| {
            let own = rows.embeddings.get(&text).filter(|own| own.len() == length);
            (0..length)
                .map(|at| own.map_or(0.0, |own| own[at]))
                .try_for_each(|value| out.write_all(&value.to_le_bytes()))
        })
    })?;
    let meta = json!({
        "ids": IDS,
        "numbers": rows.schema.fields,
        "drivers": Driver::ALL.map(Driver::name),
        "texts": rows.texts.len(),
        "behaviours": BEHAVIOURS,
        "embedding": length,
    });
    std::fs::write(folder.join("meta.json"), serde_json::to_vec_pretty(&meta)?)?;
    Ok(())
}

/// Writes probabilities of the test impressions as a peer would.
///
/// # Errors
/// A folder that cannot be written to.
pub fn write_predictions(predictions: &[f32], name: &str, folder: &Path) -> Result<()> {
    let path = folder.join(format!("predictions_{name}.npy"));
    npy(&path, "<f4", &[predictions.len()], &mut |out| {
        predictions.iter().try_for_each(|p| out.write_all(&p.to_le_bytes()))
    })
    .with_context(|| path.display().to_string())
}

type Out = BufWriter<File>;

/// One array in numpy's format 1.0.
fn npy(
    path: &Path,
    descr: &str,
    shape: &[usize],
    fill: &mut dyn FnMut(&mut Out) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let shape: Vec<String> = shape.iter().map(|n| format!("{n},")).collect();
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", shape.join(" "));
    // Magic, version and length are 10 bytes; all of it ends at a multiple of 64.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    fill(&mut out)?;
    out.flush()
}

/// Reads a one-dimensional f32 array that numpy has written.
///
/// # Errors
/// A file that is none.
pub fn read_floats(path: &Path) -> Result<Vec<f32>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let what = || format!("{} is no array of f32", path.display());
    anyhow::ensure!(bytes.len() >= 10 && bytes.starts_with(b"\x93NUMPY\x01"), what());
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = bytes.get(10..start).with_context(what)?;
    anyhow::ensure!(header.windows(3).any(|part| part == b"<f4"), what());
    Ok(schemas::vector::floats(&bytes[start..]).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed setup is a failed test")]
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let path = std::env::temp_dir().join(format!("salience-npy-{}.npy", std::process::id()));
        let values = [1.5_f32, -2.0, 0.25];
        npy(&path, "<f4", &[3], &mut |out| {
            values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
        })
        .unwrap();
        let (read, bytes) = (read_floats(&path).unwrap(), std::fs::read(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read, values);
        assert_eq!((bytes.len() - 12) % 64, 0, "numpy maps data at multiples of 64");
    }
}
