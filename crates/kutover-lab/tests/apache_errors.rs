//! What a user reads when this machine cannot run Apache Kafka: the thing and the fix.

use std::fs;
use std::path::{Path, PathBuf};

use kutover_core::error::{ErrorKind, ProviderError};
use kutover_core::ports::ClusterProvisioner;
use kutover_core::words::Colour;
use kutover_lab::{ClusterSpec, KafkaVersion, LabOptions, LabProvisioner, Tools};
use tokio::sync::{Mutex, MutexGuard};

const VERSION: KafkaVersion = KafkaVersion::new(4, 3, 1);

/// A script must not be run while any process has it open for writing (ETXTBSY), and a child forked by a test beside
/// this one may, for a moment.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

struct Machine {
    dir: tempfile::TempDir,
    tools: Tools,
    _alone: MutexGuard<'static, ()>,
}

/// A machine on which nothing is installed.
async fn bare() -> Machine {
    let dir = tempfile::tempdir().expect("a directory");
    let tools = Tools {
        java: dir.path().join("no-java"),
        mvn: dir.path().join("no-mvn"),
        cache: dir.path().join("cache"),
    };
    Machine { dir, tools, _alone: ONE_AT_A_TIME.lock().await }
}

impl Machine {
    /// Puts a program there: a shell script.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("executable");
        path
    }

    fn with_java(mut self, version: &str) -> Self {
        self.tools.java = self.script("java", &format!("echo 'openjdk version \"{version}\"' >&2"));
        self
    }

    fn with_mvn(mut self, text: &str) -> Self {
        self.tools.mvn = self.script("mvn", text);
        self
    }

    fn folder(&self) -> PathBuf {
        self.tools.cache.join(format!("kafka-{VERSION}"))
    }

    async fn refused(&self) -> ProviderError {
        self.tools.ready(VERSION).await.expect_err("cannot be ready")
    }
}

/// A Maven that "fetches" one jar of four bytes into the folder that it is told.
const ONE_JAR: &str = "for word; do case $word in -DoutputDirectory=*) dir=${word#*=};; esac; done\n\
                       mkdir -p \"$dir\" && printf jars > \"$dir/kafka.jar\"";

fn names(error: &ProviderError, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "`{word}` in: {text}");
    }
}

#[tokio::test]
async fn java_is_missing() {
    let machine = bare().await;
    names(&machine.refused().await, &["Java was not found", "no-java", "install Java 17", "JAVA_HOME"]);
}

#[tokio::test]
async fn java_is_too_old() {
    let machine = bare().await.with_java("11.0.2");
    names(&machine.refused().await, &["Java 11", "too old", "4.3.1", "Java 17 or newer"]);
    let older = KafkaVersion::new(3, 9, 2);
    machine.tools.check_java(older).await.expect("3.9 runs on Java 8 and newer");
}

#[tokio::test]
async fn maven_is_missing() {
    let machine = bare().await.with_java("17.0.1");
    names(&machine.refused().await, &["no-mvn", "was not found", "install Maven", "name its directory"]);
    assert!(!machine.folder().exists());
}

#[tokio::test]
async fn a_fetch_that_fails_leaves_no_half_folder_and_says_what_maven_said() {
    let failing = format!("{ONE_JAR}\necho 'Could not resolve kafka_2.13' >&2\nexit 1");
    let machine = bare().await.with_java("17.0.1").with_mvn(&failing);
    names(&machine.refused().await, &["Could not resolve kafka_2.13"]);
    assert!(!machine.folder().exists());
    let machine = machine.with_mvn(ONE_JAR);
    machine.tools.ready(VERSION).await.expect("the next fetch starts afresh");
}

#[tokio::test]
async fn jars_are_fetched_once() {
    let machine = bare().await.with_java("17.0.1").with_mvn(ONE_JAR);
    machine.tools.ready(VERSION).await.expect("fetched");
    let machine = machine.with_mvn("exit 1");
    machine.tools.ready(VERSION).await.expect("from the cache");
}

#[tokio::test]
async fn a_damaged_cache_is_noticed_and_named() {
    let damages: [fn(&Path); 4] = [
        |folder| fs::write(folder.join("libs/kafka.jar"), "ja").expect("cut short"),
        |folder| {
            let jar = folder.join("libs/kafka.jar");
            let length = fs::metadata(&jar).expect("a jar").len();
            fs::write(jar, vec![0; usize::try_from(length).expect("small")]).expect("of the same size");
        },
        |folder| fs::remove_file(folder.join("libs/kafka.jar")).expect("lost"),
        |folder| fs::remove_file(folder.join("manifest.json")).expect("lost"),
    ];
    for damage in damages {
        let machine = bare().await.with_java("17.0.1").with_mvn(ONE_JAR);
        machine.tools.ready(VERSION).await.expect("fetched");
        damage(&machine.folder());
        let error = machine.refused().await;
        assert_eq!(error.kind, ErrorKind::Invalid);
        names(&error, &["damaged", "delete", &machine.folder().display().to_string()]);
        fs::remove_dir_all(machine.folder()).expect("the fix that is named");
        machine.tools.ready(VERSION).await.expect("fetched again");
    }
}

#[tokio::test]
async fn a_wrong_kafka_directory_and_too_many_brokers_are_named() {
    let machine = bare().await.with_java("17.0.1");
    let mut spec = ClusterSpec::apache(VERSION);
    spec.kafka_dir = Some(machine.dir.path().join("kafka"));
    let many = ClusterSpec::apache(VERSION).brokers(4);
    let mut options = LabOptions::new(machine.dir.path().join("world"), spec, many);
    options.tools = machine.tools.clone();
    let lab = LabProvisioner::new(options).await.expect("a world");
    let error = lab.provision(Colour::Blue, &"r1".into()).await.expect_err("no Kafka there");
    names(&error, &["kafka-clients-4.3.1.jar", "name a directory of Apache Kafka 4.3.1"]);
    let error = lab.provision(Colour::Green, &"r2".into()).await.expect_err("too many");
    names(&error, &["4 brokers", "1 to 3"]);
}
