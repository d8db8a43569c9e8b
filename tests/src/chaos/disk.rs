//! Faults of the object store, which is a folder: paths at which everything fails, and snapshots
//! that are damaged.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// A path at which everything fails, until [`Blocked::mend`] or the end: a file stands where a
/// folder is expected, and takes and gives nothing. Owners of rights are no different from others.
pub(super) struct Blocked {
    path: PathBuf,
    aside: PathBuf,
    mended: bool,
}

impl Blocked {
    /// Puts a folder aside and a file into its place, in one step: nobody finds it missing, and so
    /// makes a new one.
    ///
    /// # Errors
    /// No such folder, or a system that cannot do it in one step.
    pub(super) fn new(path: &Path) -> Result<Self> {
        ensure!(path.is_dir(), "{} is no folder", path.display());
        let mut aside = path.as_os_str().to_owned();
        aside.push(".aside");
        let aside = PathBuf::from(aside);
        fs::write(&aside, "").with_context(|| format!("cannot write {}", aside.display()))?;
        exchange(path, &aside)?;
        Ok(Self { path: path.to_owned(), aside, mended: false })
    }

    /// Puts the folder back.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn mend(mut self) -> Result<()> {
        self.mended = true;
        self.put_back()
    }

    fn put_back(&self) -> Result<()> {
        exchange(&self.path, &self.aside)?;
        fs::remove_file(&self.aside).with_context(|| format!("cannot remove {}", self.aside.display()))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if !self.mended {
            // Only on the way out of a failure, which is told.
            let _tried = self.put_back();
        }
    }
}

fn exchange(a: &Path, b: &Path) -> Result<()> {
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)
        .with_context(|| format!("cannot exchange {} and {}", a.display(), b.display()))
}

/// The newest snapshot of each unit of a service, in the order of the units.
pub(super) fn newest_snapshots(store: &Path, service: &str) -> Vec<PathBuf> {
    let mut units = entries(&store.join("snapshots").join(service));
    units.sort();
    let snapshots = |unit: PathBuf| {
        let files = entries(&unit).into_iter();
        files.filter(|file| file.extension().is_some_and(|extension| extension == "snap")).max()
    };
    units.into_iter().filter_map(snapshots).collect()
}

/// Cuts a file short, to a length that `dice` chooses.
///
/// # Errors
/// The file system's.
pub(super) fn truncate(file: &Path, dice: u64) -> Result<()> {
    let length = fs::metadata(file)?.len();
    File::options().write(true).open(file)?.set_len(dice % length.max(1))?;
    Ok(())
}

/// Flips one bit of a file, which `dice` chooses.
///
/// # Errors
/// The file system's.
pub(super) fn flip(file: &Path, dice: u64) -> Result<()> {
    let mut bytes = fs::read(file)?;
    ensure!(!bytes.is_empty(), "{} is empty", file.display());
    let at = (dice / 8) as usize % bytes.len();
    bytes[at] ^= 1 << (dice % 8);
    fs::write(file, bytes)?;
    Ok(())
}

/// Names of the data files of a table, in all its folders.
pub(super) fn data_files(table: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![table.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_can_be_done_at_a_blocked_path_and_all_is_there_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::create_dir_all(store.join("snapshots")).unwrap();
        fs::write(store.join("snapshots/a"), "a").unwrap();
        let blocked = Blocked::new(&store).unwrap();
        let refused = [
            fs::read(store.join("snapshots/a")).unwrap_err(),
            fs::write(store.join("snapshots/b"), "b").unwrap_err(),
            fs::create_dir_all(store.join("snapshots/c")).unwrap_err(),
            fs::read_dir(store.join("snapshots")).unwrap_err(),
        ];
        for error in refused {
            // Not `NotFound`, which would say that there is nothing.
            assert!(
                matches!(error.kind(), std::io::ErrorKind::NotADirectory | std::io::ErrorKind::AlreadyExists),
                "{error}"
            );
        }
        assert_eq!(fs::read(folder.path().join("store.aside/snapshots/a")).unwrap(), b"a");
        blocked.mend().unwrap();
        assert_eq!(fs::read(store.join("snapshots/a")).unwrap(), b"a");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_newest_snapshot_of_each_unit_is_damaged_in_one_place() {
        let folder = tempfile::tempdir().unwrap();
        for (unit, number) in [(0, 9), (0, 10), (1, 3)] {
            let unit = folder.path().join(format!("snapshots/merge/{unit}"));
            fs::create_dir_all(&unit).unwrap();
            fs::write(unit.join(format!("{number:020}.snap")), [7; 100]).unwrap();
            fs::write(unit.join("note"), "").unwrap();
        }
        let newest = newest_snapshots(folder.path(), "merge");
        let names: Vec<_> = newest.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["00000000000000000010.snap", "00000000000000000003.snap"]);
        flip(&newest[0], 12_345).unwrap();
        let changed: u32 = fs::read(&newest[0]).unwrap().iter().map(|byte| (byte ^ 7).count_ones()).sum();
        assert_eq!(changed, 1);
        truncate(&newest[1], 12_345).unwrap();
        assert_eq!(fs::metadata(&newest[1]).unwrap().len(), 45);
    }
}
