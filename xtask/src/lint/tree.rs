//! The repository's own files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// A text file of the repository.
pub(crate) struct TextFile {
    /// Below the root, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

/// Hidden folders that belong to the repository; all others are some tool's.
const HIDDEN: &[&str] = &[".cargo", ".ci", ".github"];
/// Endings of files that people write here. Cargo.lock and the licences are not among them.
const ENDINGS: &[&str] =
    &["rs", "md", "toml", "sh", "yml", "yaml", "json", "xml", "proto", "properties", "html"];

/// Every text file that people write, in the order of their paths. Build folders are known by their CACHEDIR.TAG.
pub(crate) fn text_files(root: &Path) -> Result<Vec<TextFile>> {
    let mut paths = Vec::new();
    collect(root, &mut paths)?;
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let below = path.strip_prefix(root).context("a file outside the root")?;
            Ok(TextFile { path: below.to_string_lossy().replace('\\', "/"), text })
        })
        .collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if folder.join("CACHEDIR.TAG").exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            let foreign = name.starts_with('.') && !HIDDEN.contains(&name.as_str());
            if !foreign && name != "target" && name != "node_modules" {
                collect(&path, found)?;
            }
        } else if path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known))
            || folder.file_name().is_some_and(|name| name == ".ci")
        {
            found.push(path);
        }
    }
    Ok(())
}
