//! The programs that Apache Kafka needs on this machine, and the cache its jars live in.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use tokio::process::Command;

use super::jars;
use super::jvm::Jvm;
use crate::spec::KafkaVersion;

/// How long Java has to say its version: it takes a tenth of a second on an idle machine.
const JAVA_LIMIT: Duration = Duration::from_secs(30);
/// How many worlds of brokers may run at once: one leaves cores idle, with its waits for groups, fences and DNS.
const WORLDS: usize = 2;
const TURN_POLL: Duration = Duration::from_millis(50);

/// Names the programs and the cache. [`Tools::from_env`] is what a user has; tests put others in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// The Java launcher: a name looked up in `PATH`, or a path.
    pub java: PathBuf,
    /// Maven: a name looked up in `PATH`, or a path.
    pub mvn: PathBuf,
    /// Where jars are kept, each version fetched once.
    pub cache: PathBuf,
}

impl Tools {
    /// `$JAVA_HOME/bin/java` or `java`; `mvn`; `$KUTOVER_CACHE` or `kutover` in the user's cache directory
    /// (`$XDG_CACHE_HOME`, `~/Library/Caches` on macOS, else `~/.cache`).
    pub fn from_env() -> Self {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || set("HOME").unwrap_or_else(env::temp_dir);
        let user_cache = || {
            let usual = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
            set("XDG_CACHE_HOME").unwrap_or_else(|| home().join(usual)).join("kutover")
        };
        Self {
            java: set("JAVA_HOME").map_or_else(|| "java".into(), |home| home.join("bin/java")),
            mvn: "mvn".into(),
            cache: set("KUTOVER_CACHE").unwrap_or_else(user_cache),
        }
    }

    /// Makes sure that Java is there and new enough for a version's brokers.
    ///
    /// # Errors
    /// It is missing, too old, or does not say its version; the text names the program and the fix.
    pub async fn check_java(&self, version: KafkaVersion) -> ProviderResult<()> {
        let what = format!("start Apache Kafka {version}");
        let java = self.java.display();
        let fail = |reason: String| Err(ProviderError::new(ErrorKind::Refused, &what, reason));
        let least = version.least_java();
        let asked = Command::new(&self.java).arg("-version").stdin(Stdio::null()).kill_on_drop(true).output();
        let output = match tokio::time::timeout(JAVA_LIMIT, asked).await {
            Ok(Ok(output)) => output,
            Err(_) => {
                return fail(format!(
                    "`{java} -version` does not end; set JAVA_HOME to a Java {least} or newer"
                ));
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                return fail(format!(
                    "Java was not found (`{java}`); install Java {least} or newer (Debian: apt-get install \
                     default-jre-headless) or set JAVA_HOME"
                ));
            }
            Ok(Err(error)) => return fail(format!("Java (`{java}`) cannot be run: {error}")),
        };
        // `java -version` writes to standard error.
        let said = String::from_utf8_lossy(&output.stderr);
        match java_major(&said) {
            Some(major) if major >= least => Ok(()),
            Some(major) => fail(format!(
                "Java {major} (`{java}`) is too old: the brokers of {version} need Java {least} or newer; install \
                 one and set JAVA_HOME to it"
            )),
            None => fail(format!(
                "`{java} -version` does not say a version (its first line: `{}`); set JAVA_HOME to a Java {least} or newer",
                said.lines().next().unwrap_or_default()
            )),
        }
    }

    /// Makes sure that a version can be started: Java, and the jars, fetched if they are not in the cache.
    ///
    /// # Errors
    /// What is missing, and the fix.
    pub async fn ready(&self, version: KafkaVersion) -> ProviderResult<()> {
        self.jars_of(version, None).await.map(|_| ())
    }

    /// The folder with the jars that a version is started from, Java being new enough for it: those of a Kafka directory of
    /// the user's, or else of the cache.
    ///
    /// # Errors
    /// What is missing, and the fix.
    pub async fn jars_of(&self, version: KafkaVersion, kafka_dir: Option<&Path>) -> ProviderResult<PathBuf> {
        self.check_java(version).await?;
        match kafka_dir {
            Some(directory) => jars::of_the_user(directory, version),
            None => self.jars(version).await,
        }
    }

    /// The folder with a version's jars, its clients and tools among them, fetched if they are not in the cache.
    ///
    /// # Errors
    /// Maven is missing or fails, or the cache is damaged; the text names the fix.
    pub async fn jars(&self, version: KafkaVersion) -> ProviderResult<PathBuf> {
        jars::fetched(self, version).await
    }

    /// The class path of a version's jars, fetched if they are not in the cache: what Kafka's own tools run with.
    ///
    /// # Errors
    /// As [`Tools::ready`].
    pub async fn class_path(&self, version: KafkaVersion) -> ProviderResult<String> {
        self.check_java(version).await?;
        Ok(format!("{}/*", jars::fetched(self, version).await?.display()))
    }

    /// Waits for one of this machine's turns to run brokers, among all processes and threads that ask. A world of them
    /// takes gigabytes and most of a core, so no more than two of them run at once.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub async fn machine_turn(&self) -> ProviderResult<MachineTurn> {
        self.turn(async |cache| {
            let _queue = jars::lock(queue(cache)).await?;
            loop {
                for place in 0..WORLDS {
                    if let Some(taken) = jars::try_lock(&self::place(cache, place))? {
                        return Ok(vec![taken]);
                    }
                }
                tokio::time::sleep(TURN_POLL).await;
            }
        })
        .await
    }

    /// Waits for all turns: nobody else's brokers run meanwhile. For what is measured, and for whole demos.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub async fn whole_machine(&self) -> ProviderResult<MachineTurn> {
        self.turn(async |cache| {
            let _queue = jars::lock(queue(cache)).await?;
            let mut taken = Vec::new();
            for place in 0..WORLDS {
                taken.push(jars::lock(self::place(cache, place)).await?);
            }
            Ok(taken)
        })
        .await
    }

    async fn turn(
        &self,
        take: impl AsyncFnOnce(&Path) -> io::Result<Vec<File>>,
    ) -> ProviderResult<MachineTurn> {
        let turn = match fs::create_dir_all(&self.cache) {
            Ok(()) => take(&self.cache).await,
            Err(error) => Err(error),
        };
        turn.map(|places| MachineTurn { _places: places }).map_err(|error| {
            let what = format!("cache {}", self.cache.display());
            ProviderError::new(
                ErrorKind::Unavailable,
                what,
                format!("{error}; set KUTOVER_CACHE to another folder"),
            )
        })
    }

    /// Runs a program of Kafka's to its end.
    ///
    /// # Errors
    /// Java is missing, or the program fails (its last words are told).
    pub(crate) async fn run_jvm(
        what: &str,
        java: &Path,
        jvm: Jvm,
        args: impl IntoIterator<Item = String>,
    ) -> ProviderResult<()> {
        let args: Vec<String> = jvm.args.into_iter().chain(args).collect();
        let ended = Self::run(what, java, &args, "install Java").await;
        if let Some(recording) = jvm.recording {
            recording.keep();
        }
        ended
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// It is missing (the fix is named) or fails (its last words are told).
    pub(crate) async fn run(what: &str, program: &Path, args: &[String], fix: &str) -> ProviderResult<()> {
        let fail = |reason: String| Err(ProviderError::new(ErrorKind::Unavailable, what, reason));
        let mut command = Command::new(program);
        let output = command.args(args).stdin(Stdio::null()).kill_on_drop(true).output().await;
        let program = program.display();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let said = [&output.stdout[..], &output.stderr[..]].concat();
                fail(format!(
                    "`{program}` failed ({}): {}",
                    output.status,
                    last_words(&String::from_utf8_lossy(&said))
                ))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fail(format!("`{program}` was not found; {fix}"))
            }
            Err(error) => fail(format!("`{program}` cannot be run: {error}")),
        }
    }
}

/// A turn to run processes of Apache Kafka on this machine; it ends with its handle, also when the process is killed.
#[derive(Debug)]
pub struct MachineTurn {
    _places: Vec<File>,
}

/// Held by who waits for a turn, and waited for by all behind: whoever wants the whole machine gets it too.
fn queue(cache: &Path) -> PathBuf {
    cache.join(".machine.lock")
}

fn place(cache: &Path, place: usize) -> PathBuf {
    cache.join(format!(".machine.{place}.lock"))
}

/// The end of what a program said, short enough for an error.
pub(crate) fn last_words(text: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// The major version in what `java -version` says: `17` from `"17.0.15"`, `8` from `"1.8.0_292"`.
fn java_major(said: &str) -> Option<u16> {
    let version = said.lines().find_map(|line| line.split_once("version \"")?.1.split('"').next())?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        major => Some(major),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_java_version_is_read_in_both_spellings() {
        assert_eq!(java_major("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK ..."), Some(17));
        assert_eq!(java_major("Picked up JAVA_TOOL_OPTIONS\njava version \"1.8.0_292\""), Some(8));
        assert_eq!(java_major("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(java_major("command not found"), None);
    }

    /// Three want a turn, then one the whole machine. Nobody gets more than there is, and everybody gets there.
    #[tokio::test]
    async fn turns_are_bounded_and_handed_on() {
        let cache = tempfile::tempdir().unwrap();
        let mut tools = Tools::from_env();
        tools.cache = cache.path().to_owned();
        let is_free = |path: PathBuf| jars::try_lock(&path).unwrap().is_some();
        let places = || (0..WORLDS).map(|number| place(cache.path(), number));

        let held = [tools.machine_turn().await.unwrap(), tools.machine_turn().await.unwrap()];
        assert!(places().all(|place| !is_free(place)));
        let third = tokio::spawn({
            let tools = tools.clone();
            async move { tools.machine_turn().await.unwrap() }
        });
        while is_free(queue(cache.path())) {
            tokio::task::yield_now().await;
        }
        assert!(!third.is_finished(), "it waits in the queue");
        let [first, second] = held;
        drop(first);
        let third = third.await.unwrap();
        drop((second, third));

        let whole = tools.whole_machine().await.unwrap();
        assert!(places().all(|place| !is_free(place)));
        drop(whole);
        assert!(places().all(is_free));
    }
}
