//! How a program of Apache Kafka is run: in a small JVM that is quick to start.
//!
//! Most of a start is loading classes. The first JVM of a program that ends in good order leaves them in an archive beside
//! the jars (class data sharing, JEP 350), and later ones map it: a broker serves in a third of the time. A JVM takes an
//! archive only if it was made by the same JVM from the same jars, and does without where it was not.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};
use tracing::debug;

use super::jars;

const RECORD: &str = "-XX:ArchiveClassesAtExit=";

/// A program of Kafka's with all that its JVM is started with.
pub(crate) struct Jvm {
    /// The arguments of `java`, up to the program's own.
    pub(crate) args: Vec<String>,
    /// What it leaves behind if it ends in good order.
    pub(crate) recording: Option<Recording>,
}

impl Jvm {
    /// A JVM with so much heap for the class `main` of these jars. What it writes by the way goes to `scratch`.
    pub(crate) fn new(java: &Path, jars: &Path, heap_mib: u32, main: &str, scratch: &Path) -> Self {
        let mut args = vec![
            format!("-Xmx{heap_mib}m"),
            "-XX:+UseSerialGC".to_owned(),
            "-XX:TieredStopAtLevel=1".to_owned(),
            // An archive takes Java 13; an older one starts without.
            "-XX:+IgnoreUnrecognizedVMOptions".to_owned(),
        ];
        let archive = archive(java, jars, main);
        let recording = match archive {
            Some(archive) if archive.exists() => {
                args.push(format!("-XX:SharedArchiveFile={}", archive.display()));
                None
            }
            Some(archive) if !given_up().contains(&archive) => {
                let made = scratch.join(format!("{main}-{}.jsa", uuid::Uuid::new_v4().simple()));
                args.push(format!("{RECORD}{}", made.display()));
                Some(Recording { made, archive })
            }
            _ => None,
        };
        args.extend(["-cp".to_owned(), format!("{}/*", jars.display()), main.to_owned()]);
        Self { args, recording }
    }

    /// For one that nobody lets end in good order.
    pub(crate) fn leave_nothing(&mut self) {
        self.recording = None;
        self.args.retain(|arg| !arg.starts_with(RECORD));
    }
}

/// Archives that could not be made: a JVM older than 13 knows none.
fn given_up() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    static GIVEN_UP: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    GIVEN_UP.lock()
}

/// Where the archive of a program stands. None is made in a directory of the user's.
fn archive(java: &Path, jars: &Path, main: &str) -> Option<PathBuf> {
    let folder = jars.parent().filter(|folder| jars::is_of_the_cache(folder))?;
    Some(folder.join(format!("{main}-{:08x}.jsa", identity(java))))
}

/// Tells one `java` from another, so that a newer one makes an archive of its own.
fn identity(java: &Path) -> u32 {
    let folders = env::var_os("PATH").unwrap_or_default();
    // A launcher that is named with its folder is found as it is.
    let in_path = env::split_paths(&folders).map(|folder| folder.join(java)).find(|path| path.is_file());
    let java = in_path.and_then(|path| fs::canonicalize(path).ok()).unwrap_or_else(|| java.to_owned());
    let changed = fs::metadata(&java).and_then(|metadata| metadata.modified()).ok();
    crc32fast::hash(format!("{} {changed:?}", java.display()).as_bytes())
}

/// An archive that a JVM makes at its end.
#[derive(Debug)]
pub(crate) struct Recording {
    made: PathBuf,
    archive: PathBuf,
}

impl Recording {
    /// Puts it where later ones look for it, once its JVM has ended in good order. Where there is none, or no room for it, this
    /// process does not try again.
    pub(crate) fn keep(&self) {
        if let Err(error) = self.try_keep() {
            debug!(archive = %self.archive.display(), "no archive of classes: {error}");
            given_up().insert(self.archive.clone());
        }
        // It was moved, or is in nobody's way.
        let _ = fs::remove_file(&self.made);
    }

    fn try_keep(&self) -> io::Result<()> {
        // Whole or not at all, also where the scratch folder is on another disk.
        let folder = self.archive.parent().unwrap_or(Path::new("."));
        let whole = tempfile::NamedTempFile::new_in(folder)?;
        fs::copy(&self.made, whole.path())?;
        whole.persist(&self.archive)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(jvm: &Jvm, option: &str) -> bool {
        jvm.args.iter().any(|arg| arg.starts_with(option))
    }

    #[test]
    fn the_first_leaves_an_archive_and_the_next_takes_it() {
        let cache = tempfile::tempdir().expect("a directory");
        let scratch = tempfile::tempdir().expect("a directory");
        let jars = cache.path().join("libs");
        let jvm = || Jvm::new(Path::new("java"), &jars, 512, "kafka.Kafka", scratch.path());
        assert!(jvm().recording.is_none(), "a directory of the user's is left alone");
        fs::write(cache.path().join(jars::MANIFEST), "{}").expect("written");
        let first = jvm();
        let recording = first.recording.as_ref().expect("there is none yet");
        assert!(has(&first, RECORD));
        let mut one_of_three = jvm();
        one_of_three.leave_nothing();
        assert!(one_of_three.recording.is_none() && !has(&one_of_three, RECORD));
        assert!(jvm().recording.is_some(), "it was killed, and left nothing");
        fs::write(&recording.made, "classes").expect("written");
        recording.keep();
        let next = jvm();
        assert!(next.recording.is_none() && has(&next, "-XX:SharedArchiveFile="));
        assert!(!recording.made.exists());
    }

    #[test]
    fn where_none_can_be_made_it_is_tried_once() {
        let cache = tempfile::tempdir().expect("a directory");
        let scratch = tempfile::tempdir().expect("a directory");
        fs::write(cache.path().join(jars::MANIFEST), "{}").expect("written");
        let jars = cache.path().join("libs");
        let jvm = || Jvm::new(Path::new("java"), &jars, 512, "kafka.Kafka", scratch.path());
        jvm().recording.expect("there is none yet").keep();
        let next = jvm();
        assert!(next.recording.is_none() && !has(&next, RECORD) && !has(&next, "-XX:SharedArchiveFile="));
    }
}
