//! A journal in a plain directory: one file per entry, named by its index.
//!
//! The example of docs/backends.md, where it is explained part by part; what stands there between `ANCHOR` lines is this.

// ANCHOR: read
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::ports::{Journal, JournalEntry};

/// The journal in a directory, which must be there.
#[derive(Clone, Debug)]
pub struct DirectoryJournal {
    directory: PathBuf,
}

impl DirectoryJournal {
    /// The journal in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }
}

fn file_of(directory: &Path, index: u64) -> PathBuf {
    directory.join(format!("{index:08}.entry"))
}

/// A checksum and the entry.
fn read_entry(directory: &Path, index: u64) -> ProviderResult<Option<JournalEntry>> {
    let what = || format!("read entry {index} of journal {}", directory.display());
    let text = match fs::read_to_string(file_of(directory, index)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
        Err(error) => return Err(ProviderError::new(ErrorKind::Unavailable, what(), error)),
    };
    let entry = text
        .split_once('\n')
        .filter(|(sum, json)| *sum == format!("{:08x}", crc32fast::hash(json.as_bytes())))
        .and_then(|(_, json)| serde_json::from_str::<JournalEntry>(json).ok())
        .filter(|entry| entry.index == index);
    match entry {
        Some(entry) => Ok(Some(entry)),
        None => {
            let reason = "it is damaged; restore the file from a copy";
            Err(ProviderError::new(ErrorKind::Invalid, what(), reason))
        }
    }
}

fn read(directory: &Path) -> ProviderResult<Vec<JournalEntry>> {
    let what = || format!("read journal {}", directory.display());
    let failed = |error| ProviderError::new(ErrorKind::Unavailable, what(), error);
    let mut files = 0;
    for file in fs::read_dir(directory).map_err(failed)? {
        // What a power cut left of an entry has another name, and was never acknowledged.
        files += u64::from(file.map_err(failed)?.path().extension().is_some_and(|ending| ending == "entry"));
    }
    let mut entries = Vec::new();
    for index in 0..files {
        let missing = || ProviderError::new(ErrorKind::Invalid, what(), format!("entry {index} is missing"));
        entries.push(read_entry(directory, index)?.ok_or_else(missing)?);
    }
    Ok(entries)
}
// ANCHOR_END: read

// ANCHOR: append
fn append(directory: &Path, entry: &JournalEntry) -> ProviderResult<()> {
    let what = || format!("append entry {} to journal {}", entry.index, directory.display());
    let held = read(directory)?;
    if let Some(term) = held.iter().map(|held| held.term).max().filter(|term| *term > entry.term) {
        return Err(ProviderError::new(ErrorKind::Superseded, what(), format!("term {term} is in force")));
    }
    let conflict = || {
        let reason = "it holds another number of entries; read it again";
        ProviderError::new(ErrorKind::Conflict, what(), reason)
    };
    if entry.index != held.len() as u64 {
        return Err(conflict());
    }
    let json = serde_json::to_string(entry)
        .map_err(|error| ProviderError::new(ErrorKind::Invalid, what(), error))?;
    let written = tempfile::NamedTempFile::new_in(directory).and_then(|mut file| {
        write!(file, "{:08x}\n{json}", crc32fast::hash(json.as_bytes()))?;
        file.as_file().sync_all()?;
        Ok(file)
    });
    let written = written.map_err(|error| ProviderError::new(ErrorKind::Unavailable, what(), error))?;
    // The compare-and-set: of several that come this far with the same index, one gets the name. An entry of a higher term
    // that slipped in since the look above has it already.
    match written.persist_noclobber(file_of(directory, entry.index)) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Err(conflict()),
        Err(error) => return Err(unknown(what(), &error.error)),
    }
    // The name is durable only once its directory is.
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| unknown(what(), &error))
}

/// It may be there after all.
fn unknown(what: String, error: &io::Error) -> ProviderError {
    ProviderError::new(ErrorKind::Unavailable, what, error).with_outcome(Outcome::Unknown)
}
// ANCHOR_END: append

// ANCHOR: port
#[async_trait]
impl Journal for DirectoryJournal {
    async fn read(&self) -> ProviderResult<Vec<JournalEntry>> {
        let directory = self.directory.clone();
        blocking(move || read(&directory)).await
    }

    async fn append(&self, entry: &JournalEntry) -> ProviderResult<()> {
        let (directory, entry) = (self.directory.clone(), entry.clone());
        blocking(move || append(&directory, &entry)).await
    }
}

/// Files are read and written on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> ProviderResult<T> + Send + 'static,
) -> ProviderResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(given) => given,
        Err(died) => Err(unknown("use the journal".into(), &io::Error::other(died))),
    }
}
// ANCHOR_END: port
