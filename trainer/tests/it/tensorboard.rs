//! The real `TensorBoard` reads our event files.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use trainer::tensorboard::{Events, PrCurve, THRESHOLDS, file_name, read};

/// What `TensorBoard` finds in a folder; `None`, said aloud, where no Python has it.
pub(crate) fn tensorboard(folder: &Path) -> Option<Value> {
    let Some(python) = std::env::var_os("TEST_PYTHON") else {
        eprintln!("SKIPPED: TEST_PYTHON names no Python with tensorboard");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_events.py");
    let output = Command::new(python).arg(script).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn tensorboard_reads_scalars_histograms_and_pr_curves() {
    let folder = tempfile::tempdir().unwrap();
    let mut events = Events::new(1_700_000_000_000);
    for step in 1..=4_u64 {
        events.scalars(
            1_700_000_000_000,
            step,
            [("loss/training", 0.5 / step as f64), ("learning_rate", 0.001)],
        );
    }
    events.histogram(1_700_000_001_000, 4, "weights/layer.0", &[-0.5, 0.0, 0.25, 1.5]);
    let curve = PrCurve::of((0..100_u32).map(|at| (at as f32 / 100.0, at % 4 == 0 || at > 70)));
    events.pr_curve(1_700_000_002_000, 4, "validation/click", &curve);
    std::fs::write(folder.path().join(file_name(1_700_000_000_000)), events.bytes()).unwrap();

    let ours = read(events.bytes()).unwrap();
    assert_eq!(ours.len(), 4);
    let Some(theirs) = tensorboard(folder.path()) else { return };
    assert_eq!(theirs["scalars"]["loss/training"][1], json!([2, 0.25]));
    assert_eq!(theirs["scalars"]["learning_rate"].as_array().unwrap().len(), 4);
    assert_eq!(theirs["histograms"]["weights/layer.0"], json!([[4, 4.0, -0.5, 1.5, 4.0]]));
    let read = &theirs["pr_curves"]["validation/click"];
    assert_eq!(read["thresholds"], json!(THRESHOLDS));
    let values: Vec<Vec<f32>> = serde_json::from_value(read["values"][0][1].clone()).unwrap();
    assert_eq!(values, curve.rows);
}
