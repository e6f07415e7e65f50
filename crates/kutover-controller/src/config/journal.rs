//! Where the journal is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where the journal is: in the file a path, or `s3://BUCKET/KEY`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PathBuf", into = "PathBuf")]
pub enum JournalPlace {
    /// A file.
    File(PathBuf),
    /// An object in S3.
    S3 {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
}

const S3: &str = "s3://";

impl JournalPlace {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::S3 { .. } => None,
        }
    }

    /// Takes a relative path from this directory.
    pub(super) fn beside(&mut self, directory: &Path) {
        if let Self::File(path) = self {
            *path = directory.join(&*path);
        }
    }
}

impl TryFrom<PathBuf> for JournalPlace {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        let Some(place) = path.to_str().and_then(|text| text.strip_prefix(S3)) else {
            return Ok(Self::File(path));
        };
        match place.split_once('/') {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                Ok(Self::S3 { bucket: bucket.into(), key: key.into() })
            }
            _ => Err(format!("`{}` names no object; write {S3}BUCKET/KEY", path.display())),
        }
    }
}

impl From<JournalPlace> for PathBuf {
    fn from(place: JournalPlace) -> Self {
        match place {
            JournalPlace::File(path) => path,
            JournalPlace::S3 { bucket, key } => format!("{S3}{bucket}/{key}").into(),
        }
    }
}
