//! Which worlds run, so that servers that a killed process left behind are ended by the next one.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use super::process::end_leftovers;

/// Registers a disposable world, and ends the servers of those whose process is gone. Each registration is a file
/// that its process holds locked: the system lets go of the lock when the process ends, however it ends.
pub(crate) async fn register(cache: &Path, data_dir: &Path) -> std::io::Result<Registration> {
    let worlds = cache.join("worlds");
    fs::create_dir_all(&worlds)?;
    for entry in fs::read_dir(&worlds)?.flatten() {
        let path = entry.path();
        let Ok(file) = File::open(&path) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        if let Ok(dir) = fs::read_to_string(&path).map(PathBuf::from)
            && dir.is_absolute()
        {
            end_leftovers(&dir).await;
        }
        let _ = fs::remove_file(&path);
    }
    // Written and locked under another name first: a file that stands in the folder is always locked by its owner.
    let beside = cache.join(format!(".world-{}", Uuid::new_v4().simple()));
    let mut file = File::create(&beside)?;
    flock(&file, FlockOperation::LockExclusive)?;
    file.write_all(data_dir.as_os_str().as_encoded_bytes())?;
    let path = worlds.join(Uuid::new_v4().simple().to_string());
    fs::rename(&beside, &path)?;
    Ok(Registration { path, _file: file })
}

/// A running world's registration; it ends with its handle.
#[derive(Debug)]
pub(crate) struct Registration {
    path: PathBuf,
    _file: File,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apache::process::{ServerProcess, sleeper};

    /// A server in a world's directory, as the lab starts them.
    fn server(world: &Path) -> ServerProcess {
        fs::create_dir_all(world).expect("a directory");
        sleeper(world)
    }

    #[tokio::test]
    async fn servers_of_a_world_whose_process_is_gone_are_ended_and_no_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = dir.path().join("cache");
        let (dead, living) = (dir.path().join("dead"), dir.path().join("living"));
        let (orphan, kept) = (server(&dead), server(&living));
        let registered = register(&cache, &living).await.expect("registered");
        // What a process that was killed leaves: a registration that nobody holds.
        fs::write(cache.join("worlds/dead"), dead.as_os_str().as_encoded_bytes()).expect("a registration");
        let other = register(&cache, &dir.path().join("new")).await.expect("registered");
        assert!(!orphan.is_running());
        assert!(kept.is_running());
        drop((registered, other));
        assert_eq!(fs::read_dir(cache.join("worlds")).expect("the folder").count(), 0);
    }
}
