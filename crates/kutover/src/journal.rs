//! The journal that a configuration names: to write it, or only to look.

use std::path::Path;
use std::sync::Arc;

use kutover_controller::config::{Config, JournalPlace};
use kutover_controller::journal::FileJournal;
use kutover_core::ports::{Journal, JournalEntry};

use crate::aws;
use crate::failure::Failure;

/// Opens it for a controller: a file is locked.
///
/// # Errors
/// It is locked by another controller, damaged, or cannot be reached.
pub(crate) async fn open(config: &Config) -> Result<Arc<dyn Journal>, Failure> {
    match &config.journal {
        JournalPlace::File(path) => open_file(path).await,
        JournalPlace::S3 { bucket, key } => aws::journal(&config.aws, bucket, key).await,
    }
}

async fn open_file(path: &Path) -> Result<Arc<dyn Journal>, Failure> {
    let journal: Arc<dyn Journal> = Arc::new(FileJournal::open(path).await.map_err(Failure::of_file)?);
    Ok(journal)
}

/// What stands in it at this moment, also while a controller has it.
///
/// # Errors
/// It is damaged, or cannot be read.
pub(crate) async fn peek(config: &Config) -> Result<Vec<JournalEntry>, Failure> {
    match &config.journal {
        JournalPlace::File(path) => FileJournal::peek(path).await.map_err(Failure::of_file),
        JournalPlace::S3 { .. } => open(config).await?.read().await.map_err(Failure::of_file),
    }
}
