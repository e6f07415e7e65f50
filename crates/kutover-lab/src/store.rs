//! The lab's state in its data directory: small JSON files, each replaced whole.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process;

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A data directory.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    pub(crate) fn open(dir: &Path) -> ProviderResult<Self> {
        fs::create_dir_all(dir).map_err(|error| {
            let reason = format!("{error}; name a directory that can be written");
            ProviderError::new(ErrorKind::Unavailable, format!("data directory {}", dir.display()), reason)
        })?;
        // Absolute, because it stands in configuration files and command lines of processes that outlive this one.
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        Ok(Self { dir })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes this process the one that acts on the directory, for as long as the file is held.
    ///
    /// # Errors
    /// Another process is; the text names its pid.
    pub(crate) fn own(&self) -> ProviderResult<File> {
        let path = self.dir.join("lab.lock");
        let mut file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| self.failed("lab.lock", &error))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut owner = String::new();
            let _ = file.read_to_string(&mut owner);
            let reason =
                format!("process {} runs this world; end it first, or use another directory", owner.trim());
            let what = format!("data directory {}", self.dir.display());
            return Err(ProviderError::new(ErrorKind::Unavailable, what, reason));
        }
        let told = file.set_len(0).and_then(|()| file.write_all(process::id().to_string().as_bytes()));
        told.map_err(|error| self.failed("lab.lock", &error))?;
        Ok(file)
    }

    /// What a file holds; `None` if it is not there.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> ProviderResult<Option<T>> {
        let bytes = match fs::read(self.dir.join(name)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(name, &error)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let what = format!("lab state {}", self.dir.join(name).display());
            ProviderError::new(
                ErrorKind::Invalid,
                what,
                format!("{error}; it was not written by this version"),
            )
        })
    }

    /// Replaces a file whole.
    pub(crate) fn write<T: Serialize>(&self, name: &str, value: &T) -> ProviderResult<()> {
        let beside = self.dir.join(format!("{name}.new"));
        let written = serde_json::to_vec_pretty(value).map_err(io::Error::other).and_then(|bytes| {
            let mut file = File::create(&beside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&beside, self.dir.join(name))
        });
        written.map_err(|error| self.failed(name, &error))
    }

    /// Removes a file or a directory with all that is in it, if it is there.
    pub(crate) fn remove(&self, name: &str) -> ProviderResult<()> {
        let path = self.dir.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(name, &error)),
            _ => Ok(()),
        }
    }

    fn failed(&self, name: &str, error: &io::Error) -> ProviderError {
        ProviderError::new(
            ErrorKind::Unavailable,
            format!("lab state {}", self.dir.join(name).display()),
            error,
        )
    }
}
