//! Apache Kafka's jars: fetched by Maven once into the cache, or a Kafka directory of the user's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::tools::Tools;
use crate::spec::KafkaVersion;

pub(crate) const MANIFEST: &str = "manifest.json";

/// What a complete folder holds; written last.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// The CRC-32 of each jar.
    files: BTreeMap<String, u32>,
}

/// The folder with the jars of a version, fetched if it is not there yet.
///
/// # Errors
/// Maven is missing or fails, or the folder is damaged; the text names the folder and the fix.
pub(crate) async fn fetched(tools: &Tools, version: KafkaVersion) -> ProviderResult<PathBuf> {
    // Absolute, because Maven takes a relative folder as one beside the pom.
    let cache = absolute(&tools.cache);
    let folder = cache.join(format!("kafka-{version}"));
    let what = format!("get Apache Kafka {version}");
    let io_error = |error: io::Error| {
        let reason = format!(
            "cache {}: {error}; set KUTOVER_CACHE to a folder that can be written",
            tools.cache.display()
        );
        ProviderError::new(ErrorKind::Unavailable, &what, reason)
    };
    if folder.exists() {
        return verified(&what, &folder);
    }
    fs::create_dir_all(&cache).map_err(io_error)?;
    let _alone = lock(cache.join(format!(".kafka-{version}.lock"))).await.map_err(io_error)?;
    // Somebody else may have fetched it while we waited.
    if folder.exists() {
        return verified(&what, &folder);
    }
    // Fetched beside it and moved into place whole, so that a killed fetch leaves no half folder under its name; one that is
    // given up leaves nothing.
    let prefix = format!(".fetch-{version}-");
    let fetching = tempfile::Builder::new().prefix(&prefix).tempdir_in(&cache).map_err(io_error)?;
    fetch(tools, version, &what, fetching.path()).await?;
    complete(fetching.path(), &folder).map_err(io_error)?;
    // It is somewhere else by now.
    let _ = fetching.keep();
    verified(&what, &folder)
}

/// The folder with the jars of a Kafka directory of the user's.
///
/// # Errors
/// It holds no Kafka of that version.
pub(crate) fn of_the_user(directory: &Path, version: KafkaVersion) -> ProviderResult<PathBuf> {
    let libs = absolute(directory).join("libs");
    // The clients alone are what an application has beside it; the broker's jar is named for its version of Scala too.
    let named = |prefix: &str, suffix: &str| {
        let names = fs::read_dir(&libs).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .any(|name| name.starts_with(prefix) && name.ends_with(suffix))
    };
    let jar = libs.join(format!("kafka-clients-{version}.jar"));
    if jar.is_file() && named("kafka_2.", &format!("-{version}.jar")) {
        return Ok(libs);
    }
    let jar = if jar.is_file() { libs.join(format!("kafka_2.13-{version}.jar")) } else { jar };
    let reason = format!(
        "{} is missing; name a directory of Apache Kafka {version} (its `libs/*.jar` are used)",
        jar.display()
    );
    Err(ProviderError::new(
        ErrorKind::Refused,
        format!("use Kafka directory {}", directory.display()),
        reason,
    ))
}

/// Whether it is a folder that was fetched here, and no Kafka directory of the user's.
pub(crate) fn is_of_the_cache(folder: &Path) -> bool {
    folder.join(MANIFEST).is_file()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// An exclusive lock on a file, held until it is dropped; waits for it on a thread of its own.
pub(crate) async fn lock(path: PathBuf) -> io::Result<File> {
    tokio::task::spawn_blocking(move || {
        let file = File::options().create(true).write(true).truncate(false).open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    })
    .await
    .map_err(io::Error::other)?
}

/// The same if nobody holds it.
pub(crate) fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).write(true).truncate(false).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(error) if error == Errno::WOULDBLOCK => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn fetch(tools: &Tools, version: KafkaVersion, what: &str, into: &Path) -> ProviderResult<()> {
    let pom = into.join("pom.xml");
    fs::create_dir_all(into).and_then(|()| fs::write(&pom, pom_text(version))).map_err(|error| {
        ProviderError::new(ErrorKind::Unavailable, what, format!("{}: {error}", into.display()))
    })?;
    let args = [
        "-q".to_owned(),
        "-B".to_owned(),
        "-f".to_owned(),
        pom.display().to_string(),
        "dependency:copy-dependencies".to_owned(),
        format!("-DoutputDirectory={}", into.join("libs").display()),
    ];
    let fix = "install Maven (Debian: apt-get install maven), or unpack Apache Kafka yourself and name its directory (`kutover demo --kafka-dir \
               VERSION=DIRECTORY`; in Rust `ClusterSpec::kafka_dir`)";
    Tools::run(what, &tools.mvn, &args, fix).await
}

fn complete(fetching: &Path, folder: &Path) -> io::Result<()> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(fetching.join("libs"))? {
        let entry = entry?;
        files.insert(
            entry.file_name().to_string_lossy().into_owned(),
            crc32fast::hash(&fs::read(entry.path())?),
        );
    }
    let manifest = serde_json::to_vec_pretty(&Manifest { files }).map_err(io::Error::other)?;
    fs::write(fetching.join(MANIFEST), manifest)?;
    fs::rename(fetching, folder)
}

/// The jars' folder, if every file of the manifest is there as it was fetched. Java tells of a damaged jar in its own
/// words, which name neither the folder nor the fix.
fn verified(what: &str, folder: &Path) -> ProviderResult<PathBuf> {
    let damaged = |reason: String| {
        let fix = format!("the cache is damaged: {reason}; delete {} and try again", folder.display());
        Err(ProviderError::new(ErrorKind::Invalid, what, fix))
    };
    let manifest = match fs::read(folder.join(MANIFEST)) {
        Ok(bytes) => bytes,
        Err(error) => return damaged(format!("{MANIFEST} cannot be read ({error})")),
    };
    let manifest: Manifest = match serde_json::from_slice(&manifest) {
        Ok(manifest) => manifest,
        Err(error) => return damaged(format!("{MANIFEST} makes no sense ({error})")),
    };
    let libs = folder.join("libs");
    if manifest.files.is_empty() {
        return damaged(format!("{MANIFEST} names no jars"));
    }
    for (name, check) in manifest.files {
        match fs::read(libs.join(&name)) {
            Ok(found) if crc32fast::hash(&found) == check => {}
            Ok(_) => return damaged(format!("{name} is not as it was fetched")),
            Err(error) => return damaged(format!("{name} cannot be read ({error})")),
        }
    }
    Ok(libs)
}

/// The pom whose dependencies are a broker with its tools, ZooKeeper and Connect.
fn pom_text(version: KafkaVersion) -> String {
    let own = version.to_string();
    let mut artifacts = vec![
        ("org.apache.kafka", "kafka_2.13", own.as_str()),
        ("org.apache.kafka", "connect-runtime", &own),
        ("org.apache.kafka", "connect-file", &own),
    ];
    // 4.4.0 was released without it.
    if (version.major, version.minor) < (4, 4) {
        artifacts.push(("org.apache.kafka", "kafka-tools", &own));
    }
    // Kafka names SLF4J 1.7 and leaves the binding out; before 4.0 it also needs log4j 1 itself.
    artifacts.push(("org.slf4j", "slf4j-reload4j", "1.7.36"));
    let mut dependencies = String::new();
    for (group, artifact, version) in artifacts {
        let _ = writeln!(
            dependencies,
            "    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        );
    }
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  \
         <groupId>kutover</groupId>\n  <artifactId>kafka-jars</artifactId>\n  <version>1</version>\n  \
         <packaging>pom</packaging>\n  <dependencies>\n{dependencies}  </dependencies>\n</project>\n"
    )
}
