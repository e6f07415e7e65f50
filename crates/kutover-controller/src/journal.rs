//! The journal as a file: one line per entry, each with its length and checksums, each synced before it counts.
//!
//! ```text
//! kutover-journal 1
//! 0000003e 5d1f02c3 9a0b11e4 {"index":0,"term":1,"body":{..}}
//! ```
//!
//! A line's header says the length and the CRC-32 of its body, and ends with the CRC-32 of those two. So a line that was
//! cut off while being written (it was never acknowledged, and is dropped) differs from one that was damaged later:
//! with an intact header and too few bytes, or with too few bytes for a header, it was cut off; everything else is
//! damage, also in the last line. The file is locked for as long as it is open, so that two controllers on one machine
//! cannot write in turns; between machines the term decides.

mod format;

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::ports::{Journal, JournalEntry};
use kutover_core::words::Term;
use parking_lot::Mutex;

/// A journal in a file. Open it once per process; it is unlocked when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct FileJournal {
    open: Arc<Mutex<Open>>,
    path: Arc<Path>,
}

#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    /// Bytes that hold whole entries; what stands behind them was cut off.
    good_bytes: u64,
    entries: u64,
    term: Term,
    /// A sync failed: what the disk holds is not known any more.
    lost_track: bool,
    /// Makes what was written durable; a test's fails where a disk would.
    sync: fn(&File) -> std::io::Result<()>,
}

impl FileJournal {
    /// Opens a journal and locks it; makes an empty one where there is none.
    ///
    /// # Errors
    /// The directory is missing, the file is locked by another controller, or damaged.
    pub async fn open(path: &Path) -> ProviderResult<Self> {
        let owned = path.to_owned();
        let open = off_the_workers(path, move || Open::new(owned)).await?;
        Ok(Self { open: Arc::new(Mutex::new(open)), path: path.into() })
    }

    /// What a journal holds, read while another process may have it open: all whole entries at this moment. None where
    /// there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub async fn peek(path: &Path) -> ProviderResult<Vec<JournalEntry>> {
        let owned = path.to_owned();
        off_the_workers(path, move || {
            let what = format!("read journal {}", owned.display());
            check_regular(&what, std::fs::metadata(&owned))?;
            match std::fs::read(&owned) {
                Ok(bytes) => whole_entries(&what, &bytes).map(|(entries, _)| entries),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(io_error(&what, &error)),
            }
        })
        .await
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[async_trait]
impl Journal for FileJournal {
    async fn read(&self) -> ProviderResult<Vec<JournalEntry>> {
        let open = Arc::clone(&self.open);
        off_the_workers(&self.path, move || open.lock().read()).await
    }

    async fn append(&self, entry: &JournalEntry) -> ProviderResult<()> {
        let open = Arc::clone(&self.open);
        let entry = entry.clone();
        off_the_workers(&self.path, move || open.lock().append(&entry)).await
    }
}

/// Files block, so they are kept off the async workers.
async fn off_the_workers<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> ProviderResult<T> + Send + 'static,
) -> ProviderResult<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let what = format!("journal {}", path.display());
        Err(ProviderError::new(ErrorKind::Unavailable, what, error).with_outcome(Outcome::Unknown))
    })
}

/// A device or a pipe keeps nothing, and may never end.
fn check_regular(what: &str, found: std::io::Result<std::fs::Metadata>) -> ProviderResult<()> {
    match found {
        Ok(found) if !found.is_file() => {
            let reason = "it is not a regular file; name one in `journal`";
            Err(ProviderError::new(ErrorKind::Invalid, what, reason))
        }
        _ => Ok(()),
    }
}

fn whole_entries(what: &str, bytes: &[u8]) -> ProviderResult<(Vec<JournalEntry>, u64)> {
    format::parse(bytes).map_err(|damage| {
        let what = format!("{what}, {}", damage.place);
        let reason = format!("{}; restore the file from a copy", damage.reason);
        ProviderError::new(ErrorKind::Invalid, what, reason)
    })
}

impl Open {
    fn new(path: PathBuf) -> ProviderResult<Self> {
        let what = format!("open journal {}", path.display());
        let failed = |error: std::io::Error| io_error(&what, &error);
        let existed = path.exists();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        check_regular(&what, file.metadata())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let reason =
                    "another controller has it locked; end that one, or name another file in `journal`";
                return Err(ProviderError::new(ErrorKind::Refused, what, reason));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut open = Self {
            file,
            path,
            good_bytes: 0,
            entries: 0,
            term: Term(0),
            lost_track: false,
            sync: File::sync_all,
        };
        open.read()?;
        if open.good_bytes == 0 {
            open.replace_tail(format::MAGIC).map_err(failed)?;
        }
        if !existed {
            // The name is durable only once its directory is.
            let parent = open.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all()).map_err(failed)?;
        }
        Ok(open)
    }

    fn read(&mut self) -> ProviderResult<Vec<JournalEntry>> {
        let what = format!("read journal {}", self.path.display());
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.read_to_end(&mut bytes))
            .map_err(|error| io_error(&what, &error))?;
        let (entries, good_bytes) = whole_entries(&what, &bytes)?;
        self.good_bytes = good_bytes;
        self.entries = entries.len() as u64;
        self.term = entries.iter().map(|entry| entry.term).max().unwrap_or_default();
        Ok(entries)
    }

    fn append(&mut self, entry: &JournalEntry) -> ProviderResult<()> {
        let what = format!("append entry {} to journal {}", entry.index, self.path.display());
        if self.lost_track {
            let reason =
                "an earlier entry could not be made durable; free or repair the disk and start again";
            return Err(ProviderError::new(ErrorKind::Unavailable, what, reason));
        }
        if self.term > entry.term {
            let reason = format!("term {} is in force, this is term {}", self.term, entry.term);
            return Err(ProviderError::new(ErrorKind::Superseded, what, reason));
        }
        if entry.index != self.entries {
            let reason = format!("it has {} entries; read it again", self.entries);
            return Err(ProviderError::new(ErrorKind::Conflict, what, reason));
        }
        let line =
            format::line(entry).map_err(|reason| ProviderError::new(ErrorKind::Invalid, &what, reason))?;
        self.replace_tail(&line).map_err(|error| io_error(&what, &error).with_outcome(Outcome::Unknown))?;
        self.entries += 1;
        self.term = entry.term;
        Ok(())
    }

    /// Writes bytes behind the last whole entry, in place of what was cut off there, and makes them durable.
    fn replace_tail(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.set_len(self.good_bytes)?;
        self.file.seek(SeekFrom::Start(self.good_bytes))?;
        self.file.write_all(bytes)?;
        // After a sync that failed, what the disk holds is not known: the kernel reports a failed write-back once and
        // then forgets it, so that a second sync that works proves nothing.
        self.lost_track = true;
        (self.sync)(&self.file)?;
        self.lost_track = false;
        self.good_bytes += bytes.len() as u64;
        Ok(())
    }
}

fn io_error(what: &str, error: &std::io::Error) -> ProviderError {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::NotFound => {
            let reason = format!("{error}; make the directory, or name another file in `journal`");
            ProviderError::new(ErrorKind::NotFound, what, reason)
        }
        Io::PermissionDenied => {
            let reason =
                format!("{error}; give this user the right to write it, or name another file in `journal`");
            ProviderError::new(ErrorKind::NotAuthorised, what, reason)
        }
        Io::IsADirectory => {
            ProviderError::new(ErrorKind::Invalid, what, format!("{error}; name a file in `journal`"))
        }
        _ => ProviderError::new(ErrorKind::Unavailable, what, format!("{error}; free or repair the disk")),
    }
}
