//! Copies of the peers' folders, so that nothing is written into those.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// What a peer makes for itself, and what is no part of it.
const MADE: [&str; 6] = ["node_modules", "dist", "generated", "logs", "target", ".venv"];

/// Copies what has changed, so that what was built from the rest stays newer than it. Says whether anything had.
pub fn changed(from: &Path, to: &Path) -> Result<bool> {
    let entries = fs::read_dir(from).with_context(|| format!("there is no {}", from.display()))?;
    fs::create_dir_all(to).with_context(|| format!("could not make {}", to.display()))?;
    let mut changed = false;
    for entry in entries {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if MADE.iter().any(|made| entry.file_name() == *made) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            changed |= self::changed(&source, &target)?;
        } else if fs::read(&source)? != fs::read(&target).unwrap_or_default() || !target.exists() {
            fs::copy(&source, &target).with_context(|| format!("could not copy {}", source.display()))?;
            changed = true;
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_changed_is_copied_and_nothing_that_was_made() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("src/generated")).unwrap();
        fs::write(from.path().join("src/a.ts"), "a").unwrap();
        fs::write(from.path().join("src/generated/b.ts"), "b").unwrap();
        assert!(changed(from.path(), to.path()).unwrap());
        assert!(to.path().join("src/a.ts").exists() && !to.path().join("src/generated").exists());
        assert!(!changed(from.path(), to.path()).unwrap());
        fs::write(from.path().join("src/a.ts"), "c").unwrap();
        assert!(changed(from.path(), to.path()).unwrap());
        assert!(changed(&from.path().join("nowhere"), to.path()).is_err());
    }
}
